"""SQLite files that training replaces by renaming: one never changes under its name, until the name is another's."""

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

from vroom_api.contract import durable

State = tuple[int, int]  # what tells one file of a name from the next


def state_of(path: Path) -> State | None:
    """The state of the file that has a name now; None where there is none.

    Raises:
        NotRegular: it is something else.
        OSError: it cannot be asked for.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
        raise durable.NotRegular(path)
    return state.st_ino, state.st_mtime_ns


def opened(path: Path) -> sqlite3.Connection:
    """A new connection to the file that has a name now; one thread at a time may use it."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )


class ReplacedFile:
    """A connection that follows a file; for whoever holds a lock of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: State | None = None
        self._connection: sqlite3.Connection | None = None

    def current(self, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection | None:
        """A connection to the file that has the name now; None where there is none.

        Args:
            prepare: is called with a new connection, before anybody has it. Not kept: what refers to itself would hold
                its file until the garbage collector comes.

        Raises:
            sqlite3.Error, OSError: it cannot be opened; and what `prepare` raises. Close it then.
        """
        state = state_of(self._path)
        if state is None:
            self.close()
            return None
        if self._state != state:
            self.close()
            self._connection = opened(self._path)
            prepare(self._connection)
            self._state = state
        return self._connection

    def close(self) -> None:
        """Forget the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._state = None
