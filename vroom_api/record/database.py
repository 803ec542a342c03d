"""The serving database of a running service, opened again where another file has its name.

SQLite goes on writing into a file that was deleted or moved away, and into a log that was: what is committed
there is found by nobody after a restart. So whoever commits compares the files that it works on with those
that have the names, before and after; that takes microseconds.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from vroom_api.contract.tables import UnusableDatabase, open_database
from vroom_api.contract.tables import connect as open_engine

log = logging.getLogger(__name__)

CHECKPOINT_MILLISECONDS = 1_000  # that the last checkpoint of a replaced file waits for its readers
OPENINGS, BETWEEN_SECONDS = 30, 0.02  # until threads that read have given a deleted index back


class Replaced(Exception):
    """The name of the database, or of its log, is no longer that of the file that is open."""


class Files(NamedTuple):
    """Device and inode of a SQLite database, its log and the index of that; None for a database without a log."""

    database: tuple[int, int]
    log: tuple[int, int] | None
    log_index: tuple[int, int] | None


def connect(engine: sa.Engine) -> tuple[sa.Connection, Files | None]:
    """A connection of one's own, outside the pool, and the files that it works on; None where there are none.

    Raises:
        Replaced: the file was replaced meanwhile.
    """
    path = _path(engine)
    if path is None:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # a broken one must not go back to the pool
        return connection, None
    before = _identity(path)
    # Not of the engine's pool, which may hold what was opened on a file before. And that is not to be emptied here: what
    # another thread has of it would come back to a pool that nobody has, and keep a deleted index in use.
    connection = (
        open_engine(engine.url.render_as_string(hide_password=False))
        .connect()
        .execution_options(isolation_level="AUTOCOMMIT")
    )
    connection.detach()
    try:
        logged = connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        connection.exec_driver_sql("PRAGMA schema_version")  # the log is opened by the first read
        files = _files(path, logged)
        if files.database != before:
            raise Replaced(f"{path} was replaced while it was opened")
    except BaseException:
        connection.close()
        raise
    return connection, files


def check(engine: sa.Engine, files: Files | None) -> None:
    """Compare the files that are open with those that have the names.

    Raises:
        Replaced: they are others.
    """
    path = _path(engine)
    if path is None or files is None:
        return
    named = _files(path, files.log is not None)
    for one, now, suffix in zip(named, files, ("", "-wal", "-shm"), strict=True):
        if one != now:
            raise Replaced(f"{path}{suffix} is another file than the one that is open")


def _path(engine: sa.Engine) -> str | None:
    """The file of a SQLite database; None in memory and on a server."""
    database = engine.url.database if engine.dialect.name == "sqlite" else None
    return None if database in (None, "", ":memory:") else database


def _files(path: str, logged: bool) -> Files:
    if not logged:
        return Files(_identity(path), None, None)
    return Files(_identity(path), _identity(f"{path}-wal"), _identity(f"{path}-shm"))


def _identity(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError as error:
        raise Replaced(f"{path}: {error.strerror}") from error
    return state.st_dev, state.st_ino


@dataclass(frozen=True)
class _Opened:
    """An engine, and one connection that keeps its log and knows its files."""

    engine: sa.Engine
    own: sa.Connection | None  # of a server there is none
    files: Files | None
    left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        sa.event.listen(self.engine, "checkin", self._close_if_left)

    def _close_if_left(self, _: Any, record: Any) -> None:
        """Close what another thread gives back late: SQLite gives every connection of a process the index that is
        open already, so that one in a pool that nobody has any more would keep a deleted index in use."""
        if self.left.is_set():
            record.invalidate()

    def check(self) -> None:
        check(self.engine, self.files)

    def close(self) -> None:
        """Leave the file whole: what stands in its log goes into it, for whoever moved it away.

        The log is left empty: under its old name it would be taken for that of the file that has the name now.
        """
        if self.own is not None:
            with contextlib.suppress(sa.exc.DBAPIError):  # it may be damaged, or its disk gone
                self.own.exec_driver_sql(f"PRAGMA busy_timeout = {CHECKPOINT_MILLISECONDS}")
                self.own.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.drop()

    def drop(self) -> None:
        """Close the connections and nothing else."""
        self.left.set()
        if self.own is not None:
            with contextlib.suppress(sa.exc.DBAPIError):
                self.own.close()
        self.engine.dispose()


class FollowedDatabase:
    """The serving database, opened when it is first asked for and whenever another file has its name.

    Where the file is gone a new one is made, with its tables. Safe in threads. A server has no file to follow.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def __call__(self) -> sa.Engine:
        """The engine of the file that has the name now.

        Raises:
            UnusableDatabase, sa.exc.DBAPIError: it cannot be opened; the next call tries again.
        """
        opened = self._opened
        if opened is not None:
            try:
                opened.check()
                return opened.engine
            except Replaced as error:
                self._leave(opened, error)
        fresh = self._open()
        with self._lock:
            if self._opened is None:
                self._opened = fresh
            opened = self._opened
        if opened is not fresh:  # another thread was first
            fresh.drop()
        return opened.engine

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Close at the end what was opened; whoever asks afterwards opens it again."""
        try:
            yield
        finally:
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                await asyncio.to_thread(opened.drop)

    def _leave(self, opened: _Opened, reason: Replaced) -> None:
        """Close what is no longer the database, once."""
        with self._lock:
            if self._opened is not opened:
                return
            self._opened = None
        log.warning(
            "the serving database was deleted, moved or replaced while the service runs: %s. It is opened again, and "
            "made anew where it is gone; stop the service before you touch its files",
            reason,
        )
        opened.close()

    def _open(self) -> _Opened:
        for attempt in range(1, OPENINGS + 1):
            engine = open_database(self._url)
            engine.dispose()  # of what read the version of the tables
            try:
                server = engine.dialect.name != "sqlite"
                return _Opened(engine, None, None) if server else _Opened(engine, *connect(engine))
            except BaseException as error:
                engine.dispose()
                if not isinstance(error, Replaced):
                    raise
                if attempt == OPENINGS:
                    raise UnusableDatabase(f"{error}; whoever replaces it has to finish first") from error
                time.sleep(BETWEEN_SECONDS)
        raise AssertionError("the last attempt returns or raises")
