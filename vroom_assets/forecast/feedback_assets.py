"""What was predicted and what came of it, copied into the warehouse and joined there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract.tables import serving_database
from vroom_assets import resources
from vroom_assets.forecast.asset_pages import LISTED, PLOTTED, plot, table
from vroom_assets.forecast.names import CHAMPION, key
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection


def feedback_assets(spec: ForecastSpec) -> list[dg.AssetsDefinition]:
    """Predictions, outcomes, and both beside each other, in this order."""
    return [predictions_asset(spec), outcomes_asset(spec), feedback_asset(spec)]


def predictions_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "predictions"),
        deps=[key(spec, CHAMPION)],
        description=(
            "Every recorded prediction of the service, copied once into the table `monitoring.predictions`. What the record "
            "deletes after VROOM_RECORD_DAYS stays here."
        ),
        pool=f"{spec.name}_warehouse",
    )
    def predictions(warehouse: resources.Warehouse) -> dg.MaterializeResult:
        return copy_predictions(spec, warehouse, datetime.now(UTC))

    return predictions


def copy_predictions(
    spec: ForecastSpec, warehouse: resources.Warehouse, now: datetime
) -> dg.MaterializeResult:
    """Copy what was predicted since the last time: the body of the asset `predictions`."""
    from vroom_assets.monitoring import record

    with warehouse.connect(spec.name) as connection, serving_database() as database:
        new = record.copy_predictions(connection, database, spec.name, now)
        [(rows, newest, versions)] = connection.execute(
            "select count(*), max(made_at)::varchar, count(distinct version) from monitoring.predictions"
        ).fetchall()
        by_version = connection.execute(
            "select version, count(*) as predictions, min(made_at) as first, max(made_at) as last, "
            f"count(distinct entity_id) as entities from monitoring.predictions group by 1 order by 1 desc limit {LISTED}"
        ).df()
        daily = _daily(connection, "monitoring.predictions", "made_at", "predictions")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows,
            "new_rows": new,
            "versions": versions,
            "newest": newest or "none yet",
            "by_version": table(by_version),
            **plot("per_day", daily, "Predictions per day", "predictions"),
        }
    )


def outcomes_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "outcomes"),
        deps=[key(spec, "predictions"), *(key(spec, name) for name in spec.sources)],
        description=(
            "What really happened: outcomes that were reported to the service, every revision of them "
            "(`monitoring.outcomes`), and those that follow from new rows of the sources, by running target.sql for what was "
            "predicted (`monitoring.derived`)."
        ),
        pool=f"{spec.name}_warehouse",
    )
    def outcomes(context: dg.AssetExecutionContext, warehouse: resources.Warehouse) -> dg.MaterializeResult:
        return collect_outcomes(context, spec, warehouse, datetime.now(UTC))

    return outcomes


def collect_outcomes(
    context: dg.AssetExecutionContext, spec: ForecastSpec, warehouse: resources.Warehouse, now: datetime
) -> dg.MaterializeResult:
    """Copy what was reported, and derive what the sources know by now: the body of the asset `outcomes`."""
    from vroom_assets.monitoring import record, source_outcomes

    with warehouse.connect(spec.name) as connection, serving_database() as database:
        new = record.copy_outcomes(connection, database, spec.name, now)
        derived = source_outcomes.derive(connection, spec, now)
        [(reported, corrections)] = connection.execute(
            "select count(*), count(*) filter (revision > 1) from monitoring.outcomes"
        ).fetchall()
        [(whole, partial)] = connection.execute(
            "select count(*) filter (exposure >= 1), count(*) filter (exposure < 1) from monitoring.derived"
        ).fetchall()
        daily = _daily(connection, "monitoring.outcomes", "received_at", "reported")
    if derived.why_not:
        context.log.info(f"no outcomes from the sources: {derived.why_not}")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": reported + whole,
            "new_rows": new + derived.outcomes,
            "reported": reported,
            "corrections": corrections,
            "from_sources": whole,
            "from_sources_in_part": partial,
            "sources": derived.why_not or f"{derived.outcomes} outcomes are new or further on",
            **plot("per_day", daily, "Reported outcomes per day", "outcomes"),
        }
    )


def feedback_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    own = key(spec, "feedback")

    @dg.asset(
        key=own,
        deps=[key(spec, "predictions"), key(spec, "outcomes")],
        description=(
            "Each prediction beside its outcome, as far as it is known: the view `monitoring.feedback`. A reported outcome "
            "counts before one from the sources, the highest revision before the others; a count whose horizon has passed in part "
            "has its `exposure`."
        ),
        check_specs=[
            dg.AssetCheckSpec("outcomes_arrive", asset=own, description="What is due has its outcome.")
        ],
        pool=f"{spec.name}_warehouse",
    )
    def feedback(warehouse: resources.Warehouse) -> Iterator[Any]:
        yield from join(spec, warehouse, datetime.now(UTC))

    return feedback


def join(spec: ForecastSpec, warehouse: resources.Warehouse, now: datetime) -> Iterator[Any]:
    """Join outcomes to predictions: the body of the asset `feedback`."""
    from vroom_assets.monitoring import feedback

    with warehouse.connect(spec.name) as connection:
        joined = feedback.join(connection, spec, now)
        sample = connection.execute(
            "select id, made_at, version, entity_id, prediction, low, high, due_at, outcome, exposure, origin "
            "from monitoring.feedback where outcome is not null order by coalesce(outcome_at, partial_at) desc limit 5"
        ).df()
    yield dg.AssetCheckResult(
        check_name="outcomes_arrive",
        passed=not (joined.overdue and joined.outcomes),
        severity=dg.AssetCheckSeverity.WARN,
        description=joined.sentence,
    )
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": joined.predictions,
            "due": joined.due,
            "outcomes": joined.outcomes,
            "outcomes_in_part": joined.partial,
            "overdue": joined.overdue,
            "unjoined_outcomes": joined.unjoined,
            **{f"outcomes_{origin}": rows for origin, rows in joined.by_origin.items()},
            "newest_outcomes": table(sample),
        }
    )


def _daily(connection: "DuckDBPyConnection", table: str, column: str, name: str) -> "pd.DataFrame":
    """Rows per day of a table, the latest days."""
    return (
        connection.execute(
            f"select date_trunc('day', {column})::timestamp as day, count(*) as {name} from {table} "
            f"group by 1 order by 1 desc limit {PLOTTED}"
        )
        .df()
        .set_index("day")
        .sort_index()
    )
