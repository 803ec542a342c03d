"""Answers about the monitoring as they are, for the OpenAPI document: real ones are only there once something is wrong."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from vroom_api.benchmarking import Benchmark, Split
from vroom_api.contract.alerts import Severity
from vroom_api.contract.checks import Status
from vroom_api.record.alerts import Alert, Alerts
from vroom_api.record.monitoring import Checks, LiveVerdict, MadeCheck, MonitoringState

_FORECAST: Final = "reservations"
_END: Final = datetime(2026, 3, 2, tzinfo=UTC)
_ALERT: Final = Alert(
    id=7,
    forecast=_FORECAST,
    kind="drift",
    subject="actual_price",
    severity=Severity.WARNING,
    message="actual_price has moved from training, by 0.18 where 0.10 counts; train on newer rows",
    evidence={"distance": 0.18},
    first_seen=_END,
    last_seen=_END + timedelta(days=1),
    times_seen=2,
    acknowledged_at=_END + timedelta(hours=9),
    acknowledged_by="ann",
    resolved_at=None,
)
_CHECK: Final = MadeCheck(
    id=41,
    time=_END + timedelta(seconds=20),
    forecast=_FORECAST,
    version=3,
    name="feature",
    subject="actual_price",
    window_start=_END - timedelta(days=1),
    window_end=_END,
    rows=412,
    status=Status.ALARM,
    values={"distance": 0.18},
    message="actual_price has moved from training, by 0.18 where 0.10 counts",
)
_VERDICT: Final = LiveVerdict(
    verdict="data drift",
    sentence="Prices are higher than in training, and the error is expected to grow by 7 % because of them",
    harmful=True,
    damage=0.07,
    version=3,
    window_end=_END.isoformat(),
    decided_at=_END + timedelta(seconds=20),
    numbers={},
)
BENCHMARK: Final = Benchmark(
    forecast=_FORECAST,
    model_version=3,
    source="raw",
    benchmark_id="0199f2a4-7c1e-7d3a-9b51-3f2a6c8e1d40",
    n_iterations=1_000,
    n=1_000,
    errors={},
    avg_ms=0.47,
    p50_ms=0.44,
    p95_ms=0.61,
    p99_ms=1.2,
    requests_per_second=2_080.0,
    split=Split(
        http_and_framework_ms=0.12,
        decode_ms=0.004,
        stored_inputs_ms=0.003,
        features_and_model_ms=0.04,
        answer_ms=0.013,
        record_ms=0.29,
    ),
)
# By the name of the schema.
SAMPLES: Final[dict[str, msgspec.Struct]] = {
    "Alert": _ALERT,
    "Alerts": Alerts([_ALERT], None),
    "Checks": Checks([_CHECK], None),
    "MonitoringState": MonitoringState(_FORECAST, 3, _VERDICT, [_CHECK], [_ALERT]),
}
