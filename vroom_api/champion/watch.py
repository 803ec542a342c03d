"""Watches the pointer and swaps the champion.

A new version is loaded beside the old one, off the event loop, and has to reproduce its golden rows before
it may serve. Whatever fails, the last good one stays.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from vroom_api.champion.attendance import Attendance
from vroom_api.champion.fleet import Fleet
from vroom_api.champion.loading import Champion, Retired, load
from vroom_api.champion.stored_inputs import Entities, StoredInputs
from vroom_api.contract import POINTER, BundleError, Pointer, bundle_folder, durable, forecast_folder
from vroom_api.contract.calibrations import IN_FORCE, InForce, revision_file
from vroom_api.contract.decoding import decode

log = logging.getLogger(__name__)

MIN_STALL = 10.0  # seconds without a check of the pointer
MISSED_CHECKS = 10  # of a watch that checks seldom


# Who hears of a champion that was loaded: the forecast, the champion and the one before.
Loaded = Callable[[str, Champion, Champion | None], None]


class Reload(msgspec.Struct, frozen=True):
    """The result of one reload."""

    status: Literal["reloaded", "unchanged", "failed"]
    previous_version: int | None
    current_version: int | None
    detail: str


class ChampionWatch:
    """Keeps the champion current.

    `champion` is replaced as a whole; who answers a request takes it once.

    Args:
        loaded: hears of each champion that was loaded, on the event loop.
    """

    def __init__(
        self,
        forecast: str,
        root: Path,
        seconds: float,
        *,
        automated: bool = True,
        entities: StoredInputs | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        self.forecast = forecast
        self.root = root
        self.entities = entities or Entities(forecast, root)  # found with and without a champion
        self.fleet = Fleet(forecast, root)
        self.champion: Champion | None = None
        self.failure: str | None = None  # why the latest attempt left the champion as it was
        self.failed_at: str | None = None
        self.untried: str | None = None  # why the version that should be tried is not, or not as it is now
        self.retired: str | None = None  # since when and why no version is to serve
        self.attendance = Attendance(forecast, root, expected=automated)
        self.loading = False
        self.answered: Counter[int] = Counter()  # predictions, by version
        self.handed_back = 0  # predictions of them that a second version had no finite number for
        self.reloads = 0
        self.failures = 0
        self._seconds = seconds
        self._loaded = loaded
        self._checked: float | None = None  # when the latest check of the pointer came to an end
        self._seen: object = None  # what the latest attempt was made on
        self._one_at_a_time = asyncio.Lock()

    @property
    def checked_seconds(self) -> float | None:
        """How long ago the pointer was checked; None before the first time."""
        return None if self._checked is None else time.monotonic() - self._checked

    def close(self) -> None:
        """Close the files of the entities; the champion stays."""
        self.entities.close()
        self.fleet.close()

    @property
    def trouble(self) -> str | None:
        """What keeps the champion from being followed by the next one; None where all is well."""
        if self.failure is not None:
            return self.failure
        if self.untried is not None:
            return self.untried
        if (stalled := self.stalled) is not None:
            return stalled
        if (since := self.attendance.unattended_since) is not None:
            return self.describe_unattended(since)
        if self.attendance.trouble:
            return f"the newest data or declaration is not trained: {self.attendance.trouble}"
        return None

    @property
    def stalled(self) -> str | None:
        """Since when the pointer was not checked, where that is too long; else None."""
        age = self.checked_seconds
        if age is None or age <= max(MIN_STALL, MISSED_CHECKS * self._seconds):
            return None
        return f"the pointer was not checked for {age:.0f} s: its disk, or a file beside it, does not answer"

    def describe_unattended(self, since: str) -> str:
        """What it means that nothing checked the sources since then, and what to do."""
        return (
            f"unattended since {since}: nothing checks its sources. Dagster's daemon or code server stands "
            f"still, its sensor fails or was stopped, or its declaration was taken away; `python -m vroom_assets "
            f"retire {self.forecast}` ends it, `rename {self.forecast} <new>` takes it to a new name"
        )

    async def watch(self) -> None:
        """Check the pointer at intervals; try to load whenever it or the files behind it have changed."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                if await asyncio.to_thread(self._observe) != self._seen:
                    await self.reload()
            except Exception:  # a watch that ends would leave an old champion in service
                log.exception("%s: the pointer cannot be checked", self.forecast)

    async def reload(self) -> Reload:
        """Load what the pointer names, now. Never raises: the champion stays as it was."""
        async with self._one_at_a_time:
            previous = self.champion
            self.loading = True
            try:
                # Seen before it is read: what changes meanwhile is tried again.
                self._seen = await asyncio.to_thread(self._observe)
                found = await asyncio.to_thread(
                    load, self.forecast, self.root, self.attendance, self.entities
                )
            except Retired as retirement:
                return self._retire(previous, str(retirement))
            except BundleError as error:
                return self._failed(previous, str(error))
            except Exception as error:  # a defect here must not end the watch
                log.exception("loading the champion of %s failed", self.forecast)
                return self._failed(previous, f"{type(error).__name__}: {error}")
            finally:
                self.loading = False
            if found is None:
                pointer = forecast_folder(self.forecast, self.root) / POINTER
                if previous is not None:
                    return self._failed(previous, f"{pointer}: the file is gone")
                self.failure = self.failed_at = None
                nothing = self._without_home(f"{pointer}: there is no such file, nothing was published yet")
                return Reload("failed", None, None, nothing)
            self.retired = self.untried = None
            if found.uncorrected is not None:
                return self._uncorrected(previous, found, found.uncorrected)
            if found.untried is not None:
                return self._untried(previous, found, found.untried)
            self.failure = self.failed_at = None
            if previous is not None and _same(previous, found) and _with_the_same(previous, found):
                return Reload(
                    "unchanged",
                    previous.version,
                    previous.version,
                    "the pointer names the version that serves",
                )
            return self._swap(previous, found)

    def _swap(self, previous: Champion | None, found: Champion) -> Reload:
        self.champion = found
        self.reloads += 1
        if self._loaded is not None:
            self._loaded(self.forecast, found, previous)
        corrected = f", corrected by calibration revision {found.revision.number}" if found.revision else ""
        beside = f", version {found.tried.second.version} is tried beside it" if found.tried else ""
        detail = f"version {found.version}, generation {found.generation}, serves{corrected}{beside}"
        log.info("%s: %s", self.forecast, detail)
        return Reload("reloaded", previous.version if previous else None, found.version, detail)

    def _uncorrected(self, previous: Champion | None, found: Champion, reason: str) -> Reload:
        """A champion whose calibration revision is damaged: the one that it had stays, or it serves without."""
        if previous is None or not _same(previous, found):
            self._swap(previous, found)
        assert self.champion is not None
        revision = self.champion.revision
        stays = (
            f"calibration revision {revision.number} stays"
            if revision
            else "its intervals are those of the bundle"
        )
        log.warning("%s: calibration revision not loaded, %s: %s", self.forecast, stays, reason)
        self.failure = f"{self._without_home(reason)}; {stays}"
        self.failed_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.failures += 1
        version = previous.version if previous else None
        return Reload("failed", version, self.champion.version, self.failure)

    def _untried(self, previous: Champion | None, found: Champion, reason: str) -> Reload:
        """A champion whose second version cannot be used: it serves without, or with the one that it had in this trial."""
        if previous is None or not _same(previous, found) or previous.revision != found.revision:
            self._swap(previous, found)
        assert self.champion is not None
        reason = self._without_home(reason)
        stays = (
            "the one that was loaded before stays" if self.champion.tried else "the champion answers alone"
        )
        log.warning("%s: %s; %s", self.forecast, reason, stays)
        self.failure = None
        self.untried, self.failed_at = f"{reason}; {stays}", datetime.now(UTC).isoformat(timespec="seconds")
        self.failures += 1
        version = previous.version if previous else None
        return Reload("failed", version, self.champion.version, self.untried)

    def _retire(self, previous: Champion | None, reason: str) -> Reload:
        log.info("%s; its champion serves no more", reason)
        self.champion = self.failure = self.failed_at = self.untried = None
        self.retired = reason
        version = previous.version if previous else None
        return Reload("reloaded" if previous else "unchanged", version, None, reason)

    def _failed(self, previous: Champion | None, reason: str) -> Reload:
        version = previous.version if previous else None
        stays = f"version {version} keeps serving" if version is not None else "nothing serves"
        log.warning("%s: champion not loaded, %s: %s", self.forecast, stays, reason)
        reason = self._without_home(reason)
        self.failure, self.failed_at = reason, datetime.now(UTC).isoformat(timespec="seconds")
        self.failures += 1
        return Reload("failed", version, version, f"{reason}; {stays}")

    def _without_home(self, reason: str) -> str:
        """A reason for callers, who need not know where the home is."""
        return reason.replace(f"{self.root}{os.sep}", "")

    def _observe(self) -> object:
        """The pointer's bytes and the state of all files it leads to; equal as long as nothing changes."""
        found = self._state_of_files()
        self.attendance.refresh()
        self._checked = time.monotonic()
        return found

    def _state_of_files(self) -> object:
        try:
            content = durable.read(forecast_folder(self.forecast, self.root) / POINTER)
        except OSError as error:
            return type(error).__name__
        try:
            pointer = decode(content, Pointer)
            return (
                content,
                self._files_of(pointer.version),
                self._state_of_second(pointer),
                self._state_of_calibration(),
            )
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return content, type(error).__name__

    def _files_of(self, version: int) -> object:
        folder = bundle_folder(self.forecast, version, self.root)
        return [(path.name, _state(path)) for path in sorted(folder.iterdir())]

    def _state_of_second(self, pointer: Pointer) -> object:
        """Of the version that is tried; its files may be gone without a change of the champion's."""
        if pointer.trial is None:
            return None
        try:
            return self._files_of(pointer.trial.version)
        except OSError as error:
            return type(error).__name__

    def _state_of_calibration(self) -> object:
        path = forecast_folder(self.forecast, self.root) / IN_FORCE
        try:
            content = durable.read(path)
        except OSError as error:
            return type(error).__name__
        try:
            pointer = decode(content, InForce)
            if pointer.number is None:
                return content
            return content, _state(revision_file(self.forecast, pointer.version, pointer.number, self.root))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return content, type(error).__name__


def _same(one: Champion, other: Champion) -> bool:
    """Whether two are the same version of the same publication."""
    return (one.generation, one.manifest_sha256) == (other.generation, other.manifest_sha256)


def _with_the_same(one: Champion, other: Champion) -> bool:
    """Whether two have the same correction, and both or neither a second version beside them."""
    return one.revision == other.revision and (one.tried is None) == (other.tried is None)


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
