"""The serving database: what service and training write for each other.

SQLite (WAL, synchronous=FULL) by default; Postgres by changing VROOM_DATABASE_URL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from vroom_api.contract import home

metadata = sa.MetaData()

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("forecast", sa.String(64), nullable=False, index=True),
    sa.Column("actor", sa.String(128), nullable=False, doc="sensor, schedule, job or person"),
    sa.Column(
        "event", sa.String(32), nullable=False, doc="what was decided about, e.g. retrain, contest, rollback"
    ),
    sa.Column("decision", sa.String(32), nullable=False, doc="e.g. requested, promote, hold, refused"),
    sa.Column("reason", sa.Text, nullable=False, doc="one sentence for a person"),
    sa.Column("evidence", sa.JSON, nullable=False, doc="the numbers and names behind the reason"),
    sa.Column("run_id", sa.String(64), nullable=True, doc="the Dagster run"),
    comment="append-only: every decision with its reason and evidence",
)


def database_url() -> str:
    """VROOM_DATABASE_URL, else a SQLite file under the home."""
    return os.environ.get("VROOM_DATABASE_URL") or f"sqlite:///{home() / 'serving.db'}"


def open_database(url: str | None = None) -> sa.Engine:
    """Open the serving database and create what is missing in it."""
    address = sa.make_url(url or database_url())
    if address.get_backend_name() == "sqlite":
        if address.database and address.database != ":memory:":
            os.makedirs(os.path.dirname(os.path.abspath(address.database)), exist_ok=True)
        engine = sa.create_engine(address, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _make_durable)
    else:
        engine = sa.create_engine(address, pool_pre_ping=True)
    metadata.create_all(engine)
    return engine


def _make_durable(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


@contextmanager
def serving_database() -> Iterator[sa.Engine]:
    """The serving database for the length of a block."""
    engine = open_database()
    try:
        yield engine
    finally:
        engine.dispose()


def enter_ledger(
    engine: sa.Engine,
    *,
    forecast: str,
    actor: str,
    event: str,
    decision: str,
    reason: str,
    evidence: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> None:
    """Append one decision to the ledger."""
    with engine.begin() as connection:
        connection.execute(
            ledger.insert().values(
                time=datetime.now(UTC),
                forecast=forecast,
                actor=actor,
                event=event,
                decision=decision,
                reason=reason,
                evidence=evidence or {},
                run_id=run_id,
            )
        )
