"""Calibration revisions of the champion: published from outcomes, and taken back by an operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pandas as pd

from vroom_api.contract import (
    MODEL,
    BundleError,
    Manifest,
    Pointer,
    manifest_of,
    read_pointer,
)
from vroom_api.contract.calibrations import (
    CalibrationError,
    CalibrationMoved,
    CalibrationRevision,
    Correction,
    InForce,
    numbered,
    publish,
    read_in_force,
    revert,
    revision_of,
    revisions,
)
from vroom_api.contract.events import Decision, Recalibrated
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets.monitoring import closing, feedback
from vroom_assets.monitoring.recalibration import AT_MOST, InUse, Proposal, feedback_of, propose
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class NotReverted(Exception):
    """Another revision cannot be put in force; the message says why."""


@dataclass(frozen=True)
class Recalibration:
    """What came of a champion's outcomes.

    proposal: the correction that they ask for, or why they ask for none.
    revision: what was published; None where nothing was.
    """

    proposal: Proposal
    revision: CalibrationRevision | None = None


def follow_outcomes(
    spec: ForecastSpec, connection: DuckDBPyConnection, *, actor: str, run_id: str | None = None
) -> Recalibration:
    """Correct the champion by all outcomes that the warehouse has of its model, where they ask for it.

    Args:
        connection: to the forecast's warehouse, in which predictions and outcomes were joined.
    """
    try:
        manifest = _serving(spec.name)
    except BundleError as error:
        return _nothing(str(error))
    if manifest is None:
        return _nothing(f"{spec.name} has no champion that could be corrected")
    known = connection.execute("select distinct version from monitoring.predictions").fetchall()
    versions = [version for (version,) in known if _has_model(spec.name, version, manifest)]
    ids = closing.ids_with_outcomes(connection, spec, versions, AT_MOST)
    rows = feedback.read(connection, manifest, ids=ids, with_outcome=True)
    return recalibrate(spec, rows, actor=actor, run_id=run_id)


def recalibrate(
    spec: ForecastSpec, rows: pd.DataFrame, *, actor: str, run_id: str | None = None, root: Path | None = None
) -> Recalibration:
    """Correct the intervals or probabilities of the champion, where its outcomes ask for it and the declaration allows it.

    Args:
        rows: feedback of the model that serves, as `recalibration.feedback_of` needs it; where they have a `version`, those
            of other models are left out.
        actor: for the ledger.
    """
    try:
        manifest = _serving(spec.name, root)
    except BundleError as error:
        return _nothing(str(error))
    if manifest is None:
        return _nothing(f"{spec.name} has no champion that could be corrected")
    if "version" in rows:
        other = [one for one in rows["version"].unique() if not _has_model(spec.name, one, manifest, root)]
        rows = rows[~rows["version"].isin(other)]
    try:
        pointer = read_in_force(spec.name, root)
        present = revision_of(manifest, spec.name, root)
    except CalibrationError as error:
        return _nothing(f"{error}; go back to a revision or to none by the job {spec.name}_recalibrate")
    restored_at = pointer.since if pointer is not None and pointer.restored else ""
    given = feedback_of(manifest, rows, revisions(spec.name, root))
    proposal = propose(manifest, spec.monitoring, given, InUse.of(present, restored_at))
    if proposal.correction is None or not spec.monitoring.recalibrate:
        return Recalibration(proposal)
    revision = CalibrationRevision(
        number=0,
        version=manifest.version,
        model_sha256=manifest.files[MODEL],
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=proposal.sentence,
        outcomes=proposal.outcomes,
        since=proposal.since,
        until=proposal.until,
        **msgspec.structs.asdict(proposal.correction),
    )
    generation = pointer.generation if pointer else 0
    try:
        revision = publish(spec.name, revision, generation=generation, root=root)
    except CalibrationMoved as error:
        return _nothing(str(error))
    _enter(
        spec.name,
        Decision.RECALIBRATED,
        f"calibration revision {revision.number} of version {revision.version}: {proposal.sentence}",
        _evidence(manifest.version, present.number if present else None, revision, proposal.numbers),
        actor,
        run_id,
    )
    return Recalibration(proposal, revision)


def go_back(
    forecast: str,
    number: int | None,
    reason: str,
    *,
    actor: str,
    run_id: str | None = None,
    root: Path | None = None,
) -> InForce:
    """Put an earlier revision of the champion in force again, or none.

    Raises:
        NotReverted: there is no such revision, it is of another model, or another one came first.
    """
    serving = read_pointer(forecast, root)
    if serving is None:
        raise NotReverted(f"{forecast}: nothing was ever published")
    before: InForce | None = None
    generation: int | None = 0
    try:
        before = read_in_force(forecast, root)
        generation = before.generation if before else 0
    except CalibrationError:  # what is damaged is replaced
        generation = None
    try:
        revision = _own(forecast, number, serving, root) if number is not None else None
        pointer = revert(forecast, number, reason, generation=generation, root=root)
    except (BundleError, CalibrationError, CalibrationMoved) as error:
        raise NotReverted(str(error)) from error
    what = (
        "no calibration revision is in force any more"
        if number is None
        else f"calibration revision {number} is in force again"
    )
    _enter(
        forecast,
        Decision.REVERTED,
        f"{what}: {reason}",
        _evidence(serving.version, before.number if before else None, revision, {}),
        actor,
        run_id,
    )
    return pointer


def _own(forecast: str, number: int, serving: Pointer, root: Path | None) -> CalibrationRevision:
    """A revision of the model that serves.

    Raises:
        NotReverted: it is of another model.
        CalibrationError: there is none, or it is damaged.
    """
    manifest, revision = (
        manifest_of(forecast, serving.version, root, sha256=serving.manifest_sha256),
        numbered(forecast, number, root),
    )
    if not revision.is_of(manifest):
        own = [one for one, known in revisions(forecast, root).items() if known.is_of(manifest)]
        raise NotReverted(
            f"{forecast}: calibration revision {number} is of another model than version {serving.version}; its own are "
            f"{', '.join(map(str, own)) or 'none'}"
        )
    return revision


def _has_model(forecast: str, version: int, manifest: Manifest, root: Path | None = None) -> bool:
    """Whether a version has the model of a manifest, maybe in other words."""
    if version == manifest.version:
        return True
    try:
        return manifest_of(forecast, version, root).files.get(MODEL) == manifest.files[MODEL]
    except BundleError:
        return False


def _serving(forecast: str, root: Path | None = None) -> Manifest | None:
    """The manifest of what serves, as its bundle has it; None where nothing does.

    Raises:
        BundleError: pointer or manifest is damaged.
    """
    pointer = read_pointer(forecast, root)
    return (
        None
        if pointer is None or pointer.retired is not None
        else manifest_of(forecast, pointer.version, root, sha256=pointer.manifest_sha256)
    )


def _evidence(
    version: int, before: int | None, after: CalibrationRevision | None, numbers: dict[str, float]
) -> Recalibrated:
    parts = Correction.__struct_fields__
    return Recalibrated(
        version=version,
        before=before,
        after=after.number if after else None,
        outcomes=after.outcomes if after else 0,
        numbers=numbers,
        **({name: getattr(after, name) for name in parts} if after else {}),
    )


def _enter(
    forecast: str, decision: Decision, reason: str, evidence: Recalibrated, actor: str, run_id: str | None
) -> None:
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=forecast,
            actor=actor,
            decision=decision,
            reason=reason,
            evidence=evidence,
            run_id=run_id,
        )


def _nothing(why: str) -> Recalibration:
    return Recalibration(Proposal(None, why))
