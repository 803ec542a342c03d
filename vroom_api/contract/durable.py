"""Files that are whole or not there, also after a crash: written beside, flushed to the disk, then renamed."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside to write to; what is there at the end of the block replaces `path`.

    Readers see the old file or the new one. Where the block fails, the old one stays and nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Replace a file, or make it."""
    with replaced(path) as beside:
        beside.write_bytes(content)


def put_folder(folder: Path, files: dict[str, bytes]) -> bool:
    """Make a folder of files at once, and say whether it was made: one that is there already stays as it is."""
    if folder.exists():
        return False
    beside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        write_folder(beside, files)
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync(folder.parent)
    return True


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a new folder and flush them."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        sync(folder / name)
    sync(folder)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
