"""The families of candidates: which estimator each is, and what parameters it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

from vroom_assets.spec import SUMS_OF_TERMS, TWEEDIE_POWER, Candidate, Family, Monotone
from vroom_assets.training.coding import Coding, Number
from vroom_assets.training.lightgbm_model import OBJECTIVES, LightGBM
from vroom_assets.training.models import CandidateError, PolynomialModel, powers_of

DIRECTIONS = {None: 0, Monotone.INCREASING: 1, Monotone.DECREASING: -1}


class _Blueprint(NamedTuple):
    """How a family makes its estimator: `fixed` is what the graph and equal results rely on."""

    estimator: type
    fixed: dict[str, Any]
    defaults: dict[str, Any]


def _blueprint(candidate: Candidate, seed: int, coding: Coding) -> _Blueprint:
    histogram = {
        "random_state": seed,
        "categorical_features": coding.levels or None,
        "monotonic_cst": _directions(candidate),
    }
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

            return _Blueprint(HistGradientBoostingClassifier, histogram, {"early_stopping": False})
        case Family.BOOSTING:
            from sklearn.ensemble import HistGradientBoostingRegressor

            return _Blueprint(HistGradientBoostingRegressor, histogram, {"early_stopping": False})
        case Family.POISSON_BOOSTING:
            from sklearn.ensemble import HistGradientBoostingRegressor

            return _Blueprint(
                HistGradientBoostingRegressor, {"loss": "poisson"} | histogram, {"early_stopping": False}
            )
        case Family.POISSON_GLM:
            from sklearn.linear_model import PoissonRegressor

            # Newton's method takes a handful of steps where the default solver takes hundreds
            return _Blueprint(PoissonRegressor, {}, {"max_iter": 1000, "solver": "newton-cholesky"})
        case Family.GAMMA_GLM:
            from sklearn.linear_model import GammaRegressor

            return _Blueprint(GammaRegressor, {}, {"max_iter": 1000, "solver": "newton-cholesky"})
        case Family.TWEEDIE_GLM:
            from sklearn.linear_model import TweedieRegressor

            defaults = {"power": TWEEDIE_POWER, "max_iter": 1000, "solver": "newton-cholesky"}
            return _Blueprint(TweedieRegressor, {"link": "log"}, defaults)
        case Family.POISSON_EBM:
            from interpret.glassbox import ExplainableBoostingRegressor

            fixed = {
                "objective": "poisson_deviance",
                "random_state": seed,
                "n_jobs": 1,
                "feature_types": ["continuous"] * len(coding.names(candidate.features)),
            }
            return _Blueprint(ExplainableBoostingRegressor, fixed, {})
    raise TypeError(f"{candidate.family} has no estimator")


def _directions(candidate: Candidate) -> list[int] | None:
    """By feature, which way the prediction may go; None where it may everywhere."""
    if not candidate.monotone:
        return None
    return [DIRECTIONS[candidate.monotone.get(name)] for name in candidate.features]


def _lightgbm(name: str, candidate: Candidate, seed: int, coding: Coding) -> LightGBM:
    return LightGBM(name, candidate.family, candidate.values, seed, coding.levels, _directions(candidate))


def estimator_of(name: str, candidate: Candidate, seed: int, coding: Coding) -> Any:
    """The estimator of a candidate, not fitted yet, for features that are coded so.

    Raises:
        CandidateError: a parameter does not exist, or is set by the family; or a term is not a product of features.
    """
    if candidate.family in OBJECTIVES:
        return _lightgbm(name, candidate, seed, coding)
    estimator, fixed, defaults = _blueprint(candidate, seed, coding)
    allowed = sorted(set(estimator().get_params()) - set(fixed))
    for parameter in candidate.values:
        if parameter not in allowed:
            why = "is set by its family" if parameter in fixed else "does not exist"
            raise CandidateError(
                f"candidate {name}: parameter {parameter!r} {why}; "
                f"{estimator.__name__} takes {', '.join(allowed)}"
            )
    parameters = defaults | candidate.values | fixed
    if candidate.family in SUMS_OF_TERMS:
        columns = coding.names(candidate.features)
        # Columns that coding adds are terms of their own, whatever terms are declared.
        added = [column for column in columns if column not in candidate.features]
        plain = [column for column in columns if column in candidate.features]
        powers = powers_of(name, candidate.terms or plain, added, columns)
        return PolynomialModel(estimator(**parameters), powers)
    return estimator(**parameters)


def check_parameters(name: str, candidate: Candidate) -> None:
    """Make the estimator without fitting it.

    Raises:
        CandidateError: a parameter does not exist, or its value is none that scikit-learn takes.
    """
    if candidate.family in (Family.AVERAGE, Family.FEATURE, Family.MEAN, Family.MEDIAN):
        return
    coding = Coding(tuple(Number(None) for _ in candidate.features))
    for one in candidate.variants:
        estimator = estimator_of(name, one, 0, coding)
        estimator = estimator.estimator if isinstance(estimator, PolynomialModel) else estimator
        if isinstance(estimator, LightGBM):
            estimator.check(len(candidate.features))
        if hasattr(estimator, "_parameter_constraints"):  # interpret's has none
            try:
                estimator._validate_params()
            except ValueError as error:
                raise CandidateError(f"candidate {name} ({candidate.family}): {error}") from error
