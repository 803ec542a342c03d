"""Evidence against a mean, that may be looked up as often as one likes.

Of values x in [0, 1] whose mean given the past is at most m, a gambler who bets a share λ of what he has on larger values has
∏ (1 + λ (x - m)), which does not grow on average, for any λ in [0, 1/m]. So the probability that it ever reaches 1/α is at
most α (Ville 1939), however long and however often it is watched; and it grows exponentially where the mean is above m
(Waudby-Smith & Ramdas 2024, doi:10.1093/jrsssb/qkad009; for shifts of a running model Podkopaev & Ramdas 2022,
arXiv:2110.06177).

Two things are unknown, and averaged over: how much to bet, and from which window on. Whoever begins at window k gets 1 / (k (k + 1))
of the stake; what has not begun yet is kept. An average of such games is one, so the promise holds for it.

All that a window contributes is a factor for each bet, which counts of rows by value give: values between two points of a
grid count for both in parts. As the logarithm is concave, that can only make the evidence smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.stats import beta

BETS = np.geomspace(0.01, 0.95, 14)  # shares of the largest bet, 1 / m
MOST = 1e250  # that a game may win: less than won is as good a game, and a number
MOST_LOG = 300.0


def log_evidence(windows: Sequence[np.ndarray], null_mean: float) -> np.ndarray:
    """The evidence that the mean of values has come to be above a bound, after each window.

    Args:
        windows: values in [0, 1], an array of each window, any of them empty.
        null_mean: above 0 and below 1; the mean that each value has at most, given all before it, if nothing is wrong.

    Returns:
        shape (windows,): natural logarithm of an e-process. The probability that it ever reaches log(1 / α) is at most α.

    Raises:
        ValueError: a value or the bound is outside its range.
    """
    if not 0.0 < null_mean < 1.0:
        raise ValueError(f"null_mean is {null_mean}: it has to be above 0 and below 1")
    for number, values in enumerate(windows):
        values = np.asarray(values, float)
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise ValueError(
                f"window {number} has values outside [0, 1]: clip and scale them, with bounds fixed beforehand"
            )
    bets = BETS / null_mean
    factors = (
        np.log1p(np.multiply.outer(bets, np.asarray(values, float) - null_mean)).sum(axis=-1)
        for values in windows
    )
    return np.array([float(one) for one in _mixed(factors, BETS.shape)])


def shares_evidence(hits: np.ndarray, rows: np.ndarray, null: np.ndarray) -> np.ndarray:
    """`log_evidence` of many shares at once, where each row is a hit or not.

    Args:
        hits: shape (windows, ..., shares). rows: shape (windows, ...). null: shape (..., shares) or (shares,), above 0.
    """
    bets = BETS / null[..., None]
    lost = np.log1p(-BETS)  # per row: log(1 - λ m)
    won = np.log1p(bets * (1.0 - null[..., None])) - lost
    factors = (
        hits[window, ..., None] * won + rows[window, ..., None, None] * lost for window in range(len(hits))
    )
    return _stacked(_mixed(factors, (*hits.shape[1:], len(BETS))), hits.shape)


def means_evidence(counts: np.ndarray, points: np.ndarray, null: np.ndarray) -> np.ndarray:
    """`log_evidence` of many means at once, of values on a grid.

    Args:
        counts: shape (windows, ..., points). points: shape (points,), in [0, 1]. null: shape (...) or (), above 0 and below 1.
    """
    null = np.asarray(null, float)
    bets = BETS / null[..., None]  # (..., bets)
    won = np.log1p(bets[..., None, :] * (points[:, None] - null[..., None, None]))  # (..., points, bets)
    factors = (np.einsum("...p,...pb->...b", counts[window], won) for window in range(len(counts)))
    shape = counts.shape[1:-1]
    return _stacked(_mixed(factors, (*shape, len(BETS))), (len(counts), *shape))


def _stacked(steps: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape)
    for window, step in enumerate(steps):
        found[window] = step
    return found


def _mixed(factors: Iterable[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The log of what all games have together after each window, the last axis being the bets."""
    wealth = np.zeros(shape)
    with np.errstate(over="ignore", under="ignore"):
        for number, factor in enumerate(factors, 1):
            wealth += 1.0 / (number * (number + 1.0))
            wealth *= np.exp(np.minimum(factor, MOST_LOG))
            np.minimum(wealth, MOST, out=wealth)
            yield np.log(wealth.mean(axis=-1) + 1.0 / (number + 1.0))


def averaged(log_evidence: np.ndarray) -> np.ndarray:
    """The log of the mean of e-processes along the last axis, which is one."""
    most = log_evidence.max(axis=-1, keepdims=True)
    return (np.log(np.exp(log_evidence - most).mean(axis=-1, keepdims=True)) + most)[..., 0]


def share_bound(hits: np.ndarray, rows: np.ndarray | float, error: float) -> np.ndarray:
    """What a share is at most, but for an error (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404).

    Args:
        hits: of `rows` that were drawn; may be fractions, where each unit is one of several rows.
    """
    rows = np.broadcast_to(np.asarray(rows, float), np.shape(hits))
    left = rows - hits
    bound = beta.ppf(1.0 - error, hits + 1.0, np.maximum(left, 1e-9))
    return np.where(left < 1e-6, 1.0, bound)


def mean_bound(counts: np.ndarray, points: np.ndarray, error: float) -> np.ndarray:
    """What the mean of values in [0, 1] is at most, but for an error: all larger means are bet against and lose.

    No normal approximation is made: this is the bound of Waudby-Smith & Ramdas for a fixed number of values, with a mixture of bets.

    Args:
        counts: shape (..., points). points: shape (points,), in [0, 1].

    Returns:
        shape (...); 1 where there are no values.
    """
    counts = np.asarray(counts, float)
    rows = counts.sum(axis=-1)
    low = (counts @ points) / np.maximum(rows, 1e-12)
    high = np.ones_like(low)
    for _ in range(40):
        middle = (low + high) / 2
        below = np.maximum(
            1.0 - middle, 1e-12
        )  # of 1 - x, whose mean is at most so much if that of x is `middle`
        bets = BETS / below[..., None]
        won = np.log1p(bets[..., None, :] * (middle[..., None, None] - points[:, None]))
        log_factor = np.einsum("...p,...pb->...b", counts, won)
        refuted = averaged(log_factor) >= np.log(1.0 / error)
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    return np.where(rows > 0, high, 1.0)
