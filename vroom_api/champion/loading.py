"""The champion: the version that serves, held as one immutable object."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from vroom_api.champion.attendance import Attendance
from vroom_api.champion.encoding import RowEncoder
from vroom_api.champion.freshness import ages
from vroom_api.champion.schemas import answer_type, request_type
from vroom_api.champion.stored_inputs import Entities, StoredInputs
from vroom_api.contract import (
    Bundle,
    BundleError,
    Manifest,
    Pointer,
    Trial,
    TrialRole,
    bundle_folder,
    model,
    read_bundle,
    read_pointer,
)
from vroom_api.contract.calibrations import CalibrationError, CalibrationRevision, revision_of
from vroom_api.contract.decoding import decoder
from vroom_api.contract.recorded import Origin
from vroom_api.contract.trials import unlike
from vroom_api.explanation.support import Limits, limits_of


@dataclass(frozen=True, eq=False)
class Champion:
    """A version that reproduced its golden rows, with everything that answers its requests.

    Where a calibration revision is in force, the manifest has its intervals, and `score` its probabilities.
    """

    manifest: Manifest
    manifest_sha256: str
    generation: int
    provisional: tuple[str, ...]  # the gates that it serves without having passed
    published_at: str
    loaded_at: str
    session: onnxruntime.InferenceSession
    origin: Origin  # what its recorded predictions share
    limits: Limits  # the range seen in training
    request: type[msgspec.Struct]  # inputs in the manifest's order, then the options
    answer: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[Any]  # one request
    batch_decoder: msgspec.json.Decoder[Any]  # a list of them
    encoder: RowEncoder  # of the values of a request
    entities: StoredInputs  # their latest inputs
    attendance: Attendance  # whether anything looks after it
    revision: CalibrationRevision | None = None
    uncorrected: str | None = None  # why a revision that should be in force is not
    tried: "Tried | None" = None  # the version that is tried beside it
    untried: str | None = None  # why a version that should be tried is not

    @property
    def version(self) -> int:
        return self.manifest.version


@dataclass(frozen=True, eq=False)
class Tried:
    """A second version that reproduced its golden rows, and takes and answers what the champion does."""

    trial: Trial
    second: Champion
    same_rows: (
        bool  # whether a request has the same row of inputs for both; texts that may be any have other codes
    )

    @property
    def is_split(self) -> bool:
        return self.trial.role is TrialRole.SPLIT


class Retired(Exception):
    """The forecast was retired: no version is to serve. The message says since when and why."""


def score(champion: Champion, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score rows of inputs; the one door to the model. Shapes are those of `contract.model.score`."""
    predictions, features = model.score(champion.session, rows)
    if champion.revision is not None and champion.manifest.kind.is_probability:
        predictions = champion.revision.probabilities(predictions)
    return predictions, features


def load(
    forecast: str,
    root: Path | None = None,
    attendance: Attendance | None = None,
    entities: StoredInputs | None = None,
) -> Champion | None:
    """The champion that the pointer names, corrected by its calibration revision; None where nothing was ever published.

    A revision that is damaged leaves it uncorrected, and `uncorrected` says why. So does `untried` of a second version.

    Raises:
        BundleError: pointer or bundle must not be served.
        Retired: none is to serve any more.
    """
    pointer = read_pointer(forecast, root)
    if pointer is None:
        return None
    if pointer.retired is not None:
        raise Retired(f"{forecast} was retired at {pointer.published_at}: {pointer.retired}")
    champion = _load(forecast, pointer, root, attendance, entities)
    if pointer.trial is None:
        return champion
    try:
        return replace(champion, tried=load_second(champion, pointer, pointer.trial, root))
    except BundleError as error:
        return replace(champion, untried=f"version {pointer.trial.version} is not tried: {error}")
    except Exception as error:  # a defect in what reads it must not reach the champion
        reason = f"{type(error).__name__}: {error}"
        return replace(champion, untried=f"version {pointer.trial.version} is not tried: {reason}")


def load_second(champion: Champion, pointer: Pointer, trial: Trial, root: Path | None = None) -> Tried:
    """The version of a trial, proved like a champion.

    Raises:
        BundleError: it must not be used, or does not take and answer what the champion does.
    """
    forecast = champion.manifest.forecast
    named = msgspec.structs.replace(
        pointer, version=trial.version, manifest_sha256=trial.manifest_sha256, provisional=(), trial=None
    )
    second = _load(forecast, named, root, champion.attendance, champion.entities)
    if differences := list(unlike(champion.manifest, second.manifest)):
        raise Unlike(f"it cannot stand in for version {champion.version}: {'; '.join(differences)}")
    one, two = ([field.values for field in of.manifest.inputs] for of in (champion, second))
    return Tried(trial, second, one == two)


class Unlike(BundleError):
    """A version does not take or answer what the champion does."""


def _load(
    forecast: str,
    pointer: Pointer,
    root: Path | None,
    attendance: Attendance | None,
    entities: StoredInputs | None,
) -> Champion:
    """The version that a pointer names.

    Raises:
        BundleError: its bundle must not be served.
    """
    folder = bundle_folder(forecast, pointer.version, root)
    bundle = read_bundle(folder, pointer.manifest_sha256, forecast, root)
    if (bundle.manifest.forecast, bundle.manifest.version) != (forecast, pointer.version):
        raise BundleError(
            f"{folder}: holds version {bundle.manifest.version} of {bundle.manifest.forecast}, "
            f"the pointer names version {pointer.version} of {forecast}"
        )
    revision, uncorrected = None, None
    try:
        revision = revision_of(bundle.manifest, forecast, root)
    except CalibrationError as error:
        uncorrected = str(error)
    try:
        champion = prepare(bundle, pointer, root, attendance, revision, entities)
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    return replace(champion, uncorrected=uncorrected) if uncorrected else champion


def prepare(
    bundle: Bundle,
    pointer: Pointer,
    root: Path | None = None,
    attendance: Attendance | None = None,
    revision: CalibrationRevision | None = None,
    entities: StoredInputs | None = None,
) -> Champion:
    """Session, decoders and answer of a bundle whose model was proved, corrected by a calibration revision.

    Args:
        entities: what is stored of them; by default what the training stored in its file.

    Raises:
        BundleError: the model is not the one that was trained, or the manifest's inputs make no request, or its
            times are none.
    """
    try:
        ages(bundle.manifest, datetime.now(UTC))
    except ValueError as error:  # else it would fail in every answer, and wherever all forecasts are listed
        raise BundleError(f"the manifest's times cannot be read: {error}") from error
    request = request_type(bundle.manifest)
    session = model.prove(bundle)
    number = revision.number if revision else None
    return Champion(
        manifest=revision.manifest(bundle.manifest) if revision else bundle.manifest,
        manifest_sha256=pointer.manifest_sha256,
        generation=pointer.generation,
        provisional=pointer.provisional,
        published_at=pointer.published_at,
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        session=session,
        origin=Origin.of(bundle.manifest, pointer.manifest_sha256, pointer.generation, number),
        limits=limits_of(bundle.manifest),
        request=request,
        answer=answer_type(bundle.manifest, pointer.provisional, number),
        decoder=decoder(request),
        batch_decoder=decoder(list[request]),  # type: ignore[valid-type]
        encoder=RowEncoder(bundle.manifest.inputs),
        entities=entities or Entities(bundle.manifest.forecast, root),
        attendance=attendance or Attendance(bundle.manifest.forecast, root),
        revision=revision,
    )
