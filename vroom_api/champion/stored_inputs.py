"""Stored inputs: what is known of each entity now, looked up by the id that callers use."""

import logging
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import msgspec

from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.entities import ENTITIES

log = logging.getLogger(__name__)


class Stored(msgspec.Struct, frozen=True):
    """The inputs and tags of an entity by name, and when they were known."""

    as_of: str
    values: dict[str, Any]


class NotReadable(Exception):
    """The file is there and cannot be read."""


class Entities:
    """The entities of one forecast; follows the file when it is replaced. Safe in threads."""

    def __init__(self, forecast: str, root: Path | None = None) -> None:
        self._path = forecast_folder(forecast, root) / ENTITIES
        self._lock = threading.Lock()
        self._state: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._names: list[str] = []

    def any_stored(self) -> bool:
        """Whether anything is stored of any entity."""
        return self._path.exists()

    def find(self, entity_id: str) -> Stored | None:
        """What is stored of an entity, None for one that is not.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._lock:
            try:
                connection = self._current()
                if connection is None:
                    return None
                found = connection.execute(
                    'select as_of, "values" from entity where id = ?', (entity_id,)
                ).fetchone()
                return found and Stored(
                    found[0], dict(zip(self._names, msgspec.json.decode(found[1]), strict=True))
                )
            except (sqlite3.Error, msgspec.MsgspecError, ValueError, OSError) as error:
                self._close()
                log.warning("%s cannot be read: %s", self._path, error)
                raise NotReadable(f"{ENTITIES} cannot be read: {error}") from error

    def _current(self) -> sqlite3.Connection | None:
        """A connection to the file that has the name now."""
        try:
            state = self._path.stat()
            if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
                raise durable.NotRegular(self._path)
        except FileNotFoundError:
            self._close()
            return None
        if self._state != (state.st_ino, state.st_mtime_ns):
            self._close()
            # A renamed file never changes again.
            location = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            self._connection = sqlite3.connect(location, uri=True, check_same_thread=False)
            rows = self._connection.execute("select name from field order by place").fetchall()
            self._names = [name for (name,) in rows]
            self._state = state.st_ino, state.st_mtime_ns
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._state = None
