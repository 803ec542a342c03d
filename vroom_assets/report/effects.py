"""What a feature does to the forecast, as text: direction and shape, from the model that serves.

The partial dependence (Friedman 2001, doi:10.1214/aos/1013203451): the bundle's background rows take the feature's value
from one another, all other features as they are, and the mean prediction is read by that value. It says what the model
does; where features go together, some of these mixtures do not occur.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vroom_api.contract import Bundle, FeatureField, InputField, Manifest

FromFeatures = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Inputs (rows, inputs) and features (rows, features) → predictions (rows,)."""
PARTS = 5  # in which the values of a feature are, each of about as many rows
FLAT = (
    0.02  # of the error, or of the spread of predictions where that is smaller: less is called no difference
)
SLACK = 0.05  # of a feature's whole effect: less does not count as a turn
MOST = 0.75  # of the effect in one half of the values, for a shape that is named by it


class Effect(NamedTuple):
    """The mean prediction by the values of a feature, ascending."""

    values: np.ndarray
    predictions: np.ndarray
    missing: float | None  # the mean prediction where the feature has no value


def effects(bundle: Bundle, features: list[str]) -> dict[str, str]:
    """Texts by feature; none where the bundle has no background rows, or predicts by something else than features."""
    from vroom_api.contract.model import open_model, score

    manifest = bundle.manifest
    predict = from_features(bundle.model)
    if not manifest.background or predict is None:
        return {}
    background = np.asarray(manifest.background, dtype=np.float64)
    predictions, values = score(open_model(bundle.model), background)
    scores, scale = manifest.scores, float(predictions.std())
    if scores is not None:
        scale = min(scale, abs(scores.nested[scores.error]))
    positions = {field.name: number for number, field in enumerate(manifest.features)}
    return {
        name: described(
            effect_of(predict, background, values, positions[name]),
            FLAT * scale,
            category_of(manifest, manifest.features[positions[name]]),
        )
        for name in features
    }


def from_features(model: bytes) -> FromFeatures | None:
    """The part of a served graph behind its features; None where the prediction does not come from them."""
    import onnx

    from vroom_api.contract.model import open_model

    whole = onnx.load_model_from_string(model)
    graph = whole.graph
    [last] = [node for node in graph.node if "features" in node.output]
    tensor = last.input[0] if last.op_type == "Identity" else "features"
    if not any(tensor in node.input for node in graph.node if node is not last):
        return None
    kept = [node for node in graph.node if tensor not in node.output and "features" not in node.output]
    [prediction, given] = [
        next(one for one in graph.output if one.name == name) for name in ("prediction", "features")
    ]
    source = onnx.ValueInfoProto()
    source.CopyFrom(given)
    source.name = tensor
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.append(prediction)
    graph.input.append(source)
    session = open_model(whole.SerializeToString())

    def predict(inputs: np.ndarray, features: np.ndarray) -> np.ndarray:
        predictions: np.ndarray
        [predictions] = session.run(["prediction"], {"inputs": inputs, tensor: features})
        return predictions

    return predict


def effect_of(predict: FromFeatures, background: np.ndarray, values: np.ndarray, position: int) -> Effect:
    """The effect of one feature.

    Args:
        values: the features of the background rows. position: of the feature among them.
    """
    rows = len(background)
    mixed = np.repeat(values[None], rows, axis=0)  # giver, row, features
    mixed[:, :, position] = values[:, None, position]
    predicted = predict(np.tile(background, (rows, 1)), mixed.reshape(rows * rows, -1))
    means = predicted.reshape(rows, rows).mean(axis=1)
    order = np.argsort(values[:, position], kind="stable")
    own, means = values[order, position], means[order]
    gaps = np.isnan(own)
    return Effect(own[~gaps], means[~gaps], float(means[gaps].mean()) if gaps.any() else None)


def category_of(manifest: Manifest, field: FeatureField) -> InputField | None:
    """The input that a feature is, where that is a text."""
    return next((one for one in manifest.inputs if one.name == field.expression and one.values), None)


def described(effect: Effect, flat: float, category: InputField | None) -> str:
    """An effect as text.

    Args:
        flat: a difference that is not worth a word.
    """
    if not len(effect.values):
        return "missing in all typical rows"
    levels = np.unique(effect.values)
    parts = (
        [effect.values == level for level in levels]
        if category is not None or len(levels) <= PARTS
        else [np.isin(np.arange(len(effect.values)), part) for part in _parts(effect.values)]
    )
    centres = np.array([np.median(effect.values[part]) for part in parts])
    means = np.array([effect.predictions[part].mean() for part in parts])
    missing = f"; {effect.missing:.4g} where it is missing" if effect.missing is not None else ""
    if np.ptp(means) <= max(flat, 1e-12):
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
