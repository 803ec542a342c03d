"""Damaged databases of the home: found before anything starts, and set aside where they can be made again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract.damage import SERVING, DamagedDatabase, Holding, damage_of, is_quick, serving_file
from vroom_api.contract.environment import database_url

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
class Database(Holding):
    """A SQLite file of the home that Dagster or MLflow keeps there."""

    path: str = ""


DATABASES = (
    Database(
        path="dagster/history/runs.db",
        holds="Dagster's list of runs",
        without="only that list is lost; whatever is trained and published stays",
    ),
    Database(
        path="dagster/history/runs/index.db",
        holds="Dagster's record of what assets were made from",
        without="their history is lost, and a forecast may be trained once more than needed; champions serve on",
    ),
    Database(
        path="dagster/schedules/schedules.db",
        holds="the sensors' cursors and ticks",
        without="each forecast is checked as if for the first time; sensors that were switched off are on again",
    ),
    Database(
        path="mlflow/mlflow.db",
        holds="MLflow's runs and registered models",
        without="the history of trainings is lost; champions serve on, and numbers of versions go on",
    ),
)


def check_databases(home: Path) -> None:
    """Read through the databases of the home: Dagster's, MLflow's, and the serving database where that is quick.

    A large serving database is read by the service itself, beside its work.

    Raises:
        DamagedDatabase: one or more are damaged.
    """
    found = [
        database.refusal(home / database.path, reason)
        for database in DATABASES
        if (reason := damage_of(home / database.path))
    ]
    serving = serving_file(database_url())
    if serving is not None and is_quick(serving) and (reason := damage_of(serving)):
        found.append(SERVING.refusal(serving, reason))
    if found:
        raise DamagedDatabase("\n".join(found))


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
