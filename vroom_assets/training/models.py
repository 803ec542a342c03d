"""The families of candidates: fit on float64 features, predict a float64 vector.

Every family gives the same numbers for the same rows and seed, whatever else runs beside it. Each has a
twin in `challenger.onnx_graph` that computes the same prediction in the served model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from vroom_assets import settings
from vroom_assets.spec import FACTOR, Family
from vroom_assets.training.coding import Coding
from vroom_assets.training.metrics import PROBABILITY_EPSILON
from vroom_assets.training.workers import processes

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


LOG_LINEAR = (Family.POISSON_GLM, Family.GAMMA_GLM, Family.TWEEDIE_GLM)  # e^(a sum of terms)


class CandidateError(Exception):
    """A candidate that cannot be fitted as it is declared."""


class Fitted(Protocol):
    """A fitted candidate. `features` are the columns it reads, in the order it reads them."""

    @property
    def features(self) -> list[str]: ...

    def predict(self, frame: pd.DataFrame) -> np.ndarray: ...


@dataclass(frozen=True)
class Estimator:
    """A single fitted estimator over some columns."""

    family: Family
    features: list[str]
    estimator: Any
    coding: Coding

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        matrix = self.coding.encode(frame[self.features].to_numpy(dtype=np.float64))
        with threads(self.family):
            if self.family is Family.BINARY_BOOSTING:
                return np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64)


@dataclass(frozen=True)
class PassThrough:
    """A feature as it is, for a forecast."""

    feature: str

    @property
    def features(self) -> list[str]:
        return [self.feature]

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return frame[self.feature].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Constant:
    """A naive baseline: one number for everybody."""

    value: float
    features: list[str]

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.full(len(frame), self.value)


@dataclass(frozen=True)
class Average:
    """The mean of its members' predictions."""

    members: list[Fitted]

    @property
    def features(self) -> list[str]:
        return list(dict.fromkeys(name for member in self.members for name in member.features))

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.mean([member.predict(frame) for member in self.members], axis=0)


@dataclass(frozen=True)
class WithOffset:
    """A candidate that forecasts what remains of the target beside one feature."""

    remainder: Fitted
    offset: str

    @property
    def features(self) -> list[str]:
        return list(dict.fromkeys([*self.remainder.features, self.offset]))

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return self.remainder.predict(frame) + frame[self.offset].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class FromLogarithm:
    """A candidate that forecasts the logarithm of the target, in the target's unit again.

    factor: what makes the mean of the predictions that of the target; e^logarithm alone is nearer the median.
    """

    base: Fitted
    factor: float

    @property
    def features(self) -> list[str]:
        return self.base.features

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.exp(self.base.predict(frame)) * self.factor


TREND_REACH = 0.25  # of the time seen in training, as far as a line goes on beyond it
LEAST_LEVEL = 0.1  # that a line may fall to; 1 is the mean of training


@dataclass(frozen=True)
class Line:
    """A level that rises or falls with time: intercept + slope · time, level before `low` and after `high`."""

    intercept: float
    slope: float
    low: float
    high: float

    @classmethod
    def through(cls, time: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> Line:
        """The line by which predictions have to be multiplied to fit the target; shape (rows,) each.

        By least squares, where the variance of a row is its prediction; 1 on average. Level where there is one time.
        """
        low, high = reach(time)
        spread, size = float(time.std()), float(target.mean())
        if spread == 0 or size <= 0:
            return cls(1.0, 0.0, low, high)
        since = (time - time.mean()) / spread
        weight = np.maximum(predicted, 1e-6 * size)
        moments = np.array([[weight.sum(), weight @ since], [weight @ since, weight @ since**2]])
        level, rise = np.linalg.solve(moments, [target.sum(), target @ since])
        slope = float(rise / level / spread)
        return cls(1.0 - slope * float(time.mean()), slope, low, high)

    def at(self, time: np.ndarray) -> np.ndarray:
        """The level at some times; shape (rows,)."""
        inside = np.clip(time, self.low, self.high)
        return np.maximum(self.intercept + self.slope * inside, LEAST_LEVEL)


def reach(time: np.ndarray) -> tuple[float, float]:
    """From when to when a line of these times is used."""
    low, high = float(np.nanmin(time)), float(np.nanmax(time))
    return low, high + TREND_REACH * (high - low)


@dataclass(frozen=True)
class WithTrend:
    """A candidate that forecasts the target as if it had always been on the level of its mean, times a line of time."""

    base: Fitted
    trend: str
    line: Line

    @property
    def features(self) -> list[str]:
        return list(dict.fromkeys([*self.base.features, self.trend]))

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return self.base.predict(frame) * self.line.at(frame[self.trend].to_numpy(dtype=np.float64))


@dataclass(frozen=True)
class Calibrated:
    """A probability, put right by a curve through points; beyond the outer ones it is level.

    x, y: shape (points,), x ascending without repeats. logits: whether the curve is a line of log odds,
    sigmoid(y[0] + y[1] · logit(p)), instead.
    """

    base: Fitted
    x: np.ndarray
    y: np.ndarray
    logits: bool

    @property
    def features(self) -> list[str]:
        return self.base.features

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        probability = self.base.predict(frame)
        if self.logits:
            return sigmoid(self.y[0] + self.y[1] * log_odds(probability))
        return np.interp(probability, self.x, self.y)


def log_odds(probability: np.ndarray) -> np.ndarray:
    inside = np.clip(probability, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    return np.log(inside / (1 - inside))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


class PolynomialModel:
    """A regression on standardized products of powers of the features.

    A polynomial explodes outside the rows it was fitted on, and its exponential more so. A feature
    beyond the range of training therefore counts as the nearest value inside it, as in a tree.

    powers: shape (terms, features). low, high: the range of training, shape (features,).
    estimator: fitted on (terms - mean) / scale.
    """

    def __init__(self, estimator: Any, powers: np.ndarray):
        self.estimator = estimator
        self.powers = powers

    def terms(self, matrix: np.ndarray) -> np.ndarray:
        """Terms of shape (rows, terms)."""
        inside = np.clip(matrix, self.low, self.high)
        # Term by term: of many columns each term reads one or two.
        terms = np.ones((len(matrix), len(self.powers)))
        for number, powers in enumerate(self.powers):
            for column in np.flatnonzero(powers):
                terms[:, number] *= inside[:, column] ** powers[column]
        return terms

    def fit(self, matrix: np.ndarray, target: np.ndarray) -> PolynomialModel:
        self.low, self.high = matrix.min(axis=0), matrix.max(axis=0)
        terms = self.terms(matrix)
        self.mean = terms.mean(axis=0)
        spread = terms.std(axis=0)
        self.scale = np.where(spread > 0, spread, 1.0)
        self.estimator.fit((terms - self.mean) / self.scale, target)
        return self

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        standardized = (self.terms(matrix) - self.mean) / self.scale
        if hasattr(self.estimator, "predict_proba"):
            return self.estimator.predict_proba(standardized)[:, 1]
        return self.estimator.predict(standardized)


def powers_of(name: str, terms: list[str], alone: list[str], columns: list[str]) -> np.ndarray:
    """Exponents of the declared terms, and of some columns as they are; shape (terms + alone, columns).

    Raises:
        CandidateError: a term that is not a product of features and whole powers of them.
    """
    table = np.zeros((len(terms) + len(alone), len(columns)))
    for row, term in enumerate(terms):
        for factor in term.split("*"):
            match = re.fullmatch(FACTOR, factor)
            if not match or match[1] not in columns:
                raise CandidateError(
                    f"candidate {name}: term {term!r} is not a product of those of its features that are numbers "
                    f"({', '.join(columns)}); write `a`, `a * b` or `a ^ 2`, with powers up to 9"
                )
            table[row, columns.index(match[1])] += int(match[2] or 1)
    for row, column in enumerate(alone, len(terms)):
        table[row, columns.index(column)] = 1
    return table


ISOTONIC_FLOOR = 0.005  # that an isotonic curve may be: its ends are few rows, and often all alike


MANY_ROWS = 50_000  # from which on several cores are quicker than one


_one_core: ContextVar[bool] = ContextVar("one_core", default=False)


@contextmanager
def one_core() -> Iterator[None]:
    """Fits of any number of rows have one core, because the others make other fits."""
    token = _one_core.set(True)
    try:
        yield
    finally:
        _one_core.reset(token)


def cores_for(rows: int) -> int:
    """How many cores a fit of so many rows uses."""
    return settings.training_cores() if rows >= MANY_ROWS and not _one_core.get() else 1


@contextmanager
def threads(family: Family, count: int = 1) -> Iterator[None]:
    """Keep histogram boosting to so many threads.

    On some thousand rows its OpenMP team costs ten times what it saves, above all while other folds run.
    """
    if family not in (Family.POISSON_BOOSTING, Family.BOOSTING, Family.BINARY_BOOSTING):
        yield
        return
    with _threadpools().limit(limits=count, user_api="openmp"):
        yield


def fitted_on_cores(family: Family, estimator: Any, matrix: np.ndarray, target: np.ndarray) -> Any:
    """The estimator, fitted on as many cores as suit the rows; the result is that of one core.

    What is fitted has one core again: a forest on several adds up its trees in the order in which they are ready.
    """
    cores = cores_for(len(target))
    takes_jobs = cores > 1 and "n_jobs" in getattr(estimator, "get_params", dict)()
    if takes_jobs:
        estimator.set_params(n_jobs=cores)
    with threads(family, cores), _spread(family, cores):
        fitted = estimator.fit(matrix, target)
    if takes_jobs:
        fitted.set_params(n_jobs=1)
    return fitted


def _spread(family: Family, cores: int) -> AbstractContextManager[None]:
    """Where a fit goes to several processes, these end with the run. A forest has threads, which need nothing."""
    return processes() if cores > 1 and family is Family.POISSON_EBM else nullcontext()


@cache
def _threadpools() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
