"""What a feature does to the forecast, as text: direction and shape, from the model that serves.

The bundle's background rows take the inputs of a feature from one another, all else as it is, and are scored: the mean
prediction by the feature's value (Friedman 2001, doi:10.1214/aos/1013203451, of the inputs that the feature reads).
It says what the model does; where inputs go together, some of these mixtures do not occur.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vroom_api.contract import Bundle, FeatureField, InputField, Manifest

Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
PARTS = 5  # in which the values of a feature are, each of about as many rows
FLAT = 0.02  # of the spread of all predictions: less is called no difference
SLACK = 0.05  # of a feature's whole effect: less does not count as a turn
MOST = 0.75  # of the effect in one half of the values, for a shape that is named by it


class Effect(NamedTuple):
    """The mean prediction by the values of a feature, ascending."""

    values: np.ndarray
    predictions: np.ndarray
    missing: float | None  # the mean prediction where the feature has no value


def effects(bundle: Bundle, features: list[str]) -> dict[str, str]:
    """Texts by feature, of those whose inputs are known; none where the bundle has no background rows."""
    from vroom_api.contract.model import open_model, score

    manifest = bundle.manifest
    if not manifest.background:
        return {}
    session = open_model(bundle.model)
    background = np.asarray(manifest.background, dtype=np.float64)
    predictions, values = score(session, background)
    positions = {field.name: number for number, field in enumerate(manifest.features)}
    found = {}
    for name in features:
        field = manifest.features[positions[name]]
        effect = effect_of(lambda rows: score(session, rows), manifest, field, background, values)
        if effect is not None:
            found[name] = described(effect, float(predictions.std()), category_of(manifest, field))
    return found


def effect_of(
    score: Score, manifest: Manifest, field: FeatureField, background: np.ndarray, values: np.ndarray
) -> Effect | None:
    """The effect of one feature; None where it is not known which inputs it reads.

    Args:
        values: the features of the background rows.
    """
    read = [number for number, one in enumerate(manifest.inputs) if one.name in field.inputs]
    if not read:
        return None
    mixed = np.repeat(background[None], len(background), axis=0)  # giver, row, inputs
    mixed[:, :, read] = background[:, None, read]
    predicted, _ = score(mixed.reshape(-1, background.shape[1]))
    means = predicted.reshape(len(background), -1).mean(axis=1)
    own = values[:, [one.name for one in manifest.features].index(field.name)]
    order = np.argsort(own, kind="stable")
    own, means = own[order], means[order]
    gaps = np.isnan(own)
    missing = float(means[gaps].mean()) if gaps.any() else None
    return Effect(own[~gaps], means[~gaps], missing) if not gaps.all() else None


def category_of(manifest: Manifest, field: FeatureField) -> InputField | None:
    """The input that a feature is, where that is a text."""
    return next((one for one in manifest.inputs if one.name == field.expression and one.values), None)


def described(effect: Effect, spread: float, category: InputField | None) -> str:
    """An effect as text."""
    levels = np.unique(effect.values)
    parts = (
        [effect.values == level for level in levels]
        if category is not None or len(levels) <= PARTS
        else [np.isin(np.arange(len(effect.values)), part) for part in _parts(effect.values)]
    )
    centres = np.array([np.median(effect.values[part]) for part in parts])
    means = np.array([effect.predictions[part].mean() for part in parts])
    missing = f"; {effect.missing:.4g} where it is missing" if effect.missing is not None else ""
    if np.ptp(means) <= max(FLAT * spread, 1e-12):
        return f"hardly any difference{missing}"
    if category is not None:
        high, low = int(means.argmax()), int(means.argmin())
        return (
            f"highest for {category.formatted(float(centres[high]))} ({means[high]:.4g}), "
            f"lowest for {category.formatted(float(centres[low]))} ({means[low]:.4g}){missing}"
        )
    ends = f": {means[0]:.4g} near {centres[0]:.4g}, {means[-1]:.4g} near {centres[-1]:.4g}"
    return f"{shape(centres, means)}{ends}{missing}"


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """Rows of ascending values in parts of about as many; equal values are in one part."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)[1:-1]))
    number = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(number == one) for one in np.unique(number)]


def shape(values: np.ndarray, means: np.ndarray) -> str:
    """How the mean prediction goes over ascending values."""
    whole = float(np.ptp(means))
    steps = np.diff(means)
    if (steps >= -SLACK * whole).all() or (steps <= SLACK * whole).all():
        word = "rises" if means[-1] > means[0] else "falls"
        if len(steps) < 3:
            return f"{word} with it"
        half = len(steps) // 2
        early, late = (abs(float(part.sum())) / whole for part in (steps[:half], steps[-half:]))
        if early >= MOST:
            return f"{word}, mostly among low values"
        return f"{word}, mostly among high values" if late >= MOST else f"{word} steadily"
    for turn, first, then in (
        (int(means.argmax()), "rises", "falls"),
        (int(means.argmin()), "falls", "rises"),
    ):
        sign = 1 if first == "rises" else -1
        before, after = sign * steps[:turn], sign * steps[turn:]
        if 0 < turn < len(means) - 1 and (before >= -SLACK * whole).all() and (after <= SLACK * whole).all():
            return f"{first} up to about {values[turn]:.4g}, then {then}".replace(
                "falls up to", "falls down to"
            )
    return "goes up and down"
