"""Lineage: from a prediction back to the bytes of the CSVs, each step checked again.

prediction → champion (bundle) → MLflow run → Dagster run → data version → snapshots. The record holds the
digest of the manifest that answered; the manifest holds the digests of the bundle's files and of the
snapshots that it was trained on; the model of the bundle, corrected by the calibration revision that the record
names, must still give the recorded features, value and interval. What this service cannot check (the runs live in MLflow and Dagster) it says so.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnxruntime
import sqlalchemy as sa

from vroom_api.contract import (
    GOLDEN,
    MANIFEST,
    MODEL,
    BundleError,
    Golden,
    Manifest,
    bundle_folder,
    durable,
    forecast_folder,
    home,
    read_manifest,
    read_pointer,
    sha256_of,
)
from vroom_api.contract.calibrations import CalibrationError, CalibrationRevision, numbered
from vroom_api.contract.decoding import decode
from vroom_api.contract.model import open_model, score
from vroom_api.record.history import Filter, Recorded, page, pieces, prediction

EVERYTHING = Filter()
_MAX_FAILURES = 100
_INTERVAL_TOLERANCE = 1e-9  # relative; bounds are integers or two multiplications away from the value


class Step(msgspec.Struct, frozen=True):
    """One step of the chain. `verified` is null where only the name is known here; `problem` says what failed."""

    step: Literal[
        "prediction", "calibration", "champion", "mlflow_run", "dagster_run", "data_version", "snapshot"
    ]
    name: str
    verified: bool | None
    checked: str
    problem: str | None = None


class Lineage(msgspec.Struct, frozen=True):
    """A prediction, the chain behind it, and whether all of it still holds."""

    verified: bool
    failed: list[str]  # one sentence per check that failed
    prediction: Recorded
    chain: list[Step]
    trained_at: str | None
    data_as_of: str | None
    code_version: str | None
    libraries: dict[str, str]


class Failure(msgspec.Struct, frozen=True):
    """A prediction that did not verify, and why."""

    prediction_id: str
    failed: list[str]


class Audit(msgspec.Struct, frozen=True):
    """The result of verifying many predictions."""

    verified: int
    not_verified: int
    failures: list[Failure]  # the first hundred
    oldest: datetime | None  # how far back it went
    complete: bool  # false where the bound cut it short


class _Champion(msgspec.Struct, frozen=True):
    """A bundle as it is on disk now, checked once for all predictions that came from it."""

    steps: list[Step]
    manifest: Manifest | None
    tolerance: float
    session: onnxruntime.InferenceSession | None


class _Calibration(msgspec.Struct, frozen=True):
    """The revision that corrected predictions, as it is on disk now; no steps where none did."""

    steps: list[Step]
    revision: CalibrationRevision | None


def verify(engine: sa.Engine, identifier: str, root: Path | None = None) -> Lineage:
    """The chain behind one prediction, every step checked against what is on disk now.

    Args:
        engine: of the serving database.
        identifier: of the prediction.
        root: the home with bundles and snapshots; VROOM_HOME where it is not given.

    Raises:
        UnknownPrediction: the record does not hold it.
    """
    recorded = prediction(engine, identifier)
    champion = _check_champion(recorded.forecast, recorded.version, recorded.manifest_sha256, root or home())
    calibration = _check_calibration(recorded, champion, root or home())
    first = _check_prediction(recorded, champion, calibration)
    chain = [first, *calibration.steps, *champion.steps]
    failed = [step.problem for step in chain if step.problem is not None]
    manifest = champion.manifest
    return Lineage(
        verified=not failed,
        failed=failed,
        prediction=recorded,
        chain=chain,
        trained_at=manifest.trained_at if manifest else None,
        data_as_of=manifest.data_as_of if manifest else None,
        code_version=manifest.code_version if manifest else None,
        libraries=manifest.libraries if manifest else {},
    )


def verify_all(
    engine: sa.Engine, wanted: Filter = EVERYTHING, *, limit: int = 100_000, root: Path | None = None
) -> Audit:
    """Verify predictions, newest first and at most so many; files of a champion are read once."""
    champions: dict[tuple[str, int, str], _Champion] = {}
    calibrations: dict[tuple[str, int, str, int | None], _Calibration] = {}
    verified = not_verified = 0
    failures: list[Failure] = []
    oldest: Recorded | None = None
    for piece in pieces(engine, wanted, maximum=limit):
        for recorded in piece:
            key = recorded.forecast, recorded.version, recorded.manifest_sha256
            if key not in champions:
                champions[key] = _check_champion(*key, root or home())
            champion = champions[key]
            by = *key, recorded.calibration
            if by not in calibrations:
                calibrations[by] = _check_calibration(recorded, champion, root or home())
            calibration = calibrations[by]
            first = _check_prediction(recorded, champion, calibration)
            steps = [first, *calibration.steps, *champion.steps]
            failed = [step.problem for step in steps if step.problem is not None]
            verified += not failed
            not_verified += bool(failed)
            if failed and len(failures) < _MAX_FAILURES:
                failures.append(Failure(recorded.id, failed))
        oldest = piece[-1]
    rest = page(engine, wanted, before=oldest.id, size=1).predictions if oldest else []
    return Audit(verified, not_verified, failures, oldest.time if oldest else None, not rest)


def _check_champion(forecast: str, version: int, manifest_sha256: str, root: Path) -> _Champion:
    """Check a bundle, and the snapshots that its manifest names."""
    folder = bundle_folder(forecast, version, root)
    name = f"{forecast} version {version}"
    problems: list[str] = []
    steps: list[Step] = []
    manifest: Manifest | None = None
    session: onnxruntime.InferenceSession | None = None
    tolerance = 0.0
    content = _read(folder / MANIFEST, root, manifest_sha256, "the one that was recorded", problems)
    if content is not None:
        try:
            manifest = read_manifest(content, _relative(folder / MANIFEST, root))
        except BundleError as error:
            problems.append(str(error))
    if manifest is not None:
        files = {
            file: _read(folder / file, root, digest, "the manifest's", problems)
            for file, digest in manifest.files.items()
        }
        model, golden = files.get(MODEL), files.get(GOLDEN)
        if model is not None and golden is not None:
            try:
                tolerance = decode(golden, Golden).tolerance
                session = open_model(model)
            except (BundleError, msgspec.MsgspecError) as error:
                problems.append(f"{_relative(folder, root)}: cannot be loaded: {error}")
    _check_pointer(forecast, version, manifest_sha256, root, problems)
    steps.append(
        Step(
            "champion",
            name,
            not problems,
            "manifest against the digest recorded with the prediction, every file against the manifest",
            "; ".join(problems) or None,
        )
    )
    if manifest is not None:
        steps += _training(manifest)
        steps += [_check_snapshot(forecast, root, *item) for item in sorted(manifest.snapshots.items())]
    return _Champion(steps, manifest, tolerance, session)


def _check_calibration(recorded: Recorded, champion: _Champion, root: Path) -> _Calibration:
    """Read the revision that the record names. That it is the one is shown by the interval, which it has to give."""
    if recorded.calibration is None:
        return _Calibration([], None)
    revision, problem = None, None
    try:
        revision = numbered(recorded.forecast, recorded.calibration, root)
        if champion.manifest is not None and not revision.is_of(champion.manifest):
            revision, problem = (
                None,
                f"{recorded.forecast}: calibration revision {recorded.calibration} is of another model",
            )
    except CalibrationError as error:
        problem = str(error).replace(f"{root}{os.sep}", "")
    checked = "it is of the champion's model, and gives the recorded interval"
    step = Step("calibration", str(recorded.calibration), problem is None, checked, problem)
    return _Calibration([step], revision)


def _check_pointer(
    forecast: str, version: int, manifest_sha256: str, root: Path, problems: list[str]
) -> None:
    """While the version serves, the pointer must name the manifest that answered."""
    try:
        pointer = read_pointer(forecast, root)
    except BundleError:
        return  # says nothing about this prediction; the service reports it by itself
    if pointer is not None and pointer.version == version and pointer.manifest_sha256 != manifest_sha256:
        problems.append(
            f"{forecast}: the pointer names another manifest of version {version} than the one that was recorded"
        )


def _training(manifest: Manifest) -> list[Step]:
    named = "named by the manifest; see there for the rest"
    return [
        Step("mlflow_run", manifest.mlflow_run_id, None, named),
        Step("dagster_run", manifest.dagster_run_id, None, named),
        Step(
            "data_version",
            manifest.data_version,
            None,
            "named by the manifest: its snapshots follow, its definitions are those of the code version",
        ),
    ]


def _check_snapshot(forecast: str, root: Path, source: str, digest: str) -> Step:
    """A copy of the CSV with this digest; or a list of several with it, and each of these copies."""
    folder = forecast_folder(forecast, root) / "snapshots"
    files = [(folder / f"{digest}.csv", digest)]
    listed = folder / f"{digest}.sha256"
    problem = None
    try:
        if listed.is_file():
            digests = [line.split(b"  ")[0].decode() for line in durable.read(listed).splitlines()]
            files = [(listed, digest), *((folder / f"{one}.csv", one) for one in digests)]
        for path, expected in files:
            with durable.opened(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                problem = f"snapshot of {source}, {_relative(path, root)}: its bytes are not those that were trained on"
                break
    except (OSError, UnicodeDecodeError) as error:
        path = Path(getattr(error, "filename", None) or listed)
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        problem = f"snapshot of {source}, {_relative(path, root)}: cannot be read: {reason}"
    return Step("snapshot", digest, problem is None, f"SHA-256 of the bytes of {source}", problem)


def _check_prediction(recorded: Recorded, champion: _Champion, calibration: _Calibration) -> Step:
    """Score the recorded inputs again and compare all that was answered."""
    problems = list(_differences(recorded, champion, calibration.revision))
    return Step(
        "prediction",
        recorded.id,
        not problems,
        "features, value and interval computed again from the recorded inputs by the bundle's model",
        f"prediction {recorded.id}: {'; '.join(problems)}" if problems else None,
    )


def _differences(
    recorded: Recorded, champion: _Champion, revision: CalibrationRevision | None
) -> Iterable[str]:
    manifest, session = champion.manifest, champion.session
    if manifest is None or session is None:
        yield "cannot be scored again without its champion"
        return
    if recorded.data_version != manifest.data_version:
        yield "its data version is not its champion's"
    if set(recorded.inputs) != {field.name for field in manifest.inputs}:
        yield "its inputs are not its champion's"
        return
    try:
        inputs = np.array([field.encoded(recorded.inputs[field.name]) for field in manifest.inputs])
    except ValueError as error:
        yield f"an input is not one that its champion takes: {error}"
        return
    value, features = score(session, inputs.reshape(1, -1))
    wanted = _numbers([recorded.features.get(field.name) for field in manifest.features])
    computed = np.where(np.isfinite(features[0]), features[0], np.nan)  # JSON has no infinity
    if set(recorded.features) != {field.name for field in manifest.features} or not np.allclose(
        wanted, computed, rtol=champion.tolerance, atol=1e-9, equal_nan=True
    ):
        yield "its features are not those of its inputs"
    if recorded.calibration is not None:
        if revision is None:
            yield "its interval cannot be computed again without its calibration revision"
            return
        manifest = revision.manifest(manifest)
        if manifest.kind.is_probability:
            value = revision.probabilities(value)
    if not math.isclose(recorded.value, float(value[0]), rel_tol=champion.tolerance, abs_tol=1e-9):
        yield f"its value was recorded as {recorded.value!r}, the model gives {float(value[0])!r}"
    interval = manifest.calibration_of(inputs.tolist()).interval(recorded.value, recorded.level)
    for bound, found, expected in (
        ("low", recorded.low, interval.low),
        ("high", recorded.high, interval.high),
    ):
        if not math.isclose(found, expected, rel_tol=_INTERVAL_TOLERANCE, abs_tol=_INTERVAL_TOLERANCE):
            yield f"its {bound} was recorded as {found!r}, the calibration gives {expected!r}"


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)


def _read(path: Path, root: Path, digest: str, whose: str, problems: list[str]) -> bytes | None:
    """The content of a file if its SHA-256 is the expected one; else None and one more problem."""
    try:
        content = durable.read(path)
    except OSError as error:
        problems.append(f"{_relative(path, root)}: cannot be read: {error.strerror}")
        return None
    if sha256_of(content) != digest:
        problems.append(f"{_relative(path, root)}: its SHA-256 is not {whose}")
        return None
    return content


def _relative(path: Path, root: Path) -> str:
    """A path as callers may see it: below the home, never the machine's own."""
    return str(path.relative_to(root))
