"""The closed windows of a version, one after the other, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from vroom_assets.monitoring.e_processes import EProcess, recent
from vroom_assets.monitoring.summary import Summary
from vroom_assets.spec import Monitoring


@dataclass(frozen=True)
class Windows:
    """counts: by stream, shape (windows, cells), or (windows, ..., cells) of many deployments at once. sums: by name, shape (windows,). predicted, observed, partial: rows, shape (windows,)."""

    start: datetime
    end: datetime  # of the latest
    latest_start: datetime
    counts: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]
    predicted: np.ndarray
    observed: np.ndarray
    partial: np.ndarray

    @property
    def number(self) -> int:
        return len(self.predicted)

    def stream(self, name: str, cells: int) -> np.ndarray:
        """Units by window and cell; none where nothing of it was counted."""
        return self.counts.get(name, np.zeros((self.number, cells)))

    def total(self, name: str) -> np.ndarray:
        return self.sums.get(name, np.zeros(self.number))

    def least(self, rules: Monitoring, *, outcomes: bool) -> float:
        """How many units `least_rows` are, of predictions or of those with outcomes: fewer where several rows make one."""
        rows, stream = (self.observed, "loss") if outcomes else (self.predicted, "prediction")
        if stream not in self.counts or not rows.sum():
            return float(rules.least_rows)
        units = float(self.counts[stream].sum(axis=(0, -1)).mean())
        return rules.least_rows * min(units / float(rows.sum()), 1.0) or float(rules.least_rows)


def stacked(summaries: Sequence[Summary]) -> Windows:
    """Summaries of one version, in any order, as arrays in the order of time."""
    ordered = sorted(summaries, key=lambda one: one.end)
    return Windows(
        start=ordered[0].start,
        end=ordered[-1].end,
        latest_start=ordered[-1].start,
        counts=_columns([one.counts for one in ordered]),
        sums={name: column[:, 0] for name, column in _columns([_lists(one.sums) for one in ordered]).items()},
        predicted=np.array([one.predicted for one in ordered]),
        observed=np.array([one.observed for one in ordered]),
        partial=np.array([one.partial for one in ordered]),
    )


def _lists(sums: dict[str, float]) -> dict[str, list[float]]:
    return {name: [value] for name, value in sums.items()}


def _columns(rows: Sequence[dict[str, list[float]]]) -> dict[str, np.ndarray]:
    widths = {name: len(cells) for row in rows for name, cells in row.items()}
    found = {name: np.zeros((len(rows), width)) for name, width in widths.items()}
    for number, row in enumerate(rows):
        for name, cells in row.items():
            found[name][number, : len(cells)] = cells
    return found


@dataclass(frozen=True)
class Recent:
    """The rows of the latest windows that are enough to judge by, up to each window.

    cells: units, shape (windows, ..., cells). units and rows: how many, shape (windows, ...). enough: whether they are.
    """

    cells: np.ndarray
    units: np.ndarray
    rows: np.ndarray
    enough: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        return self.cells / np.maximum(self.units, 1e-12)[..., None]


def recent_of(counts: np.ndarray, least: float, rules: Monitoring) -> Recent:
    """
    Args:
        least: units that are enough, as `Windows.least` has them.
    """
    cells = recent(counts, counts.sum(axis=-1), least)
    units = cells.sum(axis=-1)
    enough = units >= least - min(0.5, least / 400.0)  # units are rounded
    return Recent(cells, units, units * (rules.least_rows / least), enough)


@dataclass(frozen=True)
class Subject:
    """One thing that is watched, over all windows; arrays of shape (windows,).

    check, name: as in `Check`. watched: its evidence. value: the size of the effect in the recent rows. limit: the size from which
    it counts. recent: the rows that it is of.
    """

    check: str
    name: str
    watched: EProcess
    value: np.ndarray
    limit: float
    recent: Recent

    @property
    def alarm(self) -> np.ndarray:
        """Whether there is evidence, and an effect in the recent rows."""
        return self.watched.crossed & (self.value >= self.limit) & self.recent.enough

    @property
    def now(self) -> bool:
        return bool(self.alarm[-1])

    @property
    def evidence(self) -> float:
        """The largest so far, as a power of ten."""
        return float(self.watched.evidence.max() / np.log(10))
