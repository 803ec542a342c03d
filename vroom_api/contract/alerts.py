"""Alerts: what somebody has to know, open from the first time it is seen until it is over.

Whoever finds something wrong raises an alert, each time; it is one row for each forecast, kind and subject, so
that it is sent once. Whoever finds that it is over resolves it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from vroom_api.contract.tables import alerts


class Severity(StrEnum):
    WARNING = "warning"  # somebody should see to it some day
    CRITICAL = "critical"  # now


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

    Args:
        forecast: its name; "" where it is about the whole system.
        message: what is wrong and what to do.

    Returns:
        whether it is a new one.
    """
    now = now or datetime.now(UTC)
    subject, evidence = subject[:200], dict(evidence or {})
    same = (alerts.c.forecast == forecast, alerts.c.kind == kind, alerts.c.subject == subject)
    again = (
        alerts.update()
        .where(*same, alerts.c.resolved_at.is_(None))
        .values(
            severity=severity.value,
            message=message,
            evidence=evidence,
            last_seen=now,
            times_seen=alerts.c.times_seen + 1,
        )
    )
    for _ in range(2):
        with engine.begin() as connection:
            if connection.execute(again).rowcount:
                return False
        try:
            with engine.begin() as connection:
                connection.execute(
                    alerts.insert().values(
                        forecast=forecast,
                        kind=kind,
                        subject=subject,
                        severity=severity.value,
                        message=message,
                        evidence=evidence,
                        first_seen=now,
                        last_seen=now,
                        times_seen=1,
                    )
                )
            return True
        except sa.exc.IntegrityError:  # somebody else has just opened it
            continue
    return False


def resolve_alert(
    engine: sa.Engine, *, forecast: str, kind: str, subject: str = "", now: datetime | None = None
) -> bool:
    """Close an alert that is over; whether there was one."""
    over = (
        alerts.update()
        .where(
            alerts.c.forecast == forecast,
            alerts.c.kind == kind,
            alerts.c.subject == subject[:200],
            alerts.c.resolved_at.is_(None),
        )
        .values(resolved_at=now or datetime.now(UTC))
    )
    with engine.begin() as connection:
        return bool(connection.execute(over).rowcount)
