"""The Dagster component: a declaration in, assets, checks, jobs, sensor and schedule out.

The assets are thin. What they do is in the chapter they call: sources, features, training, challenger,
contest, bundle, automation. Nothing here knows what a forecast is about.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import numpy as np

from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_assets import automation, declaration, resources, scaffold
from vroom_assets.automation import CHALLENGER, CHAMPION
from vroom_assets.features import parse
from vroom_assets.renewal import champion_asset, common, contest_asset, key, training_assets
from vroom_assets.spec import TABLE_PARTS, ForecastSpec

log = logging.getLogger("vroom")


@dg.scaffold_with(scaffold.ForecastScaffolder)
class Forecast(ForecastSpec, dg.Component):
    """A tabular forecast, declared: sources, entity, inputs, features, target, candidates, rules."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return definitions_of(declaration.with_statements(self, context.path))


def declared(folder: Path, shared: dg.Definitions) -> dg.Definitions:
    """What a folder declares. A broken declaration is shown, and stops no other forecast.

    Args:
        shared: what all forecasts use; with it the definitions have to be complete.
    """
    try:
        declaration.read(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            loaded = component_tree(folder).build_defs(folder)
            dg.Definitions.validate_loadable(dg.Definitions.merge(loaded, shared))
    except declaration.DeclarationError as error:
        return refused(folder, str(error))
    except Exception as error:  # whatever it is, it is this forecast's alone
        return refused(folder, f"{folder / declaration.FILE}: {error.__cause__ or error}")
    return loaded


def component_tree(folder: Path) -> dg.ComponentTree:
    """Dagster's reading of one folder alone: a tree of them all stops at the first that is broken."""
    module = ModuleType(folder.name)
    module.__file__, module.__path__ = None, [str(folder)]
    return dg.ComponentTree.from_module(module, project_root=folder)


def refused(folder: Path, message: str) -> dg.Definitions:
    """In place of a forecast: an asset that says what is wrong with its declaration, as a failed check.

    A declaration has no run that could fail, so a sensor reports the check; once, because Dagster keeps it.
    """
    name = re.sub(r"\W", "_", folder.name)
    own = dg.AssetKey([name, "declaration"])
    log.error(f"The forecast {folder.name} is left out, its declaration is broken:\n{message}")

    @dg.asset(
        key=own,
        group_name=name,
        kinds={"yaml"},
        description=(
            "This forecast is left out until its declaration is correct. Change the files, then press "
            f"*Reload definitions*.\n\n```\n{message}\n```"
        ),
        check_specs=[dg.AssetCheckSpec("valid", asset=own, description="The declaration can be used.")],
    )
    def broken() -> Iterator[Any]:
        yield dg.AssetCheckResult(check_name="valid", passed=False, description=message)
        raise dg.Failure(description=message, allow_retries=False)

    @dg.sensor(
        name=f"{name}_declaration",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports what is wrong with the declaration.",
    )
    def report(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if context.cursor == message:
            return dg.SkipReason(f"the declaration is broken as before:\n{message}")
        failed = dg.AssetCheckEvaluation(
            asset_key=own,
            check_name="valid",
            passed=False,
            description=message,
            metadata={"findings": dg.MetadataValue.md(f"```\n{message}\n```")},
        )
        return dg.SensorResult(asset_events=[failed], cursor=message)

    return dg.Definitions(assets=[broken], sensors=[report])


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
            tags={automation.FORECAST_TAG: spec.name},
        )
        for stage, (keys, description) in stages.items()
    }
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values(), automation.rollback_job(spec)],
        sensors=[automation.source_sensor(spec, jobs["retrain"])],
        schedules=[automation.safety_net(spec, jobs["retrain"])],
    )


def raw_source(spec: ForecastSpec, name: str) -> dg.AssetsDefinition:
    source = spec.sources[name]

    own = key(spec, f"{name}_csv")

    @dg.multi_observable_source_asset(
        name=f"{spec.name}__{name}_csv",
        specs=[
            dg.AssetSpec(
                own,
                description=f"{source.description} Raw CSV at `{source.path}` in the data folder.",
                metadata={"path": source.path, "dagster/column_schema": column_schema(source.columns)},
                **common(spec, "csv", "file"),
            )
        ],
    )
    def raw(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        from vroom_assets.sources import observe

        look = observe(resources.data_folder() / source.path, None)
        if look.missing:
            raise dg.Failure(description=f"{source.path} is not there", allow_retries=False)
        yield dg.ObserveResult(
            asset_key=own,
            data_version=dg.DataVersion(look.sha256),
            metadata={"sha256": look.sha256, "size": look.size},
        )

    return raw


def checked_table(spec: ForecastSpec, name: str) -> dg.AssetsDefinition:
    source = spec.sources[name]
    own = key(spec, name)
    referenced = {c.references.partition(".")[0] for c in source.columns.values() if c.references} - {name}

    @dg.asset(
        key=own,
        deps=[key(spec, f"{name}_csv"), *(key(spec, other) for other in sorted(referenced))],
        description=f"{source.description} Snapshot by content, checked row by row, in DuckDB.",
        code_version=spec.fingerprint("sources")[:12],
        check_specs=[
            dg.AssetCheckSpec(
                "accepted",
                asset=own,
                blocking=True,
                description=(
                    "The file keeps its declared columns, types, ranges, keys and references; "
                    f"up to {source.tolerated_bad_share:.1%} bad rows are set aside in quarantine."
                ),
            )
        ],
        pool=f"{spec.name}_warehouse",
        metadata={"dagster/column_schema": column_schema(source.columns)},
        **common(spec, "duckdb", "csv"),
    )
    def table(context: dg.AssetExecutionContext, warehouse: resources.Warehouse) -> Iterator[Any]:
        from vroom_assets import dataset, sources

        path = resources.data_folder() / source.path
        folder = forecast_folder(spec.name)
        try:
            taken = sources.snapshot(path, folder / "snapshots")
        except sources.SourceError as error:
            yield dg.AssetCheckResult(check_name="accepted", passed=False, description=str(error))
            raise dg.Failure(
                description=str(error), allow_retries=isinstance(error, sources.SourceChanged)
            ) from error
        with warehouse.connect(spec.name) as connection:
            try:
                report = sources.load(connection, name, source, taken.path, f"data/{source.path}")
            except sources.SourceRefused as error:
                report = error.report
                yield dg.AssetCheckResult(
                    check_name="accepted",
                    passed=False,
                    description=str(error),
                    metadata={"findings": dg.MetadataValue.md(report.as_markdown())},
                )
                raise dg.Failure(
                    description=str(error),
                    metadata={"findings": dg.MetadataValue.md(report.as_markdown())},
                    allow_retries=False,
                ) from error
            finally:
                sources.write_quarantine(connection, name, folder / "quarantine" / f"{name}.csv")
            sample = connection.sql(f'select * from "{name}" limit 5').df()
            dataset.note_origin(connection, name, {"snapshot": taken.sha256})
        yield dg.AssetCheckResult(
            check_name="accepted",
            passed=True,
            metadata={
                "findings": dg.MetadataValue.md(report.as_markdown()),
                "quarantined": report.quarantined,
            },
        )
        yield dg.MaterializeResult(
            asset_key=own,
            data_version=dg.DataVersion(taken.sha256),
            metadata={
                "dagster/row_count": report.accepted,
                "rows_read": report.read,
                "rows_quarantined": report.quarantined,
                "bytes": taken.size,
                "sha256": taken.sha256,
                "snapshot": dg.MetadataValue.path(str(taken.path)),
                "findings": dg.MetadataValue.md(report.as_markdown()),
                "sample": dg.MetadataValue.md(sample.to_markdown(index=False)),
            },
        )

    return table


def column_schema(columns: Any) -> dg.TableSchema:
    """The declared columns as Dagster shows them on an asset's page."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                column.type.value,
                description=" ".join(filter(None, (column.description, column.range, column.unit))),
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.unique),
            )
            for name, column in columns.items()
        ]
    )


def features_schema(spec: ForecastSpec) -> dg.TableSchema:
    """The registry of features: of each its words and its SQL."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f"feature_{feature.name}",
                "number",
                description=f"{spec.described(feature.name, feature.description)} `{feature.expression}`".strip(),
            )
            for feature in parse(spec.features_sql, spec.input_columns)
        ]
    )


def features_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "features"),
        deps=[key(spec, name) for name in spec.sources],
        description=(
            f"One row per {spec.entity.name}: inputs, features and the target "
            f"({spec.target.unit}, {spec.target.horizon}).\n\n"
            + "\n".join(
                f"```sql\n{text}```"
                for text in (*spec.examples_sql.values(), spec.features_sql, spec.target_sql)
            )
        ),
        code_version=spec.fingerprint(*(part for part in TABLE_PARTS if part != "sources"))[:12],
        pool=f"{spec.name}_warehouse",
        metadata={"dagster/column_schema": features_schema(spec)},
        **common(spec, "duckdb", "sql", "parquet"),
    )
    def features(context: dg.AssetExecutionContext, warehouse: resources.Warehouse) -> dg.MaterializeResult:
        from vroom_assets import dataset, plots

        with warehouse.connect(spec.name) as connection:
            try:
                dataset.build(connection, spec)
            except dataset.DatasetError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            data = dataset.read(connection, spec)
            path = dataset.write_parquet(connection, spec.name, data.data_version)
            sample = connection.execute("from features limit 5").df()
        table = data.features.assign(**{spec.target.name: data.target})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data.data_version),
            metadata={
                "dagster/row_count": len(table),
                "target_mean": float(data.target.mean()),
                "target_median": float(np.median(data.target)),
                "target_sd": float(data.target.std()),
                "zero_share": float((data.target == 0).mean()),
                "data_as_of": data.data_as_of,
                "data_version": data.data_version,
                "parquet": dg.MetadataValue.path(str(path)),
                "sample": dg.MetadataValue.md(sample.to_markdown(index=False)),
                "statistics": dg.MetadataValue.md(table.describe().T.round(3).to_markdown()),
                "correlations": dg.MetadataValue.md(table.corr().round(2).to_markdown()),
                "target_distribution": dg.MetadataValue.md(
                    plots.markdown(plots.target_distribution(data.target, spec.target.name), "target")
                ),
                "target_by_feature": dg.MetadataValue.md(
                    plots.markdown(
                        plots.target_by_feature(data.features, data.target, spec.target.name),
                        "target by feature",
                    )
                ),
            },
        )

    return features


def online_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "online_features"),
        deps=[key(spec, "features")],
        description=(
            f"The latest inputs of every {spec.entity.name}, by `{spec.entity_id}`: the service takes from here "
            "what a request leaves out."
        ),
        code_version=spec.fingerprint("entity", "inputs", "examples", "examples_sql")[:12],
        pool=f"{spec.name}_warehouse",
        **common(spec, "sqlite"),
    )
    def online_features(
        context: dg.AssetExecutionContext, warehouse: resources.Warehouse
    ) -> dg.MaterializeResult:
        from vroom_assets import dataset, online

        with warehouse.connect(spec.name) as connection:
            try:
                count = online.store(connection, spec)
                made_from = dataset.origin(connection, "features")
            except dataset.DatasetError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made_from["data_version"]),
            metadata={
                "dagster/row_count": count,
                "data_as_of": made_from["data_as_of"],
                "file": dg.MetadataValue.path(str(forecast_folder(spec.name) / ENTITIES)),
            },
        )

    return online_features
