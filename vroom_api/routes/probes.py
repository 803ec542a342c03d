"""Probes and /metrics."""

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from vroom_api.champion.forecasts import Forecasts
from vroom_api.observability.metrics import ServiceMetrics
from vroom_api.record.recorder import Recorder


class Alive(msgspec.Struct, frozen=True):
    alive: bool


class Ready(msgspec.Struct, frozen=True):
    """Whether this process should be sent requests; what is false says what is missing."""

    ready: bool
    champion: bool  # whether any forecast has one
    record: bool | None  # None where nothing is recorded
    record_checked_s: float | None  # since a write to the record succeeded or failed; None before the first
    detail: str


@get("/livez", summary="Whether the process answers", sync_to_thread=False)
def alive() -> Alive:
    return Alive(True)


@get("/readyz", summary="Whether predictions are answered and recorded: 200, else 503")
async def ready(
    forecasts: NamedDependency[Forecasts], recorder: NamedDependency[Recorder | None]
) -> Response[Ready]:
    found = await readiness(forecasts, recorder)
    return Response(found, status_code=200 if found.ready else 503)


async def readiness(forecasts: Forecasts, recorder: Recorder | None) -> Ready:
    """Whether this process should be sent requests."""
    record = None if recorder is None else await recorder.writable()
    champion = any(watch.champion is not None for watch in forecasts)
    missing = [] if champion else ["no champion serves"]
    age = None if recorder is None else recorder.checked_seconds
    if record is False:
        missing.append("the record is not open yet" if age is None else "the record cannot be written")
    checked = None if age is None else round(age, 1)
    return Ready(not missing, champion, record, checked, "; ".join(missing) or "ready")


@get(
    "/metrics",
    operation_id="MetricsShowMeasures",  # as clients know it
    summary="Metrics for Prometheus",
    media_type="text/plain",
    sync_to_thread=False,
)
def show_metrics(metrics: NamedDependency[ServiceMetrics]) -> Response[bytes]:
    # Litestar adds the charset to whatever is text.
    return Response(
        generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST.replace("; charset=utf-8", "")
    )


router = Router("/", route_handlers=[alive, ready, show_metrics], tags=["operation"])
