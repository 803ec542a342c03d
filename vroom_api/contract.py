"""The bundle: everything training and service agree on.

``<home>/<forecast>/champions/<version>/`` holds one version as files:

- ``model.onnx``: one graph from the declared inputs over the features to the prediction. Input
  ``inputs`` is float64 of shape (rows, inputs) in the manifest's order; outputs are ``prediction``,
  float64 (rows,), and ``features``, float64 (rows, features);
- ``golden.json``: rows with the outputs that the trained model gave for them;
- ``manifest.json``: what the numbers mean and where they come from, and the SHA-256 of the other files.

``<home>/<forecast>/champion.json``, the pointer, names the version that serves and the SHA-256 of its
manifest, so one short chain of digests covers every byte that is served. Files are written beside and
renamed; nothing half-written is ever under its final name.
"""

import hashlib
import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import msgspec

FORMAT = 1
MANIFEST, MODEL, GOLDEN, POINTER = "manifest.json", "model.onnx", "golden.json", "champion.json"
FORECAST_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # names a folder, columns of tables, a part of paths


class BundleError(Exception):
    """A bundle or pointer that must not be served; the message says which file and why."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a manifest."""


class InputField(Record, frozen=True):
    """One raw attribute that a caller sends, with the range that the declaration allows
    and the range that training saw."""

    name: str
    type: Literal["integer", "number", "text"]
    description: str
    unit: str | None
    minimum: float | None
    above: float | None  # exclusive lower bound
    maximum: float | None
    seen_minimum: float
    seen_maximum: float
    example: float
    levels: list[float] = []  # every value that training saw, ascending; empty for a continuous input
    values: list[str] = []  # of a text: what it may be; a row holds its place among them
    nullable: bool = False  # whether it may be left out; a row holds NaN then
    seen_missing: bool = False  # whether training saw rows without it

    def told(self, value: float) -> float | str | None:
        """What a caller sends for a value in a row: a text for its place, nothing for NaN."""
        if value != value:
            return None
        return self.values[round(value)] if self.values else value

    def coded(self, told: float | str | None) -> float:
        """The value in a row for what a caller sends, as it was checked."""
        if told is None:
            return math.nan
        return float(self.values.index(told)) if isinstance(told, str) else told

    def shown(self, value: float, digits: int = 10) -> str:
        """A value in a sentence."""
        told = self.told(value)
        if told is None or isinstance(told, str):
            return told or "left out"
        return f"{told:.{digits}g}"


class FeatureField(Record, frozen=True):
    """One feature: its SQL over the inputs, and how training saw it (for drift)."""

    name: str
    expression: str
    edges: list[float]  # inner bin edges, ascending; a value on an edge belongs above it
    shares: list[float]  # share of training rows per bin, len(edges) + 1
    inputs: list[str] = []  # the inputs that the expression reads; empty where that is not known
    description: str = ""
    seen_minimum: float | None = None
    seen_maximum: float | None = None


class Reliability(Record, frozen=True):
    """How often out-of-fold probabilities came true, in bins; a value on an edge belongs above it.

    Its intervals hold the share of yes among predictions of the same bin (Wilson 1927,
    doi:10.1080/01621459.1927.10502953), moved by how far the prediction is from the bin's mean.
    """

    edges: list[float]  # inner, ascending
    rows: list[int]
    yes: list[float]  # how many
    predicted: list[float]  # mean

    def interval(self, prediction: float, level: float) -> tuple[float, float]:
        place = bisect_right(self.edges, prediction)
        count, moved = self.rows[place], prediction - self.predicted[place]
        if not count:
            return 0.0, 1.0
        z = NormalDist().inv_cdf(0.5 + level / 2)
        share, weight = self.yes[place] / count, z * z / count
        middle = (share + weight / 2) / (1 + weight)
        half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
        low, high = middle - half + moved, middle + half + moved
        return max(min(low, prediction), 0.0), min(max(high, prediction), 1.0)


class Calibration(Record, frozen=True):
    """Prediction intervals from out-of-fold residuals, scaled by prediction ** power.

    ``quantiles[i]`` is the quantile of (target - prediction) / prediction ** power at
    ``probabilities[i]``. Scaling makes the spread comparable between small and large counts.
    """

    power: float
    probabilities: list[float]
    quantiles: list[float]
    integer: bool
    minimum: float | None
    coverage: dict[str, float]  # measured out of fold at 0.9: overall, lower, middle, upper tercile
    reliability: Reliability | None = None  # of a probability, which has no residuals

    def interval(self, prediction: float, level: float) -> tuple[float, float]:
        """The central interval at `level` (0.5-0.99) around one prediction.

        For integer targets the bounds are the outermost integers inside the continuous interval, which
        covers exactly what the continuous one covers; it is never empty.
        """
        if self.reliability is not None:
            return self.reliability.interval(prediction, level)
        scale = max(prediction, 1e-9) ** self.power
        tail = (1.0 - level) / 2.0
        low = prediction + self._quantile(tail) * scale
        high = prediction + self._quantile(1.0 - tail) * scale
        if self.integer:
            low, high = math.ceil(low - 1e-9), math.floor(high + 1e-9)
            if low > high:
                low, high = math.floor(prediction), math.ceil(prediction)
        if self.minimum is not None:
            low, high = max(low, self.minimum), max(high, self.minimum)
        return low, high

    def _quantile(self, probability: float) -> float:
        grid = self.probabilities
        right = min(max(bisect_left(grid, probability), 1), len(grid) - 1)
        share = (probability - grid[right - 1]) / (grid[right] - grid[right - 1])
        left = self.quantiles[right - 1]
        return left + min(max(share, 0.0), 1.0) * (self.quantiles[right] - left)


class Recipe(Record, frozen=True):
    """The candidate that was fitted: enough to fit it again."""

    name: str
    family: str
    features: list[str]
    definition: dict  # the candidate as declared, members resolved


class Lever(Record, frozen=True):
    """An input that its owner may set, and what a value of it is worth: input × prediction."""

    input: str
    worth: str  # the name of input × prediction, e.g. revenue
    unit: str  # of the worth
    description: str


class AgeLimits(Record, frozen=True):
    """Ages in seconds from which on something is stale, and from which on expired."""

    stale_after_s: float
    expired_after_s: float


class FreshnessPolicy(Record, frozen=True):
    """How old the model and the data may be; what has no limits is reported and not judged."""

    model: AgeLimits | None = None  # age since the training
    data: AgeLimits | None = None  # age since the latest event in the data
    expired: Literal["flag", "refuse"] = "flag"  # what becomes of an answer that has expired


class Fallback(Record, frozen=True):
    """What answers a row that leaves out any of some inputs: another recipe, in the same graph."""

    without: list[str]  # the inputs
    description: str  # what such an answer says of itself
    recipe: Recipe
    calibration: Calibration
    error: float  # out of fold, in the measure of the target's kind


class Manifest(Record, frozen=True):
    """What a version of a forecast is, what it means and where it comes from."""

    format: int
    forecast: str
    title: str
    version: int  # of the model registered in MLflow
    entity: str
    target: str
    kind: Literal["count", "regression", "binary"]
    unit: str
    horizon: str
    inputs: list[InputField]
    features: list[FeatureField]
    recipe: Recipe
    calibration: Calibration
    metrics: dict[str, float]  # nested and out-of-fold figures of the data the choice has not seen
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
    tags: list[str] = []  # what errors were told by in training, and predictions are recorded with

    @property
    def example(self) -> dict[str, float | str | None]:
        """A request that it answers, by name."""
        return {
            field.name: round(field.example) if field.type == "integer" else field.told(field.example)
            for field in self.inputs
        }

    def fallback_of(self, row: Sequence[float]) -> Fallback | None:
        """What answers a row of inputs in place of the champion's own recipe, if that cannot."""
        rule = self.fallback
        if rule is None:
            return None
        gaps = (field.name for field, value in zip(self.inputs, row, strict=True) if value != value)  # NaN
        return rule if any(name in rule.without for name in gaps) else None

    def calibration_of(self, row: Sequence[float]) -> Calibration:
        """That of what answers a row."""
        return (self.fallback_of(row) or self).calibration


class Golden(Record, frozen=True):
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


def scales(predictions: Sequence[float]) -> list[float]:
    """What differences of predictions are relative to: themselves, or 1 % of their mean size where they are smaller."""
    least = 0.01 * sum(map(abs, predictions)) / max(len(predictions), 1)
    return [max(abs(prediction), least, 1e-12) for prediction in predictions]


class Pointer(Record, frozen=True):
    """Which version serves. `generation` grows by one with every publication and roll-back."""

    generation: int
    version: int
    manifest_sha256: str
    published_at: str


def home() -> Path:
    """Where all state lives: VROOM_HOME, else ``var`` under the working directory."""
    return Path(os.environ.get("VROOM_HOME") or "var").absolute()


def forecast_folder(forecast: str, root: Path | None = None) -> Path:
    return (root or home()) / forecast


def bundle_folder(forecast: str, version: int, root: Path | None = None) -> Path:
    return forecast_folder(forecast, root) / "champions" / str(version)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_pointer(forecast: str, root: Path | None = None) -> Pointer | None:
    """The pointer, or None where nothing was ever published.

    Raises:
        BundleError: the file is there and is no pointer.
    """
    path = forecast_folder(forecast, root) / POINTER
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pointer)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a pointer: {error}") from error


def read_manifest(content: bytes, origin: str) -> Manifest:
    """Decode a manifest.

    Raises:
        BundleError: not a manifest, or of another format.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{origin}: not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BundleError(f"{origin}: format {manifest.format}, this service reads format {FORMAT}")
    return manifest


class Bundle(msgspec.Struct, frozen=True):
    """A bundle whose every byte agreed with its digests."""

    manifest: Manifest
    model: bytes
    golden: Golden


def read_bundle(folder: Path, manifest_sha256: str) -> Bundle:
    """Read a bundle into memory and check all of it against the digests.

    Raises:
        BundleError: a file is missing, unreadable, or differs from its digest.
    """

    def read(name: str, expected: str) -> bytes:
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        if sha256_of(content) != expected:
            raise BundleError(
                f"{path}: its SHA-256 is not the published one; the file is damaged or incomplete"
            )
        return content

    manifest = read_manifest(read(MANIFEST, manifest_sha256), str(folder / MANIFEST))
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"{folder / MANIFEST}: names no {name}")
    files = {name: read(name, digest) for name, digest in manifest.files.items()}
    try:
        golden = msgspec.json.decode(files[GOLDEN], type=Golden)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{folder / GOLDEN}: not golden rows: {error}") from error
    return Bundle(manifest, files[MODEL], golden)
