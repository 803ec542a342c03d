"""Events over HTTP, as server-sent events: how things are, then what happens, resumable from any point."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from vroom_api.champion.descriptions import health_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.event_log import Topic
from vroom_api.contract.tables import Database
from vroom_api.feed.following import EventFeed, Message, TooManyListeners, Wanted
from vroom_api.problems import Fault, Problem
from vroom_api.routes.parameters import MAX_ID, NO_SUCH_FORECAST, Forecast, known_forecast
from vroom_api.routes.problems import RECORD_HANDLERS, documented

RETRY_AFTER = 5  # seconds
RECONNECT_AFTER = 1_000  # milliseconds, for browsers
_LONGEST_ID = 18  # digits

_FROM_ZERO = {"minimum": 0}  # which Litestar leaves out of the document

Name = Annotated[str, PathParameter(description="of the forecast")]
Topics = Annotated[
    list[Topic] | None,
    QueryParameter(
        description="only events about these: `topic=model&topic=alerts`; all where none is named"
    ),
]
After = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=MAX_ID,
        schema_extra=_FROM_ZERO,
        description="resume after the event of this id, for clients that cannot set `Last-Event-ID`, which goes before; 0 for "
        "all that is kept",
    ),
]
Wait = Annotated[
    float | None,
    QueryParameter(
        ge=0,
        le=86_400,
        schema_extra=_FROM_ZERO,
        description="seconds after which the stream ends; 0 for what there is now. For ever where it is not given",
    ),
]
LastId = Annotated[
    str,
    HeaderParameter(
        name="Last-Event-ID",
        description="resume after the event of this id",
        schema_extra={"pattern": rf"^[0-9]{{0,{_LONGEST_ID}}}$"},  # checked by us, who say what is allowed
    ),
]


class StreamedEvent(msgspec.Struct, frozen=True):
    """One event of a stream, as the OpenAPI document describes it: `data` is JSON."""

    event: str  # what happened, e.g. model-promoted
    data: str
    id: str | msgspec.UnsetType = msgspec.UNSET  # of those in the log, and of where the stream begins
    retry: int | msgspec.UnsetType = msgspec.UNSET  # milliseconds until a browser connects again


def current_states(forecasts: Forecasts) -> dict[str, Message]:
    """How each forecast is: what a listener receives first, and whenever it changes."""
    found = {}
    for watch in forecasts:
        health = health_of(watch)
        found[watch.forecast] = Message(
            "health-changed",
            {
                "forecast": watch.forecast,
                "status": health.status,
                "version": health.model_version,
                "generation": health.generation,
            },
        )
    return found


class Listener:
    """What listening needs: the feed, who asks, and from where on."""

    def __init__(
        self,
        request: Request[Any, Any, Any],
        feed: NamedDependency[EventFeed],
        forecasts: NamedDependency[Forecasts],
        after: After = None,
        wait: Wait = None,
        last_id: LastId = "",
    ) -> None:
        self.forecasts = forecasts
        self._feed = feed
        self._key = getattr(request.scope.get("auth"), "id", "")
        self._after = _id(last_id) if last_id else after
        self._wait = wait

    async def listen(self, topics: list[Topic] | None = None, forecast: str | None = None) -> ServerSentEvent:
        """
        Raises:
            Problem: 503 where too many listen.
        """
        try:
            start = await self._feed.start(self._after)
        except TooManyListeners as error:
            raise Problem(
                503,
                "too-many-listeners",
                f"{error}; ask again, with `Last-Event-ID` nothing is lost",
                headers={"retry-after": str(RETRY_AFTER)},
            ) from None
        wanted = Wanted(frozenset(topics or ()), forecast)
        return ServerSentEvent(_encoded(self._feed.messages(start, wanted, key=self._key, wait=self._wait)))


def _id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID:
        return int(text)
    allowed = "the id of an event, a whole number"
    detail = f"Last-Event-ID: {text[:40]!r} is not {allowed}"
    raise Problem(400, "bad-request", detail, faults=[Fault("Last-Event-ID", detail, allowed)])


async def _encoded(messages: AsyncIterator[Message | None]) -> AsyncIterator[ServerSentEventMessage]:
    async for message in messages:
        if message is None:
            yield ServerSentEventMessage(data=None, comment="nothing new")
            continue
        retry = RECONNECT_AFTER if message.name == "connected" else None
        yield ServerSentEventMessage(
            msgspec.json.encode(message.data), event=message.name, id=message.id, retry=retry
        )


_DESCRIPTION = (
    "Server-sent events. First `connected`, whose id is where the stream begins, then how things are: `health-changed` of each "
    "forecast and `alerts-open`. What follows is read from a durable log: each event has an id, and whoever comes back with the "
    "latest one in `Last-Event-ID` misses nothing; `gap` says where that is not so. A comment every 15 s keeps the connection. "
    "docs/events.md lists the events."
)
_EVENTS: dict[int, ResponseSpec] = {
    200: ResponseSpec(
        StreamedEvent, media_type="text/event-stream", description="events, one after the other"
    ),
    400: documented("a parameter, or `Last-Event-ID`, is not possible"),
    503: documented("too many listen, or the database does not answer"),
}
_STREAM: Any = {"description": _DESCRIPTION, "media_type": "text/event-stream"}


@get("/events", operation_id="events", summary="What happens, as it happens", responses={**_EVENTS, 404: NO_SUCH_FORECAST}, **_STREAM)  # fmt: skip
async def listen(
    listener: NamedDependency[Listener],
    database: NamedDependency[Database],
    topic: Topics = None,
    forecast: Forecast = None,
) -> ServerSentEvent:
    known = await asyncio.to_thread(known_forecast, forecast, listener.forecasts, database)
    return await listener.listen(topic, known)


@get("/vehicles/events", operation_id="vehicleEvents", summary="What happens to the entities of the short routes", responses=_EVENTS, **_STREAM)  # fmt: skip
async def listen_to_vehicles(listener: NamedDependency[Listener]) -> ServerSentEvent:
    return await listener.listen([Topic.ENTITIES], listener.forecasts.flagship.forecast)


@get("/pipelines/events", operation_id="pipelineEvents", summary="Runs that come to their end, of all forecasts", responses=_EVENTS, **_STREAM)  # fmt: skip
async def listen_to_pipelines(listener: NamedDependency[Listener]) -> ServerSentEvent:
    return await listener.listen([Topic.PIPELINES])


@get("/forecasts/{name:str}/events", operation_id="forecastEvents", summary="What happens to a forecast", responses={**_EVENTS, 404: NO_SUCH_FORECAST}, **_STREAM)  # fmt: skip
async def listen_to_forecast(
    name: Name, listener: NamedDependency[Listener], topic: Topics = None
) -> ServerSentEvent:
    return await listener.listen(topic, listener.forecasts.named(name).forecast)


router = Router(
    "/",
    route_handlers=[listen, listen_to_vehicles, listen_to_pipelines, listen_to_forecast],
    dependencies={"listener": Provide(Listener, sync_to_thread=False)},
    exception_handlers=RECORD_HANDLERS,
    tags=["operation"],
)
