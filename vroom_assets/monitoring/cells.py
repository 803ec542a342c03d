"""Rows as counts by cell: bins of what is ordered, points of a grid of what is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 33  # of the grid of a loss or a residual
FEW_POINTS = 17  # where there are many grids


@dataclass(frozen=True)
class Cells:
    """Where rows fall.

    position: shape (rows, parts), cells of each row; weight: the same shape, how much of the row falls there.
    number: how many cells there are.
    """

    position: np.ndarray
    weight: np.ndarray
    number: int

    def counts(self, units: np.ndarray) -> np.ndarray:
        """Units by cell.

        Args:
            units: shape (rows,), how much each row counts.
        """
        weights = (self.weight * units[:, None]).ravel()
        return np.bincount(self.position.ravel(), weights, self.number)

    def shifted(self, by: np.ndarray, number: int) -> Cells:
        """The same within a longer row of cells."""
        return Cells(self.position + by[:, None], self.weight, number)

    def only(self, rows: np.ndarray) -> Cells:
        """The same, of some rows: the others count nothing.

        Args:
            rows: bool, shape (rows,).
        """
        return Cells(self.position, self.weight * rows[:, None], self.number)


def whole(position: np.ndarray, number: int) -> Cells:
    """Rows that fall into one cell each."""
    return Cells(position[:, None], np.ones((len(position), 1)), number)


def binned(values: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """The bin of each value; one on an edge belongs above it, a missing one to the last."""
    return np.searchsorted(np.asarray(edges, float), values, side="right")


def points(number: int = POINTS) -> np.ndarray:
    """The grid, in [0, 1]."""
    return np.linspace(0.0, 1.0, number)


def divided(values: np.ndarray, low: float, high: float, number: int = POINTS) -> Cells:
    """Values between two points of a grid, clipped to it, in parts that keep the sum."""
    scaled = (np.clip(values, low, high) - low) / (high - low) * (number - 1)
    left = np.minimum(scaled.astype(int), number - 2)
    share = scaled - left
    return Cells(np.stack([left, left + 1], axis=1), np.stack([1.0 - share, share], axis=1), number)


def units_of(groups: np.ndarray | None, rows: int) -> np.ndarray:
    """How much each row counts: 1, or 1 / rows of its group."""
    if groups is None:
        return np.ones(rows)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[member]
