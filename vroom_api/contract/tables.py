"""The serving database: what service and training write for each other.

SQLite (WAL, synchronous=FULL) by default; Postgres by changing VROOM_DATABASE_URL.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.environment import database_url
from vroom_api.contract.events import Decision, Evidence

metadata = sa.MetaData()
Database = Callable[[], sa.Engine]  # opened where it is needed, and not when it is handed over
VERSION = "0003"  # of these tables: the newest revision under migrations/versions
VERSION_TABLE = "vroom_version"  # MLflow may keep an `alembic_version` in the same database
_ATTEMPTS = 100

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

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, doc="UUIDv7: ids ascend with time"),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column("caller", sa.String(128), nullable=False, doc="name of the API key"),
    sa.Column("entity_id", sa.String(128), nullable=True),
    sa.Column("inputs", sa.JSON, nullable=False, doc="name -> value, in the manifest's order"),
    sa.Column("features", sa.JSON, nullable=False, doc="name -> value, in the manifest's order"),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    sa.Column("level", sa.Double, nullable=False, doc="of the interval from low to high"),
    sa.Column("version", sa.Integer, nullable=False, doc="of the champion"),
    sa.Column("generation", sa.Integer, nullable=False, doc="of the pointer that named the champion"),
    sa.Column("manifest_sha256", sa.String(64), nullable=False, doc="of the champion's manifest"),
    sa.Column("data_version", sa.String(64), nullable=False),
    sa.Column("latency_us", sa.Integer, nullable=False, doc="microseconds from request to value"),
    sa.Column(
        "tags", sa.JSON(none_as_null=True), nullable=True, doc="name -> text, as the caller sorts them"
    ),
    sa.Column(
        "calibration",
        sa.Integer,
        nullable=True,
        doc="revision of the intervals; null for those of the bundle",
    ),
    comment="every answered prediction, written before it was answered",
    sqlite_with_rowid=False,
)


sa.Index(
    "predictions_of_an_entity",
    predictions.c.forecast,
    predictions.c.entity_id,
    predictions.c.id,
    sqlite_where=predictions.c.entity_id.is_not(None),
    postgresql_where=predictions.c.entity_id.is_not(None),
)


outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, doc="UUIDv7: ids ascend with time of receipt"),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column(
        "subject", sa.String(300), nullable=False, doc="what was observed: a prediction, or entity and period"
    ),
    sa.Column("revision", sa.Integer, nullable=False, doc="1, then one more with every correction"),
    sa.Column("prediction_id", sa.String(36), nullable=True, index=True),
    sa.Column("entity_id", sa.String(128), nullable=True),
    sa.Column("period", sa.String(64), nullable=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("caller", sa.String(128), nullable=False),
    sa.UniqueConstraint("forecast", "subject", "revision", name="one_outcome_per_subject_and_revision"),
    comment="append-only: what really happened; the highest revision of a subject counts",
)

keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True, doc="the public part of the key"),
    sa.Column("name", sa.String(64), nullable=False, unique=True, doc="who holds it"),
    sa.Column("role", sa.String(16), nullable=False, doc="viewer, operator or admin"),
    sa.Column("sha256", sa.String(64), nullable=False, doc="of the whole key, which nobody keeps"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, doc="to about half a minute"),
    comment="who may ask what; keys are never deleted, so that records keep their names",
)

checks = sa.Table(
    "checks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False, doc="when it was made"),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False, doc="of the champion that it is about"),
    sa.Column("name", sa.String(64), nullable=False, doc="which check, e.g. error, coverage, feature"),
    sa.Column("subject", sa.String(200), nullable=False, doc="e.g. a feature or a segment; may be empty"),
    sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
    sa.Column("window_end", sa.DateTime(timezone=True), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False, doc="that it is about"),
    sa.Column("status", sa.String(16), nullable=False, doc="ok, warning, alarm or unknown"),
    sa.Column("values", sa.JSON, nullable=False, doc="name -> number"),
    sa.Column("message", sa.Text, nullable=False, doc="one sentence for a person"),
    sa.UniqueConstraint("forecast", "version", "name", "subject", "window_end", name="one_check_of_a_window"),
    comment="append-only: what each check of the monitoring found in each window",
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False, doc="what is wrong, e.g. decay, stale, run_failed"),
    sa.Column("subject", sa.String(200), nullable=False, doc="of what, within the kind; may be empty"),
    sa.Column("severity", sa.String(16), nullable=False, doc="warning or critical"),
    sa.Column("message", sa.Text, nullable=False, doc="what is wrong and what to do"),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
    sa.Column("times_seen", sa.Integer, nullable=False),
    sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("acknowledged_by", sa.String(128), nullable=True),
    sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
    comment="what somebody has to know; one row from the first time until it is over",
)
sa.Index(
    "one_open_alert",
    alerts.c.forecast,
    alerts.c.kind,
    alerts.c.subject,
    unique=True,
    sqlite_where=alerts.c.resolved_at.is_(None),
    postgresql_where=alerts.c.resolved_at.is_(None),
)

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alert_id", sa.Integer, sa.ForeignKey("alerts.id"), nullable=False, index=True),
    sa.Column("change", sa.String(16), nullable=False, doc="opened, worse or resolved"),
    sa.Column(
        "receiver", sa.String(64), nullable=False, doc="SHA-256 of its address, which may hold a secret"
    ),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("error", sa.Text, nullable=True, doc="why the latest attempt failed"),
    sa.UniqueConstraint("alert_id", "change", "receiver", name="one_notification_of_a_change"),
    comment="what was sent to whom about an alert, and what still has to be",
)


entities = sa.Table(
    "entities",
    metadata,
    sa.Column("forecast", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(128, collation="C").with_variant(sa.String(128), "sqlite"), primary_key=True),
    sa.Column(
        "source", sa.String(16), primary_key=True, doc="service where it was saved over HTTP, csv else"
    ),
    sa.Column("inputs", sa.JSON, nullable=False, doc="name -> value"),
    sa.Column("tags", sa.JSON, nullable=False, doc="name -> text"),
    sa.Column("as_of", sa.String(32), nullable=False, doc="when its inputs were known, ISO 8601"),
    sa.Column("revision", sa.Integer, nullable=False, doc="1, then one more with every change"),
    sa.Column("caller", sa.String(128), nullable=False, doc="who changed it last"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("materialized_at", sa.DateTime(timezone=True), nullable=True, doc="by the training"),
    sa.Column("materialized_revision", sa.Integer, nullable=True, doc="the one that it was materialized as"),
    sa.Column("observed", sa.Double, nullable=True, doc="the target, where the training knows it"),
    sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, doc="null while it is found"),
    sa.Column("closed_by", sa.String(16), nullable=True, doc="delete, or csv where the source has it now"),
    comment="what is stored of each entity in the database: those saved over HTTP, and all where replicas share no disk",
    sqlite_with_rowid=False,
)
sa.Index(
    "entities_by_source",
    entities.c.forecast,
    entities.c.source,
    entities.c.id,
    sqlite_where=entities.c.closed_at.is_(None),
    postgresql_where=entities.c.closed_at.is_(None),
)

commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, doc="UUIDv7: ids ascend with time"),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False, doc="materialize, train, rollback or promote"),
    sa.Column("lane", sa.String(32), nullable=False, doc="of one lane one command is open at a time"),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("caller", sa.String(128), nullable=False),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, doc="waiting, running, succeeded, failed or refused"),
    sa.Column("message", sa.Text, nullable=False, doc="one sentence for a person"),
    sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("run_id", sa.String(64), nullable=True, doc="the Dagster run"),
    sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
    comment="what callers asked the training for, and what became of it",
)
sa.Index(
    "one_open_command",
    commands.c.forecast,
    commands.c.lane,
    unique=True,
    sqlite_where=commands.c.finished_at.is_(None),
    postgresql_where=commands.c.finished_at.is_(None),
)

event_log = sa.Table(
    "event_log",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True, doc="ascends in the order of commits"),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("forecast", sa.String(64), nullable=False, doc="empty where it is about the whole system"),
    sa.Column("topic", sa.String(16), nullable=False, doc="model, entities, pipelines or alerts"),
    sa.Column("name", sa.String(80), nullable=False, doc="what happened, e.g. model-promoted"),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("key", sa.String(128), nullable=True, unique=True, doc="of what is to be in the log once"),
    comment="append-only: what happened, for those who listen",
    sqlite_autoincrement=True,
)

shadow_predictions = sa.Table(
    "shadow_predictions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, doc="of the prediction that was answered instead"),
    sa.Column("version", sa.Integer, primary_key=True, doc="that would have answered this"),
    sa.Column("forecast", sa.String(64), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    comment="what a version that is tried out would have answered",
    sqlite_with_rowid=False,
)

prediction_blocks = sa.Table(
    "prediction_blocks",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, doc="of its first prediction"),
    sa.Column("last_id", sa.String(36), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    comment="predictions that were answered and are not in their table yet",
    sqlite_with_rowid=False,
)


class UnusableDatabase(RuntimeError):
    """The database answers, and this version of Vroom cannot use it; the message says why and what to do."""


def open_database(url: str | None = None) -> sa.Engine:
    """Open the serving database and bring its tables to the newest version.

    Raises:
        UnusableDatabase: a newer Vroom made the tables, or they are not Vroom's, or the file is not a database.
    """
    engine = connect(url)
    try:
        with engine.connect() as connection:
            version = version_of(connection)
        if version != VERSION:
            from vroom_api.contract.migrations import upgrade  # Alembic: a start without work is to be quick

            upgrade(engine)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, sa.exc.DatabaseError) and "not a database" in str(error.orig):
            raise UnusableDatabase(
                f"{engine.url.database} is not a SQLite database, or damaged; replace it by a backup while "
                "everything is stopped, or move it away to begin with an empty one"
            ) from error
        raise
    return engine


def connect(url: str | None = None) -> sa.Engine:
    """The serving database as it is.

    Raises:
        UnusableDatabase: its name is not that of a regular file.
    """
    address = sa.make_url(url or database_url())
    if address.get_backend_name() == "sqlite":
        if address.database and address.database != ":memory:":
            path = Path(address.database).absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise UnusableDatabase(
                    f"{path} is not a regular file; move it away, and a new database is made"
                )
        engine = sa.create_engine(address, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _make_durable)
        return engine
    # A server that does not answer is an error within seconds, not when the kernel gives up.
    limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
    postgres = address.get_driver_name().startswith("psycopg")
    return sa.create_engine(address, pool_pre_ping=True, connect_args=limits if postgres else {})


def version_of(connection: sa.Connection) -> str | None:
    """The revision that the tables are at; None before the first."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return version


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that only one process is in at a time."""
    sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "SELECT pg_advisory_xact_lock(86766)")
        yield connection


def _make_durable(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for attempt in range(_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # of two that switch at once SQLite refuses one without waiting
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05)
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
    decision: Decision,
    reason: str,
    evidence: Evidence,
    run_id: str | None = None,
) -> None:
    """Append one decision to the ledger."""
    with engine.begin() as connection:
        append_entry(
            connection,
            forecast=forecast,
            actor=actor,
            decision=decision,
            reason=reason,
            evidence=evidence,
            run_id=run_id,
        )


def append_entry(
    connection: sa.Connection,
    *,
    forecast: str,
    actor: str,
    decision: Decision,
    reason: str,
    evidence: Evidence,
    run_id: str | None = None,
) -> None:
    """Append one decision to the ledger, in a transaction that somebody else began."""
    connection.execute(
        ledger.insert().values(
            time=datetime.now(UTC),
            forecast=forecast,
            actor=actor,
            event=evidence.event.value,
            decision=decision.value,
            reason=reason,
            evidence=msgspec.to_builtins(evidence),
            run_id=run_id,
        )
    )
