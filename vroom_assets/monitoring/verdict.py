"""The verdict over a version, and whether it calls for a training."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from vroom_assets.spec import Monitoring

if TYPE_CHECKING:  # it needs pandas, and what decides about a training only needs the words
    from vroom_assets.monitoring.watch import Watch


class Verdict(StrEnum):
    """The state of a champion."""

    NOT_ENOUGH_DATA = "not enough data"
    HEALTHY = "healthy"
    DATA_DRIFT = "data drift"  # inputs moved, and the error with them as far as they explain it
    CONCEPT_DRIFT = "concept drift"  # the same inputs have other outcomes
    DECAY = "decay"  # the error grew, and neither of the two is shown
    MISCALIBRATED = "miscalibrated"  # the error is fine, intervals or probabilities are off


def judge(found: Watch, rules: Monitoring) -> Verdict:
    """The verdict, by rules that stand here alone.

    - Error or bias in alarm while the inputs are not: concept drift, where the error is not what the inputs explain or there
      is a bias; else decay.
    - Both in alarm: data drift, where the error is what the inputs explain; concept drift, where it is not; decay, where that
      cannot be known.
    - Inputs or predictions in alarm alone: data drift.
    - Intervals or probabilities alone: miscalibrated, unless the recent outcomes are biased or worse than inputs explain. Then
      it is a concept drift that intervals have seen before the mean of the errors did.
    """
    if not _is_enough(found, rules):
        return Verdict.NOT_ENOUGH_DATA
    moved, explained = found.in_alarm("drift"), found.is_explained
    if found.in_alarm("error", "bias"):
        if moved:
            return {True: Verdict.DATA_DRIFT, False: Verdict.CONCEPT_DRIFT, None: Verdict.DECAY}[explained]
        if explained is False or found.in_alarm("bias"):
            return Verdict.CONCEPT_DRIFT
        return Verdict.DECAY
    if moved:
        return Verdict.DATA_DRIFT
    if found.in_alarm("coverage", "calibration"):
        return Verdict.CONCEPT_DRIFT if explained is False or found.is_biased else Verdict.MISCALIBRATED
    return Verdict.HEALTHY


def _is_enough(found: Watch, rules: Monitoring) -> bool:
    return bool(
        max(found.windows.predicted.sum(), found.windows.observed.sum()) >= rules.least_rows
        and any(one.recent.enough[-1] for one in (*found.drifts, *found.decays))
    )


def is_harmful(found: Watch, rules: Monitoring, verdict: Verdict) -> bool:
    """Whether a training is called for: the error has grown or predictions are biased, or drift is estimated to cost enough."""
    if verdict is Verdict.NOT_ENOUGH_DATA:
        return False
    if verdict in (Verdict.CONCEPT_DRIFT, Verdict.DECAY) or found.in_alarm("error", "bias"):
        return True
    return any(one.share >= rules.damage for one in found.harmful_damages)


def damage_of(found: Watch) -> float | None:
    """The largest damage of a feature in alarm, 0 without one; None where most is unknown."""
    if found.live is None or found.live.is_blind:
        return None
    moved = {one.name for one in found.drifts if one.now}
    return max((one.share for one in found.damages if one.name in moved), default=0.0)
