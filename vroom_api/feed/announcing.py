"""Announces what this process has loaded, beside what it does: no request and no watch waits for it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from vroom_api.champion.loading import Champion
from vroom_api.contract import Pointer
from vroom_api.contract.announcements import announce_loaded
from vroom_api.contract.tables import Database

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 30.0  # seconds between two attempts
MAX_WAITING: Final = 1_000  # the oldest are given up first


class Loaded(NamedTuple):
    forecast: str
    pointer: Pointer
    calibration: int | None
    previous_version: int | None


class Announcer:
    """Announces each version that a watch has loaded, as long as `running` is open; tried until the database has it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Loaded] = deque(maxlen=MAX_WAITING)
        self._any = asyncio.Event()

    def loaded(self, forecast: str, champion: Champion, previous: Champion | None) -> None:
        """Remember to announce a version. On the event loop."""
        pointer = Pointer(
            generation=champion.generation,
            version=champion.version,
            manifest_sha256=champion.manifest_sha256,
            published_at=champion.published_at,
        )
        revision = champion.revision.number if champion.revision else None
        self._waiting.append(Loaded(forecast, pointer, revision, previous.version if previous else None))
        self._any.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._announce(), name="announcer")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _announce(self) -> None:
        pause = 0.5
        while True:
            await self._any.wait()
            self._any.clear()
            while self._waiting:
                one = self._waiting[0]
                try:
                    await asyncio.to_thread(self._append, one)
                except Exception as error:  # whatever the database says
                    log.warning(
                        "%s: what was loaded could not be announced yet: %s",
                        one.forecast,
                        type(error).__name__,
                    )
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    pause = 0.5
                    with contextlib.suppress(ValueError):  # it was given up meanwhile
                        self._waiting.remove(one)

    def _append(self, one: Loaded) -> None:
        with self._database().begin() as connection:
            announce_loaded(connection, *one)
