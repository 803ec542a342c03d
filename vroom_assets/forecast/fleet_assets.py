"""The champion's predictions of every entity, made again whenever the champion or the stored inputs change."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec

from vroom_api.contract import BundleError, Pointer, forecast_folder, read_pointer
from vroom_api.contract.calibrations import CalibrationError, read_in_force
from vroom_api.contract.decoding import decode
from vroom_api.contract.fleet import FLEET, FleetError, read_run, stored_state
from vroom_assets import resources
from vroom_assets.forecast.asset_pages import table
from vroom_assets.forecast.names import CHAMPION, FLEET_PREDICTIONS, FORECAST_TAG, QUIET, REASON_TAG, key
from vroom_assets.forecast.sensors import DAEMON_LATE_SECONDS, latest_run, pause
from vroom_assets.spec import ForecastSpec
from vroom_assets.sql import literal

if TYPE_CHECKING:
    from vroom_assets.scoring.fleet import Answered

SENSOR_SECONDS = 30
PROGRESS_SECONDS = 10.0


def fleet_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, FLEET_PREDICTIONS),
        deps=[key(spec, CHAMPION), key(spec, "online_features")],
        description=(
            f"What the champion answers of every {spec.entity.name} by what is stored of it: prediction, interval and, where "
            "they are not too many, what each input adds. In the warehouse, as Parquet, and in the service's catalog. Made "
            "again when another version serves, also after a roll-back, or when the stored inputs change."
        ),
        pool=f"{spec.name}_warehouse",
    )
    def fleet_predictions(
        context: dg.AssetExecutionContext, warehouse: resources.Warehouse
    ) -> dg.MaterializeResult:
        return predict(context, spec, warehouse)

    return fleet_predictions


def predict(
    context: dg.AssetExecutionContext, spec: ForecastSpec, warehouse: resources.Warehouse
) -> dg.MaterializeResult:
    """Answer all entities: the body of the asset `fleet_predictions`."""
    from vroom_assets.scoring.fleet import predict_fleet
    from vroom_assets.scoring.writing import CannotScore

    latest = time.monotonic()

    def at(done: int) -> None:
        nonlocal latest
        if time.monotonic() - latest > PROGRESS_SECONDS:
            latest = time.monotonic()
            context.log.info(f"{done:,} {spec.entity.name} rows are answered")

    try:
        made = predict_fleet(spec.name, at)
    except CannotScore as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    with warehouse.connect(spec.name) as connection:
        connection.execute(
            f"create or replace table fleet_predictions as from read_parquet({literal(str(made.parquet))})"
        )
        largest = connection.execute(
            f'select * exclude (refused) from fleet_predictions order by "predicted_{spec.target.name}" desc nulls last limit 10'
        ).df()
        [(mean, width)] = connection.execute(
            f'select avg("predicted_{spec.target.name}"), avg(high - low) from fleet_predictions'
        ).fetchall()
    return dg.MaterializeResult(
        metadata=_metadata(spec, made) | _figures(mean, width) | {"largest": table(largest)}
    )


def _metadata(spec: ForecastSpec, made: "Answered") -> dict[str, Any]:
    run = made.run
    reasons = "of each" if made.explained else "too many entities: ask for them with `explain`, or one by one"
    return {
        "dagster/row_count": run.rows,
        "refused": run.refused,
        "first_refusal": made.example or "none",
        "version": run.version,
        "calibration": run.calibration or 0,
        "data_as_of": run.data_as_of,
        "level": run.level,
        "reasons": reasons,
        "parquet": dg.MetadataValue.path(str(made.parquet)),
        "file": dg.MetadataValue.path(str(forecast_folder(spec.name) / FLEET)),
    }


def _figures(mean: float | None, width: float | None) -> dict[str, Any]:
    """Of no entities there are none."""
    return {} if mean is None else {"mean_prediction": mean, "mean_interval_width": width}


class Cursor(msgspec.Struct, frozen=True):
    """What the sensor remembers between two ticks; times are seconds since 1970."""

    wanted: str = ""  # what was asked for last
    asked_at: float = 0.0
    requests: int = 0  # for it so far


def decide(cursor: Cursor, stale: str, run: Callable[[], str | None], now: float) -> tuple[Cursor, str, bool]:
    """Whether all entities have to be predicted again.

    Args:
        stale: why, and as compared with what; "" where the predictions are those of what serves and is stored.
        run: the id of a run of the forecast that is under way.
        now: the time, in seconds since 1970.

    Returns:
        the cursor after it, the reason, and whether a run is to start.
    """
    if not stale:
        return Cursor(), "no change: the predictions are those of what serves and is stored", False
    requests = cursor.requests if cursor.wanted == stale else 0
    if requests and now < (due := cursor.asked_at + pause(requests)):
        return cursor, f"{stale}: a run was requested; looks again in {due - now:.0f} s", False
    if (under_way := run()) is not None:
        return cursor, f"{stale}: waits for run {under_way}", False
    return Cursor(stale, now, requests + 1), stale, True


def fleet_sensor(spec: ForecastSpec) -> dg.SensorDefinition:
    """Predicts all entities again where another version serves, or other inputs are stored.

    It asks what the system itself keeps, the pointer and the files beside it, and not Dagster's history: so it also sees a
    roll-back, a new calibration and a home that was copied back. Dagster's own conditions would take a daemon that is awake all the
    time, and miss what changes while a run ends.
    """

    @dg.sensor(
        name=f"{spec.name}_fleet",
        target=[key(spec, FLEET_PREDICTIONS)],
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SENSOR_SECONDS - DAEMON_LATE_SECONDS,
        description="Predicts all entities again where another version serves, or other inputs are stored of them.",
    )
    def fleet(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        def run_under_way() -> str | None:
            run = latest_run(context.instance, spec.name)
            return run.id if run is not None and run.under_way else None

        before = decode(context.cursor or "{}", Cursor)
        cursor, reason, runs = decide(before, why_stale(spec.name), run_under_way, time.time())
        text = msgspec.json.encode(cursor).decode()
        if not runs:
            return dg.SensorResult(skip_reason=reason, cursor=text)
        tags = {FORECAST_TAG: spec.name, REASON_TAG: reason}
        request = dg.RunRequest(
            run_key=f"{spec.name}-fleet-{cursor.asked_at:.3f}",
            run_config=QUIET,
            tags=tags,
            asset_selection=[key(spec, FLEET_PREDICTIONS)],
        )
        return dg.SensorResult(run_requests=[request], cursor=text)

    return fleet


def why_stale(forecast: str) -> str:
    """Why the predictions of all entities are not those of now; "" where they are, or where none can be made."""
    try:
        pointer, state = read_pointer(forecast), stored_state(forecast)
    except BundleError:
        return ""  # what serves meanwhile is the last good one, and the service reports what is wrong with the pointer
    if pointer is None or pointer.retired is not None or not state:
        return ""
    try:
        made = read_run(forecast)
    except FleetError:
        made = None
    if made is None:
        return f"version {pointer.version} serves, and nothing is predicted of all entities yet"
    if made.manifest_sha256 != pointer.manifest_sha256:  # a trial beside it changes nothing
        return f"version {pointer.version} serves"
    if made.stored != state:
        return f"other inputs are stored since {made.predicted_at}"
    if made.calibration != (number := _in_force(forecast, pointer)):
        return f"calibration revision {number} is in force"
    return ""


def _in_force(forecast: str, pointer: Pointer) -> int | None:
    """The number of the calibration revision that corrects what serves."""
    try:
        found = read_in_force(forecast)
    except CalibrationError:
        return None
    return found.number if found is not None and found.version == pointer.version else None
