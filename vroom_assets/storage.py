"""Dagster's SQLite storage, with connections that stay open and answers that are not asked for twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

if TYPE_CHECKING:
    from alembic.config import Config
    from dagster._core.storage.event_log import SqliteEventLogStorage
    from dagster._serdes import ConfigurableClassData

PURGE_EVERY_SECONDS = 60.0  # old ticks of one sensor; Dagster asks for it at every tick
OPEN_LOGS = 2  # of events: the index, and that of the run


class OpenSqliteStorage(DagsterSqliteStorage):
    """Runs and ticks through one engine each, for as long as the storage is used.

    Dagster's own makes an engine for every statement. Each is then compiled anew, and each is the last to
    close the file, upon which SQLite writes its log back and syncs it (sqlalchemy#7490): five times the
    processor time and six times the wait of a sensor's tick.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        _remember_heads()
        super().__init__(base_dir, inst_data)
        self._engines = []
        for storage in (self._run_storage, self._schedule_storage):
            engine = sa.create_engine(storage._conn_string, max_overflow=-1)
            storage.connect = engine.begin  # type: ignore[method-assign]
            self._engines.append(engine)
        self._logs = OpenLogs(self._event_log_storage)
        self._event_log_storage._connect = self._logs.connect  # type: ignore[method-assign]
        schedules: Any = self._schedule_storage
        schedules._has_instigators_table = _asked_until_true(schedules._has_instigators_table)
        schedules.purge_ticks = _seldom(schedules.purge_ticks)
        # Of the two, an instance that is closed disposes of this one only.
        self._run_storage.dispose = self._close  # type: ignore[method-assign]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)

    def _close(self) -> None:
        for engine in self._engines:
            engine.dispose()
        self._logs.close()


class OpenLogs:
    """The latest logs of events, each with its engine: Dagster's own makes two for every event of a run.

    That of a run is closed after each event, though its engine stays: then its file is written to, and Dagster's page,
    which watches the file and not SQLite's log beside it, follows the run.
    """

    def __init__(self, storage: SqliteEventLogStorage):
        self._storage: Any = storage
        self._engines: dict[str, sa.Engine] = {}

    @contextmanager
    def connect(self, shard: str) -> Iterator[sa.Connection]:
        """A transaction in one log, as `SqliteEventLogStorage._connect` gives it."""
        storage = self._storage
        with storage._db_lock:
            engine = self._engines.pop(shard, None)
            if engine is None:
                engine = sa.create_engine(
                    storage.conn_string_for_shard(shard),
                    poolclass=None if shard == sqlite_event_log.INDEX_SHARD_NAME else sa.NullPool,
                    connect_args={"timeout": sqlite_event_log.SQLITE_BUSY_TIMEOUT_SECONDS},
                )
            if shard not in storage._initialized_dbs:
                storage._initdb(engine)
                storage._initialized_dbs.add(shard)
            self._engines[shard] = engine  # the latest comes last
            while len(self._engines) > OPEN_LOGS:
                oldest = next(iter(self._engines))
                self._engines.pop(oldest).dispose()
            with engine.begin() as connection:
                yield connection

    def close(self) -> None:
        with self._storage._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()


@cache
def _head(location: str | None) -> Any:
    """The newest revision of a storage's tables. Alembic imports every revision to find it: most of opening an instance."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", location or "")
    return ScriptDirectory.from_config(config).as_revision_number("head")


def _revisions(config: Config, connection: sa.Connection) -> Any:
    """As `dagster._core.storage.sql.check_alembic_revision`: that of the database, and the newest one."""
    from alembic.runtime.migration import MigrationContext

    current = MigrationContext.configure(connection).get_current_revision()
    return current, _head(config.get_main_option("script_location"))


def _remember_heads() -> None:
    for module in (sqlite_run_storage, sqlite_schedule_storage, sqlite_event_log):
        module.check_alembic_revision = _revisions  # type: ignore[attr-defined]


def _asked_until_true(question: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A question whose answer stays, once it is yes."""
    is_true = False

    def answer(subject: Any) -> bool:
        nonlocal is_true
        is_true = is_true or question(subject)
        return is_true

    return answer


def _seldom(purge: Callable[..., None]) -> Callable[..., None]:
    """A purge that runs at most once a minute for each sensor or schedule and kind of ticks."""
    latest: dict[Any, float] = {}

    def purged(
        origin_id: str, selector_id: str, before: float, tick_statuses: Any = None, **named: Any
    ) -> None:
        known = (selector_id, tuple(tick_statuses or ()))
        now = time.monotonic()
        if now - latest.get(known, -PURGE_EVERY_SECONDS) >= PURGE_EVERY_SECONDS:
            latest[known] = now
            purge(origin_id, selector_id, before, tick_statuses, **named)

    return purged
