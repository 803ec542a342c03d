"""Answers about the monitoring as they are, for the OpenAPI document: real ones are only there once something is wrong."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from vroom_api.champion.descriptions import TriedVersion
from vroom_api.contract import TrialRole
from vroom_api.contract.alerts import Severity
from vroom_api.contract.checks import Status
from vroom_api.contract.trials import TrialVerdict
from vroom_api.record.alerts import Alert, Alerts
from vroom_api.record.monitoring import Checks, LiveVerdict, MadeCheck, MonitoringState
from vroom_api.record.trials import Judgement, Traffic

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
_TRAFFIC: Final = Traffic(
    forecast=_FORECAST,
    champion=3,
    generation=12,
    trial=TriedVersion(4, TrialRole.SPLIT, 0.1, "2026-02-20T08:30:00.000+00:00", "ann", "5f1c" * 16),
    loaded=True,
    trouble=None,
    judgement=Judgement(
        verdict=TrialVerdict.BETTER,
        sentence="version 4 beside version 3: better; mean loss 3.41 against 3.58 (-4.7%) on the same 1,830 requests",
        rows=1830,
        window_end=_END,
        numbers={"loss": 3.41, "champion_loss": 3.58, "better_evidence": 4.2, "evidence_needed": 3.69},
    ),
)
# By the name of the schema.
SAMPLES: Final[dict[str, msgspec.Struct]] = {
    "Alert": _ALERT,
    "Alerts": Alerts([_ALERT], None),
    "Checks": Checks([_CHECK], None),
    "Traffic": _TRAFFIC,
    "MonitoringState": MonitoringState(_FORECAST, 3, _VERDICT, [_CHECK], [_ALERT]),
}
