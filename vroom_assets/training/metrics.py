"""Measures: what the predictions of each kind of target are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vroom_assets.spec import Candidate, Family, Kind

BASELINES = {
    "mean": Candidate(family=Family.MEAN),
    "median": Candidate(family=Family.MEDIAN),
}

Metric = Callable[[np.ndarray, np.ndarray], float]


def mae(target: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.abs(target - prediction).mean())


def rmse(target: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.sqrt(np.square(target - prediction).mean()))


def bias(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean of prediction - target."""
    return float((prediction - target).mean())


def r2(target: np.ndarray, prediction: np.ndarray) -> float:
    spread = np.square(target - target.mean()).sum()
    return float(1.0 - np.square(target - prediction).sum() / spread) if spread > 0 else 0.0


def median_error(target: np.ndarray, prediction: np.ndarray) -> float:
    """Median absolute error."""
    return float(np.median(np.abs(target - prediction)))


def poisson_deviance(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean Poisson deviance; predictions are kept above 1e-9, where the deviance of a zero is 0."""
    safe = np.maximum(prediction, 1e-9)
    log_ratio = np.log(np.where(target > 0, target, 1.0) / safe)
    return float(2.0 * (np.where(target > 0, target * log_ratio, 0.0) - target + safe).mean())


PROBABILITY_EPSILON = 1e-6  # that a probability is taken to be, where its logarithm is


def brier(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean squared error of a probability (Brier 1950)."""
    return float(np.square(target - prediction).mean())


def log_loss(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean negative log likelihood of a probability, kept 1e-6 from 0 and 1."""
    safe = np.clip(prediction, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    return float(-(target * np.log(safe) + (1 - target) * np.log(1 - safe)).mean())


def auc(target: np.ndarray, prediction: np.ndarray) -> float:
    """Probability that a yes has a higher prediction than a no; 0.5 where there is only one of them."""
    from scipy.stats import rankdata

    yes = target > 0.5
    count, others = int(yes.sum()), int((~yes).sum())
    if not count or not others:
        return 0.5
    return float((rankdata(prediction)[yes].sum() - count * (count + 1) / 2) / (count * others))


def calibration_error(target: np.ndarray, prediction: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: |share of yes - mean prediction|, over bins of equal size."""
    parts = np.array_split(np.argsort(prediction, kind="stable"), bins)
    gaps = [abs((target[part] - prediction[part]).sum()) for part in parts]
    return float(sum(gaps) / len(target))


@dataclass(frozen=True)
class MetricSet:
    """What a kind of target is measured by. `select` chooses candidates, `row_loss` decides contests."""

    kind: Kind
    metrics: Mapping[str, Metric]
    select: str
    error: str
    row_loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    power: float  # of the prediction, with which residuals grow
    baselines: tuple[str, ...] = ("mean", "median")
    higher: tuple[str, ...] = ("r2", "auc")  # the metrics that are better when they are larger


_METRIC_SETS = (
    MetricSet(
        kind=Kind.COUNT,
        metrics={"mae": mae, "poisson_deviance": poisson_deviance, "rmse": rmse, "r2": r2, "bias": bias},
        select="poisson_deviance",
        error="mae",
        row_loss=lambda target, prediction: np.abs(target - prediction),
        power=0.75,  # over-dispersed counts
    ),
    MetricSet(
        kind=Kind.REGRESSION,
        metrics={"mae": mae, "median_error": median_error, "rmse": rmse, "r2": r2, "bias": bias},
        select="mae",
        error="mae",
        row_loss=lambda target, prediction: np.abs(target - prediction),
        power=0.0,
    ),
    MetricSet(
        kind=Kind.BINARY,
        metrics={
            "brier": brier,
            "log_loss": log_loss,
            "auc": auc,
            "calibration_error": calibration_error,
            "bias": bias,
        },
        select="log_loss",
        error="brier",
        row_loss=lambda target, prediction: np.square(target - prediction),
        power=0.0,
        baselines=("mean",),
    ),
)
METRIC_SETS = {metric_set.kind: metric_set for metric_set in _METRIC_SETS}
