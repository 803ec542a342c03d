"""Whether a graph gives the numbers of the model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vroom_api.contract import scales
from vroom_assets.challenger.onnx_graph import CHUNK, FallbackModel, build
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Fallback as FallbackSpec
from vroom_assets.spec import ForecastSpec
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.models import Fitted


class Parity(NamedTuple):
    """Largest differences between a graph and what it stands for."""

    features: float  # absolute
    prediction: float  # relative


def parity(
    model: bytes,
    inputs: np.ndarray,
    features: np.ndarray,
    prediction: np.ndarray,
    positions: Sequence[int] | None = None,
) -> Parity:
    """Score the graph and compare with DuckDB's features and the fitted model's predictions.

    A value that is not finite on either side counts as an infinite difference, but for a feature that is missing on
    both.

    Args:
        inputs: shape (rows, inputs). features: (rows, features). prediction: (rows,).
        positions: of the features to compare, None for all.
    """
    from vroom_api.contract.model import open_model, score

    session = open_model(model)
    worst = Parity(0.0, 0.0)
    compared = slice(None) if positions is None else list(positions)
    for start in range(0, len(inputs), CHUNK):
        rows = slice(start, start + CHUNK)
        served, computed = score(session, np.ascontiguousarray(inputs[rows], dtype=np.float64))
        scale = np.asarray(scales(prediction[rows].tolist()))
        worst = Parity(
            features=max(
                worst.features,
                _largest_gap(*_missing_alike(computed[:, compared], features[rows][:, compared]), np.ones(1)),
            ),
            prediction=max(worst.prediction, _largest_gap(served, prediction[rows], scale)),
        )
    return worst


def _missing_alike(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two tables with 0 where both have no value."""
    if one.shape != other.shape:
        return one, other
    both = np.isnan(one) & np.isnan(other)
    return np.where(both, 0.0, one), np.where(both, 0.0, other)


def _largest_gap(one: np.ndarray, other: np.ndarray, scale: np.ndarray) -> float:
    if one.shape != other.shape:
        raise ValueError(f"the graph gives {one.shape} values where {other.shape} were expected")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float((np.abs(one - other) / scale).max(initial=0.0))


@dataclass(frozen=True)
class Exported:
    """A candidate fitted on all rows, as a graph that agrees with it."""

    fitted: Fitted
    model: bytes
    fallback_model: FallbackModel | None = None  # what answers rows with gaps, in the same graph


def exportable(spec: ForecastSpec, dataset: Dataset) -> tuple[dict[str, Exported], dict[str, str]]:
    """Fit every candidate on all rows and keep those whose graph agrees with them on every row.

    Returns:
        the candidates that may compete, and for each other one the reason it may not.
    """
    models = fit_all(
        spec.candidates, dataset.features, dataset.target, spec.validation.seed, dataset.row_structure.groups
    )
    kept: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    inputs = dataset.inputs.to_numpy()
    other = (
        None
        if spec.fallback is None
        else FallbackModel(spec.fallback.without, models[spec.fallback.candidate])
    )
    for name, fitted in models.items():
        model = build(spec.inputs, spec.features, fitted, other).SerializeToString(deterministic=True)
        gap = parity(model, inputs, dataset.features.to_numpy(), fitted.predict(dataset.features))
        if spec.fallback is not None and other is not None:
            gap = worse(gap, fallback_parity(model, spec, spec.fallback, other, dataset))
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
    model: bytes, spec: ForecastSpec, rule: FallbackSpec, other: FallbackModel, dataset: Dataset
) -> Parity:
    """How far the graph is from the fallback's model where each of its inputs in turn is left out, and all."""
    worst = Parity(0.0, 0.0)
    for gaps in [*([name] for name in rule.without), rule.without]:
        positions = [
            position for position, feature in enumerate(spec.features) if not feature.inputs & set(gaps)
        ]
        inputs = dataset.inputs.assign(**dict.fromkeys(gaps, np.nan)).to_numpy()
        expected = other.fitted.predict(dataset.features)
        worst = worse(worst, parity(model, inputs, dataset.features.to_numpy(), expected, positions))
    return worst


def worse(one: Parity, other: Parity) -> Parity:
    return Parity(max(one.features, other.features), max(one.prediction, other.prediction))
