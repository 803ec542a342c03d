"""What the closed windows of a champion say about it: checks, a verdict, and the sentence that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vroom_api.contract.checks import Check


class Verdict(StrEnum):
    """The state of a champion."""

    NOT_ENOUGH_DATA = "not enough data"
    HEALTHY = "healthy"
    DATA_DRIFT = "data drift"  # inputs moved, and the error with them as far as they explain it
    CONCEPT_DRIFT = "concept drift"  # the same inputs have other outcomes
    DECAY = "decay"  # the error grew, and neither of the two is shown
    MISCALIBRATED = "miscalibrated"  # the error is fine, intervals or probabilities are off


@dataclass(frozen=True)
class Evaluation:
    """What was found after the latest closed window.

    verdict: the state of the champion.
    sentence: why, as a host understands it.
    checks: those of the latest window, with their numbers.
    harmful: whether a training is called for by drift (`damage` is large enough) or by decay.
    damage: estimated growth of the error by drift, as a share of the reference error; None where it is not known.
    numbers: for the ledger and for metadata, by name.
    """

    verdict: Verdict
    sentence: str
    checks: tuple[Check, ...] = ()
    harmful: bool = False
    damage: float | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
