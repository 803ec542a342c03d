"""Tables of a source that are Parquet files beside the warehouse, which has a view of the source's name over them.

A view has the whole path of its files, so that anybody can read it, and their path below the forecast's folder as its
comment, by which it follows a folder that is moved.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_assets.sources.table import drop
from vroom_assets.sql import glob_escaped, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLES = "tables"  # the folder of a forecast that has one for each source


def publish(connection: DuckDBPyConnection, name: str, home: Path, files: Path) -> None:
    """Let the Parquet files in a folder be the table of a source.

    Args:
        home: the forecast's folder, which the folder lies in.
    """
    drop(connection, name)
    _view(connection, name, files)
    connection.execute(f"comment on view {identifier(name)} is {literal(str(files.relative_to(home)))}")


def follow(connection: DuckDBPyConnection, home: Path) -> None:
    """Let views read below the forecast's folder as it is called now."""
    for name, sql, below in _views(connection):
        if below.startswith(f"{TABLES}/") and _pattern(home / below) not in sql:
            publish(connection, name, home, home / below)


def folder(connection: DuckDBPyConnection, name: str, home: Path) -> Path | None:
    """The folder of the Parquet files that are the table of a source; None where the table is in the warehouse."""
    return next((home / below for view, _, below in _views(connection) if view == name), None)


def remove_unused(connection: DuckDBPyConnection, home: Path) -> None:
    """Remove the folders of Parquet files that no view reads, and what a load that was killed has left.

    No source may be loaded meanwhile.
    """
    used = {below for *_, below in _views(connection)}
    for source in (home / TABLES).glob("*"):
        folders = [source] if source.name.startswith(".") else list(source.glob("*"))
        for folder in folders:
            if str(folder.relative_to(home)) not in used:
                shutil.rmtree(folder, ignore_errors=True)


def _views(connection: DuckDBPyConnection) -> list[tuple[str, str, str]]:
    """Name, SQL and comment of each view."""
    return connection.execute(
        "select view_name, sql, coalesce(comment, '') from duckdb_views() where not internal and not temporary"
    ).fetchall()


def _view(connection: DuckDBPyConnection, name: str, files: Path) -> None:
    connection.execute(
        f"create view {identifier(name)} as from read_parquet({_pattern(files)}, hive_partitioning = false)"
    )


def _pattern(files: Path) -> str:
    return literal(f"{glob_escaped(files)}/*.parquet")
