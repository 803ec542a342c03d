"""Damaged SQLite files: found by reading them through, and named with what they hold and how to go on.

SQLite finds damage in the pages that a question needs, and nowhere else: a database with a bad block in its middle is
opened, written and served from, until somebody asks for that row.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LARGEST_AT_START: Final = 64_000_000  # bytes; read in 0.1 s from memory, in about a second from a slow disk
# What keeps a file from being read and says nothing about what is in it.
_OTHERS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


class DamagedDatabase(Exception):
    """A database of the home cannot be used; the message names the file, what it holds and how to go on."""


@dataclass(frozen=True)
class Holding:
    """What a SQLite file holds, from where it is put back, and what follows where it is begun anew."""

    holds: str
    without: str
    copy: str = "a copy"

    def refusal(self, path: Path, reason: str) -> str:
        """What is wrong with the file, and how to go on."""
        return (
            f"{path} is damaged ({reason}). It holds {self.holds}. While everything is stopped, put it back from "
            f"{self.copy}, or move it away (`mv {path} {path}.damaged`, and so its -wal and -shm) to begin a new one: "
            f"{self.without}."
        )


SERVING = Holding(
    holds="the record of predictions, outcomes, the ledger and the digests of API keys",
    without="these are lost, champions serve on, and where keys are asked for there is a new first admin's key",
    copy="a backup (as `python -m vroom_api backup <file>` makes them)",
)


def damage_of(path: Path) -> str | None:
    """What is wrong with a SQLite file; None where it is whole, not there, or cannot be read now."""
    if not path.exists():
        return None
    if not path.is_file():
        return "it is not a regular file"
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            [(found,)] = connection.execute("pragma quick_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        return None if error.sqlite_errorcode & 0xFF in _OTHERS else str(error)
    return None if found == "ok" else str(found).replace("\n", " ")


def serving_file(url: str) -> Path | None:
    """The file of the serving database; None on a server, which looks after itself."""
    import sqlalchemy as sa  # the supervisor goes without it, and stays small

    address = sa.make_url(url)
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return None
    return Path(address.database).absolute()


def is_quick(path: Path) -> bool:
    """Whether a start can wait until a file is read."""
    return not path.is_file() or path.stat().st_size <= LARGEST_AT_START


def check_serving_database(url: str) -> None:
    """Read the serving database through.

    Raises:
        DamagedDatabase: it is damaged.
    """
    path = serving_file(url)
    if path is not None and (reason := damage_of(path)):
        raise DamagedDatabase(SERVING.refusal(path, reason))
