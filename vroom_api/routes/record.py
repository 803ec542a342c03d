"""The record over HTTP: predictions, the lineage of one, and their export."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from uuid import UUID

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.tables import Database
from vroom_api.problems import MEDIA_TYPE, Problem
from vroom_api.record import history, lineage
from vroom_api.record.history import MAX_PAGE, Filter, Page, ParquetUnavailable, UnknownPrediction
from vroom_api.record.lineage import Lineage
from vroom_api.routes.parameters import (
    NO_SUCH_FORECAST,
    Caller,
    EntityId,
    Forecast,
    Since,
    Tag,
    Until,
    Version,
    known_forecast,
    time_of,
)
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented

Before = Annotated[UUID | None, QueryParameter(description="`next` of the page before")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="predictions on a page")]
Format = Annotated[Literal["csv", "parquet"], QueryParameter(description="of the file")]
_CHUNK = 1 << 16  # bytes
# Re-hashing snapshots is heavy: two at a time, the others wait.
_verifiers = ThreadPoolExecutor(2, thread_name_prefix="lineage")


def filter_of(
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    forecast: Forecast = None,
    version: Version = None,
    caller: Caller = None,
    entity_id: EntityId = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
) -> Filter:
    """Which predictions a request is about.

    Raises:
        Problem: 404 for a forecast that does not exist, 400 for what is not a time.
    """
    name, _, value = (tag or "").partition(":")
    return Filter(
        known_forecast(forecast, forecasts, database),
        version,
        caller,
        entity_id,
        time_of("since", since),
        time_of("until", until),
        (name, value) if tag else None,
    )


@get(
    "/predictions",
    operation_id="predictions",
    summary="Recorded predictions, newest first",
    responses={404: NO_SUCH_FORECAST, 503: RECORD_UNAVAILABLE},
    sync_to_thread=True,
)
def list_predictions(
    database: NamedDependency[Database],
    wanted: NamedDependency[Filter],
    before: Before = None,
    limit: Limit = 100,
) -> Page:
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
    responses={
        404: documented("no such prediction in the record"),
        503: RECORD_UNAVAILABLE,
        409: documented("something behind the prediction has changed"),
    },
)
async def show_lineage(
    identifier: FromPath[UUID], database: NamedDependency[Database], home: NamedDependency[Path]
) -> Response[Lineage]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(
            _verifiers, lambda: lineage.verify(database(), str(identifier), home)
        )
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
    media_type="text/csv",
    sync_to_thread=True,
    responses={
        404: NO_SUCH_FORECAST,
        501: documented("Parquet is not available here"),
        503: RECORD_UNAVAILABLE,
    },
)
def export(
    database: NamedDependency[Database], wanted: NamedDependency[Filter], format: Format = "csv"
) -> Stream:
    headers = {"content-disposition": f'attachment; filename="predictions.{format}"'}
    if format == "csv":
        return Stream(history.csv_pieces(database(), wanted), media_type="text/csv", headers=headers)
    try:
        file = history.parquet_file(database(), wanted)
    except ParquetUnavailable as error:
        raise Problem(501, "parquet-unavailable", str(error)) from None
    return Stream(_chunks(file), media_type="application/vnd.apache.parquet", headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


router = Router(
    "/",
    route_handlers=[list_predictions, show_lineage, export],
    dependencies={"wanted": Provide(filter_of, sync_to_thread=True)},
    exception_handlers=RECORD_HANDLERS,
    tags=["record"],
)
