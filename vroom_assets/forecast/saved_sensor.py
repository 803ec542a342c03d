"""When entities that were saved over HTTP are stored with the others: soon, because that trains nothing.

A tick asks the serving database one question. A run is asked for once for all that is behind: what breaks the
declaration stays so, and a run that failed is made up for by the next change or materialization.
"""

from typing import Any

import dagster as dg

from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.saved_entities import Behind, behind
from vroom_api.contract.tables import serving_database
from vroom_assets.forecast.names import FORECAST_TAG, QUIET, REASON_TAG, key
from vroom_assets.forecast.sensors import latest_run
from vroom_assets.spec import ForecastSpec

INTERVAL_SECONDS = 14


def why_not(forecast: str, found: Behind, run: str | None) -> str | None:
    """Why no run is asked for; None where one is.

    Args:
        run: the one of this forecast that is under way.
    """
    if not found.count:
        return "every saved entity is stored as it is now"
    if not (forecast_folder(forecast) / ENTITIES).exists():
        return "the first materialization is still to come, and takes them up"
    if run is not None:
        return f"waits: run {run} is under way, and may take them up"
    return None


def saved_sensor(spec: ForecastSpec, job: Any) -> dg.SensorDefinition:
    """Stores what was saved with the others; it makes nothing of the sources anew.

    Args:
        job: that of the materialization, of which the stored inputs alone are made.
    """

    @dg.sensor(
        name=f"{spec.name}_saved",
        job=job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Stores every {spec.entity.name} that was saved over HTTP with those of the sources. Each tick that starts no run "
            "says why."
        ),
    )
    def saved(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with serving_database() as engine, engine.connect() as connection:
            found = behind(connection, spec.name)
        run = latest_run(context.instance, spec.name) if found.count else None
        reason = why_not(spec.name, found, run.id if run is not None and run.under_way else None)
        if reason is not None:
            return dg.SensorResult(skip_reason=reason)
        request = dg.RunRequest(
            run_key=f"{spec.name}-saved-{found.digest}",
            run_config=QUIET,
            tags={FORECAST_TAG: spec.name, REASON_TAG: f"{found.count} saved and not stored as they are now"},
            asset_selection=[key(spec, "online_features")],
        )
        return dg.SensorResult(run_requests=[request])

    return saved
