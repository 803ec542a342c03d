"""The append-only record of decisions, in the serving database."""

from __future__ import annotations

from typing import Any

import dagster as dg

from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_api.contract.tables import ledger as ledger_table


class Ledger(dg.ConfigurableResource):
    """The append-only record of decisions, in the serving database."""

    def enter(self, **entry: Any) -> None:
        with serving_database() as engine:
            enter_ledger(engine, **entry)


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
