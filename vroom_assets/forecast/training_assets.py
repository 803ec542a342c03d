"""The search of the candidates and the challenger that won it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from vroom_assets.forecast.champion_assets import RETRY
from vroom_assets.forecast.names import CHALLENGER, common, key
from vroom_assets.spec import ForecastSpec, Purpose


def training_assets(spec: ForecastSpec) -> dg.AssetsDefinition:
    """The search: one operation, one MLflow run, two assets (the table of scores and the model)."""
    code_version = spec.fingerprint(Purpose.MODEL)[:12]
    challenger = key(spec, CHALLENGER)

    @dg.multi_asset(
        name=f"{spec.name}_training",
        specs=[
            dg.AssetSpec(
                key(spec, "cv_metrics"),
                deps=[key(spec, "features")],
                description=(
                    "Every candidate and baseline on the same repeated folds, with out-of-fold predictions; "
                    "tables `cv_metrics` and `out_of_fold` of the warehouse."
                ),
                code_version=code_version,
                **common(spec, "duckdb", "scikitlearn"),
            ),
            dg.AssetSpec(
                challenger,
                deps=[key(spec, "cv_metrics")],
                description=(
                    f"The candidate that won the search, fitted on all rows, as version of the registered "
                    f"model `{spec.name}` in MLflow."
                ),
                code_version=code_version,
                **common(spec, "mlflow", "onnx", "scikitlearn"),
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                "gates",
                asset=challenger,
                description="Interval coverage, bias and skill over the baselines; what fails here is never published.",
            )
        ],
        required_resource_keys={"warehouse", "ledger", "mlflow"},
        retry_policy=RETRY,
        pool=f"{spec.name}_warehouse",
    )
    def training(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from train(context, spec)

    return training


def train(context: dg.AssetExecutionContext, spec: ForecastSpec) -> Iterator[Any]:
    """Search, fit, prove, register: the body of the two training assets."""
    from vroom_assets import plots
    from vroom_assets.challenger import parity, registration
    from vroom_assets.champion import gates
    from vroom_assets.features import table as feature_table
    from vroom_assets.training import intervals, search, summary
    from vroom_assets.training.folds import TooFewRows
    from vroom_assets.training.metrics import MEASURES

    measures = MEASURES[spec.target.kind]
    warehouse, ledger = context.resources.warehouse, context.resources.ledger
    with warehouse.connect(spec.name) as connection:
        try:
            data = feature_table.read(connection, spec)
        except feature_table.DatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        features = feature_table.definitions(spec)
        tags = {
            "vroom.forecast": spec.name,
            "vroom.data_version": data.data_version,
            "vroom.code_version": spec.whole_fingerprint(),
            "vroom.attempt": str(context.retry_number + 1),
        }
        with context.resources.mlflow.run(spec.name, tags) as tracking:
            exports, refused = parity.exportable(spec, features, data)
            for name, reason in refused.items():
                context.log.warning(f"candidate {name} may not compete: {reason}")
            if not exports:
                raise dg.Failure(description=f"no candidate can be exported: {refused}", allow_retries=False)
            if spec.fallback is not None and spec.fallback.candidate in refused:
                raise dg.Failure(
                    description=f"the fallback cannot be exported: {refused[spec.fallback.candidate]}",
                    allow_retries=False,
                )
            competing = {name: spec.candidates[name] for name in spec.candidates if name in exports}
            try:
                found = search.search(
                    data.features,
                    data.target,
                    competing,
                    spec.validation,
                    measures,
                    context.log.info,
                    data.arrangement,
                )
            except TooFewRows as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            calibration = intervals.calibration_of(found, found.chosen, data.target, measures)
            manifest = registration.register(
                tracking,
                spec,
                features,
                data,
                found,
                exports[found.chosen],
                calibration,
                measures,
                context.run.run_id,
            )
            summary.write_search(connection, found, data)
    failures = gates.failed_gates(
        manifest.metrics, calibration.coverage, float(data.target.mean()), spec.gates
    )
    trained = spec.trained_version(data.snapshots)
    ledger.enter(
        forecast=spec.name,
        actor=f"job {context.job_name}",
        event="training",
        decision="registered",
        reason=f"{found.chosen} won the search and is version {manifest.version}",
        evidence={
            "version": manifest.version,
            "candidate": found.chosen,
            "data_version": data.data_version,
            "mlflow_run": manifest.mlflow_run_id,
            "failed_gates": failures,
            "not_exportable": refused,
        },
        run_id=context.run.run_id,
    )
    means = found.fold_metrics.groupby("candidate").mean(numeric_only=True).drop(columns=["repeat", "fold"])
    yield dg.MaterializeResult(
        asset_key=key(spec, "cv_metrics"),
        data_version=dg.DataVersion(trained),
        metadata={
            "nested_" + measures.error: manifest.metrics[f"nested_{measures.error}"],
            "nested_" + measures.select: manifest.metrics[f"nested_{measures.select}"],
            "chosen": found.chosen,
            "chosen_without_seeing_the_fold": ", ".join(found.nested_choices),
            "candidates": dg.MetadataValue.md(means.sort_values(measures.select).round(4).to_markdown()),
            "not_exportable": dg.MetadataValue.json(refused),
            "plot": dg.MetadataValue.md(
                plots.markdown(
                    plots.candidates(found.fold_metrics, measures.error, found.chosen), "candidates"
                )
            ),
            **{f"{name}_{measures.error}": float(row[measures.error]) for name, row in means.iterrows()},
            **{
                f"error_by_{name}": dg.MetadataValue.md(
                    summary.error_by(values, found, data.target, measures).round(4).to_markdown(index=False)
                )
                for name, values in data.tags.items()
            },
        },
    )
    yield dg.AssetCheckResult(
        asset_key=key(spec, CHALLENGER),
        check_name="gates",
        passed=not failures,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(failures) or "all gates passed",
        metadata={f"coverage_{name}": value for name, value in calibration.coverage.items()},
    )
    yield dg.MaterializeResult(
        asset_key=key(spec, CHALLENGER),
        data_version=dg.DataVersion(trained),
        metadata={
            "version": manifest.version,
            "candidate": found.chosen,
            "trained_version": trained,
            "mlflow_run": manifest.mlflow_run_id,
            **{name: value for name, value in manifest.metrics.items() if "fold_" not in name},
            "importances": dg.MetadataValue.md(
                plots.markdown(plots.importances(found.importances, measures.error), "importances")
            ),
            "predicted_and_observed": dg.MetadataValue.md(
                plots.markdown(
                    plots.predicted_and_seen(
                        found.predictions(found.chosen), data.target[found.predicted], spec.target.unit
                    ),
                    "predicted and observed",
                )
            ),
        },
    )
