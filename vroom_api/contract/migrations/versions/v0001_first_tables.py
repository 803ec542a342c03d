"""The tables as they were when revisions began.

A database may be older than that. It holds some of these tables, and predictions that know no tags: what is
missing is added, and what is there stays as it is.
"""

import sqlalchemy as sa
from alembic import op

from vroom_api.contract.tables import UnusableDatabase

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Long: it is a list of tables."""
    tables = [
        op.create_table(
            "ledger",
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("time", sa.DateTime(timezone=True), nullable=False),
            sa.Column("forecast", sa.String(64), nullable=False),
            sa.Column("actor", sa.String(128), nullable=False),
            sa.Column("event", sa.String(32), nullable=False),
            sa.Column("decision", sa.String(32), nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("evidence", sa.JSON, nullable=False),
            sa.Column("run_id", sa.String(64), nullable=True),
            comment="append-only: every decision with its reason and evidence",
            if_not_exists=True,
        ),
        op.create_table(
            "predictions",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("time", sa.DateTime(timezone=True), nullable=False),
            sa.Column("forecast", sa.String(64), nullable=False),
            sa.Column("caller", sa.String(128), nullable=False),
            sa.Column("entity_id", sa.String(128), nullable=True),
            sa.Column("inputs", sa.JSON, nullable=False),
            sa.Column("features", sa.JSON, nullable=False),
            sa.Column("value", sa.Double, nullable=False),
            sa.Column("low", sa.Double, nullable=False),
            sa.Column("high", sa.Double, nullable=False),
            sa.Column("level", sa.Double, nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("generation", sa.Integer, nullable=False),
            sa.Column("manifest_sha256", sa.String(64), nullable=False),
            sa.Column("data_version", sa.String(64), nullable=False),
            sa.Column("latency_us", sa.Integer, nullable=False),
            sa.Column("tags", sa.JSON, nullable=True),
            comment="every answered prediction, written before it was answered",
            sqlite_with_rowid=False,
            if_not_exists=True,
        ),
        op.create_table(
            "outcomes",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("forecast", sa.String(64), nullable=False),
            sa.Column("subject", sa.String(300), nullable=False),
            sa.Column("revision", sa.Integer, nullable=False),
            sa.Column("prediction_id", sa.String(36), nullable=True),
            sa.Column("entity_id", sa.String(128), nullable=True),
            sa.Column("period", sa.String(64), nullable=True),
            sa.Column("value", sa.Double, nullable=False),
            sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
            sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
            sa.Column("caller", sa.String(128), nullable=False),
            sa.UniqueConstraint(
                "forecast", "subject", "revision", name="one_outcome_per_subject_and_revision"
            ),
            comment="append-only: what really happened; the highest revision of a subject counts",
            if_not_exists=True,
        ),
        op.create_table(
            "api_keys",
            sa.Column("id", sa.String(16), primary_key=True),
            sa.Column("name", sa.String(64), nullable=False, unique=True),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("sha256", sa.String(64), nullable=False),
            sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
            sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
            comment="who may ask what; keys are never deleted, so that records keep their names",
            if_not_exists=True,
        ),
    ]
    for table in tables:
        _complete(table)
    op.create_index("ix_ledger_forecast", "ledger", ["forecast"], if_not_exists=True)
    op.create_index("ix_outcomes_prediction_id", "outcomes", ["prediction_id"], if_not_exists=True)
    op.create_index(
        "predictions_of_an_entity",
        "predictions",
        ["forecast", "entity_id", "id"],
        sqlite_where=sa.text("entity_id IS NOT NULL"),
        postgresql_where=sa.text("entity_id IS NOT NULL"),
        if_not_exists=True,
    )


def _complete(table: sa.Table) -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table.name)}
    lacking = [column.name for column in table.columns if column.name not in there]
    if (table.name, lacking) == ("predictions", ["tags"]):
        op.add_column("predictions", sa.Column("tags", sa.JSON, nullable=True))
    elif lacking:
        raise UnusableDatabase(
            f"the database has a table {table.name!r} without {', '.join(lacking)}: no Vroom made it, and "
            "nothing was changed. Give Vroom a database of its own, in VROOM_DATABASE_URL"
        )


def downgrade() -> None:
    for name in ("api_keys", "outcomes", "predictions", "ledger"):
        op.drop_table(name)
