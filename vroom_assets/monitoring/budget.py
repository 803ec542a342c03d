"""How the probability of a false alarm is shared among all that is watched.

The sum over everything is what is declared, so that holds for the forecast as a whole (Bonferroni), over all windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REFERENCE = 0.3  # of it, for the error that the reference itself is a sample; the rest for live rows
DRIFT, ERROR, CALIBRATION = 0.35, 0.35, 0.3


@dataclass(frozen=True)
class Allowance:
    """The part of one subject. reference: for bounds of the reference. live: of its evidence."""

    reference: float
    live: float

    @property
    def threshold(self) -> float:
        """The log evidence from which on there is an alarm."""
        return math.log(1.0 / self.live)


def allowance(false_alarms: float, family: float, subjects: int) -> Allowance:
    """That of one of several subjects.

    Args:
        family: share of the family that they belong to, e.g. `DRIFT`.
    """
    mine = false_alarms * family / max(subjects, 1)
    return Allowance(REFERENCE * mine, (1.0 - REFERENCE) * mine)
