"""Attendance: whether something still looks after a forecast."""

import time
from datetime import UTC, datetime
from pathlib import Path

from vroom_api.contract.heartbeat import Heartbeat, latest_beat

MIN_PATIENCE = 60.0  # seconds without a check of the sources
MISSED_CHECKS = 3  # of a sensor that checks seldom


class Attendance:
    """What the heartbeat of a forecast's sensor says.

    A forecast without any heartbeat, e.g. one trained by hand, is not meant to renew itself. A service that has just
    started waits as long as one that runs: everything else starts with it.

    Args:
        expected: whether the automation is meant to run at all.
    """

    def __init__(self, forecast: str, root: Path | None = None, *, expected: bool = True) -> None:
        self._forecast = forecast
        self._root = root
        self._expected = expected
        self._began = time.time()
        self._latest: Heartbeat | None = None

    def refresh(self) -> None:
        """Read the heartbeat."""
        self._latest = latest_beat(self._forecast, self._root)

    @property
    def attended_at(self) -> str | None:
        """When the sources were last checked, ISO 8601; None where they never were."""
        return None if self._latest is None else _iso(self._latest.checked_at)

    @property
    def trouble(self) -> str:
        """Why what is newest is not trained; "" where nothing says so."""
        return self._latest.trouble if self._latest is not None and self._expected else ""

    @property
    def unattended_since(self) -> str | None:
        """The latest check, where the next one is overdue; else None."""
        return self.unattended_at(time.time())

    def unattended_at(self, now: float) -> str | None:
        """As `unattended_since`, at a time in seconds since the epoch."""
        latest = self._latest
        if latest is None or not self._expected:
            return None
        patience = max(MIN_PATIENCE, MISSED_CHECKS * latest.every_s)
        overdue = now - max(latest.checked_at, self._began) > patience
        return _iso(latest.checked_at) if overdue else None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
