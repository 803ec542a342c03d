"""What tests of Spark need, or why they are skipped; and the tables that two engines compute from."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pytest

from tests.support.project import ROOT
from vroom_assets import sources
from vroom_assets.features import table
from vroom_assets.spark import tables
from vroom_assets.spark.session import SparkMissing, require, session
from vroom_assets.spec import ForecastSpec

LOCAL = "local[2]"


def reason_to_skip() -> str:
    """Why Spark cannot run here; empty where it can."""
    try:
        require(LOCAL)
    except SparkMissing as error:
        return str(error)
    return ""


needed = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "Spark is here")


@contextmanager
def warehouse(spec: ForecastSpec) -> Iterator[duckdb.DuckDBPyConnection]:
    """The shipped data of a forecast as checked tables."""
    with duckdb.connect() as connection:
        for name, source in spec.sources.items():
            path = ROOT / "data" / source.path
            sources.load(connection, name, source, [sources.NamedFile(path, source.path)])
            table.note_origin(connection, name, {"snapshot": path.stem, "modified": "2024-01-01T00:00:00"})
        yield connection


@contextmanager
def on_spark(
    connection: duckdb.DuckDBPyConnection, spec: ForecastSpec, address: str = LOCAL
) -> Iterator[tables.SparkTables]:
    """The checked tables of a warehouse on Spark."""
    with session(address) as found, tables.tables(found, connection, spec) as engine:
        yield engine


def bits(connection: duckdb.DuckDBPyConnection, table_name: str) -> list[tuple]:
    """The rows of a table in order, every double by its text of 17 digits and its sign, so that NaN equals NaN."""
    described = connection.execute(f'describe "{table_name}"').fetchall()
    columns = ", ".join(
        f"printf('%.17g', \"{name}\")" if type == "DOUBLE" else f'"{name}"' for name, type, *_ in described
    )
    return [
        tuple(described),
        *connection.execute(f'select {columns} from "{table_name}" order by 1').fetchall(),
    ]
