"""Small bodies of one object, decoded strictly: a field that is not known is refused like one that is wrong."""

import re
from typing import Any, TypeVar

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, RequestBody

from vroom_api.contract.decoding import decoder
from vroom_api.json_bodies import malformed, without_mark
from vroom_api.problems import Fault, Problem
from vroom_api.texts import as_asked, meant

S = TypeVar("S", bound=msgspec.Struct)

_FIELD = re.compile(r" - at `\$\.(?P<field>\w+)")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`", re.DOTALL)


def decoded(body: bytes, kind: type[S]) -> S:
    """The object of a body, of a struct that forbids unknown fields.

    Raises:
        Problem: 400 for what is not JSON, 422 for what is not such an object.
    """
    content = without_mark(body)
    try:
        found: S = decoder(kind).decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(content, error, kind.__struct_fields__) from None
    return found


def _refusal(content: bytes, error: Exception, fields: tuple[str, ...]) -> Problem:
    try:
        msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as unreadable:
        return malformed(content, unreadable)
    text = str(error)
    if missing := _MISSING.match(text):
        return _invalid(missing[1], "missing")
    if unknown := _UNKNOWN.match(text):
        return _invalid(
            unknown[1][:64], f"unknown field{meant(unknown[1], fields)}; the fields are {', '.join(fields)}"
        )
    found = _FIELD.search(text)
    if found is None:
        return _invalid("", f"send a JSON object with {', '.join(fields)}")
    return _invalid(found["field"], as_asked(text))


def _invalid(field: str, rule: str) -> Problem:
    detail = f"{field}: {rule}" if field else rule
    return Problem(422, "invalid-input", detail, faults=[Fault(field, detail)])


def described(kind: type[msgspec.Struct], example: dict[str, Any]) -> RequestBody:
    """Such a body in the OpenAPI document."""
    _, components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema: Any = components.pop(kind.__name__) | {"examples": [example]}
    for field in schema["properties"].values():
        for option in field.get("anyOf", [field]):
            if reference := option.pop("$ref", None):  # to what the document has no other use for
                option |= components[reference]
    return RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)
