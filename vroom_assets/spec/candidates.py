"""Candidates: the families of models, what each may be asked of, and the recipe of one."""

import itertools
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PrivateAttr

from vroom_api.contract import Kind
from vroom_assets.spec.base import Declared
from vroom_assets.spec.tables import Column


class Family(StrEnum):
    FOREST = "forest"
    BOOSTING = "boosting"
    LINEAR = "linear"
    LOGISTIC = "logistic"
    BINARY_BOOSTING = "binary_boosting"
    POISSON_BOOSTING = "poisson_boosting"
    POISSON_GLM = "poisson_glm"
    POISSON_EBM = "poisson_ebm"
    GAMMA_GLM = "gamma_glm"
    TWEEDIE_GLM = "tweedie_glm"
    LIGHTGBM = "lightgbm"
    POISSON_LIGHTGBM = "poisson_lightgbm"
    BINARY_LIGHTGBM = "binary_lightgbm"
    AVERAGE = "average"
    FEATURE = "feature"
    MEAN = "mean"
    MEDIAN = "median"

    @property
    def rank(self) -> int:
        """How much there is to understand: 0 for a plain rule, 1 for a sum of terms, 2 for trees, 3 for more than that."""
        return next(rank for rank, families in enumerate(SIMPLEST_FIRST) if self in families)


SUMS_OF_TERMS = (
    *(Family.LINEAR, Family.LOGISTIC),
    *(Family.POISSON_GLM, Family.GAMMA_GLM, Family.TWEEDIE_GLM),
)
SIMPLEST_FIRST = (
    {Family.MEAN, Family.MEDIAN, Family.FEATURE},
    set(SUMS_OF_TERMS),
    {
        *(Family.FOREST, Family.BOOSTING, Family.BINARY_BOOSTING, Family.POISSON_BOOSTING),
        *(Family.LIGHTGBM, Family.BINARY_LIGHTGBM, Family.POISSON_LIGHTGBM),
    },
    {Family.POISSON_EBM, Family.AVERAGE},
)

# Families that make sense for every kind of target, and those of one.
ANY_KIND = {Family.FOREST, Family.AVERAGE, Family.FEATURE, Family.MEAN, Family.MEDIAN}
FAMILIES = {
    Kind.COUNT: ANY_KIND
    | {Family.POISSON_BOOSTING, Family.POISSON_GLM, Family.POISSON_EBM, Family.POISSON_LIGHTGBM},
    Kind.REGRESSION: ANY_KIND
    | {Family.BOOSTING, Family.LINEAR, Family.GAMMA_GLM, Family.TWEEDIE_GLM, Family.LIGHTGBM},
    Kind.BINARY: (ANY_KIND - {Family.MEDIAN})
    | {Family.LOGISTIC, Family.BINARY_BOOSTING, Family.BINARY_LIGHTGBM},
}


class Curve(StrEnum):
    ISOTONIC = "isotonic"
    SIGMOID = "sigmoid"


class Transform(StrEnum):
    LOG = "log"


TRANSFORMED = (
    Family.FOREST,
    Family.BOOSTING,
    Family.LINEAR,
    Family.LIGHTGBM,
)  # families that may be fitted on another scale
TWEEDIE_POWER = 1.5  # where none is declared: amounts of which some are 0


class Takes(StrEnum):
    """The targets that a model can be fitted on."""

    NOT_NEGATIVE = "0 or above"
    POSITIVE = "above 0"

    def holds(self, least: float) -> bool:
        """Whether all targets are such, by the least of them."""
        return least > 0 if self is Takes.POSITIVE else least >= 0

    def is_declared(self, column: Column) -> bool:
        """Whether the range of a column says so."""
        above, minimum = column.above, column.minimum
        return (above is not None and above >= 0) or (minimum is not None and self.holds(minimum))


class Demand(NamedTuple):
    """What a candidate asks of the target, and what of it asks so."""

    takes: Takes
    field: str
    words: str


MOST_VARIANTS = 12  # of a candidate, each of which is fitted on every inner fold
# Parameters whose values are lists, so that a list is one value.
TAKE_LISTS = (
    "exclude",
    "feature_names",
    "interaction_constraints",
    "interaction_cst",
    "interactions",
    "monotonic_cst",
    "monotone_constraints",
)

MOST_BINS = 255  # of a feature

FACTOR = r"\s*(\w+)\s*(?:\^\s*([1-9]))?\s*"  # of a candidate's term: a feature and its power


class Monotone(StrEnum):
    INCREASING = "increasing"
    DECREASING = "decreasing"


class Candidate(Declared):
    """A model recipe in the search."""

    added = frozenset({"monotone", "transform", "trend", "bins", "ranks"})

    family: Family
    features: list[str] = Field(
        [],
        description="the features it sees; of `feature` the one that it passes on. Default where it has terms, bins or ranks: those in them",
    )
    terms: list[str] = Field(
        [], description="linear, logistic and the GLMs: products of features, as `a * b` or `a ^ 2`"
    )
    members: list[str] = Field([], description="average: the candidates it averages")
    parameters: dict[str, Any] = Field(
        {},
        description="passed to the estimator; of a list of values, as `max_leaf_nodes: [7, 15, 31]`, the one that does best "
        "on inner folds",
    )
    offset: str | None = Field(
        None, description="a feature that is added to the prediction; the model forecasts what remains"
    )
    calibration: Curve | None = Field(
        None, description="binary: a curve over the probability, fitted on rows that the model has not seen"
    )
    monotone: dict[str, Monotone] = Field(
        {}, description="boosting and LightGBM: features in which the prediction may only rise, or only fall"
    )
    transform: Transform | None = Field(
        None,
        description="regression: fit on the logarithm of the target, and forecast the mean in the target's unit",
    )
    trend: str | None = Field(
        None,
        description="a feature that counts time, by a straight line of which the prediction is multiplied; the model "
        "forecasts what remains",
    )
    bins: dict[str, Annotated[int, Field(ge=2, le=MOST_BINS)]] = Field(
        {},
        description="linear, logistic and the GLMs: features that enter as bins of about equally many training rows, and how "
        "many, as `{price: 8}`",
    )
    ranks: list[str] = Field(
        [],
        description="linear, logistic and the GLMs: features that enter as their rank among the training rows, 0 to 1",
    )
    _categories: Mapping[str, int] = PrivateAttr(default_factory=dict)
    _optional: frozenset[str] = PrivateAttr(frozenset())
    _chosen: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def several(self) -> dict[str, list[Any]]:
        """The parameters of which several values are declared, and these."""
        if self.family in (Family.AVERAGE, Family.FEATURE, Family.MEAN, Family.MEDIAN):
            return {}
        return {
            name: value
            for name, value in self.parameters.items()
            if isinstance(value, list) and name not in TAKE_LISTS
        }

    @property
    def values(self) -> dict[str, Any]:
        """The parameters; of those of several values the chosen one."""
        return self.parameters | dict(self._chosen)

    @property
    def variants(self) -> list[Self]:
        """It with every combination of its parameters' values; itself where there is one, or one was chosen."""
        if self._chosen or not self.several:
            return [self]
        combinations = itertools.product(*self.several.values())
        return [self.with_values(dict(zip(self.several, one, strict=True))) for one in combinations]

    @property
    def chosen(self) -> dict[str, Any]:
        """The values that were chosen, of the parameters that have several."""
        return dict(self._chosen)

    @property
    def chosen_words(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._chosen.items())

    def with_values(self, chosen: Mapping[str, Any]) -> Self:
        """The candidate with one of the values of each parameter that has several; it means the same as declared."""
        candidate = self.model_copy()
        candidate._chosen = dict(chosen)
        return candidate

    @property
    def demand(self) -> Demand | None:
        """What it asks of the target, with any of its values; None where any number will do."""
        found = [demand for one in self.variants if (demand := one._demand()) is not None]
        return min(found, key=lambda demand: demand.takes is not Takes.POSITIVE, default=None)

    def _demand(self) -> Demand | None:
        if self.family in (
            *(Family.POISSON_BOOSTING, Family.POISSON_GLM, Family.POISSON_EBM),
            Family.POISSON_LIGHTGBM,
        ):
            return Demand(Takes.NOT_NEGATIVE, "family", self.family)
        if self.transform is not None:
            return Demand(Takes.POSITIVE, "transform", f"transform {self.transform}")
        if self.family is Family.GAMMA_GLM:
            return Demand(Takes.POSITIVE, "family", self.family)
        if self.family is Family.TWEEDIE_GLM:
            takes = Takes.POSITIVE if self.power >= 2 else Takes.NOT_NEGATIVE
            return (
                Demand(takes, "parameters", f"{self.family} of power {self.power:g}") if self.power else None
            )
        match self.values.get(self.loss_parameter):
            case "gamma":
                return Demand(Takes.POSITIVE, "parameters", f"{self.loss_parameter} gamma")
            case "poisson" | "tweedie" as loss:
                return Demand(Takes.NOT_NEGATIVE, "parameters", f"{self.loss_parameter} {loss}")
        return Demand(Takes.NOT_NEGATIVE, "trend", "a trend") if self.trend is not None else None

    @property
    def power(self) -> float:
        """Of a Tweedie distribution: how the variance grows with the mean; NaN where it is not a number."""
        power = self.values.get("power", TWEEDIE_POWER)
        return float(power) if isinstance(power, int | float) else math.nan

    @property
    def loss_parameter(self) -> str:
        """The parameter that names the loss, where the estimator has a choice."""
        named = {Family.BOOSTING: "loss", Family.FOREST: "criterion", Family.LIGHTGBM: "objective"}
        return named.get(self.family, "")

    @property
    def categories(self) -> Mapping[str, int]:
        """The features that are categories, with how many levels they have in the data."""
        return self._categories

    @property
    def optional(self) -> frozenset[str]:
        """The features that may be missing."""
        return self._optional

    def on_features(self, categories: Mapping[str, int], optional: frozenset[str]) -> Self:
        """The candidate on features of which some are categories and some may be missing."""
        candidate = self.model_copy()
        candidate._categories, candidate._optional = categories, optional
        return candidate
