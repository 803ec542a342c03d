"""The OpenAPI document as a page: each operation with what it takes, what it answers and how to ask."""

import json
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from vroom_api.dashboard.pages import page

Schema = dict[str, Any]

_DEEPEST = 2  # types inside types
STREAM = "text/event-stream"
OTHERS = "others"  # the section of what has no tag
FIRST = ("predict", "advise", "forecasts")  # of the page


class Property(msgspec.Struct, frozen=True):
    """A parameter, or a field of a body."""

    name: str
    type: str
    allowed: str
    meaning: str
    required: bool = False


class Part(msgspec.Struct, frozen=True):
    """What an operation takes or answers."""

    heading: str
    properties: list[Property]
    empty: str = ""  # displayed where there are none
    sample: str = ""  # one such body, as JSON


class OperationView(msgspec.Struct, frozen=True):
    anchor: str  # in the page's address
    method: str
    path: str
    summary: str
    parts: list[Part]
    example: str  # how to ask; "" where nothing is known that could be asked for
    without: str = ""  # displayed where there is none


class Section(msgspec.Struct, frozen=True):
    """Operations that belong together."""

    heading: str
    operations: list[OperationView]


class Reference(msgspec.Struct, frozen=True):
    """What reference.html lays out."""

    title: str
    description: str
    sections: list[Section]
    problem: list[Property]


def page_of(whole: Schema, address: str, prediction: str | None = None) -> str:
    """The page of a document of the service at an address.

    Args:
        prediction: the id of one that is in the record, for the example that needs one.
    """
    schemas = whole["components"]["schemas"]
    sections: dict[str, list[OperationView]] = {}
    for path, operations in sorted(whole["paths"].items(), key=lambda item: (_rank(item[0]), item[0])):
        for method, operation in operations.items():
            view = _operation(path, method, operation, whole, address, prediction)
            sections.setdefault(operation.get("tags", [OTHERS])[0], []).append(view)
    reference = Reference(
        title=whole["info"]["title"],
        description=whole["info"].get("description", "No champion serves yet."),
        sections=[Section(heading, views) for heading, views in sections.items()],
        problem=_properties(schemas["Problem"], schemas),
    )
    return page("reference.html", reference)


def _operation(
    path: str, method: str, operation: Schema, whole: Schema, address: str, prediction: str | None
) -> OperationView:
    schemas = whole["components"]["schemas"]
    given = {one["name"]: _example_value(one, prediction) for one in _required(operation)}
    unknown = [name for name, value in given.items() if value is None]
    if not unknown and not _has_example(operation, schemas):
        unknown = ["body"]
    asked = "" if unknown else address + _filled(path, operation, given)
    if STREAM in _answer_of(operation):
        asked += "?wait=0"  # else it would never end
    example = "" if unknown else _curl(asked, method, operation, schemas)
    if example and operation.get("security", whole.get("security")):
        example += ' -H "authorization: Bearer $KEY"'
    return OperationView(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        parts=list(_parts_of(operation, schemas)),
        example=example,
        without=f"There is no example here: no {', '.join(unknown)} to ask for is known yet."
        if unknown
        else "",
    )


def _has_example(operation: Schema, schemas: Schema) -> bool:
    """Whether a body is known that can be sent as it stands; none is for what changes who answers."""
    if "requestBody" not in operation:
        return True
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return bool(_resolved(schema.get("items", schema), schemas).get("examples"))


def _rank(path: str) -> int:
    """Predictions first: they are what people come for."""
    first = path.split("/")[1]
    return FIRST.index(first) if first in FIRST else len(FIRST)


def _parts_of(operation: Schema, schemas: Schema) -> Iterator[Part]:
    if parameters := operation.get("parameters"):
        yield Part("Parameters", [_parameter(given, schemas) for given in parameters])
    if body := operation.get("requestBody"):
        yield _body("Request", body["content"]["application/json"]["schema"], schemas)
    for media_type, content in _answer_of(operation).items():
        if media_type == "application/json":
            part = _body("Answer", content["schema"], schemas)
            yield msgspec.structs.replace(part, sample=_sample(content["schema"], schemas))
        else:
            yield Part(f"Answer: {media_type}", [])


def _answer_of(operation: Schema) -> Schema:
    """What an operation answers when it does what it is asked, by media type."""
    answers = operation["responses"].items()
    content: Schema = next(one for status, one in answers if status.startswith("2"))["content"]
    return content


def _parameter(given: Schema, schemas: Schema) -> Property:
    schema = given["schema"]
    kind, meaning = _kind(schema, schemas), given.get("description", "")
    return Property(given["name"], kind, _range(schema), meaning, given.get("required", False))


def _body(heading: str, schema: Schema, schemas: Schema) -> Part:
    one = _resolved(schema.get("items", schema), schemas)
    plural = ": a list, each with" if "items" in schema else ""
    return Part(heading + plural, _properties(one, schemas), one.get("description", ""))


def _sample(schema: Schema, schemas: Schema) -> str:
    """An answer as a champion gives it; "" where none of its type is known."""
    samples = _resolved(schema.get("items", schema), schemas).get("examples", [])
    if not samples:
        return ""
    return json.dumps([samples[0]] if "items" in schema else samples[0], indent=2, ensure_ascii=False)


def _properties(schema: Schema, schemas: Schema) -> list[Property]:
    required = {*schema.get("required", ()), *schema.get("anyOf", [{}])[0].get("required", ())}
    return [
        Property(name, _kind(part, schemas), _range(part), _meaning(part), name in required)
        for name, part in schema.get("properties", {}).items()
    ]


def _meaning(schema: Schema) -> str:
    reported = [part.get("description", "") for part in (schema, *schema.get("anyOf", []))]
    return next(filter(None, reported), "")


def _required(operation: Schema) -> list[Schema]:
    return [given for given in operation.get("parameters", []) if given.get("required")]


def _filled(path: str, operation: Schema, values: dict[str, str | None]) -> str:
    """A path with a value of each parameter that it needs."""
    query = []
    for given in _required(operation):
        value = quote(str(values[given["name"]]), safe="")
        if given["in"] == "path":
            path = path.replace("{" + given["name"] + "}", value)
        else:
            query.append(f"{given['name']}={value}")
    return f"{path}?{'&'.join(query)}" if query else path


def _example_value(given: Schema, prediction: str | None) -> str | None:
    """A value that there is; None where none is known."""
    schema = given["schema"]
    if schema.get("format") == "uuid":
        return prediction if given["name"] == "identifier" else None
    values = schema.get("examples") or schema.get("enum")
    return str(values[0]) if values else None


def _curl(address: str, method: str, operation: Schema, schemas: Schema) -> str:
    if method == "get":
        return f"curl -s {shlex.quote(address)}"
    if "requestBody" not in operation:
        return f"curl -s -X {method.upper()} {address}"
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    example = _resolved(schema.get("items", schema), schemas).get("examples", [{}])[0]
    content = json.dumps([example] if "items" in schema else example)
    verb = "" if method == "post" else f"-X {method.upper()} "
    return f"curl -s {verb}{address} -H 'content-type: application/json' -d {shlex.quote(content)}"


def _kind(schema: Schema, schemas: Schema, depth: int = 0) -> str:
    """The type of a value, with the types of what is inside it, to a depth that can be read."""
    schema = _resolved(schema, schemas)
    if "enum" in schema:
        return "string"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(option, schemas, depth) for option in options))
    kind = schema.get("type") or "object"
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_kind(schema['items'], schemas, depth)}"
    if kind == "object" and depth < _DEEPEST and (inner := schema.get("properties")):
        return (
            f"{{{', '.join(f'{name}: {_kind(part, schemas, depth + 1)}' for name, part in inner.items())}}}"
        )
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), dict) and values:
        return f"object of {_kind(values, schemas, depth)}"
    return kind if isinstance(kind, str) else " or ".join(kind)


def _range(schema: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "maxLength": "length at most",
        "default": "if not given",
    }
    reported = [f"one of {', '.join(filter(None, schema['enum']))}"] if "enum" in schema else []
    reported += [
        f"{word} {json.dumps(schema[key]).removesuffix('.0')}"
        for key, word in words.items()
        if schema.get(key) is not None
    ]
    reported += filter(None, map(_range, schema.get("anyOf", [])))
    if "default" in schema and schema["default"] is None:
        reported.append("may be left out")
    return ", ".join(reported)


def _resolved(schema: Schema, schemas: Schema) -> Schema:
    found: Schema = schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    return found
