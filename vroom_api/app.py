"""The service: wiring only. Settings in, an ASGI application out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache

import sqlalchemy as sa
from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig

from vroom_api.advice_routes import advice_routes
from vroom_api.catalog import catalog_routes
from vroom_api.champion import ChampionWatch
from vroom_api.openapi import DocumentPlugin, PagePlugin
from vroom_api.predict import prediction_routes
from vroom_api.problems import Problem, respond, respond_to_defect, respond_to_framework
from vroom_api.record import Recorder
from vroom_api.record_routes import record_routes
from vroom_api.settings import Settings
from vroom_api.tables import open_database


def create_app(settings: Settings) -> Litestar:
    """The service for one forecast.

    It starts without a champion and without a database; what needs one says so.
    """
    watch = ChampionWatch(settings.forecast, settings.home, settings.watch_seconds)

    @lru_cache(1)  # an exception is not kept: the next request tries again
    def database() -> sa.Engine:
        return open_database(settings.database_url)

    capacity = max(settings.record_waiting, settings.largest_batch)
    recorder = Recorder(database, capacity=capacity) if settings.record else None

    @contextlib.asynccontextmanager
    async def recorded(_: Litestar) -> AsyncIterator[None]:
        if recorder is None:
            yield
            return
        async with recorder, recorder.keeping(settings.record_days):
            yield

    @contextlib.asynccontextmanager
    async def watched(_: Litestar) -> AsyncIterator[None]:
        await watch.reload()
        task = asyncio.create_task(watch.watch(), name="champion")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return Litestar(
        route_handlers=[
            *prediction_routes(
                watch,
                largest_body=settings.largest_body,
                largest_batch=settings.largest_batch,
                recorder=recorder,
            ),
            *record_routes(database, settings.home),
            *advice_routes(watch, largest_body=settings.largest_body),
            *catalog_routes(watch, database),
        ],
        lifespan=[recorded, watched],
        exception_handlers={
            Problem: respond,
            HTTPException: respond_to_framework,
            Exception: respond_to_defect,
        },
        openapi_config=OpenAPIConfig(
            title="Vroom",
            version="1",
            path="/schema",
            render_plugins=[
                PagePlugin(watch, settings.largest_batch),
                DocumentPlugin(watch, settings.largest_batch),
            ],
        ),
        request_max_body_size=settings.largest_body,
        logging_config=None,
        debug=False,
    )
