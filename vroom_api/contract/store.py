"""Where bundles are kept, and the one way to change what serves.

A version is put once and never changed. The pointer is moved by whoever planned with its present generation:
of two publishers one wins, and the other changes nothing.
"""

import fcntl
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from vroom_api.contract import durable
from vroom_api.contract.bundle import (
    MANIFEST,
    POINTER,
    Bundle,
    BundleError,
    Pointer,
    Trial,
    bundle_folder,
    forecast_folder,
    pointer_of,
    read_bundle,
    read_pointer,
    sha256_of,
)

FORMER = "pointers"  # the folder of those that were replaced, by generation and version


class PointerMoved(Exception):
    """Another version was published meanwhile; the pointer is as that publication left it."""


class NothingServes(Exception):
    """The forecast was never published, or was retired."""


class BundleStore(ABC):
    """The versions and the pointer of every forecast."""

    @abstractmethod
    def versions(self, forecast: str) -> list[int]:
        """The versions that were put, ascending."""

    @abstractmethod
    def pointer(self, forecast: str) -> Pointer | None:
        """Which version serves, None where nothing was ever published.

        Raises:
            BundleError: the file is not a pointer.
        """

    @abstractmethod
    def history(self, forecast: str) -> list[Pointer]:
        """Every pointer that there was, oldest first; a version that was put and is in none of them never served.

        Raises:
            BundleError: a file is not a pointer.
        """

    @abstractmethod
    def read(self, forecast: str, version: int, manifest_sha256: str) -> Bundle:
        """A version, every byte of it checked.

        Raises:
            BundleError: it is not there, or damaged.
        """

    @abstractmethod
    def put(self, forecast: str, version: int, files: dict[str, bytes]) -> None:
        """Keep the files of a version, all of them or none; one that is kept already stays as it is."""

    @abstractmethod
    def point(
        self,
        forecast: str,
        version: int,
        manifest_sha256: str,
        generation: int,
        provisional: Sequence[str] = (),
    ) -> Pointer:
        """Let a version serve, if the pointer still has a generation (0: there is none).

        A trial goes on where the version stays the same and only its gates are others; else it ends.

        Args:
            provisional: the gates that it has not passed.

        Returns:
            the pointer, unchanged where it says the same already.

        Raises:
            PointerMoved: it has another generation.
        """

    @abstractmethod
    def digest(self, forecast: str, version: int) -> str:
        """The SHA-256 of the manifest of a version that was put, as it served last or, where it never did, as it was put.

        Raises:
            BundleError: it was never put, or the pointers cannot be read.
        """

    @abstractmethod
    def set_trial(self, forecast: str, trial: Trial | None, generation: int) -> Pointer:
        """Try a second version beside the champion, change how, or end it, if the pointer still has a generation.

        Returns:
            the pointer, unchanged where it says the same already.

        Raises:
            PointerMoved: it has another generation.
            NothingServes: there is no champion to try it beside.
        """

    @abstractmethod
    def retire(self, forecast: str, reason: str) -> Pointer:
        """Let no version serve any more; what was published stays. The next publication ends it.

        Returns:
            the pointer, unchanged where the forecast is retired already.

        Raises:
            NothingServes: nothing was ever published.
        """


class LocalStore(BundleStore):
    """Bundles in folders below a home, which all who publish and serve share."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home

    def versions(self, forecast: str) -> list[int]:
        folder = forecast_folder(forecast, self._home) / "champions"
        return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())

    def pointer(self, forecast: str) -> Pointer | None:
        return read_pointer(forecast, self._home)

    def history(self, forecast: str) -> list[Pointer]:
        former = forecast_folder(forecast, self._home) / FORMER
        pointers = [pointer_of(path) for path in former.glob("[0-9]*.json")]
        if current := self.pointer(forecast):
            pointers.append(current)
        return list(dict.fromkeys(sorted(pointers, key=_generation)))

    def read(self, forecast: str, version: int, manifest_sha256: str) -> Bundle:
        folder = bundle_folder(forecast, version, self._home)
        return read_bundle(folder, manifest_sha256, forecast, self._home)

    def put(self, forecast: str, version: int, files: dict[str, bytes]) -> None:
        folder = bundle_folder(forecast, version, self._home)
        with publishing(forecast, self._home):
            for abandoned in folder.parent.glob(
                ".*"
            ):  # of a publisher that died: nobody else writes here now
                shutil.rmtree(abandoned, ignore_errors=True)
            durable.put_folder(folder, files)

    def point(
        self,
        forecast: str,
        version: int,
        manifest_sha256: str,
        generation: int,
        provisional: Sequence[str] = (),
    ) -> Pointer:
        with publishing(forecast, self._home):
            current = self.pointer(forecast)
            present = current.generation if current else 0
            if present != generation:
                raise PointerMoved(
                    f"{forecast}: another version was published meanwhile (generation {present}, "
                    f"this one was decided against {generation}); run the contest again"
                )
            if current and (
                (current.version, current.manifest_sha256, current.retired, current.provisional)
                == (version, manifest_sha256, None, tuple(provisional))
            ):
                return current
            pointer = Pointer(
                generation=generation + 1,
                version=version,
                manifest_sha256=manifest_sha256,
                published_at=_now(),
                provisional=tuple(provisional),
                trial=current.trial if current and _same_version(current, version, manifest_sha256) else None,
            )
            self._move(forecast, current, pointer)
            return pointer

    def digest(self, forecast: str, version: int) -> str:
        served = [one.manifest_sha256 for one in self.history(forecast) if one.version == version]
        if served:
            return served[-1]
        path = bundle_folder(forecast, version, self._home) / MANIFEST
        try:
            return sha256_of(durable.read(path))
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error

    def set_trial(self, forecast: str, trial: Trial | None, generation: int) -> Pointer:
        with publishing(forecast, self._home):
            current = self.pointer(forecast)
            if current is None or current.retired is not None:
                raise NothingServes(f"{forecast}: no version serves, so none can be tried beside it")
            if current.generation != generation:
                raise PointerMoved(
                    f"{forecast}: another version was published meanwhile, or its traffic changed: the pointer has "
                    f"generation {current.generation}, and this was decided against {generation}"
                )
            if current.trial == trial:
                return current
            pointer = msgspec.structs.replace(current, generation=generation + 1, trial=trial)
            self._move(forecast, current, pointer)
            return pointer

    def retire(self, forecast: str, reason: str) -> Pointer:
        if not (forecast_folder(forecast, self._home) / POINTER).exists():
            raise NothingServes(f"{forecast}: nothing was ever published, so there is nothing to retire")
        with publishing(forecast, self._home):
            current = self.pointer(forecast)
            assert current is not None
            if current.retired is not None:
                return current
            pointer = msgspec.structs.replace(
                current, generation=current.generation + 1, published_at=_now(), retired=reason, trial=None
            )
            self._move(forecast, current, pointer)
            return pointer

    def _move(self, forecast: str, current: Pointer | None, pointer: Pointer) -> None:
        """Replace the pointer; the one before is kept first, so that whatever dies between, none is missing."""
        folder = forecast_folder(forecast, self._home)
        if current is not None:
            # Generations count from 1 again where the pointer was lost; the version keeps such apart.
            name = f"{current.generation}-{current.version}.json"
            durable.replace(folder / FORMER / name, msgspec.json.encode(current))
        durable.replace(folder / POINTER, msgspec.json.encode(pointer))


@contextmanager
def publishing(forecast: str, home: Path | None = None) -> Iterator[None]:
    """One publisher at a time on this machine; the lock dies with its process."""
    folder = forecast_folder(forecast, home)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".publish.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _same_version(pointer: Pointer, version: int, manifest_sha256: str) -> bool:
    return (pointer.version, pointer.manifest_sha256, pointer.retired) == (version, manifest_sha256, None)


def _generation(pointer: Pointer) -> int:
    return pointer.generation


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
