"""Corrections that follow outcomes in the order in which they arrive. All are computed anew from the outcomes, so a
restart changes nothing."""

from __future__ import annotations

from bisect import insort
from math import ceil
from typing import NamedTuple

import numpy as np

STEP = 0.0005  # of the level that adapts; larger ones are quicker and less exact, see tests/benchmarks/recalibration.py
START = 40  # outcomes before a quantile of them is used
LEAST_LEVEL, LARGEST_LEVEL = 0.002, 0.5


def factors(scores: np.ndarray, missed: float, start: float, step: float = STEP) -> np.ndarray:
    """By how much the distance from prediction to bound is to be multiplied, before each outcome and after the last.

    Adaptive conformal inference (Gibbs & Candès 2021, arXiv:2106.00170) for one side of the interval: the factor is the
    conformal quantile of the scores so far, at a level that rises with each outcome inside and falls with each miss.

    Args:
        scores: shape (n,), distance of each outcome from its prediction towards this side, in units of the distance of
            the bound as the bundle has it.
        missed: the share of outcomes that is to be beyond the bound.
        start: the factor of before.

    Returns:
        shape (n + 1,).
    """
    seen: list[float] = []
    level, factor = missed, start
    found = np.empty(len(scores) + 1)
    for index, score in enumerate(scores.tolist()):
        found[index] = factor
        if index >= START:  # before, misses are those of the factor of before
            level += step * (missed - (score > factor))
            level = min(max(level, LEAST_LEVEL), LARGEST_LEVEL)
        insort(seen, score)
        count = index + 1
        if count >= START:
            factor = seen[min(ceil((count + 1) * (1 - level)), count) - 1]
    found[len(scores)] = factor
    return found


class Line(NamedTuple):
    """A line on the logit of a probability."""

    intercept: float
    slope: float


PRIOR_SD = 0.5  # of the intercept and of the slope, around what was in force


def lines(logits: np.ndarray, yes: np.ndarray, start: Line) -> np.ndarray:
    """The intercept and slope that correct a probability, before each outcome and after the last.

    Platt scaling (1999), online: a logistic regression on the logit, of which each outcome moves the estimate by a Newton
    step with the curvature gathered so far (Gupta & Ramdas 2023, arXiv:2305.00070), from a normal prior around `start`.

    Args:
        logits: shape (n,), of the model's probabilities.
        yes: shape (n,), 0 or 1.

    Returns:
        shape (n + 1, 2).
    """
    a, b = start
    # Symmetric 2 × 2 precision, by hand: a call of NumPy costs more than all of it.
    p00, p01, p11 = PRIOR_SD**-2, 0.0, PRIOR_SD**-2
    found = np.empty((len(logits) + 1, 2))
    for index, (x, y) in enumerate(zip(logits.tolist(), yes.tolist(), strict=True)):
        found[index] = a, b
        p = 1.0 / (1.0 + np.exp(-min(max(a + b * x, -30.0), 30.0)))
        weight = max(p * (1.0 - p), 1e-6)
        p00, p01, p11 = p00 + weight, p01 + weight * x, p11 + weight * x * x
        determinant = p00 * p11 - p01 * p01
        error = y - p
        a += (p11 - p01 * x) * error / determinant
        b += (p00 * x - p01) * error / determinant
    found[len(logits)] = a, b
    return found
