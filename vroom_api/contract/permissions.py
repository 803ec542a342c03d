"""Who may read what Vroom keeps: its owner alone, unless VROOM_UMASK says otherwise.

The home holds the record, ids of entities and digests of keys.
"""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vroom_api.contract.manifest import FORECAST_NAME

log = logging.getLogger(__name__)

# What else stands in a home, beside a folder for each forecast. Its other entries are none of ours.
OURS = (
    *("dagster", "mlflow", "fastf1", "admin.key", "serving.db", "serving.db-wal", "serving.db-shm"),
    ".vroom.lock",
)

OF_A_FORECAST = ("champions", "snapshots", "warehouse.duckdb")


def keep_private(home: Path, mask: int) -> int:
    """Let this process and its children write by the mask, and bring an existing home to it.

    Returns:
        the number of files and folders whose rights were taken back.
    """
    os.umask(mask)
    changed = sum(_restrict(path, mask) for path in _paths(home))
    if changed:
        log.warning(
            "%s: %d files and folders were open to other users and are no longer; VROOM_UMASK=%03o is what applies",
            home,
            changed,
            mask,
        )
    return changed


def _paths(home: Path) -> Iterator[Path]:
    if not home.is_dir():
        return
    yield home
    for entry in home.iterdir():
        forecast = FORECAST_NAME.fullmatch(entry.name) and any(
            (entry / part).exists() for part in OF_A_FORECAST
        )
        if forecast or entry.name in OURS:
            yield entry
            if entry.is_dir() and not entry.is_symlink():
                yield from entry.rglob("*")


def _restrict(path: Path, mask: int) -> bool:
    try:
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode) or not state.st_mode & mask:
            return False
        path.chmod(stat.S_IMODE(state.st_mode) & ~mask)
    except OSError:  # gone meanwhile, or another user's
        return False
    return True
