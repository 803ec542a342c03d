"""Intervals, calibrated on out-of-fold residuals."""

from __future__ import annotations

import numpy as np

from vroom_api.contract import Calibration, Reliability
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.search import Search

INTERVAL_LEVEL = 0.9


def calibrate(
    target: np.ndarray, prediction: np.ndarray, fold: np.ndarray, metric_set: MetricSet
) -> Calibration:
    """What out-of-fold predictions say about the certainty of new ones, with its coverage measured across folds.

    The coverage of a fold's rows is measured with the other folds alone. For a probability there is no
    interval that holds a yes or no; what is reported is the share of yes among predictions like it.

    Args:
        target, prediction, fold: shape (n,), predictions made without their own row.
    """
    if metric_set.kind.is_probability:
        return _reliability(target, prediction)
    probabilities = np.linspace(0.005, 0.995, 199)
    covered = np.zeros(len(target), dtype=bool)
    for one in np.unique(fold):
        others = _residuals(target[fold != one], prediction[fold != one], probabilities, metric_set, {})
        for row in np.flatnonzero(fold == one):
            interval = others.interval(float(prediction[row]), INTERVAL_LEVEL)
            covered[row] = interval.low <= target[row] <= interval.high
    tercile = np.searchsorted(np.quantile(prediction, [1 / 3, 2 / 3]), prediction, side="right")
    coverage = {"overall": float(covered.mean())} | {
        name: float(covered[tercile == number].mean())
        for number, name in enumerate(("lower_tercile", "middle_tercile", "upper_tercile"))
        if (tercile == number).any()
    }
    return _residuals(target, prediction, probabilities, metric_set, coverage)


def calibration_of(found: Search, candidate: str, target: np.ndarray, metric_set: MetricSet) -> Calibration:
    """The certainty of a candidate's predictions, from those that were made out of fold in all repeats."""
    mine = found.out_of_fold.query("candidate == @candidate").sort_values(["repeat", "row"])
    return calibrate(target[mine["row"]], mine["prediction"].to_numpy(), mine["fold"].to_numpy(), metric_set)


def _residuals(
    target: np.ndarray,
    prediction: np.ndarray,
    probabilities: np.ndarray,
    metric_set: MetricSet,
    coverage: dict[str, float],
) -> Calibration:
    scale = np.maximum(prediction, 1e-9) ** metric_set.power
    return Calibration(
        power=metric_set.power,
        probabilities=[round(float(p), 4) for p in probabilities],
        quantiles=np.quantile((target - prediction) / scale, probabilities).tolist(),
        integer=metric_set.kind.is_integer,
        minimum=metric_set.kind.lowest,
        coverage=coverage,
    )


RELIABILITY_BINS = 10


def _reliability(target: np.ndarray, prediction: np.ndarray) -> Calibration:
    """Bins of about as many rows each: how often yes came, and what was predicted."""
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, RELIABILITY_BINS + 1)[1:-1]))
    position = np.searchsorted(edges, prediction, side="right")
    rows = np.bincount(position, minlength=len(edges) + 1)
    return Calibration(
        power=0.0,
        probabilities=[],
        quantiles=[],
        integer=False,
        minimum=0.0,
        coverage={},
        reliability=Reliability(
            edges=edges.tolist(),
            rows=rows.tolist(),
            yes=np.bincount(position, target, len(edges) + 1).tolist(),
            predicted=(np.bincount(position, prediction, len(edges) + 1) / np.maximum(rows, 1)).tolist(),
        ),
    )
