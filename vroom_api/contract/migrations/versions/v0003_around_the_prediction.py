"""Around the prediction: entities, commands, events, versions that are tried out, and predictions in blocks."""

import sqlalchemy as sa
from alembic import op

from vroom_api.contract.blocks import expand_in_transaction

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _entities_and_commands()
    _events_and_predictions()


def _entities_and_commands() -> None:
    op.create_table(
        "entities",
        sa.Column("forecast", sa.String(64), primary_key=True),
        sa.Column(
            "id", sa.String(128, collation="C").with_variant(sa.String(128), "sqlite"), primary_key=True
        ),
        sa.Column("source", sa.String(16), primary_key=True),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("as_of", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("caller", sa.String(128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("materialized_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("materialized_revision", sa.Integer, nullable=True),
        sa.Column("observed", sa.Double, nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.String(16), nullable=True),
        comment="what is stored of each entity in the database: those saved over HTTP, and all where replicas share no disk",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "entities_by_source",
        "entities",
        ["forecast", "source", "id"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("forecast", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("lane", sa.String(32), nullable=False),
        sa.Column("arguments", sa.JSON, nullable=False),
        sa.Column("caller", sa.String(128), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        comment="what callers asked the training for, and what became of it",
    )
    op.create_index(
        "one_open_command",
        "commands",
        ["forecast", "lane"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )


def _events_and_predictions() -> None:
    op.create_table(
        "event_log",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("forecast", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(16), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("key", sa.String(128), nullable=True, unique=True),
        comment="append-only: what happened, for those who listen",
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shadow_predictions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("forecast", sa.String(64), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        comment="what a version that is tried out would have answered",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prediction_blocks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("last_id", sa.String(36), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        comment="predictions that were answered and are not in their table yet",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    bind = op.get_bind()
    expand_in_transaction(bind.connection.cursor(), bind.dialect.name)  # what an older service would not find
    for name in ("prediction_blocks", "shadow_predictions", "event_log", "commands", "entities"):
        op.drop_table(name)
