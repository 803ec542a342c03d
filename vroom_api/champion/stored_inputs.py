"""Stored inputs: what is known of each entity now, looked up by the id that callers use.

There are two stores behind one interface: the file that the training replaces, and the table of the serving database,
where entities lie that were saved over HTTP and, by a setting, all of them. Neither is cached, so that what was saved
or deleted is so in every process at once.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from vroom_api.champion.saved_inputs import SavedInputs
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.replaced import ReplacedFile, State, opened, state_of
from vroom_api.contract.saved_entities import BY_SOURCE, CSV, SERVICE
from vroom_api.contract.tables import Database, UnusableDatabase

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_SPARE = 8  # connections that wait


class Stored(msgspec.Struct, frozen=True):
    """The inputs and tags of an entity by name, and when they were known."""

    as_of: str
    values: dict[str, Any]
    source: str = CSV
    tags: dict[str, str] = {}  # those beside the declared ones, which are among the values


class StoredPiece(NamedTuple):
    """Some entities, in the order of their ids: the stored values of each name, one for each entity."""

    ids: list[str]
    as_of: list[str]
    values: dict[str, Sequence[Any]]


class NotReadable(Exception):
    """What is stored cannot be read; the message says what, and what to do."""


class StoredInputs(Protocol):
    """What answers a request that names an entity and leaves out inputs. Safe in threads."""

    waits: bool  # whether a lookup may wait for a server: then it is not for the event loop

    def any_stored(self) -> bool:
        """Whether anything is stored of any entity."""

    def find(self, entity_id: str) -> Stored | None:
        """What is stored of an entity, None for one that is not. Raises NotReadable."""

    def close(self) -> None:
        """Close what was opened; whoever asks afterwards opens it again."""


class Entities:
    """The entities of one forecast in the file; follows it when it is replaced. Safe in threads."""

    waits = False

    def __init__(self, forecast: str, root: Path | None = None) -> None:
        self._path = forecast_folder(forecast, root) / ENTITIES
        self._lock = threading.Lock()
        self._file = ReplacedFile(self._path)
        self._names: list[str] = []
        self._source = ""  # SQL of where an entity is from
        self._spare: list[
            sqlite3.Connection
        ] = []  # for whoever needs one of its own, of the file of this state
        self._spare_state: State | None = None

    def any_stored(self) -> bool:
        """Whether anything is stored of any entity."""
        return self._path.exists()

    def count(self) -> int:
        """How many entities are stored.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._lock, self._readable():
            connection = self._file.current(self._read_names)
            [(count,)] = (
                connection.execute("select count(*) from entity").fetchall() if connection else [(0,)]
            )
            return int(count)

    def pieces(self, rows: int) -> Iterator[StoredPiece]:
        """All that is stored, up to `rows` entities at a time; one state of it, also where it is replaced meanwhile.

        Raises:
            NotReadable: the file is damaged.
        """
        with self.opened() as connection:
            if connection is None:
                return
            names = [name for (name,) in connection.execute("select name from field order by place")]
            found = connection.execute('select id, as_of, "values" from entity order by id')
            while part := found.fetchmany(rows):
                ids, as_of, contents = zip(*part, strict=True)
                listed = msgspec.json.decode(b"[" + b",".join(contents) + b"]")
                columns = zip(names, zip(*listed, strict=True), strict=True)
                yield StoredPiece(list(ids), list(as_of), dict(columns))

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection | None]:
        """A connection of one's own to the file as it is now, None where there is none.

        Raises:
            NotReadable: the file is damaged, whenever that is noticed.
        """
        with self._explained():
            state = state_of(self._path)
            connection = self._spare_of(state)
            if connection is None:
                yield None
                return
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            with self._lock:
                if self._spare_state == state and len(self._spare) < MAX_SPARE:
                    self._spare.append(connection)
                    return
            connection.close()

    @property
    def state(self) -> State | None:
        """What tells one file of this name from the next; None where there is none, or none that can be read."""
        try:
            return state_of(self._path)
        except OSError:
            return None

    def _spare_of(self, state: State | None) -> sqlite3.Connection | None:
        """A connection to a file that nobody uses, else a new one."""
        with self._lock:
            if self._spare_state != state:
                self._close_spare(state)
            if self._spare:
                return self._spare.pop()
        if state is None:
            return None
        return opened(self._path)

    def _close_spare(self, state: State | None) -> None:
        """Close those that nobody uses; from now on they are of the file of another state."""
        for one in self._spare:
            one.close()
        self._spare, self._spare_state = [], state

    def close(self) -> None:
        with self._lock:
            self._file.close()
            self._close_spare(None)

    def find(self, entity_id: str) -> Stored | None:
        """What is stored of an entity, None for one that is not.

        Raises:
            NotReadable: the file is damaged.
        """
        with self._lock, self._readable():
            connection = self._file.current(self._read_names)
            if connection is None:
                return None
            found = connection.execute(
                f'select as_of, "values", {self._source} from entity where id = ?', (entity_id,)
            ).fetchone()
            return found and Stored(
                found[0], dict(zip(self._names, msgspec.json.decode(found[1]), strict=True)), found[2]
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """For whoever holds the lock: after what the file does not allow the next call opens it anew."""
        try:
            with self._explained():
                yield
        except NotReadable:
            self._file.close()
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever the file does not allow becomes NotReadable."""
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError, ValueError, OSError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
            raise NotReadable(f"{ENTITIES} cannot be read: {error}; materialize online_features") from error

    def _read_names(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("select name from field order by place").fetchall()
        self._names = [name for (name,) in rows]
        columns = [row[1] for row in connection.execute("pragma table_info(entity)")]
        self._source = "source" if "source" in columns else f"'{CSV}'"  # an older training wrote none


class LayeredInputs:
    """The file first, for what is from the sources; then the table, for what was saved.

    What the file has of saved entities is passed over: they may have been changed or deleted since. Once the sources
    have an entity, they count, from the moment in which the file is replaced.

    Args:
        file: None where the table has the entities of the sources too.
    """

    def __init__(self, forecast: str, file: Entities | None, database: Database, *, waits: bool) -> None:
        self.waits = waits
        self.file = file
        self._saved = SavedInputs(forecast, database)

    def any_stored(self) -> bool:
        if self.file is not None and self.file.any_stored():
            return True
        try:
            return self._explained(self._saved.any_open)
        except NotReadable:  # whoever asks has just been answered
            return True

    def find(self, entity_id: str) -> Stored | None:
        found = self._sourced(entity_id)
        if found is not None:
            return found
        row = self._explained(lambda: self._saved.find(entity_id, sourced=self.file is None))
        if row is None:
            return None
        if row.closed_by is None:
            return Stored(row.as_of, row.tags | row.inputs, row.source, row.tags)
        # Closed since the file was asked: what closed it has replaced the file before.
        return self._sourced(entity_id) if row.closed_by == BY_SOURCE else None

    def close(self) -> None:
        """The database is closed by who opened it."""
        if self.file is not None:
            self.file.close()

    def _sourced(self, entity_id: str) -> Stored | None:
        found = None if self.file is None else self.file.find(entity_id)
        return None if found is None or found.source == SERVICE else found

    @staticmethod
    def _explained(ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (sa.exc.SQLAlchemyError, UnusableDatabase) as error:
            log.warning("saved entities cannot be read: %s", error)
            raise NotReadable("the serving database does not answer; ask again") from error


def stored_inputs(
    forecast: str, root: Path, database: Database | None, *, in_database: bool, waits: bool
) -> StoredInputs:
    """What a service looks up.

    Args:
        database: None where nothing can be saved.
        in_database: whether the entities of the sources are in the table, and no file is asked.
        waits: whether the database is a server.
    """
    file = Entities(forecast, root)
    if database is None:
        return file
    return LayeredInputs(forecast, None if in_database else file, database, waits=waits)
