"""A home that was moved, copied or restored elsewhere: MLflow's artifacts are found where they are now.

MLflow writes the absolute address of its artifacts into its database (mlflow#3144). Where a home stood is read from
there, and not from a file beside: so it is true of a database that was restored by itself, too.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from vroom_api.contract import durable

log = logging.getLogger("vroom")

# Every column of MLflow's tables that holds the address of an artifact.
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
}


def relocate(database: Path, artifacts: str, within: str = "mlflow/artifacts") -> list[str]:
    """Let addresses below a former folder of the home be below its present one; in one transaction.

    Args:
        database: MLflow's, a SQLite file of the home's own.
        artifacts: where the artifacts are now, a URI.
        within: where they are in a home.

    Returns:
        the former addresses of the artifacts; none where the home stands where it stood.
    """
    if not database.is_file():
        return []
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        if not _former(connection, artifacts, within):
            return []
        connection.execute("begin immediate")
        former = _former(connection, artifacts, within)  # another process may have done it meanwhile
        for address in former:
            for table, columns in ADDRESSES.items():
                present = {row[1] for row in connection.execute(f"pragma table_info({table})")}
                for column in present.intersection(columns):
                    _replace(connection, table, column, address, artifacts)
        connection.execute("commit")
    for address in former:
        log.warning(
            "The home was moved: MLflow's artifacts are looked for in %s, no longer in %s", artifacts, address
        )
    return former


def rename_experiment_folder(database: Path, artifacts: Path, former: str, present: str) -> None:
    """Let the artifacts of an experiment lie in a folder of its present name, as `relocate` finds them.

    Where it was interrupted, it goes on.
    """
    if not database.is_file():
        return
    if (artifacts / former).is_dir() and not (artifacts / present).exists():
        os.rename(artifacts / former, artifacts / present)
        durable.sync(artifacts)
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        for table, columns in ADDRESSES.items():
            known = {row[1] for row in connection.execute(f"pragma table_info({table})")}
            for column in known.intersection(columns):
                _replace(
                    connection, table, column, (artifacts / former).as_uri(), (artifacts / present).as_uri()
                )
        connection.execute("commit")


def _former(connection: sqlite3.Connection, artifacts: str, within: str) -> list[str]:
    """Where experiments of this home have their artifacts, other than where they are now.

    An experiment of ours has them in a folder of its own name; what somebody put elsewhere stays there.
    """
    if not connection.execute("select 1 from sqlite_master where name = 'experiments'").fetchone():
        return []
    own = {
        location.removesuffix(f"/{name}")
        for location, name in connection.execute("select artifact_location, name from experiments")
        if location and location.startswith("file:///") and location.endswith(f"/{within}/{name}")
    }
    return sorted(own - {artifacts})


def _replace(connection: sqlite3.Connection, table: str, column: str, former: str, present: str) -> None:
    connection.execute(
        f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? or substr({column}, 1, ?) = ?",
        (present, len(former) + 1, former, len(former) + 1, f"{former}/"),
    )
