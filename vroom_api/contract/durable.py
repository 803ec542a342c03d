"""Files that are whole or not there, also after a crash: written beside, flushed to the disk, then renamed.

And read without waiting: under a name that is watched may lie a pipe, which would be waited for for ever.
"""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


class NotRegular(OSError):
    """A name that is not that of a regular file: a pipe, a folder, a socket or a device."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "not a regular file; replace it by the file itself", str(path))


def opened(path: Path) -> BufferedReader:
    """A regular file to read; anything else is refused at once.

    Raises:
        NotRegular: it is something else.
        OSError: it is not there, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device that is not there
            raise NotRegular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular(path)
    return open(handle, "rb")


def read(path: Path) -> bytes:
    """The content of a regular file. Raises as `opened`."""
    with opened(path) as file:
        return file.read()


@contextmanager
def replaced(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A path beside to write to; what is there at the end of the block replaces `path`.

    Readers see the old file or the new one. Where the block fails, the old one stays and nothing is left.

    Args:
        flush: whether it has to be there after a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield beside
        if flush:
            sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if flush:
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
