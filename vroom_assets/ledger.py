"""The append-only record of decisions, in the serving database."""

from __future__ import annotations

import contextlib

import dagster as dg
import msgspec
import sqlalchemy as sa

from vroom_api.contract.events import Decision, E, Evidence, evidence_of
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_api.contract.tables import ledger as ledger_table


class Ledger(dg.ConfigurableResource):
    """The append-only record of decisions, in the serving database."""

    def enter(
        self,
        *,
        forecast: str,
        actor: str,
        decision: Decision,
        reason: str,
        evidence: Evidence,
        run_id: str | None = None,
    ) -> None:
        with serving_database() as engine:
            enter_ledger(
                engine,
                forecast=forecast,
                actor=actor,
                decision=decision,
                reason=reason,
                evidence=evidence,
                run_id=run_id,
            )


def latest_entries(forecast: str, count: int = 12) -> str:
    """The newest decisions as a Markdown table."""
    with serving_database() as engine, engine.connect() as connection:
        rows = connection.execute(
            ledger_table.select()
            .where(ledger_table.c.forecast == forecast)
            .order_by(ledger_table.c.id.desc())
            .limit(count)
        ).fetchall()
    lines = ["| time (UTC) | event | decision | reason |", "|---|---|---|---|"]
    lines += [
        f"| {row.time:%Y-%m-%d %H:%M:%S} | {row.event} | {row.decision} | {row.reason} |" for row in rows
    ]
    return "\n".join(lines)


def latest_evidence(engine: sa.Engine, forecast: str, kind: type[E]) -> E | None:
    """The evidence of the newest entry that has this kind of it; None where there is none."""
    newest_first = (
        sa.select(ledger_table.c.evidence)
        .where(ledger_table.c.forecast == forecast, ledger_table.c.event == kind.event)
        .order_by(ledger_table.c.id.desc())
        .limit(20)  # entries of one event may have other evidence, e.g. of a publication that was refused
    )
    with engine.connect() as connection:
        for content in connection.scalars(newest_first):
            with contextlib.suppress(msgspec.ValidationError):
                return evidence_of(kind, content)
    return None
