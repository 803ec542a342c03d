"""The log of events, followed for all who listen to this process.

The log is read once for all of them, and by nobody while nobody listens. A listener knows up to which id it has read,
and nothing else is remembered of it: whoever was away, or is slow, reads the log itself until the latest events, which
are in memory, go as far back as that. So an event reaches each listener once and in order, whichever process wrote it.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from vroom_api.contract.event_log import (
    LoggedEvent,
    Topic,
    events_after,
    forget_events,
    newest_event,
    oldest_event,
    on_append,
)
from vroom_api.contract.tables import Database, alerts

log = logging.getLogger(__name__)

KEEP_ALIVE: Final = 15.0  # seconds without anything, after which a sign of life is sent
PAGE: Final = 500  # events that are read at once
RECENT: Final = 2_000  # events in memory
SOON: Final = 0.005  # seconds from an event of this process, which is not committed yet, to the next reading
AGAIN: Final = 1.0  # seconds until a database that does not answer is asked again
FORGET_EVERY: Final = 3_600.0  # seconds


class TooManyListeners(Exception):
    """As many listen as this process allows; or it is about to stop."""


class Message(NamedTuple):
    """What a listener receives: an event of the log, which has an id, or how things are."""

    name: str
    data: Mapping[str, Any]
    id: int | None = None


class Wanted(NamedTuple):
    """Which events; what is empty does not restrict."""

    topics: frozenset[Topic] = frozenset()
    forecast: str | None = None

    def includes(self, topic: Topic, forecast: str) -> bool:
        return (not self.topics or topic in self.topics) and (
            self.forecast is None or forecast in (self.forecast, "")
        )


class Start(NamedTuple):
    """Where a listener begins: after which id, what it has missed for good, and how many alerts are open then."""

    position: int
    newest: int  # in the log then
    gap: Mapping[str, Any] | None
    open_alerts: int


class Listener:
    """Somebody who listens, and how far that is."""

    __slots__ = ("ended", "epoch", "key", "known", "news", "position", "states", "wanted")

    def __init__(self, start: Start, wanted: Wanted, key: str, epoch: int) -> None:
        self.position = start.position  # the id up to which nothing is missing
        self.known = start.newest  # an id that there is
        self.wanted = wanted
        self.key = key  # the id of its API key
        self.epoch = epoch  # of the log that its position belongs to
        self.states: dict[str, Message] = {}  # as they were sent, by forecast
        self.news = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.news.set()


class EventFeed:
    """The events of one process, as long as `open` is.

    Args:
        states: how the forecasts are, by name; sent at first and whenever it changes.
        seconds: between two readings of the log; what this process appends is read at once.
        capacity: listeners at a time.
        keep_days: that events are kept.
        admits: whether an API key, by its id, is still valid.
    """

    def __init__(
        self,
        database: Database,
        states: Callable[[], Mapping[str, Message]],
        *,
        seconds: float,
        capacity: int,
        keep_days: float,
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.capacity = capacity
        self._database = database
        self._states_now = states
        self._seconds = seconds
        self._keep = timedelta(days=keep_days)
        self._admits = admits
        self._listeners: set[Listener] = set()
        self._recent: deque[LoggedEvent] = deque()
        self._covered: int | None = (
            None  # all that is newer than this id is in `_recent`; None while nobody listens
        )
        self._newest = 0
        self._epoch = 0
        self._states: Mapping[str, Message] = {}
        self._trouble = ""
        self._closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._listeners)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Follow the log in the background."""
        self._loop = asyncio.get_running_loop()
        self._woken, self._joined = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(work, name="events") for work in (self._follow(), self._forget())]
        with on_append(self._wake):
            try:
                yield
            finally:
                self.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """End all listeners, and take no more: the process is about to stop. On the event loop."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    async def start(self, after: int | None) -> Start:
        """Where to begin.

        Args:
            after: the id of the latest event that the listener has; None for what comes from now on.

        Raises:
            TooManyListeners: there is no room.
            sqlalchemy.exc.SQLAlchemyError, UnusableDatabase: the database does not answer.
        """
        if self._closed:
            raise TooManyListeners("this service is about to stop")
        if len(self._listeners) >= self.capacity:
            raise TooManyListeners(f"{self.capacity} listen already")
        return await asyncio.to_thread(self._start, after)

    def _start(self, after: int | None) -> Start:
        with self._database().connect() as connection:
            newest, oldest = newest_event(connection), oldest_event(connection)
            still_open = sa.select(sa.func.count()).where(alerts.c.resolved_at.is_(None))
            open_alerts = connection.scalar(still_open) or 0
        if after is None:
            return Start(newest, newest, None, open_alerts)
        if after > newest:
            missing = _gap(after, oldest, newest, "the log is younger than this id")
            return Start(newest, newest, missing, open_alerts)
        if after < oldest - 1:
            missing = _gap(after, oldest, newest, "older events are not kept")
            return Start(oldest - 1, newest, missing, open_alerts)
        return Start(after, newest, None, open_alerts)

    async def messages(
        self, start: Start, wanted: Wanted, *, key: str = "", wait: float | None = None
    ) -> AsyncIterator[Message | None]:
        """What a listener receives, first how things are; None is a sign of life.

        Args:
            key: the id of its API key.
            wait: seconds after which it ends, once nothing more is there; None for ever.
        """
        listener = Listener(start, wanted, key, self._epoch)
        self._listeners.add(listener)
        self._joined.set()
        until = None if wait is None else time.monotonic() + wait
        try:
            for message in self._first(start, listener):
                yield message
            while not listener.ended:
                listener.news.clear()
                before = listener.position
                for message in await self._news_of(listener):
                    yield message
                if listener.position == before and not await self._wait(listener, until):
                    if until is not None and time.monotonic() >= until:
                        return
                    yield None
        finally:
            self._listeners.discard(listener)

    async def _wait(self, listener: Listener, until: float | None) -> bool:
        """Wait for news; whether there are any."""
        seconds = AGAIN if self._trouble else KEEP_ALIVE
        if until is not None:
            seconds = min(seconds, max(until - time.monotonic(), 0.0))
        try:
            async with asyncio.timeout(seconds):
                await listener.news.wait()
        except TimeoutError:
            return False
        return True

    def _first(self, start: Start, listener: Listener) -> Iterable[Message]:
        """How things are, for whoever begins; the first message says from where on nothing is missing."""
        yield Message("connected", {"after": start.position}, start.position)
        if start.gap is not None:
            yield Message("gap", start.gap)
        yield from self._changed_states(listener)
        if listener.wanted.includes(Topic.ALERTS, ""):
            yield Message("alerts-open", {"open": start.open_alerts})

    def _changed_states(self, listener: Listener) -> Iterable[Message]:
        for forecast, state in self._states_now().items():
            if listener.wanted.includes(Topic.MODEL, forecast) and listener.states.get(forecast) != state:
                listener.states[forecast] = state
                yield state

    async def _news_of(self, listener: Listener) -> list[Message]:
        """What a listener does not have yet, a page of it at most; its position moves over it."""
        found: list[Message] = []
        if listener.epoch != self._epoch:  # another file has the name of the database
            missing = _gap(listener.position, 0, self._newest, "the log was replaced")
            listener.epoch, listener.position, listener.known = self._epoch, self._newest, self._newest
            found.append(Message("gap", missing))
        found += self._changed_states(listener)
        if self._remembers(listener):
            events = []
            for event in reversed(self._recent):
                if event.id <= listener.position:
                    break
                if listener.wanted.includes(event.topic, event.forecast):
                    events.append(event)
            listener.position = max(listener.position, self._newest)
            return [*found, *map(_message, reversed(events))]
        try:
            events, listener.position = await asyncio.to_thread(
                self._page, listener.position, listener.wanted
            )
        except Exception as error:  # whatever the database says; it is asked again
            self._report(error)
            return found
        return [*found, *map(_message, events)]

    def _remembers(self, listener: Listener) -> bool:
        """Whether all that a listener does not have yet is in memory."""
        if self._covered is None or self._newest < listener.known:
            return False
        return listener.position >= self._covered

    def _page(self, position: int, wanted: Wanted) -> tuple[list[LoggedEvent], int]:
        """Events that follow a position, and up to where there are no others."""
        with self._database().connect() as connection:
            newest = newest_event(connection)  # first, so that what comes meanwhile is not passed over
            events = events_after(connection, position, PAGE, topics=wanted.topics, forecast=wanted.forecast)
        last = events[-1].id if events else position
        return events, last if len(events) == PAGE else max(last, newest)

    async def _follow(self) -> None:
        delay = self._seconds
        while True:
            if not self._listeners:
                self._joined.clear()
                self._covered = None
                self._recent.clear()
                await self._joined.wait()
            try:
                found = await asyncio.to_thread(self._read)
            except Exception as error:  # whatever it is, the next reading tries again
                self._report(error)
            else:
                self._trouble = ""
                delay = self._seconds if self._take(*found) else min(2 * delay, self._seconds)
            self._check_listeners()
            if await self._sleep(delay):
                delay = SOON
                await asyncio.sleep(SOON)

    def _read(self) -> tuple[int, list[LoggedEvent]]:
        """The newest id, and the events that are not in memory."""
        with self._database().connect() as connection:
            newest = newest_event(connection)
            known = self._newest if self._covered is not None else newest
            return newest, events_after(connection, known, PAGE) if newest > known else []

    def _take(self, newest: int, events: list[LoggedEvent]) -> bool:
        """Remember what was read, and tell the listeners; whether anything is new."""
        if self._covered is None:
            self._covered = self._newest = newest
        elif newest < self._newest:
            self._epoch += 1
            self._recent.clear()
            self._covered = self._newest = newest
        elif events:
            self._recent += events
            self._newest = events[-1].id
            while len(self._recent) > RECENT:
                self._covered = self._recent.popleft().id
        else:
            return False
        for listener in self._listeners:
            listener.news.set()
        return True

    def _check_listeners(self) -> None:
        """End those whose key is not valid any more, and tell the others how things are now."""
        states = self._states_now()
        changed, self._states = states != self._states, states
        for listener in self._listeners:
            if not self._admits(listener.key):
                listener.end()
            elif changed:
                listener.news.set()

    async def _sleep(self, seconds: float) -> bool:
        """Wait until the next reading; whether somebody in this process has appended an event."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _forget(self) -> None:
        while True:
            try:
                await asyncio.to_thread(
                    lambda: forget_events(self._database(), datetime.now(UTC) - self._keep)
                )
            except Exception as error:
                self._report(error)
            await asyncio.sleep(FORGET_EVERY)

    def _report(self, error: Exception) -> None:
        """Log a failure, once for as long as it stays the same."""
        reason = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
        if reason != self._trouble:
            self._trouble = reason
            log.warning("events: the log cannot be read, tried again: %s", reason)


def _gap(after: int, oldest: int, newest: int, reason: str) -> Mapping[str, Any]:
    return {"after": after, "oldest": oldest, "newest": newest, "reason": f"{reason}; events may be missing"}


def _message(event: LoggedEvent) -> Message:
    """An event as listeners receive it."""
    head = {"forecast": event.forecast, "topic": event.topic.value, "time": event.time.isoformat()}
    return Message(event.name, head | event.data, event.id)
