"""A source as a file, or as all files that a pattern names: observed by content, copied once per content."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from vroom_api.contract import durable
from vroom_api.contract.decoding import decode

CHUNK = 1 << 20
RACY_SECONDS = 2.0  # a file changed this shortly before it was hashed may have changed once more unseen
FICLONE = (
    0x40049409  # of Linux; another system, and some rarer processors, refuse it, and the bytes are copied
)
LEFTOVER_SECONDS = 86_400.0  # a copy that was begun this long ago belongs to a process that died

Identity = tuple[int, int, int, int]  # size, mtime, ctime (ns), inode


class SourceError(Exception):
    """A source that cannot be used; the message names file and rule."""


class SourceChanged(SourceError):
    """The file was written while it was copied: observe it again later."""


class Observation(msgspec.Struct, frozen=True):
    """One observation of a file, or of the `parts` that a pattern names. `settled` is false when it changed while it was hashed."""

    path: str
    sha256: str = ""
    size: int = 0
    identity: Identity = (0, 0, 0, 0)
    looked_at: float = 0.0  # seconds since the epoch, when hashing began
    settled: bool = True
    missing: bool = False
    parts: tuple[Observation, ...] = ()

    def same_file_as(self, other: Observation) -> bool:
        """Whether nothing touched the file between two observations."""
        return (
            self.identity == other.identity
            and self.sha256 == other.sha256
            and len(self.parts) == len(other.parts)
            and all(one.same_file_as(two) for one, two in zip(self.parts, other.parts, strict=True))
        )

    @property
    def at_rest_s(self) -> float:
        """How long nothing had touched the file, or any part, when it was observed; negative where the clock was set back."""
        return min(one.looked_at - one.identity[2] / 1e9 for one in self.parts or (self,))


def is_pattern(path: Path) -> bool:
    """Whether a path names all files that are like it: it has `*`, `?` or `[`, and is not a file of just that name."""
    return glob.has_magic(str(path)) and not path.exists()


def files_like(path: Path) -> list[Path]:
    """The files that a path names, in the order of their names: itself, or those that a pattern names.

    Hidden files are left out, as is all that is not a regular file.
    """
    if not is_pattern(path):
        return [path]
    return [found for each in sorted(glob.glob(str(path))) if (found := Path(each)).is_file()]


def listing(pattern: Path, files: Sequence[tuple[Path, str]]) -> bytes:
    """Several files as one content: their digests and their names below the pattern's fixed folder, as `sha256sum` prints them."""
    fixed = next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))
    return "".join(f"{sha256}  {path.relative_to(fixed)}\n" for path, sha256 in files).encode()


def observe(path: Path, previous: Observation | None) -> Observation:
    """Hash what a path names, or reuse the hash of the previous observation where nothing can have touched it since.

    The change time is set by the kernel at every write and cannot be set back, unlike the modification
    time; but it is coarse, so a file changed just before the previous observation is hashed again (the "racily
    clean" entries of git's index).

    Raises:
        SourceError: it is there and cannot be read.
    """
    if not is_pattern(path):
        return _observed(path, previous)
    before = {one.path: one for one in previous.parts} if previous else {}
    parts = [_observed(one, before.get(str(one))) for one in files_like(path)]
    there = tuple(one for one in parts if not one.missing)
    if not there:
        return Observation(str(path), missing=True)
    return Observation(
        str(path),
        hashlib.sha256(listing(path, [(Path(one.path), one.sha256) for one in there])).hexdigest(),
        sum(one.size for one in there),
        looked_at=min(one.looked_at for one in there),
        settled=all(one.settled for one in parts) and there == tuple(parts),
        parts=there,
    )


def _observed(path: Path, previous: Observation | None) -> Observation:
    try:
        identity = _identity(path)
        if previous and _untouched_since(previous, path, identity):
            return previous
        looked_at = time.time()
        digest = _sha256(path)
        settled = identity == _identity(path)
    except (FileNotFoundError, NotADirectoryError):
        return Observation(str(path), missing=True)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return Observation(str(path), digest, identity[0], identity, looked_at, settled)


def keep(observation: Observation, file: Path) -> None:
    """Keep the latest observation of a source where whoever observes it next finds it."""
    # A power cut may take it away: then the source is hashed once more.
    with durable.replaced(file, flush=False) as beside:
        beside.write_bytes(msgspec.json.encode(observation))


def kept(file: Path) -> Observation | None:
    """The observation that was kept last; None where there is none that can be read."""
    try:
        return decode(durable.read(file), Observation)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _untouched_since(previous: Observation, path: Path, identity: Identity) -> bool:
    return (
        previous.settled
        and previous.path == str(path)
        and previous.identity == identity
        and identity[2] / 1e9 < previous.looked_at - RACY_SECONDS
    )


def _identity(path: Path) -> Identity:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file; a source is a CSV file, or a pattern of such")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sha256(path: Path) -> str:
    with durable.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class NamedFile:
    """A file to read, and the name that people know it by, for messages."""

    path: Path
    name: str


@dataclass(frozen=True)
class Copy:
    """An immutable copy of one file, named by its content."""

    source: Path  # what it is a copy of
    sha256: str
    path: Path
    size: int
    modified: str  # ISO 8601 UTC: when the file was last written


@dataclass(frozen=True)
class Snapshot:
    """Immutable copies of all files of a source."""

    sha256: str  # of the only file, or of all together
    path: Path  # the copy of the only file, or the list of all
    copies: tuple[Copy, ...]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.copies)

    @property
    def modified(self) -> str:
        """When the latest of the files was last written."""
        return max(one.modified for one in self.copies)


def snapshot(path: Path, folder: Path, observed: Observation | None = None) -> Snapshot:
    """Copy what a path names to `<folder>/<sha256>.csv`, read-only; each copy appears complete or not at all.

    Of several files there is also the list of all, `<its sha256>.sha256`.

    Args:
        observed: an observation of the source, if there is one. Where nothing can have touched a file since, a
            copy of its content that is there already is read again, and kept if it is whole.

    Raises:
        SourceChanged: a file was written meanwhile. SourceError: it is not there, or cannot be copied.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
    except OSError as error:
        raise SourceError(f"{folder} cannot be made: {error.strerror}") from error
    if not is_pattern(path):
        copy = _copied(path, folder, observed)
        return Snapshot(copy.sha256, copy.path, (copy,))
    files = files_like(path)
    if not files:
        raise SourceError(f"{path} is not there: no file has such a name")
    before = {one.path: one for one in observed.parts} if observed else {}
    copies = tuple(_copied(one, folder, before.get(str(one))) for one in files)
    if files_like(path) != files:
        raise SourceChanged(f"{path} has other files than when it was copied; they are copied again")
    listed = listing(path, [(one.source, one.sha256) for one in copies])
    digest = hashlib.sha256(listed).hexdigest()
    list_of_all = folder / f"{digest}.sha256"
    try:
        with durable.replaced(list_of_all) as beside:
            beside.write_bytes(listed)
    except OSError as error:
        raise SourceError(f"{list_of_all} cannot be written: {error.strerror}") from error
    return Snapshot(digest, list_of_all, copies)


def _copied(path: Path, folder: Path, observed: Observation | None) -> Copy:
    try:
        before = _identity(path)
        if observed and _untouched_since(observed, path, before):
            target = folder / f"{observed.sha256}.csv"
            if target.exists() and _sha256(target) == observed.sha256:
                return Copy(path, observed.sha256, target, before[0], _modified(before))
        beside = folder / f".{uuid.uuid4().hex}.copy"
        try:
            digest = _copy(path, beside)
            if _identity(path) != before:
                raise SourceChanged(
                    f"{path} was written while it was copied; it is copied again once it is at rest"
                )
            # What has the name already is replaced unread: the copy is known to be whole, and that is not.
            target = folder / f"{digest}.csv"
            beside.chmod(beside.stat().st_mode & 0o444)
            os.replace(beside, target)
            durable.sync(folder)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        position = error.filename or folder
        raise SourceError(f"{path} cannot be copied to {folder}: {position}: {error.strerror}") from error
    return Copy(path, digest, target, before[0], _modified(before))


def _modified(identity: Identity) -> str:
    return datetime.fromtimestamp(identity[1] / 1e9, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _copy(path: Path, target: Path) -> str:
    """Copy, hashing what is copied: the name is true even of a file that changes meanwhile.

    Where the file system can (XFS, Btrfs), the copy shares the blocks of the file until one of them is written: it takes
    no room and no time. A hard link would not do, because what is written to the one would be in the other.
    """
    digest = hashlib.sha256()
    with durable.opened(path) as source, open(target, "x+b") as copy:
        shared = _shares_blocks(source.fileno(), copy.fileno())
        while chunk := (copy if shared else source).read(CHUNK):
            digest.update(chunk)
            if not shared:
                copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _shares_blocks(source: int, copy: int) -> bool:
    """Make a file of the blocks of another; False where the system or the file system cannot."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return False
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".*.copy"):
        if leftover.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
            leftover.unlink(missing_ok=True)
