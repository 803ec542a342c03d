"""Every event reaches every listener once and in order, whoever wrote it and however often the listener was away."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support import databases
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.event_log import Topic, append_event, forget_events, newest_event
from vroom_api.contract.tables import event_log, open_database
from vroom_api.feed import following
from vroom_api.feed.following import EventFeed, Message, TooManyListeners, Wanted

EVERYTHING = Wanted()
OK = {"vans": Message("health-changed", {"forecast": "vans", "version": 1})}


url, engine = databases.url, databases.engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    yield engine
    engine.dispose()


def append(engine: sa.Engine, *numbers: int, topic: Topic = Topic.ENTITIES, forecast: str = "vans") -> None:
    """Some events, in one transaction."""
    with engine.begin() as connection:
        for number in numbers:
            append_event(
                connection, forecast=forecast, topic=topic, name="van-saved", data={"number": number}
            )


def feed_of(engine: sa.Engine, **given: Any) -> EventFeed:
    plain: dict[str, Any] = {
        "database": lambda: engine,
        "states": lambda: OK,
        "seconds": 0.02,
        "capacity": 10,
        "keep_days": 30.0,
    }
    return EventFeed(**plain | given)


@asynccontextmanager
async def listening(
    feed: EventFeed, after: int | None = None, wanted: Wanted = EVERYTHING, **given: Any
) -> AsyncIterator[AsyncIterator[Message | None]]:
    async with aclosing(feed.messages(await feed.start(after), wanted, **given)) as messages:  # type: ignore[type-var]
        yield messages


async def now(feed: EventFeed, after: int | None = None, wanted: Wanted = EVERYTHING) -> list[Message]:
    """What there is now."""
    async with listening(feed, after, wanted, wait=0) as messages:
        return [message async for message in messages if message is not None]


async def logged(messages: AsyncIterator[Message | None], count: int) -> list[int]:
    """The numbers of the next events of the log."""
    found: list[int] = []
    async for message in messages:
        if message is not None and "number" in message.data:
            found.append(message.data["number"])
            if len(found) == count:
                break
    return found


def run(feed: EventFeed, scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with feed.open():
            return await asyncio.wait_for(scenario(), 60)

    return asyncio.run(opened())


def numbers(messages: list[Message]) -> list[int]:
    return [message.data["number"] for message in messages if "number" in message.data]


def test_it_ends_also_in_the_moment_in_which_it_is_woken(sqlite: sa.Engine) -> None:
    feed = feed_of(sqlite, seconds=60.0)

    async def scenario() -> None:
        async with feed.open(), listening(feed) as messages:
            await anext(messages)
            await asyncio.sleep(0.3)  # until it has read, and waits
            append(sqlite, 1)  # on this thread, so that it is woken in the next turn of the loop
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_over_a_thousand_events_and_twenty_disconnects_each_comes_once_and_in_order(
    engine: sa.Engine,
) -> None:
    """From two processes' feeds in turn, while others write."""
    rng = random.Random(5)
    feeds = [feed_of(engine), feed_of(engine)]

    def write() -> None:
        for first in range(0, 1_000, 5):
            append(engine, *range(first, first + 5))

    async def listen() -> list[int]:
        found: list[int] = []
        last = 0
        for turn in range(21):
            goal = 1_000 if turn == 20 else len(found) + rng.randint(1, 90) if turn % 3 else len(found) + 1
            async with listening(feeds[turn % 2], last) as messages:
                async for message in messages:
                    if message is None or message.name != "van-saved":
                        assert message is None or message.name != "gap"
                        continue
                    found.append(message.data["number"])
                    last = message.id or 0
                    if len(found) >= min(goal, 1_000):
                        break
        return found

    async def scenario() -> list[int]:
        async with feeds[0].open(), feeds[1].open():
            writer = threading.Thread(target=write)
            writer.start()
            found = await asyncio.wait_for(listen(), 60)
            await asyncio.to_thread(writer.join)
            return found

    assert asyncio.run(scenario()) == list(range(1_000))
    assert [len(feed) for feed in feeds] == [0, 0]


def test_whoever_begins_hears_first_how_things_are(sqlite: sa.Engine) -> None:
    raise_alert(sqlite, forecast="vans", kind="drift", severity=Severity.WARNING, message="moved")
    feed = feed_of(sqlite)
    assert run(feed, lambda: now(feed)) == [
        Message("connected", {"after": 1}, 1),
        OK["vans"],
        Message("alerts-open", {"open": 1}),
    ]
    about_vans = Wanted(frozenset([Topic.ENTITIES]), "vans")
    other = feed_of(sqlite)
    assert run(other, lambda: now(other, wanted=about_vans)) == [Message("connected", {"after": 1}, 1)]


def test_what_is_connected_to_is_resumed_from_also_before_the_first_event(sqlite: sa.Engine) -> None:
    append(sqlite, 1)
    feed = feed_of(sqlite)

    async def scenario() -> list[int]:
        (connected, *_) = await now(feed)
        append(sqlite, 2)
        return numbers(await now(feed, connected.id))

    assert run(feed, scenario) == [2]


def test_a_listener_may_want_some_topics_of_one_forecast(engine: sa.Engine) -> None:
    append(engine, 1)
    append(engine, 2, topic=Topic.MODEL)
    append(engine, 3, forecast="cars")
    append(engine, 4, topic=Topic.ALERTS, forecast="")
    feed = feed_of(engine)
    some = frozenset([Topic.ENTITIES, Topic.ALERTS])

    async def scenario() -> tuple[list[int], list[int], list[int]]:
        past = numbers(await now(feed, 0, Wanted(some, "vans")))
        async with listening(feed, None, Wanted(some, "vans")) as messages:
            task = asyncio.create_task(logged(messages, 2))
            await asyncio.sleep(0.1)
            for topic, forecast, number in (
                (Topic.MODEL, "vans", 5),
                (Topic.ENTITIES, "vans", 6),
                (Topic.ENTITIES, "cars", 7),
                (Topic.ALERTS, "", 8),
            ):
                append(engine, number, topic=topic, forecast=forecast)
            return past, await task, numbers(await now(feed, 0, Wanted(frozenset(), "cars")))

    assert run(feed, scenario) == ([1, 4], [6, 8], [3, 4, 7, 8])


def test_what_this_process_appends_is_heard_at_once(sqlite: sa.Engine) -> None:
    feed = feed_of(sqlite, seconds=30.0)

    async def scenario() -> float:
        async with listening(feed) as messages:
            task = asyncio.create_task(logged(messages, 1))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await asyncio.to_thread(append, sqlite, 1)
            await task
            return time.monotonic() - began

    assert run(feed, scenario) < 2.0


def test_whoever_is_slow_reads_the_log_itself(sqlite: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RECENT", 10)
    monkeypatch.setattr(following, "PAGE", 7)
    feed = feed_of(sqlite)

    async def scenario() -> list[int]:
        async with listening(feed) as slow, listening(feed) as quick:
            first = asyncio.create_task(logged(slow, 1))
            others = asyncio.create_task(logged(quick, 100))
            await asyncio.sleep(0.1)
            for number in range(100):
                append(sqlite, number)
            found = await first
            assert await others == list(range(100))
            return found + await logged(slow, 99)

    assert run(feed, scenario) == list(range(100))


def test_nobody_reads_while_nobody_listens(sqlite: sa.Engine) -> None:
    asked: list[float] = []

    def database() -> sa.Engine:
        asked.append(time.monotonic())
        return sqlite

    feed = feed_of(sqlite, database=database)

    async def scenario() -> int:
        await now(feed)
        await asyncio.sleep(0.2)
        before = len(asked)
        await asyncio.sleep(0.3)
        return len(asked) - before

    assert run(feed, scenario) == 0


def test_one_reading_serves_all_listeners(sqlite: sa.Engine) -> None:
    asked: list[int] = []

    def database() -> sa.Engine:
        asked.append(1)
        return sqlite

    feed = feed_of(sqlite, database=database, seconds=0.1)

    async def listen() -> None:
        async with listening(feed) as messages:
            await logged(messages, 1)

    async def scenario() -> int:
        tasks = [asyncio.create_task(listen()) for _ in range(10)]
        await asyncio.sleep(0.5)
        before = len(asked)
        await asyncio.sleep(1.0)
        read = len(asked) - before
        append(sqlite, 1)
        await asyncio.gather(*tasks)
        return read

    assert run(feed, scenario) <= 12


def test_what_is_not_kept_any_more_is_a_gap(engine: sa.Engine) -> None:
    append(engine, *range(5))
    with engine.begin() as connection:
        old = datetime.now(UTC) - timedelta(days=31)
        connection.execute(event_log.update().where(event_log.c.id <= 3).values(time=old))
    assert forget_events(engine, datetime.now(UTC) - timedelta(days=30)) == 3
    feed = feed_of(engine)
    found = run(feed, lambda: now(feed, 1))
    assert [message.name for message in found] == [
        "connected",
        "gap",
        "health-changed",
        "alerts-open",
        "van-saved",
        "van-saved",
    ]
    assert found[1].data["after"], found[1].data["oldest"] == (1, 4)
    assert numbers(found) == [3, 4]
    feed = feed_of(engine)
    assert "gap" not in [message.name for message in run(feed, lambda: now(feed, 3))]


def test_the_newest_event_is_kept_whatever_its_age(engine: sa.Engine) -> None:
    append(engine, *range(5))
    assert forget_events(engine, datetime.now(UTC) + timedelta(days=1)) == 4
    with engine.connect() as connection:
        assert newest_event(connection) == 5
    assert forget_events(engine, datetime.now(UTC) + timedelta(days=1)) == 0


def test_old_events_are_forgotten_in_the_background(sqlite: sa.Engine) -> None:
    append(sqlite, *range(5))
    with sqlite.begin() as connection:
        connection.execute(event_log.update().values(time=datetime.now(UTC) - timedelta(days=2)))
    feed = feed_of(sqlite, keep_days=1.0)

    async def scenario() -> int:
        for _ in range(100):
            with sqlite.connect() as connection:
                left = connection.scalar(sa.select(sa.func.count()).select_from(event_log)) or 0
            if left == 1:
                break
            await asyncio.sleep(0.05)
        return left

    assert run(feed, scenario) == 1


def test_an_id_that_the_log_never_had_is_a_gap(sqlite: sa.Engine) -> None:
    append(sqlite, 1, 2)
    feed = feed_of(sqlite)
    connected, gap, *_ = run(feed, lambda: now(feed, 700))
    assert (connected.id, gap.name, gap.data["newest"]) == (2, "gap", 2)
    assert gap.data["reason"].startswith("the log is younger than this id")


def test_a_database_that_is_replaced_is_a_gap_and_followed(sqlite: sa.Engine, tmp_path: Path) -> None:
    append(sqlite, *range(50))
    other = open_database(f"sqlite:///{tmp_path / 'other.db'}")
    present = [sqlite]
    feed = feed_of(sqlite, database=lambda: present[0])

    async def scenario() -> list[str]:
        names: list[str] = []
        async with listening(feed) as messages:
            async for message in messages:
                if message is not None:
                    names.append(message.name)
                if names[-1:] == ["alerts-open"]:
                    await asyncio.sleep(0.2)
                    present[0] = other
                elif names[-1:] == ["gap"]:
                    append(other, 1)
                elif names[-1:] == ["van-saved"]:
                    break
        return names

    assert run(feed, scenario)[-2:] == ["gap", "van-saved"]
    other.dispose()


def test_a_database_that_is_away_for_a_while_loses_nothing(
    sqlite: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AGAIN", 0.05)
    away: list[bool] = []

    def database() -> sa.Engine:
        if away:
            raise sa.exc.OperationalError("", {}, Exception("it is away"))
        return sqlite

    feed = feed_of(sqlite, database=database)

    async def scenario() -> list[int]:
        async with listening(feed) as messages:
            task = asyncio.create_task(logged(messages, 2))
            await asyncio.sleep(0.1)
            away.append(True)
            append(sqlite, 1)
            await asyncio.sleep(0.3)
            away.clear()
            append(sqlite, 2)
            return await task

    assert run(feed, scenario) == [1, 2]


def test_a_state_that_changes_is_heard_without_an_event(sqlite: sa.Engine) -> None:
    states = dict(OK)
    feed = feed_of(sqlite, states=lambda: states)

    async def scenario() -> list[int]:
        versions: list[int] = []
        async with listening(feed) as messages:
            async for message in messages:
                if message is not None and message.name == "health-changed":
                    versions.append(message.data["version"])
                    if len(versions) == 2:
                        break
                    states["vans"] = Message("health-changed", {"forecast": "vans", "version": 2})
        return versions

    assert run(feed, scenario) == [1, 2]


def test_a_quiet_stream_shows_that_it_is_alive(sqlite: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "KEEP_ALIVE", 0.05)
    feed = feed_of(sqlite)

    async def scenario() -> int:
        async with listening(feed, wait=0.5) as messages:
            return [message async for message in messages].count(None)

    assert run(feed, scenario) > 3


def test_a_key_that_is_revoked_ends_its_listeners_and_no_others(sqlite: sa.Engine) -> None:
    valid = {"a", "b"}
    feed = feed_of(sqlite, admits=lambda key: key in valid)

    async def listen(key: str) -> None:
        async with listening(feed, key=key) as messages:
            async for _ in messages:
                pass

    async def scenario() -> tuple[bool, bool]:
        first, second = (asyncio.create_task(listen(key)) for key in ("a", "b"))
        await asyncio.sleep(0.1)
        valid.discard("a")
        await asyncio.wait_for(first, 5)
        ended = first.done(), second.done()
        feed.close()
        await asyncio.wait_for(second, 5)
        return ended

    assert run(feed, scenario) == (True, False)


def test_no_more_listen_than_there_is_room_for_and_none_at_the_end(sqlite: sa.Engine) -> None:
    feed = feed_of(sqlite, capacity=1)

    async def scenario() -> None:
        async with listening(feed) as messages:
            await anext(messages)
            with pytest.raises(TooManyListeners, match="1 listen already"):
                await feed.start(None)
        await now(feed)
        feed.close()
        with pytest.raises(TooManyListeners, match="about to stop"):
            await feed.start(None)

    run(feed, scenario)


def test_alerts_are_heard_of_once_for_each_change(engine: sa.Engine) -> None:
    alert = {"forecast": "vans", "kind": "drift", "message": "prices moved"}
    raise_alert(engine, severity=Severity.WARNING, **alert)  # type: ignore[arg-type]
    raise_alert(engine, severity=Severity.WARNING, **alert)  # type: ignore[arg-type]
    raise_alert(engine, severity=Severity.CRITICAL, **alert)  # type: ignore[arg-type]
    resolve_alert(engine, forecast="vans", kind="drift")
    resolve_alert(engine, forecast="vans", kind="drift")
    feed = feed_of(engine)
    found = run(feed, lambda: now(feed, 0, Wanted(frozenset([Topic.ALERTS]))))[2:]
    assert [(one.name, one.data["severity"]) for one in found] == [
        ("alert-opened", "warning"),
        ("alert-worse", "critical"),
        ("alert-resolved", "critical"),
    ]
    assert {one.data["message"] for one in found} == {"prices moved"}
