"""What follows from an evaluation: checks that are kept, an entry of the ledger where the verdict is another one, an alert."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sqlalchemy as sa

from vroom_api.contract import Manifest
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.checks import Check, enter_checks
from vroom_api.contract.events import Decision, Evaluated
from vroom_api.contract.tables import enter_ledger
from vroom_assets.ledger import latest_evidence
from vroom_assets.monitoring.evaluation import Evaluation, Verdict

DECISIONS = {
    Verdict.NOT_ENOUGH_DATA: Decision.UNKNOWN,
    Verdict.HEALTHY: Decision.HEALTHY,
    Verdict.DATA_DRIFT: Decision.DRIFTED,
    Verdict.CONCEPT_DRIFT: Decision.DECAYED,
    Verdict.DECAY: Decision.DECAYED,
    Verdict.MISCALIBRATED: Decision.MISCALIBRATED,
}
ALERTS = {
    Verdict.DATA_DRIFT: "drift",
    Verdict.CONCEPT_DRIFT: "decay",
    Verdict.DECAY: "decay",
    Verdict.MISCALIBRATED: "miscalibrated",
}
REMEDIES = {
    "drift": "What to do: see on the page of the asset `drift` what has moved, and whether callers still send what they mean.",
    "decay": "What to do: check that the outcomes are right, and bring the sources up to date, so that a training learns from them.",
    "miscalibrated": "What to do: nothing, where `monitoring.recalibrate` corrects intervals from outcomes; else train.",
}


def act(
    database: sa.Engine,
    manifest: Manifest,
    evaluation: Evaluation,
    more: Sequence[Check],
    window_end: str,
    actor: str,
    run_id: str,
) -> bool:
    """Keep the checks, enter a verdict that is another one than before, raise its alert and close those that are over.

    Doing it again changes nothing but how often an alert was seen.

    Args:
        manifest: of the version that serves.
        more: checks beside those of the evaluation.
        window_end: of the latest closed window, ISO 8601.

    Returns:
        whether the verdict is another one.
    """
    with database.begin() as connection:
        enter_checks(connection, [*evaluation.checks, *more])
    evidence = Evaluated(
        version=manifest.version,
        verdict=evaluation.verdict.value,
        harmful=evaluation.harmful,
        damage=evaluation.damage,
        window_end=window_end,
        numbers={
            name: float(value)
            for name, value in evaluation.numbers.items()
            if isinstance(value, int | float) and math.isfinite(value)
        },
    )
    changed = is_another(latest_evidence(database, manifest.forecast, Evaluated), evidence)
    if changed:
        enter_ledger(
            database,
            forecast=manifest.forecast,
            actor=actor,
            decision=DECISIONS[evaluation.verdict],
            reason=f"{evaluation.verdict.value}: {evaluation.sentence}",
            evidence=evidence,
            run_id=run_id,
        )
    _alert(database, manifest, evaluation, evidence)
    return changed


def is_another(before: Evaluated | None, now: Evaluated) -> bool:
    """Whether a verdict is news. That of a version of which nothing is known yet is none after another such version."""
    if before is None:
        return True
    if (before.verdict, before.harmful) != (now.verdict, now.harmful):
        return True
    return before.version != now.version and now.verdict != Verdict.NOT_ENOUGH_DATA


def _alert(database: sa.Engine, manifest: Manifest, evaluation: Evaluation, evidence: Evaluated) -> None:
    own = ALERTS.get(evaluation.verdict)
    if own is not None:
        raise_alert(
            database,
            forecast=manifest.forecast,
            kind=own,
            severity=Severity.CRITICAL if evaluation.harmful else Severity.WARNING,
            message=f"{evaluation.sentence} {REMEDIES[own]}",
            evidence={
                "version": evidence.version,
                "verdict": evidence.verdict,
                "window_end": evidence.window_end,
                **evidence.numbers,
            },
        )
    for kind in sorted(set(ALERTS.values()) - {own}):
        resolve_alert(database, forecast=manifest.forecast, kind=kind)
