"""Parameters with several declared values: which of them a candidate is fitted with.

Each combination is fitted on inner folds and the one with the lowest mean of the selection metric is taken. Inside an outer
fold these are folds of its training rows alone, so the error of a candidate counts what trying costs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Validation
from vroom_assets.training.folds import RowStructure, Split, inner_splits
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.parallel import Entry, fit_splits
from vroom_assets.training.sampling import FULL_ROWS, sample


@dataclass(frozen=True)
class Tuned:
    """candidates: with one value for each parameter. tried: a row per combination of those that have several; columns
    candidate, parameters, the mean of the metric, chosen."""

    candidates: dict[str, Candidate]
    tried: pd.DataFrame


def tune(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    target: np.ndarray,
    inner: Sequence[Split],
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure,
) -> Tuned:
    """Choose the values of parameters by folds; of ties the combination that is declared first.

    Raises:
        CandidateError: a combination cannot be fitted.
    """
    score = metric_set.metrics[metric_set.select]
    variants = {
        f"{name} with {one.chosen_words}": (name, one)
        for name, candidate in candidates.items()
        if len(found := candidate.variants) > 1
        for one in found
    }
    if not variants:
        single = {name: candidate.variants[0] for name, candidate in candidates.items()}
        return Tuned(single, pd.DataFrame(columns=["candidate", "parameters", metric_set.select, "chosen"]))

    tested = {label: one for label, (_, one) in variants.items()}
    entries = [Entry(split, tested) for split in inner]
    scores = [
        {label: score(target[split.test], fit.prediction) for label, fit in fits.items()}
        for split, fits in zip(inner, fit_splits(entries, frame, target, rows, validation), strict=True)
    ]
    means = pd.DataFrame(scores).mean()
    best: dict[str, str] = {}
    for label, (name, _) in variants.items():
        if name not in best or means[label] < means[best[name]]:
            best[name] = label
    tried = [
        {
            "candidate": name,
            "parameters": one.chosen_words,
            metric_set.select: means[label],
            "chosen": label == best[name],
        }
        for label, (name, one) in variants.items()
    ]
    resolved = {
        name: variants[best[name]][1] if name in best else candidate.variants[0]
        for name, candidate in candidates.items()
    }
    return Tuned(resolved, pd.DataFrame(tried))


def tune_on_all(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    target: np.ndarray,
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure,
) -> Tuned:
    """The same by inner folds of all rows, or of a sample where they are many: the values that what is served is fitted with."""
    if not has_values_to_try(candidates):
        return tune(candidates, frame, target, [], validation, metric_set, rows)
    whole = Split(0, 0, tuning_rows(rows, validation), np.arange(0))
    return tune(
        candidates, frame, target, inner_splits(rows, whole, validation), validation, metric_set, rows
    )


def has_values_to_try(candidates: Mapping[str, Candidate]) -> bool:
    return any(len(candidate.variants) > 1 for candidate in candidates.values())


def tuning_rows(rows: RowStructure, validation: Validation) -> np.ndarray:
    """The rows on whose folds the values are tried, ascending."""
    return sample(rows, FULL_ROWS, validation.seed) if rows.rows > 2 * FULL_ROWS else np.arange(rows.rows)
