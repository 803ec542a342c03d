"""The champion: the version that serves, held as one immutable object and swapped by one assignment.

A new version is loaded beside the old one, off the event loop, and has to reproduce its golden rows before
it may serve. Whatever fails, the last good one stays.
"""

import asyncio
import logging
import math
import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import onnxruntime

from vroom_api.contract import (
    POINTER,
    Bundle,
    BundleError,
    InputField,
    Manifest,
    Pointer,
    bundle_folder,
    forecast_folder,
    read_bundle,
    read_pointer,
)
from vroom_api.entities import Entities
from vroom_api.freshness import Verdict, ages
from vroom_api.prediction import EntityId, Origin, Tags
from vroom_api.reasons import Explanation
from vroom_api.support import Limits, Outside, limits_of

log = logging.getLogger(__name__)

LOWEST_LEVEL, USUAL_LEVEL, HIGHEST_LEVEL = 0.5, 0.9, 0.99
OPTIONS = ("level", "explain", "entity_id", "tags")  # of a request, beside its inputs
EXACT_INTEGER = 2**53  # beyond it float64 skips integers
FEATURE_TOLERANCE = 1e-9  # absolute, for features that are zero


class Interval(msgspec.Struct, frozen=True, gc=False):
    """The central interval that holds the outcome with probability `level`; integers for integer targets."""

    level: float
    low: float
    high: float


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Inputs that a request left out, and when what is stored of them was known."""

    as_of: str
    inputs: list[str]


@dataclass(frozen=True, eq=False)
class Champion:
    """A version that reproduced its golden rows, with everything that answers its requests."""

    manifest: Manifest
    manifest_sha256: str
    generation: int
    published_at: str
    loaded_at: str
    session: onnxruntime.InferenceSession
    origin: Origin  # what its recorded predictions share
    limits: Limits  # what training saw
    request: type[msgspec.Struct]  # inputs in the manifest's order, then the options
    answer: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[Any]  # one request
    batch_decoder: msgspec.json.Decoder[Any]  # a list of them
    coded: list[tuple[int, dict[Any, float]]]  # inputs that are no numbers or may be left out, by their place
    entities: Entities  # their latest inputs

    @property
    def version(self) -> int:
        return self.manifest.version


def score(champion: Champion, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score rows of inputs; the one door to the model.

    Args:
        rows: float64, shape (n, inputs), in the manifest's order.

    Returns:
        predictions, shape (n,), and features, shape (n, features).
    """
    predictions, features = champion.session.run(["prediction", "features"], {"inputs": rows})
    return predictions, features


def row_of(champion: Champion, values: list[Any]) -> list[float]:
    """The row of a request's inputs: texts by their place, NaN for what was left out."""
    for place, codes in champion.coded:
        value = values[place]
        values[place] = codes.get(value, value)
    return values


def codes_of(manifest: Manifest) -> list[tuple[int, dict[Any, float]]]:
    """What stands for texts and for nothing, by the place of the input."""
    found: list[tuple[int, dict[Any, float]]] = []
    for place, field in enumerate(manifest.inputs):
        codes: dict[Any, float] = {value: float(code) for code, value in enumerate(field.values)}
        if field.nullable:
            codes[None] = math.nan
        if codes:
            found.append((place, codes))
    return found


def load(forecast: str, root: Path | None = None) -> Champion | None:
    """The champion that the pointer names, None where nothing was ever published.

    Raises:
        BundleError: pointer or bundle must not be served.
    """
    pointer = read_pointer(forecast, root)
    if pointer is None:
        return None
    folder = bundle_folder(forecast, pointer.version, root)
    bundle = read_bundle(folder, pointer.manifest_sha256)
    if (bundle.manifest.forecast, bundle.manifest.version) != (forecast, pointer.version):
        raise BundleError(
            f"{folder}: holds version {bundle.manifest.version} of {bundle.manifest.forecast}, "
            f"the pointer names version {pointer.version} of {forecast}"
        )
    try:
        champion = prepare(bundle, pointer, root)
        prove(champion, bundle)
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    return champion


def prepare(bundle: Bundle, pointer: Pointer, root: Path | None = None) -> Champion:
    """Session, decoders and answer of a bundle.

    Raises:
        BundleError: the model does not load, or the manifest's inputs make no request, or its times are none.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is told by the exception
    try:
        session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise BundleError(f"the model does not load: {error}") from error
    try:
        ages(bundle.manifest, datetime.now(UTC))
    except ValueError as error:  # else it would fail in every answer, and wherever all forecasts are listed
        raise BundleError(f"the manifest's times cannot be read: {error}") from error
    request = request_of(bundle.manifest)
    return Champion(
        manifest=bundle.manifest,
        manifest_sha256=pointer.manifest_sha256,
        generation=pointer.generation,
        published_at=pointer.published_at,
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        session=session,
        origin=Origin.of(bundle.manifest, pointer.manifest_sha256, pointer.generation),
        limits=limits_of(bundle.manifest),
        request=request,
        answer=answer_of(bundle.manifest),
        decoder=msgspec.json.Decoder(request),
        batch_decoder=msgspec.json.Decoder(list[request]),  # type: ignore[valid-type]
        coded=codes_of(bundle.manifest),
        entities=Entities(bundle.manifest.forecast, root),
    )


def prove(champion: Champion, bundle: Bundle) -> None:
    """Score the golden rows and compare.

    Raises:
        BundleError: the model does not run or does not give the trained model's numbers.
    """
    golden, manifest = bundle.golden, champion.manifest
    try:
        rows = np.asarray(golden.inputs, dtype=np.float64)
        expected_features = np.asarray(golden.features, dtype=np.float64)
        if len(rows) == 0 or rows.shape != (len(rows), len(manifest.inputs)):
            raise BundleError("there are no golden rows, or they do not have the manifest's inputs")
        predictions, features = score(champion, rows)
        # One row takes the same path as many: a graph with a fixed batch size is found here.
        alone, _ = score(champion, rows[:1])
        for level in (LOWEST_LEVEL, USUAL_LEVEL, HIGHEST_LEVEL):
            low, high = manifest.calibration.interval(float(alone[0]), level)
            if not low <= high or not math.isfinite(high - low):
                raise BundleError("the calibration gives no interval for the first golden row")
    except BundleError:
        raise
    except Exception as error:  # onnxruntime's and NumPy's errors have no common base
        raise BundleError(f"the model does not score the golden rows: {error}") from error
    if features.shape != expected_features.shape or not np.allclose(
        features, expected_features, rtol=golden.tolerance, atol=FEATURE_TOLERANCE, equal_nan=True
    ):
        raise BundleError("the model's features differ from the golden rows")
    if not golden.agrees(predictions.tolist()) or not golden.agrees(
        [*alone.tolist(), *predictions[1:].tolist()]
    ):
        raise BundleError("the model's predictions differ from the golden rows")


def request_of(manifest: Manifest) -> type[msgspec.Struct]:
    """The type of one request: inputs bounded as declared, then the options; nothing else is taken."""
    names = [field.name for field in manifest.inputs]
    taken = {name for name in names if names.count(name) > 1 or name in OPTIONS}
    if taken or not names:
        raise BundleError(
            f"inputs have no names of their own: {', '.join(sorted(taken)) or 'there are none'}"
        )
    for question, lever in manifest.advice.items():
        if lever.input not in names:
            raise BundleError(f"advice about {question}: its lever {lever.input} is none of the inputs")
    # Whether an input may be left out depends on the entity that is named.
    fields: list[Any] = [
        (
            f"input{place}",
            (_bounded(field) | None if field.nullable else _bounded(field)) | msgspec.UnsetType,
            msgspec.UNSET,
        )
        for place, field in enumerate(manifest.inputs)
    ]
    level = Annotated[
        float,
        msgspec.Meta(
            ge=LOWEST_LEVEL,
            le=HIGHEST_LEVEL,
            description="confidence of the interval"
            if manifest.kind == "binary"
            else "probability that the interval holds the outcome",
        ),
    ]
    explained = Annotated[bool, msgspec.Meta(description="whether to give reasons")]
    entity = Annotated[
        EntityId,
        msgspec.Meta(
            description="which one it is; recorded with the prediction. Inputs that are left out are taken from "
            "what is stored of it"
        ),
    ]
    usual = f", e.g. {' and '.join(manifest.tags)}" if manifest.tags else ""
    tags = Annotated[
        Tags,
        msgspec.Meta(
            description=f"words to sort predictions by{usual}; recorded, and no part of the prediction"
        ),
    ]
    # Attributes are numbered, so that an input may have any name.
    return msgspec.defstruct(
        "Request",
        [
            *fields,
            ("level", level, USUAL_LEVEL),
            ("explain", explained, False),
            ("entity_id", entity | None, None),
            ("tags", tags | None, None),
        ],
        rename={f"input{place}": name for place, name in enumerate(names)},
        frozen=True,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def answer_of(manifest: Manifest) -> type[msgspec.Struct]:
    """The type of one answer; what does not change between requests is in its defaults."""
    interval = _INTERVAL_OF_SHARES if manifest.kind == "binary" else _INTERVAL
    return msgspec.defstruct(
        "Answer",
        [
            ("value", Annotated[float, msgspec.Meta(description=_expected(manifest))]),
            ("interval", Annotated[Interval, interval]),
            ("in_support", Annotated[bool, _IN_SUPPORT]),
            ("outside", Annotated[list[Outside], _OUTSIDE]),
            ("freshness", Annotated[Verdict, _FRESHNESS]),
            ("data_age_s", Annotated[int | None, _DATA_AGE]),
            ("model_age_s", Annotated[int, _MODEL_AGE]),
            ("reasons", Annotated[Explanation, _REASONS] | msgspec.UnsetType, msgspec.UNSET),
            ("model_version", Annotated[int, _VERSION], manifest.version),
            ("horizon", Annotated[str, _HORIZON], manifest.horizon),
            ("data_as_of", Annotated[str, _DATA_AS_OF], manifest.data_as_of),
            ("prediction_id", Annotated[str, _PREDICTION_ID] | msgspec.UnsetType, msgspec.UNSET),
            ("stored", Annotated[Taken, _STORED] | msgspec.UnsetType, msgspec.UNSET),
            *(
                [("fallback", Annotated[str, _FALLBACK] | msgspec.UnsetType, msgspec.UNSET)]
                if manifest.fallback
                else []
            ),
        ],
        rename={"value": f"predicted_{manifest.target}"},
        frozen=True,
        gc=False,
    )


class Bounds(msgspec.Struct, frozen=True):
    """What a request may send for one input; at most one of the lower bounds is set."""

    minimum: float | None
    above: float | None
    maximum: float | None


def bounds_of(field: InputField) -> Bounds:
    """The declared range; that of an integer ends where float64 would skip some."""
    minimum, above, maximum = field.minimum, field.above, field.maximum
    if field.type == "integer":
        lowest = math.ceil(minimum) if minimum is not None else -EXACT_INTEGER
        if above is not None:
            lowest = max(lowest, math.floor(above) + 1)
        highest = math.floor(maximum) if maximum is not None else EXACT_INTEGER
        return Bounds(lowest, None, highest)
    if minimum is not None and above is not None:
        minimum, above = (minimum, None) if minimum > above else (None, above)
    return Bounds(minimum, above, maximum)


def said_of(manifest: Manifest) -> str:
    """What the number is, in words."""
    if manifest.kind == "binary":
        return f"{_expected(manifest)}, from 0 to 1, of a {manifest.entity}: {manifest.horizon}"
    return f"{manifest.unit} of a {manifest.entity} in {manifest.horizon}"


def _expected(manifest: Manifest) -> str:
    if manifest.kind != "binary":
        return f"expected {manifest.unit}"
    return manifest.unit if "probability" in manifest.unit else f"probability of {manifest.unit}"


_INTERVAL = msgspec.Meta(description="holds the outcome with the probability asked for")
_INTERVAL_OF_SHARES = msgspec.Meta(
    description="holds the share of yes among predictions like this one, with the confidence asked for"
)
_IN_SUPPORT = msgspec.Meta(description="whether training saw the like of it")
_OUTSIDE = msgspec.Meta(description="the inputs and features of which training saw nothing like it")
_FRESHNESS = msgspec.Meta(description="the worse of the verdicts on the ages of model and data")
_DATA_AGE = msgspec.Meta(description="seconds since the latest event in the training data")
_MODEL_AGE = msgspec.Meta(description="seconds since the training")
_REASONS = msgspec.Meta(description="what each input adds to the prediction, where reasons were asked for")
_VERSION = msgspec.Meta(description="of the champion that answered")
_HORIZON = msgspec.Meta(description="the period that the number covers")
_PREDICTION_ID = msgspec.Meta(description="of the record; not there where none is kept")
_STORED = msgspec.Meta(
    description="what the request left out and was taken from what is stored of the entity"
)
_FALLBACK = msgspec.Meta(description="why another recipe than the usual one answered")
_DATA_AS_OF = msgspec.Meta(description="time of the latest event in the training data")


def _bounded(field: InputField) -> Any:
    bounds = bounds_of(field)
    limits: dict[str, Any] = {"ge": bounds.minimum, "gt": bounds.above, "le": bounds.maximum}
    words = ", in ".join(part for part in (field.description, field.unit) if part and part != "flag")
    if field.type == "text":
        told = msgspec.Meta(description=words, examples=[field.told(field.example)])
        return Annotated[Literal[tuple(field.values)], told]
    if field.type == "integer":
        return Annotated[int, msgspec.Meta(**limits, description=words, examples=[round(field.example)])]
    return Annotated[float, msgspec.Meta(**limits, description=words, examples=[field.example])]


class Reload(msgspec.Struct, frozen=True):
    """What came of one look at the pointer."""

    status: Literal["reloaded", "unchanged", "failed"]
    previous_version: int | None
    current_version: int | None
    detail: str


class ChampionWatch:
    """Keeps the champion current.

    `champion` is replaced as a whole; who answers a request takes it once.
    """

    def __init__(self, forecast: str, root: Path, seconds: float) -> None:
        self.forecast = forecast
        self.root = root
        self.champion: Champion | None = None
        self.failure: str | None = None  # why the latest attempt left the champion as it was
        self.failed_at: str | None = None
        self.loading = False
        self.answered: Counter[int] = Counter()  # predictions, by version
        self.reloads = 0
        self.failures = 0
        self._seconds = seconds
        self._seen: object = None  # what the latest attempt was made on
        self._one_at_a_time = asyncio.Lock()

    async def watch(self) -> None:
        """Look at the pointer for ever; try to load whenever it or the files behind it have changed."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                if await asyncio.to_thread(self._look) != self._seen:
                    await self.reload()
            except Exception:  # a watch that ends would leave an old champion for ever
                log.exception("%s: cannot look at the pointer", self.forecast)

    async def reload(self) -> Reload:
        """Load what the pointer names, now. Never raises: the champion stays as it was."""
        async with self._one_at_a_time:
            previous = self.champion
            self.loading = True
            try:
                # Seen before it is read: what changes meanwhile is tried again.
                self._seen = await asyncio.to_thread(self._look)
                found = await asyncio.to_thread(load, self.forecast, self.root)
            except BundleError as error:
                return self._failed(previous, str(error))
            except Exception as error:  # a defect here must not end the watch
                log.exception("loading the champion of %s failed", self.forecast)
                return self._failed(previous, f"{type(error).__name__}: {error}")
            finally:
                self.loading = False
            if found is None:
                pointer = forecast_folder(self.forecast, self.root) / POINTER
                if previous is not None:
                    return self._failed(previous, f"{pointer}: it is gone")
                self.failure = self.failed_at = None
                nothing = self._told(f"{pointer}: there is none, nothing was published yet")
                return Reload("failed", None, None, nothing)
            self.failure = self.failed_at = None
            if previous is not None and (previous.generation, previous.manifest_sha256) == (
                found.generation,
                found.manifest_sha256,
            ):
                return Reload(
                    "unchanged", previous.version, previous.version, "the pointer names what serves"
                )
            self.champion = found
            self.reloads += 1
            detail = f"version {found.version}, generation {found.generation}, serves"
            log.info("%s: %s", self.forecast, detail)
            return Reload("reloaded", previous.version if previous else None, found.version, detail)

    def _failed(self, previous: Champion | None, reason: str) -> Reload:
        version = previous.version if previous else None
        stays = f"version {version} serves on" if version is not None else "nothing serves"
        log.warning("%s: champion not loaded, %s: %s", self.forecast, stays, reason)
        reason = self._told(reason)
        self.failure, self.failed_at = reason, datetime.now(UTC).isoformat(timespec="seconds")
        self.failures += 1
        return Reload("failed", version, version, f"{reason}; {stays}")

    def _told(self, reason: str) -> str:
        """For callers, who need not know where the home is."""
        return reason.replace(f"{self.root}{os.sep}", "")

    def _look(self) -> object:
        """The pointer's bytes and the state of all files it leads to; equal as long as nothing changes."""
        try:
            content = (forecast_folder(self.forecast, self.root) / POINTER).read_bytes()
        except OSError as error:
            return type(error).__name__
        try:
            folder = bundle_folder(
                self.forecast, msgspec.json.decode(content, type=Pointer).version, self.root
            )
            files = sorted(folder.iterdir())
            return content, [(path.name, _state(path)) for path in files]
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return content, type(error).__name__


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
