"""Alerts: what somebody has to know, open from the first time it is seen until it is over.

Whoever finds something wrong raises an alert, at every check; it is one row for each forecast, kind and subject, so
that it is sent once. Whoever finds that it is over resolves it. What changes is queued for the service, which sends
it, in the transaction of the change: whoever raises an alert need not know who receives it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.tables import alerts, notifications

QUEUED: Final = ""  # the receiver of a change that the service has not yet addressed
# Kinds that one part of the system raises and another resolves.
DECLARATION: Final = "declaration"  # it cannot be loaded
RUN_FAILED: Final = "run_failed"
REQUESTED: Final = "requested"  # evidence of a failed run: the version that automation wanted of it, or ""
_ATTEMPTS = 5  # to be first, or to find whoever was
_MAX_SUBJECT = 200


class Severity(StrEnum):
    WARNING = "warning"  # somebody should see to it some day
    CRITICAL = "critical"  # now


class Change(StrEnum):
    """What receivers are notified of."""

    OPENED = "opened"
    WORSE = "worse"  # a warning has become critical
    RESOLVED = "resolved"


def raise_alert(
    engine: sa.Engine,
    *,
    forecast: str,
    kind: str,
    severity: Severity,
    message: str,
    subject: str = "",
    evidence: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> bool:
    """Open an alert, or note that an open one was seen again.

    An open alert becomes worse and never better: it stays critical until it is over.

    Args:
        forecast: its name; "" where it is about the whole system.
        message: what is wrong and what to do.
        subject: of what, within the kind; cut to 200 characters.
        evidence: names and values that JSON has.

    Returns:
        whether it is a new one.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer.
    """
    now = now or datetime.now(UTC)
    key = {"forecast": forecast, "kind": kind, "subject": subject[:_MAX_SUBJECT]}
    seen = {"message": message, "evidence": dict(evidence or {}), "last_seen": now}
    for _ in range(_ATTEMPTS):
        if _see_again(engine, key, severity, seen, now):
            return False
        try:
            with engine.begin() as connection:
                first = {"severity": severity.value, "first_seen": now, "times_seen": 1}
                insert = alerts.insert().values(**key, **first, **seen).returning(alerts)
                _queue(connection, connection.execute(insert).one(), Change.OPENED, now)
            return True
        except sa.exc.IntegrityError:  # somebody else has just opened it
            continue
    return False


def resolve_alert(
    engine: sa.Engine, *, forecast: str, kind: str, subject: str = "", now: datetime | None = None
) -> bool:
    """Close an alert that is over; whether there was one.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer.
    """
    now = now or datetime.now(UTC)
    over = (
        alerts.update()
        .where(*_open(forecast, kind, subject[:_MAX_SUBJECT]))
        .values(resolved_at=now)
        .returning(alerts)
    )
    with engine.begin() as connection:
        closed = connection.execute(over).first()
        if closed is not None:
            _queue(connection, closed, Change.RESOLVED, now)
    return closed is not None


def _see_again(
    engine: sa.Engine, key: Mapping[str, str], severity: Severity, seen: Mapping[str, Any], now: datetime
) -> bool:
    """Note that an alert is still there; False where none is open."""
    same = _open(**key)
    again = alerts.update().values(**seen, times_seen=alerts.c.times_seen + 1).returning(alerts)
    milder = alerts.c.severity != severity.value
    with engine.begin() as connection:
        if severity is Severity.CRITICAL:
            worse = again.where(*same, milder).values(severity=severity.value)
            changed = connection.execute(worse).first()
            if changed is not None:
                _queue(connection, changed, Change.WORSE, now)
                return True
        return connection.execute(again.where(*same)).first() is not None


def _open(forecast: str, kind: str, subject: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        alerts.c.forecast == forecast,
        alerts.c.kind == kind,
        alerts.c.subject == subject,
        alerts.c.resolved_at.is_(None),
    )


def _queue(connection: sa.Connection, alert: Any, change: Change, now: datetime) -> None:
    """Have receivers notified of a change, and those who listen."""
    row = {"alert_id": alert.id, "change": change.value, "receiver": QUEUED, "attempts": 0}
    connection.execute(notifications.insert().values(**row, next_attempt_at=now))
    announce_alert(connection, alert, change.value)


def announce_alert(connection: sa.Connection, alert: Any, change: str, **data: str) -> None:
    """Append the event of a change of an alert.

    Args:
        alert: its row.
    """
    fields = {name: getattr(alert, name) for name in ("id", "kind", "subject", "severity", "message")}
    append_event(
        connection, forecast=alert.forecast, topic=Topic.ALERTS, name=f"alert-{change}", data=fields | data
    )
