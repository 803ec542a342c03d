"""Probes and /metrics."""

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from vroom_api.champion.forecasts import Forecasts
from vroom_api.observability.metrics import Measures
from vroom_api.record.recorder import Recorder


class Ready(msgspec.Struct, frozen=True):
    """Whether this process should be sent requests; what is false says what to look at."""

    ready: bool
    champion: bool  # whether any forecast has one
    record: bool | None  # None where nothing is recorded
    detail: str


def operation_routes(
    forecasts: Forecasts, recorder: Recorder | None, measures: Measures
) -> list[HTTPRouteHandler]:
    """GET /livez, /readyz, /metrics."""

    @get("/livez", summary="Whether the process answers", tags=["operation"], sync_to_thread=False)
    def alive() -> dict[str, bool]:
        return {"alive": True}

    @get(
        "/readyz",
        summary="Whether predictions are answered and recorded: 200, else 503",
        tags=["operation"],
    )
    async def ready() -> Response[Ready]:
        record = None if recorder is None else await recorder.writable()
        champion = any(watch.champion is not None for watch in forecasts)
        missing = [] if champion else ["no champion serves"]
        missing += ["the record cannot be written"] if record is False else []
        found = Ready(not missing, champion, record, "; ".join(missing) or "ready")
        return Response(found, status_code=503 if missing else 200)

    @get(
        "/metrics",
        summary="Measures for Prometheus",
        tags=["operation"],
        media_type="text/plain",
        sync_to_thread=False,
    )
    def show_measures() -> Response[bytes]:
        return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)

    return [alive, ready, show_measures]
