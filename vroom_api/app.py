"""The service: wiring only. Settings in, an ASGI application out."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp

from vroom_api.alerting.delivery import Delivery
from vroom_api.alerting.guard import Guard
from vroom_api.alerting.receivers import receivers_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.stored_inputs import stored_inputs
from vroom_api.feed.announcing import Announcer
from vroom_api.feed.following import EventFeed
from vroom_api.observability.metrics import ServiceMetrics
from vroom_api.observability.tracing import tracing
from vroom_api.openapi import DocumentPlugin, PagePlugin
from vroom_api.predictions.shadow import Shadow
from vroom_api.problems import Problem
from vroom_api.record.commands import Consumer
from vroom_api.record.database import FollowedDatabase
from vroom_api.record.recorder import Recorder
from vroom_api.routes import (
    advice,
    alerts,
    benchmark,
    commands,
    dashboard,
    entities,
    events,
    keys,
    ledger,
    monitoring,
    open_inference,
    outcomes,
    predictions,
    probes,
    problem_pages,
    record,
    stores,
    traffic,
)
from vroom_api.routes import forecasts as forecast_routes
from vroom_api.routes.direct import Direct
from vroom_api.routes.events import current_states
from vroom_api.routes.parameters import refuse_unknown_names
from vroom_api.routes.predictions import Predictor
from vroom_api.routes.problems import respond, respond_to_defect, respond_to_framework
from vroom_api.routes.revalidation import revalidated
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
    benchmark.router,
    forecast_routes.router,
    traffic.router,
    ledger.router,
    alerts.router,
    monitoring.router,
    commands.router,
    open_inference.router,
    events.router,
    stores.router,
    dashboard.router,
    probes.router,
    problem_pages.router,
]

ANSWERS_TO_ERRORS: Any = {
    Problem: respond,
    HTTPException: respond_to_framework,
    Exception: respond_to_defect,
}


def create_app(settings: Settings) -> Litestar:
    """The service for the forecasts of a home.

    It starts without any champion and without a database; what needs one says so.

    Raises:
        BadSetting: telemetry is asked for and not installed, or alerts go to what is not an address.
    """
    database = FollowedDatabase(settings.database_url)
    announcer = Announcer(database)
    forecasts = _forecasts(settings, database, announcer)
    recorder, shadow = _record(settings, database)
    guard = _guard(settings, database, forecasts)
    metrics = ServiceMetrics(forecasts, recorder, guard, shadow)
    predictor = Predictor(
        forecasts,
        largest_body=settings.largest_body,
        largest_batch=settings.largest_batch,
        recorder=recorder,
        shadow=shadow,
    )
    keyring = Keyring(database, settings.home / "admin.key") if settings.auth else None
    feed = _feed(settings, database, forecasts, keyring)
    beside = [announcer.running, forecasts.watched, guard.on_duty, feed.open]
    if shadow is not None:
        beside.insert(0, shadow.running)
    plugins, traced = tracing() if settings.telemetry else ([], [])
    app = Litestar(
        route_handlers=[*ROUTERS, keys.router] if keyring else ROUTERS,
        # Nothing is injected into plain ASGI handlers, and the server ends the streams before the application.
        state=State({"predictor": predictor, "feed": feed, "known_parameters": {}}),
        dependencies={
            "consumer": _constant(Consumer(settings.home, settings.command_seconds)),
            "database": _constant(database),
            "feed": _constant(feed),
            "forecasts": _constant(forecasts),
            "home": _constant(settings.home),
            "metrics": _constant(metrics),
            "pages": _constant(settings.pages),
            "predictor": _constant(predictor),
            "recorder": _constant(recorder),
        },
        plugins=plugins,
        before_request=refuse_unknown_names,
        lifespan=[lambda _: _running(settings, database, keyring, recorder, beside), *traced],
        cors_config=_cors(settings),
        exception_handlers=ANSWERS_TO_ERRORS,
        openapi_config=_openapi(settings, forecasts, recorder),
        request_max_body_size=settings.largest_body,
        logging_config=None,
        debug=False,
    )
    # Traces and answers to other origins are made by middlewares of Litestar, which then have to see all requests.
    seen = bool(plugins) or bool(settings.cors_origins)
    routed = app.asgi_handler if seen else Direct(app.asgi_handler, predictor)
    app.asgi_handler = _shielded(routed, settings, keyring, metrics)
    return app


def _shielded(app: ASGIApp, settings: Settings, keyring: Keyring | None, metrics: ServiceMetrics) -> Shield:
    return Shield(
        app,
        keyring=keyring,
        hosts=settings.allowed_hosts,
        origins=settings.cors_origins,
        seconds=settings.request_seconds,
        rate=settings.rate,
        metrics=metrics,
    )


def _record(settings: Settings, database: FollowedDatabase) -> tuple[Recorder, Shadow] | tuple[None, None]:
    """What writes predictions down, and what a version in shadow makes of them; neither where nothing is recorded."""
    if not settings.record:
        return None, None
    capacity = max(settings.record_waiting, settings.largest_batch)
    return Recorder(database, capacity=capacity, backlog=settings.record_backlog), Shadow(database)


def _forecasts(settings: Settings, database: FollowedDatabase, announcer: Announcer) -> Forecasts:
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
        loaded=announcer.loaded,
    )


def _guard(settings: Settings, database: FollowedDatabase, forecasts: Forecasts) -> Guard:
    delivery = Delivery(database, receivers_of(settings.alert_urls), settings.pages.champion)
    return Guard(database, forecasts, delivery, settings.home, settings.watch_seconds)


def _feed(
    settings: Settings, database: FollowedDatabase, forecasts: Forecasts, keyring: Keyring | None
) -> EventFeed:
    return EventFeed(
        database,
        lambda: current_states(forecasts),
        seconds=settings.watch_seconds,
        capacity=max(settings.connections // 4, 1),  # an open stream is a connection
        keep_days=settings.event_days,
        admits=keyring.holds if keyring else lambda _: True,
    )


@contextlib.asynccontextmanager
async def _running(
    settings: Settings,
    database: FollowedDatabase,
    keyring: Keyring | None,
    recorder: Recorder | None,
    beside: Sequence[Callable[[], AbstractAsyncContextManager[None]]],
) -> AsyncIterator[None]:
    """Keys, record, and what works beside the requests, followed and written as long as this is open."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(database.kept())  # closed last: the others write until they end
        if keyring is not None:
            await stack.enter_async_context(keyring.kept())
        if recorder is not None:
            await stack.enter_async_context(recorder)
            await stack.enter_async_context(recorder.keeping(settings.record_days))
        for work in beside:
            await stack.enter_async_context(work())
        yield


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=[
            *("authorization", "content-type", "x-api-key", "x-request-id"),
            *("if-none-match", "inference-header-content-length", "idempotency-key", "last-event-id"),
        ],
        expose_headers=["etag", "inference-header-content-length", "location", "x-request-id"],
    )


def _openapi(settings: Settings, forecasts: Forecasts, recorder: Recorder | None) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Vroom",
        version="1",
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, middleware=[revalidated]
        ),
        render_plugins=[
            PagePlugin(forecasts, settings.largest_batch, settings.auth, recorder),
            DocumentPlugin(forecasts, settings.largest_batch, settings.auth),
        ],
    )


def _constant(value: Any) -> Provide:
    """The same value for every request."""
    return Provide(lambda: value, sync_to_thread=False)
