"""What a version of a forecast is, what it means and where it comes from."""

import math
import re
from collections.abc import Sequence, Set
from enum import StrEnum
from typing import Literal

from vroom_api.contract import times
from vroom_api.contract.intervals import Calibration
from vroom_api.contract.monitoring import MonitoringReference
from vroom_api.contract.scores import Scores
from vroom_api.contract.struct import ContractStruct

# Of a bundle: the first whose readers answer it rightly. It goes up with what an older reader would pass over and
# answer wrongly for; a bundle without such a thing keeps the lower number, so that older services serve it too.
OLDEST_FORMAT = 1
WITH_SPREADS = 2  # intervals whose width is learnt
WITH_TIMES = 3  # inputs that are times
FORMAT = WITH_TIMES
MINOR = 6  # goes up with every field that an older reader may pass over
FORECAST_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # names a folder, columns of tables, a part of paths


class Kind(StrEnum):
    """What a target is, and what follows from that for its values, its intervals and its words."""

    COUNT = "count"
    REGRESSION = "regression"
    BINARY = "binary"

    @property
    def is_probability(self) -> bool:
        """Whether what is forecast is the probability of a yes."""
        return self is Kind.BINARY

    @property
    def is_integer(self) -> bool:
        return self is Kind.COUNT

    @property
    def lowest(self) -> float | None:
        """The least that a value can be; None where nothing is known."""
        return None if self is Kind.REGRESSION else 0.0

    @property
    def outcomes(self) -> str:
        """What can really happen, as text; what is measured has no range that is known."""
        if self is Kind.BINARY:
            return "0 or 1"
        number = "a whole number" if self.is_integer else "any number"
        return number if self.lowest is None else f"{number}, at least {self.lowest:g}"

    def can_be(self, outcome: float) -> bool:
        """Whether an outcome is one of those that `outcomes` names."""
        if self is Kind.BINARY:
            return outcome in (0, 1)
        if self.is_integer and not outcome.is_integer():
            return False
        return self.lowest is None or outcome >= self.lowest


class InputField(ContractStruct, frozen=True):
    """One raw attribute that a caller sends, with the range that the declaration allows
    and the range seen in training."""

    name: str
    type: Literal["integer", "number", "text", "time"]  # of a time, numbers are seconds since 1970
    description: str
    unit: str | None
    minimum: float | None
    above: float | None  # exclusive lower bound
    maximum: float | None
    seen_minimum: float
    seen_maximum: float
    example: float
    levels: list[float] = []  # every value seen in training, ascending; empty for a continuous input
    values: list[str] = []  # allowed values of a text; a row holds the index among them
    nullable: bool = False  # whether it may be left out; a row holds NaN then
    seen_missing: bool = False  # whether rows without it were seen in training
    # Whether it may be any text. The last of `values` stands for those that are none of the others; a row holds the
    # index after it for one that training did not see.
    is_open: bool = False

    @property
    def supported(self) -> tuple[float, float]:
        """The range that is in support. Times go on, so what features make of one is judged, and not the time."""
        if self.type == "time":
            return -math.inf, math.inf
        return self.seen_minimum, self.seen_maximum

    def decoded(self, value: float) -> float | str | None:
        """What a caller sends for a value in a row: a text for its index or seconds, nothing for NaN."""
        if value != value:
            return None
        if self.type == "time":
            return times.text_of(value)
        return self.values[min(round(value), len(self.values) - 1)] if self.values else value

    def encoded(self, given: float | str | None) -> float:
        """The value in a row for what a caller sends, as it was checked.

        Raises:
            ValueError: a text that is not one of the values, or not a time.
        """
        if given is None:
            return math.nan
        if not isinstance(given, str):
            return given
        if self.type == "time":
            return times.seconds_of(given)
        return float(
            len(self.values) if self.is_open and given not in self.values else self.values.index(given)
        )

    def formatted(self, value: float, digits: int = 10) -> str:
        """A value in a sentence."""
        given = self.decoded(value)
        if given is None or isinstance(given, str):
            return given or "left out"
        return f"{given:.{digits}g}"


class FeatureField(ContractStruct, frozen=True):
    """One feature: its SQL over the inputs, and how it was distributed in training (for drift)."""

    name: str
    expression: str
    edges: list[float]  # inner bin edges, ascending; a value on an edge belongs above it
    shares: list[float]  # share of training rows per bin, len(edges) + 1
    inputs: list[str] = []  # the inputs that the expression reads; empty where that is not known
    description: str = ""
    seen_minimum: float | None = None
    seen_maximum: float | None = None

    def is_known(self, value: float, left_out: Set[str]) -> bool:
        """Whether its value is a number, or is missing because an input that it reads is."""
        return math.isfinite(value) or (math.isnan(value) and not left_out.isdisjoint(self.inputs))


class Recipe(ContractStruct, frozen=True):
    """The candidate that was fitted: enough to fit it again."""

    name: str
    family: str
    features: list[str]
    definition: dict  # the candidate as declared, members resolved
    values: dict = {}  # by candidate: the values that were chosen for parameters of which several are declared


class Lever(ContractStruct, frozen=True):
    """An input that its owner may set, and what a value of it is worth: input × prediction."""

    input: str
    worth: str  # the name of input × prediction, e.g. revenue
    unit: str  # of the worth
    description: str


class AgeLimits(ContractStruct, frozen=True):
    """Ages in seconds from which on something is stale, and from which on expired."""

    stale_after_s: float
    expired_after_s: float


class FreshnessPolicy(ContractStruct, frozen=True):
    """How old the model and the data may be; what has no limits is reported and not judged."""

    model: AgeLimits | None = None  # age since the training
    data: AgeLimits | None = None  # age since the latest event in the data
    expired: Literal["flag", "refuse"] = "flag"  # what becomes of an answer that has expired


class Fallback(ContractStruct, frozen=True):
    """What answers a row that leaves out any of some inputs: another recipe, in the same graph."""

    without: list[str]  # the inputs
    description: str  # the text that goes with such an answer
    recipe: Recipe
    calibration: Calibration
    error: float  # out of fold, in the measure of the target's kind


# Of a request, beside its inputs.
OPTIONS = ("level", "explain", "entity_id", "tags")


def unfit_inputs(names: Sequence[str]) -> list[str]:
    """Those names of inputs that a request cannot have, because it has them already."""
    return sorted({name for name in names if names.count(name) > 1 or name in OPTIONS})


class Manifest(ContractStruct, frozen=True):
    """What a version of a forecast is, what it means and where it comes from."""

    format: int  # see FORMAT and `format_of`
    forecast: str
    title: str
    version: int  # of the model registered in MLflow
    entity: str
    target: str
    kind: Kind
    unit: str
    horizon: str
    inputs: list[InputField]
    features: list[FeatureField]
    recipe: Recipe
    calibration: Calibration
    metrics: dict[str, float]  # all figures, by name
    importances: dict[str, float]  # increase of the error when a feature is permuted, out of fold
    rows: int
    target_mean: float
    data_version: str
    data_as_of: str  # ISO 8601, the latest event in the data
    snapshots: dict[str, str]  # source -> SHA-256 of the CSV's bytes
    code_version: str
    trained_at: str  # ISO 8601 UTC
    mlflow_run_id: str
    dagster_run_id: str
    libraries: dict[str, str]
    files: dict[str, str]  # file name -> SHA-256
    background: list[list[float | None]] = []  # training rows that stand for a typical entity in reasons
    advice: dict[str, Lever] = {}
    freshness: FreshnessPolicy = FreshnessPolicy()
    fallback: Fallback | None = None
    minor: int = 0  # see MINOR; 0 where nothing was added yet
    scores: Scores | None = None  # the same figures as in `metrics`; None before they had a shape
    tags: list[str] = []  # what errors were reported by in training, and predictions are recorded with
    trained_version: str = ""  # of the data and the definition of the models; "" before it was kept
    due_s: float | None = None  # seconds from a prediction until its target is known
    due_input: str | None = None  # or the input that says how many days are left until then
    monitoring: MonitoringReference | None = None  # None before it was kept: a retraining adds it
    entity_key: str = (
        ""  # the column by which entities are stored; "" before it was kept, or where they are not
    )
    entity_source: str = ""  # the file or table that they are from, for people

    @property
    def example(self) -> dict[str, float | str | None]:
        """A request that it answers, by name."""
        return {
            field.name: round(field.example) if field.type == "integer" else field.decoded(field.example)
            for field in self.inputs
        }

    def fallback_of(self, row: Sequence[float]) -> Fallback | None:
        """What answers a row of inputs instead of the champion's own recipe, if that cannot."""
        rule = self.fallback
        if rule is None:
            return None
        gaps = (field.name for field, value in zip(self.inputs, row, strict=True) if value != value)  # NaN
        return rule if any(name in rule.without for name in gaps) else None

    def calibration_of(self, row: Sequence[float]) -> Calibration:
        """That of what answers a row."""
        return (self.fallback_of(row) or self).calibration


def format_of(calibrations: Sequence[Calibration], inputs: Sequence[InputField]) -> int:
    """The format of a bundle of these intervals and inputs."""
    if any(field.type == "time" for field in inputs):
        return WITH_TIMES
    return WITH_SPREADS if any(one.spread is not None for one in calibrations) else OLDEST_FORMAT


class Golden(ContractStruct, frozen=True):
    """Rows with the outputs of the trained model, in the manifest's order of inputs and features."""

    inputs: list[list[float | None]]  # None: left out
    features: list[list[float | None]]  # None: what a left out input would have to give
    predictions: list[float]
    tolerance: float  # largest relative difference

    def agrees(self, predictions: Sequence[float]) -> bool:
        """Whether these are the golden predictions, but for the last digits."""
        return len(predictions) == len(self.predictions) and all(
            abs(found - wanted) <= self.tolerance * scale
            for found, wanted, scale in zip(
                predictions, self.predictions, scales(self.predictions), strict=True
            )
        )


class Training(ContractStruct, frozen=True):
    """What a version was trained by, enough to train it again from its snapshots."""

    declaration: dict  # all fields of the forecast as it was declared, its statements among them
    fitted_rows: int | None = None  # how many rows the model was fitted on, drawn by the seed; None for all


def scales(predictions: Sequence[float]) -> list[float]:
    """What differences of predictions are relative to: themselves, or their spread where they are smaller.

    A prediction near 0 may be the sum of large numbers, and is as exact as these; nobody tells two predictions apart
    that differ by a millionth of what predictions differ by. Where all are alike it is 1 % of their mean size.
    """
    rows = max(len(predictions), 1)
    mean = sum(predictions) / rows
    spread = math.sqrt(sum((prediction - mean) ** 2 for prediction in predictions) / rows)
    least = max(spread, 0.01 * sum(map(abs, predictions)) / rows, 1e-12)
    return [max(abs(prediction), least) for prediction in predictions]
