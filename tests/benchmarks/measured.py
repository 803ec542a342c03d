"""Everybody's predictions of rows that they have not seen, on the same folds, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from vroom_assets.champion.comparison import corrected_t
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, ForecastSpec
from vroom_assets.training.folds import Split, outer_splits
from vroom_assets.training.metrics import BASELINES, METRIC_SETS, Metric, MetricSet, standard_error
from vroom_assets.training.parallel import Entry, fit_splits
from vroom_assets.training.search import inner_choices, tuned_candidates

NESTED = "vroom (nested)"
Derive = Callable[[Dataset, Split, Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """predictions: by name, of the test rows of each fold. choices: the candidate that inner folds chose for it."""

    data: Dataset
    metric_set: MetricSet
    folds: list[Split]
    choices: list[str]
    predictions: dict[str, list[np.ndarray]]

    @property
    def tested(self) -> np.ndarray:
        """The rows that were predicted, ascending."""
        return np.unique(np.concatenate([split.test for split in self.folds]))

    def losses(self, name: str) -> np.ndarray:
        """Mean loss of each row over the repeats, (rows,); NaN where it was not predicted."""
        return self._mean(
            [
                self.metric_set.row_loss(self.data.target[split.test], prediction)
                for split, prediction in zip(self.folds, self.predictions[name], strict=True)
            ]
        )

    def mean_prediction(self, name: str) -> np.ndarray:
        """Mean prediction of each row over the repeats, (rows,); NaN where there is none."""
        return self._mean(self.predictions[name])

    def _mean(self, parts: list[np.ndarray]) -> np.ndarray:
        total, times = np.zeros(len(self.data.target)), np.zeros(len(self.data.target))
        for split, part in zip(self.folds, parts, strict=True):
            total[split.test] += part
            times[split.test] += 1
        return np.divide(total, times, out=np.full(len(total), np.nan), where=times > 0)


def measure(
    spec: ForecastSpec,
    data: Dataset,
    others: Mapping[str, Candidate],
    derived: Mapping[str, Derive],
) -> Measured:
    """Fit everybody on the declared folds; the candidate of a fold is chosen by its training rows alone."""
    metric_set = METRIC_SETS[spec.target.kind]
    rows, validation = data.row_structure, spec.validation
    everyone = {**spec.candidates, **{name: BASELINES[name] for name in metric_set.baselines}, **others}
    folds = outer_splits(rows, validation)
    tuned = tuned_candidates(data.features, data.target, folds, everyone, validation, metric_set, rows)
    competing = [{name: tuned[split.repeat, split.fold][name] for name in spec.candidates} for split in folds]
    choices = inner_choices(
        data.features, data.target, folds, competing, validation, metric_set, rows, spec.gates.reference
    )

    entries = [Entry(split, tuned[split.repeat, split.fold]) for split in folds]
    found = fit_splits(entries, data.features, data.target, rows, validation)
    predictions: dict[str, list[np.ndarray]] = {name: [] for name in (NESTED, *everyone, *derived)}
    for split, choice, fits in zip(folds, choices, found, strict=True):
        made = {name: fit.prediction for name, fit in fits.items()}
        made |= {name: derive(data, split, made) for name, derive in derived.items()}
        made[NESTED] = made[choice]
        for name, prediction in made.items():
            predictions[name].append(prediction)
    return Measured(data, metric_set, folds, choices, predictions)


def table(
    found: Measured, versus: str, metrics: Mapping[str, Metric], within: np.ndarray | None = None
) -> pd.DataFrame:
    """A line for each forecast, best first.

    The metrics are of all rows of a repeat together, and the mean over repeats. `gain` is how much lower the mean
    row loss is than that of `versus`, with its 95 % interval and one-sided p: rows paired, those of a group moving
    together, Student's t of as many groups less one. `p, folds` is that of the corrected resampled t-test, and
    `p, <metric>` the same of the metric that candidates are chosen by, where it is another one.

    Args:
        within: shape (rows,), which rows to look at; None for all.
    """
    metric_set = found.metric_set
    within = np.ones(len(found.data.target), dtype=bool) if within is None else within
    theirs = found.losses(versus)
    lines = {}
    for name in found.predictions:
        gains = theirs - found.losses(name)
        kept = within & ~np.isnan(gains)
        lines[name] = _pooled(found, name, {**metric_set.metrics, **metrics}, within)
        if name != versus:
            lines[name] |= _paired(gains[kept], _groups(found, kept))
            lines[name]["p, folds"] = _over_folds(found, name, versus, metric_set.error, within)
            if metric_set.select != metric_set.error:
                lines[name][f"p, {metric_set.select}"] = _over_folds(
                    found, name, versus, metric_set.select, within
                )
    return pd.DataFrame(lines).T.sort_values(metric_set.error, kind="stable")


def _pooled(
    found: Measured, name: str, metrics: Mapping[str, Metric], within: np.ndarray
) -> dict[str, float]:
    scores = []
    for repeat in sorted({split.repeat for split in found.folds}):
        parts = [
            (split.test[within[split.test]], prediction[within[split.test]])
            for split, prediction in zip(found.folds, found.predictions[name], strict=True)
            if split.repeat == repeat
        ]
        rows = np.concatenate([rows for rows, _ in parts])
        prediction = np.concatenate([prediction for _, prediction in parts])
        scores.append({one: score(found.data.target[rows], prediction) for one, score in metrics.items()})
    return {one: float(np.mean([score[one] for score in scores])) for one in metrics}


def _groups(found: Measured, kept: np.ndarray) -> np.ndarray | None:
    groups = found.data.row_structure.groups
    return None if groups is None else groups[kept]


def _paired(gains: np.ndarray, groups: np.ndarray | None) -> dict[str, float]:
    gain, deviation = float(gains.mean()), standard_error(gains, groups)
    freedom = (len(gains) if groups is None else len(np.unique(groups))) - 1
    reach = float(student.ppf(0.975, freedom)) * deviation
    beyond = float(student.sf(gain / deviation, freedom)) if deviation > 0 else 1.0
    return {"gain": gain, "from": gain - reach, "to": gain + reach, "p": beyond}


def _over_folds(found: Measured, name: str, versus: str, metric: str, within: np.ndarray) -> float:
    score, differences, shares = found.metric_set.metrics[metric], [], []
    for split, mine, theirs in zip(
        found.folds, found.predictions[name], found.predictions[versus], strict=True
    ):
        kept = within[split.test]
        if not kept.any():
            continue
        target = found.data.target[split.test][kept]
        differences.append(score(target, theirs[kept]) - score(target, mine[kept]))
        shares.append(len(split.test) / len(split.train))
    if len(differences) < 2:
        return float("nan")
    return corrected_t(np.array(differences), float(np.mean(shares)))[1]
