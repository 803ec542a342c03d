"""Training: every candidate on the same folds, a choice that its own error has not seen.

Cross-validation follows the declaration (repeated k-fold). The choice among candidates is made by the
mean of the selection metric over all folds; what that procedure is worth is measured by *nested*
cross-validation: inside each outer fold the choice is made again on inner folds of its training rows
only (Varma & Simon 2006, doi:10.1186/1471-2105-7-91).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from vroom_api.contract import Calibration, FeatureField
from vroom_assets.models import Fitted, fit_all
from vroom_assets.spec import Candidate, Family, Kind, Validation

BASELINES = {
    "mean": Candidate(family=Family.MEAN),
    "median": Candidate(family=Family.MEDIAN),
}
INTERVAL_LEVEL = 0.9
RESIDUAL_POWER = 0.75  # residuals of over-dispersed counts grow with about this power of the prediction
R = TypeVar("R")
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


def poisson_deviance(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean Poisson deviance; predictions are kept above 1e-9, where the deviance of a zero is 0."""
    safe = np.maximum(prediction, 1e-9)
    log_ratio = np.log(np.where(target > 0, target, 1.0) / safe)
    return float(2.0 * (np.where(target > 0, target * log_ratio, 0.0) - target + safe).mean())


@dataclass(frozen=True)
class Measures:
    """What a kind of target is measured by. `select` chooses candidates, `row_loss` decides contests."""

    metrics: Mapping[str, Metric]
    select: str
    error: str
    row_loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    integer: bool
    minimum: float | None


MEASURES = {
    Kind.COUNT: Measures(
        metrics={"mae": mae, "poisson_deviance": poisson_deviance, "rmse": rmse, "r2": r2, "bias": bias},
        select="poisson_deviance",
        error="mae",
        row_loss=lambda target, prediction: np.abs(target - prediction),
        integer=True,
        minimum=0.0,
    )
}


@dataclass(frozen=True)
class Split:
    """Row numbers of one fold."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def splits(rows: int, folds: int, repeats: int, seed: int) -> list[Split]:
    """Repeated shuffled k-fold: the same rows, folds and seed always give the same folds."""
    from sklearn.model_selection import KFold

    return [
        Split(repeat, fold, train, test)
        for repeat in range(repeats)
        for fold, (train, test) in enumerate(
            KFold(folds, shuffle=True, random_state=seed + repeat).split(np.zeros(rows))
        )
    ]


def in_parallel(work: Callable[[Split], R], items: list[Split]) -> Iterator[R]:
    """Fits release the interpreter lock for most of their time, so threads use all cores.

    Each fit stays on its own thread: OpenMP teams inside the threads would wait for each other.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(work, items)


@dataclass(frozen=True)
class Search:
    """What cross-validation found.

    fold_metrics: one row per candidate, repeat and fold, a column per metric.
    out_of_fold: one row per candidate, repeat and row number, with its prediction.
    nested: one row per row number of the first repeat: prediction of the candidate chosen without it.
    chosen: the winner on all folds. nested_choices: what the inner folds chose, fold by fold.
    importances: increase of the error when a feature is permuted in the test folds, for the chosen.
    """

    fold_metrics: pd.DataFrame
    out_of_fold: pd.DataFrame
    nested: np.ndarray
    nested_choices: list[str]
    chosen: str
    importances: dict[str, float]

    def predictions(self, candidate: str, repeat: int = 0) -> np.ndarray:
        """Out-of-fold predictions in row order."""
        mine = self.out_of_fold.query("candidate == @candidate and repeat == @repeat")
        return mine.sort_values("row")["prediction"].to_numpy()


def search(
    frame: pd.DataFrame,
    target: np.ndarray,
    candidates: Mapping[str, Candidate],
    validation: Validation,
    measures: Measures,
    progress: Callable[[str], None] = lambda _: None,
) -> Search:
    """Score every candidate and the baselines on the same folds, nested over the first repeat.

    Args:
        frame: features, float64, one row per entity.
        target: shape (rows,).
    """
    everyone = dict(candidates) | BASELINES
    outer = splits(len(frame), validation.folds, validation.repeats, validation.seed)
    metric_rows: list[dict] = []
    predictions: list[pd.DataFrame] = []
    fold_models: list[tuple[Split, dict[str, Fitted]]] = []

    def fit_outer(split: Split) -> tuple[Split, dict[str, Fitted]]:
        return split, fit_all(everyone, frame.iloc[split.train], target[split.train], validation.seed)

    for done, (split, models) in enumerate(in_parallel(fit_outer, outer), 1):
        for name, model in models.items():
            prediction = model.predict(frame.iloc[split.test])
            metric_rows.append(
                {"candidate": name, "repeat": split.repeat, "fold": split.fold}
                | {
                    metric: score(target[split.test], prediction)
                    for metric, score in measures.metrics.items()
                }
            )
            predictions.append(
                pd.DataFrame(
                    {
                        "candidate": name,
                        "repeat": split.repeat,
                        "fold": split.fold,
                        "row": split.test,
                        "prediction": prediction,
                    }
                )
            )
        if split.repeat == 0:
            fold_models.append((split, models))
        progress(f"outer fold {done} of {len(outer)}: {len(everyone)} candidates scored")

    fold_metrics = pd.DataFrame(metric_rows)
    chosen = choose(fold_metrics, list(candidates), measures.select)

    nested = np.empty(len(frame))
    inner = [split for split, _ in fold_models]
    nested_choices = inner_choices(frame, target, inner, candidates, validation, measures)
    for (split, models), choice in zip(fold_models, nested_choices, strict=True):
        nested[split.test] = models[choice].predict(frame.iloc[split.test])
        progress(f"nested fold {split.fold + 1} of {validation.folds}: chose {choice} without seeing it")

    return Search(
        fold_metrics=fold_metrics,
        out_of_fold=pd.concat(predictions, ignore_index=True),
        nested=nested,
        nested_choices=nested_choices,
        chosen=chosen,
        importances=permutation_importances(
            frame,
            target,
            [(split.test, models[chosen]) for split, models in fold_models],
            measures,
            validation.seed,
        ),
    )


def choose(fold_metrics: pd.DataFrame, names: list[str], metric: str) -> str:
    """The candidate with the lowest mean of the metric over all folds; ties go to the one declared first."""
    means = fold_metrics.groupby("candidate")[metric].mean()
    return min(names, key=lambda name: means[name])


def inner_choices(
    frame: pd.DataFrame,
    target: np.ndarray,
    outer: list[Split],
    candidates: Mapping[str, Candidate],
    validation: Validation,
    measures: Measures,
) -> list[str]:
    """For each outer split, the candidate that inner folds of its training rows alone would choose."""
    score = measures.metrics[measures.select]
    inner = [
        Split(number, split.fold, outer[number].train[split.train], outer[number].train[split.test])
        for number in range(len(outer))
        for split in splits(len(outer[number].train), validation.inner_folds, 1, validation.seed + 1000)
    ]

    def fit_inner(split: Split) -> list[dict]:
        models = fit_all(candidates, frame.iloc[split.train], target[split.train], validation.seed)
        return [
            {
                "outer": split.repeat,
                "candidate": name,
                measures.select: score(target[split.test], model.predict(frame.iloc[split.test])),
            }
            for name, model in models.items()
        ]

    scores = pd.DataFrame([row for rows in in_parallel(fit_inner, inner) for row in rows])
    return [
        choose(scores[scores["outer"] == number], list(candidates), measures.select)
        for number in range(len(outer))
    ]


def permutation_importances(
    frame: pd.DataFrame,
    target: np.ndarray,
    models: list[tuple[np.ndarray, Fitted]],
    measures: Measures,
    seed: int,
    shuffles: int = 3,
) -> dict[str, float]:
    """Mean increase of the error on test rows when one feature's values are shuffled among them.

    Impurity importances reward features with many levels, noise included; these do not (Breiman 2001).
    """
    rng = np.random.default_rng(seed)
    error = measures.metrics[measures.error]
    increases: dict[str, list[float]] = {name: [] for name in frame.columns}
    for test, model in models:
        rows = frame.iloc[test]
        plain = error(target[test], model.predict(rows))
        for name in frame.columns:
            if name not in model.features:
                increases[name].append(0.0)
                continue
            for _ in range(shuffles):
                shuffled = rows.assign(**{name: rng.permutation(rows[name].to_numpy())})
                increases[name].append(error(target[test], model.predict(shuffled)) - plain)
    return {name: float(np.mean(values)) for name, values in increases.items()}


def calibrate(
    target: np.ndarray, prediction: np.ndarray, fold: np.ndarray, measures: Measures
) -> Calibration:
    """Interval calibration from out-of-fold predictions, with its coverage measured across folds.

    The coverage of a fold's rows is measured with quantiles of the other folds' residuals.

    Args:
        target, prediction, fold: shape (n,), predictions made without their own row.
    """

    def fitted(rows: np.ndarray, coverage: dict[str, float]) -> Calibration:
        scale = np.maximum(prediction[rows], 1e-9) ** RESIDUAL_POWER
        residuals = (target[rows] - prediction[rows]) / scale
        return Calibration(
            power=RESIDUAL_POWER,
            probabilities=[round(float(p), 4) for p in probabilities],
            quantiles=np.quantile(residuals, probabilities).tolist(),
            integer=measures.integer,
            minimum=measures.minimum,
            coverage=coverage,
        )

    probabilities = np.linspace(0.005, 0.995, 199)
    covered = np.zeros(len(target), dtype=bool)
    for one in np.unique(fold):
        others = fitted(fold != one, {})
        for row in np.flatnonzero(fold == one):
            low, high = others.interval(float(prediction[row]), INTERVAL_LEVEL)
            covered[row] = low <= target[row] <= high
    tercile = np.searchsorted(np.quantile(prediction, [1 / 3, 2 / 3]), prediction, side="right")
    coverage = {"overall": float(covered.mean())} | {
        name: float(covered[tercile == number].mean())
        for number, name in enumerate(("lower_tercile", "middle_tercile", "upper_tercile"))
        if (tercile == number).any()
    }
    return fitted(np.ones(len(target), dtype=bool), coverage)


def reference(name: str, expression: str, values: np.ndarray, bins: int = 10) -> FeatureField:
    """How a feature was distributed in training: deciles, or one bin per level of a discrete feature."""
    levels = np.unique(values)
    edges = (
        (levels[1:] + levels[:-1]) / 2
        if len(levels) <= bins
        else np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    )
    edges = np.unique(edges)
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return FeatureField(
        name=name, expression=expression, edges=edges.tolist(), shares=(counts / len(values)).tolist()
    )


def summary(found: Search, target: np.ndarray, measures: Measures) -> dict[str, float]:
    """The figures that stand for a training: nested error, skill over the baselines, folds of the chosen."""
    mine = found.fold_metrics.query("candidate == @found.chosen")
    error, select = measures.error, measures.select
    figures = {f"nested_{name}": score(target, found.nested) for name, score in measures.metrics.items()}
    figures |= {
        f"cv_{metric}_{statistic}": float(getattr(mine[metric], statistic)())
        for metric in measures.metrics
        for statistic in ("mean", "std")
    }
    figures |= {
        f"cv_{error}_fold_{number}": float(value) for number, value in enumerate(mine[error].to_numpy())
    }
    for name in BASELINES:
        theirs = found.fold_metrics.query("candidate == @name and repeat == 0")
        for metric in (error, select):
            figures[f"{name}_{metric}"] = float(theirs[metric].mean())
            figures[f"skill_{metric}_over_{name}"] = (
                1.0 - figures[f"nested_{metric}"] / figures[f"{name}_{metric}"]
            )
    return figures
