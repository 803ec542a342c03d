"""The log of what happened, for those who listen: durable, and read again from any point.

Whoever changes something appends its event in the same transaction, so that neither is there without the other. Ids
ascend in the order in which events become visible: who has read up to an id has missed nothing below it.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.tables import event_log

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
    return connection.execute(insert.values(**row, data=dict(data), key=key)).rowcount != 0


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
