"""Rows that several processes read at once: written to a file of the home, and mapped into the memory of each.

The file is removed when the fits are done. Of a process that was killed it stays; the next one, or the next start, removes
it: whoever writes holds a lock for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from vroom_api.contract import home

FOLDER = ".fits"  # which no forecast can be called
LOCK = "lock"


@contextmanager
def shared(values: object) -> Iterator[Path]:
    """A file of values whose arrays `read` maps without a copy, for the length of a block."""
    import joblib

    folder, handle = _own_folder()
    try:
        path = folder / "values"
        joblib.dump(values, path)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@lru_cache(maxsize=1)  # the next file's values are read by a process that has done with those before
def read(path: Path) -> Any:
    """The values of a file; their arrays are read-only, and of the file itself."""
    import joblib

    return joblib.load(path, mmap_mode="r")


def sweep() -> int:
    """Remove the files of processes that are gone, and return of how many."""
    root = home() / FOLDER
    if not root.is_dir():
        return 0
    with _locked(root):
        return _sweep(root)


def _own_folder() -> tuple[Path, int]:
    """A new folder, and the handle of its lock."""
    root = home() / FOLDER
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(root):
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
    return folder, handle


def _sweep(root: Path) -> int:
    left = [folder for folder in root.iterdir() if folder.is_dir() and _is_left(folder)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def _is_left(folder: Path) -> bool:
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # it is being removed, or whoever made it got no further
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time makes a folder or sweeps: between the two steps of making one it is nobody's."""
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
