"""Every forecast that is published in the home, each with a watch of its own, so that none stops another.

The flagship is always there, also before it is published. Others are found by their pointers, at the start
and while the service runs; one that was found stays, because a pointer that goes away leaves its champion.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from vroom_api.champion.stored_inputs import StoredInputs
from vroom_api.champion.watch import ChampionWatch, Loaded
from vroom_api.contract import FORECAST_NAME, POINTER
from vroom_api.problems import Problem

log = logging.getLogger(__name__)


def published(root: Path) -> list[str]:
    """Names of the forecasts that have a pointer under the home; other folders are none of ours."""
    return sorted(
        path.parent.name
        for path in root.glob(f"*/{POINTER}")
        if FORECAST_NAME.fullmatch(path.parent.name) and path.is_file()
    )


class Forecasts:
    """The forecasts of one service, the flagship first.

    Args:
        flagship: the forecast that the short routes are about.
        root: the home.
        seconds: between two scans, for changed pointers and for new forecasts.
        automated: whether sensors are meant to look after them.
        stored: the stored inputs of a forecast; by default what the training stored in its file.
        loaded: hears of each champion that was loaded.
    """

    def __init__(
        self,
        flagship: str,
        root: Path,
        seconds: float,
        *,
        automated: bool = True,
        stored: Callable[[str], StoredInputs] | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        self._automated = automated
        self._loaded = loaded
        self._root = root
        self._seconds = seconds
        self._stored = stored
        self.flagship = self._watch_of(flagship)
        self._watches = {flagship: self.flagship}
        self._tasks: list[asyncio.Task[None]] = []

    def __iter__(self) -> Iterator[ChampionWatch]:
        """All watches: the flagship, then the others by name."""
        others = sorted(name for name in self._watches if name != self.flagship.forecast)
        return iter([self.flagship, *(self._watches[name] for name in others)])

    def __contains__(self, name: str) -> bool:
        return name in self._watches

    def named(self, name: str) -> ChampionWatch:
        """The watch of a forecast.

        Raises:
            Problem: there is no forecast of that name, 404.
        """
        watch = self._watches.get(name)
        if watch is None:
            names = ", ".join(watch.forecast for watch in self)
            raise Problem(
                404,
                "no-such-forecast",
                f"there is no forecast {name[:64]!r}; the forecasts are {names}; `make run FORECAST=<name>` publishes one "
                "that is declared",
            )
        return watch

    def _watch_of(self, name: str) -> ChampionWatch:
        entities = self._stored(name) if self._stored else None
        return ChampionWatch(
            name,
            self._root,
            self._seconds,
            automated=self._automated,
            entities=entities,
            loaded=self._loaded,
        )

    async def scan(self) -> None:
        """Take up what was published since the last scan, and load it."""
        found = await asyncio.to_thread(published, self._root)
        new = [self._watch_of(name) for name in found if name not in self._watches]
        # Replaced and not changed: pages are made in threads, which may be going through it.
        self._watches = self._watches | {watch.forecast: watch for watch in new}
        await self._follow(new)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Load what is published, and follow it as long as this is open."""
        await asyncio.gather(self._follow(list(self)), self._scan_once())
        self._begin(self._scan_loop(), "forecasts")
        try:
            yield
        finally:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for watch in self:
                watch.close()

    async def _follow(self, watches: list[ChampionWatch]) -> None:
        await asyncio.gather(*(watch.reload() for watch in watches))
        for watch in watches:
            self._begin(watch.watch(), watch.forecast)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _scan_loop(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self._scan_once()

    async def _scan_once(self) -> None:
        """A home that cannot be listed leaves the forecasts as they are."""
        try:
            await self.scan()
        except Exception:
            log.exception("cannot scan for new forecasts")
