"""The challenger: the chosen candidate as a proved bundle, registered in MLflow with its evidence."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import (
    FORMAT,
    AgeLimits,
    Calibration,
    Fallback,
    FeatureField,
    FreshnessPolicy,
    Golden,
    InputField,
    Lever,
    Manifest,
    Recipe,
)
from vroom_assets import bundle, plots
from vroom_assets.dataset import Dataset
from vroom_assets.features import Feature, inputs_of
from vroom_assets.graph import Otherwise, Parity, build, parity
from vroom_assets.measures import MEASURES, Measures
from vroom_assets.models import Fitted, fit_all
from vroom_assets.resources import MANIFEST_TAG, tracking_uri
from vroom_assets.spec import Ages, Candidate, ColumnType, ForecastSpec
from vroom_assets.spec import Fallback as Declined
from vroom_assets.training import Search, calibration_of, error_by, reference, summary

LIBRARIES = ("scikit-learn", "interpret-core", "numpy", "duckdb", "onnx", "onnxruntime", "mlflow", "dagster")
GOLDEN_ROWS = 24
BACKGROUND_ROWS = 64
LEVELS = 20  # an integer input with at most so many values, each seen often, is discrete
DAY = 86_400.0
MLFLOW_TAG = 5_000  # characters that it may have


@dataclass(frozen=True)
class Exported:
    """A candidate fitted on all rows, as a graph that agrees with it."""

    fitted: Fitted
    model: bytes
    otherwise: Otherwise | None = None  # what answers rows with gaps, in the same graph


def exportable(
    spec: ForecastSpec, definitions: list[Feature], dataset: Dataset
) -> tuple[dict[str, Exported], dict[str, str]]:
    """Fit every candidate on all rows and keep those whose graph agrees with them on every row.

    Returns:
        the candidates that may compete, and for each other one the reason it may not.
    """
    models = fit_all(
        spec.candidates, dataset.features, dataset.target, spec.validation.seed, dataset.arrangement.groups
    )
    kept: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    inputs = dataset.inputs.to_numpy()
    other = (
        None if spec.fallback is None else Otherwise(spec.fallback.without, models[spec.fallback.candidate])
    )
    for name, fitted in models.items():
        model = build(spec.inputs, definitions, fitted, other).SerializeToString(deterministic=True)
        gap = parity(model, inputs, dataset.features.to_numpy(), fitted.predict(dataset.features))
        if spec.fallback is not None and other is not None:
            gap = worse(gap, fallback_parity(model, spec.fallback, other, definitions, dataset))
        if gap.features <= 1e-9 and gap.prediction <= spec.gates.parity:
            kept[name] = Exported(fitted, model, other)
        else:
            refused[name] = (
                f"its graph differs from the model: features by {gap.features:.1e}, "
                f"prediction by {gap.prediction:.1e} relative"
            )
    for name, candidate in spec.candidates.items():
        lost = [member for member in candidate.members if member in refused]
        if name in kept and lost:
            del kept[name]
            refused[name] = f"its member {', '.join(lost)} may not compete"
    return kept, refused


def fallback_parity(
    model: bytes, rule: Declined, other: Otherwise, definitions: list[Feature], dataset: Dataset
) -> Parity:
    """How far the graph is from the fallback's model where each of its inputs in turn is left out, and all."""
    worst = Parity(0.0, 0.0)
    for gaps in [*([name] for name in rule.without), rule.without]:
        known = [place for place, feature in enumerate(definitions) if not inputs_of(feature) & set(gaps)]
        inputs = dataset.inputs.assign(**dict.fromkeys(gaps, np.nan)).to_numpy()
        expected = other.fitted.predict(dataset.features)
        worst = worse(worst, parity(model, inputs, dataset.features.to_numpy(), expected, known))
    return worst


def worse(one: Parity, other: Parity) -> Parity:
    return Parity(max(one.features, other.features), max(one.prediction, other.prediction))


def input_fields(spec: ForecastSpec, inputs: pd.DataFrame) -> list[InputField]:
    """The request schema: the declaration's ranges and what training saw of each input."""
    without = spec.fallback.without if spec.fallback is not None else []
    return [
        InputField(
            name=name,
            type=INPUT_TYPES[column.type],
            description=column.description,
            unit=column.unit,
            minimum=column.minimum,
            above=column.above,
            maximum=column.maximum,
            seen_minimum=float(seen.iloc[0]),
            seen_maximum=float(seen.iloc[-1]),
            example=float(seen.iloc[len(seen) // 2]),
            levels=_levels(seen, column.type),
            values=column.values,
            nullable=column.nullable or name in without,
            seen_missing=len(seen) < len(inputs) or name in without,
        )
        for name, column in spec.input_columns.items()
        for seen in [inputs[name].dropna().sort_values()]
    ]


INPUT_TYPES: dict[ColumnType, Literal["integer", "number", "text"]] = {
    ColumnType.INTEGER: "integer",
    ColumnType.NUMBER: "number",
    ColumnType.TEXT: "text",
}


def _levels(values: pd.Series, kind: ColumnType) -> list[float]:
    """Every value of a text, or of an integer that has few."""
    found = sorted(float(value) for value in values.unique())
    if kind is ColumnType.TEXT:
        return found
    return found if kind is ColumnType.INTEGER and len(found) <= min(LEVELS, len(values) / 10) else []


def feature_fields(spec: ForecastSpec, definitions: list[Feature], frame: pd.DataFrame) -> list[FeatureField]:
    """The features with what training saw of each and the inputs that each one reads."""
    fields = []
    for feature in definitions:
        values = frame[feature.name].to_numpy()
        fields.append(
            msgspec.structs.replace(
                reference(feature.name, feature.expression, values),
                inputs=[name for name in spec.inputs if name in inputs_of(feature)],
                description=spec.described(feature.name, feature.description),
                seen_minimum=float(values.min()),
                seen_maximum=float(values.max()),
            )
        )
    return fields


def background_rows(dataset: Dataset, fitted: Fitted, seed: int) -> list[list[float | None]]:
    """Inputs of training rows whose mean prediction is close to that of all rows.

    A systematic sample along the order of the predictions from a random start: every row is as likely as
    any other, and high and low predictions get their share.
    """
    order = np.argsort(fitted.predict(dataset.features), kind="stable")
    size = min(BACKGROUND_ROWS, len(order))
    start = np.random.default_rng(seed).random()
    rows = order[((np.arange(size) + start) * len(order) / size).astype(int)]
    return _told(dataset.inputs.to_numpy()[rows])


def _told(rows: np.ndarray) -> list[list[float | None]]:
    """Rows as JSON can hold them: None for what was left out."""
    return [[None if np.isnan(value) else value for value in row] for row in rows.tolist()]


def levers(spec: ForecastSpec) -> dict[str, Lever]:
    return {
        name: Lever(input=advice.lever, worth=advice.worth, unit=advice.unit, description=advice.description)
        for name, advice in spec.advice.items()
    }


def freshness_policy(spec: ForecastSpec) -> FreshnessPolicy:
    def limits(ages: Ages | None) -> AgeLimits | None:
        if ages is None:
            return None
        return AgeLimits(
            stale_after_s=ages.stale_after_days * DAY, expired_after_s=ages.expired_after_days * DAY
        )

    declared = spec.freshness
    return FreshnessPolicy(
        model=limits(declared.model_age), data=limits(declared.data_age), expired=declared.expired.value
    )


def golden_rows(dataset: Dataset, exported: Exported, definitions: list[Feature], tolerance: float) -> Golden:
    """Rows spread over the predictions, lowest and highest included, with the model's own outputs.

    With a fallback some of them come again without the inputs that it does without.
    """
    inputs, features = dataset.inputs, dataset.features
    prediction = exported.fitted.predict(features)
    order = np.argsort(prediction, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, GOLDEN_ROWS).astype(int))]
    shown = [(inputs.iloc[rows], features.iloc[rows], prediction[rows])]
    if exported.otherwise is not None:
        rows, without = rows[::4], set(exported.otherwise.without)
        lost = [feature.name for feature in definitions if inputs_of(feature) & without]
        answers = exported.otherwise.fitted.predict(features.iloc[rows])
        gaps = inputs.iloc[rows].assign(**dict.fromkeys(without, np.nan))
        shown.append((gaps, features.iloc[rows].assign(**dict.fromkeys(lost, np.nan)), answers))
    return Golden(
        inputs=[row for part, _, _ in shown for row in _told(part.to_numpy())],
        features=[row for _, part, _ in shown for row in _told(part.to_numpy())],
        predictions=[value for _, _, part in shown for value in part.tolist()],
        tolerance=tolerance,
    )


def fallback_of(
    spec: ForecastSpec, found: Search, dataset: Dataset, measures: Measures, exported: Exported
) -> Fallback | None:
    """The declared fallback with its own certainty, from its out-of-fold predictions; it was not chosen by them."""
    if spec.fallback is None or exported.otherwise is None:
        return None
    name = spec.fallback.candidate
    seen = dataset.target[found.predicted]
    return Fallback(
        without=spec.fallback.without,
        description=spec.fallback.description,
        recipe=recipe_of(name, spec.candidates, exported.otherwise.fitted),
        calibration=calibration_of(found, name, dataset.target, measures),
        error=measures.metrics[measures.error](seen, found.predictions(name)),
    )


def recipe_of(name: str, candidates: Mapping[str, Candidate], fitted: Fitted) -> Recipe:
    """The chosen candidate with its members, enough to fit it again."""
    chosen = candidates[name]
    definition = {n: candidates[n].model_dump(mode="json") for n in (name, *chosen.members)}
    return Recipe(
        name=name, family=chosen.family.value, features=list(fitted.features), definition=definition
    )


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
        code_version=spec.fingerprint(),
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
        digest = bundle.write(folder, manifest, exported.model, golden)
        tracking.log_artifacts(str(folder), "bundle")
    client = tracking.MlflowClient(tracking_uri())
    for key, value in {
        MANIFEST_TAG: digest,
        "vroom.data_version": dataset.data_version,
        "vroom.code_version": spec.fingerprint(),
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
