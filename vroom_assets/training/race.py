"""A race: of many rows as many are used as the decision between the candidates needs.

Up to `FULL_ROWS` rows the search is another one. Up to `UNCUT_ROWS` every candidate is compared on all of them, once. Of
more, the candidates are compared on growing samples, the rungs, until it is clear who is best, or that nobody is better by
more than the declared precision. Who cannot win any more is dropped on the way, so that most fits are of few rows or of few
candidates (races: Maron & Moore 1997, doi:10.1023/A:1006556606079; growing samples: John & Langley 1996; Jamieson &
Talwalkar 2016, whose word is rungs).

A candidate that is behind on few rows may lead on many. So it is dropped only if it stays behind even when it goes on
catching up: of each fourfold of the rows at most 0.7 of what the fourfold before brought, which holds for errors that
fall with the rows by a power of 1/4 or more (Viering & Loog 2023, doi:10.1109/TPAMI.2022.3220744). The probability that
the best one is dropped after any of the samples is at most `ERROR_RATE`, as far as rows are independent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Validation
from vroom_assets.training.fitting import with_members
from vroom_assets.training.folds import RowStructure, Split, TooFewRows, outer_splits
from vroom_assets.training.metrics import MetricSet, standard_error
from vroom_assets.training.models import Fitted
from vroom_assets.training.parallel import Entry, fit_splits
from vroom_assets.training.sampling import DECIDING_ROWS, folded_once, sample, sample_sizes

ERROR_RATE = 0.05  # of dropping the best one
WORTH_IT = 8  # times a sample that all rows have to be for it to be tried whether they help
HELPFUL_Z = 1.645  # standard errors by which more rows might help more than was measured
CATCHING_UP = 0.7  # of what the last fourfold of rows brought, at most by the next one


@dataclass(frozen=True)
class Problem:
    """What is to be learnt, and how it is judged.

    frame: features, float64, one row per entity. target: shape (rows,). rows: their groups and times.
    """

    frame: pd.DataFrame
    target: np.ndarray
    rows: RowStructure
    validation: Validation
    metric_set: MetricSet


@dataclass(frozen=True)
class Rung:
    """Who was compared on one sample.

    rows: row numbers of the sample, ascending. fold and predictions: of the sample's rows, (rows,) each, with NaN where none was
    made. losses: by candidate, of the selection metric. models: of each fold.
    """

    rows: np.ndarray
    splits: list[Split]
    models: list[dict[str, Fitted]]
    fold: np.ndarray
    predictions: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]

    def out_of_fold(self) -> pd.DataFrame:
        """A row per candidate and row of the sample that was predicted, as `Search` has them."""
        tested = self.fold >= 0
        where = {"repeat": 0, "fold": self.fold[tested], "row": self.rows[tested]}
        parts = [
            pd.DataFrame({"candidate": name, **where, "prediction": prediction[tested]})
            for name, prediction in self.predictions.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def fold_metrics(self, name: str, target: np.ndarray, metric_set: MetricSet) -> list[dict[str, Any]]:
        """The metrics of a candidate, fold by fold."""
        return [
            {"candidate": name, "repeat": 0, "fold": split.fold}
            | {
                metric: score(target[split.test], self.predictions[name][self.fold == split.fold])
                for metric, score in metric_set.metrics.items()
            }
            for split in self.splits
        ]


@dataclass(frozen=True)
class Race:
    """Samples, and who was compared on them.

    rungs: in order; the last decided, and it alone holds its models. standings: a row per rung and candidate, how far it was
    `behind` the best of the rung and the standard error of that, its `noise`; its `nearest`, how far behind it would be of all rows
    if it went on catching up; and whether it was `dropped` after it. competing: who was not. why: what ended the race.
    """

    rungs: list[Rung]
    standings: pd.DataFrame
    competing: list[str]
    why: str

    @property
    def last(self) -> Rung:
        return self.rungs[-1]

    def fold_metrics(self, target: np.ndarray, metric_set: MetricSet) -> pd.DataFrame:
        """A row per candidate and fold of the last sample that it was compared on."""
        latest = {name: rung for rung in self.rungs for name in rung.predictions}
        return pd.DataFrame(
            [one for name, rung in latest.items() for one in rung.fold_metrics(name, target, metric_set)]
        )


def race(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    kept: Mapping[str, Candidate],
    progress: Callable[[str], None],
) -> Race:
    """Compare the candidates on growing samples until the decision between them is clear.

    Args:
        kept: those that are measured to the end without competing: baselines, a reference, a fallback.

    Raises:
        TooFewRows: the declared validation cannot be made of these rows.
    """
    rows, validation, began = problem.rows, problem.validation, time.monotonic()
    sizes = sample_sizes(rows, validation.seed)
    once = replace(problem, validation=folded_once(validation, sizes))
    z = _needed(len(sizes), len(candidates))
    alive, rungs, standings = list(candidates), list[Rung](), list[pd.DataFrame]()
    for number, size in enumerate(sizes):
        started = time.monotonic()
        everyone = {**kept, **with_members(alive, candidates)}
        try:
            rung = cross_validated(once, everyone, size)
        except TooFewRows:
            if number == len(sizes) - 1:
                raise
            continue
        field = _standings(rung, rungs[-1] if rungs else None, alive, len(sizes) - 1 - number, z, rows)
        alive = [name for name in alive if not field.loc[name, "dropped"]]
        standings.append(field.reset_index().assign(rows=len(rung.rows)))
        took = time.monotonic() - started
        why = _ended(field.loc[alive], rung, problem)
        further = took * sizes[number + 1] / size * len(alive) / len(field) if why is None else 0.0
        if further and _over_budget(time.monotonic() - began + further, validation):
            why = f"the next sample would take longer than the budget of {validation.budget_seconds:g} s"
        following = f"; then {sizes[number + 1]:,} rows, in about {further:.0f} s" if why is None else ""
        progress(_words(rung, field, took) + following)
        rungs.append(rung if why is not None else replace(rung, models=[]))
        if why is not None:
            break
    return Race(
        rungs,
        pd.concat(standings, ignore_index=True),
        alive,
        f"{len(rung.rows):,} of {rows.rows:,} rows decided: {why}",
    )


def helpful_rows(
    name: str,
    problem: Problem,
    candidates: Mapping[str, Candidate],
    rungs: Sequence[Rung],
    progress: Callable[[str], None],
) -> int:
    """How many rows a candidate is worth fitting on: all, or so many that all others would help by less than the precision.

    After its race it goes on alone from sample to sample, as long as these are small beside all rows: a larger one would cost
    what it might save. What another fourfold of the rows brought is measured on the rows of
    both samples; of all that follow, each brings at most 0.7 of the one before.
    """
    rows, validation = problem.rows, problem.validation
    alone, before = with_members({name}, candidates), rungs[-2] if len(rungs) > 1 else None
    sizes, rung = sample_sizes(rows, validation.seed), rungs[-1]
    once = replace(problem, validation=folded_once(validation, sizes))
    worth_it = [one for one in sizes if len(rung.rows) < one <= rows.rows / WORTH_IT]
    for size in [*worth_it, None]:
        if before is not None and len(rung.rows) >= DECIDING_ROWS:
            gain, noise = _gain(name, before, rung, rows)
            further = CATCHING_UP / (1 - CATCHING_UP) * (gain + HELPFUL_Z * noise)
            if further < validation.precision * _mean(rung, name):
                break
        if size is None:
            return rows.rows
        before, rung = rung, cross_validated(once, alone, size)
        progress(f"{size:,} rows: {name} alone, {problem.metric_set.select} {_mean(rung, name):.4g}")
    return len(rung.rows)


def _mean(rung: Rung, name: str) -> float:
    return float(rung.losses[name][rung.fold >= 0].mean())


def _gain(name: str, before: Rung, rung: Rung, rows: RowStructure) -> tuple[float, float]:
    """By how much a candidate was better on the larger sample, on the rows of both; and the standard error of that."""
    index = np.searchsorted(rung.rows, before.rows)
    both = (rung.fold[index] >= 0) & (before.fold >= 0)
    groups = None if rows.groups is None else rows.groups[before.rows[both]]
    gains = (before.losses[name] - rung.losses[name][index])[both]
    return float(gains.mean()), _error(gains, groups)


def _needed(samples: int, candidates: int) -> float:
    """Standard errors that a lead has to have, after each of several samples, of several candidates."""
    from scipy.stats import norm

    return float(norm.ppf(1 - ERROR_RATE / (samples * max(1, candidates - 1))))


def cross_validated(problem: Problem, everyone: Mapping[str, Candidate], size: int) -> Rung:
    """Everyone by cross-validation inside a sample."""
    frame, target, rows, validation = problem.frame, problem.target, problem.rows, problem.validation
    chosen = sample(rows, size, validation.seed)
    inside = outer_splits(rows.take(chosen), validation)
    splits = [Split(0, one.fold, chosen[one.train], chosen[one.test]) for one in inside]
    fold = np.full(len(chosen), -1)
    predictions = {name: np.full(len(chosen), np.nan) for name in everyone}
    models: list[dict[str, Fitted]] = []
    mine = target[chosen]
    part = frame if len(chosen) == len(frame) else frame.iloc[chosen]
    entries = [Entry(one, everyone) for one in inside]
    found = fit_splits(entries, part, mine, rows.take(chosen), validation, with_models=True)
    for one, fits in zip(inside, found, strict=True):
        fold[one.test] = one.fold
        models.append({name: fit.model for name, fit in fits.items() if fit.model is not None})
        for name, fit in fits.items():
            predictions[name][one.test] = fit.prediction
    with np.errstate(invalid="ignore", over="ignore"):
        losses = {name: problem.metric_set.select_loss(mine, one) for name, one in predictions.items()}
    exploded = {name: np.where((fold >= 0) & ~np.isfinite(one), np.inf, one) for name, one in losses.items()}
    return Rung(chosen, splits, models, fold, predictions, exploded)


def _standings(
    rung: Rung, before: Rung | None, alive: Sequence[str], further: int, z: float, rows: RowStructure
) -> pd.DataFrame:
    """How those in the race stand after a rung, by candidate.

    Args:
        further: how many samples there are after this one.
    """
    tested = rung.fold >= 0
    groups = None if rows.groups is None else rows.groups[rung.rows[tested]]
    means = {name: float(rung.losses[name][tested].mean()) for name in alive}
    best = min(alive, key=lambda name: means[name])
    reach = sum(CATCHING_UP**step for step in range(1, further + 1))
    found = []
    for name in alive:
        behind, noise, change, unsure = means[name] - means[best], 0.0, 0.0, 0.0
        if name != best and np.isfinite(behind):
            noise = _error(rung.losses[name][tested] - rung.losses[best][tested], groups)
            if before is not None and further:
                change, unsure = _change(rung, before, name, best, rows)
        nearest = behind + reach * min(0.0, change)
        doubt = float(np.hypot(noise, reach * unsure))
        judged = before is not None or not further
        dropped = name != best and (not np.isfinite(behind) or (judged and nearest - z * doubt > 0))
        found.append((name, means[name], behind, noise, nearest, dropped))
    columns = ["candidate", "mean", "behind", "noise", "nearest", "dropped"]
    return pd.DataFrame(found, columns=columns).set_index("candidate").sort_values("mean", kind="stable")


def _change(rung: Rung, before: Rung, name: str, best: str, rows: RowStructure) -> tuple[float, float]:
    """By how much the distance to the best changed from one sample to the next, on the rows of both; and its error."""
    index = np.searchsorted(rung.rows, before.rows)
    now = (rung.losses[name] - rung.losses[best])[index]
    then = before.losses[name] - before.losses[best]
    both = (rung.fold[index] >= 0) & (before.fold >= 0) & np.isfinite(now) & np.isfinite(then)
    if both.sum() < 2:
        return 0.0, 0.0
    groups = None if rows.groups is None else rows.groups[before.rows[both]]
    return float((now - then)[both].mean()), _error((now - then)[both], groups)


def _error(differences: np.ndarray, groups: np.ndarray | None) -> float:
    return standard_error(differences, groups) if np.ptp(differences) > 0 else 0.0


def _ended(field: pd.DataFrame, rung: Rung, problem: Problem) -> str | None:
    """Why no further sample is needed, None where one is."""
    if len(rung.rows) == problem.rows.rows:
        return "there are no more"
    if len(rung.rows) < DECIDING_ROWS:
        return None
    if len(field) == 1:
        return "nobody else can win any more"
    precision = problem.validation.precision
    enough = precision * abs(float(field["mean"].iloc[0]))
    others = field.iloc[1:]
    if bool((others["noise"] <= enough).all()) and bool((others["nearest"] >= -enough).all()):
        return f"nobody is better by more than {precision:.1%} of the {problem.metric_set.select}"
    return None


def _over_budget(seconds: float, validation: Validation) -> bool:
    return validation.budget_seconds is not None and seconds > validation.budget_seconds


def _words(rung: Rung, field: pd.DataFrame, seconds: float) -> str:
    """What happened, for the log."""
    dropped = [
        f"{name} ({row['behind']:.2g} ± {row['noise']:.1g} behind)"
        for name, row in field.iterrows()
        if row["dropped"]
    ]
    gone = f"; cannot win any more: {', '.join(dropped)}" if dropped else ""
    return (
        f"{len(rung.rows):,} rows: {len(field)} candidates in {seconds:.1f} s, {field.index[0]} is best{gone}"
    )
