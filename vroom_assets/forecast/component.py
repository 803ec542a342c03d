"""The Dagster component: a declaration in, assets, checks, jobs, sensor and schedule out.

The assets are thin. What they do is in the chapter they call: sources, features, training, challenger,
contest, bundle, automation. Nothing here knows what a forecast is about.
"""

import dagster as dg

from vroom_assets import declaration
from vroom_assets.declaration import scaffold
from vroom_assets.forecast import names, rollback, sensors
from vroom_assets.forecast.champion_assets import champion_asset, contest_asset
from vroom_assets.forecast.feature_assets import features_asset, online_asset
from vroom_assets.forecast.names import CHALLENGER, CHAMPION, key
from vroom_assets.forecast.source_assets import checked_table, raw_source
from vroom_assets.forecast.training_assets import training_assets
from vroom_assets.spec import ForecastSpec


@dg.scaffold_with(scaffold.ForecastScaffolder)
class Forecast(ForecastSpec, dg.Component):
    """A tabular forecast, declared: sources, entity, inputs, features, target, candidates, rules."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return definitions_of(declaration.with_statements(self, context.path))


def definitions_of(spec: ForecastSpec) -> dg.Definitions:
    """Everything Dagster needs to know about one forecast."""
    assets = [
        *(raw_source(spec, name) for name in spec.sources),
        *(checked_table(spec, name) for name in spec.sources),
        features_asset(spec),
        *([online_asset(spec)] if spec.entity_id else []),
        training_assets(spec),
        contest_asset(spec),
        champion_asset(spec),
    ]
    tables = [key(spec, f"{name}_csv") for name in spec.sources] + [key(spec, name) for name in spec.sources]
    computed = [key(spec, name) for name in ("features", *(["online_features"] if spec.entity_id else []))]
    trained = [key(spec, "cv_metrics"), key(spec, CHALLENGER)]
    contested = [key(spec, "contest"), key(spec, CHAMPION)]
    stages = {
        "materialize": ([*tables, *computed], "Check the sources and compute the features."),
        "train": (trained, "Search the candidates on the features as they are and register a challenger."),
        "promote": (contested, "Let the challenger and the champion compete and publish the winner."),
        "retrain": (
            [*tables, *computed, *trained, *contested],
            "Everything, from the sources to the champion.",
        ),
    }
    jobs = {
        stage: dg.define_asset_job(
            f"{spec.name}_{stage}",
            selection=dg.AssetSelection.assets(*keys),
            description=description,
            tags={names.FORECAST_TAG: spec.name},
        )
        for stage, (keys, description) in stages.items()
    }
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values(), rollback.rollback_job(spec)],
        sensors=[sensors.source_sensor(spec, jobs["retrain"])],
        schedules=[sensors.safety_net(spec, jobs["retrain"])],
    )
