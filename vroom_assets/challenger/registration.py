"""The challenger: the chosen candidate as a proved bundle, registered in MLflow with its evidence."""

from __future__ import annotations

import platform
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vroom_api.contract import MINOR, Manifest, environment, format_of
from vroom_assets.challenger import numbering
from vroom_assets.challenger.experiment import Experiment
from vroom_assets.challenger.manifest import (
    background_rows,
    due_seconds,
    feature_fields,
    freshness_policy,
    golden_rows,
    input_fields,
    levers,
    recipe_of,
    training_of,
)
from vroom_assets.champion import publication
from vroom_assets.monitoring.reference import reference_of
from vroom_assets.settings import tracking_uri
from vroom_assets.tracking import DAGSTER_RUN_TAG, MANIFEST_TAG
from vroom_assets.training.lightgbm_model import OBJECTIVES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LIBRARIES = ("scikit-learn", "interpret-core", "numpy", "duckdb", "onnx", "onnxruntime", "mlflow", "dagster")
MLFLOW_TAG = 5_000  # characters that it may have


def register(experiment: Experiment, tracking: Any, dagster_run_id: str) -> Manifest:
    """Log everything about a training, register its graph as a version and attach its bundle.

    Args:
        tracking: MLflow, with the run of the training active.
    """
    _log(experiment, tracking)
    client = tracking.MlflowClient(tracking_uri())
    _log_candidates(experiment, client, tracking.active_run())
    numbering.skip_given(client, experiment.spec.name)
    version = _log_model(experiment, tracking)
    manifest = manifest_of(experiment, version, tracking.active_run().info.run_id, dagster_run_id)
    spec = experiment.spec
    golden = golden_rows(experiment.displayed, experiment.exported, spec.features, spec.gates.parity)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        training = training_of(spec, experiment.search)
        digest = publication.write(folder, manifest, experiment.exported.model, golden, training)
        tracking.log_artifacts(str(folder), "bundle")
    for key, value in {
        MANIFEST_TAG: digest,
        "vroom.data_version": manifest.data_version,
        "vroom.code_version": manifest.code_version,
        "vroom.recipe": manifest.recipe.name,
        "dagster_run_id": dagster_run_id,
    }.items():
        client.set_model_version_tag(spec.name, str(version), key, value)
    _describe(experiment, client, manifest)
    client.set_registered_model_alias(spec.name, "challenger", str(version))
    return manifest


def _describe(experiment: Experiment, client: MlflowClient, manifest: Manifest) -> None:
    """Let MLflow's pages say what the run and its version are, and lead to the run of Dagster."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    run_id, as_of = manifest.mlflow_run_id, manifest.data_as_of[:10]
    client.update_run(run_id, name=f"{manifest.forecast} {manifest.version}, data as of {as_of}")
    client.update_model_version(manifest.forecast, str(manifest.version), summary(experiment, manifest))
    if page := environment.pages().dagster_run(manifest.dagster_run_id):
        client.set_tag(run_id, MLFLOW_RUN_NOTE, f"Trained by [a run of Dagster]({page}).")


def summary(experiment: Experiment, manifest: Manifest) -> str:
    """What a version is, in a sentence, as MLflow's page of it shows."""
    scores = experiment.scores
    return (
        f"{manifest.recipe.name}, fitted on {manifest.rows:,} rows as of {manifest.data_as_of[:10]}; "
        f"{scores.error} {scores.nested[scores.error]:.4g} on rows that neither it nor its choice had seen."
    )


def manifest_of(experiment: Experiment, version: int, mlflow_run_id: str, dagster_run_id: str) -> Manifest:
    """What the bundle says of itself; the digests of its files are added when they are written."""
    spec, data, fitted = experiment.spec, experiment.data, experiment.exported.fitted
    fallbacks = [experiment.fallback.calibration] if experiment.fallback is not None else []
    inputs, features = input_fields(spec, data.inputs), feature_fields(spec, data.features)
    return Manifest(
        format=format_of([experiment.calibration, *fallbacks], inputs),
        minor=MINOR,
        forecast=spec.name,
        title=spec.title,
        version=version,
        entity=spec.entity.name,
        target=spec.target.name,
        kind=spec.target.kind,
        unit=spec.target.unit,
        horizon=spec.target.horizon,
        inputs=inputs,
        features=features,
        recipe=recipe_of(experiment.search.chosen, spec.candidates, fitted),
        calibration=experiment.calibration,
        metrics=experiment.scores.flat(),
        scores=experiment.scores,
        importances=experiment.search.importances,
        rows=len(data.target),
        target_mean=float(data.target.mean()),
        data_version=data.data_version,
        data_as_of=data.data_as_of,
        snapshots=data.snapshots,
        code_version=spec.whole_fingerprint(),
        trained_version=spec.trained_version(data.snapshots),
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        mlflow_run_id=mlflow_run_id,
        dagster_run_id=dagster_run_id,
        libraries={"python": platform.python_version()}
        | {name: installed(name) for name in _libraries(experiment)},
        files={},
        background=background_rows(experiment.displayed, fitted, spec.validation.seed),
        advice=levers(spec),
        freshness=freshness_policy(spec),
        fallback=experiment.fallback,
        tags=spec.entity.tags,
        entity_key=spec.entity_id or "",
        entity_source=source.path if (source := spec.sources.get(spec.entity.source)) else spec.entity.source,
        due_s=due_seconds(spec),
        due_input=spec.target.due_input,
        monitoring=reference_of(
            data,
            experiment.search,
            features,
            experiment.calibration,
            experiment.metric_set,
            categories=frozenset(spec.categories_of(spec.features)),
            group=spec.validation.group or "",
        ),
    )


def _libraries(experiment: Experiment) -> list[str]:
    """What made the model, and LightGBM where one competes."""
    has_lightgbm = any(one.family in OBJECTIVES for one in experiment.spec.candidates.values())
    return [*LIBRARIES, *(["lightgbm"] if has_lightgbm else [])]


def _log(experiment: Experiment, tracking: Any) -> None:
    """Parameters, metrics, plots and tables of the run."""
    found, scores = experiment.search, experiment.scores
    tracking.log_params(_parameters(experiment))
    of_folds = {f"cv_{scores.error}_fold_{number}" for number in range(len(scores.folds))}
    tracking.log_metrics(
        {name: value for name, value in scores.flat().items() if name not in of_folds}
        | {f"importance_{name}": value for name, value in found.importances.items()}
    )
    for number, value in enumerate(scores.folds):  # one line, and not as many metrics of one point
        tracking.log_metric(f"cv_{scores.error}", value, step=number)
    _log_dataset(experiment, tracking)
    with tempfile.TemporaryDirectory() as scratch:
        for name, picture in experiment.pictures.items():
            (Path(scratch) / f"{name}.png").write_bytes(picture)
        tracking.log_artifacts(scratch, "plots")
    tracking.log_text(found.fold_metrics.to_csv(index=False), "fold_metrics.csv")
    if len(found.standings):
        tracking.log_text(found.standings.to_csv(index=False), "race.csv")
    if len(experiment.tried):
        tracking.log_text(experiment.tried.to_csv(index=False), "tried.csv")
    for name, parts in experiment.errors_by_tag.items():
        tracking.log_text(parts.to_csv(index=False), f"error_by_{name}.csv")
        tracking.set_tag(f"vroom.{name}", ", ".join(sorted(parts["value"]))[:MLFLOW_TAG])


def _log_candidates(experiment: Experiment, client: MlflowClient, run: Run) -> None:
    """A child run for each candidate and baseline, which MLflow compares side by side."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    tags = {MLFLOW_PARENT_RUN_ID: run.info.run_id, DAGSTER_RUN_TAG: run.data.tags.get(DAGSTER_RUN_TAG, "")}
    now = time.time_ns() // 1_000_000
    for name, row in experiment.fold_means.iterrows():
        candidate = experiment.spec.candidates.get(str(name))
        parameters = {"family": candidate.family.value} | candidate.values if candidate else {}
        measures = [
            Metric(f"cv_{one}_mean", float(row[one]), now, 0) for one in experiment.metric_set.metrics
        ]
        child = client.create_run(run.info.experiment_id, tags=tags, run_name=str(name))
        client.log_batch(
            child.info.run_id, measures, [Param(one, str(value)) for one, value in parameters.items()]
        )
        client.set_terminated(child.info.run_id)


def _log_model(experiment: Experiment, tracking: Any) -> int:
    """Register the graph, and return the number of its version."""
    import onnx

    logged = tracking.onnx.log_model(
        onnx.load_model_from_string(experiment.exported.model),
        name="model",
        registered_model_name=experiment.spec.name,
        onnx_execution_providers=["CPUExecutionProvider"],
        signature=_signature(experiment),
        input_example={"inputs": experiment.data.inputs.head(3).to_numpy()},
        pip_requirements=[f"onnxruntime=={installed('onnxruntime')}", f"numpy=={installed('numpy')}"],
    )
    return int(logged.registered_model_version)


def _parameters(experiment: Experiment) -> dict[str, Any]:
    spec, found, data = experiment.spec, experiment.search, experiment.data
    chosen = spec.candidates[found.chosen]
    validation = {f"validation.{name}": value for name, value in spec.validation.model_dump().items()}
    own = {
        f"{name}.{parameter}": value
        for name in (found.chosen, *chosen.members)
        for parameter, value in spec.candidates[name].values.items()
    }
    return (
        {
            "candidate": found.chosen,
            "why": found.choice.why,
            "family": chosen.family.value,
            "candidates": ", ".join(spec.candidates),
            "baselines": ", ".join(experiment.metric_set.baselines),
            "nested_choices": ", ".join(found.nested_choices),
            "rows": len(data.target),
            "features": ", ".join(data.features.columns),
        }
        | validation
        | own
    )


def _log_dataset(experiment: Experiment, tracking: Any) -> None:
    spec, data = experiment.spec, experiment.data
    tracking.log_input(
        tracking.data.from_pandas(
            data.features.assign(**{spec.target.name: data.target}),
            name=f"{spec.name}_features",
            targets=spec.target.name,
            digest=data.data_version[:36],
        ),
        context="training",
    )


def _signature(experiment: Experiment) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs, features = experiment.data.inputs.shape[1], experiment.data.features.shape[1]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float64"), (-1, inputs), "inputs")]),
        outputs=Schema(
            [
                TensorSpec(np.dtype("float64"), (-1,), "prediction"),
                TensorSpec(np.dtype("float64"), (-1, features), "features"),
            ]
        ),
    )
