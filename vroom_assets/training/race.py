"""A race: of many rows as many are used as the decision between the candidates needs.

Up to `FULL_ROWS` rows the search is another one. Up to `UNCUT_ROWS` every candidate is compared on all of them, once. Of more, the candidates
are compared on samples, each four times as large as the one before and holding it, until it is clear who is best, or that nobody is
better by more than the declared precision. Who cannot win any more is dropped on the way, so that most
fits are of few rows or of few candidates (races: Maron & Moore 1997, doi:10.1023/A:1006556606079; growing samples:
John & Langley 1996; Jamieson & Talwalkar 2016). A sample has two folds: where rows are plenty, twice the sample in two folds has
more rows to learn from and to test on than the sample in five, and is fitted in half the time.

A candidate that is behind on few rows may lead on many. So it is dropped only if it stays behind even when it goes on
catching up: of each fourfold of the rows at most 0.7 of what the fourfold before brought, which holds for errors that
fall with the rows by a power of 1/4 or more (Viering & Loog 2023, doi:10.1109/TPAMI.2022.3220744). The probability that
the best one is dropped after any of the samples is at most `ERROR_RATE`, as far as rows are independent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Validation
from vroom_assets.training.fitting import fit_split
from vroom_assets.training.folds import RowStructure, Split, TooFewRows, one_by_one, outer_splits
from vroom_assets.training.metrics import MetricSet, standard_error
from vroom_assets.training.models import Fitted

FULL_ROWS = 8_000  # up to so many there is no race
UNCUT_ROWS = 20_000  # up to so many all rows are the only sample, in the declared folds
FIRST_ROWS, GROWTH = 2_500, 4  # the first sample, and how many times the one before each next one is
SAMPLE_FOLDS = 2
LEAST_GROUPS = 30  # of a sample: of fewer neither folds nor standard errors can be trusted
DECIDING_ROWS = 40_000  # fewer do not end a race: the error is measured on them too
ERROR_RATE = 0.05  # of dropping the best one
WORTH_IT = 8  # times a sample that all rows have to be for it to be tried whether they help
HELPFUL_Z = 1.645  # standard errors by which more rows might help more than was measured
CATCHING_UP = 0.7  # of what the last fourfold of rows brought, at most by the next one


@dataclass(frozen=True)
class Lap:
    """Who was compared on one sample.

    rows: row numbers of the sample, ascending. folds and predictions: of the sample's rows, (rows,) each, with NaN where none was
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

    laps: in order; the last decided, and it alone holds its models. standings: a row per lap and candidate, how far it was
    `behind` the best of the lap and the standard error of that, its `noise`; its `nearest`, how far behind it would be of all rows
    if it went on catching up; and whether it was `dropped` after it. competing: who was not. why: what ended the race.
    """

    laps: list[Lap]
    standings: pd.DataFrame
    competing: list[str]
    why: str

    @property
    def last(self) -> Lap:
        return self.laps[-1]

    def fold_metrics(self, target: np.ndarray, metric_set: MetricSet) -> pd.DataFrame:
        """A row per candidate and fold of the last sample that it was compared on."""
        latest = {name: lap for lap in self.laps for name in lap.predictions}
        return pd.DataFrame(
            [one for name, lap in latest.items() for one in lap.fold_metrics(name, target, metric_set)]
        )


def sample_order(rows: RowStructure, seed: int) -> np.ndarray:
    """Row numbers in an order of which any beginning is a random sample, (rows,); rows of a group stand together."""
    rng = np.random.default_rng(seed)
    if rows.groups is None:
        return rng.permutation(rows.rows)
    _, member = np.unique(rows.groups, return_inverse=True)
    shuffled = rng.permutation(int(member.max()) + 1)
    return np.argsort(shuffled[member], kind="stable")


def sample(rows: RowStructure, size: int, seed: int) -> np.ndarray:
    """So many random rows, ascending; all rows of a group, or none."""
    order = sample_order(rows, seed)
    if size >= rows.rows:
        return np.arange(rows.rows)
    if rows.groups is not None:  # to the end of the group that begins last
        ordered = rows.groups[order]
        changes = np.flatnonzero(ordered[size:] != ordered[size - 1])
        size = size + int(changes[0]) if len(changes) else rows.rows
    return np.sort(order[:size])


def sample_sizes(rows: RowStructure, seed: int) -> list[int]:
    """How many rows each sample has; the last one is of all, and not much larger than the one before it would be useless.

    Of few groups, whose samples would have fewer, all rows are the only one.
    """
    if rows.rows <= UNCUT_ROWS or _groups(rows, sample(rows, FIRST_ROWS, seed)) < LEAST_GROUPS:
        return [rows.rows]
    sizes = [FIRST_ROWS]
    while sizes[-1] * GROWTH * 1.5 <= rows.rows:
        sizes.append(sizes[-1] * GROWTH)
    return [*sizes, rows.rows]


def folded_once(validation: Validation, sizes: Sequence[int]) -> Validation:
    """The validation of samples: that which is declared, without repeats; where there are several samples in few folds."""
    folds = min(SAMPLE_FOLDS, validation.folds) if len(sizes) > 1 else validation.folds
    return validation.model_copy(update={"repeats": 1, "folds": folds})


def race(
    frame: pd.DataFrame,
    target: np.ndarray,
    candidates: Mapping[str, Candidate],
    kept: Mapping[str, Candidate],
    validation: Validation,
    metric_set: MetricSet,
    progress: Callable[[str], None],
    rows: RowStructure,
) -> Race:
    """Compare the candidates on growing samples until the decision between them is clear.

    Args:
        frame: features, float64. target: shape (rows,).
        kept: those that are measured to the end without competing: baselines, a reference, a fallback.

    Raises:
        TooFewRows: the declared validation cannot be made of these rows.
    """
    sizes, began = sample_sizes(rows, validation.seed), time.monotonic()
    once = folded_once(validation, sizes)
    z = _needed(len(sizes), len(candidates))
    alive, laps, standings = list(candidates), list[Lap](), list[pd.DataFrame]()
    for number, size in enumerate(sizes):
        started = time.monotonic()
        everyone = {**kept, **with_members(alive, candidates)}
        try:
            lap = compare(frame, target, everyone, once, metric_set, rows, size)
        except TooFewRows:
            if number == len(sizes) - 1:
                raise
            continue
        field = _standings(lap, laps[-1] if laps else None, alive, len(sizes) - 1 - number, z, rows)
        alive = [name for name in alive if not field.loc[name, "dropped"]]
        standings.append(field.reset_index().assign(rows=len(lap.rows)))
        took = time.monotonic() - started
        why = _ended(field.loc[alive], lap, len(frame), validation, metric_set)
        further = took * sizes[number + 1] / size * len(alive) / len(field) if why is None else 0.0
        if further and _over_budget(time.monotonic() - began + further, validation):
            why = f"the next sample would take longer than the budget of {validation.budget_seconds:g} s"
        following = f"; then {sizes[number + 1]:,} rows, in about {further:.0f} s" if why is None else ""
        progress(_words(lap, field, took) + following)
        laps.append(lap if why is not None else replace(lap, models=[]))
        if why is not None:
            break
    return Race(
        laps,
        pd.concat(standings, ignore_index=True),
        alive,
        f"{len(lap.rows):,} of {len(frame):,} rows decided: {why}",
    )


def _groups(rows: RowStructure, chosen: np.ndarray) -> int:
    """How many groups the rows are of; each is one where there are none."""
    return len(chosen) if rows.groups is None else len(np.unique(rows.groups[chosen]))


def helpful_rows(
    name: str,
    frame: pd.DataFrame,
    target: np.ndarray,
    candidates: Mapping[str, Candidate],
    laps: Sequence[Lap],
    validation: Validation,
    metric_set: MetricSet,
    progress: Callable[[str], None],
    rows: RowStructure,
) -> int:
    """How many rows a candidate is worth fitting on: all, or so many that all others would help by less than the precision.

    After its race it goes on alone from sample to sample, as long as these are small beside all rows: a larger one would cost
    what it might save. What another fourfold of the rows brought is measured on the rows of
    both samples; of all that follow, each brings at most 0.7 of the one before.
    """
    alone, before = with_members({name}, candidates), laps[-2] if len(laps) > 1 else None
    sizes, lap = sample_sizes(rows, validation.seed), laps[-1]
    once = folded_once(validation, sizes)
    worth_it = [one for one in sizes if len(lap.rows) < one <= rows.rows / WORTH_IT]
    for size in [*worth_it, None]:
        if before is not None and len(lap.rows) >= DECIDING_ROWS:
            gain, noise = _gain(name, before, lap, rows)
            further = CATCHING_UP / (1 - CATCHING_UP) * (gain + HELPFUL_Z * noise)
            if further < validation.precision * _mean(lap, name):
                break
        if size is None:
            return rows.rows
        before, lap = lap, compare(frame, target, alone, once, metric_set, rows, size)
        progress(f"{size:,} rows: {name} alone, {metric_set.select} {_mean(lap, name):.4g}")
    return len(lap.rows)


def _mean(lap: Lap, name: str) -> float:
    return float(lap.losses[name][lap.fold >= 0].mean())


def _gain(name: str, before: Lap, lap: Lap, rows: RowStructure) -> tuple[float, float]:
    """By how much a candidate was better on the larger sample, on the rows of both; and the standard error of that."""
    index = np.searchsorted(lap.rows, before.rows)
    both = (lap.fold[index] >= 0) & (before.fold >= 0)
    groups = None if rows.groups is None else rows.groups[before.rows[both]]
    gains = (before.losses[name] - lap.losses[name][index])[both]
    return float(gains.mean()), _error(gains, groups)


def _needed(samples: int, candidates: int) -> float:
    """Standard errors that a lead has to have, after each of several samples, of several candidates."""
    from scipy.stats import norm

    return float(norm.ppf(1 - ERROR_RATE / (samples * max(1, candidates - 1))))


def with_members(names: Collection[str], candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """Some of the candidates, and what averages among them are made of."""
    members = {one for name in names for one in candidates[name].members}
    return {name: one for name, one in candidates.items() if name in names or name in members}


def compare(
    frame: pd.DataFrame,
    target: np.ndarray,
    everyone: Mapping[str, Candidate],
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure,
    size: int,
) -> Lap:
    """Everyone by cross-validation inside a sample."""
    chosen = sample(rows, size, validation.seed)
    inside = outer_splits(rows.take(chosen), validation)
    splits = [Split(0, one.fold, chosen[one.train], chosen[one.test]) for one in inside]
    fold = np.full(len(chosen), -1)
    predictions = {name: np.full(len(chosen), np.nan) for name in everyone}
    models = list(
        one_by_one(lambda split: fit_split(everyone, frame, target, split, validation, rows), splits)
    )
    for one, split, fitted in zip(inside, splits, models, strict=True):
        fold[one.test] = one.fold
        for name, model in fitted.items():
            predictions[name][one.test] = model.predict(frame.iloc[split.test])
    mine = target[chosen]
    with np.errstate(invalid="ignore", over="ignore"):
        losses = {name: metric_set.select_loss(mine, one) for name, one in predictions.items()}
    exploded = {name: np.where((fold >= 0) & ~np.isfinite(one), np.inf, one) for name, one in losses.items()}
    return Lap(chosen, splits, models, fold, predictions, exploded)


def _standings(
    lap: Lap, before: Lap | None, alive: Sequence[str], further: int, z: float, rows: RowStructure
) -> pd.DataFrame:
    """How those in the race stand after a lap, by candidate.

    Args:
        further: how many samples there are after this one.
    """
    tested = lap.fold >= 0
    groups = None if rows.groups is None else rows.groups[lap.rows[tested]]
    means = {name: float(lap.losses[name][tested].mean()) for name in alive}
    best = min(alive, key=lambda name: means[name])
    reach = sum(CATCHING_UP**step for step in range(1, further + 1))
    found = []
    for name in alive:
        behind, noise, change, unsure = means[name] - means[best], 0.0, 0.0, 0.0
        if name != best and np.isfinite(behind):
            noise = _error(lap.losses[name][tested] - lap.losses[best][tested], groups)
            if before is not None and further:
                change, unsure = _change(lap, before, name, best, rows)
        nearest = behind + reach * min(0.0, change)
        doubt = float(np.hypot(noise, reach * unsure))
        judged = before is not None or not further
        dropped = name != best and (not np.isfinite(behind) or (judged and nearest - z * doubt > 0))
        found.append((name, means[name], behind, noise, nearest, dropped))
    columns = ["candidate", "mean", "behind", "noise", "nearest", "dropped"]
    return pd.DataFrame(found, columns=columns).set_index("candidate").sort_values("mean", kind="stable")


def _change(lap: Lap, before: Lap, name: str, best: str, rows: RowStructure) -> tuple[float, float]:
    """By how much the distance to the best changed from one sample to the next, on the rows of both; and its error."""
    index = np.searchsorted(lap.rows, before.rows)
    now = (lap.losses[name] - lap.losses[best])[index]
    then = before.losses[name] - before.losses[best]
    both = (lap.fold[index] >= 0) & (before.fold >= 0) & np.isfinite(now) & np.isfinite(then)
    if both.sum() < 2:
        return 0.0, 0.0
    groups = None if rows.groups is None else rows.groups[before.rows[both]]
    return float((now - then)[both].mean()), _error((now - then)[both], groups)


def _error(differences: np.ndarray, groups: np.ndarray | None) -> float:
    return standard_error(differences, groups) if np.ptp(differences) > 0 else 0.0


def _ended(
    field: pd.DataFrame, lap: Lap, rows: int, validation: Validation, metric_set: MetricSet
) -> str | None:
    """Why no further sample is needed, None where one is."""
    if len(lap.rows) == rows:
        return "there are no more"
    if len(lap.rows) < DECIDING_ROWS:
        return None
    if len(field) == 1:
        return "nobody else can win any more"
    enough = validation.precision * abs(float(field["mean"].iloc[0]))
    others = field.iloc[1:]
    if bool((others["noise"] <= enough).all()) and bool((others["nearest"] >= -enough).all()):
        return f"nobody is better by more than {validation.precision:.1%} of the {metric_set.select}"
    return None


def _over_budget(seconds: float, validation: Validation) -> bool:
    return validation.budget_seconds is not None and seconds > validation.budget_seconds


def _words(lap: Lap, field: pd.DataFrame, seconds: float) -> str:
    """What happened, for the log."""
    dropped = [
        f"{name} ({row['behind']:.2g} ± {row['noise']:.1g} behind)"
        for name, row in field.iterrows()
        if row["dropped"]
    ]
    gone = f"; cannot win any more: {', '.join(dropped)}" if dropped else ""
    return (
        f"{len(lap.rows):,} rows: {len(field)} candidates in {seconds:.1f} s, {field.index[0]} is best{gone}"
    )
