"""The durable log of what happened: read in order, by whoever listens, with nothing missing below what was read."""

import threading

import sqlalchemy as sa

from tests.support import databases
from vroom_api.contract.event_log import Topic, append_event, events_after, newest_event

url, engine = databases.url, databases.engine


def append(engine: sa.Engine, number: int = 0, *, topic: Topic = Topic.MODEL, **given: str) -> bool:
    plain = {"forecast": "vans", "name": "model-promoted"}
    with engine.begin() as connection:
        return append_event(connection, topic=topic, data={"number": number}, **plain | given)


def numbers(engine: sa.Engine, after: int = 0, limit: int = 1_000, **given: object) -> list[int]:
    with engine.connect() as connection:
        return [event.data["number"] for event in events_after(connection, after, limit, **given)]  # type: ignore[arg-type]


def test_events_follow_each_other_from_any_point(engine: sa.Engine) -> None:
    for number in range(5):
        assert append(engine, number) is True
    with engine.connect() as connection:
        found = events_after(connection, 0, 3)
        newest = newest_event(connection)
    assert [event.data["number"] for event in found] == [0, 1, 2]
    assert all(event.time.tzinfo is not None for event in found)
    assert numbers(engine, after=found[-1].id) == [3, 4]
    assert numbers(engine, after=newest) == []


def test_a_listener_may_name_topics_and_a_forecast(engine: sa.Engine) -> None:
    append(engine, 1, topic=Topic.MODEL)
    append(engine, 2, topic=Topic.ALERTS, forecast="")
    append(engine, 3, topic=Topic.ALERTS, forecast="cars")
    assert numbers(engine, topics=[Topic.ALERTS]) == [2, 3]
    assert numbers(engine, forecast="vans") == [1, 2]


def test_what_has_a_key_is_in_the_log_once(engine: sa.Engine) -> None:
    assert append(engine, 1, key="loaded 7") is True
    assert append(engine, 2, key="loaded 7") is False
    assert append(engine, 3, key="loaded 8") is True
    assert numbers(engine) == [1, 3]


def test_nothing_appears_below_what_was_read(engine: sa.Engine) -> None:
    """Writers of several connections, and a reader that asks after the latest id that it has seen."""
    writers = [
        threading.Thread(target=lambda own=own: [append(engine, own * 100 + at) for at in range(25)])
        for own in range(4)
    ]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while True:
        alive = any(writer.is_alive() for writer in writers)
        with engine.connect() as connection:
            seen += [event.id for event in events_after(connection, seen[-1] if seen else 0, 1_000)]
        if not alive:
            break
    assert len(seen) == 100
    assert seen == sorted(set(seen))
    assert len(numbers(engine)) == 100
