"""Folders that are costly to make and are made once in a run of the tests, by whichever process needs them first."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that tests take copies of, and none may change.

    Args:
        make: puts into the folder, which is there and empty, what belongs in it.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of all processes of this run
    folder, finished = root / name, root / f"{name}.finished"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():  # where it could not be made, each that needs it says why
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder
