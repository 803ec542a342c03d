"""Support: does an answer rest on anything that training saw?

Each input and each feature has the range that training saw, a discrete input also its values. Features
count as well as inputs: a price and a recommended price may each be usual and their ratio unheard of.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from vroom_api.contract import FeatureField, InputField, Manifest

SLACK = 1e-9  # as far as features in the served graph may be from those of training


class Outside(msgspec.Struct, frozen=True):
    """An input or feature outside what training saw."""

    field: str
    kind: Literal["input", "feature"]
    value: float
    seen_minimum: float
    seen_maximum: float
    levels: list[float]  # of a discrete input; else empty
    sentence: str


def outside(manifest: Manifest, row: Sequence[float], features: Sequence[float]) -> list[Outside]:
    """What of one row training has not seen the like of; empty if it is in support.

    A feature with the name of an input that is listed already is left out: it says the same.

    Args:
        row, features: in the manifest's order. Plain floats are faster than an array here.
    """
    found: list[Outside] = []
    for field, value in zip(manifest.inputs, row, strict=True):
        if _out(value, field.seen_minimum, field.seen_maximum) or (
            field.levels and value not in field.levels
        ):
            found.append(_outside(field, "input", value))
    for feature, value in zip(manifest.features, features, strict=True):
        if (
            feature.seen_minimum is not None
            and feature.seen_maximum is not None
            and _out(value, feature.seen_minimum, feature.seen_maximum)
            and all(feature.name != other.field for other in found)
        ):
            found.append(_outside(feature, "feature", value))
    return found


def supported(manifest: Manifest, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """For many rows at once, whether `outside` would find nothing.

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
    for values, fields in parts:
        low = np.array([-np.inf if field.seen_minimum is None else field.seen_minimum for field in fields])
        high = np.array([np.inf if field.seen_maximum is None else field.seen_maximum for field in fields])
        inside &= np.all((low - SLACK <= values) & (values <= high + SLACK), axis=1)
    for place, field in enumerate(manifest.inputs):
        if field.levels:
            inside &= np.isin(rows[:, place], field.levels)
    return inside


def _out(value: float, low: float, high: float) -> bool:
    return not low - SLACK <= value <= high + SLACK  # so that NaN is out


def _outside(field: InputField | FeatureField, kind: Literal["input", "feature"], value: float) -> Outside:
    assert field.seen_minimum is not None
    assert field.seen_maximum is not None
    levels = field.levels if isinstance(field, InputField) else []
    seen = f"{field.seen_minimum:.6g} to {field.seen_maximum:.6g}"
    if levels:
        seen = f"only {', '.join(f'{level:g}' for level in levels)}"
    shown = field.name if isinstance(field, InputField) else f"{field.name} = {field.expression},"
    return Outside(
        field=field.name,
        kind=kind,
        value=float(value),
        seen_minimum=field.seen_minimum,
        seen_maximum=field.seen_maximum,
        levels=levels,
        sentence=f"{shown} {value:.6g}: training saw {seen}",
    )
