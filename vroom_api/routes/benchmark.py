"""POST /benchmark and /benchmark/id, of the flagship and of every forecast by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Router, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from vroom_api.benchmarking import (
    DEFAULT_ITERATIONS,
    MAX_ITERATIONS,
    MAX_SECONDS,
    AlreadyRunning,
    Benchmark,
    CannotMeasure,
    alone,
    figures,
    measure,
)
from vroom_api.champion.loading import Champion
from vroom_api.champion.stored_inputs import NotReadable
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract.benchmark import BENCHMARK_TAG
from vroom_api.contract.decoding import decode as decode_json
from vroom_api.json_bodies import malformed
from vroom_api.predictions.asked import decode
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import new_id
from vroom_api.routes.predictions import Predictor, read_body, serving
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role

Fields = dict[str, msgspec.Raw]
HTTPRequest = Request[Any, Any, Any]
_HANDED_ON = (b"host", b"authorization", b"x-api-key")  # of the request that asks for the benchmark
_ITERATIONS = "n_iterations"


# Their bodies are those of a prediction, which the champion knows, and so does the document that is made from it.
@post(
    ["/benchmark", "/benchmark/id"],
    status_code=200,
    include_in_schema=False,
    guards=[needs(Role.OPERATOR)],
)
async def benchmark(
    request: HTTPRequest, predictor: NamedDependency[Predictor], home: NamedDependency[Path]
) -> Benchmark:
    return await _run(predictor.forecasts.flagship, "/predict", request, predictor, home)


@post(
    ["/forecasts/{name:str}/benchmark", "/forecasts/{name:str}/benchmark/id"],
    status_code=200,
    include_in_schema=False,
    guards=[needs(Role.OPERATOR)],
)
async def benchmark_of(
    name: FromPath[str],
    request: HTTPRequest,
    predictor: NamedDependency[Predictor],
    home: NamedDependency[Path],
) -> Benchmark:
    watch = predictor.forecasts.named(name)
    return await _run(watch, f"/forecasts/{name}/predict", request, predictor, home)


async def _run(
    watch: ChampionWatch, path: str, request: HTTPRequest, predictor: Predictor, home: Path
) -> Benchmark:
    body = await read_body(request.scope, request.receive, predictor.largest_body)
    champion = serving(watch)
    fields = _fields(body)
    count = _iterations(fields.pop(_ITERATIONS, None))
    if request.scope["path"].endswith("/id"):
        fields = {"entity_id": _stored_entity(champion, fields)}
    elif not fields:
        fields = {
            name: msgspec.Raw(msgspec.json.encode(value)) for name, value in champion.manifest.example.items()
        }
    identifier = new_id()
    sent = _tagged(fields, identifier)
    asked = decode(champion, sent)  # what is refused is refused once, and now
    if asked.explain:
        raise _invalid("explain", "reasons are not measured; leave it out", "false")
    try:
        with alone(home):
            report = await measure(_address(request), _http(request, path, sent), count, MAX_SECONDS)
    except AlreadyRunning as error:
        raise Problem(
            409, "benchmark-runs", str(error), headers={"retry-after": str(int(MAX_SECONDS))}
        ) from None
    except CannotMeasure as error:
        raise Problem(
            503,
            "not-measured",
            f"the service could not be asked at its own address: {error}",
            headers={"retry-after": "5"},
        ) from error
    return Benchmark(
        forecast=watch.forecast,
        model_version=champion.version,
        source="raw" if asked.filled is msgspec.UNSET else "stored",
        benchmark_id=identifier,
        n_iterations=count,
        **figures(report),
    )


def _fields(body: bytes) -> Fields:
    """The fields of a body, none of an empty one.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for one that is not an object.
    """
    if not body.strip():
        return {}
    try:
        return decode_json(body, dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise _invalid("", "the body is a JSON object", "an object") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error) from None


def _iterations(given: msgspec.Raw | None) -> int:
    if given is None:
        return DEFAULT_ITERATIONS
    try:
        number = decode_json(bytes(given), int)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        number = 0
    if not 1 <= number <= MAX_ITERATIONS:
        allowed = f"1..{MAX_ITERATIONS}"
        raise _invalid(_ITERATIONS, f"use a whole number within {allowed}", allowed)
    return number


def _stored_entity(champion: Champion, fields: Fields) -> msgspec.Raw:
    """The id of the entity that is asked for, as JSON.

    Raises:
        Problem: 422 without one, 404 for one that is not stored, 503 if what is stored cannot be read.
    """
    names = ("entity_id", f"{champion.manifest.entity}_id")
    if unknown := [name for name in fields if name not in names]:
        raise _invalid(unknown[0][:64], f"unknown field; the fields are {names[0]} and {_ITERATIONS}")
    given = next(iter(fields.values()), None)
    try:
        found = None if given is None else decode_json(bytes(given), str | int)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    if found is None or len(fields) > 1:
        raise _invalid(
            names[0], f"missing or not a text; it names the {champion.manifest.entity} that is asked for"
        )
    identifier = str(found)
    try:
        stored = champion.entities.find(identifier)
    except NotReadable as error:
        raise Problem(503, "no-entities", str(error), headers={"retry-after": "10"}) from error
    if stored is None:
        raise Problem(
            404,
            "unknown-entity",
            f"entity_id: nothing is stored of {champion.manifest.entity} {identifier[:64]!r}; name one that is "
            "stored, or send its inputs to /benchmark",
        )
    return msgspec.Raw(msgspec.json.encode(identifier))


def _tagged(fields: Fields, identifier: str) -> bytes:
    """The body of a prediction that names the benchmark; tags that are not what they should be stay, to be refused."""
    tag = {BENCHMARK_TAG: identifier}
    try:
        tags: Any = decode_json(bytes(fields["tags"]), dict[str, Any]) | tag if "tags" in fields else tag
    except (msgspec.MsgspecError, UnicodeDecodeError):
        tags = fields["tags"]
    return msgspec.json.encode(fields | {"tags": tags})


def _address(request: HTTPRequest) -> tuple[str, int]:
    host, port = request.scope["server"] or ("127.0.0.1", 80)
    return host, port or 80


def _http(request: HTTPRequest, path: str, body: bytes) -> str:
    """The request, by whoever asks for the benchmark."""
    given: Mapping[bytes, bytes] = dict(request.scope["headers"])
    lines = [f"POST {path} HTTP/1.1"]
    lines += [f"{name.decode()}: {given[name].decode('latin-1')}" for name in _HANDED_ON if name in given]
    lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines) + "\r\n\r\n" + body.decode()


def _invalid(field: str, rule: str, allowed: str | None = None) -> Problem:
    detail = f"{field}: {rule}" if field else rule
    return Problem(422, "invalid-input", detail, faults=[Fault(field, detail, allowed)])


router = Router("/", route_handlers=[benchmark, benchmark_of])
