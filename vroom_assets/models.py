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

from vroom_assets.spec import FACTOR, Candidate, Curve, Family

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
            if self.family is Family.BINARY_BOOSTING:
                return np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64)


@dataclass(frozen=True)
class Passed:
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
class Shifted:
    """A candidate that forecasts what remains of the target beside one feature."""

    remainder: Fitted
    offset: str

    @property
    def features(self) -> list[str]:
        return list(dict.fromkeys([*self.remainder.features, self.offset]))

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return self.remainder.predict(frame) + frame[self.offset].to_numpy(dtype=np.float64)


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


NEAREST = 1e-6  # to 0 and 1 that a probability is taken to be, before its odds are


def log_odds(probability: np.ndarray) -> np.ndarray:
    inside = np.clip(probability, NEAREST, 1 - NEAREST)
    return np.log(inside / (1 - inside))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


class Monomials:
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
        standardized = (self.terms(matrix) - self.mean) / self.scale
        if hasattr(self.estimator, "predict_proba"):
            return self.estimator.predict_proba(standardized)[:, 1]
        return self.estimator.predict(standardized)


def powers_of(name: str, terms: list[str], features: list[str]) -> np.ndarray:
    """Exponents of the declared terms, shape (terms, features).

    Raises:
        CandidateError: a term that is not a product of features and whole powers of them.
    """
    table = np.zeros((len(terms), len(features)))
    for row, term in enumerate(terms):
        for factor in term.split("*"):
            match = re.fullmatch(FACTOR, factor)
            if not match or match[1] not in features:
                raise CandidateError(
                    f"candidate {name}: term {term!r} is no product of its features ({', '.join(features)}); "
                    "write `a`, `a * b` or `a ^ 2`, with powers up to 9"
                )
            table[row, features.index(match[1])] += int(match[2] or 1)
    return table


def fit_all(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    target: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, Fitted]:
    """Fit every candidate once; an average uses the members that are fitted beside it.

    Args:
        frame: features, float64. target: shape (rows,).
        groups: shape (rows,); no calibration is fitted on rows whose group the model has seen.

    Raises:
        CandidateError: a feature, term, member or parameter that does not exist or does not fit.
    """
    fitted: dict[str, Fitted] = {
        name: _fit(name, candidate, frame, target, seed, groups)
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


def _fit(
    name: str,
    candidate: Candidate,
    frame: pd.DataFrame,
    target: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
) -> Fitted:
    if candidate.calibration is not None:
        return _calibrated(name, candidate, frame, target, seed, groups)
    if candidate.offset is not None:
        if candidate.offset not in frame.columns:
            raise CandidateError(
                f"candidate {name}: offset {candidate.offset} is no feature; "
                f"the features are {', '.join(frame.columns)}"
            )
        rest = target - frame[candidate.offset].to_numpy(dtype=np.float64)
        plain = candidate.model_copy(update={"offset": None})
        return Shifted(_fit(name, plain, frame, rest, seed), candidate.offset)
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
    if candidate.family is Family.FEATURE:
        if len(candidate.features) != 1:
            raise CandidateError(f"candidate {name}: it passes on one feature, not {len(candidate.features)}")
        return Passed(candidate.features[0])
    matrix = frame[candidate.features].to_numpy(dtype=np.float64)
    estimator = _estimator(name, candidate, seed)
    try:
        with one_thread(candidate.family):
            return Estimator(candidate.family, candidate.features, estimator.fit(matrix, target))
    except (TypeError, ValueError) as error:
        raise CandidateError(
            f"candidate {name} ({candidate.family}) cannot be fitted on {len(frame)} rows: {error}"
        ) from error


def _calibrated(
    name: str,
    candidate: Candidate,
    frame: pd.DataFrame,
    target: np.ndarray,
    seed: int,
    groups: np.ndarray | None,
) -> Calibrated:
    """The model of all rows, and a curve through predictions that were made without their own rows."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, KFold

    plain = candidate.model_copy(update={"calibration": None})
    kind = KFold if groups is None else GroupKFold
    unseen = np.empty(len(target))
    for train, test in kind(CALIBRATION_FOLDS, shuffle=True, random_state=seed).split(frame, groups=groups):
        unseen[test] = _fit(name, plain, frame.iloc[train], target[train], seed).predict(frame.iloc[test])
    base = _fit(name, plain, frame, target, seed)
    if candidate.calibration is Curve.SIGMOID:
        line = LogisticRegression(C=np.inf).fit(log_odds(unseen)[:, None], target)
        return Calibrated(base, np.empty(0), np.array([line.intercept_[0], line.coef_[0, 0]]), logits=True)
    # Through the means of bins, not through single rows: where two neighbours differ it would jump.
    parts = np.array_split(np.argsort(unseen, kind="stable"), min(CALIBRATION_BINS, len(target)))
    # Bins whose means differ in the last digits alone are one point: between them there is no slope to tell.
    means = np.round([unseen[part].mean() for part in parts], CALIBRATION_DIGITS)
    x, places = np.unique(means, return_inverse=True)
    rows = np.bincount(places, [len(part) for part in parts])
    share = np.bincount(places, [target[part].sum() for part in parts]) / rows
    rising = IsotonicRegression().fit_transform(x, share, sample_weight=rows)
    return Calibrated(base, x, np.clip(rising, SUREST, 1 - SUREST), logits=False)


CALIBRATION_FOLDS = 5
CALIBRATION_BINS = 30
CALIBRATION_DIGITS = 9
SUREST = 0.005  # that an isotonic curve may be: its ends are few rows, and often all alike


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
        case Family.LINEAR:
            from sklearn.linear_model import Ridge

            return _Blueprint(Ridge, {}, {})
        case Family.LOGISTIC:
            from sklearn.linear_model import LogisticRegression

            return _Blueprint(LogisticRegression, {}, {"max_iter": 1000})
        case Family.BINARY_BOOSTING:
            from sklearn.ensemble import HistGradientBoostingClassifier

            return _Blueprint(
                HistGradientBoostingClassifier,
                {"random_state": seed, "categorical_features": None},
                {"early_stopping": False},
            )
        case Family.BOOSTING:
            from sklearn.ensemble import HistGradientBoostingRegressor

            return _Blueprint(
                HistGradientBoostingRegressor,
                {"random_state": seed, "categorical_features": None},
                {"early_stopping": False},
            )
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
    if candidate.family in (Family.POISSON_GLM, Family.LINEAR, Family.LOGISTIC):
        powers = powers_of(name, candidate.terms or candidate.features, candidate.features)
        return Monomials(estimator(**parameters), powers)
    return estimator(**parameters)


def check_parameters(name: str, candidate: Candidate) -> None:
    """Make the estimator without fitting it.

    Raises:
        CandidateError: a parameter does not exist, or its value is none that scikit-learn takes.
    """
    if candidate.family in (Family.AVERAGE, Family.FEATURE, Family.MEAN, Family.MEDIAN):
        return
    estimator = _estimator(name, candidate, seed=0)
    estimator = estimator.estimator if isinstance(estimator, Monomials) else estimator
    if hasattr(estimator, "_parameter_constraints"):  # interpret's has none
        try:
            estimator._validate_params()
        except ValueError as error:
            raise CandidateError(f"candidate {name} ({candidate.family}): {error}") from error


@contextmanager
def one_thread(family: Family) -> Iterator[None]:
    """Keep histogram boosting to the thread it is called from.

    On some thousand rows its OpenMP team costs ten times what it saves, above all while other folds run.
    """
    if family not in (Family.POISSON_BOOSTING, Family.BOOSTING, Family.BINARY_BOOSTING):
        yield
        return
    with _threadpools().limit(limits=1, user_api="openmp"):
        yield


@cache
def _threadpools() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
