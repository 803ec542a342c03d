"""The families of candidates: fit on float64 features, predict a float64 vector."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Family


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
        return np.asarray(self.estimator.predict(frame[self.features].to_numpy()), dtype=np.float64)


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

    powers: shape (terms, features). estimator: fitted on (terms - mean) / scale.
    """

    def __init__(self, powers: np.ndarray, parameters: dict[str, Any]):
        from sklearn.linear_model import PoissonRegressor

        self.powers = powers
        self.estimator = PoissonRegressor(**{"max_iter": 1000, "solver": "newton-cholesky"} | parameters)

    def terms(self, matrix: np.ndarray) -> np.ndarray:
        """Terms of shape (rows, terms)."""
        return np.prod(matrix[:, None, :] ** self.powers[None, :, :], axis=2)

    def fit(self, matrix: np.ndarray, target: np.ndarray) -> Monomials:
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
            match = re.fullmatch(r"\s*(\w+)\s*(?:\^\s*(\d+))?\s*", factor)
            if not match or match[1] not in features:
                raise CandidateError(
                    f"candidate {name}: term {term!r} is no product of its features ({', '.join(features)}); "
                    "write `a`, `a * b` or `a ^ 2`"
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
        CandidateError: a feature, term or parameter that does not exist.
    """
    single = {name: c for name, c in candidates.items() if c.family is not Family.AVERAGE}
    fitted: dict[str, Fitted] = {name: _fit(name, c, frame, target, seed) for name, c in single.items()}
    for name, candidate in candidates.items():
        if candidate.family is Family.AVERAGE:
            fitted[name] = Average([fitted[member] for member in candidate.members])
    return {name: fitted[name] for name in candidates}


def _fit(name: str, candidate: Candidate, frame: pd.DataFrame, target: np.ndarray, seed: int) -> Fitted:
    unknown = [feature for feature in candidate.features if feature not in frame.columns]
    if unknown:
        raise CandidateError(
            f"candidate {name}: {', '.join(unknown)} is no feature; the features are {', '.join(frame.columns)}"
        )
    if candidate.family is Family.MEAN:
        return Constant(float(target.mean()), [])
    if candidate.family is Family.MEDIAN:
        return Constant(float(np.median(target)), [])
    try:
        estimator = _estimator(name, candidate, seed)
    except TypeError as error:
        raise CandidateError(f"candidate {name}: {error}") from error
    return Estimator(
        candidate.family, candidate.features, estimator.fit(frame[candidate.features].to_numpy(), target)
    )


def _estimator(name: str, candidate: Candidate, seed: int) -> Any:
    parameters = candidate.parameters
    match candidate.family:
        case Family.FOREST:
            from sklearn.ensemble import RandomForestRegressor

            return RandomForestRegressor(**{"random_state": seed, "n_jobs": 1} | parameters)
        case Family.POISSON_BOOSTING:
            from sklearn.ensemble import HistGradientBoostingRegressor

            fixed = {"loss": "poisson", "random_state": seed, "early_stopping": False}
            return HistGradientBoostingRegressor(**fixed | parameters)
        case Family.POISSON_GLM:
            return Monomials(
                powers_of(name, candidate.terms or candidate.features, candidate.features), parameters
            )
        case Family.POISSON_EBM:
            from interpret.glassbox import ExplainableBoostingRegressor

            fixed = {"objective": "poisson_deviance", "random_state": seed, "n_jobs": 1}
            return ExplainableBoostingRegressor(**fixed | parameters)
    raise CandidateError(f"candidate {name}: family {candidate.family} is not fitted by itself")
