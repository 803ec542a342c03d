"""The table of features, and what is stored of each entity."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_assets import resources, settings
from vroom_assets.forecast.names import key
from vroom_assets.spec import ForecastSpec, Purpose

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from vroom_assets.features.engine import Engine


def features_schema(spec: ForecastSpec) -> dg.TableSchema:
    """The registry of features: each with its description and its SQL."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f"feature_{feature.name}",
                "number",
                description=": ".join(
                    filter(
                        None, (spec.described(feature.name, feature.description), f"`{feature.expression}`")
                    )
                ),
            )
            for feature in spec.features
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
        code_version=spec.fingerprint(Purpose.DATA)[:12],
        pool=f"{spec.name}_warehouse",
        metadata={"dagster/column_schema": features_schema(spec)},
    )
    def features(warehouse: resources.Warehouse) -> dg.MaterializeResult:
        return compute(spec, warehouse)

    return features


def compute(spec: ForecastSpec, warehouse: resources.Warehouse) -> dg.MaterializeResult:
    """Compute features and targets from the checked tables: the body of the asset `features`."""
    from vroom_assets import plots
    from vroom_assets.features import table as feature_table
    from vroom_assets.features.engine import StatementError

    with warehouse.connect(spec.name) as connection:
        try:
            with _chosen_engine(connection, spec) as engine:
                feature_table.build(connection, spec, engine)
        except (feature_table.DatasetError, StatementError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        data = feature_table.read(connection, spec)
        path = feature_table.write_parquet(connection, spec.name, data.data_version)
        sample = connection.execute("from features limit 5").df()
        without_target = feature_table.count_without_target(connection, spec, len(data.target))
    table = data.features.assign(**{spec.target.name: data.target})
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data.data_version),
        metadata={
            "dagster/row_count": len(table),
            "engine": settings.engine(),
            "rows_without_target": without_target,
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
                plots.markdown(plots.png(plots.target_distribution(data.target, spec.target.name)), "target")
            ),
            "target_by_feature": dg.MetadataValue.md(
                plots.markdown(
                    plots.png(plots.target_by_feature(data.features, data.target, spec.target.name)),
                    "target by feature",
                )
            ),
        },
    )


@contextmanager
def _chosen_engine(connection: "DuckDBPyConnection", spec: ForecastSpec) -> "Iterator[Engine | None]":
    """For the length of a block: what computes features by VROOM_ENGINE; None is the warehouse."""
    with resources.spark_session() as session:
        if session is None:
            yield None
            return
        from vroom_assets.spark.tables import tables

        with tables(session, connection, spec) as engine:
            yield engine


def online_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "online_features"),
        deps=[key(spec, "features")],
        description=(
            f"The latest inputs of every {spec.entity.name}, by `{spec.entity_id}`: the service takes from here "
            "what a request leaves out."
        ),
        code_version=spec.fingerprint(Purpose.DATA, "entity", "inputs", "examples", "examples_sql")[:12],
        pool=f"{spec.name}_warehouse",
    )
    def online_features(warehouse: resources.Warehouse) -> dg.MaterializeResult:
        return store(spec, warehouse)

    return online_features


def store(spec: ForecastSpec, warehouse: resources.Warehouse) -> dg.MaterializeResult:
    """Store the latest inputs of every entity for the service: the body of the asset `online_features`."""
    from vroom_assets.features import saved_entities
    from vroom_assets.features import table as feature_table

    with warehouse.connect(spec.name) as connection:
        try:
            stored = saved_entities.materialize(connection, spec)
            made_from = feature_table.origin(connection, "features")
        except feature_table.DatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
    version = made_from["data_version"]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{version}+{stored.digest}" if stored.digest else version),
        metadata={
            "dagster/row_count": stored.count,
            "data_as_of": made_from["data_as_of"],
            "file": dg.MetadataValue.path(str(forecast_folder(spec.name) / ENTITIES)),
            "saved": stored.saved,
            "newly_materialized": stored.new,
            "closed": stored.closed,
            "refused": len(stored.refused),
            **({"note": stored.note} if stored.note else {}),
        },
    )
