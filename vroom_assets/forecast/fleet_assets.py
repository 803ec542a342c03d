"""The champion's predictions of every entity, made again whenever the champion or the stored inputs change."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract import forecast_folder
from vroom_api.contract.fleet import FLEET
from vroom_assets import resources
from vroom_assets.forecast.asset_pages import table
from vroom_assets.forecast.names import CHAMPION, FLEET_PREDICTIONS, key
from vroom_assets.spec import ForecastSpec
from vroom_assets.sql import literal

if TYPE_CHECKING:
    from vroom_assets.scoring.fleet import Answered

SENSOR = "fleet_predictions"
SENSOR_SECONDS = 30
PROGRESS_SECONDS = 10.0


def fleet_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, FLEET_PREDICTIONS),
        deps=[key(spec, CHAMPION), key(spec, "online_features")],
        automation_condition=dg.AutomationCondition.eager(),
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


def fleet_sensor(keys: list[dg.AssetKey]) -> dg.AutomationConditionSensorDefinition:
    """Dagster's own automation, for these assets alone."""
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.assets(*keys),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SENSOR_SECONDS - 1,
        description="Predicts all entities again where another version serves, or other inputs are stored of them.",
    )
