"""Where predictions are kept: SQLite or Postgres."""

import contextlib
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from vroom_api.contract.blocks import MAX_BLOCK, expand_some, insert_blocks, waiting_rows
from vroom_api.contract.ids import first_id
from vroom_api.contract.recorded import Origin, Prediction, insert
from vroom_api.record.database import Files, Replaced, check, connect

LOCK_STEP = 0.0005  # seconds
MAX_TRUST = 0.001  # seconds after a check of the files in which the next commit needs none before it


class Store(ABC):
    """The writer's own connection; every method runs in the writer's thread.

    After an error its connection may be broken: whoever meets one disconnects.
    """

    dialect: str
    mark: str  # how the driver marks a parameter
    begin: str  # a transaction that writes

    def __init__(self, engine: sa.Engine, patience: float) -> None:
        self.engine = engine
        self._milliseconds = int(patience * 1000)
        self._connection: sa.Connection | None = None
        self._files: Files | None = None  # that the connection works on
        self._driver_cursor: Any = None
        self._checked = 0.0  # when the files were compared last, by the monotonic clock

    def insert(self, made: Sequence[Prediction]) -> int:
        """Commit predictions in one transaction, at the second attempt with a new connection.

        Returns:
            How many of them are in blocks.

        Raises:
            Replaced: another file has the name of the database, and this one may have none.
        """
        try:
            return self.insert_once(made)
        except Replaced:
            raise
        except Exception:  # whatever the driver raises; the ids make a repetition harmless
            self.disconnect()
            return self.insert_once(made)

    def insert_once(self, made: Sequence[Prediction]) -> int:
        """Commit predictions in one transaction, or raise: one as a row, more as blocks; how many are in blocks."""
        cursor = self._cursor()
        if len(made) == 1:
            insert(cursor, self.dialect, made)
        elif len(made) <= MAX_BLOCK:
            insert_blocks(cursor, self.dialect, made)
        else:
            cursor.execute(self.begin)
            insert_blocks(cursor, self.dialect, made)
            cursor.execute("COMMIT")
        self._check()  # what was committed is in the file that has the name
        return len(made) if len(made) > 1 else 0

    def expand(self, rows: int) -> int:
        """Put about so many predictions of blocks into their table; how many it were, 0 where none waits."""
        self._wait_for_locks()
        return expand_some(self._cursor(), self.dialect, rows)

    def waiting(self) -> int:
        """How many predictions are in blocks."""
        return waiting_rows(self._cursor())

    def probe(self) -> None:
        """Write a row and delete it in one transaction, so that the disk is asked too."""
        identifier = first_id(datetime.fromtimestamp(0, UTC))
        nothing = Prediction(
            identifier, Origin("", 0, 0, "", "", (), ()), "", None, (), (), 0.0, 0.0, 0.0, 0.0, 0
        )
        self._wait_for_locks()
        cursor = self._cursor()
        cursor.execute(self.begin)
        insert(cursor, self.dialect, [nothing])
        cursor.execute(f"DELETE FROM predictions WHERE id = {self.mark}", (identifier,))
        cursor.execute("COMMIT")

    def newest(self) -> str | None:
        """The id of the newest prediction; None where there is none."""
        cursor = self._cursor()
        cursor.execute("SELECT max(id) FROM predictions UNION ALL SELECT max(last_id) FROM prediction_blocks")
        return max((str(found) for (found,) in cursor.fetchall() if found is not None), default=None)

    def delete(self, table: sa.Table, before: str, limit: int) -> int:
        """Delete at most so many of the oldest rows with ids below `before`; how many it were."""
        self._wait_for_locks()
        cursor = self._cursor()
        cursor.execute(
            f"DELETE FROM {table.name} WHERE id IN "
            f"(SELECT id FROM {table.name} WHERE id < {self.mark} ORDER BY id LIMIT {limit:d})",
            (before,),
        )
        return int(cursor.rowcount)

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._driver_cursor = None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                connection.close()

    def _cursor(self) -> Any:
        """The cursor; it is that of the file that has the name, or was a moment ago, and is compared after a commit."""
        if self._connection is None:
            self._connection, self._files = connect(self.engine)
            self._prepare(self._connection)
            self._driver_cursor = self._connection.connection.cursor()
        elif time.monotonic() - self._checked > MAX_TRUST:
            self._check()
        return self._driver_cursor

    def _wait_for_locks(self, milliseconds: int | None = None) -> None:  # noqa: B027 -- a server waits by itself
        """Let the database wait for locks, so long or as long as this store is patient."""

    def _check(self) -> None:
        check(self.engine, self._files)
        self._checked = time.monotonic()

    @abstractmethod
    def _prepare(self, connection: sa.Connection) -> None:
        """Settings of a new connection."""


class SqliteStore(Store):
    dialect = "sqlite"
    mark = "?"
    begin = "BEGIN IMMEDIATE"
    _waits = False  # whether SQLite waits for locks by itself

    def insert_once(self, made: Sequence[Prediction]) -> int:
        """As the other; another writer's lock is waited for in short steps, since its commit takes a millisecond or few.

        SQLite's own waiting soon sleeps for tens of milliseconds, and several workers would wait for nothing.
        """
        if self._waits:
            self._wait_for_locks(0)
        until = time.monotonic() + self._milliseconds / 1000
        while True:
            try:
                return super().insert_once(made)
            except sqlite3.OperationalError as error:
                if not is_lock(error) or time.monotonic() >= until:
                    raise
            time.sleep(LOCK_STEP)

    def _wait_for_locks(self, milliseconds: int | None = None) -> None:
        """Let SQLite wait by itself, where it need not be quick; the next insertion does not."""
        cursor = self._cursor()
        cursor.execute(
            f"PRAGMA busy_timeout = {self._milliseconds if milliseconds is None else milliseconds}"
        )
        self._waits = milliseconds is None

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        self._waits = False


def is_lock(error: Exception) -> bool:
    """Whether another process writes; the connection is as good as before."""
    return (
        isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    )


class PostgresStore(Store):
    dialect = "postgresql"
    mark = "%s"
    begin = "BEGIN"

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET statement_timeout = {self._milliseconds}")
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
            connection.exec_driver_sql("SET synchronous_commit = on")


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
