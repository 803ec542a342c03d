"""ForecastSpec: the typed declaration of a forecast.

A forecast is a folder under ``defs/`` that holds ``defs.yaml`` (these fields), ``features.sql`` and
``target.sql``. Everything the machinery knows about a problem, it knows from here; a declaration that
contradicts itself is refused before anything runs, with the field and the remedy.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import dagster as dg
import sqlglot
from pydantic import (
    ConfigDict,
    Field,
    NaiveDatetime,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from vroom_api.contract import Kind
from vroom_assets.features.expressions import Feature, parse

NAME = r"^[a-z][a-z0-9_]*$"


class Declared(dg.Model, dg.Resolvable):
    """Base of all parts of a declaration: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Fields that came later. At their defaults nothing says that they exist, so that fingerprints stay as they were.
    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in self.added}
        return {
            name: value
            for name, value in serialize(self).items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, some of its fields changed; what was derived from fields is derived anew."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[derived]
        return copied


class ColumnType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    CATEGORY = "category"  # a text whose values are learnt from the data
    TIMESTAMP = "timestamp"
    DATE = "date"  # a day, as its first moment
    FLAG = "flag"  # yes or no in any of its spellings, as 1 or 0
    PERCENT = "percent"  # 90 for `90%`
    CURRENCY = "currency"  # 1234.5 for `$1,234.50`
    DURATION = "duration"  # seconds, 84.5 for `1:24.500`
    ROW = "row"  # the number of the row in its file, for files in which no column tells rows apart

    @property
    def stored(self) -> "ColumnType":
        """The type of its values in tables, and everywhere behind them."""
        return STORED.get(self, self)


STORED = {
    ColumnType.CATEGORY: ColumnType.TEXT,
    ColumnType.DATE: ColumnType.TIMESTAMP,
    ColumnType.FLAG: ColumnType.INTEGER,
    ColumnType.PERCENT: ColumnType.NUMBER,
    ColumnType.CURRENCY: ColumnType.NUMBER,
    ColumnType.DURATION: ColumnType.NUMBER,
    ColumnType.ROW: ColumnType.INTEGER,
}

OTHER = "other"  # the level of a category for what is rare


class Unseen(StrEnum):
    """What becomes of a request with a category that training did not see."""

    ANSWER = "answer"
    REFUSE = "refuse"


class Column(Declared):
    """One column of a source: what a cell may hold. Bounds are inclusive unless they say `above`."""

    added = frozenset({"like", "earliest", "latest", "least_rows", "unseen", "header", "joins"})

    type: ColumnType
    like: str | None = Field(
        None,
        description="<source>.<column> that it is like: what is not given here is as there, but for `unique` and what is of "
        "the file",
    )
    description: str = ""
    unit: str | None = None
    minimum: float | None = None
    above: float | None = Field(None, description="exclusive lower bound")
    maximum: float | None = None
    earliest: NaiveDatetime | None = Field(None, description="of a timestamp: no cell may lie before")
    latest: NaiveDatetime | None = Field(None, description="of a timestamp: no cell may lie after")
    unique: bool = False
    nullable: bool = Field(False, description="whether a cell may be empty, and an input left out")
    values: list[str] = Field([], description="allowed values of a text column; required for an input")
    references: str | None = Field(None, description="<source>.<column> whose values this column may hold")
    least_rows: int = Field(
        10, ge=1, description=f"of a category: values in fewer rows count as one, `{OTHER}`"
    )
    unseen: Unseen = Field(
        Unseen.ANSWER,
        description=f"of a category: answer a request with a value that training did not see, as `{OTHER}` and flagged, "
        "or refuse it",
    )
    header: str | None = Field(None, description="its name in the file, where that is another one")
    joins: list[str] = Field(
        [],
        description="of a date or timestamp that stands in several columns of the file: their names there, in the order "
        "year, month (a number or an English name), day, hour, minute",
    )
    _learnt: tuple[str, ...] = PrivateAttr(())

    @property
    def is_category(self) -> bool:
        return self.type is ColumnType.CATEGORY

    @property
    def is_time(self) -> bool:
        return self.type.stored is ColumnType.TIMESTAMP

    @property
    def levels(self) -> list[str]:
        """The values of a text in their order: as declared, or as learnt from the data, `other` last."""
        return self.values or list(self._learnt)

    def with_levels(self, learnt: Sequence[str]) -> Self:
        """The column of a category with the levels that the data have."""
        column = self.model_copy()
        column._learnt = tuple(learnt)
        return column

    @property
    def lowest(self) -> float | None:
        """The least value, where it is known by the type or declared as a `minimum`."""
        return 0.0 if self.type is ColumnType.FLAG else self.minimum

    @property
    def highest(self) -> float | None:
        return 1.0 if self.type is ColumnType.FLAG else self.maximum

    @property
    def range(self) -> str:
        """The bounds as text, as error messages and the API's documentation give them."""
        low = f"≥ {self.lowest:g}" if self.lowest is not None else ""
        low = f"> {self.above:g}" if self.above is not None else low
        high = f"≤ {self.highest:g}" if self.highest is not None else ""
        return " and ".join(part for part in (low, high) if part) or ", ".join(self.values)

    @property
    def period(self) -> str:
        """The earliest and latest time in words."""
        begin = f"at or after {self.earliest}" if self.earliest is not None else ""
        end = f"at or before {self.latest}" if self.latest is not None else ""
        return " and ".join(filter(None, (begin, end)))

    @model_validator(mode="after")
    def _times_of_several_columns(self) -> Self:
        if not self.joins:
            return self
        least, most = (2, 3) if self.type is ColumnType.DATE else (4, 5)
        if self.type.stored is not ColumnType.TIMESTAMP:
            raise ValueError(
                f"joins: they make a time, and not a column of type {self.type}; declare `type: date`, or `timestamp`"
            )
        if not least <= len(self.joins) <= most:
            raise ValueError(
                f"joins: {len(self.joins)} columns make no {self.type}; name those of year, month and day for a date, of hour "
                "and minute too for a timestamp"
            )
        if self.header is not None:
            raise ValueError("header: the names in the file are those in `joins`; leave it out")
        return self

    @model_validator(mode="after")
    def _values_of_texts(self) -> Self:
        if self.values and self.type is not ColumnType.TEXT:
            raise ValueError(f"values: they are for texts; give a column of type {self.type} a range")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: one of them is given twice")
        return self


class Format(Declared):
    """How a file writes what its columns hold; as it stands here it is a CSV by RFC 4180 in UTF-8."""

    added = frozenset(
        {
            "delimiter",
            "quote",
            "escape",
            "encoding",
            "decimal",
            "thousands",
            "nulls",
            "dates",
            "zone",
            "skip",
            "header",
            "trim",
        }
    )

    delimiter: str = Field(",", min_length=1, max_length=1, description='between two cells; a tab is "\\t"')
    quote: str = Field('"', min_length=1, max_length=1, description="around a cell; inside it is doubled")
    escape: Literal["\\"] | None = Field(
        None,
        description="before a quote inside a cell that is not doubled, and before itself; MySQL writes so",
    )
    encoding: str = Field("utf-8", description="of the file, e.g. windows-1252, utf-16")
    decimal: Literal[".", ","] = Field(".", description="before the fraction of a number")
    thousands: Literal[".", ",", " ", "'"] | None = Field(None, description="between groups of three digits")
    nulls: list[str] = Field([], description="words that mean an empty cell, e.g. [NA, NULL, '-']")
    dates: list[str] = Field(
        [], description="how times are written, e.g. ['%d.%m.%Y', '%d.%m.%Y %H:%M']; else ISO 8601"
    )
    zone: str | None = Field(
        None, description="IANA time zone of times without an offset, e.g. Europe/Vienna; all become UTC"
    )
    skip: int = Field(0, ge=0, le=1000, description="lines before the header")
    header: list[str] = Field([], description="names of the columns of a file that has no header")
    trim: bool = Field(False, description="whether blanks around a text mean nothing, as around a number")

    @field_validator("dates", "nulls", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Source(Declared):
    """A raw CSV and the contract its rows must keep."""

    added = frozenset({"format"})

    path: str = Field(
        description="CSV or Parquet file, relative to the data folder; or a pattern (`laps/*.csv`) whose files are one source"
    )
    description: str
    columns: dict[str, Column]
    format: Format = Field(
        Format(), description="how the file is written, where that is not RFC 4180 and UTF-8"
    )
    event_time: str | None = Field(
        None, description="the column that says when a row happened; no example before it may know the row"
    )
    load_time: str | None = Field(
        None, description="the column that says when a row became known, where that is later"
    )
    tolerated_bad_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="bad rows up to this share are quarantined; above it the file is refused",
    )


class Period(StrEnum):
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


class AsOf(Declared):
    """The times at which examples stand: each time of a column, or the starts of periods.

    Periods that have too little history before them, or a target's window that is not closed, are left out.
    """

    events: str = Field(description="<source>.<column> that gives the times, or their first and last")
    every: Period | None = Field(None, description="start of each period; else the statement takes the times")
    history_days: float = Field(0, ge=0, description="least time between the first event and an example")
    horizon_days: float = Field(0, ge=0, description="time after an example that its target covers")


class Examples(Declared):
    """A table of examples, by `<name>.sql`: what was known of each entity at each time of `as_of`.

    The statement reads the sources and the table `as_of`, of one column of that name, and keeps it in its
    result. It is run again on the sources as they were at such a time, and must give the same rows.
    """

    description: str
    columns: dict[str, Column]
    as_of: AsOf


class Entity(Declared):
    """What a prediction is about: one row of `source`, known by `key`. A source, or a table of examples."""

    name: str
    source: str
    key: str
    id: str | None = Field(
        None,
        description="column of the id that callers use; the latest inputs are found by it. Default for a source: the key",
    )
    tags: list[str] = Field(
        [],
        max_length=8,
        description="text columns that errors are reported by, and predictions recorded with; no inputs",
    )


class Target(Declared):
    """What is forecast. `target.sql` yields one row per entity: its key and the target."""

    added = frozenset({"window_days", "as_of"})

    name: str = Field(pattern=NAME)
    kind: Kind
    unit: str
    horizon: str = Field(description="the period that the number covers, as text")
    window_days: float | None = Field(
        None,
        gt=0,
        description="length of that period: target.sql counts what lies after `opens` and up to `closes` of the "
        "table target_window, which ends with the data",
    )
    as_of: str | None = Field(
        None,
        description="<source>.<column> whose latest value dates the data; else they are as old as their newest file",
    )
    known_at: str | None = Field(
        None,
        description="column of target.sql that says when the target was known; ordered validation needs it",
    )


ONE_CLASS = "a forecast of several classes is that of one of them against the others, with `kind: binary`"  # of all refusals


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


class Fallback(Declared):
    """The candidate that answers when inputs are left out which most, but not all, have: a history, say."""

    candidate: str
    without: list[str] = Field(
        min_length=1, description="the inputs that may be left out; the candidate does not read them"
    )
    description: str = Field(description="the text that goes with such an answer")


class Choice(StrEnum):
    """Which candidate is chosen of those that the folds cannot tell apart."""

    LOWEST = "lowest"
    SIMPLEST = "simplest"


class Validation(Declared):
    """Repeated k-fold cross-validation; the inner folds choose a candidate inside each outer fold.

    With `order` it goes forward in time: each block of later rows is predicted by what was known before it.
    """

    added = frozenset({"choice", "precision", "budget_seconds"})

    folds: int = Field(
        5, ge=2, description="number of folds; each is predicted by models fitted on the others"
    )
    repeats: int = Field(2, ge=1, description="repetitions of the whole, with other folds")
    inner_folds: int = Field(
        4, ge=2, description="folds of the training rows, by which a candidate is chosen"
    )
    seed: int = Field(7, description="random seed of folds and models")
    choice: Choice = Field(
        Choice.LOWEST,
        description="which candidate is chosen: that of the lowest mean, or the simplest within one standard error of it",
    )
    precision: float = Field(
        0.001,
        gt=0,
        lt=0.1,
        description="of more than 20,000 rows: candidates whose errors differ by less than this share are equal, so that no more "
        "rows are needed to tell them apart",
    )
    budget_seconds: float | None = Field(
        None,
        gt=0,
        description="of more than 20,000 rows: the search takes no further sample that would last longer",
    )
    group: str | None = Field(
        None, description="column of the entity's table; rows that share its value are never in two folds"
    )
    order: str | None = Field(
        None,
        description="time column of the entity's table; rows are predicted by models of targets known before",
    )
    blocks: int = Field(
        4, ge=1, description="with order: blocks of time that are predicted, after a first that is not"
    )


class Contest(Declared):
    """When a challenger replaces the champion."""

    effect: float = Field(0.005, ge=0, description="least gain, as a share of the champion's error")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided, over the rows")
    margin: float = Field(0.01, ge=0, description="a refit may be worse by this share and still refresh")


class Required(StrEnum):
    """Of a first champion."""

    BASELINES = "baselines"
    ALL = "all"


class Gates(Declared):
    """What no verdict overrides, each measured out of fold, or against the data of the champion.

    The first champion is published without them, as provisional, if it is better than the baselines.
    """

    added = frozenset({"target_shift", "rows_factor", "require"})

    coverage: tuple[float, float] = Field(
        (0.88, 0.94), description="lowest and highest share of outcomes inside the 90 % interval"
    )
    tercile_coverage: float = Field(0.84, description="least coverage in any tercile of the prediction")
    bias: float = Field(0.05, description="largest |mean error| as a share of the mean target")
    calibration_error: float = Field(
        0.04, description="binary: largest expected calibration error, over ten bins of equal size"
    )
    reference: str | None = Field(
        None,
        description="a candidate; what is published may be worse than it by at most `reference_margin`",
    )
    reference_margin: float = Field(0.01, ge=0, description="as a share of the reference's error")
    target_shift: float = Field(
        0.5,
        gt=0,
        description="largest change of the mean target since the champion's data, as a share of that mean, or of "
        "the target's standard deviation where that is larger",
    )
    rows_factor: float = Field(
        3.0,
        gt=1,
        description="largest factor by which the number of examples may differ from that of the champion's data",
    )
    parity: float = Field(1e-6, description="largest relative difference of bundle and model")
    require: Required = Field(
        Required.BASELINES,
        description="what a first champion has to pass: to be better than the `baselines`, and then it serves as "
        "provisional, or `all` gates",
    )


class Automation(Declared):
    """When the forecast renews itself."""

    interval_seconds: int = Field(5, ge=1, le=15, description="seconds between two checks of the sources")
    schedule: str = Field("0 4 * * *", description="cron of the safety net")


class Advice(Declared):
    """An input that the entity's owner may set, and what a value of it is worth."""

    lever: str = Field(description="the input that may be set; its worth is lever × prediction")
    worth: str = Field(pattern=NAME, description="the name of lever × prediction, e.g. revenue")
    unit: str = Field(description="unit of the worth")
    description: str = Field(description="what the worth is, and what it leaves out")


class Ages(Declared):
    """From which age on something is stale, and from which on expired."""

    stale_after_days: float = Field(gt=0)
    expired_after_days: float = Field(gt=0)

    @model_validator(mode="after")
    def _stale_before_expired(self) -> Self:
        if self.expired_after_days < self.stale_after_days:
            raise ValueError(
                f"expired_after_days: {self.expired_after_days:g} comes before "
                f"stale_after_days, {self.stale_after_days:g}"
            )
        return self


class Expired(StrEnum):
    FLAG = "flag"
    REFUSE = "refuse"


class Freshness(Declared):
    """How old an answer's model and data may be. What has no limits is reported and not judged."""

    model_age: Ages | None = Field(None, description="time since the training")
    data_age: Ages | None = Field(None, description="time since the latest event in the data")
    expired: Expired = Field(Expired.FLAG, description="flag expired answers, or refuse them")


class Purpose(StrEnum):
    """What a field of a declaration is for, and so what its change leads to."""

    DATA = "data"  # the feature table is made of it: train
    MODEL = "model"  # models are fitted and measured by it: train
    JUDGING = "judging"  # the challenger is judged by it: hold the contest again, without a training
    SERVING = "serving"  # only the bundle says it: publish the same model again, with another manifest
    OPERATION = "operation"  # holds from the next load of the definitions on: nothing runs


class ForecastSpec(Declared):
    """The declaration of one forecast."""

    name: str = Field(pattern=NAME)
    title: str
    description: str
    owner: str = Field(description="an e-mail address or `team:<name>`")
    sources: dict[str, Source]
    examples: dict[str, Examples] = Field({}, description="tables of what was known at several times")
    entity: Entity
    inputs: list[str] = Field(
        description="columns of the entity's source that a caller sends; default for a table of examples: all but its key, "
        "id, tags, `as_of`, and those that order and group the validation"
    )
    target: Target
    candidates: dict[str, Candidate]
    fallback: Fallback | None = Field(None, description="what answers when some inputs are left out")
    validation: Validation = Validation()
    contest: Contest = Contest()
    gates: Gates = Gates()
    automation: Automation = Automation()
    advice: dict[str, Advice] = Field({}, description="the questions that the service advises on, by name")
    freshness: Freshness = Freshness()
    features_sql: str = Field("", description="filled from features.sql beside this file")
    target_sql: str = Field("", description="filled from target.sql beside this file")
    examples_sql: dict[str, str] = Field({}, description="filled from <examples>.sql beside this file")

    @field_validator("sources", "examples", "candidates", "advice")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"{name!r} is not a valid name: use lower-case letters, digits and _")
        return value

    @property
    def entity_columns(self) -> dict[str, Column]:
        """The columns of the table with a row per entity."""
        name = self.entity.source
        return self.sources[name].columns if name in self.sources else self.examples[name].columns

    @property
    def entity_id(self) -> str | None:
        """The column by which the latest inputs of an entity are found; None where they are not stored."""
        return self.entity.id or (self.entity.key if self.entity.source in self.sources else None)

    @property
    def input_columns(self) -> dict[str, Column]:
        """The declared inputs, in request order."""
        columns = self.entity_columns
        return {name: columns[name] for name in self.inputs}

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The declared features, parsed once for all that use them.

        Raises:
            FeatureError: features.sql is not a statement that the service can compute too.
        """
        return tuple(parse(self.features_sql, self.input_columns))

    def with_levels(self, levels: Mapping[str, Sequence[str]]) -> Self:
        """The declaration on data with such levels of its categories, by input; it means the same as declared."""

        def learnt(columns: dict[str, Column]) -> dict[str, Column]:
            return {
                name: column.with_levels(levels[name]) if name in levels and column.is_category else column
                for name, column in columns.items()
            }

        part = "sources" if self.entity.source in self.sources else "examples"
        tables = dict(getattr(self, part))
        table = tables[self.entity.source]
        tables[self.entity.source] = table.model_copy(update={"columns": learnt(table.columns)})
        resolved = self.model_copy(update={part: tables})
        categories, optional = (
            resolved.categories_of(resolved.features),
            resolved.optional_of(resolved.features),
        )
        candidates = {name: one.on_features(categories, optional) for name, one in self.candidates.items()}
        return resolved.model_copy(update={"candidates": candidates})

    def categories_of(self, features: Sequence[Feature]) -> dict[str, int]:
        """The features that are categories, with how many levels they have."""
        columns = self.input_columns
        return {
            feature.name: len(columns[feature.category].levels)
            for feature in features
            if feature.category is not None
        }

    def optional_of(self, features: Sequence[Feature]) -> frozenset[str]:
        """The features that are missing where an input is left out."""
        optional = {name for name, column in self.input_columns.items() if column.nullable}
        return frozenset(feature.name for feature in features if feature.unguarded & optional)

    def with_values(self, candidates: Mapping[str, Candidate]) -> Self:
        """The declaration with candidates for whose parameters values were chosen; it means the same as declared."""
        return self.model_copy(update={"candidates": dict(candidates)})

    def past_columns(self, source: str) -> set[str]:
        """The columns of a source that say when something happened or became known, which is in the past."""
        declared = self.sources[source]
        events = [one.as_of.events for one in self.examples.values()]
        events += [self.target.as_of] if self.target.as_of is not None else []
        named = {column for table, _, column in (event.partition(".") for event in events) if table == source}
        return named | {column for column in (declared.event_time, declared.load_time) if column is not None}

    def described(self, feature: str, comment: str) -> str:
        """The description of a feature: its comment, or the description of the input that has its name."""
        column = self.input_columns.get(feature)
        return comment or (column.description if column is not None else "")

    def data_version(self, snapshots: dict[str, str]) -> str:
        """The version of the feature table: the sources' contents and the definitions that turn them into it."""
        return _digest({"snapshots": snapshots, "definitions": self.fingerprint(Purpose.DATA)})

    def trained_version(self, snapshots: dict[str, str]) -> str:
        """The version of a training: its data version, and by what models are fitted and measured."""
        return _digest([self.data_version(snapshots), self.fingerprint(Purpose.MODEL)])

    def fingerprint(self, purpose: Purpose, *parts: str) -> str:
        """SHA-256 over the fields of a purpose: the code version of what they define.

        Args:
            parts: only those within these fields of the forecast; within all when none is named.
        """
        known = (purpose, *parts)
        if known not in self.fingerprints:
            self.fingerprints[known] = self._fingerprint(purpose, parts)
        return self.fingerprints[known]

    @cached_property
    def fingerprints(self) -> dict[tuple[str, ...], str]:
        """Those that were asked for: each sensor asks for four every few seconds."""
        return {}

    def _fingerprint(self, purpose: Purpose, parts: Sequence[str]) -> str:
        fields = _fields_for(self, purpose)
        if purpose is Purpose.DATA:  # comments and layout make no other table
            fields["features_sql"] = _tokens(self.features_sql)
            fields["target_sql"] = _tokens(self.target_sql)
            fields["examples_sql"] = {name: _tokens(sql) for name, sql in self.examples_sql.items()}
        if purpose is Purpose.SERVING:  # of columns it says the inputs, of features.sql the comments
            fields = {name: value for name, value in fields.items() if name not in ("sources", "examples")}
            fields["inputs"] = {
                name: _fields_for(column, purpose) for name, column in self.input_columns.items()
            }
            fields["features_sql"] = self.features_sql
        return _digest({name: value for name, value in fields.items() if not parts or name in parts})

    def whole_fingerprint(self) -> str:
        """SHA-256 over all fields: which declaration this is."""
        return _digest(self.model_dump(mode="json"))

    def former_data_version(self, snapshots: dict[str, str]) -> str:
        """The data version as it was made before fields had purposes; homes of that time hold it."""
        definitions = self.model_dump(mode="json", include=FORMER_DATA_FIELDS)
        return _digest({"snapshots": snapshots, "definitions": _digest(definitions)})

    def former_trained_version(self, snapshots: dict[str, str]) -> str:
        """The version of a training as it was made before fields had purposes."""
        return _digest([self.former_data_version(snapshots), self.whole_fingerprint()])


FORMER_DATA_FIELDS = {
    *("sources", "examples", "entity", "inputs", "target"),
    *("features_sql", "target_sql", "examples_sql"),
}

# The purpose of every field that holds no declared parts of its own. A field that is missing here fails a test.
PURPOSES: dict[type[Declared], dict[Purpose, set[str]]] = {
    Column: {
        Purpose.DATA: {
            *("type", "minimum", "above", "maximum", "unique", "nullable", "values", "references"),
            *("like", "earliest", "latest", "least_rows", "header", "joins"),
        },
        Purpose.SERVING: {"description", "unit", "unseen"},
    },
    Format: {
        Purpose.DATA: {
            *(
                "delimiter",
                "quote",
                "escape",
                "encoding",
                "decimal",
                "thousands",
                "nulls",
                "dates",
                "zone",
                "skip",
                "trim",
                "header",
            ),
        },
    },
    Source: {
        Purpose.DATA: {"path", "event_time", "load_time", "tolerated_bad_share"},
        Purpose.OPERATION: {"description"},
    },
    AsOf: {Purpose.DATA: {"events", "every", "history_days", "horizon_days"}},
    Examples: {Purpose.OPERATION: {"description"}},
    Entity: {Purpose.DATA: {"source", "key", "id", "tags"}, Purpose.SERVING: {"name"}},
    Target: {
        Purpose.DATA: {"name", "kind", "as_of", "known_at", "window_days"},
        Purpose.SERVING: {"unit", "horizon"},
    },
    Candidate: {
        Purpose.MODEL: {
            *("family", "features", "terms", "members", "parameters", "offset", "calibration", "monotone"),
            *("transform", "trend", "bins", "ranks"),
        },
    },
    Fallback: {Purpose.MODEL: {"candidate", "without"}, Purpose.SERVING: {"description"}},
    Validation: {
        Purpose.DATA: {"group", "order"},  # columns of the feature table
        Purpose.MODEL: {
            "folds",
            "repeats",
            "inner_folds",
            "seed",
            "blocks",
            "choice",
            "precision",
            "budget_seconds",
        },
    },
    Contest: {Purpose.JUDGING: {"effect", "confidence", "margin"}},
    Gates: {
        Purpose.JUDGING: {
            *("coverage", "tercile_coverage", "bias", "calibration_error", "reference_margin"),
            *("target_shift", "rows_factor", "require"),
        },
        Purpose.MODEL: {"reference", "parity"},  # measured in the training alone
    },
    Automation: {Purpose.OPERATION: {"interval_seconds", "schedule"}},
    Advice: {Purpose.SERVING: {"lever", "worth", "unit", "description"}},
    Ages: {Purpose.SERVING: {"stale_after_days", "expired_after_days"}},
    Freshness: {Purpose.SERVING: {"expired"}},
    ForecastSpec: {
        Purpose.DATA: {"name", "inputs", "features_sql", "target_sql", "examples_sql"},
        Purpose.SERVING: {"title"},
        Purpose.OPERATION: {"description", "owner"},
    },
}


def _fields_for(part: Declared, purpose: Purpose) -> dict[str, Any]:
    """The fields of a purpose, also of the parts within; parts that have none are left out."""
    declared = next(kind for kind in type(part).__mro__ if kind in PURPOSES)
    fields = part.model_dump(mode="json", include=PURPOSES[declared].get(purpose, set()))
    for name in declared.model_fields:
        value = getattr(part, name)
        if isinstance(value, Declared) and (inner := _fields_for(value, purpose)):
            fields[name] = inner
        elif isinstance(value, dict):
            parts = {key: one for key, one in value.items() if isinstance(one, Declared)}
            within = {key: _fields_for(one, purpose) for key, one in parts.items()}
            if any(within.values()):
                fields[name] = within
    return fields


def _tokens(sql: str) -> list[str]:
    """A statement without its comments and its layout; as it stands where it cannot be taken apart."""
    try:
        return [sql[token.start : token.end + 1] for token in sqlglot.tokenize(sql, read="duckdb")]
    except sqlglot.errors.TokenError:
        return [sql]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
