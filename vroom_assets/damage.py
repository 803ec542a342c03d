"""Damaged databases of the home: found before anything starts, and set aside where they can be made again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

# DuckDB has no class for it: its messages about a header, of a block and of a file that ends too early.
DAMAGE = (
    "not a valid DuckDB database file",
    "Corrupt database file",
    "Could not read enough bytes from file",
)
COMPANIONS = ("-wal", "-shm", "-journal", ".wal")


@dataclass(frozen=True)
class Database:
    """A SQLite file of the home: what it holds, and what follows where it is begun anew."""

    path: str
    holds: str
    without: str


DATABASES = (
    Database(
        "dagster/history/runs.db",
        "Dagster's list of runs",
        "only that list is lost; whatever is trained and published stays",
    ),
    Database(
        "dagster/history/runs/index.db",
        "Dagster's record of what assets were made from",
        "their history is lost, and a forecast may be trained once more than needed; champions serve on",
    ),
    Database(
        "dagster/schedules/schedules.db",
        "the sensors' cursors and ticks",
        "each forecast is checked as if for the first time; sensors that were switched off are on again",
    ),
    Database(
        "mlflow/mlflow.db",
        "MLflow's runs and registered models",
        "the history of trainings is lost; champions serve on, and numbers of versions go on",
    ),
)


class DamagedDatabase(Exception):
    """A database of the home cannot be used; the message names the file, what it holds and how to go on."""


def check_databases(home: Path) -> None:
    """Read through the databases that Dagster and MLflow keep in the home.

    Raises:
        DamagedDatabase: one or more are damaged.
    """
    found = [
        f"{home / database.path} is damaged ({reason}). It holds {database.holds}. While everything is stopped, put "
        f"it back from a copy, or move it away (`mv {home / database.path} {home / database.path}.damaged`, and "
        f"so its -wal and -shm) to begin a new one: {database.without}."
        for database in DATABASES
        if (reason := damage_of(home / database.path))
    ]
    if found:
        raise DamagedDatabase("\n".join(found))


def damage_of(path: Path) -> str | None:
    """What is wrong with a SQLite file; None where it is whole, or not there."""
    if not path.exists():
        return None
    if not path.is_file():
        return "it is not a regular file"
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            [(found,)] = connection.execute("pragma quick_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found).replace("\n", " ")


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB says that its file is damaged, and not e.g. that another process has it."""
    return any(sign in str(error) for sign in DAMAGE)


def read_through(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every block of every table: DuckDB finds damage where it reads, and nowhere else.

    Raises:
        duckdb.Error: as `is_damage` knows it.
    """
    for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
        connection.execute(f'select bit_xor(hash(columns(*))) from "{schema}"."{table}"').fetchall()


def set_aside(path: Path) -> Path:
    """Rename a damaged file and what lies beside it for it, and return its new name."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    for companion in _present(path):
        os.replace(f"{path}{companion}", f"{aside}{companion}")
    os.replace(path, aside)
    return aside


def _present(path: Path) -> Iterator[str]:
    return (companion for companion in COMPANIONS if Path(f"{path}{companion}").exists())
