"""The Open Inference Protocol (V2 REST), as KServe, MLServer and Triton speak it, for every forecast."""

from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion
from vroom_api.contract.decoding import decode
from vroom_api.json_bodies import malformed
from vroom_api.predictions import open_inference as protocol
from vroom_api.predictions.open_inference import ModelMetadata
from vroom_api.problems import Problem
from vroom_api.record.recorder import Recorder
from vroom_api.routes.parameters import NO_SUCH_FORECAST
from vroom_api.routes.predictions import Predictor, read_body, run, serving
from vroom_api.routes.probes import readiness
from vroom_api.routes.problems import documented
from vroom_api.routes.revalidation import revalidated
from vroom_api.texts import as_asked

Name = Annotated[str, PathParameter(description="of the forecast")]
Version = Annotated[str, PathParameter(description="that serves, which others do not")]
HEADER_LENGTH = "inference-header-content-length"

NOT_THERE = documented("there is no forecast of that name, or another version serves")
NOT_READY = documented("it does not answer now")
REFUSED = {
    400: documented("the body is not a request of the protocol, or its tensors are not what they declare"),
    404: documented("there is no such forecast or version, or nothing is stored for an entity_id"),
    413: documented("the body is too large"),
    415: documented("the body is neither JSON nor application/octet-stream, or it is compressed"),
    422: documented("a value is missing or outside its range, there are too many rows, or no such output"),
    503: documented("no champion serves yet, it has expired, or the record is not written"),
}


class Server(msgspec.Struct, frozen=True):
    """What answers here."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct, frozen=True):
    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    name: str
    ready: bool


class IndexedModel(msgspec.Struct, frozen=True):
    """A forecast in the index of the repository."""

    name: str
    version: str
    state: str  # READY or UNAVAILABLE
    reason: str


class IndexQuery(msgspec.Struct, frozen=True):
    """Which models to list."""

    ready: bool = False  # only those that are


def champion_of(forecasts: Forecasts, name: str, version: str | None) -> Champion:
    """The champion of a forecast, where it is the version that is asked for.

    Raises:
        Problem: 404 for another version or an unknown forecast, 503 and 410 without a champion.
    """
    champion = serving(forecasts.named(name))
    if version is not None and version != str(champion.version):
        raise Problem(
            404,
            "other-version",
            f"version {version} of {name} does not serve; version {champion.version} does: ask for that, or name none",
        )
    return champion


@get(
    "/",
    operation_id="v2Server",
    summary="What answers here, and its extensions",
    middleware=[revalidated],
    sync_to_thread=False,
)
def show_server() -> Server:
    return Server("vroom", "1", list(protocol.EXTENSIONS))


@get("/health/live", operation_id="v2Live", summary="Whether the process answers", sync_to_thread=False)
def show_live() -> Live:
    return Live(True)


@get(
    "/health/ready",
    operation_id="v2Ready",
    summary="Whether predictions are answered and recorded",
    responses={503: NOT_READY},
)
async def show_ready(
    forecasts: NamedDependency[Forecasts], recorder: NamedDependency[Recorder | None]
) -> ServerReady:
    found = await readiness(forecasts, recorder)
    if not found.ready:
        raise Problem(503, "not-ready", found.detail)
    return ServerReady(True)


def _describe(forecasts: Forecasts, predictor: Predictor, name: str, version: str | None) -> ModelMetadata:
    champion = champion_of(forecasts, name, version)
    return protocol.describe(champion.manifest, recorded=predictor.is_recorded)


@get(
    "/models/{name:str}",
    operation_id="v2Model",
    summary="The tensors that a forecast takes and answers",
    middleware=[revalidated],
    responses={404: NOT_THERE, 503: NOT_READY},
    sync_to_thread=False,
)
def show_model(
    name: Name, forecasts: NamedDependency[Forecasts], predictor: NamedDependency[Predictor]
) -> ModelMetadata:
    return _describe(forecasts, predictor, name, None)


@get(
    "/models/{name:str}/versions/{version:str}",
    operation_id="v2Version",
    summary="The tensors that the version which serves takes and answers",
    middleware=[revalidated],
    responses={404: NOT_THERE, 503: NOT_READY},
    sync_to_thread=False,
)
def show_version(
    name: Name,
    version: Version,
    forecasts: NamedDependency[Forecasts],
    predictor: NamedDependency[Predictor],
) -> ModelMetadata:
    return _describe(forecasts, predictor, name, version)


@get(
    "/models/{name:str}/ready",
    operation_id="v2ModelReady",
    summary="Whether a forecast has a champion",
    responses={404: NO_SUCH_FORECAST, 503: NOT_READY},
    sync_to_thread=False,
)
def show_model_ready(name: Name, forecasts: NamedDependency[Forecasts]) -> ModelReady:
    return ModelReady(champion_of(forecasts, name, None).manifest.forecast, True)


@get(
    "/models/{name:str}/versions/{version:str}/ready",
    operation_id="v2VersionReady",
    summary="Whether a version serves",
    responses={404: NOT_THERE, 503: NOT_READY},
    sync_to_thread=False,
)
def show_version_ready(name: Name, version: Version, forecasts: NamedDependency[Forecasts]) -> ModelReady:
    return ModelReady(champion_of(forecasts, name, version).manifest.forecast, True)


async def _infer(
    request: Request[Any, Any, Any], predictor: Predictor, name: str, version: str | None
) -> Response[bytes]:
    body = await read_body(request.scope, request.receive, predictor.largest_body)
    champion = champion_of(predictor.forecasts, name, version)
    length = _header_length(request.headers.get(HEADER_LENGTH))
    recorded = predictor.is_recorded
    asked = await run(
        protocol.read_in_steps(champion, body, length, predictor.largest_batch, recorded=recorded)
    )
    watch = predictor.forecasts.named(name)
    predicted = await predictor.answer_batch(watch, champion, request.scope, asked.body)
    content, length = await run(protocol.answer_in_steps(champion, asked, predicted, recorded=recorded))
    if length is None:
        return Response(content, media_type=MediaType.JSON)
    headers = {HEADER_LENGTH: str(length)}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _header_length(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        detail = f"Inference-Header-Content-Length: {value[:40]!r} is not the length of the JSON in bytes"
        raise Problem(400, "malformed-inference", detail)
    return int(value)


# Their bodies are read by hand, because they may be more than JSON; `vroom_api.openapi` describes them.
@post(
    "/models/{name:str}/infer",
    operation_id="v2Infer",
    summary="Predict rows that are sent as tensors",
    status_code=200,
    responses=REFUSED,
)
async def infer(
    name: Name, request: Request[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    return await _infer(request, predictor, name, None)


@post(
    "/models/{name:str}/versions/{version:str}/infer",
    operation_id="v2InferVersion",
    summary="Predict rows that are sent as tensors, by this version or not at all",
    status_code=200,
    responses=REFUSED,
)
async def infer_version(
    name: Name, version: Version, request: Request[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    return await _infer(request, predictor, name, version)


@post(
    "/repository/index",
    operation_id="v2Repository",
    summary="Every forecast, the version that serves and whether it does",
    status_code=200,
)
async def show_index(
    forecasts: NamedDependency[Forecasts], request: Request[Any, Any, Any]
) -> list[IndexedModel]:
    query = _query_of(await request.body())
    found = []
    for watch in forecasts:
        champion = watch.champion
        reason = "" if champion else watch.retired or watch.trouble or "no version was published yet"
        found.append(
            IndexedModel(
                watch.forecast,
                str(champion.version) if champion else "",
                "READY" if champion else "UNAVAILABLE",
                reason,
            )
        )
    return [one for one in found if one.state == "READY" or not query.ready]


def _query_of(body: bytes) -> IndexQuery:
    if not body.strip():
        return IndexQuery()
    try:
        return decode(body, IndexQuery)
    except msgspec.ValidationError as error:
        raise Problem(400, "malformed-inference", as_asked(str(error))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error) from None


router = Router(
    "/v2",
    route_handlers=[
        show_server,
        show_live,
        show_ready,
        show_model,
        show_version,
        show_model_ready,
        show_version_ready,
        infer,
        infer_version,
        show_index,
    ],
    tags=["open inference"],
)
