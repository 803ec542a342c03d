"""The log of what happened, for those who listen: durable, and read again from any point.

Whoever changes something appends its event in the same transaction, so that neither is there without the other. Ids
ascend in the order in which events become visible: who has read up to an id has missed nothing below it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.tables import event_log

_PIECE = 10_000  # events that one transaction deletes
_appended: set[Callable[[], None]] = set()  # of this process
_LOCK = 86_767  # of Postgres: one transaction at a time takes ids, and is seen before the next one takes any


class Topic(StrEnum):
    """What an event is about."""

    MODEL = "model"
    ENTITIES = "entities"
    PIPELINES = "pipelines"
    ALERTS = "alerts"


class LoggedEvent(msgspec.Struct, frozen=True):
    """Something that happened."""

    id: int
    time: datetime  # UTC
    forecast: str  # empty where it is about the whole system
    topic: Topic
    name: str  # e.g. model-promoted
    data: dict[str, Any]


def append_event(
    connection: sa.Connection,
    *,
    forecast: str,
    topic: Topic,
    name: str,
    data: Mapping[str, Any],
    key: str | None = None,
) -> bool:
    """Append an event, in a transaction that somebody else began; at its end, because others wait for it from here on.

    Args:
        key: of what is to be in the log once, however many notice it.

    Returns:
        whether it is new.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if key is not None and connection.scalar(sa.select(event_log.c.id).where(event_log.c.key == key)):
            return False
    row = {"time": datetime.now(UTC), "forecast": forecast, "topic": topic.value, "name": name}
    insert = event_log.insert().prefix_with("OR IGNORE", dialect="sqlite")
    new = connection.execute(insert.values(**row, data=dict(data), key=key)).rowcount != 0
    if new:
        for callback in list(_appended):
            callback()
    return new


@contextmanager
def on_append(callback: Callable[[], None]) -> Iterator[None]:
    """Call somebody, in whatever thread, for every event that this process appends; it is committed soon after."""
    _appended.add(callback)
    try:
        yield
    finally:
        _appended.discard(callback)


def events_after(
    connection: sa.Connection,
    after: int,
    limit: int,
    *,
    topics: Collection[Topic] = (),
    forecast: str | None = None,
) -> list[LoggedEvent]:
    """The events that follow an id, oldest first.

    Args:
        topics: only these; empty for all.
        forecast: only those about it, and about the whole system.
    """
    query = sa.select(event_log).where(event_log.c.id > after).order_by(event_log.c.id).limit(limit)
    if topics:
        query = query.where(event_log.c.topic.in_([topic.value for topic in topics]))
    if forecast is not None:
        query = query.where(event_log.c.forecast.in_([forecast, ""]))
    return [
        LoggedEvent(
            row.id,
            row.time if row.time.tzinfo else row.time.replace(tzinfo=UTC),  # SQLite forgets the zone
            row.forecast,
            Topic(row.topic),
            row.name,
            row.data,
        )
        for row in connection.execute(query)
    ]


def newest_event(connection: sa.Connection) -> int:
    """The id of the newest event; 0 where there is none."""
    return connection.scalar(sa.select(sa.func.max(event_log.c.id))) or 0


def oldest_event(connection: sa.Connection) -> int:
    """The id of the oldest event that is kept; 0 where there is none."""
    return connection.scalar(sa.select(sa.func.min(event_log.c.id))) or 0


def forget_events(engine: sa.Engine, before: datetime) -> int:
    """Delete what happened before a time; how many events it were.

    The newest stays whatever its age, so that ids below it are known to have been there.
    """
    deleted = 0
    with engine.connect() as connection:
        newest = newest_event(connection)
        old = sa.select(sa.func.max(event_log.c.id)).where(event_log.c.time < before)
        last = min(connection.scalar(old) or 0, newest - 1)
        first = oldest_event(connection)
    while first <= last:
        upper = min(first + _PIECE - 1, last)
        with engine.begin() as connection:
            deleted += connection.execute(event_log.delete().where(event_log.c.id <= upper)).rowcount
        first = upper + 1
    return deleted
