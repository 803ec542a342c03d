"""Alerts, read: what is open, what was, and who has seen to it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.alerts import QUEUED, Severity, announce_alert
from vroom_api.contract.decoding import convert
from vroom_api.contract.tables import alerts, notifications

MAX_ALERTS = 500  # of a page


class UnknownAlert(LookupError):
    """There is no alert of that id."""


class Alert(msgspec.Struct, frozen=True):
    """What somebody has to know, from the first time that it was seen until it is over."""

    id: int
    forecast: str  # empty where it is about the whole system
    kind: str  # what is wrong, e.g. decay, stale, run_failed
    subject: str  # of what, within the kind; may be empty
    severity: Severity
    message: str  # what is wrong and what to do
    evidence: dict[str, Any]
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None  # null while it is open


class Alerts(msgspec.Struct, frozen=True):
    """A page of alerts, newest first; `next_before` asks for the page after it, null at the end."""

    alerts: list[Alert]
    next_before: int | None


class Wanted(msgspec.Struct, frozen=True):
    """Which alerts; what is None does not restrict."""

    forecast: str | None = None
    severity: Severity | None = None
    kind: str | None = None
    open_only: bool = True


def list_alerts(
    connection: sa.Connection, wanted: Wanted, limit: int, *, before: int | None = None
) -> Alerts:
    """A page of alerts."""
    query = sa.select(alerts).order_by(alerts.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(alerts.c.id < before)
    if wanted.forecast is not None:
        query = query.where(alerts.c.forecast == wanted.forecast)
    if wanted.severity is not None:
        query = query.where(alerts.c.severity == wanted.severity.value)
    if wanted.kind is not None:
        query = query.where(alerts.c.kind == wanted.kind)
    if wanted.open_only:
        query = query.where(alerts.c.resolved_at.is_(None))
    rows = connection.execute(query).mappings().all()
    found = [alert_of(row) for row in rows[:limit]]
    return Alerts(found, found[-1].id if len(rows) > limit else None)


def acknowledge(engine: sa.Engine, identifier: int, caller: str) -> Alert:
    """Note who sees to an alert; whoever was first stays.

    Raises:
        UnknownAlert: there is none of that id.
    """
    first = alerts.c.id == identifier, alerts.c.acknowledged_at.is_(None)
    with engine.begin() as connection:
        noted = connection.execute(
            alerts.update()
            .where(*first)
            .values(acknowledged_at=datetime.now(UTC), acknowledged_by=caller)
            .returning(alerts)
        ).first()
        if noted is not None:
            announce_alert(connection, noted, "acknowledged", by=caller)
        row = connection.execute(sa.select(alerts).where(alerts.c.id == identifier)).mappings().first()
    if row is None:
        raise UnknownAlert(f"there is no alert {identifier}; GET /alerts?which=all lists all")
    return alert_of(row)


def undelivered(connection: sa.Connection) -> int:
    """How many notifications receivers have not taken yet."""
    waiting = sa.and_(notifications.c.delivered_at.is_(None), notifications.c.receiver != QUEUED)
    return connection.scalar(sa.select(sa.func.count()).where(waiting)) or 0


def alert_of(row: Any) -> Alert:
    """An alert of a row of its table."""
    values = {name: row[name] for name in Alert.__struct_fields__}
    times = {name: aware(value) for name, value in values.items() if isinstance(value, datetime)}
    return convert(values | times, Alert)


def aware(moment: datetime) -> datetime:
    """SQLite forgets the zone; what is written is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
