"""The OpenAPI document: what Litestar knows of the routes, and what the champion knows of its request.

The request of /predict is declared by the forecast, so its schema can only come from the champion that
serves; before there is one the document says that inputs are numbers.
"""

import copy
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin

from vroom_api.champion import HIGHEST_LEVEL, LOWEST_LEVEL, USUAL_LEVEL, Champion, ChampionWatch, bounds_of
from vroom_api.contract import InputField
from vroom_api.problems import MEDIA_TYPE

Schema = dict[str, Any]

REFUSALS = {
    "400": "the body or a parameter cannot be read",
    "413": "the body is too large",
    "422": "a field is unknown, missing or outside its range, or there is no finite prediction",
    "503": "no champion serves yet",
}


class _Merged:
    """The document of the champion that serves, built once for each."""

    def __init__(self, watch: ChampionWatch, largest_batch: int) -> None:
        self._watch = watch
        self._largest_batch = largest_batch
        self._built: tuple[Champion | None, Schema] | None = None

    def of(self, generated: Schema) -> Schema:
        champion = self._watch.champion
        if self._built is None or self._built[0] is not champion:
            self._built = champion, document(generated, champion, self._largest_batch)
        return self._built[1]


class DocumentPlugin(JsonRenderPlugin):
    """/schema/openapi.json"""

    def __init__(self, watch: ChampionWatch, largest_batch: int) -> None:
        super().__init__(path="/openapi.json")
        self._merged = _Merged(watch, largest_batch)

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return self.render_json(request, self._merged.of(openapi_schema))


class PagePlugin(SwaggerRenderPlugin):
    """/schema"""

    def __init__(self, watch: ChampionWatch, largest_batch: int) -> None:
        super().__init__(path="/")
        self._merged = _Merged(watch, largest_batch)

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return super().render(request, self._merged.of(openapi_schema))


def document(generated: Schema, champion: Champion | None, largest_batch: int) -> Schema:
    """The whole document."""
    merged = copy.deepcopy(msgspec.to_builtins(generated))
    schemas = merged.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Problem": PROBLEM, "Inputs": inputs_schema(champion), "Prediction": answer_schema(champion)}
    for path in merged["paths"].values():
        for operation in path.values():
            _use_problems(operation)
    merged["paths"]["/predict"] = {
        "post": _operation("predict", "Predict one", _reference("Inputs"), _reference("Prediction"))
    }
    merged["paths"]["/predict/batch"] = {
        "post": _operation(
            "predictBatch",
            f"Predict 1 to {largest_batch}, answered in their order",
            {"type": "array", "items": _reference("Inputs"), "minItems": 1, "maxItems": largest_batch},
            {"type": "array", "items": _reference("Prediction")},
        )
    }
    if champion is not None:
        merged["info"]["description"] = (
            f"{champion.manifest.title}: {champion.manifest.unit} of a {champion.manifest.entity} "
            f"in {champion.manifest.horizon}."
        )
    return merged


def inputs_schema(champion: Champion | None) -> Schema:
    if champion is None:
        return {
            "type": "object",
            "description": "The declared inputs of the forecast. No champion serves yet, so their names are not known.",
            "additionalProperties": {"type": "number"},
        }
    inputs = champion.manifest.inputs
    level = {
        "type": "number",
        "minimum": LOWEST_LEVEL,
        "maximum": HIGHEST_LEVEL,
        "default": USUAL_LEVEL,
        "description": "probability that the interval holds the outcome",
    }
    return {
        "type": "object",
        "description": f"One {champion.manifest.entity}.",
        "properties": {field.name: field_schema(field) for field in inputs} | {"level": level},
        "required": [field.name for field in inputs],
        "additionalProperties": False,
        "examples": [{field.name: _example(field) for field in inputs}],
    }


def field_schema(field: InputField) -> Schema:
    declared = bounds_of(field)
    bounds = {
        "minimum": declared.minimum,
        "exclusiveMinimum": declared.above,
        "maximum": declared.maximum,
    }
    unit = f", in {field.unit}" if field.unit else ""
    return {
        "type": field.type,
        "description": f"{field.description}{unit}",
        "examples": [_example(field)],
    } | {name: bound for name, bound in bounds.items() if bound is not None}


def answer_schema(champion: Champion | None) -> Schema:
    target = champion.manifest.target if champion else None
    number = {"type": "number"}
    value = {f"predicted_{target}": number | {"description": champion.manifest.unit}} if champion else {}
    interval = {
        "type": "object",
        "description": "the central interval that holds the outcome with probability `level`",
        "properties": {"level": number, "low": number, "high": number},
        "required": ["level", "low", "high"],
        "additionalProperties": False,
    }
    properties = {
        **value,
        "interval": interval,
        "model_version": {"type": "integer"},
        "horizon": {"type": "string", "description": "the period that the number covers"},
        "data_as_of": {"type": "string", "description": "time of the latest event in the training data"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": not champion,
    }


PROBLEM: Schema = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "properties": {
        "type": {"type": "string", "description": "the cause, e.g. urn:vroom:invalid-input"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what, where, rule and remedy"},
        "field": {"type": "string", "description": "the first field that is wrong"},
        "allowed": {"type": "string", "description": "what that field may be"},
        "errors": {
            "type": "array",
            "description": "everything that is wrong",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "detail": {"type": "string"},
                    "allowed": {"type": "string"},
                    "row": {"type": "integer", "description": "of a batch, from 0"},
                },
                "required": ["field", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def _operation(name: str, summary: str, request: Schema, answer: Schema) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["predictions"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": answer}}},
            **{status: _refusal(description) for status, description in REFUSALS.items()},
        },
    }


def _use_problems(operation: Schema) -> None:
    """Litestar documents its own shape of errors, which is not ours."""
    for status, response in operation.get("responses", {}).items():
        if status >= "400":
            operation["responses"][status] = _refusal(response.get("description", "refused"))


def _refusal(description: str) -> Schema:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _reference("Problem")}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _example(field: InputField) -> float | int:
    return round(field.example) if field.type == "integer" else field.example
