"""The ledger, read: every decision with its reason and evidence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.tables import Database, UnusableDatabase, ledger
from vroom_api.problems import Problem

log = logging.getLogger(__name__)

MAX_ENTRIES = 500


class Entry(msgspec.Struct, frozen=True):
    """One decision of the ledger."""

    id: int
    time: datetime
    forecast: str
    actor: str
    event: str
    decision: str
    reason: str
    evidence: dict[str, Any]
    run_id: str | None


class Entries(msgspec.Struct, frozen=True):
    """A page of the ledger, newest first; `next_before` asks for the page after it, null at the end."""

    entries: list[Entry]
    next_before: int | None


def read_ledger(
    database: Database,
    limit: int,
    *,
    before: int | None = None,
    event: str | None = None,
    forecast: str | None = None,
) -> Entries:
    """A page of the ledger.

    Raises:
        Problem: the database cannot be reached, 503.
    """
    query = sa.select(ledger).order_by(ledger.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(ledger.c.id < before)
    if event is not None:
        query = query.where(ledger.c.event == event)
    if forecast is not None:
        query = query.where(ledger.c.forecast == forecast)
    with reading(database) as connection:
        rows = connection.execute(query).mappings().all()
    entries = [Entry(**{**row, "time": _aware(row["time"])}) for row in rows[:limit]]
    return Entries(entries, entries[-1].id if len(rows) > limit else None)


def is_in_ledger(database: Database, forecast: str) -> bool:
    """Whether anything was ever decided about a forecast, also about one that was never published.

    Raises:
        Problem: the database cannot be reached, 503.
    """
    query = sa.select(ledger.c.id).where(ledger.c.forecast == forecast).limit(1)
    with reading(database) as connection:
        return connection.execute(query).first() is not None


@contextmanager
def reading(database: Database) -> Iterator[sa.Connection]:
    """A connection to read by.

    Raises:
        Problem: the database cannot be reached, 503.
    """
    try:
        with database().connect() as connection:
            yield connection
    except (sa.exc.DBAPIError, OSError, UnusableDatabase) as error:
        # The driver's own words may name hosts and users: they are for the log.
        log.warning("the serving database does not answer: %s", getattr(error, "orig", None) or error)
        raise Problem(
            503,
            "no-database",
            "the serving database does not answer; the service's log says why, VROOM_DATABASE_URL names it",
            headers={"retry-after": "10"},
        ) from error


def _aware(time: datetime) -> datetime:
    """SQLite forgets the zone; what is written is UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
