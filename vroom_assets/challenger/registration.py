"""The challenger: the chosen candidate as a proved bundle, registered in MLflow with its evidence."""

from __future__ import annotations

import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from vroom_api.contract import FORMAT, Calibration, Manifest
from vroom_assets import plots
from vroom_assets.challenger.manifest import (
    background_rows,
    fallback_of,
    feature_fields,
    freshness_policy,
    golden_rows,
    input_fields,
    levers,
    recipe_of,
)
from vroom_assets.challenger.parity import Exported
from vroom_assets.champion import publication
from vroom_assets.features.expressions import Feature
from vroom_assets.features.table import Dataset
from vroom_assets.spec import ForecastSpec
from vroom_assets.tracking import MANIFEST_TAG, tracking_uri
from vroom_assets.training.metrics import MEASURES, Measures
from vroom_assets.training.models import Fitted
from vroom_assets.training.search import Search
from vroom_assets.training.summary import error_by, summary

LIBRARIES = ("scikit-learn", "interpret-core", "numpy", "duckdb", "onnx", "onnxruntime", "mlflow", "dagster")
MLFLOW_TAG = 5_000  # characters that it may have


def register(
    tracking: Any,
    spec: ForecastSpec,
    definitions: list[Feature],
    dataset: Dataset,
    found: Search,
    exported: Exported,
    calibration: Calibration,
    measures: Measures,
    dagster_run_id: str,
) -> Manifest:
    """Log everything about the training, register the graph as a version and attach its bundle."""
    import onnx

    metrics = summary(found, dataset.target, measures, spec.gates.reference)
    metrics |= _train_figures(exported.fitted, dataset, measures)
    metrics |= {f"coverage_{name}": value for name, value in calibration.coverage.items()}
    fallback = fallback_of(spec, found, dataset, measures, exported)
    if fallback is not None:
        metrics |= {f"fallback_{measures.error}": fallback.error}
        metrics |= {
            f"fallback_coverage_{name}": value for name, value in fallback.calibration.coverage.items()
        }
    tracking.log_params(_parameters(spec, found, dataset))
    tracking.log_metrics(metrics | {f"importance_{n}": v for n, v in found.importances.items()})
    means = found.fold_metrics.groupby("candidate").mean(numeric_only=True)
    for name, row in means.iterrows():
        tracking.log_metrics(
            {f"candidate.{name}.cv_{metric}": float(row[metric]) for metric in measures.metrics}
        )
    _log_dataset(tracking, spec, dataset)
    for name, canvas in {
        "candidates": plots.candidates(found.fold_metrics, measures.error, found.chosen),
        "predicted_and_observed": plots.predicted_and_seen(
            found.predictions(found.chosen), dataset.target[found.predicted], spec.target.unit
        ),
        "importances": plots.importances(found.importances, measures.error),
    }.items():
        tracking.log_figure(canvas, f"plots/{name}.png")
    tracking.log_text(found.fold_metrics.to_csv(index=False), "fold_metrics.csv")
    for name, values in dataset.tags.items():
        parts = error_by(values, found, dataset.target, measures)
        tracking.log_text(parts.to_csv(index=False), f"error_by_{name}.csv")
        tracking.set_tag(f"vroom.{name}", ", ".join(sorted(parts["value"]))[:MLFLOW_TAG])

    logged = tracking.onnx.log_model(
        onnx.load_model_from_string(exported.model),
        name="model",
        registered_model_name=spec.name,
        onnx_execution_providers=["CPUExecutionProvider"],
        signature=_signature(dataset, exported.fitted),
        input_example={"inputs": dataset.inputs.head(3).to_numpy()},
        pip_requirements=[f"onnxruntime=={installed('onnxruntime')}", f"numpy=={installed('numpy')}"],
    )
    registered = int(logged.registered_model_version)
    manifest = Manifest(
        format=FORMAT,
        forecast=spec.name,
        title=spec.title,
        version=registered,
        entity=spec.entity.name,
        target=spec.target.name,
        kind=spec.target.kind.value,
        unit=spec.target.unit,
        horizon=spec.target.horizon,
        inputs=input_fields(spec, dataset.inputs),
        features=feature_fields(spec, definitions, dataset.features),
        recipe=recipe_of(found.chosen, spec.candidates, exported.fitted),
        calibration=calibration,
        metrics=metrics,
        importances=found.importances,
        rows=len(dataset.target),
        target_mean=float(dataset.target.mean()),
        data_version=dataset.data_version,
        data_as_of=dataset.data_as_of,
        snapshots=dataset.snapshots,
        code_version=spec.whole_fingerprint(),
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        mlflow_run_id=tracking.active_run().info.run_id,
        dagster_run_id=dagster_run_id,
        libraries={"python": platform.python_version()} | {name: installed(name) for name in LIBRARIES},
        files={},
        background=background_rows(dataset, exported.fitted, spec.validation.seed),
        advice=levers(spec),
        freshness=freshness_policy(spec),
        fallback=fallback,
        tags=spec.entity.tags,
    )
    golden = golden_rows(dataset, exported, definitions, spec.gates.parity)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        digest = publication.write(folder, manifest, exported.model, golden)
        tracking.log_artifacts(str(folder), "bundle")
    client = tracking.MlflowClient(tracking_uri())
    for key, value in {
        MANIFEST_TAG: digest,
        "vroom.data_version": dataset.data_version,
        "vroom.code_version": spec.whole_fingerprint(),
        "vroom.recipe": found.chosen,
        "dagster_run_id": dagster_run_id,
    }.items():
        client.set_model_version_tag(spec.name, str(registered), key, value)
    client.set_registered_model_alias(spec.name, "challenger", str(registered))
    return manifest


def _train_figures(fitted: Fitted, dataset: Dataset, measures: Measures) -> dict[str, float]:
    prediction = fitted.predict(dataset.features)
    return {f"train_{name}": score(dataset.target, prediction) for name, score in measures.metrics.items()}


def _parameters(spec: ForecastSpec, found: Search, dataset: Dataset) -> dict[str, Any]:
    chosen = spec.candidates[found.chosen]
    validation = {f"validation.{name}": value for name, value in spec.validation.model_dump().items()}
    own = {
        f"{name}.{parameter}": value
        for name in (found.chosen, *chosen.members)
        for parameter, value in spec.candidates[name].parameters.items()
    }
    return (
        {
            "candidate": found.chosen,
            "family": chosen.family.value,
            "candidates": ", ".join(spec.candidates),
            "baselines": ", ".join(MEASURES[spec.target.kind].baselines),
            "nested_choices": ", ".join(found.nested_choices),
            "rows": len(dataset.target),
            "features": ", ".join(dataset.features.columns),
        }
        | validation
        | own
    )


def _log_dataset(tracking: Any, spec: ForecastSpec, dataset: Dataset) -> None:
    frame = dataset.features.assign(**{spec.target.name: dataset.target})
    tracking.log_input(
        tracking.data.from_pandas(
            frame, name=f"{spec.name}_features", targets=spec.target.name, digest=dataset.data_version[:36]
        ),
        context="training",
    )


def _signature(dataset: Dataset, fitted: Fitted) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float64"), (-1, dataset.inputs.shape[1]), "inputs")]),
        outputs=Schema(
            [
                TensorSpec(np.dtype("float64"), (-1,), "prediction"),
                TensorSpec(np.dtype("float64"), (-1, dataset.features.shape[1]), "features"),
            ]
        ),
    )
