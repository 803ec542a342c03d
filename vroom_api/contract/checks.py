"""Checks of the monitoring: what each found in each window, kept for good."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from vroom_api.contract.tables import checks


class Status(StrEnum):
    """What a check came to, from the best to the worst; unknown where there are too few rows."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ALARM = "alarm"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one window. What it is about is `name`, and `subject` within it, e.g. a feature or a segment."""

    forecast: str
    version: int  # of the champion that it is about
    name: str
    subject: str = ""
    window_start: datetime
    window_end: datetime
    rows: int
    status: Status
    values: dict[str, float] = {}
    message: str  # one sentence for a person


def enter_checks(connection: sa.Connection, found: Iterable[Check]) -> int:
    """Append checks in a transaction that somebody else began; those of a window that has them already are left out.

    Returns:
        how many were new.
    """
    new = 0
    for check in found:
        known = connection.scalar(
            sa.select(checks.c.id).where(
                checks.c.forecast == check.forecast,
                checks.c.version == check.version,
                checks.c.name == check.name,
                checks.c.subject == check.subject,
                checks.c.window_end == check.window_end,
            )
        )
        if known is None:
            row = {name: getattr(check, name) for name in check.__struct_fields__}
            connection.execute(checks.insert().values(time=datetime.now(UTC), **row))
            new += 1
    return new
