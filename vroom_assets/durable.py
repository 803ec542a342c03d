"""Files that are whole or not there, also after a crash."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_beside(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old content or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    _write_durably(beside, content)
    os.replace(beside, path)
    _sync_folder(path.parent)


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
