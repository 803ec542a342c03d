"""Evidence of a subject: several e-processes on the same rows, averaged.

Axes: (windows, ..., cells), where ... is empty for one forecast, and that of simulated deployments in benchmarks. The
reference of each is (..., cells).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vroom_assets.monitoring.betting import (
    averaged,
    mean_bound,
    means_evidence,
    share_bound,
    shares_evidence,
)
from vroom_assets.monitoring.budget import Allowance
from vroom_assets.monitoring.cells import points


@dataclass(frozen=True)
class EProcess:
    """evidence: natural logarithms, shape (windows, ...). threshold: from which on it is enough for an alarm."""

    evidence: np.ndarray
    threshold: float

    @property
    def crossed(self) -> np.ndarray:
        """Whether there ever was enough, up to each window; shape (windows, ...)."""
        return np.maximum.accumulate(self.evidence, axis=0) >= self.threshold


def unions(bins: int, ordered: bool, apart: int = 0) -> np.ndarray:
    """Sets of cells whose shares are watched, shape (cells, sets): each alone and, where bins are ordered, all below and all
    above each edge, in which a shift shows that is too small to show in one.

    Args:
        apart: cells after the bins.
    """
    sets = [np.eye(bins + apart)]
    if ordered and bins > 2:
        below = np.vstack([np.triu(np.ones((bins, bins)))[:, 1:-1], np.zeros((apart, bins - 2))])
        above = np.vstack([np.tril(np.ones((bins, bins)))[:, 1:-1], np.zeros((apart, bins - 2))])
        sets += [below, above]
    return np.hstack(sets)


def shares(
    counts: np.ndarray,
    reference: np.ndarray,
    units: np.ndarray | float,
    sets: np.ndarray,
    allowance: Allowance,
    tolerance: np.ndarray | float = 0.0,
) -> EProcess:
    """Whether the share of any set of cells has come to be above what training and a tolerance explain.

    Args:
        reference: training's units by cell, shape (..., cells); units: how many there were, shape (...).
        sets: shape (cells, sets). tolerance: of shares, shape () or (sets,).
    """
    error = allowance.reference / sets.shape[1]
    units = np.asarray(units, float)[..., None]
    null = np.minimum(share_bound(reference @ sets, units, error) + tolerance, 1.0)
    evidence = shares_evidence(counts @ sets, counts.sum(axis=-1), null)
    return EProcess(averaged(evidence), allowance.threshold)


def mean(
    counts: np.ndarray,
    reference: np.ndarray,
    allowance: Allowance,
    factor: float = 1.0,
    tolerance: np.ndarray | float = 0.0,
) -> EProcess:
    """Whether a mean of values in [0, 1] has come to be above what training explains, times a factor, plus a tolerance.

    Args:
        counts: units by point. reference: the same of training, shape (..., points).
        tolerance: in units of the grid, shape () or (...).
    """
    grid = points(counts.shape[-1])
    null = mean_bound(reference, grid, allowance.reference) * factor + tolerance
    return EProcess(means_evidence(counts, grid, np.clip(null, 1e-6, 1.0 - 1e-6)), allowance.threshold)


def recent(counts: np.ndarray, rows: np.ndarray, least: float) -> np.ndarray:
    """Units by cell of the latest windows that have enough rows together, up to each window.

    Args:
        counts: shape (windows, ..., cells). rows: shape (windows, ...). least: rows that are enough; of all windows if there are
            fewer.

    Returns:
        shape (windows, ..., cells).
    """
    total = np.cumsum(rows, axis=0)
    summed = np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(counts, axis=0)])
    flat, before = total.reshape(len(rows), -1), np.zeros((len(rows), total[0].size), dtype=int)
    for column in range(flat.shape[1]):
        reached = np.concatenate([[0.0], flat[:, column]])
        before[:, column] = np.maximum(
            np.searchsorted(reached, flat[:, column] - least + min(0.01, least / 400.0), side="right") - 1, 0
        )
    cells = summed.reshape(len(rows) + 1, -1, counts.shape[-1])
    taken = np.take_along_axis(cells, before[..., None], axis=0)
    return (cells[1:] - taken).reshape(counts.shape)
