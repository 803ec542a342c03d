"""Answers as they are, for the OpenAPI document.

What a champion says of itself is taken from the one that serves. What only the record, the ledger or the monitoring
can say is written here, because real ones are only there once something was predicted, decided or wrong.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from vroom_api.benchmarking import Benchmark, Split
from vroom_api.causes import CAUSES
from vroom_api.champion.descriptions import Listed, forecast_of, health_of, model_of, parts_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.versions import comparison
from vroom_api.champion.watch import Reload
from vroom_api.contract.alerts import Severity
from vroom_api.contract.checks import Status
from vroom_api.predictions import open_inference
from vroom_api.predictions.advice import answer_question
from vroom_api.problems import Problem
from vroom_api.record.alerts import Alert, Alerts
from vroom_api.record.history import Page, Recorded
from vroom_api.record.ledger import Entries, Entry
from vroom_api.record.lineage import Lineage, Step
from vroom_api.record.monitoring import Checks, LiveVerdict, MadeCheck, MonitoringState
from vroom_api.record.outcomes import Received
from vroom_api.record.performance import Performance, Score
from vroom_api.routes.open_inference import IndexedModel, Live, ModelReady, Server, ServerReady
from vroom_api.routes.probes import Alive, Ready
from vroom_api.security.keys import Key

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
_RECORDED: Final = Recorded(
    id="01956f2c-3b5a-7c41-9a70-5d1c2f0b6e11",
    time=_END,
    forecast=_FORECAST,
    caller="shop",
    entity_id="7",
    inputs={"actual_price": 67.85, "recommended_price": 59, "num_images": 5},
    features={"log_price_ratio": 0.139745},
    value=4.2,
    low=1,
    high=9,
    level=0.9,
    version=3,
    generation=5,
    manifest_sha256="9f2c…",
    data_version="5b1e…",
    latency_us=412,
    tags={"campaign": "spring"},
)
_STEPS: Final = [
    Step("prediction", _RECORDED.id, True, "features, value and interval, computed again"),
    Step("champion", "version 3", True, "the digests of all files"),
    Step("mlflow_run", "0d8a…", None, "its name is in the manifest"),
    Step("dagster_run", "4be1…", None, "its name is in the manifest"),
    Step("data_version", "5b1e…", True, "computed from the snapshots"),
    Step("snapshot", "vehicles", True, "its digest"),
]
_SCORE: Final = Score(None, 380, 2.1, 3.0, -0.2, 0.91, _END - timedelta(days=1), _END, None, None, None, None)
_ENTRY: Final = Entry(
    id=12,
    time=_END,
    forecast=_FORECAST,
    actor="reservations_sensor",
    event="contest",
    decision="promote",
    reason="better by 2.1 % of the champion's error, with 97 % confidence",
    evidence={"difference": 0.044, "confidence": 0.97},
    run_id="4be1…",
)
_KEY: Final = Key("4d1f09ab", "shop", "viewer", _END, _END + timedelta(days=365), None, _END)
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
    "Alive": Alive(True),
    "Cause": CAUSES["invalid-input"],
    "Checks": Checks([_CHECK], None),
    "Entries": Entries([_ENTRY], None),
    "IndexedModel": IndexedModel(_FORECAST, "3", "READY", ""),
    "Key": _KEY,
    "Lineage": Lineage(
        verified=True,
        failed=[],
        prediction=_RECORDED,
        chain=_STEPS,
        trained_at="2026-03-01T04:00:00+00:00",
        data_as_of="2026-02-28T23:59:00",
        code_version="1a2b…",
        libraries={"scikit-learn": "1.9.1"},
    ),
    "Live": Live(True),
    "ModelReady": ModelReady(_FORECAST, True),
    "MonitoringState": MonitoringState(_FORECAST, 3, _VERDICT, [_CHECK], [_ALERT]),
    "Page": Page([_RECORDED], None),
    "Performance": Performance(_FORECAST, 412, 3, _SCORE, None, []),
    "Ready": Ready(True, True, True, 0.4, "ready"),
    "Received": Received(1, 0, 0),
    "Reload": Reload("unchanged", 3, 3, "version 3 serves already"),
    "Server": Server("vroom", "1", ["binary_tensor_data"]),
    "ServerReady": ServerReady(True),
}
# By the operation, of answers that are not JSON.
TEXTS: Final = {
    "MetricsShowMeasures": 'vroom_champion_version{forecast="reservations"} 3.0\n',
    "export": "id,time,forecast,version,value,low,high\n01956f2c-…,2026-03-02T00:00:00+00:00,reservations,3,4.2,1,9\n",
}
# By the operation, values of parameters that exist only once something was predicted, went wrong or was made.
PARAMETERS: Final = {
    "lineage": _RECORDED.id,
    "acknowledge": _ALERT.id,
    "KeysNameOrIdRevokeRevoke": _KEY.name,
    "command": "01956f2c-3b5a-7c41-9a70-5d1c2f0b6e12",
}


def samples_of(forecasts: Forecasts) -> dict[str, Any]:
    """What the flagship's champion says of itself, by the name of the schema; empty without one."""
    watch = forecasts.flagship
    champion = watch.champion
    if champion is None:
        return {}
    manifest = champion.manifest
    found: dict[str, Any] = {
        "Forecast": forecast_of(forecasts, watch),
        "Health": health_of(watch),
        "Listed": Listed(**parts_of(forecasts, watch)),
        "Model": model_of(champion),
        "ModelMetadata": open_inference.describe(manifest, recorded=True),
    }
    try:
        found["VersionComparison"] = comparison(
            manifest.forecast, champion.version, champion.version, watch.root
        )
        for question in list(manifest.advice)[:1]:
            body = msgspec.json.encode(manifest.example)
            found["Advice"] = msgspec.json.decode(answer_question(champion, question, body))
    except Problem:  # it has expired, its example has no advice, or its folder was taken away
        pass
    return found
