"""The guard of a service: finds what is wrong, keeps the alerts about it, and knows what is open.

It works beside the requests, at a rhythm of its own. Several services may guard the same forecasts: they raise the
same alerts, and one that is seen by any of them stays open. An alert is over once none has seen it for a while, so
that what comes and goes, and a service that has just started, closes and opens nothing.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from vroom_api.alerting.conditions import KINDS, Condition, conditions
from vroom_api.alerting.delivery import Delivery
from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.alerts import DECLARATION, REQUESTED, RUN_FAILED, Severity, raise_alert, resolve_alert
from vroom_api.contract.heartbeat import latest_beat
from vroom_api.contract.tables import UnusableDatabase
from vroom_api.record.alerts import Alert, Wanted, list_alerts, undelivered
from vroom_api.record.monitoring import LiveVerdict, MadeCheck, latest_checks, latest_verdict, mark

log = logging.getLogger(__name__)

CHECKS_PER_PERIOD: Final = 10  # of the pointers, which are far cheaper
MIN_PERIOD: Final = 0.2  # seconds
LONGEST_PERIOD: Final = 30.0
SEEN_EVERY: Final = timedelta(
    seconds=30
)  # an alert that is still there is written so often, and not at every check
OVER_AFTER: Final = timedelta(seconds=90)  # without anybody who has seen it
FORGOTTEN_AFTER: Final = timedelta(hours=1)  # a declaration whose folder is gone
MAX_OPEN: Final = 10_000


@dataclass(frozen=True)
class Findings:
    """What the latest check found: what metrics are made of."""

    open: Mapping[tuple[str, str], int] = field(default_factory=dict)  # forecast, severity -> alerts
    undelivered: int = 0
    verdicts: Mapping[str, LiveVerdict] = field(default_factory=dict)  # by forecast
    checks: tuple[MadeCheck, ...] = ()  # the latest of each kind, of the versions that serve
    mark: tuple[object, ...] = ()  # what verdicts and checks were read at


class Guard:
    """Checks all forecasts of a service and sends alerts, as long as `on_duty` is open.

    Args:
        root: the home.
        watch_seconds: between two checks of the pointers; the guard's period is ten of them, 0.2 to 30 s.
        clock: the time, aware.
    """

    def __init__(
        self,
        database: Callable[[], sa.Engine],
        forecasts: Forecasts,
        delivery: Delivery,
        root: Path,
        watch_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._forecasts = forecasts
        self._delivery = delivery
        self._root = root
        self._clock = clock
        self.period = min(max(CHECKS_PER_PERIOD * watch_seconds, MIN_PERIOD), LONGEST_PERIOD)
        self.findings = Findings()
        self._troubles: dict[str, str] = {}  # what the latest round of each task failed with

    def check(self) -> Findings:
        """Raise what is wrong, resolve what is over, and read what there is; for a thread.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, UnusableDatabase: the database does not answer.
        """
        now, engine = self._clock(), self._database()
        found = {one.key: one for watch in self._forecasts for one in conditions(watch, now)}
        with engine.connect() as connection:
            known = {_key(alert): alert for alert in _open_alerts(connection)}
        for key, condition in found.items():
            if _is_news(condition, known.get(key), now):
                _raise(engine, condition, now)
        for key, alert in known.items():
            if key not in found and self._is_over(alert, now):
                resolve_alert(
                    engine, forecast=alert.forecast, kind=alert.kind, subject=alert.subject, now=now
                )
        self.findings = self._read(engine)
        return self.findings

    def _is_over(self, alert: Alert, now: datetime) -> bool:
        """Whether an open alert that this service sees no reason for is to be closed by it."""
        unseen = abs(now - alert.last_seen)  # a clock that was set back leaves times to come
        if alert.kind in KINDS:
            return unseen > OVER_AFTER
        if alert.kind not in (DECLARATION, RUN_FAILED):
            return False
        beat = latest_beat(alert.forecast, self._root)
        since = 0.0 if beat is None else beat.checked_at - alert.last_seen.timestamp()
        if alert.kind == DECLARATION:
            # What is broken has no sensor that checks its sources, and a sensor that reports it.
            return since > 0 or unseen > FORGOTTEN_AFTER
        # What failed may be needed no more: the file that was wrong is again what it was.
        wanted_once = bool(alert.evidence.get(REQUESTED)) and beat is not None and not beat.trouble
        return wanted_once and since > OVER_AFTER.total_seconds()

    def _read(self, engine: sa.Engine) -> Findings:
        served = {
            watch.forecast: watch.champion.version for watch in self._forecasts if watch.champion is not None
        }
        verdicts, made = self.findings.verdicts, self.findings.checks
        with engine.connect() as connection:
            still_open, waiting = _open_alerts(connection), undelivered(connection)
            position = (*mark(connection), *served.items())
            if position != self.findings.mark:
                read = {name: latest_verdict(connection, name) for name in served}
                verdicts = {name: verdict for name, verdict in read.items() if verdict is not None}
                made = tuple(
                    one
                    for name, version in served.items()
                    for one in latest_checks(connection, name, version)
                )
        counted = Counter((alert.forecast, alert.severity.value) for alert in still_open)
        return Findings(counted, waiting, verdicts, made, position)

    @contextlib.asynccontextmanager
    async def on_duty(self) -> AsyncIterator[None]:
        """Check, and send, in the background; a slow receiver holds up no check."""
        rounds = {"alerts": self.check, "delivery": lambda: self._delivery.deliver(self._clock)}
        tasks = [asyncio.create_task(self._repeat(name, once), name=name) for name, once in rounds.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, name: str, once: Callable[[], Any]) -> None:
        while True:
            try:
                await asyncio.to_thread(once)
            except Exception as error:  # whatever it is, the next round tries again
                self._report(name, error)
            else:
                self._troubles.pop(name, None)
            await asyncio.sleep(self.period)

    def _report(self, name: str, error: Exception) -> None:
        """Log a failure, once for as long as it stays the same."""
        reason = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
        if self._troubles.get(name) == reason:
            return
        self._troubles[name] = reason
        if isinstance(error, sa.exc.DBAPIError | UnusableDatabase | OSError):
            log.warning("%s: the serving database does not answer, tried again: %s", name, reason)
        else:
            log.error("%s: failed, tried again", name, exc_info=error)


def _open_alerts(connection: sa.Connection) -> Iterable[Alert]:
    return list_alerts(connection, Wanted(), MAX_OPEN).alerts


def _key(alert: Alert) -> tuple[str, str, str]:
    return alert.forecast, alert.kind, alert.subject


def _is_news(condition: Condition, alert: Alert | None, now: datetime) -> bool:
    """Whether a condition has to be written: it is new, worse, or was written long ago."""
    if alert is None or abs(now - alert.last_seen) >= SEEN_EVERY:
        return True
    return condition.severity is Severity.CRITICAL and alert.severity is not Severity.CRITICAL


def _raise(engine: sa.Engine, condition: Condition, now: datetime) -> None:
    new = raise_alert(
        engine,
        forecast=condition.forecast,
        kind=condition.kind,
        severity=condition.severity,
        message=condition.message,
        subject=condition.subject,
        evidence=condition.evidence,
        now=now,
    )
    if new:
        log.warning("%s: %s: %s", condition.forecast, condition.kind, condition.message)
