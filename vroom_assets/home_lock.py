"""One system to a home: a lock that is held as long as a start, or anything it started, still runs.

Whoever starts has the lock alone for a moment, and so knows that nobody else runs; from then on it is shared with
what was started. A killed supervisor therefore frees the home only when its services have ended too, and a lock
that a dead process left behind is none: it ends with the processes that hold it.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

LOCK = ".vroom.lock"


class HomeInUse(Exception):
    """Another process works in the home; the message says which, where it answers and what to do."""


@dataclass
class HomeLock:
    """The lock of a home, while this process lives."""

    path: Path
    command: str
    handle: int
    since: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))

    def describe(self, addresses: Mapping[str, str]) -> None:
        """Write down who holds the lock and where it answers, for whoever is refused."""
        pages = ", ".join(f"{name} {url}" for name, url in addresses.items())
        line = "\t".join((str(os.getpid()), self.command, self.since, pages))
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"{line}\n".encode(), 0)


def hold(home: Path, command: str, advice: str = "") -> HomeLock:
    """Take the lock of a home, for as long as this process lives; a child of its holder takes part in it.

    Args:
        command: what is started, for whoever is refused.
        advice: what to do instead where something runs already, in a sentence.

    Raises:
        HomeInUse: another process works in the home.
    """
    path = home / LOCK
    if _holder(path) == os.getppid():
        return HomeLock(path, command, share(path, command))
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # not in one step: another may come between
        except BlockingIOError:
            os.close(handle)
            raise HomeInUse(" ".join(filter(None, (_in_use(path), advice)))) from None
        if _is(path, handle):
            lock = HomeLock(path, command, handle)
            lock.describe({})
            return lock
        os.close(handle)  # it was deleted meanwhile, and another of its name may be somebody's


def share(path: Path, command: str) -> int:
    """Hold the lock together with the start that this process belongs to, and return its handle."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.write(handle, f"{os.getpid()}\t{command}\n".encode())
    return handle


def sharing(path: Path, name: str, command: list[str]) -> list[str]:
    """A command that holds the lock as long as it runs."""
    return [sys.executable, "-m", "vroom_assets.home_lock", str(path), name, *command]


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split("\t") for line in path.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        return []


def _holder(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0][0]) if lines and lines[0][0].isdecimal() else None


def _in_use(path: Path) -> str:
    """Who holds the lock, where it answers, and how to end it."""
    lines, home = _lines(path), path.parent
    alternative = "or use another home with VROOM_HOME=<folder>."
    alive = [line for line in lines if line[0].isdecimal() and _runs(int(line[0]))]
    if lines and lines[0] in alive:
        pid, command, since, pages = (*lines[0], "", "", "", "")[:4]
        answers = f", which answers at {pages}" if pages else ""
        return (
            f"the home {home} is in use by process {pid} (`{command}`, since {since}){answers}. "
            f"Stop that first (Ctrl-C where it runs, or `kill {pid}`), {alternative}"
        )
    left = ", ".join(f"{line[1]} (process {line[0]})" for line in alive if len(line) > 1)
    if not left:
        return f"the home {home} is in use by another process. Stop that first, {alternative}"
    return (
        f"the process that worked in the home {home} was killed, and what it started still runs: {left}. "
        f"End these first (`kill {' '.join(line[0] for line in alive)}`), {alternative}"
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def main() -> None:
    """Become a command that shares the lock: `python -m vroom_assets.home_lock <lock> <name> <command…>`."""
    path, name, *command = sys.argv[1:]
    os.set_inheritable(share(Path(path), name), True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
