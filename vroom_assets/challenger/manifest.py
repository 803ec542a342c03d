"""The parts of a manifest, from what training knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import (
    AgeLimits,
    Fallback,
    FeatureField,
    FreshnessPolicy,
    Golden,
    InputField,
    Lever,
    Manifest,
    Recipe,
    Training,
)
from vroom_api.contract.times import seconds_since
from vroom_assets.challenger.parity import Exported
from vroom_assets.features.expressions import Feature
from vroom_assets.features.table import Dataset, is_declared
from vroom_assets.spec import Ages, Candidate, ColumnType, ForecastSpec, Unseen
from vroom_assets.training.intervals import calibration_of
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.models import Fitted, reach
from vroom_assets.training.search import Search
from vroom_assets.training.summary import reference

GOLDEN_ROWS = 24
BACKGROUND_ROWS = 64
LEVELS = 20  # an integer input with at most so many values, each seen often, is discrete
DAY = 86_400.0


def input_fields(spec: ForecastSpec, inputs: pd.DataFrame) -> list[InputField]:
    """The request schema: the declaration's ranges and the range of each input seen in training."""
    without = spec.fallback.without if spec.fallback is not None else []
    return [
        InputField(
            name=name,
            type=INPUT_TYPES[column.type.stored],
            description=column.description,
            unit=column.unit,
            minimum=column.lowest if column.earliest is None else seconds_since(column.earliest),
            above=column.above,
            maximum=column.highest if column.latest is None else seconds_since(column.latest),
            seen_minimum=float(seen.iloc[0]),
            seen_maximum=float(seen.iloc[-1]),
            example=float(seen.iloc[len(seen) // 2]),
            levels=_levels(seen, column.type.stored),
            values=column.levels,
            is_open=column.is_category and column.unseen is Unseen.ANSWER,
            nullable=column.nullable or name in without,
            seen_missing=len(seen) < len(inputs) or name in without,
        )
        for name, column in spec.input_columns.items()
        for seen in [inputs[name].dropna().sort_values()]
    ]


INPUT_TYPES: dict[ColumnType, Literal["integer", "number", "text", "time"]] = {
    ColumnType.INTEGER: "integer",
    ColumnType.NUMBER: "number",
    ColumnType.TEXT: "text",
    ColumnType.TIMESTAMP: "time",
}


def _levels(values: pd.Series, kind: ColumnType) -> list[float]:
    """Every value of a text, or of an integer that has few."""
    found = sorted(float(value) for value in values.unique())
    if kind is ColumnType.TEXT:
        return found
    return found if kind is ColumnType.INTEGER and len(found) <= min(LEVELS, len(values) / 10) else []


def feature_fields(spec: ForecastSpec, frame: pd.DataFrame) -> list[FeatureField]:
    """The features with the range of each seen in training and the inputs that each one reads.

    Time goes on, so the range of a trend is that on which its line is used.
    """
    fields = []
    trends = {candidate.trend for candidate in spec.candidates.values()}
    for feature in spec.features:
        given = frame[feature.name].to_numpy()
        values = given[~np.isnan(given)]
        low, high = (
            (float(values.min()), float(values.max())) if feature.name not in trends else reach(values)
        )
        fields.append(
            msgspec.structs.replace(
                reference(feature.name, feature.expression, values),
                inputs=[name for name in spec.inputs if name in feature.inputs],
                description=spec.described(feature.name, feature.description),
                seen_minimum=low,
                seen_maximum=high,
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
    return _nullable(dataset.inputs.to_numpy()[rows])


def _nullable(rows: np.ndarray) -> list[list[float | None]]:
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


def due_seconds(spec: ForecastSpec) -> float | None:
    """Seconds from a prediction until its target is known; None where that is not declared, or an input says it."""
    days = spec.target.due_after_days
    return None if days is None or spec.target.due_input is not None else days * DAY


class OtherMeaning(Exception):
    """New texts would describe a model wrongly."""


def described_as_declared(spec: ForecastSpec, manifest: Manifest) -> Manifest:
    """The same model with the texts of the declaration as it is now, with its advice and its limits of age.

    Raises:
        OtherMeaning: the declaration means other data, or lets other inputs be left out.
    """
    without = manifest.fallback.without if manifest.fallback is not None else []
    if not is_declared(manifest.data_version, spec, manifest.snapshots) or without != (
        spec.fallback.without if spec.fallback is not None else []
    ):
        raise OtherMeaning(
            f"version {manifest.version} keeps its texts until the next training: "
            "the declaration now means other data or another fallback"
        )
    columns = spec.input_columns
    comments = {feature.name: feature.description for feature in spec.features}
    fallback = manifest.fallback
    if fallback is not None and spec.fallback is not None:
        fallback = msgspec.structs.replace(fallback, description=spec.fallback.description)
    return msgspec.structs.replace(
        manifest,
        title=spec.title,
        entity=spec.entity.name,
        unit=spec.target.unit,
        horizon=spec.target.horizon,
        inputs=[
            msgspec.structs.replace(
                field, description=columns[field.name].description, unit=columns[field.name].unit
            )
            for field in manifest.inputs
        ],
        features=[
            msgspec.structs.replace(field, description=spec.described(field.name, comments[field.name]))
            for field in manifest.features
        ],
        advice=levers(spec),
        freshness=freshness_policy(spec),
        fallback=fallback,
        due_s=due_seconds(spec),
        due_input=spec.target.due_input,
    )


def golden_rows(
    dataset: Dataset, exported: Exported, definitions: Sequence[Feature], tolerance: float
) -> Golden:
    """Rows spread over the predictions, lowest and highest included, with the model's own outputs.

    With a fallback some of them come again without the inputs that it does without.
    """
    inputs, features = dataset.inputs, dataset.features
    prediction = exported.fitted.predict(features)
    order = np.argsort(prediction, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, GOLDEN_ROWS).astype(int))]
    displayed = [(inputs.iloc[rows], features.iloc[rows], prediction[rows])]
    if exported.fallback_model is not None:
        rows, without = rows[::4], set(exported.fallback_model.without)
        lost = [feature.name for feature in definitions if feature.inputs & without]
        answers = exported.fallback_model.fitted.predict(features.iloc[rows])
        gaps = inputs.iloc[rows].assign(**dict.fromkeys(without, np.nan))
        displayed.append((gaps, features.iloc[rows].assign(**dict.fromkeys(lost, np.nan)), answers))
    return Golden(
        inputs=[row for part, _, _ in displayed for row in _nullable(part.to_numpy())],
        features=[row for _, part, _ in displayed for row in _nullable(part.to_numpy())],
        predictions=[value for _, _, part in displayed for value in part.tolist()],
        tolerance=tolerance,
    )


def fallback_of(
    spec: ForecastSpec, found: Search, dataset: Dataset, metric_set: MetricSet, exported: Exported
) -> Fallback | None:
    """The declared fallback with its own certainty, from its out-of-fold predictions; it was not chosen by them."""
    if spec.fallback is None or exported.fallback_model is None:
        return None
    name = spec.fallback.candidate
    seen = dataset.target[found.predicted]
    return Fallback(
        without=spec.fallback.without,
        description=spec.fallback.description,
        recipe=recipe_of(name, spec.candidates, exported.fallback_model.fitted),
        calibration=calibration_of(found, name, dataset.target, metric_set),
        error=metric_set.metrics[metric_set.error](seen, found.predictions(name)),
    )


def recipe_of(name: str, candidates: Mapping[str, Candidate], fitted: Fitted) -> Recipe:
    """The chosen candidate with its members, enough to fit it again."""
    chosen = candidates[name]
    parts = {one: candidates[one] for one in (name, *chosen.members)}
    return Recipe(
        name=name,
        family=chosen.family.value,
        features=list(fitted.features),
        definition={one: part.model_dump(mode="json") for one, part in parts.items()},
        values={one: part.chosen for one, part in parts.items() if part.chosen},
    )


def training_of(spec: ForecastSpec, found: Search) -> Training:
    """What a rebuild needs beside the manifest: the declaration, and how many rows the model was fitted on."""
    fields = set(
        ForecastSpec.model_fields
    )  # a class made from it may have others, and does not train by them
    return Training(
        declaration=spec.model_dump(mode="json", include=fields),
        fitted_rows=None if found.fitted is None else len(found.fitted),
    )
