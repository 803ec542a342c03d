"""What the monitoring found, read: the verdict on each forecast, and each check that it made."""

import contextlib
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.checks import Status
from vroom_api.contract.decoding import convert
from vroom_api.contract.events import Evaluated, Event, evidence_of
from vroom_api.contract.tables import checks, ledger
from vroom_api.record.alerts import Alert, aware

MAX_CHECKS = 500  # of a page
_NEWEST = 20  # entries of one event, among which one has the evidence that is asked for


class MadeCheck(msgspec.Struct, frozen=True):
    """One check of one window."""

    id: int
    time: datetime  # when it was made
    forecast: str
    version: int  # of the champion that it is about
    name: str  # which check, e.g. error, coverage, feature
    subject: str  # e.g. a feature or a segment; may be empty
    window_start: datetime
    window_end: datetime
    rows: int
    status: Status
    values: dict[str, float | None]
    message: str


class Checks(msgspec.Struct, frozen=True):
    """A page of checks, newest first; `next_before` asks for the page after it, null at the end."""

    checks: list[MadeCheck]
    next_before: int | None


class LiveVerdict(msgspec.Struct, frozen=True):
    """The state of a champion by its live predictions and outcomes."""

    verdict: str  # e.g. healthy, data drift, concept drift, decay, miscalibrated, not enough data
    sentence: str  # why, for people
    harmful: bool  # whether a training is called for
    damage: float | None  # estimated growth of the error by drift, as a share of it
    version: int  # of the champion that it is about
    window_end: str
    decided_at: datetime
    numbers: dict[str, float]


class MonitoringState(msgspec.Struct, frozen=True):
    """What the monitoring says of a forecast now."""

    forecast: str
    version: int | None  # that serves
    verdict: LiveVerdict | None  # null before the first window has closed
    checks: list[MadeCheck]  # the latest of each name and subject, of the version that serves
    alerts: list[Alert]  # that are open, newest first


class WantedChecks(msgspec.Struct, frozen=True):
    """Which checks; what is None does not restrict. By the end of the window: `start` is inclusive, `end` exclusive."""

    forecast: str
    name: str | None = None
    subject: str | None = None
    version: int | None = None
    status: Status | None = None
    start: datetime | None = None
    end: datetime | None = None


def list_checks(
    connection: sa.Connection, wanted: WantedChecks, limit: int, *, before: int | None = None
) -> Checks:
    """A page of the history."""
    query = sa.select(checks).where(checks.c.forecast == wanted.forecast)
    for column in ("name", "subject", "version", "status"):
        if (value := getattr(wanted, column)) is not None:
            query = query.where(checks.c[column] == value)
    if wanted.start is not None:
        query = query.where(checks.c.window_end >= wanted.start)
    if wanted.end is not None:
        query = query.where(checks.c.window_end < wanted.end)
    if before is not None:
        query = query.where(checks.c.id < before)
    rows = connection.execute(query.order_by(checks.c.id.desc()).limit(limit + 1)).mappings().all()
    found = [_check_of(row) for row in rows[:limit]]
    return Checks(found, found[-1].id if len(rows) > limit else None)


def latest_checks(connection: sa.Connection, forecast: str, version: int) -> list[MadeCheck]:
    """The latest check of each name and subject of a version, by name and subject."""
    own = checks.c.forecast == forecast, checks.c.version == version
    # No two checks of a name and subject are about one window, and its index answers this.
    latest = (
        sa.select(checks.c.name, checks.c.subject, sa.func.max(checks.c.window_end).label("window_end"))
        .where(*own)
        .group_by(checks.c.name, checks.c.subject)
        .subquery()
    )
    same = sa.and_(*(checks.c[column] == latest.c[column] for column in ("name", "subject", "window_end")))
    query = sa.select(checks).join(latest, same).where(*own)
    rows = connection.execute(query.order_by(checks.c.name, checks.c.subject)).mappings().all()
    return [_check_of(row) for row in rows[:MAX_CHECKS]]


def latest_verdict(connection: sa.Connection, forecast: str) -> LiveVerdict | None:
    """The newest verdict in the ledger; None where there is none."""
    newest_first = (
        sa.select(ledger.c.time, ledger.c.reason, ledger.c.evidence)
        .where(ledger.c.forecast == forecast, ledger.c.event == Event.MONITORING.value)
        .order_by(ledger.c.id.desc())
        .limit(_NEWEST)  # entries of the event may have other evidence
    )
    for row in connection.execute(newest_first):
        with contextlib.suppress(msgspec.ValidationError):
            found = evidence_of(Evaluated, row.evidence)
            return LiveVerdict(
                verdict=found.verdict,
                sentence=row.reason.removeprefix(f"{found.verdict}: "),
                harmful=found.harmful,
                damage=found.damage,
                version=found.version,
                window_end=found.window_end,
                decided_at=aware(row.time),
                numbers=found.numbers,
            )
    return None


def mark(connection: sa.Connection) -> tuple[int, int]:
    """Grows with every check and every verdict: where it has not, what was read before is still so."""
    found = connection.scalar(sa.select(sa.func.max(checks.c.id)))
    decided = connection.scalar(sa.select(sa.func.max(ledger.c.id)))
    return found or 0, decided or 0


def _check_of(row: Any) -> MadeCheck:
    values = {name: row[name] for name in MadeCheck.__struct_fields__}
    times = {name: aware(value) for name, value in values.items() if isinstance(value, datetime)}
    return convert(values | times, MadeCheck)
