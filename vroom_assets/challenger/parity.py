"""Whether a graph gives the numbers of the model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vroom_api.contract import scales
from vroom_assets.challenger.onnx_graph import CHUNK, FallbackModel, build
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, ForecastSpec
from vroom_assets.spec import Fallback as FallbackSpec
from vroom_assets.training.fitting import fit_all, with_members
from vroom_assets.training.models import Fitted
from vroom_assets.training.sampling import sample

PROVING_ROWS = 50_000  # that a graph is compared on, of more
EXTREMES = 10  # rows of each gap among them


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
    """Fit every candidate on the rows and keep those whose graph agrees with them on every row.

    Returns:
        the candidates that may compete, and for each other one the reason it may not.
    """
    models = _fitted(spec, spec.candidates, dataset)
    other = _fallback_model(spec, models)
    kept: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    for name, fitted in models.items():
        try:
            kept[name] = _exported(spec, dataset, fitted, other)
        except NotExportable as error:
            refused[name] = str(error)
    for name, candidate in spec.candidates.items():
        lost = [member for member in candidate.members if member in refused]
        if name in kept and lost:
            del kept[name]
            refused[name] = f"its member {', '.join(lost)} may not compete"
    return kept, refused


class NotExportable(Exception):
    """A graph does not give the numbers of its model."""


def export(spec: ForecastSpec, dataset: Dataset, name: str, rows: np.ndarray | None = None) -> Exported:
    """Fit one candidate, and the fallback, on some or all rows; its graph is compared on as many of all as prove it.

    Raises:
        NotExportable: the graph gives other numbers.
    """
    wanted = {name} if spec.fallback is None else {name, spec.fallback.candidate}
    fitted_on = dataset if rows is None else dataset.take(rows)
    models = _fitted(spec, with_members(wanted, spec.candidates), fitted_on)
    return _exported(
        spec, dataset.take(proving_rows(dataset, spec)), models[name], _fallback_model(spec, models)
    )


def proving_rows(dataset: Dataset, spec: ForecastSpec) -> np.ndarray:
    """Row numbers of what a graph is compared on, ascending: all, or of many a sample with the extremes of every input and
    feature, and rows without each that may be missing."""
    rows = dataset.row_structure.rows
    if rows <= PROVING_ROWS:
        return np.arange(rows)
    extreme: set[int] = set()
    for frame in (dataset.inputs, dataset.features):
        for values in frame.to_numpy().T:
            missing = np.isnan(values)
            if not missing.all():
                extreme |= {int(np.nanargmin(values)), int(np.nanargmax(values))}
            extreme |= set(np.flatnonzero(missing)[:EXTREMES].tolist())
    drawn = sample(dataset.row_structure, PROVING_ROWS, spec.validation.seed)
    return np.union1d(drawn, np.array(sorted(extreme), dtype=int))


def _fitted(spec: ForecastSpec, candidates: Mapping[str, Candidate], dataset: Dataset) -> dict[str, Fitted]:
    return fit_all(
        candidates, dataset.features, dataset.target, spec.validation.seed, dataset.row_structure.groups
    )


def _fallback_model(spec: ForecastSpec, models: Mapping[str, Fitted]) -> FallbackModel | None:
    rule = spec.fallback
    return None if rule is None else FallbackModel(rule.without, models[rule.candidate])


def _exported(spec: ForecastSpec, dataset: Dataset, fitted: Fitted, other: FallbackModel | None) -> Exported:
    """The graph of a fitted candidate, proved on the rows.

    Raises:
        NotExportable: the graph gives other numbers.
    """
    model = build(spec.inputs, spec.features, fitted, other).SerializeToString(deterministic=True)
    predicted = fitted.predict(dataset.features)
    gap = parity(model, dataset.inputs.to_numpy(), dataset.features.to_numpy(), predicted)
    if spec.fallback is not None and other is not None:
        gap = worse(gap, fallback_parity(model, spec, spec.fallback, other, dataset))
    if gap.features > 1e-9 or gap.prediction > spec.gates.parity:
        raise NotExportable(
            f"its graph differs from the model: features by {gap.features:.1e}, prediction by {gap.prediction:.1e} relative"
        )
    return Exported(fitted, model, other)


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
