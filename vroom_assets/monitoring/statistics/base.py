"""What a statistic of drift is: one number of the rows of training and of live rows, and a p-value if it is a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """Units of a feature by cell, shape (..., cells): bins, missing, unseen."""

    units: np.ndarray

    @property
    def bins(self) -> np.ndarray:
        return self.units[..., :-2]

    @property
    def rows(self) -> np.ndarray:
        return self.units.sum(axis=-1)

    @property
    def shares(self) -> np.ndarray:
        return self.units / np.maximum(self.rows, 1e-12)[..., None]


@dataclass(frozen=True)
class Feature:
    """What kind of feature it is."""

    ordered: bool
    has_levels: bool


@dataclass(frozen=True)
class Found:
    """value: of the statistic. p_value: the probability of at least as much without drift; None if it is not a test."""

    value: float
    p_value: float | None = None


@dataclass(frozen=True)
class Statistic:
    """name: in checks and reports. applies: to which features. compare: training with live rows."""

    name: str
    applies: Callable[[Feature], bool]
    compare: Callable[[Sample, Sample], Found]
