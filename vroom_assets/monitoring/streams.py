"""What is watched, row by row: in which cell of each stream a prediction or an outcome falls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vroom_api.contract import Calibration, FeatureField, FeatureReference, Manifest, MonitoringReference
from vroom_assets.monitoring.cells import FEW_POINTS, Cells, binned, divided, whole
from vroom_assets.training.metrics import METRIC_SETS

ROUNDING = 1e-9  # of a feature's range: so far may features of the graph and of the warehouse differ


def feature_stream(name: str) -> str:
    return f"feature:{name}"


def segment_stream(tag: str, value: str) -> str:
    return f"segment:{tag}={value}"


def is_unseen(field: FeatureField, levels: list[float], values: np.ndarray) -> np.ndarray:
    """Which values are outside those seen in training; a missing one is not."""
    outside = np.zeros(len(values), dtype=bool)
    low, high = field.seen_minimum, field.seen_maximum
    if low is not None and high is not None:
        slack = ROUNDING * max(high - low, abs(high), abs(low))
        outside = (values < low - slack) | (values > high + slack)
    if levels:
        known = np.asarray(levels, float)
        nearest = known[np.abs(values[:, None] - known).argmin(axis=1)] if len(values) else values
        outside |= np.abs(values - nearest) > ROUNDING * np.maximum(np.abs(nearest), 1.0)
    return outside


def feature_cells(field: FeatureField, reference: FeatureReference, values: np.ndarray) -> Cells:
    """Bins of a feature, then a cell for missing values and one for unseen ones."""
    bins = len(field.edges) + 1
    position = binned(values, field.edges)
    position = np.where(is_unseen(field, reference.levels, values), bins + 1, position)
    return whole(np.where(np.isnan(values), bins, position), bins + 2)


def fields_of(
    manifest: Manifest, reference: MonitoringReference
) -> list[tuple[FeatureField, FeatureReference]]:
    """The features that are watched."""
    fields = {field.name: field for field in manifest.features}
    return [(fields[one.name], one) for one in reference.features if one.name in fields]


def is_covered(manifest: Manifest, reference: MonitoringReference, frame: pd.DataFrame) -> np.ndarray:
    """Which rows are like those of training, as far as the model reads them: the others' errors nobody can know."""
    covered = np.ones(len(frame), dtype=bool)
    for field, known in fields_of(manifest, reference):
        if field.name not in manifest.recipe.features:
            continue
        values = frame[field.name].to_numpy(float)
        missing = np.isnan(values)
        unexpected = missing & (known.units[-2] == 0)
        covered &= ~unexpected & ~(is_unseen(field, known.levels, values) & ~missing)
    return covered


def is_by_fallback(manifest: Manifest, frame: pd.DataFrame) -> np.ndarray:
    """Which rows the fallback answered, as inputs were left out that it does without; its errors are others."""
    found = np.zeros(len(frame), dtype=bool)
    without = set(manifest.fallback.without) if manifest.fallback is not None else set()
    for field in manifest.features:
        if without & set(field.inputs):
            found |= np.isnan(frame[field.name].to_numpy(float))
    return found


def prediction_cells(
    manifest: Manifest, reference: MonitoringReference, frame: pd.DataFrame
) -> dict[str, Cells]:
    """The streams of predictions, outcomes or not, by name.

    `covered` has the bins of the prediction, and a last cell for rows that are not.
    """
    bins = len(reference.prediction.units)
    position = binned(frame["prediction"].to_numpy(float), reference.prediction.edges)
    found = {
        feature_stream(field.name): feature_cells(field, known, frame[field.name].to_numpy(float))
        for field, known in fields_of(manifest, reference)
    }
    found["prediction"] = whole(position, bins)
    covered = is_covered(manifest, reference, frame)
    found["covered"] = whole(np.where(covered, position, bins), bins + 1)
    return found


def losses(manifest: Manifest, frame: pd.DataFrame) -> np.ndarray:
    """What the error is the mean of, row by row, shape (rows,)."""
    return METRIC_SETS[manifest.kind].row_loss(
        frame["outcome"].to_numpy(float), frame["prediction"].to_numpy(float)
    )


def outcome_cells(
    manifest: Manifest,
    reference: MonitoringReference,
    frame: pd.DataFrame,
    rng: np.random.Generator,
) -> dict[str, Cells]:
    """The streams of predictions with their whole outcomes, by name.

    `scored` is what `covered` is of predictions. Segments are not among them.
    """
    outcome, prediction = frame["outcome"].to_numpy(float), frame["prediction"].to_numpy(float)
    bins = len(reference.prediction.units)
    position = binned(prediction, reference.prediction.edges)
    covered = is_covered(manifest, reference, frame)
    found = {
        "loss": divided(losses(manifest, frame), 0.0, reference.bound),
        "residual": divided(outcome - prediction, -reference.bound, reference.bound),
        "scored": whole(np.where(covered, position, bins), bins + 1),
    }
    if reference.misses:
        found["misses"] = miss_cells(reference.level, frame)
        found["pit"] = _pits(manifest.calibration, frame, rng)
    if reference.reliability and manifest.calibration.reliability is not None:
        edges = manifest.calibration.reliability.edges
        found["reliability"] = reliability_cells(edges, outcome, prediction)
    return found


def miss_cells(level: float, frame: pd.DataFrame) -> Cells:
    """Below, inside or above the interval, where that has the level."""
    low, high, outcome = (frame[name].to_numpy(float) for name in ("low", "high", "outcome"))
    judged = np.isfinite(low) & np.isfinite(high) & np.isclose(frame["level"].to_numpy(float), level)
    return whole(np.where(outcome < low, 0, np.where(outcome > high, 2, 1)), 3).only(judged)


TENTHS = 10


def _pits(calibration: Calibration, frame: pd.DataFrame, rng: np.random.Generator) -> Cells:
    """Transforms of what this calibration answered; those of rows that a revision answered are not known."""
    cells = pit_cells(calibration, frame["outcome"].to_numpy(float), frame["prediction"].to_numpy(float), rng)
    return cells.only(frame["calibration"].isna().to_numpy()) if "calibration" in frame.columns else cells


def pit_cells(
    calibration: Calibration, outcome: np.ndarray, prediction: np.ndarray, rng: np.random.Generator
) -> Cells:
    """Tenths of the probability integral transform, which is uniform where intervals of all levels are right.

    Of a whole number it is drawn between the probabilities of less and of no more (Czado, Gneiting & Held 2009,
    doi:10.1111/j.1541-0420.2009.01191.x).
    """
    if calibration.integer:
        high = calibration.cumulative(prediction, outcome + 0.5)
        low = calibration.cumulative(prediction, outcome - 0.5)
        low = np.where(outcome <= (calibration.minimum or -np.inf), 0.0, low)
        value = low + rng.random(len(outcome)) * (high - low)
    else:
        value = calibration.cumulative(prediction, outcome)
    return whole(np.clip((value * TENTHS).astype(int), 0, TENTHS - 1), TENTHS)


def reliability_cells(edges: list[float], outcome: np.ndarray, prediction: np.ndarray) -> Cells:
    """Yes or no less its probability, in bins of the probability."""
    residual = divided(outcome - prediction, -1.0, 1.0, FEW_POINTS)
    return residual.shifted(binned(prediction, edges) * FEW_POINTS, (len(edges) + 1) * FEW_POINTS)
