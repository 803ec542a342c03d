"""Where predictions are kept: SQLite or Postgres, each written in its quickest way."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.ids import first_id, time_of
from vroom_api.record.database import Files, Replaced, check, connect
from vroom_api.record.prediction import Origin, Prediction

_COLUMNS = (
    "id", "time", "forecast", "caller", "entity_id", "inputs", "features", "value", "low", "high", "level",
    "version", "generation", "manifest_sha256", "data_version", "latency_us", "calibration", "tags",
)  # fmt: skip


class Store(ABC):
    """The writer's own connection; every method runs in the writer's thread.

    After an error its connection may be broken: whoever meets one disconnects.

    Rows go in by statements of many rows: each call into the driver gives up the interpreter's lock, and
    taking it back from a busy event loop costs more than the row.
    """

    mark: str  # how the driver marks a parameter

    def __init__(self, engine: sa.Engine, patience: float) -> None:
        self.engine = engine
        self._milliseconds = int(patience * 1000)
        self._connection: sa.Connection | None = None
        self._files: Files | None = None  # that the connection works on

    def insert(self, made: Sequence[Prediction]) -> None:
        """Commit predictions in one transaction, at the second attempt with a new connection.

        Raises:
            Replaced: another file has the name of the database, and this one may have none.
        """
        try:
            self.insert_once(made)
        except Replaced:
            raise
        except Exception:  # whatever the driver raises; the ids make a repetition harmless
            self.disconnect()
            self.insert_once(made)

    def insert_once(self, made: Sequence[Prediction]) -> None:
        """Commit predictions in one transaction, or raise."""
        self._insert(self._cursor(), made)
        check(self.engine, self._files)  # what was committed is in the file that has the name

    def probe(self) -> None:
        """Write a row and delete it in one transaction, so that the disk is asked too."""
        identifier = first_id(datetime.fromtimestamp(0, UTC))
        nothing = Prediction(
            identifier, Origin("", 0, 0, "", "", (), ()), "", None, (), (), 0.0, 0.0, 0.0, 0.0, 0
        )
        cursor = self._cursor()
        cursor.execute("BEGIN")
        self._insert_few(cursor, [nothing])
        cursor.execute(f"DELETE FROM predictions WHERE id = {self.mark}", (identifier,))
        cursor.execute("COMMIT")

    def newest(self) -> str | None:
        """The id of the newest prediction; None where there is none."""
        cursor = self._cursor()
        cursor.execute("SELECT max(id) FROM predictions")
        (found,) = cursor.fetchone()
        return None if found is None else str(found)

    def delete(self, table: sa.Table, before: str, limit: int) -> int:
        """Delete at most so many of the oldest rows with ids below `before`; how many it were."""
        cursor = self._cursor()
        cursor.execute(
            f"DELETE FROM {table.name} WHERE id IN "
            f"(SELECT id FROM {table.name} WHERE id < {self.mark} ORDER BY id LIMIT {limit:d})",
            (before,),
        )
        return int(cursor.rowcount)

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                connection.close()

    def _cursor(self) -> Any:
        if self._connection is None:
            self._connection, self._files = connect(self.engine)
            self._prepare(self._connection)
        else:
            check(self.engine, self._files)
        return self._connection.connection.cursor()

    @abstractmethod
    def _prepare(self, connection: sa.Connection) -> None:
        """Settings of a new connection."""

    @abstractmethod
    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        """All of them, in one transaction of its own."""

    @abstractmethod
    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        """One statement, in the transaction that is open or in its own."""


class SqliteStore(Store):
    mark = "?"

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {self._milliseconds}")

    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        pieces = list(_powers_of_two(made))
        if len(pieces) == 1:
            self._insert_few(cursor, pieces[0])
            return
        cursor.execute("BEGIN")
        for piece in pieces:
            self._insert_few(cursor, piece)
        cursor.execute("COMMIT")

    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        cursor.execute(_values(len(made)), [cell for prediction in made for cell in _row(prediction)])


class PostgresStore(Store):
    """All rows travel as one JSON document: a fifth of the client's work of thousands of parameters."""

    mark = "%s"
    _statement = (
        f"INSERT INTO predictions ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)} "
        "FROM json_populate_recordset(NULL::predictions, %s::json) ON CONFLICT (id) DO NOTHING"
    )

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET statement_timeout = {self._milliseconds}")
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
            connection.exec_driver_sql("SET synchronous_commit = on")

    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        self._insert_few(cursor, made)

    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        rows = [dict(zip(_COLUMNS, _cells(prediction), strict=True)) for prediction in made]
        cursor.execute(self._statement, (msgspec.json.encode(rows).decode(),))


def store_of(engine: sa.Engine, patience: float) -> Store:
    """The store of an engine; it connects when it is first used.

    Args:
        patience: seconds that a commit waits for a locked database.

    Raises:
        ValueError: it is another database.
    """
    stores = {"sqlite": SqliteStore, "postgresql": PostgresStore}
    if engine.dialect.name not in stores:
        raise ValueError(f"the record is kept in SQLite or Postgres, not in {engine.dialect.name}")
    return stores[engine.dialect.name](engine, patience)


def _cells(made: Prediction) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    origin = made.origin
    return (
        made.id,
        time_of(made.id),
        origin.forecast,
        made.caller,
        made.entity_id,
        _inputs(made),
        dict(zip(origin.features, made.features, strict=True)),
        made.value,
        made.low,
        made.high,
        made.level,
        origin.version,
        origin.generation,
        origin.manifest_sha256,
        origin.data_version,
        made.latency_us,
        origin.calibration,
        made.tags,
    )


def _inputs(made: Prediction) -> dict[str, Any]:
    """The inputs as they were sent: texts and times decoded. JSON has no NaN, so a missing number becomes null there."""
    inputs: dict[str, Any] = dict(zip(made.origin.inputs, made.inputs, strict=True))
    for index, field in made.origin.texts:
        inputs[field.name] = field.decoded(made.inputs[index])
    return inputs


def _row(made: Prediction) -> tuple[Any, ...]:
    """The values of `_COLUMNS` as SQLAlchemy keeps them in SQLite."""
    identifier, moment, forecast, caller, entity, inputs, features, *rest, tags = _cells(made)
    return (
        identifier,
        moment.isoformat(" ", "microseconds")[:26],
        forecast,
        caller,
        entity,
        msgspec.json.encode(inputs).decode(),
        msgspec.json.encode(features).decode(),
        *rest,
        None if tags is None else msgspec.json.encode(tags).decode(),
    )


_LARGEST_STATEMENT = 128  # rows


def _powers_of_two(rows: Sequence[Prediction]) -> Iterator[Sequence[Prediction]]:
    """Cut rows into pieces of few different sizes, so that the driver's prepared statements are reused."""
    start = 0
    while start < len(rows):
        size = min(_LARGEST_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size


@lru_cache(None)
def _values(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return (
        f"INSERT INTO predictions ({', '.join(_COLUMNS)}) VALUES {', '.join([row] * rows)} "
        "ON CONFLICT (id) DO NOTHING"
    )
