"""The Dagster component: a declaration in; assets, checks, jobs, sensor and schedule out.

A forecast that needs something else is a class made from this one, named by `type` in its declaration: each
method below may be overridden by itself, and what it returns is in the jobs, carries the owner, and so on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import dagster as dg
from dagster.components.core.decl import YamlBackedComponentDecl
from dagster_shared.yaml_utils.source_position import SourcePosition
from pydantic import BaseModel, create_model, model_validator

from vroom_assets import declaration
from vroom_assets.declaration import scaffold
from vroom_assets.forecast import (
    champion_assets,
    evaluation_assets,
    feature_assets,
    feedback_assets,
    fleet_assets,
    monitoring_sensor,
    recalibration,
    rollback,
    saved_sensor,
    sensors,
    source_assets,
    trials,
)
from vroom_assets.forecast.attributes import attributed
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.forecast.training_assets import training_asset
from vroom_assets.spec import ForecastSpec

Assets = list[dg.AssetsDefinition]


@dg.scaffold_with(scaffold.ForecastScaffolder)
class Forecast(ForecastSpec, dg.Component):
    """A tabular forecast, declared: sources, entity, inputs, features, target, candidates, rules."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The schema of the attributes, for Dagster's tools; as `load` reads them, this lets all pass."""
        wrapped: Any = model_validator(mode="wrap")
        return create_model(cls.__name__, __base__=cls, __validators__={"as_written": wrapped(as_written)})

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> Self:
        """The one reading of a declaration: what is checked is what the definitions are built from.

        Raises:
            DeclarationError: it cannot be used.
        """
        return cast(Self, declaration.read(context.path))

    @classmethod
    def get_code_references_for_yaml(
        cls, yaml_path: Path, source_position: SourcePosition, context: dg.ComponentLoadContext
    ) -> Sequence[dg.LocalFileCodeReference]:
        line = source_position.start.line
        return [dg.LocalFileCodeReference(file_path=str(yaml_path), line_number=line, label=declaration.FILE)]

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Everything that Dagster needs to know about the forecast."""
        computed = [*self.source_assets(), *self.feature_assets()]
        trained, contested = self.training_assets(), [*self.champion_assets(), *self.fleet_assets()]
        monitored = self.monitoring_assets()
        stages = {
            "materialize": computed,
            "train": trained,
            "promote": contested,
            "retrain": [*computed, *trained, *contested],
            "monitor": monitored,
        }
        jobs = {stage: self.job(stage, assets) for stage, assets in stages.items()}
        declared = context.component_decl
        tree = declared.source_tree if isinstance(declared, YamlBackedComponentDecl) else None
        lines = tree.source_position_tree if tree else None
        return dg.Definitions(
            assets=dg.map_asset_specs(
                lambda asset: attributed(asset, self, context.path, lines), [*stages["retrain"], *monitored]
            ),
            jobs=[*jobs.values(), *self.other_jobs()],
            sensors=self.sensors(jobs),
            schedules=self.schedules(jobs),
        )

    def source_assets(self) -> Assets:
        """The raw CSVs and the checked tables."""
        return [
            *(source_assets.raw_source(self, name) for name in self.sources),
            *(source_assets.checked_table(self, name) for name in self.sources),
        ]

    def feature_assets(self) -> Assets:
        """The table of features and, where callers know the entity by an id, its latest inputs."""
        online = [feature_assets.online_asset(self)] if self.entity_id else []
        return [feature_assets.features_asset(self), *online]

    def training_assets(self) -> Assets:
        """The scores of the candidates, and the challenger."""
        return [training_asset(self)]

    def champion_assets(self) -> Assets:
        """The contest, and what serves after it."""
        return [champion_assets.contest_asset(self), champion_assets.champion_asset(self)]

    def fleet_assets(self) -> Assets:
        """Where callers know the entity by an id, the champion's predictions of all that are stored."""
        return [fleet_assets.fleet_asset(self)] if self.entity_id else []

    def monitoring_assets(self) -> Assets:
        """What was predicted and what came of it, and what that says about the version that serves."""
        return [*feedback_assets.feedback_assets(self), evaluation_assets.evaluation_assets(self)]

    def job(self, stage: str, assets: Assets) -> Any:
        """The job of a stage, which makes these assets."""
        return dg.define_asset_job(
            f"{self.name}_{stage}",
            selection=dg.AssetSelection.assets(*(key for one in assets for key in one.keys)),
            description=STAGES[stage],
            tags={FORECAST_TAG: self.name},
        )

    def other_jobs(self) -> list[dg.JobDefinition]:
        return [
            rollback.rollback_job(self),
            recalibration.recalibration_job(self),
            trials.promotion_job(self),
        ]

    def sensors(self, jobs: Mapping[str, Any]) -> list[dg.SensorDefinition]:
        """Args:
        jobs: those of the stages, by name.
        """
        return [
            sensors.source_sensor(self, jobs["retrain"]),
            monitoring_sensor.monitoring_sensor(self, jobs["monitor"]),
            *([fleet_assets.fleet_sensor(self)] if self.entity_id else []),
            *(
                [saved_sensor.saved_sensor(self, jobs["materialize"])]
                if self.entity.source in self.sources
                else []
            ),
        ]

    def schedules(self, jobs: Mapping[str, Any]) -> list[dg.ScheduleDefinition]:
        return [sensors.safety_net(self, jobs["retrain"])]


def as_written(attributes: Any, _: Any) -> Any:
    return attributes


STAGES = {
    "materialize": "Check the sources and compute the features.",
    "train": "Search the candidates on the features as they are and register a challenger.",
    "promote": "Let the challenger and the champion compete and publish the winner.",
    "retrain": "Everything, from the sources to the champion.",
    "monitor": "What was predicted, what came of it, and whether the version that serves is still good. It trains nothing.",
}
