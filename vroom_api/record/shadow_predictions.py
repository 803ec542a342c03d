"""What a version in shadow would have answered, written in pieces beside the record.

Nobody waits for it and it can be computed again, so a piece is not synced to disk by itself: the next prediction that is
recorded syncs it too. That way the lock of the database is held for a millisecond.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.record.database import Files, check, connect

PATIENCE_MS = 2_000  # that a piece waits for a locked database
_COLUMNS = ("id", "version", "forecast", "value", "low", "high")
_NAMES = ", ".join(_COLUMNS)
_LARGEST_STATEMENT = 128  # rows


class ShadowPrediction(msgspec.Struct, frozen=True, gc=False):
    """What would have been answered instead of a recorded prediction, which has the same id."""

    id: str
    version: int
    forecast: str
    value: float
    low: float
    high: float


class ShadowRecord:
    """A connection of its own into `shadow_predictions`. All is called in one thread.

    Args:
        database: opens the serving database, its tables created.
    """

    def __init__(self, database: Callable[[], sa.Engine]) -> None:
        self._database = database
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._files: Files | None = None

    def write(self, made: Sequence[ShadowPrediction]) -> None:
        """Insert all of them in one transaction; those that are there stay.

        Raises:
            Exception: whatever the driver raises; the next piece begins with a new connection.
        """
        try:
            self._insert(made)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                connection.close()

    def _insert(self, made: Sequence[ShadowPrediction]) -> None:
        engine = self._database()
        if self._connection is None or engine is not self._engine:
            self.close()
            self._engine = engine
            self._connection, self._files = connect(engine)
            _prepare(self._connection)
        check(engine, self._files)
        cursor = self._connection.connection.cursor()
        if engine.dialect.name == "sqlite":
            _into_sqlite(cursor, made)
        else:
            cursor.execute(_POSTGRES, (msgspec.json.encode(made).decode(),))


_POSTGRES = (
    f"INSERT INTO shadow_predictions ({_NAMES}) SELECT {_NAMES} "
    "FROM json_populate_recordset(NULL::shadow_predictions, %s::json) ON CONFLICT DO NOTHING"
)


def _prepare(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
    else:
        connection.exec_driver_sql(f"SET statement_timeout = {PATIENCE_MS}")
        connection.exec_driver_sql("SET synchronous_commit = off")


def _into_sqlite(cursor: Any, made: Sequence[ShadowPrediction]) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    try:
        for start in range(0, len(made), _LARGEST_STATEMENT):
            piece = made[start : start + _LARGEST_STATEMENT]
            cells = [cell for one in piece for cell in msgspec.structs.astuple(one)]
            cursor.execute(_values(len(piece)), cells)
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise


@lru_cache(None)
def _values(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return (
        f"INSERT INTO shadow_predictions ({_NAMES}) VALUES {', '.join([row] * rows)} ON CONFLICT DO NOTHING"
    )
