"""The champion: the version that serves, held as one immutable object."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from vroom_api.champion.encoding import RowEncoder
from vroom_api.champion.freshness import ages
from vroom_api.champion.schemas import DEFAULT_LEVEL, MAX_LEVEL, MIN_LEVEL, answer_type, request_type
from vroom_api.champion.stored_inputs import Entities
from vroom_api.contract import (
    Bundle,
    BundleError,
    Manifest,
    Pointer,
    bundle_folder,
    read_bundle,
    read_pointer,
)
from vroom_api.explanation.support import Limits, limits_of
from vroom_api.record.prediction import Interval, Origin

FEATURE_TOLERANCE = 1e-9  # absolute, for features that are zero


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
    encoder: RowEncoder  # of the values of a request
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
    options.log_severity_level = 4  # what fails is in the exception
    try:
        session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise BundleError(f"the model does not load: {error}") from error
    try:
        ages(bundle.manifest, datetime.now(UTC))
    except ValueError as error:  # else it would fail in every answer, and wherever all forecasts are listed
        raise BundleError(f"the manifest's times cannot be read: {error}") from error
    request = request_type(bundle.manifest)
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
        answer=answer_type(bundle.manifest),
        decoder=msgspec.json.Decoder(request),
        batch_decoder=msgspec.json.Decoder(list[request]),  # type: ignore[valid-type]
        encoder=RowEncoder(bundle.manifest.inputs),
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
        for level in (MIN_LEVEL, DEFAULT_LEVEL, MAX_LEVEL):
            interval = Interval.of(manifest.calibration, float(alone[0]), level)
            if not interval.low <= interval.high or not math.isfinite(interval.high - interval.low):
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
