"""Room on the disk of the home.

On a full disk nothing is lost and nothing half-written is seen, but neither can a run enter anywhere why it failed. So
it asks for room before it begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from vroom_api.contract import home

MEGABYTE = 2**20
FULL = 16 * MEGABYTE  # with less than that free, files of databases cannot be written
BESIDE = (
    64 * MEGABYTE
)  # of a run, beside what grows with its sources: the model, MLflow's and Dagster's tables
PER_BYTE = (
    3  # of the sources: their snapshots, the warehouse's old and new tables, features and stored inputs
)


class NoRoom(Exception):
    """The disk has less room than a run needs; the message says how much, and what to do."""


def free() -> int:
    """Bytes that are free on the disk of the home."""
    found = os.statvfs(home())
    return found.f_bavail * found.f_frsize


def why_full() -> str | None:
    """What to say of a process that ended while the disk is full; None where it is not."""
    if free() >= FULL:
        return None
    return f"it could not be written down why it failed, as the disk of {home()} is full: {_remedy()}"


def require_room(sources: Iterable[Path]) -> None:
    """Refuse a run that the disk has no room for.

    Raises:
        NoRoom: it has less than a run over these files may need.
    """
    size = sum(path.stat().st_size for path in sources if path.is_file())
    needed = BESIDE + PER_BYTE * size
    if free() < needed:
        raise NoRoom(
            f"a run over {size / MEGABYTE:,.0f} MB of sources may need {needed / MEGABYTE:,.0f} MB of the disk of "
            f"{home()}; {_remedy()}"
        )


def _remedy() -> str:
    return f"{free() / MEGABYTE:,.0f} MB are free; free some more, or move the home and set VROOM_HOME"
