"""Dagster's SQLite storage, with connections that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData


class OpenSqliteStorage(DagsterSqliteStorage):
    """Runs and ticks through one engine each, for as long as the storage is used.

    Dagster's own makes an engine for every statement. Each is then compiled anew, and each is the last to
    close the file, upon which SQLite writes its log back and syncs it (sqlalchemy#7490): five times the
    processor time and six times the wait of a sensor's tick, of which there is one a second.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        super().__init__(base_dir, inst_data)
        self._engines = []
        for storage in (self._run_storage, self._schedule_storage):
            engine = sa.create_engine(storage._conn_string, max_overflow=-1)
            storage.connect = engine.begin  # type: ignore[method-assign]
            self._engines.append(engine)
        # Of the two, an instance that is closed disposes of this one only.
        self._run_storage.dispose = self._close  # type: ignore[method-assign]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)

    def _close(self) -> None:
        for engine in self._engines:
            engine.dispose()
