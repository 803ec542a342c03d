"""The service: wiring only. Settings in, an ASGI application out."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig

from vroom_api.alerting.delivery import Delivery
from vroom_api.alerting.guard import Guard
from vroom_api.alerting.receivers import receivers_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.stored_inputs import stored_inputs
from vroom_api.observability.metrics import ServiceMetrics
from vroom_api.observability.tracing import tracing
from vroom_api.openapi import DocumentPlugin, PagePlugin
from vroom_api.problems import Problem
from vroom_api.record.database import FollowedDatabase
from vroom_api.record.recorder import Recorder
from vroom_api.routes import (
    advice,
    alerts,
    dashboard,
    entities,
    keys,
    ledger,
    monitoring,
    outcomes,
    predictions,
    probes,
    record,
)
from vroom_api.routes import forecasts as forecast_routes
from vroom_api.routes.parameters import refuse_unknown_names
from vroom_api.routes.predictions import Predictor
from vroom_api.routes.problems import respond, respond_to_defect, respond_to_framework
from vroom_api.security.keys import Keyring
from vroom_api.security.shield import Shield
from vroom_api.settings import Settings

ROUTERS = [
    predictions.router,
    record.router,
    outcomes.router,
    advice.router,
    entities.router,
    entities.named_router,
    entities.predict_router,
    forecast_routes.router,
    ledger.router,
    alerts.router,
    monitoring.router,
    dashboard.router,
    probes.router,
]


def create_app(settings: Settings) -> Litestar:
    """The service for the forecasts of a home.

    It starts without any champion and without a database; what needs one says so.

    Raises:
        BadSetting: telemetry is asked for and not installed, or alerts go to what is not an address.
    """
    database = FollowedDatabase(settings.database_url)
    forecasts = _forecasts(settings, database)
    capacity = max(settings.record_waiting, settings.largest_batch)
    recorder = Recorder(database, capacity=capacity) if settings.record else None
    guard = _guard(settings, database, forecasts)
    metrics = ServiceMetrics(forecasts, recorder, guard)
    predictor = Predictor(
        forecasts,
        largest_body=settings.largest_body,
        largest_batch=settings.largest_batch,
        recorder=recorder,
    )
    keyring = Keyring(database, settings.home / "admin.key") if settings.auth else None
    plugins, traced = tracing() if settings.telemetry else ([], [])
    app = Litestar(
        route_handlers=[*ROUTERS, keys.router] if keyring else ROUTERS,
        state=State({"predictor": predictor}),  # nothing is injected into plain ASGI handlers
        dependencies={
            "database": _constant(database),
            "forecasts": _constant(forecasts),
            "home": _constant(settings.home),
            "metrics": _constant(metrics),
            "pages": _constant(settings.pages),
            "predictor": _constant(predictor),
            "recorder": _constant(recorder),
        },
        plugins=plugins,
        before_request=refuse_unknown_names,
        lifespan=[lambda _: _running(settings, keyring, recorder, forecasts, guard), *traced],
        cors_config=_cors(settings),
        exception_handlers={
            Problem: respond,
            HTTPException: respond_to_framework,
            Exception: respond_to_defect,
        },
        openapi_config=_openapi(settings, forecasts, recorder),
        request_max_body_size=settings.largest_body,
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Shield(
        app.asgi_handler,
        keyring=keyring,
        hosts=settings.allowed_hosts,
        origins=settings.cors_origins,
        seconds=settings.request_seconds,
        rate=settings.rate,
        metrics=metrics,
    )
    return app


def _forecasts(settings: Settings, database: FollowedDatabase) -> Forecasts:
    return Forecasts(
        settings.forecast,
        settings.home,
        settings.watch_seconds,
        automated=settings.automated,
        stored=partial(
            stored_inputs,
            root=settings.home,
            database=database,
            in_database=settings.stored_in_database,
            waits=not settings.database_url.startswith("sqlite"),
        ),
    )


def _guard(settings: Settings, database: FollowedDatabase, forecasts: Forecasts) -> Guard:
    delivery = Delivery(database, receivers_of(settings.alert_urls), settings.pages.champion)
    return Guard(database, forecasts, delivery, settings.home, settings.watch_seconds)


@contextlib.asynccontextmanager
async def _running(
    settings: Settings,
    keyring: Keyring | None,
    recorder: Recorder | None,
    forecasts: Forecasts,
    guard: Guard,
) -> AsyncIterator[None]:
    """Keys, record, champions and alerts, followed and written as long as this is open."""
    async with contextlib.AsyncExitStack() as stack:
        if keyring is not None:
            await stack.enter_async_context(keyring.kept())
        if recorder is not None:
            await stack.enter_async_context(recorder)
            await stack.enter_async_context(recorder.keeping(settings.record_days))
        await stack.enter_async_context(forecasts.watched())
        await stack.enter_async_context(guard.on_duty())
        yield


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"],
    )


def _openapi(settings: Settings, forecasts: Forecasts, recorder: Recorder | None) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Vroom",
        version="1",
        path="/schema",
        render_plugins=[
            PagePlugin(forecasts, settings.largest_batch, settings.auth, recorder),
            DocumentPlugin(forecasts, settings.largest_batch, settings.auth),
        ],
    )


def _constant(value: Any) -> Provide:
    """The same value for every request."""
    return Provide(lambda: value, sync_to_thread=False)
