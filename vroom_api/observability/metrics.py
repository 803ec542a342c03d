"""What is measured of the service, for Prometheus."""

import logging
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from vroom_api.alerting.guard import Findings, Guard
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.freshness import VERDICTS, ages
from vroom_api.contract.alerts import Severity
from vroom_api.predictions.shadow import STATES, Shadow
from vroom_api.record.recorder import Recorder

log = logging.getLogger("vroom_api.access")

_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class _Latency:
    """A histogram of one route and status. All is counted on the event loop, so it needs no lock."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0


class ServiceMetrics:
    """The metrics of one service, read when they are asked for; only latencies are taken per request."""

    def __init__(
        self, forecasts: Forecasts, recorder: Recorder | None, guard: Guard, shadow: Shadow | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._latencies: dict[tuple[str, int], _Latency] = {}
        self.registry.register(_Own(forecasts, recorder, guard, shadow, self._latencies))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def request(self, scope: Any, status: int, seconds: float) -> None:
        """Count one answered request; status 0: the caller went away first."""
        route = scope.get("path_template") or "(none)"
        latency = self._latencies.get((route, status))
        if latency is None:
            latency = self._latencies[route, status] = _Latency()
        latency.counts[bisect_left(_BUCKETS, seconds)] += 1
        latency.total += seconds
        if status >= 400 or log.isEnabledFor(logging.DEBUG):
            level = logging.WARNING if status >= 500 else logging.INFO if status >= 400 else logging.DEBUG
            extra = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": round(seconds * 1000, 2),
                "caller": getattr(scope.get("auth"), "name", None),
            }
            log.log(level, "request", extra=extra)


class _Own(Collector):
    """What champions and record count by themselves."""

    def __init__(
        self,
        forecasts: Forecasts,
        recorder: Recorder | None,
        guard: Guard,
        shadow: Shadow | None,
        latencies: dict[tuple[str, int], _Latency],
    ) -> None:
        self._forecasts = forecasts
        self._recorder = recorder
        self._guard = guard
        self._shadow = shadow
        self._latencies = latencies

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        requests = HistogramMetricFamily(
            "vroom_request_seconds",
            "Time from a request to the end of its answer, by route and status",
            labels=("route", "status"),
        )
        for (route, status), latency in list(self._latencies.items()):
            ends = [*map(str, _BUCKETS), "+Inf"]
            buckets = list(zip(ends, accumulate(latency.counts), strict=True))
            requests.add_metric((route, str(status)), buckets, latency.total)
        yield requests
        yield from _of_forecasts(self._forecasts)
        if self._shadow is not None:
            yield from _of_shadow(self._shadow)
        yield from _of_monitoring([watch.forecast for watch in self._forecasts], self._guard.findings)
        if (recorder := self._recorder) is not None:
            yield self._one("vroom_record_waiting", "Predictions that wait for the disk", recorder.waiting)
            yield self._one("vroom_record_capacity", "Predictions that the queue can hold", recorder.capacity)
            yield self._one(
                "vroom_record_commit_seconds", "Duration of the latest commit", recorder.last_commit_seconds
            )
            for name, value, what in (
                ("rows", recorder.rows, "Predictions that were recorded"),
                ("commits", recorder.commits, "Commits that succeeded"),
                ("failures", recorder.failures, "Commits that failed"),
                ("refused", recorder.refused, "Predictions that found the queue full"),
            ):
                yield CounterMetricFamily(f"vroom_record_{name}", what, value=value)

    @staticmethod
    def _one(name: str, what: str, value: float) -> Metric:
        return GaugeMetricFamily(name, what, value=float(value))


def _of_forecasts(forecasts: Forecasts) -> Iterator[Metric]:
    """What is measured of each forecast; a gauge that needs a champion is there once one serves."""
    answered = CounterMetricFamily(
        "vroom_predictions", "Predictions that were answered", labels=("forecast", "version")
    )
    handed_back = CounterMetricFamily(
        "vroom_trial_handed_back",
        "Predictions that the champion answered because the version that is tried has no finite number",
        labels=("forecast",),
    )
    failures = CounterMetricFamily(
        "vroom_reload_failures", "Champions that could not be loaded", labels=("forecast",)
    )
    freshness = GaugeMetricFamily(
        "vroom_freshness", "1 for the current verdict, else 0", labels=("forecast", "verdict")
    )
    trials = GaugeMetricFamily(
        "vroom_trial_share",
        "Share of the requests that a second version answers or, in shadow, gets a copy of",
        labels=("forecast", "version", "role"),
    )
    gauges = {
        name: GaugeMetricFamily(f"vroom_{name}", what, labels=("forecast",))
        for name, what in (
            ("champion_loaded", "1 where a champion serves"),
            ("unattended", "1 where a check of the sources is overdue"),
            ("champion_version", "Version that serves"),
            ("champion_generation", "Generation of the pointer"),
            ("model_age_seconds", "Seconds since the champion was trained"),
            ("data_age_seconds", "Seconds since the latest event in its data"),
        )
    }
    for watch in forecasts:
        champion = watch.champion
        for version, count in list(watch.answered.items()):
            answered.add_metric((watch.forecast, str(version)), count)
        handed_back.add_metric((watch.forecast,), watch.handed_back)
        failures.add_metric((watch.forecast,), watch.failures)
        gauges["champion_loaded"].add_metric((watch.forecast,), float(champion is not None))
        unattended = watch.attendance.unattended_since is not None
        gauges["unattended"].add_metric((watch.forecast,), float(unattended))
        if champion is None:
            continue
        if champion.tried is not None:
            trial = champion.tried.trial
            trials.add_metric((watch.forecast, str(trial.version), trial.role.value), trial.share)
        found = ages(champion.manifest, datetime.now(UTC))
        measured = {
            "champion_version": champion.version,
            "champion_generation": champion.generation,
            "model_age_seconds": found.model_age_s,
            "data_age_seconds": found.data_age_s,
        }
        for name, value in measured.items():
            if value is not None:
                gauges[name].add_metric((watch.forecast,), float(value))
        for verdict in VERDICTS:
            freshness.add_metric((watch.forecast, verdict), float(found.freshness == verdict))
    yield from (answered, handed_back, failures, *gauges.values(), freshness, trials)


def _of_shadow(shadow: Shadow) -> Iterator[Metric]:
    """What became of the rows that a version in shadow was to score."""
    rows = CounterMetricFamily(
        "vroom_shadow_rows",
        "Copies of answered rows for a version in shadow, by what became of them",
        labels=("forecast", "state"),
    )
    for forecast, counts in list(shadow.rows.items()):
        for state in STATES:
            rows.add_metric((forecast, state), counts[state])
    yield rows
    waiting = GaugeMetricFamily("vroom_shadow_waiting", "Rows that wait for a version in shadow")
    waiting.add_metric((), shadow.waiting)
    yield waiting


def _of_monitoring(names: list[str], findings: Findings) -> Iterator[Metric]:
    """What the guard read last, which is at most its period old; nothing is read because somebody scrapes."""
    opened = GaugeMetricFamily("vroom_alerts", "Open alerts", labels=("forecast", "severity"))
    for forecast in sorted({*names, *(forecast for forecast, _ in findings.open)}):
        for severity in Severity:
            opened.add_metric((forecast, severity.value), findings.open.get((forecast, severity.value), 0))
    waiting = GaugeMetricFamily(
        "vroom_notifications_undelivered", "Notifications that a receiver has not taken yet"
    )
    waiting.add_metric((), findings.undelivered)
    verdicts = GaugeMetricFamily(
        "vroom_verdict", "1 for the current verdict of the monitoring", labels=("forecast", "verdict")
    )
    harmful = GaugeMetricFamily(
        "vroom_retraining_called_for", "1 where drift or decay calls for a training", labels=("forecast",)
    )
    for forecast, found in findings.verdicts.items():
        verdicts.add_metric((forecast, found.verdict), 1)
        harmful.add_metric((forecast,), float(found.harmful))
    values = GaugeMetricFamily(
        "vroom_check",
        "Number that a check of the monitoring found in its latest window, e.g. a distance, an error, a coverage",
        labels=("forecast", "check", "subject", "number"),
    )
    statuses = GaugeMetricFamily(
        "vroom_check_status",
        "1 for the status of the latest window",
        labels=("forecast", "check", "subject", "status"),
    )
    for check in findings.checks:
        statuses.add_metric((check.forecast, check.name, check.subject, check.status.value), 1)
        for name, value in check.values.items():
            if value is not None:
                values.add_metric((check.forecast, check.name, check.subject, name), value)
    yield from (opened, waiting, verdicts, harmful, values, statuses)
