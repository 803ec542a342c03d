"""Measures: what the predictions of each kind of target are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn import metrics

from vroom_assets.spec import Candidate, Family, Kind

BASELINES = {
    "mean": Candidate(family=Family.MEAN),
    "median": Candidate(family=Family.MEDIAN),
}

Metric = Callable[[np.ndarray, np.ndarray], float]
HIGHER = ("r2", "auc")  # the metrics that are better when they are larger
LEAST_RATE = 1e-9  # that a predicted count is taken to be, where its deviance is
PROBABILITY_EPSILON = 1e-6  # that a probability is taken to be, where its logarithm is


def bias(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean of prediction - target."""
    return float((prediction - target).mean())


def poisson_deviance(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean Poisson deviance; predictions are kept above 1e-9, where the deviance of a zero is 0."""
    return float(poisson_deviances(target, prediction).mean())


def poisson_deviances(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What `poisson_deviance` is the mean of, row by row."""
    rate = np.maximum(prediction, LEAST_RATE)
    logarithm = np.log(np.where(target > 0, target, 1.0) / np.where(target > 0, rate, 1.0))
    return 2 * (target * logarithm - target + rate)


def log_loss(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean negative log likelihood of a probability, kept 1e-6 from 0 and 1."""
    return float(log_losses(target, prediction).mean())


def log_losses(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What `log_loss` is the mean of, row by row."""
    safe = np.clip(prediction, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    return -np.where(target > 0, np.log(safe), np.log1p(-safe))


def auc(target: np.ndarray, prediction: np.ndarray) -> float:
    """Probability that a yes has a higher prediction than a no; 0.5 where there is only one of them."""
    if target.min() == target.max():
        return 0.5
    return float(metrics.roc_auc_score(target, prediction))


def calibration_error(target: np.ndarray, prediction: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: |share of yes - mean prediction|, over bins of equal size."""
    parts = np.array_split(np.argsort(prediction, kind="stable"), bins)
    gaps = [abs((target[part] - prediction[part]).sum()) for part in parts]
    return float(sum(gaps) / len(target))


def standard_error(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Of the mean of values; those of one group are taken to move together (Liang & Zeger 1986).

    Args:
        values: shape (n,). groups: shape (n,), or None where all are independent.
    """
    count = len(values)
    if groups is None:
        return float(values.std(ddof=1) / np.sqrt(count))
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=values - values.mean())
    clusters = len(sums)
    return float(np.sqrt((sums**2).sum() * clusters / (clusters - 1)) / count)


def _of_finite(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics, the worst there is where a prediction is not finite: a candidate that explodes loses the search
    and does not end it."""

    def guarded(metric: Metric, worst: float) -> Metric:
        return lambda target, prediction: (
            float(metric(target, prediction)) if np.isfinite(prediction).all() else worst
        )

    return {name: guarded(metric, -np.inf if name in HIGHER else np.inf) for name, metric in metrics.items()}


@dataclass(frozen=True)
class MetricSet:
    """What a kind of target is measured by.

    select: chooses candidates; `select_loss` is what it is the mean of, row by row. row_loss: decides contests.
    """

    kind: Kind
    metrics: Mapping[str, Metric]
    select: str
    select_loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    error: str
    row_loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    power: float | None  # of the prediction, with which residuals grow; None where that is learnt from them
    baselines: tuple[str, ...] = ("mean", "median")
    higher: tuple[str, ...] = HIGHER


_METRIC_SETS = (
    MetricSet(
        kind=Kind.COUNT,
        metrics=_of_finite(
            {
                "mae": metrics.mean_absolute_error,
                "poisson_deviance": poisson_deviance,
                "rmse": metrics.root_mean_squared_error,
                "r2": metrics.r2_score,
                "bias": bias,
            }
        ),
        select="poisson_deviance",
        select_loss=poisson_deviances,
        error="mae",
        row_loss=lambda target, prediction: np.abs(target - prediction),
        power=0.75,  # over-dispersed counts
    ),
    MetricSet(
        kind=Kind.REGRESSION,
        metrics=_of_finite(
            {
                "mae": metrics.mean_absolute_error,
                "median_error": metrics.median_absolute_error,
                "rmse": metrics.root_mean_squared_error,
                "r2": metrics.r2_score,
                "bias": bias,
            }
        ),
        select="mae",
        select_loss=lambda target, prediction: np.abs(target - prediction),
        error="mae",
        row_loss=lambda target, prediction: np.abs(target - prediction),
        power=None,
    ),
    MetricSet(
        kind=Kind.BINARY,
        metrics=_of_finite(
            {
                "brier": metrics.mean_squared_error,  # of a probability (Brier 1950)
                "log_loss": log_loss,
                "auc": auc,
                "calibration_error": calibration_error,
                "bias": bias,
            }
        ),
        select="log_loss",
        select_loss=log_losses,
        error="brier",
        row_loss=lambda target, prediction: np.square(target - prediction),
        power=0.0,
        baselines=("mean",),
    ),
)
METRIC_SETS = {metric_set.kind: metric_set for metric_set in _METRIC_SETS}
