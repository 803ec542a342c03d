"""Calibration revisions: what outcomes say about the intervals or probabilities of a champion, without a training.

``<home>/<forecast>/calibrations/<version>-<number>.json`` holds one revision for good; numbers ascend within the
forecast. ``<home>/<forecast>/calibration.json`` names the one in force and the SHA-256 of its file, or none. A revision
is of one model: while another serves, also after a roll-back, it has no effect.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from vroom_api.contract import durable
from vroom_api.contract.bundle import MODEL, forecast_folder, sha256_of
from vroom_api.contract.decoding import decode
from vroom_api.contract.intervals import Calibration, Reliability
from vroom_api.contract.manifest import Manifest
from vroom_api.contract.store import publishing
from vroom_api.contract.struct import ContractStruct

REVISIONS, IN_FORCE = "calibrations", "calibration.json"
LEAST, LARGEST = 0.1, 10.0  # of factors and of the slope: what is off by more needs a training
_EPSILON: Final = 1e-12  # of a probability, whose logit would be infinite


class CalibrationError(Exception):
    """A revision that must not be applied; the message says which file and why."""


class CalibrationMoved(Exception):
    """Another revision was put in force meanwhile, or taken back."""


class Correction(ContractStruct, frozen=True, kw_only=True):
    """How a model's intervals or probabilities are corrected.

    Of numbers, the distances from the prediction to the lower and the upper bound of any level are multiplied. Of
    probabilities, the logit becomes intercept + slope × logit (Platt 1999).
    """

    lower: float = 1.0
    upper: float = 1.0
    intercept: float = 0.0
    slope: float = 1.0

    @property
    def is_sound(self) -> bool:
        """Whether its numbers are within what a correction may be."""
        return (
            all(LEAST <= one <= LARGEST for one in (self.lower, self.upper, self.slope))
            and abs(self.intercept) <= LARGEST
        )

    def probabilities(self, given: np.ndarray) -> np.ndarray:
        """The corrected probabilities for those of the model, shape (n,).

        Not by NumPy's functions: their last digit may depend on how many there are.
        """
        corrected = (self._probability(one) for one in given.tolist())
        return np.fromiter(corrected, np.float64, len(given))

    def of_model(self, corrected: np.ndarray) -> np.ndarray:
        """The probabilities of the model behind corrected ones, shape (n,), but for the last digits."""
        return _expit((_logit(corrected) - self.intercept) / self.slope)

    def _probability(self, given: float) -> float:
        if not 0.0 < given < 1.0:
            return given
        logit = self.intercept + self.slope * math.log(given / (1.0 - given))
        # Of large sizes only the negative one has an exponential that is a number.
        raised = math.exp(-abs(logit))
        return 1.0 / (1.0 + raised) if logit >= 0 else raised / (1.0 + raised)

    def calibration(self, given: Calibration) -> Calibration:
        """The corrected intervals: the same rules over other numbers, so one and many agree as before.

        What holds of the given ones holds of these: whole numbers of a count, the minimum, and a higher level is a
        wider interval.
        """
        if (shares := given.reliability) is not None:
            return msgspec.structs.replace(given, reliability=self._reliability(shares))
        probabilities, quantiles = _with_zero(given.probabilities, given.quantiles)
        scaled = [one * (self.lower if one < 0 else self.upper) for one in quantiles]
        return msgspec.structs.replace(given, probabilities=probabilities, quantiles=scaled)

    def _reliability(self, given: Reliability) -> Reliability:
        """Bins of the same predictions; their shares of yes are corrected as predictions are."""
        shares = [yes / rows if rows else 0.0 for yes, rows in zip(given.yes, given.rows, strict=True)]
        corrected = [self._probability(one) for one in shares]
        return msgspec.structs.replace(
            given,
            edges=[self._probability(one) for one in given.edges],
            predicted=[self._probability(one) for one in given.predicted],
            yes=[share * rows for share, rows in zip(corrected, given.rows, strict=True)],
        )


class CalibrationRevision(Correction, frozen=True, kw_only=True):
    """A correction with its number, whose it is, and what it rests on."""

    number: int  # ascends within the forecast
    version: int  # of the champion that it was made for
    model_sha256: str  # of its model: a version that only says it in other words has the same
    made_at: str  # ISO 8601 UTC
    reason: str  # one sentence for a person
    outcomes: int  # that it rests on
    since: str  # ISO 8601, when the first of these arrived
    until: str  # ISO 8601, when the last of these arrived

    def is_of(self, manifest: Manifest) -> bool:
        return manifest.files.get(MODEL) == self.model_sha256

    def manifest(self, given: Manifest) -> Manifest:
        """The manifest with corrected intervals, those of the fallback too."""
        fallback = given.fallback
        if fallback is not None:
            fallback = msgspec.structs.replace(fallback, calibration=self.calibration(fallback.calibration))
        return msgspec.structs.replace(
            given, calibration=self.calibration(given.calibration), fallback=fallback
        )


class InForce(ContractStruct, frozen=True):
    """The pointer to the revision in force. `generation` grows by one with every revision and reversal."""

    generation: int
    number: int | None  # None: the intervals are those of the bundle
    version: int  # in the name of the revision's file
    sha256: str  # of the revision's file; "" where there is none
    since: str  # ISO 8601 UTC
    reason: str
    restored: bool = False  # whether somebody went back to it, or to none


def revision_file(forecast: str, version: int, number: int, root: Path | None = None) -> Path:
    return forecast_folder(forecast, root) / REVISIONS / f"{version}-{number}.json"


def read_in_force(forecast: str, root: Path | None = None) -> InForce | None:
    """What is in force; None where there never was a revision.

    Raises:
        CalibrationError: the file exists and does not say it.
    """
    path = forecast_folder(forecast, root) / IN_FORCE
    try:
        return decode(durable.read(path), InForce)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: does not name a calibration revision: {error}") from error


def revision_of(manifest: Manifest, forecast: str, root: Path | None = None) -> CalibrationRevision | None:
    """The revision that corrects a champion; None where none is in force, or it is of another model.

    Raises:
        CalibrationError: a file is damaged.
    """
    pointer = read_in_force(forecast, root)
    if pointer is None or pointer.number is None:
        return None
    path = revision_file(forecast, pointer.version, pointer.number, root)
    revision = _decoded(path, _content(path, pointer.sha256))
    return revision if revision.is_of(manifest) else None


def numbered(forecast: str, number: int, root: Path | None = None) -> CalibrationRevision:
    """A revision by its number, whatever is in force.

    Raises:
        CalibrationError: there is none, or it is damaged.
    """
    paths = sorted((forecast_folder(forecast, root) / REVISIONS).glob(f"*-{number}.json"))
    if not paths:
        raise CalibrationError(f"{forecast}: there is no calibration revision {number}")
    return _decoded(paths[0], _content(paths[0]))


def revisions(forecast: str, root: Path | None = None) -> dict[int, CalibrationRevision]:
    """All revisions of a forecast that can be read, by number."""
    found: dict[int, CalibrationRevision] = {}
    for number in _numbers(forecast, root):
        try:
            found[number] = numbered(forecast, number, root)
        except CalibrationError:  # it is reported where it is needed
            continue
    return found


def publish(
    forecast: str, revision: CalibrationRevision, *, generation: int, root: Path | None = None
) -> CalibrationRevision:
    """Keep a revision under the next number and put it in force.

    Args:
        revision: its own number is not read.
        generation: of the pointer that it was decided against, 0 where there was none.

    Returns:
        the revision as it was kept.

    Raises:
        CalibrationError: its numbers are beyond what a correction may be, or the pointer is damaged.
        CalibrationMoved: another one came first.
    """
    if not revision.is_sound:
        raise CalibrationError(f"{forecast}: factors of {revision} are not within {LEAST} to {LARGEST}")
    with publishing(forecast, root):
        _refuse_moved(forecast, generation, root)
        number = max(_numbers(forecast, root), default=0) + 1
        kept = msgspec.structs.replace(revision, number=number)
        content = msgspec.json.format(msgspec.json.encode(kept), indent=1)
        durable.replace(revision_file(forecast, kept.version, number, root), content)
        pointer = _pointer(generation, kept, sha256_of(content), kept.reason)
        durable.replace(forecast_folder(forecast, root) / IN_FORCE, msgspec.json.encode(pointer))
    return kept


def revert(
    forecast: str, number: int | None, reason: str, *, generation: int | None, root: Path | None = None
) -> InForce:
    """Put an earlier revision in force again, or none.

    Args:
        generation: of the pointer that it was decided against, 0 where there was none; None where the pointer is
            damaged and is to be replaced.

    Raises:
        CalibrationError: there is no such revision, or a file is damaged.
        CalibrationMoved: another one came first.
    """
    with publishing(forecast, root):
        if generation is not None:
            _refuse_moved(forecast, generation, root)
        kept, digest = None, ""
        if number is not None:
            kept = numbered(forecast, number, root)
            digest = sha256_of(durable.read(revision_file(forecast, kept.version, number, root)))
        pointer = _pointer(generation or 0, kept, digest, reason, restored=True)
        durable.replace(forecast_folder(forecast, root) / IN_FORCE, msgspec.json.encode(pointer))
    return pointer


def _pointer(
    generation: int, revision: CalibrationRevision | None, digest: str, reason: str, *, restored: bool = False
) -> InForce:
    return InForce(
        generation=generation + 1,
        number=revision.number if revision else None,
        version=revision.version if revision else 0,
        sha256=digest,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
        restored=restored,
    )


def _refuse_moved(forecast: str, generation: int, root: Path | None) -> None:
    pointer = read_in_force(forecast, root)
    present = pointer.generation if pointer else 0
    if present != generation:
        raise CalibrationMoved(
            f"{forecast}: another calibration revision was put in force or taken back meanwhile (generation {present}, "
            f"this one was decided against {generation})"
        )


def _numbers(forecast: str, root: Path | None) -> list[int]:
    names = (path.stem for path in (forecast_folder(forecast, root) / REVISIONS).glob("[0-9]*-[0-9]*.json"))
    return sorted(int(number) for _, _, number in (name.partition("-") for name in names))


def _content(path: Path, digest: str | None = None) -> bytes:
    try:
        content = durable.read(path)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    if digest is not None and sha256_of(content) != digest:
        raise CalibrationError(
            f"{path}: its SHA-256 is not the published one; the file is damaged or incomplete"
        )
    return content


def _decoded(path: Path, content: bytes) -> CalibrationRevision:
    try:
        revision = decode(content, CalibrationRevision)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: not a calibration revision: {error}") from error
    if not revision.is_sound:
        raise CalibrationError(f"{path}: its factors are not within {LEAST} to {LARGEST}")
    return revision


def _with_zero(probabilities: list[float], quantiles: list[float]) -> tuple[list[float], list[float]]:
    """The points of a quantile function with that in which it crosses 0: what is scaled by two factors bends there."""
    for right in range(1, len(quantiles)):
        low, high = quantiles[right - 1], quantiles[right]
        if low < 0 < high:
            start, end = probabilities[right - 1], probabilities[right]
            crossing = start + low / (low - high) * (end - start)
            if start < crossing < end:
                return (
                    [*probabilities[:right], crossing, *probabilities[right:]],
                    [*quantiles[:right], 0.0, *quantiles[right:]],
                )
    return probabilities, quantiles


def _logit(given: np.ndarray) -> np.ndarray:
    inside = np.clip(given, _EPSILON, 1.0 - _EPSILON)
    logits: np.ndarray = np.log(inside / (1.0 - inside))
    return logits


def _expit(logits: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = 1.0 / (1.0 + np.exp(-logits))
    return probabilities
