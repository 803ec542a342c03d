"""Support: does an answer rest on anything seen in training?

Each input and each feature has the range seen in training, a discrete input also its values. Features
count as well as inputs: a price and a recommended price may each be usual and their ratio unheard of.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from vroom_api.contract import FeatureField, InputField, Manifest

SLACK = 1e-9  # as far as features in the served graph may be from those of training


class OutOfRange(msgspec.Struct, frozen=True):
    """An input or feature outside the range seen in training."""

    field: str
    kind: Literal["input", "feature"]
    value: float | str | None
    seen_minimum: float
    seen_maximum: float
    levels: list[float]  # of a discrete input; else empty
    sentence: str


Limits = list[tuple[float, float, frozenset[float]]]  # lowest, highest, levels; of inputs, then features


def limits_of(manifest: Manifest) -> Limits:
    """The range seen in training, prepared for `within`."""
    nothing: frozenset[float] = frozenset()
    limits: Limits = [
        (low - SLACK, high + SLACK, frozenset(field.levels))
        for field in manifest.inputs
        for low, high in [field.supported]
    ]
    limits += [(low - SLACK, high + SLACK, nothing) for low, high in map(_seen, manifest.features)]
    return limits


def within(limits: Limits, values: Sequence[float]) -> bool:
    """Whether all of one row is within limits: inputs, then features. A tenth of the time of `out_of_range`.

    What was left out is not; `out_of_range` knows whether that was seen in training.
    """
    for value, (low, high, levels) in zip(values, limits, strict=True):
        if not low <= value <= high or (levels and value not in levels):  # stands so that NaN is out
            return False
    return True


def out_of_range(manifest: Manifest, row: Sequence[float], features: Sequence[float]) -> list[OutOfRange]:
    """The inputs and features of one row outside the range seen in training; empty if it is in support.

    A feature with the name of an input that is listed already is left out: it says the same.

    Args:
        row, features: in the manifest's order. Plain floats are faster than an array here.
    """
    found: list[OutOfRange] = []
    # Comparisons stand as they do so that NaN is out.
    for field, value in zip(manifest.inputs, row, strict=True):
        if field.seen_missing and math.isnan(value):
            continue
        low, high = field.supported
        if not low - SLACK <= value <= high + SLACK or (field.levels and value not in field.levels):
            found.append(_out_of_range(field, "input", value))
    for feature, value in zip(manifest.features, features, strict=True):
        low, high = _seen(feature)
        # A feature of inputs that were left out is nothing; what else is not a number is refused before.
        if math.isnan(value) or low - SLACK <= value <= high + SLACK:
            continue
        if all(feature.name != other.field for other in found):
            found.append(_out_of_range(feature, "feature", value))
    return found


def supported(manifest: Manifest, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """For many rows at once, whether `out_of_range` would find nothing.

    Args:
        rows, features: shape (n, inputs) and (n, features).

    Returns:
        bool, shape (n,).
    """
    inside = np.ones(len(rows), dtype=bool)
    parts: tuple[tuple[np.ndarray, Sequence[InputField | FeatureField]], ...] = (
        (rows, manifest.inputs),
        (features, manifest.features),
    )
    nullable = {field.name for field in manifest.inputs if field.nullable}
    for values, fields in parts:
        missing = [
            field.seen_missing if isinstance(field, InputField) else not nullable.isdisjoint(field.inputs)
            for field in fields
        ]
        low, high = np.array([_seen(field) for field in fields]).reshape(-1, 2).T
        within = (low - SLACK <= values) & (values <= high + SLACK)
        inside &= np.all(within | (np.array(missing, dtype=bool) & np.isnan(values)), axis=1)
    for index, field in enumerate(manifest.inputs):
        if field.levels:
            seen = np.isin(rows[:, index], field.levels)
            inside &= seen | (field.seen_missing & np.isnan(rows[:, index]))
    return inside


def _seen(field: InputField | FeatureField) -> tuple[float, float]:
    """The lowest and highest value in support."""
    if isinstance(field, InputField):
        return field.supported
    low, high = field.seen_minimum, field.seen_maximum
    return (-math.inf, math.inf) if low is None or high is None else (low, high)


def _out_of_range(
    field: InputField | FeatureField, kind: Literal["input", "feature"], value: float
) -> OutOfRange:
    assert field.seen_minimum is not None
    assert field.seen_maximum is not None
    if isinstance(field, InputField):
        decoded = field.decoded(float(value))
        levels = field.levels
        seen = f"only {', '.join(field.formatted(level, 6) for level in levels)}"
        formatted = f"{field.name} {field.formatted(float(value), 6)}"
    else:
        decoded, levels, seen = float(value), [], ""
        formatted = f"{field.name} = {field.expression}, {value:.6g}"
    if not levels:
        seen = f"{field.seen_minimum:.6g} to {field.seen_maximum:.6g}"
    sentence = f"{formatted}: seen in training {seen}"
    if isinstance(field, InputField) and field.is_open:
        levels = []  # as many as the data have
        sentence = (
            f"{field.name} is left out: every row of the training had one"
            if math.isnan(value)
            else f"this {field.name} was not in any row of the training; it counts as {field.values[-1]}"
        )
    return OutOfRange(
        field=field.name,
        kind=kind,
        value=decoded,
        seen_minimum=field.seen_minimum,
        seen_maximum=field.seen_maximum,
        levels=levels,
        sentence=sentence,
    )
