"""The tables of a forecast on Spark, behind the part of a DuckDB connection that examples and features use.

A checked table is read from Parquet. What a statement creates is computed at once and stays in Spark's memory and on
its disks until it is dropped or replaced; nothing of it is in a catalog.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

from vroom_api.contract import durable, forecast_folder
from vroom_assets.features.engine import DataError, StatementError
from vroom_assets.sources import published
from vroom_assets.spark.dialect import DIALECT, FUNCTION_STATEMENTS, NotEqual, to_spark
from vroom_assets.spark.sources import escaped
from vroom_assets.sql import glob_escaped, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyspark.sql import DataFrame, SparkSession

    from vroom_assets.spec import ForecastSpec

EXCHANGE = "spark"  # the folder of a forecast that tables are handed over in
DATA = ("22", "P0001")  # how the SQLSTATE of an error in a value begins: Spark's own, and those of `dialect`


@dataclass(frozen=True)
class Fetched:
    """The rows of a statement."""

    rows: list[tuple[Any, ...]]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


@dataclass
class SparkTables:
    """Tables of one session. files: the Parquet file or folder of each checked table."""

    session: SparkSession
    files: Mapping[str, Path]
    folder: Path  # where tables are handed over, which Spark and this process see under one path
    # Views that nobody else has, by the names of the tables. A frame of Spark Connect is analyzed at each use, when
    # what it was made of may be gone; a view is analyzed once.
    _main: dict[str, str] = field(default_factory=dict)
    _temp: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        for statement in FUNCTION_STATEMENTS:
            self.session.sql(statement)
        for name, path in self.files.items():
            self._main[name.lower()] = self._viewed(self.session.read.parquet(f"file://{escaped(path)}"))

    def execute(self, statement: str) -> Fetched:
        """Execute a statement in DuckDB's SQL: a query, or one that creates, describes or drops a table.

        Raises:
            StatementError: Spark cannot execute it, or has no equal of it; DataError, if a value is why.
        """
        tree = sqlglot.parse_one(statement, dialect=DIALECT)
        with _errors():
            match tree:
                case sql.Create():
                    return self._create(tree)
                case sql.Drop():
                    self._drop(tree.args["tables"][0].name.lower())
                    return Fetched([])
                case sql.Describe():
                    schema = self.session.table(self._temp[tree.this.name.lower()]).schema
                    return Fetched([(column.name, column.dataType.simpleString()) for column in schema])
                case sql.Select() if isinstance(tree.expressions[0], sql.CurrentDatabase):
                    return Fetched([("warehouse",)])  # in names of tables it may stand before their schema
                case _:
                    return Fetched([tuple(row) for row in self._query(tree).collect()])

    def hand_over(self, name: str, by: str, warehouse: DuckDBPyConnection) -> None:
        """Replace a table of the warehouse by the one of that name here, through Parquet, in order of a column, and drop it here.

        Raises:
            StatementError: Spark cannot compute or write it; DataError, if a value is why.
        """
        written = self.folder / f"{name}.parquet"
        with _errors():
            frame = self.session.table(self._temp[name.lower()])
            frame.write.mode("overwrite").parquet(f"file://{written}")
        try:
            files = literal(f"{glob_escaped(written)}/*.parquet")
            warehouse.execute(
                f"create or replace table {identifier(name)} as from read_parquet({files}, hive_partitioning = false) "
                f"order by {identifier(by)}"
            )
        finally:
            shutil.rmtree(written, ignore_errors=True)
        self._drop(name.lower())

    def close(self) -> None:
        """Drop what statements have created."""
        for name in list(self._temp):
            self._drop(name)
        for view in self._main.values():
            self.session.catalog.dropTempView(view)

    def _query(self, tree: sql.Expr) -> DataFrame:
        return self.session.sql(to_spark(tree, self._view))

    def _view(self, schema: str, name: str) -> str | None:
        found = None if schema == "main" else self._temp.get(name.lower())
        return found or (None if schema == "temp" else self._main.get(name.lower()))

    def _create(self, tree: sql.Create) -> Fetched:
        name, query = tree.this.name.lower(), tree.expression
        is_temporary = tree.args.get("properties") is not None
        query.set("order", None)  # a table has none
        source = _copied(query)
        view = self._temp.get(source) if source is not None else None
        if view is None:
            view = self._viewed(self._query(query))
            if is_temporary:  # the others are handed over, and computed by that
                self.session.catalog.cacheTable(view)
                self.session.table(view).count()
        self._drop(name)
        self._temp[name] = view
        return Fetched([])

    def _viewed(self, frame: DataFrame) -> str:
        self._count += 1
        view = f"vroom_{self._count}"
        frame.createOrReplaceTempView(view)
        return view

    def _drop(self, name: str) -> None:
        view = self._temp.pop(name, None)
        if view is not None and view not in self._temp.values():
            self.session.catalog.dropTempView(view)  # and what is kept of it


@contextmanager
def tables(session: SparkSession, warehouse: DuckDBPyConnection, spec: ForecastSpec) -> Iterator[SparkTables]:
    """For the length of a block: the checked tables of a warehouse on Spark.

    Those that Spark has checked are Parquet files already; each of the others is written as one, once for every
    snapshot.
    """
    from vroom_assets.features.table import origin

    home = forecast_folder(spec.name)
    (home / EXCHANGE).mkdir(parents=True, exist_ok=True)
    files = {name: _file(warehouse, home, name, origin(warehouse, name)["snapshot"]) for name in spec.sources}
    found = SparkTables(session, files, home / EXCHANGE)
    try:
        yield found
    finally:
        found.close()


def _file(warehouse: DuckDBPyConnection, home: Path, name: str, snapshot: str) -> Path:
    if (published_at := published.folder(warehouse, name, home)) is not None:
        return published_at
    path = home / EXCHANGE / f"{name}-{snapshot}.parquet"
    if not path.exists():
        for former in (home / EXCHANGE).glob(f"{name}-*.parquet"):
            former.unlink()
        with durable.replaced(path) as beside:
            warehouse.execute(
                f"copy (from main.{identifier(name)}) to {literal(str(beside))} (format parquet, compression zstd)"
            )
    return path


def _copied(query: sql.Expr) -> str | None:
    """The name of the table that a query copies as it is."""
    given = {name for name, part in query.args.items() if part} - {"expressions", "from_"}
    if given or not isinstance(query, sql.Select) or not isinstance(query.expressions[0], sql.Star):
        return None
    source = query.args["from_"].this
    is_table = isinstance(source, sql.Table) and source.db != "main" and not source.alias
    return source.name.lower() if is_table else None


@contextmanager
def _errors() -> Iterator[None]:
    from pyspark.errors import PySparkException

    try:
        yield
    except NotEqual as error:
        raise StatementError(str(error)) from error
    except PySparkException as error:
        kind = DataError if (error.getSqlState() or "").startswith(DATA) else StatementError
        message = str(error).split("JVM stacktrace")[0].removeprefix("[USER_RAISED_EXCEPTION] ")
        raise kind(message.replace("SQLSTATE: P0001", "").strip()) from error
