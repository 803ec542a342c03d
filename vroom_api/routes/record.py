"""The record over HTTP: predictions and their lineage, export, outcomes."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from litestar.params import FromPath, QueryParameter, RawBody
from litestar.response import Stream

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.tables import UnusableDatabase
from vroom_api.problems import MEDIA_TYPE, Fault, Problem
from vroom_api.record import history, lineage, outcomes
from vroom_api.record.history import LARGEST_PAGE, Filter, Page, ParquetUnavailable, UnknownPrediction
from vroom_api.record.lineage import Lineage
from vroom_api.record.outcomes import MOST_AT_ONCE, BadOutcome, OtherValue, Outcome, Received, UnknownSubject
from vroom_api.record.performance import Performance, performance
from vroom_api.record.prediction import NO_CONTROL_CHARACTERS, caller_of
from vroom_api.record.recorder import RETRY_AFTER
from vroom_api.routes.problems import documented, respond
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role

log = logging.getLogger(__name__)

_CHUNK = 1 << 16

Forecast = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=64, description="name of the forecast"),
]

NamedForecast = Annotated[
    str,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=64, description="name of the forecast"),
]

Version = Annotated[
    int | None, QueryParameter(ge=1, le=2**31 - 1, description="of the champion that answered")
]

Caller = Annotated[
    str | None, QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=128, description="who asked")
]

EntityId = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=128, description="what was asked about"),
]

# Texts, because as times the framework would take bare numbers too.
Since = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"format": "date-time"}, description="not earlier; UTC where no offset is given"
    ),
]

Until = Annotated[
    str | None,
    QueryParameter(schema_extra={"format": "date-time"}, description="earlier; UTC where no offset is given"),
]

Tag = Annotated[
    str | None,
    QueryParameter(
        pattern=r"^[a-z][a-z0-9_]{0,63}:[^\x00-\x1f\x7f]{1,128}$(?!\n)",
        description="recorded with it, as name:text",
    ),
]

TagName = Annotated[
    str | None,
    QueryParameter(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)", description="name of a tag to sort by"),
]

Before = Annotated[UUID | None, QueryParameter(description="`next` of the page before")]
Limit = Annotated[int, QueryParameter(ge=1, le=LARGEST_PAGE, description="predictions on a page")]
Format = Annotated[Literal["csv", "parquet"], QueryParameter(description="of the file")]
# Re-hashing snapshots is heavy: two at a time, the others wait.
_verifiers = ThreadPoolExecutor(2, thread_name_prefix="lineage")


def _no_database(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, UnusableDatabase):
        log.error("the record cannot be read: %s", error)
    return respond(
        request,
        Problem(
            503,
            "record-unavailable",
            "the database of the record does not answer; ask again",
            headers={"retry-after": str(RETRY_AFTER)},
        ),
    )


# A lock that was never released, a server that is gone, and a race that was lost five times.
_unavailable: Any = dict.fromkeys(
    (sa.exc.OperationalError, sa.exc.IntegrityError, UnusableDatabase), _no_database
)
_away = documented("the database of the record does not answer")


@dataclass
class _OutcomesOperation(Operation):
    """The body is decoded strictly, by us; this says what it is."""

    def __post_init__(self) -> None:
        _, components = msgspec.json.schema_components([Outcome], ref_template="{name}")
        outcome = components["Outcome"] | {
            "oneOf": [
                {"required": ["prediction_id"], "properties": {"entity_id": False, "period": False}},
                {"required": ["entity_id", "period"], "properties": {"prediction_id": False}},
            ]
        }
        several = {"type": "array", "items": outcome, "minItems": 1, "maxItems": MOST_AT_ONCE}
        schema: Any = {
            "description": (
                "One outcome or a list of them. Each has forecast and value (what was observed), and either "
                "prediction_id, or entity_id and period (which one the value covers, e.g. 2026-Q1); observed_at "
                "and correction where they matter."
            ),
            "examples": [{"forecast": "reservations", "entity_id": "1234", "period": "2026", "value": 7}],
            "anyOf": [outcome, several],
        }
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)


def record_routes(
    database: Callable[[], sa.Engine], root: Path, forecasts: Forecasts
) -> list[HTTPRouteHandler]:
    """GET /predictions, /predictions/{id}, /predictions/export, /performance, POST /outcomes.

    Args:
        database: opens the serving database, once.
        root: the home with bundles and snapshots.
        forecasts: whose champions say what an outcome may be.
    """

    @get(
        "/predictions",
        operation_id="predictions",
        summary="Recorded predictions, newest first",
        tags=["record"],
        exception_handlers=_unavailable,
        responses={503: _away},
        sync_to_thread=True,
    )
    def page(
        forecast: Forecast = None,
        version: Version = None,
        caller: Caller = None,
        entity_id: EntityId = None,
        since: Since = None,
        until: Until = None,
        tag: Tag = None,
        before: Before = None,
        limit: Limit = 100,
    ) -> Page:
        wanted = Filter(
            forecast,
            version,
            caller,
            entity_id,
            _moment("since", since),
            _moment("until", until),
            _tag(tag),
        )
        return history.page(database(), wanted, before=str(before) if before else None, size=limit)

    @get(
        "/predictions/{identifier:uuid}",
        operation_id="lineage",
        summary="A prediction and the verified chain behind it",
        description=(
            "The chain from the prediction over champion, runs and data version to the snapshots. Each step is "
            "checked now: the digests of the bundle's files and of the snapshots, and the recorded features, value "
            "and interval, computed again. 200 where all holds; where something does not, 409 with a problem that has the same fields."
        ),
        tags=["record"],
        exception_handlers=_unavailable,
        responses={
            404: documented("no such prediction in the record"),
            503: _away,
            409: documented("something behind the prediction has changed"),
        },
    )
    async def chain(identifier: FromPath[UUID]) -> Response[Lineage]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(_verifiers, _verify, database, str(identifier), root)
        except UnknownPrediction as error:
            raise Problem(404, "unknown-prediction", str(error)) from None
        if found.verified:
            return Response(found)
        content = Problem(409, "not-verified", "; ".join(found.failed)).content() | msgspec.to_builtins(found)
        refused: Response[Any] = Response(content, status_code=409, media_type=MEDIA_TYPE)
        return refused

    @get(
        "/predictions/export",
        operation_id="export",
        summary="Recorded predictions as a file",
        description="Parquet only where pyarrow is installed beside the service; 501 elsewhere.",
        tags=["record"],
        exception_handlers=_unavailable,
        media_type="text/csv",
        sync_to_thread=True,
        responses={501: documented("Parquet is not available here"), 503: _away},
    )
    def export(
        format: Format = "csv",
        forecast: Forecast = None,
        version: Version = None,
        caller: Caller = None,
        entity_id: EntityId = None,
        since: Since = None,
        until: Until = None,
        tag: Tag = None,
    ) -> Stream:
        wanted = Filter(
            forecast,
            version,
            caller,
            entity_id,
            _moment("since", since),
            _moment("until", until),
            _tag(tag),
        )
        headers = {"content-disposition": f'attachment; filename="predictions.{format}"'}
        if format == "csv":
            return Stream(history.csv_pieces(database(), wanted), media_type="text/csv", headers=headers)
        try:
            file = history.parquet_file(database(), wanted)
        except ParquetUnavailable as error:
            raise Problem(501, "parquet-unavailable", str(error)) from None
        return Stream(_chunks(file), media_type="application/vnd.apache.parquet", headers=headers)

    @get(
        "/performance",
        operation_id="performance",
        summary="How good a forecast's predictions turned out, as outcomes tell it",
        description=(
            "Of recorded predictions whose outcomes were told by `prediction_id`: mean absolute error, root mean "
            "squared error, bias, and the share of outcomes inside the interval; all together and, with `by`, for each "
            "text of a tag."
        ),
        tags=["record"],
        exception_handlers=_unavailable,
        responses={503: _away},
        sync_to_thread=True,
    )
    def performed(
        forecast: NamedForecast,
        by: TagName = None,
        version: Version = None,
        since: Since = None,
        until: Until = None,
    ) -> Performance:
        return performance(
            database(),
            forecast,
            by=by,
            version=version,
            start=_moment("since", since),
            end=_moment("until", until),
        )

    @post(
        "/outcomes",
        operation_id="outcomes",
        summary="What really happened",
        description=(
            "One outcome or a list, recorded all or none. Telling the same twice changes nothing; telling another "
            "value is refused with 409 unless it says `correction: true`, which adds it and keeps the earlier one."
        ),
        tags=["record"],
        exception_handlers=_unavailable,
        status_code=200,
        guards=[needs(Role.OPERATOR)],
        operation_class=_OutcomesOperation,
        responses={
            400: documented("the body is no JSON"),
            404: documented("a prediction that is not in the record"),
            409: documented("another value is recorded and this is no correction"),
            422: documented("not an outcome"),
            503: _away,
        },
    )
    async def tell(request: Request[Any, Any, Any], body: RawBody) -> Received:
        told = _outcomes(body)
        _check_values(forecasts, told)
        try:
            return await asyncio.to_thread(_receive, database, told, caller_of(request.scope))
        except UnknownSubject as error:
            raise Problem(404, "unknown-prediction", str(error)) from None
        except OtherValue as error:
            raise Problem(409, "other-value", str(error)) from None

    return [page, chain, export, performed, tell]


def _verify(database: Callable[[], sa.Engine], identifier: str, root: Path) -> Lineage:
    return lineage.verify(database(), identifier, root)


def _receive(database: Callable[[], sa.Engine], told: Sequence[Outcome], caller: str) -> Received:
    return outcomes.receive(database(), told, caller)


_decoder = msgspec.json.Decoder(Outcome | list[Outcome])


def _outcomes(body: bytes) -> list[Outcome]:
    try:
        told = _decoder.decode(body)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        detail = str(cause) if isinstance(cause, BadOutcome) else str(error)
        raise Problem(422, "invalid-outcome", detail, faults=[Fault(_place(str(error)), detail)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "not-json", f"the body is no JSON: {error}") from None
    told = told if isinstance(told, list) else [told]
    if not 1 <= len(told) <= MOST_AT_ONCE:
        allowed = f"1..{MOST_AT_ONCE} outcomes"
        detail = f"{len(told)} outcomes are not within {allowed}"
        raise Problem(422, "invalid-outcome", detail, faults=[Fault("outcomes", detail, allowed)])
    return told


def _check_values(forecasts: Forecasts, told: Sequence[Outcome]) -> None:
    """A probability comes true or does not; what else an outcome may be is not declared."""
    binary = {
        watch.forecast for watch in forecasts if watch.champion and watch.champion.manifest.kind == "binary"
    }
    for outcome in told:
        if outcome.forecast in binary and outcome.value not in (0, 1):
            allowed = "0 or 1"
            detail = f"value: {outcome.value:g} is no outcome of {outcome.forecast}; it is {allowed}"
            raise Problem(422, "invalid-outcome", detail, faults=[Fault("value", detail, allowed)])


def _place(message: str) -> str:
    """The part of the body that msgspec's message names."""
    _, _, path = message.rpartition("at `$")
    return path.strip("`.") or "outcome"


def _moment(name: str, told: str | None) -> datetime | None:
    if told is None:
        return None
    try:
        moment = msgspec.convert(told, datetime)
    except msgspec.ValidationError:
        allowed = "a time like 2026-03-01T12:00:00Z"
        detail = f"{name}: {told[:40]!r} is not {allowed}"
        raise Problem(400, "bad-request", detail, faults=[Fault(name, detail, allowed)]) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tag(told: str | None) -> tuple[str, str] | None:
    if told is None:
        return None
    name, _, value = told.partition(":")
    return name, value


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
