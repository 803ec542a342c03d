"""A backup of the serving database, taken while the service writes.

A copy of `serving.db` alone lacks what still stands in its log beside it. SQLite's own copy is one state of all
tables, in one file, and whoever writes goes on meanwhile.
"""

import contextlib
import shlex
import sqlite3
from pathlib import Path

import msgspec
import sqlalchemy as sa

from vroom_api.contract import durable
from vroom_api.contract.blocks import ROWS_AT_A_TIME, expand_some
from vroom_api.contract.tables import keys, ledger, outcomes, predictions

PATIENCE = 30.0  # seconds that it waits for a lock


class CannotBackUp(Exception):
    """There is no backup; the message says why and what to do. What was there under its name stays."""


class Backup(msgspec.Struct, frozen=True):
    """A backup that was read back: its file, and the rows of each table."""

    path: Path
    rows: dict[str, int]


def back_up(url: str, target: Path) -> Backup:
    """Copy the serving database into a file, which is there complete and checked or not at all.

    Every prediction that was acknowledged before is in it.

    Raises:
        CannotBackUp: the database is on a server, is not there or damaged, or the target cannot be written.
    """
    address = sa.make_url(url)
    if address.get_backend_name() != "sqlite":
        server = address.set(drivername=address.get_backend_name()).render_as_string(hide_password=True)
        raise CannotBackUp(
            f"the serving database is on a server; use its own tool: "
            f"pg_dump --format=custom --file={shlex.quote(str(target))} {shlex.quote(server)}"
        )
    source = Path(address.database or "").absolute()
    if not source.is_file():
        raise CannotBackUp(
            f"{source} is not there; VROOM_DATABASE_URL or VROOM_HOME names the serving database"
        )
    if target.is_dir():
        raise CannotBackUp(f"{target} is a folder; name the file that the backup is to be")
    if target.absolute() in (source, Path(f"{source}-wal"), Path(f"{source}-shm")) or (
        target.exists() and target.samefile(source)
    ):
        raise CannotBackUp(f"{target} is the serving database itself; choose another name")
    try:
        with durable.replaced(target.absolute()) as beside:
            newest = _copy(source, beside)
            return Backup(target, _checked(beside, newest))
    except (OSError, sqlite3.Error) as error:
        raise CannotBackUp(f"{source} cannot be copied to {target}: {error}") from error


def _copy(source: Path, beside: Path) -> str | None:
    """Copy the database; the newest prediction that was there before."""
    with contextlib.closing(sqlite3.connect(source, timeout=PATIENCE, isolation_level=None)) as connection:
        query = "SELECT max(id) FROM predictions"
        if _has_blocks(connection):
            query += " UNION ALL SELECT max(last_id) FROM prediction_blocks WHERE rows > 0"
        found = connection.execute(query)
        newest = max((identifier for (identifier,) in found if identifier is not None), default=None)
        beside.touch(0o600)
        connection.execute("VACUUM INTO ?", (str(beside),))
    return newest


def _has_blocks(connection: sqlite3.Connection) -> bool:
    """Whether the database is of a version that has them: it may be copied before it is upgraded."""
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'prediction_blocks'"
    return bool(connection.execute(query).fetchone()[0])


def _checked(path: Path, newest: str | None) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        cursor = connection.cursor()
        if _has_blocks(connection):
            while expand_some(cursor, "sqlite", ROWS_AT_A_TIME):  # in the copy: the service goes on meanwhile
                pass
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")
        (found,) = connection.execute("SELECT count(*) FROM predictions WHERE id = ?", (newest,)).fetchone()
        if newest is not None and not found:
            raise sqlite3.DatabaseError(f"the copy lacks prediction {newest}")
        return {
            table.name: connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
            for table in (predictions, outcomes, ledger, keys)
        }
