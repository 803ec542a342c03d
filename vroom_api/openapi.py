"""The OpenAPI document: what Litestar knows of the routes, and what the champion knows of its request.

What a forecast takes and answers is declared by it, so the schemas can only come from the champions that
serve; before a forecast has one the document says that its inputs are not known yet. Each forecast has its
own: those of `lap_times` are LapTimesRequest, LapTimesAnswer and LapTimesQuestion, and the short routes have
Request, Answer and Question.
"""

import copy
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from vroom_api.benchmarking import DEFAULT_ITERATIONS, MAX_ITERATIONS, Benchmark
from vroom_api.causes import CAUSES
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import describe
from vroom_api.dashboard.operation_samples import OPERATION_SAMPLES
from vroom_api.dashboard.reference import Schema, page_of
from vroom_api.dashboard.samples import BENCHMARK, PARAMETERS, SAMPLES, TEXTS, samples_of
from vroom_api.entities.document import add_operations, known_id
from vroom_api.entities.document import schemas_of as entities_of
from vroom_api.entities.document import unknown as unknown_entities
from vroom_api.predictions import open_inference
from vroom_api.predictions.advice import Advice, Options
from vroom_api.predictions.answered import predict_many, predict_one
from vroom_api.predictions.asked import finish
from vroom_api.predictions.open_inference import InferenceRequest, InferenceResponse
from vroom_api.problems import MEDIA_TYPE, Problem
from vroom_api.record.recorder import Recorder
from vroom_api.security.shield import PROBES

Served = dict[str, Champion | None]  # by forecast, the flagship first
KnownIds = dict[str, str | None]  # by forecast: an entity that is stored, for examples

REFERENCE = "#/components/schemas/{name}"
REFUSALS = {
    "400": "the body or a parameter cannot be read",
    "404": "nothing is stored for the entity_id, so its inputs have to be sent",
    "413": "the body is too large",
    "422": "a field is unknown, missing or outside its range, or there is no finite prediction",
    "503": "no champion serves yet, it has expired and its forecast refuses such answers, or the record is not written",
}
BENCHMARK_REFUSALS = REFUSALS | {"409": "a benchmark runs already; `Retry-After` says when it is over"}
# What the shield answers before any route does.
SHIELDED = {
    "400": "the request or its host is not accepted",
    "408": "the body did not come in time",
    "429": "this key sends more requests than allowed; `Retry-After` says when to ask again",
    "503": "not now; `Retry-After` says when to ask again",
}
GUARDED = {
    "401": "the API key is missing, unknown, expired or revoked",
    "403": "the key's role does not allow this",
}


class _Merged:
    """The document of the champions that serve, built once for each set of them."""

    def __init__(self, forecasts: Forecasts, largest_batch: int, guarded: bool) -> None:
        self._forecasts = forecasts
        self._largest_batch = largest_batch
        self._guarded = guarded
        self._built: tuple[Served, KnownIds, Schema] | None = None

    def of(self, generated: Schema) -> Schema:
        served = {watch.forecast: watch.champion for watch in self._forecasts}
        known = {name: known_id(champion) for name, champion in served.items()}
        if self._built is None or self._built[:2] != (served, known):
            samples = SAMPLES | OPERATION_SAMPLES | samples_of(self._forecasts)
            built = document(
                generated,
                served,
                self._largest_batch,
                samples=samples,
                guarded=self._guarded,
                known=known,
            )
            self._built = served, known, built
        return self._built[2]


class DocumentPlugin(JsonRenderPlugin):
    """/schema/openapi.json"""

    def __init__(self, forecasts: Forecasts, largest_batch: int, guarded: bool = False) -> None:
        super().__init__(path="/openapi.json")
        self._merged = _Merged(forecasts, largest_batch, guarded)

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return self.render_json(request, self._merged.of(openapi_schema))


class PagePlugin(OpenAPIRenderPlugin):
    """/schema, for people. It loads nothing from elsewhere, so it works where the service does."""

    def __init__(
        self,
        forecasts: Forecasts,
        largest_batch: int,
        guarded: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(path="/")
        self._merged = _Merged(forecasts, largest_batch, guarded)
        self._recorder = recorder

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        recorded = None if self._recorder is None else self._recorder.newest
        address = str(request.base_url).rstrip("/")
        return page_of(self._merged.of(openapi_schema), address, recorded).encode()


def document(
    generated: Schema,
    served: Served,
    largest_batch: int,
    *,
    samples: Mapping[str, Any] = SAMPLES,
    guarded: bool = False,
    known: KnownIds | None = None,
) -> Schema:
    """The whole document.

    Args:
        served: the champion of each forecast, the flagship's first; None where none serves.
        samples: answers, by the name of their schema.
        guarded: whether API keys are asked for.
        known: an entity of each, for examples.
    """
    known = known or {}
    merged = copy.deepcopy(msgspec.to_builtins(generated))
    merged.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    short, flagship = next(iter(served.items()))
    for path in merged["paths"].values():
        for operation in path.values():
            _describe_responses(operation)
            _name_forecasts(operation, list(served))
            _add_samples(operation)
            if flagship is not None:
                _name_version(operation, flagship.version)
    _add_forecast(merged, flagship, largest_batch, known=known.get(short))
    for name, champion in served.items():
        _add_forecast(merged, champion, largest_batch, name, known=known.get(name))
    _add_inference(merged, flagship)
    for name, sample in samples.items():
        if name in merged["components"]["schemas"]:  # there are keys only where they are asked for
            merged["components"]["schemas"][name]["examples"] = [msgspec.to_builtins(sample)]
    if flagship is not None:
        merged["info"]["description"] = f"{flagship.manifest.title}: {describe(flagship.manifest)}."
    _add_shield(merged, guarded)
    return merged


def _name_forecasts(operation: Schema, names: list[str]) -> None:
    """Which names a path may have: those of now, for the document is made anew with every forecast."""
    for parameter in operation.get("parameters", []):
        if (parameter["in"], parameter["name"]) == ("path", "name"):
            parameter["schema"] = {"type": "string", "enum": names}
        if parameter["name"] == "cause":
            parameter["schema"] = {"type": "string", "enum": sorted(CAUSES)}
        if parameter["name"] == "forecast" and parameter.get("required"):
            parameter["schema"]["examples"] = names[:1]


def _add_samples(operation: Schema) -> None:
    """Answers that are not JSON, and values of parameters that are not there yet."""
    identifier = operation["operationId"]
    if identifier in TEXTS:
        for content in operation["responses"]["200"]["content"].values():
            content["example"] = TEXTS[identifier]
    if identifier in PARAMETERS:
        for parameter in operation["parameters"]:
            parameter["example"] = PARAMETERS[identifier]


def _name_version(operation: Schema, version: int) -> None:
    """A version that is there, wherever a path names one of the flagship."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["name"] in ("before", "after"):
            parameter["schema"]["examples"] = [version]
        elif parameter["in"] == "path" and parameter["name"] == "version":
            parameter["schema"]["examples"] = [str(version)]


def _add_forecast(
    merged: Schema,
    champion: Champion | None,
    largest_batch: int,
    name: str = "",
    *,
    known: str | None = None,
) -> None:
    """The operations of one forecast and what they take and answer; without a name those of the short routes."""
    path, tag, prefix = (f"/forecasts/{name}", name, camel(name)) if name else ("", "predictions", "")
    merged["components"]["schemas"] |= schemas_of(champion, prefix, known) if champion else unknown(prefix)
    add_operations(merged, path, tag, prefix, known)

    def add(
        route: str,
        verb: str,
        summary: str,
        request: Schema,
        answer: Schema,
        refusals: Mapping[str, str] = REFUSALS,
    ) -> None:
        # The underscore stands before a small letter here and never in a name's camel case.
        identifier = f"{prefix[0].lower()}{prefix[1:]}_{verb}" if prefix else verb
        merged["paths"][f"{path}/{route}"] = {
            "post": _operation(identifier, tag, summary, request, answer, refusals)
        }

    request, answer = _reference(f"{prefix}Request"), _reference(f"{prefix}Answer")
    several = {"type": "array", "items": request, "minItems": 1, "maxItems": largest_batch}
    add("predict", "predict", "Predict one", request, answer)
    add(
        "predict/batch",
        "predictBatch",
        f"Predict 1 to {largest_batch}, answered in their order",
        several,
        {"type": "array", "items": answer},
    )
    by_id = _reference(f"{prefix}EntityId")
    add("predict/id", "predictId", "Predict one by its id alone, from what is stored of it", by_id, answer)
    _add_benchmarks(merged, prefix, add)
    for question, lever in (champion.manifest.advice if champion else {}).items():
        summary = f"Which {lever.input} is worth most: {lever.worth}, {lever.description}"
        asked = _reference(f"{prefix}Question")
        add(f"advise/{question}", f"advise{camel(question)}", summary, asked, _reference("Advice"))


def _add_inference(merged: Schema, champion: Champion | None) -> None:
    """The bodies of the Open Inference Protocol, which its routes read by hand."""
    _, schemas = msgspec.json.schema_components([InferenceRequest, InferenceResponse], ref_template=REFERENCE)
    merged["components"]["schemas"] |= schemas
    if champion is not None:
        request = open_inference.example(champion.manifest)
        schemas["InferenceRequest"]["examples"] = [msgspec.to_builtins(request)]
        schemas["InferenceResponse"]["examples"] = _inferred(champion, msgspec.json.encode(request))
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        operation = merged["paths"][path]["post"]
        bytes_behind: Schema = {
            "application/octet-stream": {}
        }  # the same JSON, and tensors as bytes behind it
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference("InferenceRequest")}, **bytes_behind},
        }
        operation["responses"]["200"]["content"] = {
            "application/json": {"schema": _reference("InferenceResponse")},
            **bytes_behind,
        }


def _inferred(champion: Champion, body: bytes) -> list[Schema]:
    try:
        asked = finish(open_inference.read_in_steps(champion, body, None, 1, recorded=False))
        predicted = predict_many(champion, asked.body, 1).content
        content, _ = finish(open_inference.answer_in_steps(champion, asked, predicted, recorded=False))
    except Problem:  # as in `_answers_of`
        return []
    return [msgspec.json.decode(content)]


def _add_benchmarks(merged: Schema, prefix: str, add: Callable[..., None]) -> None:
    """What is measured takes what is predicted, and how often."""
    schemas = merged["components"]["schemas"]
    _, types = msgspec.json.schema_components([Benchmark], ref_template=REFERENCE)
    schemas |= types | {"Benchmark": types["Benchmark"] | {"examples": [msgspec.to_builtins(BENCHMARK)]}}
    count = {
        "type": "integer",
        "description": "requests to make, one after the other",
        "default": DEFAULT_ITERATIONS,
        "minimum": 1,
        "maximum": MAX_ITERATIONS,
    }
    predicted = schemas[f"{prefix}Request"]
    asked = {name: value for name, value in predicted.items() if name not in ("anyOf", "examples")}
    schemas[f"{prefix}BenchmarkRequest"] = asked | {
        "title": f"{prefix}BenchmarkRequest",
        "description": "A request for a prediction; that of the example where only `n_iterations` is given.",
        "properties": predicted.get("properties", {}) | {"n_iterations": count},
        "examples": [{"n_iterations": 100}],
    }
    stored = {
        "type": "object",
        "properties": {
            "entity_id": {"type": "string", "description": "whose stored inputs are taken", "minLength": 1},
            "n_iterations": count,
        },
        "required": ["entity_id"],
        "additionalProperties": False,
        "examples": [{"entity_id": "7", "n_iterations": 100}],
    }
    answer = _reference("Benchmark")
    summary = "How fast this service answers: its own requests over HTTP, recorded and tagged as those of a benchmark"
    request = _reference(f"{prefix}BenchmarkRequest")
    add("benchmark", "benchmark", summary, request, answer, BENCHMARK_REFUSALS)
    summary = "The same, of an entity whose inputs are stored"
    add("benchmark/id", "benchmarkStored", summary, stored, answer, BENCHMARK_REFUSALS)


def camel(name: str) -> str:
    """lap_times is LapTimes. No two names share one: an underscore goes only where a capital replaces it."""
    joined = re.sub(r"(?!^)_([a-z])", lambda found: found[1].upper(), name)
    return joined[:1].upper() + joined[1:]


def _add_shield(merged: Schema, guarded: bool) -> None:
    """What every operation may answer beside what it says itself, and the key it needs."""
    for path, operations in merged["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status, description in (SHIELDED | (GUARDED if guarded else {})).items():
                if path not in PROBES or (status == "408"):
                    responses.setdefault(status, _refusal(description))
            if guarded and path in PROBES:
                operation["security"] = []
    if guarded:
        merged["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        merged["security"] = [{"key": []}]


def schemas_of(champion: Champion, prefix: str = "", known: str | None = None) -> Schema:
    """The schemas of request, answer and question: made from the types that decode and encode them.

    Args:
        prefix: of these three; what they refer to is the same for all forecasts.
        known: the id of an entity that is stored, for examples.
    """
    _, schemas = msgspec.json.schema_components(
        [champion.request, champion.answer, Options, Advice], ref_template=REFERENCE
    )
    request, answer, options = (schemas.pop(name) for name in ("Request", "Answer", "Options"))
    needed = [field.name for field in champion.manifest.inputs if not field.nullable]
    for field in champion.manifest.inputs:
        described = request["properties"][field.name]
        if field.type == "integer":
            for part in described.get("anyOf", [described]):
                if part.pop("multipleOf", None):
                    part["type"] = "integer"
        if field.nullable:
            described["default"] = None  # unless it is stored of the entity
    request.pop("required", None)  # nothing is, of an entity that is stored
    request |= {
        "description": f"One {champion.manifest.entity}: its inputs, or the id by which they are stored.",
        "examples": [champion.manifest.example],
        "anyOf": [
            {"required": needed},
            {"required": ["entity_id"], "properties": {"entity_id": {"type": "string"}}},
        ],
    }
    for given in answer["properties"].values():
        given.pop("default", None)  # that of the type, which says nothing about an answer
    # msgspec counts what has a default as optional; an answer leaves out only what is unset.
    answer["required"] = [
        part.encode_name
        for part in msgspec.structs.fields(champion.answer)
        if part.default is not msgspec.UNSET
    ]
    answer["examples"] = _answers_of(champion)
    answer["description"] = f"{champion.manifest.title}: {describe(champion.manifest)}."
    own = {"Request": request, "Answer": answer}
    if champion.manifest.advice:
        own["Question"] = request | {"properties": request["properties"] | options["properties"]}
    named = {f"{prefix}{name}": schema | {"title": prefix + name} for name, schema in own.items()}
    return schemas | named | entities_of(champion, request, prefix, known)


def _answers_of(champion: Champion) -> list[Schema]:
    """The answer to the example of a request, by the champion itself; none where it refuses even that."""
    try:
        return [msgspec.json.decode(predict_one(champion, msgspec.json.encode(champion.manifest.example)))]
    except Problem:  # it has expired, or its example has no finite prediction
        return []


def unknown(prefix: str = "") -> Schema:
    """What stands for the schemas of a forecast without a champion."""
    return {
        f"{prefix}Request": {
            "type": "object",
            "description": "The declared inputs of the forecast; their names are known once a champion serves.",
        },
        f"{prefix}Answer": {
            "type": "object",
            "description": "predicted_<target>, its interval, version and ages.",
        },
        **unknown_entities(prefix),
    }


PROBLEM: Schema = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "properties": {
        "type": {"type": "string", "description": "the cause, e.g. urn:vroom:invalid-input"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what, where, rule and remedy"},
        "help": {"type": "string", "description": "path of the page about this cause"},
        "error": {"type": "string", "description": "the same; under /v2, where clients expect it"},
        "field": {"type": "string", "description": "the first field that is wrong"},
        "allowed": {"type": "string", "description": "the allowed values of that field"},
        "current": {
            "type": "object",
            "description": "of a conflict about what serves: the present version and generation, and the open command",
        },
        "errors": {
            "type": "array",
            "description": "everything that is wrong",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "detail": {"type": "string"},
                    "allowed": {"type": "string"},
                    "row": {"type": "integer", "description": "index of the row in the batch, from 0"},
                },
                "required": ["field", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def _operation(
    name: str, tag: str, summary: str, request: Schema, answer: Schema, refusals: Mapping[str, str]
) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": answer}}},
            **{status: _refusal(description) for status, description in refusals.items()},
        },
    }


def _describe_responses(operation: Schema) -> None:
    """Litestar documents its own shape of errors, which is not ours, and answers in the interpreter's words."""
    for status, response in operation["responses"].items():
        if response["description"] == HTTPStatus(int(status)).description:
            response["description"] = REFUSALS.get(status) or operation["summary"]
        if status >= "400":
            operation["responses"][status] = _refusal(response["description"])


def _refusal(description: str) -> Schema:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _reference("Problem")}}}


def _reference(name: str) -> Schema:
    return {"$ref": REFERENCE.format(name=name)}
