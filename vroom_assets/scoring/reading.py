"""What is to be scored, in pieces: the stored inputs of all entities, or the rows of a CSV or Parquet file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vroom_api.champion.stored_inputs import Entities, NotReadable, StoredInputs
from vroom_api.contract import InputField, durable
from vroom_api.texts import meant
from vroom_assets.sql import glob_escaped, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ENTITY_ID = "entity_id"
SAMPLED = 1_000_000  # bytes at the start of a CSV, by which its rows are estimated
NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "VARCHAR",
    '"NULL"',  # of a column without any value
)


class CannotRead(Exception):
    """What is to be scored cannot be read; the message names the file, the column and the row."""


@dataclass(frozen=True)
class Piece:
    """Some rows. keys: columns that are written beside the answers; values: of inputs, one for each row."""

    count: int
    keys: dict[str, Sequence[Any]]
    values: dict[str, Sequence[Any]]


class Source(Protocol):
    """Rows to score. strict: whether one that cannot be answered stops all."""

    name: str
    strict: bool

    def rows(self) -> int:
        """How many rows there are, about."""

    def pieces(self, size: int) -> Iterator[Piece]:
        """All rows, up to `size` at a time. Raises CannotRead."""


class StoredRows:
    """All entities of a forecast, with what is stored of them."""

    strict = False

    def __init__(self, entities: StoredInputs, forecast: str) -> None:
        self.name = f"the stored inputs of {forecast}"
        self._entities = entities if isinstance(entities, Entities) else Entities(forecast)
        self._forecast = forecast

    def rows(self) -> int:
        with self._readable():
            return self._entities.count()

    def pieces(self, size: int) -> Iterator[Piece]:
        with self._readable():
            for ids, as_of, values in self._entities.pieces(size):
                yield Piece(len(ids), {ENTITY_ID: ids, "as_of": as_of}, values)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except NotReadable as error:
            raise CannotRead(f"{self.name}: {error}; materialize {self._forecast}/online_features") from error


class FileRows:
    """The rows of a file, whose columns are inputs by their names, and `entity_id` where it has one.

    Raises:
        CannotRead: it cannot be read, or its columns are not those of a request.
    """

    strict = True

    def __init__(self, path: Path, inputs: Sequence[InputField]) -> None:
        self.name = str(path)
        self._path = path
        self._is_parquet = path.suffix.lower() in (".parquet", ".pq")
        try:
            with durable.opened(path):
                pass
            self._columns = [] if self._is_parquet else _header(path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CannotRead(f"{path}: cannot be read: {why}") from error
        self._types = self._described()
        self._inputs = [field for field in inputs if field.name in self._types]
        self._check_columns(inputs)

    def _described(self) -> dict[str, str]:
        """DuckDB's type of each column."""
        import duckdb

        try:
            with self._reading() as connection:
                described = connection.execute(f"describe select * from {self._table()}").fetchall()
        except duckdb.Error as error:
            raise CannotRead(f"{self.name}: {_first_line(error)}") from error
        return {name: kind for name, kind, *_ in described}

    def rows(self) -> int:
        if self._is_parquet:
            with self._reading() as connection:
                [(count,)] = connection.execute(f"select count(*) from {self._table()}").fetchall()
            return int(count)
        with durable.opened(self._path) as file:
            sample = file.read(SAMPLED)
        lines = max(sample.count(b"\n"), 1)
        return max(round(self._path.stat().st_size / max(len(sample), 1) * lines) - 1, 1)

    def pieces(self, size: int) -> Iterator[Piece]:
        import duckdb

        names = [*([ENTITY_ID] if ENTITY_ID in self._types else []), *(field.name for field in self._inputs)]
        wanted = ", ".join(self._expression(name) for name in names)
        first = 1
        with self._reading() as connection:
            try:
                found: Any = connection.sql(f"select {wanted} from {self._table()}")
                for batch in found.to_arrow_reader(size):
                    columns = dict(zip(names, batch.columns, strict=True))
                    keys: dict[str, Any] = {"row": np.arange(first, first + batch.num_rows)}
                    if ENTITY_ID in columns:
                        keys[ENTITY_ID] = columns.pop(ENTITY_ID)
                    values = {name: self._values(name, column, first) for name, column in columns.items()}
                    yield Piece(batch.num_rows, keys, values)
                    first += batch.num_rows
            except duckdb.Error as error:
                raise CannotRead(f"{self.name}: {_first_line(error)}") from error

    def _values(self, name: str, column: Any, first: int) -> Any:
        """The values of a column; refuses numbers that are none."""
        if column.type != "double":
            return column.to_pylist()
        numbers = column.to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(np.isinf(numbers))[:1].tolist():
            with self._reading() as connection:
                query = f"select {identifier(name)} from {self._table()} limit 1 offset {first - 1 + at}"
                [(value,)] = connection.execute(query).fetchall()
            raise CannotRead(f"{self.name}: row {first + at}: {name}: {str(value)[:60]!r} is not a number")
        return numbers

    def _expression(self, name: str) -> str:
        column = identifier(name)
        kind = self._types[name]
        field = next((field for field in self._inputs if field.name == name), None)
        if field is None or field.type == "text":
            return f"{column}::varchar"
        if field.type == "time":
            return (
                f"({column} at time zone 'UTC')::varchar"
                if "WITH TIME ZONE" in kind
                else f"{column}::varchar"
            )
        if kind != "VARCHAR":
            return f"{column}::double"
        # What cannot be read as a number becomes infinity, which is refused, and is found in the file by its row.
        return f"case when {column} is not null then coalesce(try_cast({column} as double), 'infinity'::double) end"

    def _check_columns(self, inputs: Sequence[InputField]) -> None:
        names = [field.name for field in inputs]
        missing = [field.name for field in inputs if field.name not in self._types and not field.nullable]
        if missing:
            raise CannotRead(
                f"{self.name}: there is no column {', '.join(missing)}; the inputs are {', '.join(names)}"
            )
        for name in self._types:
            if name not in (*names, ENTITY_ID):
                hint = meant(name, [one for one in names if one not in self._types])
                raise CannotRead(
                    f"{self.name}: unknown column {name[:64]}{hint}; the columns are {ENTITY_ID}, {', '.join(names)}"
                )
        for field in self._inputs:
            kind = self._types[field.name].partition("(")[0]
            if field.type in ("integer", "number") and kind not in NUMBERS:
                raise CannotRead(f"{self.name}: column {field.name}: {kind} is not a type of numbers")

    def _reading(self) -> closing[DuckDBPyConnection]:
        import duckdb

        return closing(duckdb.connect(config={"threads": 1}))

    def _table(self) -> str:
        path = literal(glob_escaped(self._path))
        if self._is_parquet:
            return f"read_parquet({path})"
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self._columns)
        return f"read_csv({path}, auto_detect=false, header=true, delim=',', quote='\"', escape='\"', columns={{{columns}}})"


def _header(path: Path) -> list[str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names):
        raise CannotRead(
            f"{path}: its first line has to name each column once; {', '.join(twice) or 'a name is empty'}"
        )
    return names


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
