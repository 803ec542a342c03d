"""Stored inputs: what is known of each entity now, looked up by the id that callers use."""

import logging
import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.entities import ENTITIES

log = logging.getLogger(__name__)


class Stored(msgspec.Struct, frozen=True):
    """The inputs and tags of an entity by name, and when they were known."""

    as_of: str
    values: dict[str, Any]


class StoredPiece(NamedTuple):
    """Some entities, in the order of their ids: the stored values of each name, one for each entity."""

    ids: list[str]
    as_of: list[str]
    values: dict[str, Sequence[Any]]


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

    def count(self) -> int:
        """How many entities are stored.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._lock, self._readable():
            connection = self._current()
            [(count,)] = (
                connection.execute("select count(*) from entity").fetchall() if connection else [(0,)]
            )
            return int(count)

    def pieces(self, rows: int) -> Iterator[StoredPiece]:
        """All that is stored, up to `rows` entities at a time; one state of it, also where it is replaced meanwhile.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._explained():  # a connection of its own: that of the others stays as it is
            if not self._path.exists():
                return
            with closing(sqlite3.connect(self._location(), uri=True)) as connection:
                names = [name for (name,) in connection.execute("select name from field order by place")]
                found = connection.execute('select id, as_of, "values" from entity order by id')
                while part := found.fetchmany(rows):
                    ids, as_of, contents = zip(*part, strict=True)
                    listed = msgspec.json.decode(b"[" + b",".join(contents) + b"]")
                    columns = zip(names, zip(*listed, strict=True), strict=True)
                    yield StoredPiece(list(ids), list(as_of), dict(columns))

    def find(self, entity_id: str) -> Stored | None:
        """What is stored of an entity, None for one that is not.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._lock, self._readable():
            connection = self._current()
            if connection is None:
                return None
            found = connection.execute(
                'select as_of, "values" from entity where id = ?', (entity_id,)
            ).fetchone()
            return found and Stored(
                found[0], dict(zip(self._names, msgspec.json.decode(found[1]), strict=True))
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """For whoever holds the lock: after what the file does not allow the next call opens it anew."""
        try:
            with self._explained():
                yield
        except NotReadable:
            self._close()
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever the file does not allow becomes NotReadable."""
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError, ValueError, OSError) as error:
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
            self._connection = sqlite3.connect(self._location(), uri=True, check_same_thread=False)
            rows = self._connection.execute("select name from field order by place").fetchall()
            self._names = [name for (name,) in rows]
            self._state = state.st_ino, state.st_mtime_ns
        return self._connection

    def _location(self) -> str:
        """What SQLite opens: a renamed file never changes again."""
        return f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._state = None
