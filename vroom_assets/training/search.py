"""Training: every candidate on the same folds, a choice that its own error has not seen.

Cross-validation follows the declaration (repeated k-fold). The choice among candidates is made on all
folds, as `choice` has it; what that procedure is worth is measured by *nested*
cross-validation: inside each outer fold the choice is made again on inner folds of its training rows
only (Varma & Simon 2006, doi:10.1186/1471-2105-7-91).

Of many rows a race decides on as few as it takes. There the choice is made again for each fold by the predictions of the
rows of all other folds, which costs no fit (Tsamardinos, Greasidou & Borboudakis 2018, doi:10.1007/s10994-018-5714-4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Validation
from vroom_assets.training.choice import Chosen, choose
from vroom_assets.training.fitting import with_members
from vroom_assets.training.folds import RowStructure, Split, inner_splits, outer_splits
from vroom_assets.training.metrics import BASELINES, MetricSet
from vroom_assets.training.models import Fitted
from vroom_assets.training.parallel import Entry, Fit, fit_splits
from vroom_assets.training.race import Problem, helpful_rows, race
from vroom_assets.training.sampling import FULL_ROWS, sample
from vroom_assets.training.tuning import has_values_to_try, tune, tune_on_all, tuning_rows

SHUFFLES, FEW_FEATURES = 3, 20  # of each feature, where there are few
SHUFFLED, MIN_SHUFFLED = 40_000, 500  # rows of a fold times features


@dataclass(frozen=True)
class Search:
    """What cross-validation found.

    fold_metrics: one row per candidate, repeat and fold, a column per metric.
    out_of_fold: one row per candidate, repeat and row number, with its prediction.
    nested: shape (rows,), of the first repeat: prediction of the candidate chosen without the row; NaN for
        rows that nothing precedes, where validation goes forward in time.
    choice: the winner on all folds. nested_choices: what the inner folds chose, fold by fold.
    importances: increase of the error when a feature is permuted in the test folds, for the chosen.
    standings: of a race, as `Race` has them; empty where everything was compared on all rows.
    fitted: row numbers that the chosen one is to be fitted on; None for all.
    """

    fold_metrics: pd.DataFrame
    out_of_fold: pd.DataFrame
    nested: np.ndarray
    nested_choices: list[str]
    choice: Chosen
    importances: dict[str, float]
    standings: pd.DataFrame = field(default_factory=pd.DataFrame)
    fitted: np.ndarray | None = None

    @property
    def chosen(self) -> str:
        return self.choice.name

    @property
    def predicted(self) -> np.ndarray:
        """The rows that have out-of-fold predictions, ascending."""
        return np.flatnonzero(~np.isnan(self.nested))

    def predictions(self, candidate: str, repeat: int = 0) -> np.ndarray:
        """Out-of-fold predictions of `predicted`, in row order."""
        mine = self.out_of_fold.query("candidate == @candidate and repeat == @repeat")
        return mine[~np.isnan(self.nested[mine["row"]])].sort_values("row")["prediction"].to_numpy()


def search(
    frame: pd.DataFrame,
    target: np.ndarray,
    candidates: Mapping[str, Candidate],
    validation: Validation,
    metric_set: MetricSet,
    progress: Callable[[str], None] = lambda _: None,
    rows: RowStructure | None = None,
    reference: str | None = None,
    kept: Collection[str] = (),
) -> Search:
    """Score every candidate and the baselines on the same folds, nested over the first repeat; of many rows by a race.

    Args:
        frame: features, float64, one row per entity.
        target: shape (rows,).
        rows: their groups and times, None where they are independent.
        reference: of the choice of the simplest, the candidate that goes before all within one standard error of the best.
        kept: candidates whose error is needed whether they can win or not.

    Raises:
        TooFewRows: the declared validation cannot be made of these rows.
    """
    problem = Problem(frame, target, rows or RowStructure(len(frame)), validation, metric_set)
    if is_raced(len(frame), candidates):
        return _by_race(problem, candidates, progress, reference, kept)
    return _on_all_rows(problem, candidates, progress, reference)


def _on_all_rows(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    progress: Callable[[str], None],
    reference: str | None,
) -> Search:
    """What cross-validation of everyone found."""
    frame, target, rows = problem.frame, problem.target, problem.rows
    validation, metric_set = problem.validation, problem.metric_set
    everyone = dict(candidates) | {name: BASELINES[name] for name in metric_set.baselines}
    outer = outer_splits(rows, validation)
    scores: list[pd.DataFrame] = []
    predictions: list[pd.DataFrame] = []
    folds: list[tuple[Split, dict[str, Fit]]] = []
    tuned = tuned_candidates(frame, target, outer, everyone, validation, metric_set, rows)

    entries = [Entry(split, tuned[split.repeat, split.fold]) for split in outer]
    found = fit_splits(entries, frame, target, rows, validation, with_models=True)
    for done, (split, fits) in enumerate(zip(outer, found, strict=True), 1):
        predictions.append(predictions_of(fits, split))
        scores.append(scores_of(fits, target, split, metric_set))
        if split.repeat == 0:
            folds.append((split, fits))
        progress(f"outer fold {done} of {len(outer)}: {len(everyone)} candidates scored")

    fold_metrics = pd.concat(scores, ignore_index=True)
    out_of_fold = pd.concat(predictions, ignore_index=True)
    choice = choose(out_of_fold, target, candidates, metric_set, reference, rows.groups, validation.choice)
    nested = np.full(len(frame), np.nan)
    inner = [split for split, _ in folds]
    competing = [{name: tuned[split.repeat, split.fold][name] for name in candidates} for split in inner]
    nested_choices = inner_choices(frame, target, inner, competing, validation, metric_set, rows, reference)
    for (split, fits), name in zip(folds, nested_choices, strict=True):
        nested[split.test] = fits[name].prediction
        progress(f"nested fold {split.fold + 1} of {len(folds)}: chose {name} without seeing it")

    tested = [(split.test, model) for split, fits in folds if (model := fits[choice.name].model) is not None]
    return Search(
        fold_metrics=fold_metrics,
        out_of_fold=out_of_fold,
        nested=nested,
        nested_choices=nested_choices,
        choice=choice,
        importances=permutation_importances(frame, target, tested, metric_set, validation.seed),
    )


def is_raced(rows: int, candidates: Mapping[str, Candidate]) -> bool:
    """Whether there are more rows than a choice needs; those that values of parameters were tried on judge nothing."""
    return rows > FULL_ROWS * (2 if has_values_to_try(candidates) else 1)


def _by_race(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    progress: Callable[[str], None],
    reference: str | None,
    kept: Collection[str],
) -> Search:
    """What a race found, as a search has it."""
    frame, target, rows = problem.frame, problem.target, problem.rows
    validation, metric_set = problem.validation, problem.metric_set
    tuned = tune_on_all(candidates, frame, target, validation, metric_set, rows).candidates
    measured = {*kept, *([reference] if reference is not None else [])}
    beside = with_members(measured, tuned) | {name: BASELINES[name] for name in metric_set.baselines}
    found = race(problem, tuned, beside, progress)
    out_of_fold = found.last.out_of_fold()
    competing = {name: candidates[name] for name in found.competing}

    def chosen_by(predictions: pd.DataFrame) -> Chosen:
        return choose(predictions, target, competing, metric_set, reference, rows.groups, validation.choice)

    choice = chosen_by(out_of_fold)
    helpful = helpful_rows(choice.name, problem, tuned, found.rungs, progress)
    fitted = sample(rows, helpful, validation.seed) if helpful < rows.rows else None
    choice = replace(choice, decided=f"{found.why}{_fitted_on(fitted, validation)}")
    judging = np.ones(len(frame), dtype=bool)
    if has_values_to_try(candidates):
        judging[tuning_rows(rows, validation)] = False
    nested, nested_choices = np.full(len(frame), np.nan), []
    for split in found.last.splits:
        name = chosen_by(out_of_fold[out_of_fold["fold"] != split.fold]).name
        nested_choices.append(name)
        test = split.test[judging[split.test]]
        nested[test] = found.last.predictions[name][np.searchsorted(found.last.rows, test)]
    tested = [
        (split.test, models[choice.name])
        for split, models in zip(found.last.splits, found.last.models, strict=True)
    ]
    return Search(
        fold_metrics=found.fold_metrics(target, metric_set),
        out_of_fold=out_of_fold,
        nested=nested,
        nested_choices=nested_choices,
        choice=choice,
        importances=permutation_importances(frame, target, tested, metric_set, validation.seed),
        standings=found.standings,
        fitted=fitted,
    )


def _fitted_on(fitted: np.ndarray | None, validation: Validation) -> str:
    if fitted is None:
        return ""
    return f"; it is fitted on {len(fitted):,} of them, as all others would help by less than {validation.precision:.1%}"


def predictions_of(fits: Mapping[str, Fit], split: Split) -> pd.DataFrame:
    """Predictions of every candidate for the test rows of a split: rows of `Search.out_of_fold`."""
    where = {"repeat": split.repeat, "fold": split.fold, "row": split.test}
    parts = [
        pd.DataFrame({"candidate": name, **where, "prediction": fit.prediction}) for name, fit in fits.items()
    ]
    return pd.concat(parts, ignore_index=True)


def scores_of(
    fits: Mapping[str, Fit], target: np.ndarray, split: Split, metric_set: MetricSet
) -> pd.DataFrame:
    """Metrics of every candidate on the test rows of a split: rows of `Search.fold_metrics`."""
    where = {"repeat": split.repeat, "fold": split.fold}
    return pd.DataFrame(
        [
            {"candidate": name, **where}
            | {
                metric: score(target[split.test], fit.prediction)
                for metric, score in metric_set.metrics.items()
            }
            for name, fit in fits.items()
        ]
    )


def tuned_candidates(
    frame: pd.DataFrame,
    target: np.ndarray,
    outer: Sequence[Split],
    candidates: Mapping[str, Candidate],
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure,
) -> dict[tuple[int, int], dict[str, Candidate]]:
    """By repeat and fold of each outer split, the candidates with the values that inner folds of its training rows chose."""
    has_several = has_values_to_try(candidates)
    return {
        (split.repeat, split.fold): tune(
            candidates,
            frame,
            target,
            inner_splits(rows, split, validation) if has_several else [],
            validation,
            metric_set,
            rows,
        ).candidates
        for split in outer
    }


def inner_choices(
    frame: pd.DataFrame,
    target: np.ndarray,
    outer: Sequence[Split],
    candidates: Sequence[Mapping[str, Candidate]],
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure | None = None,
    reference: str | None = None,
) -> list[str]:
    """For each outer split, the candidate that inner folds of its training rows alone would choose.

    Args:
        candidates: those of each outer split.
    """
    rows = rows or RowStructure(len(frame))
    entries = [
        Entry(replace(split, repeat=number), candidates[number])
        for number in range(len(outer))
        for split in inner_splits(rows, outer[number], validation)
    ]
    fitted = fit_splits(entries, frame, target, rows, validation)
    parts = [predictions_of(fits, one.split) for one, fits in zip(entries, fitted, strict=True)]
    found = pd.concat(parts, ignore_index=True)
    return [
        choose(
            found[found["repeat"] == number],
            target,
            candidates[number],
            metric_set,
            reference,
            rows.groups,
            validation.choice,
        ).name
        for number in range(len(outer))
    ]


def permutation_importances(
    frame: pd.DataFrame,
    target: np.ndarray,
    models: list[tuple[np.ndarray, Fitted]],
    metric_set: MetricSet,
    seed: int,
) -> dict[str, float]:
    """Mean increase of the error on test rows when one feature's values are shuffled among them.

    Impurity importances reward features with many levels, noise included; these do not (Breiman 2001). The more
    features there are, the fewer rows of a fold are shuffled for each, and the less often: the cost stays the same.
    """
    rng = np.random.default_rng(seed)
    error = metric_set.metrics[metric_set.error]
    shuffles = SHUFFLES if len(frame.columns) <= FEW_FEATURES else 1
    most = max(MIN_SHUFFLED, SHUFFLED // len(frame.columns))
    increases: dict[str, list[float]] = {name: [] for name in frame.columns}
    for fold, model in models:
        test = fold if len(fold) <= most else np.sort(rng.choice(fold, most, replace=False))
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
