"""The families of candidates: fit on float64 features, predict a float64 vector.

Every family gives the same numbers for the same rows and seed, whatever else runs beside it. Each has a
twin in `graph` that computes the same prediction in the served model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Family

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


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

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        matrix = frame[self.features].to_numpy(dtype=np.float64)
        with one_thread(self.family):
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64)


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


class Monomials:
    """A Poisson regression with log link on standardized products of powers of the features.

    A polynomial explodes outside the rows it was fitted on, and its exponential more so. A feature
    beyond the range of training therefore counts as the nearest value inside it, as in a tree.

    powers: shape (terms, features). low, high: the range of training, shape (features,).
    estimator: fitted on (terms - mean) / scale.
    """

    def __init__(self, powers: np.ndarray, **parameters: Any):
        from sklearn.linear_model import PoissonRegressor

        self.powers = powers
        self.estimator = PoissonRegressor(**parameters)

    def terms(self, matrix: np.ndarray) -> np.ndarray:
        """Terms of shape (rows, terms)."""
        inside = np.clip(matrix, self.low, self.high)
        return np.prod(inside[:, None, :] ** self.powers[None, :, :], axis=2)

    def fit(self, matrix: np.ndarray, target: np.ndarray) -> Monomials:
        self.low, self.high = matrix.min(axis=0), matrix.max(axis=0)
        terms = self.terms(matrix)
        self.mean = terms.mean(axis=0)
        spread = terms.std(axis=0)
        self.scale = np.where(spread > 0, spread, 1.0)
        self.estimator.fit((terms - self.mean) / self.scale, target)
        return self

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return self.estimator.predict((self.terms(matrix) - self.mean) / self.scale)


def powers_of(name: str, terms: list[str], features: list[str]) -> np.ndarray:
    """Exponents of the declared terms, shape (terms, features).

    Raises:
        CandidateError: a term that is not a product of features and whole powers of them.
    """
    table = np.zeros((len(terms), len(features)))
    for row, term in enumerate(terms):
        for factor in term.split("*"):
            match = re.fullmatch(r"\s*(\w+)\s*(?:\^\s*([1-9]))?\s*", factor)
            if not match or match[1] not in features:
                raise CandidateError(
                    f"candidate {name}: term {term!r} is no product of its features ({', '.join(features)}); "
                    "write `a`, `a * b` or `a ^ 2`, with powers up to 9"
                )
            table[row, features.index(match[1])] += int(match[2] or 1)
    return table


def fit_all(
    candidates: Mapping[str, Candidate], frame: pd.DataFrame, target: np.ndarray, seed: int
) -> dict[str, Fitted]:
    """Fit every candidate once; an average uses the members that are fitted beside it.

    Args:
        frame: features, float64. target: shape (rows,).

    Raises:
        CandidateError: a feature, term, member or parameter that does not exist or does not fit.
    """
    fitted: dict[str, Fitted] = {
        name: _fit(name, candidate, frame, target, seed)
        for name, candidate in candidates.items()
        if candidate.family is not Family.AVERAGE
    }
    return {
        name: _average(name, candidate, fitted) if candidate.family is Family.AVERAGE else fitted[name]
        for name, candidate in candidates.items()
    }


def _average(name: str, candidate: Candidate, fitted: Mapping[str, Fitted]) -> Average:
    missing = [member for member in candidate.members if member not in fitted]
    if missing or not candidate.members:
        raise CandidateError(
            f"candidate {name} averages {', '.join(missing) or 'nothing'}; `members` may hold "
            f"the candidates that are fitted beside it and are no averages: {', '.join(fitted)}"
        )
    return Average([fitted[member] for member in candidate.members])


def _fit(name: str, candidate: Candidate, frame: pd.DataFrame, target: np.ndarray, seed: int) -> Fitted:
    if candidate.family is Family.MEAN:
        return Constant(float(target.mean()), [])
    if candidate.family is Family.MEDIAN:
        return Constant(float(np.median(target)), [])
    unknown = [feature for feature in candidate.features if feature not in frame.columns]
    if unknown or not candidate.features:
        raise CandidateError(
            f"candidate {name}: {', '.join(unknown) or 'nothing'} is no feature; "
            f"the features are {', '.join(frame.columns)}"
        )
    matrix = frame[candidate.features].to_numpy(dtype=np.float64)
    estimator = _estimator(name, candidate, seed)
    try:
        with one_thread(candidate.family):
            return Estimator(candidate.family, candidate.features, estimator.fit(matrix, target))
    except (TypeError, ValueError) as error:
        raise CandidateError(
            f"candidate {name} ({candidate.family}) cannot be fitted on {len(frame)} rows: {error}"
        ) from error


class _Blueprint(NamedTuple):
    """How a family makes its estimator: `fixed` is what the graph and equal results rely on."""

    estimator: type
    fixed: dict[str, Any]
    defaults: dict[str, Any]


def _blueprint(candidate: Candidate, seed: int) -> _Blueprint:
    match candidate.family:
        case Family.FOREST:
            from sklearn.ensemble import RandomForestRegressor

            return _Blueprint(RandomForestRegressor, {"random_state": seed, "n_jobs": 1}, {})
        case Family.POISSON_BOOSTING:
            from sklearn.ensemble import HistGradientBoostingRegressor

            fixed = {"loss": "poisson", "random_state": seed, "categorical_features": None}
            return _Blueprint(HistGradientBoostingRegressor, fixed, {"early_stopping": False})
        case Family.POISSON_GLM:
            from sklearn.linear_model import PoissonRegressor

            # Newton's method takes a handful of steps where the default solver takes hundreds
            return _Blueprint(PoissonRegressor, {}, {"max_iter": 1000, "solver": "newton-cholesky"})
        case Family.POISSON_EBM:
            from interpret.glassbox import ExplainableBoostingRegressor

            fixed = {
                "objective": "poisson_deviance",
                "random_state": seed,
                "n_jobs": 1,
                "feature_types": ["continuous"] * len(candidate.features),
            }
            return _Blueprint(ExplainableBoostingRegressor, fixed, {})
    raise TypeError(f"{candidate.family} has no estimator")


def _estimator(name: str, candidate: Candidate, seed: int) -> Any:
    estimator, fixed, defaults = _blueprint(candidate, seed)
    allowed = sorted(set(estimator().get_params()) - set(fixed))
    for parameter in candidate.parameters:
        if parameter not in allowed:
            why = "is set by its family" if parameter in fixed else "does not exist"
            raise CandidateError(
                f"candidate {name}: parameter {parameter!r} {why}; "
                f"{estimator.__name__} takes {', '.join(allowed)}"
            )
    parameters = defaults | candidate.parameters | fixed
    if candidate.family is Family.POISSON_GLM:
        return Monomials(
            powers_of(name, candidate.terms or candidate.features, candidate.features), **parameters
        )
    return estimator(**parameters)


@contextmanager
def one_thread(family: Family) -> Iterator[None]:
    """Keep histogram boosting to the thread it is called from.

    On some thousand rows its OpenMP team costs ten times what it saves, above all while other folds run.
    """
    if family is not Family.POISSON_BOOSTING:
        yield
        return
    with _threadpools().limit(limits=1, user_api="openmp"):
        yield


@cache
def _threadpools() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
