"""How long a row took the candidates that were fitted in this process: what is to be expected of their next fits.

It decides where a fit is made and never what it gives.
"""

from __future__ import annotations

from vroom_assets.spec import Candidate

_seconds: dict[str, float] = {}  # of a training row, on one core


def key_of(candidate: Candidate) -> str:
    """What tells candidates of different cost apart."""
    return repr(candidate)


def note(key: str, rows: int, seconds: float) -> None:
    """Remember a fit of so many rows. The quickest counts: others waited for an import, or for whom else the machine served."""
    _seconds[key] = min(_seconds.get(key, float("inf")), seconds / max(rows, 1))


def expected(key: str, rows: int) -> float:
    """Seconds that a fit of so many rows takes; 0 of what was never fitted."""
    return _seconds.get(key, 0.0) * rows
