"""The tables of the monitoring, in a schema of their own of the forecast's warehouse.

What the serving database forgets after VROOM_RECORD_DAYS stays here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Times are in UTC, without a zone. `counted_at` and `outcome_at` are the time of a row, moved up to the end of the last window
# that was closed when it arrived: so each row is in one window, and never in one that was summarized without it.
_TABLES = """
create schema if not exists monitoring;
create table if not exists monitoring.predictions (
    id varchar primary key, made_at timestamp not null, counted_at timestamp not null, version integer not null,
    entity_id varchar, inputs varchar not null, features varchar not null, prediction double not null,
    low double, high double, level double, calibration integer, tags varchar
);
create table if not exists monitoring.outcomes (
    id varchar primary key, received_at timestamp not null, subject varchar not null, revision integer not null,
    prediction_id varchar, entity_id varchar, period varchar, outcome double not null, observed_at timestamp not null
);
create table if not exists monitoring.derived (
    prediction_id varchar primary key, outcome double not null, exposure double not null, derived_at timestamp not null
);
create table if not exists monitoring.results (
    prediction_id varchar primary key, outcome double not null, exposure double not null, origin varchar not null,
    outcome_at timestamp, partial_at timestamp
);
create table if not exists monitoring.summaries (
    version integer, window_start timestamp not null, window_end timestamp, summary varchar not null,
    primary key (version, window_end)
);
create table if not exists monitoring.marks (name varchar primary key, value varchar not null);
"""
CLOSED_UNTIL = "closed_until"  # the end of the last window that was summarized


def prepare(connection: DuckDBPyConnection) -> None:
    """Make the tables that are not there yet."""
    connection.execute(_TABLES)


def mark(connection: DuckDBPyConnection, name: str) -> str | None:
    """How far something has come, as it was last noted."""
    found = connection.execute("select value from monitoring.marks where name = ?", [name]).fetchone()
    return None if found is None else str(found[0])


def note(connection: DuckDBPyConnection, name: str, value: str) -> None:
    """Note how far something has come, in the transaction of what was done."""
    connection.execute("insert or replace into monitoring.marks values (?, ?)", [name, value])


def closed_until(connection: DuckDBPyConnection) -> datetime:
    """The end of the last window that was summarized, in UTC without a zone; 1970 where there is none."""
    found = mark(connection, CLOSED_UNTIL)
    return datetime.fromisoformat(found) if found else datetime(1970, 1, 1)


def naive(moment: datetime) -> datetime:
    """A time in UTC, as the tables hold it; one without a zone is in UTC already."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
