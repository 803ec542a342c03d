"""Evidence that a mean has come to be above a bound, and since when.

Of values x in [0, 1] whose mean given the past is at most m, the product of 1 + λ (x - m) does not grow on average, for any
λ in [0, 1/m]: the probability that it, or a mean of such products, ever reaches 1/α is at most α, however often it is
checked (Ville 1939; Waudby-Smith & Ramdas 2024, doi:10.1093/jrsssb/qkad009). The mean is taken over λ and over the block
of values with which a product begins, so that a late change is found quickly; the best begin dates the change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

BLOCK = 25  # values, between two begins
BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])  # shares of the largest bet, 1 / m


@dataclass(frozen=True)
class Evidence:
    """What speaks against a bound: the log of an e-process, and the index of the value with which the change began."""

    log: float
    onset: int


def evidence(values: np.ndarray, bound: float) -> Evidence:
    """What speaks against the mean of values being at most a bound.

    Args:
        values: shape (n,), in [0, 1], in the order in which they became known.
        bound: above 0, below 1.
    """
    blocks = -(-len(values) // BLOCK)
    if not blocks:
        return Evidence(0.0, 0)
    gains = np.log1p(BETS / bound * (values[:, None] - bound))
    by_block = np.add.reduceat(gains, np.arange(0, len(values), BLOCK), axis=0)
    since = np.cumsum(by_block[::-1], axis=0)[::-1] - np.log(len(BETS))  # of the products that begin there
    number = np.arange(1, blocks + 1)
    weights = -np.log(number * (number + 1.0))
    kept = -np.log(blocks + 1.0)  # of the stake, for changes that are still to come
    begun = logsumexp(since, axis=1)
    return Evidence(float(np.logaddexp(logsumexp(begun + weights), kept)), int(np.argmax(begun)) * BLOCK)


def together(found: list[Evidence]) -> Evidence:
    """The mean of several e-processes, which is one, with the onset of the strongest."""
    log = logsumexp([one.log for one in found]) - np.log(len(found))
    return Evidence(float(log), max(found, key=_log).onset)


def _log(found: Evidence) -> float:
    return found.log
