"""What is learnt of the order of a feature's training rows: edges of bins, and ranks.

Both are of the distinct values and of how many rows have each, so that a value that many rows have stays whole. That is
why they are not scikit-learn's: of edges that fall on one value its KBinsDiscretizer keeps one, and puts a 0 or 1 of which
most are alike into a single bin; its QuantileTransformer jumps beside such a value, and a graph would have to jump with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST_KNOTS = 100  # of a line of ranks


def edges_of(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges that cut values into about equal parts, at most `bins` of them; ascending, shape (edges,).

    Each lies midway between two neighbouring values, at the gap that has nearest to its share of the rows below it; edges
    in one gap are one. No edges of a single value, or of none.

    Args:
        values: shape (rows,), none missing, of float32 precision, so that the middle of two lies between them.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 2:
        return np.empty(0)
    below = np.cumsum(counts)[:-1] / len(values)
    gaps = np.unique(_nearest(below, np.arange(1, bins) / bins))
    return (distinct[gaps] + distinct[gaps + 1]) / 2


class Ranks(NamedTuple):
    """The share of training rows below a value, and half of those that have it: linear between knots, level beyond."""

    x: np.ndarray  # (knots,), ascending without repeats
    y: np.ndarray  # (knots,), of 0 to 1

    def at(self, values: np.ndarray) -> np.ndarray:
        return np.interp(values, self.x, self.y)


def ranks_of(values: np.ndarray) -> Ranks:
    """The ranks of values, shape (rows,), none missing; knots are values, all of them where they are few.

    The rank among no values is 0.5, as is that of a single one.
    """
    distinct, counts = np.unique(values if len(values) else np.zeros(1), return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
    knots = np.unique(_nearest(ranks, np.linspace(ranks[0], ranks[-1], MOST_KNOTS)))
    return Ranks(distinct[knots], ranks[knots])


def _nearest(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The position of the nearest number to each that is wanted."""
    return np.searchsorted((ascending[:-1] + ascending[1:]) / 2, wanted)
