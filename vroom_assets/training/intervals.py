"""Intervals, calibrated on out-of-fold residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from vroom_api.contract import Calibration, Reliability, Spread
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.search import Search

INTERVAL_LEVEL = 0.9
PROBABILITIES = np.linspace(0.005, 0.995, 199)
SPREAD_PARTS, LEAST_ROWS = 12, 30  # parts of the rows that a spread is measured in, and rows of each
LEAST_GAIN = 0.01  # of the interval score, for which a spread is worth having


def calibrate(
    target: np.ndarray, prediction: np.ndarray, fold: np.ndarray, metric_set: MetricSet
) -> Calibration:
    """What out-of-fold predictions say about the certainty of new ones, with its coverage measured across folds.

    The coverage of a fold's rows is measured with the other folds alone. How errors grow with the prediction is
    learnt, and kept if that makes better intervals than what is known beforehand: of a count, by a power. For a
    probability there is no
    interval that holds a yes or no; what is reported is the share of yes among predictions like it.

    Args:
        target, prediction, fold: shape (n,), predictions made without their own row.
    """
    if metric_set.kind.is_probability:
        return _reliability(target, prediction)
    rows = OutOfFold(target, prediction, fold)
    measured = [_across_folds(rows, metric_set, with_spread) for with_spread in (False, True)]
    best = measured[-1] if measured[-1].width < (1 - LEAST_GAIN) * measured[0].width else measured[0]
    tercile = np.searchsorted(np.quantile(prediction, [1 / 3, 2 / 3]), prediction, side="right")
    coverage = {"overall": float(best.covered.mean())} | {
        name: float(best.covered[tercile == number].mean())
        for number, name in enumerate(("lower_tercile", "middle_tercile", "upper_tercile"))
        if (tercile == number).any()
    }
    return msgspec.structs.replace(_fitted(rows, metric_set, best.with_spread), coverage=coverage)


class OutOfFold(NamedTuple):
    """Rows with predictions that were made without them; shape (n,) each."""

    target: np.ndarray
    prediction: np.ndarray
    fold: np.ndarray

    def where(self, rows: np.ndarray) -> OutOfFold:
        return OutOfFold(*(values[rows] for values in self))


class _Measured(NamedTuple):
    """Intervals of rows whose fold they do not know."""

    with_spread: bool
    covered: np.ndarray  # bool, shape (n,)
    width: float  # mean interval score (Gneiting & Raftery 2007, doi:10.1198/016214506000001437)


def across_folds(
    rows: OutOfFold, metric_set: MetricSet, with_spread: bool
) -> Iterator[tuple[np.ndarray, Calibration]]:
    """The rows of each fold, bool (n,), and the calibration by the rows of all others."""
    for one in np.unique(rows.fold):
        mine = rows.fold == one
        yield mine, _fitted(rows.where(~mine), metric_set, with_spread)


def _across_folds(rows: OutOfFold, metric_set: MetricSet, with_spread: bool) -> _Measured:
    """The intervals of each fold's rows by what the other folds alone say."""
    covered = np.zeros(len(rows.target), dtype=bool)
    score = np.zeros(len(rows.target))
    for mine, others in across_folds(rows, metric_set, with_spread):
        low, high = bounds(others, rows.prediction[mine], INTERVAL_LEVEL)
        target = rows.target[mine]
        covered[mine] = (low <= target) & (target <= high)
        missed = np.maximum(low - target, 0) + np.maximum(target - high, 0)
        score[mine] = high - low + 2 / (1 - INTERVAL_LEVEL) * missed
    return _Measured(with_spread, covered, float(score.mean()))


def bounds(calibration: Calibration, predictions: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """`calibration.interval` of many predictions at once; shape (n,) each."""
    intervals = [calibration.interval(one, level) for one in predictions.tolist()]
    return np.array([one.low for one in intervals], float), np.array([one.high for one in intervals], float)


def calibration_of(found: Search, candidate: str, target: np.ndarray, metric_set: MetricSet) -> Calibration:
    """The certainty of a candidate's predictions, from those that were made out of fold in all repeats."""
    mine = found.out_of_fold.query("candidate == @candidate").sort_values(["repeat", "row"])
    return calibrate(target[mine["row"]], mine["prediction"].to_numpy(), mine["fold"].to_numpy(), metric_set)


def _fitted(rows: OutOfFold, metric_set: MetricSet, with_spread: bool) -> Calibration:
    """The calibration that some rows give; its coverage is for others to measure."""
    spread = spread_of(rows.target, rows.prediction) if with_spread else None
    empty = Calibration(
        power=metric_set.power or 0.0,
        probabilities=[round(float(p), 4) for p in PROBABILITIES],
        quantiles=[],
        integer=metric_set.kind.is_integer,
        minimum=metric_set.kind.lowest,
        coverage={},
        spread=spread,
    )
    scale = np.array([empty.scale(one) for one in rows.prediction.tolist()])
    quantiles = np.quantile((rows.target - rows.prediction) / scale, PROBABILITIES)
    return msgspec.structs.replace(empty, quantiles=quantiles.tolist())


def spread_of(target: np.ndarray, prediction: np.ndarray) -> Spread:
    """The mean error in parts of the rows, by prediction, each of as many rows."""
    parts = np.array_split(
        np.argsort(prediction, kind="stable"), max(1, min(SPREAD_PARTS, len(target) // LEAST_ROWS))
    )
    centres = np.array([prediction[part].mean() for part in parts])
    sizes = np.array([np.abs(target[part] - prediction[part]).mean() for part in parts])
    centres, same = np.unique(centres, return_inverse=True)
    sizes = np.bincount(same, sizes) / np.bincount(same)
    least = 1e-3 * sizes.mean() or 1.0  # where everything was predicted exactly
    return Spread(predictions=centres.tolist(), sizes=np.maximum(sizes, least).tolist())


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
