"""Refusals: why a request is not answered, in the words of the forecast's own declaration."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import LONGEST_TEXT, bounds_of
from vroom_api.contract import OPTIONS, InputField, Manifest
from vroom_api.contract.decoding import convert
from vroom_api.contract.intervals import MAX_LEVEL, MIN_LEVEL
from vroom_api.contract.times import EXAMPLE, seconds_of, text_of
from vroom_api.json_bodies import malformed, repeated_names
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import MAX_TAGS, MAX_TEXT_LENGTH, Tags, fits
from vroom_api.texts import as_asked, meant

MAX_FAULTS = 20  # reported of one request
MAX_HINTS = 3  # of one row: comparing names takes longer than all the rest
MAX_LISTED = 12  # texts of an input that may be any


def refusal(manifest: Manifest, body: bytes, error: Exception, *, batch: bool = False) -> Problem:
    """Why a body was refused, in the terms of the manifest.

    The decoder stops at the first fault and speaks of types; here the body is read again without them, so
    that all faults are reported at once.
    """
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as unreadable:
        return malformed(body, unreadable)
    if batch:
        if not isinstance(content, list):
            return Problem(422, "invalid-input", "the body is not a JSON array of objects")
        found: list[Fault] = []
        for number, row in enumerate(content):
            found += faults(manifest, row, number)
            if len(found) >= MAX_FAULTS:
                break
    else:
        found = faults(manifest, content)
    found = found[:MAX_FAULTS] or sent_twice(body)
    detail = "; ".join(fault.detail for fault in found) or str(error)
    return Problem(422, "invalid-input", detail, faults=found)


def sent_twice(body: bytes) -> list[Fault]:
    """Fields that a body has twice: the decoder met a wrong value in front of the one that counts."""
    return [Fault(name[:64], f"{name[:64]}: sent twice; send it once") for name in repeated_names(body)]


def faults(
    manifest: Manifest, content: Any, row: int | None = None, options: Sequence[str] = OPTIONS
) -> list[Fault]:
    """Everything that is wrong with one request, as it was decoded without a type.

    Args:
        options: that the route takes beside the inputs.
    """
    where = "" if row is None else f"row {row}: "
    if not isinstance(content, dict):
        return [Fault("", f"{where}a JSON object of inputs is expected", row=row)]
    found = _unknown(content, [*(field.name for field in manifest.inputs), *options], where, row)
    for field in manifest.inputs:
        allowed = allowed_of(field)
        if field.name not in content:
            if not field.nullable and content.get("entity_id") is None:
                found.append(missing_input(field, where, row))
        elif why := wrong(content[field.name], field):
            found.append(wrong_input(field, content[field.name], why, where, row))
    level = content.get("level", MIN_LEVEL)
    allowed = f"{MIN_LEVEL}..{MAX_LEVEL}"
    if not _is_number(level) or not MIN_LEVEL <= level <= MAX_LEVEL:
        detail = f"{where}level: {_quoted(level)} is not within {allowed}"
        found.append(Fault("level", detail, allowed, row))
    if not isinstance(explained := content.get("explain", False), bool):
        detail = f"{where}explain: {_quoted(explained)} is neither true nor false"
        found.append(Fault("explain", detail, "true or false", row))
    entity_id = content.get("entity_id")
    if not (entity_id is None or (isinstance(entity_id, str) and fits(entity_id))):
        allowed = f"1..{MAX_TEXT_LENGTH} characters without control characters"
        detail = f"{where}entity_id: {_quoted(entity_id)} is not {allowed}{_as_text(entity_id)}"
        found.append(Fault("entity_id", detail, allowed, row))
    if "tags" in content:
        try:
            convert(content["tags"], Tags | None)  # type: ignore[arg-type]
        except msgspec.ValidationError as error:
            allowed = f'up to {MAX_TAGS} names with texts, e.g. {{"session": "2024 race"}}'
            detail = f"{where}tags: {as_asked(str(error))}; they are {allowed}"
            found.append(Fault("tags", detail, allowed, row))
    return found


def _unknown(content: dict[str, Any], known: list[str], where: str, row: int | None) -> list[Fault]:
    allowed = ", ".join(known)
    free = [name for name in known if name not in content]
    found: list[Fault] = []
    for name in islice((name for name in content if name not in known), MAX_FAULTS):
        hint = meant(name, free) if len(found) < MAX_HINTS else ""
        detail = f"{where}{name[:64]}: unknown field{hint}; the fields are {allowed}"
        found.append(Fault(name[:64], detail, allowed, row))
    return found


def _as_text(value: Any) -> str:
    """The remedy for a number instead of a text."""
    return f'; send it as text: "{_quoted(value)}"' if _is_number(value) else ""


def missing_input(field: InputField, where: str, number: int | None) -> Fault:
    allowed = allowed_of(field)
    return Fault(field.name, f"{where}{field.name}: missing; it is {allowed}", allowed, number)


def wrong_input(field: InputField, value: Any, why: str, where: str, number: int | None) -> Fault:
    allowed = allowed_of(field)
    return Fault(field.name, f"{where}{field.name}: {_quoted(value)} {why} {allowed}", allowed, number)


def wrong_times(manifest: Manifest, values: Sequence[Any], number: int | None) -> Problem:
    """Times that look like some and are none, such as the 29th of February of most years, or are out of bounds.

    Args:
        values: of the inputs, some encoded already.
    """
    where = "" if number is None else f"row {number}: "
    found = [
        wrong_input(field, value, why, where, number)
        for field, value in zip(manifest.inputs, values, strict=True)
        if field.type == "time" and isinstance(value, str) and (why := wrong(value, field))
    ]
    return Problem(422, "invalid-input", "; ".join(fault.detail for fault in found), faults=found)


def incomplete(
    champion: Champion, missing: list[InputField], entity_id: str | None, number: int | None
) -> Problem:
    """Inputs that have to be given and are not."""
    where = "" if number is None else f"row {number}: "
    if entity_id is None:
        found = [missing_input(field, where, number) for field in missing]
        return Problem(422, "invalid-input", "; ".join(fault.detail for fault in found), faults=found)
    manifest = champion.manifest
    names = ", ".join(field.name for field in missing)
    why = (
        f"nothing is stored for {manifest.entity} {entity_id!r}"
        if champion.entities.any_stored()
        else f"nothing is stored for any {manifest.entity} yet: materialize {manifest.forecast}/online_features"
    )
    return Problem(
        404,
        "unknown-entity",
        f"{where}{why}; send {names}",
        faults=[missing_input(field, where, number) for field in missing],
    )


def stored_wrongly(field: InputField, value: Any, why: str, number: int | None) -> Problem:
    """What is stored is of another declaration than the champion's: it was changed, and not yet trained."""
    where, allowed = "" if number is None else f"row {number}: ", allowed_of(field)
    detail = f"{where}{field.name}: the stored value {_quoted(value)} {why} {allowed}; send another"
    return Problem(422, "invalid-input", detail, faults=[Fault(field.name, detail, allowed, number)])


def allowed_of(field: InputField) -> str:
    """The allowed values of an input, e.g. ``0..100 photos``."""
    or_nothing = ", or left out" if field.nullable else ""
    return f"{_range_of(field)}{or_nothing}"


def _range_of(field: InputField) -> str:
    if field.is_open:
        return f"any text of 1 to {LONGEST_TEXT} characters; seen in training: {_listed(field.values[:-1])}"
    if field.type == "text":
        return f"one of {', '.join(field.values)}"
    if field.type == "time":
        return _period_of(field)
    bounds = bounds_of(field)
    unit = f" {field.unit}" if field.unit and field.unit != "flag" else ""
    if bounds.minimum is not None and bounds.maximum is not None:
        return f"{bounds.minimum:.16g}..{bounds.maximum:.16g}{unit}"
    words = []
    if bounds.minimum is not None:
        words.append(f"at least {bounds.minimum:.16g}")
    if bounds.above is not None:
        words.append(f"above {bounds.above:.16g}")
    if bounds.maximum is not None:
        words.append(f"at most {bounds.maximum:.16g}")
    return f"{' and '.join(words) or f'any {field.type}'}{unit}"


def _period_of(field: InputField) -> str:
    words = [
        f"{where} {text_of(bound)}"
        for where, bound in (("at or after", field.minimum), ("at or before", field.maximum))
        if bound is not None
    ]
    return ", ".join(
        [f"a time such as {EXAMPLE}", " and ".join(words)] if words else [f"a time such as {EXAMPLE}"]
    )


def _listed(values: Sequence[str]) -> str:
    first = ", ".join(values[:MAX_LISTED])
    return first if len(values) <= MAX_LISTED else f"{first} and {len(values) - MAX_LISTED} more"


def wrong(value: Any, field: InputField) -> str | None:
    """What stands between a value and the range in a message; None for a value inside it."""
    if value is None and field.nullable:
        return None
    if field.is_open:
        return None if isinstance(value, str) and 1 <= len(value) <= LONGEST_TEXT else "is not"
    if field.type == "text":
        return None if isinstance(value, str) and value in field.values else "is not"
    if field.type == "time":
        return None if _is_time_within(value, field) else "is not"
    if field.type == "integer" and not (_is_number(value) and value == value // 1):
        return "is not an integer within"
    if not _is_number(value):
        return "is not a number within"
    return None if bounds_of(field).allow(value) else "is not within"


def _is_time_within(value: Any, field: InputField) -> bool:
    try:
        seconds = seconds_of(value) if isinstance(value, str) else math.nan
    except ValueError:
        return False
    return bounds_of(field).allow(seconds)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _quoted(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


class NotFinite(Problem):
    """A version has no finite number for a row that is inside all its bounds; another version may have one."""


def not_finite(
    manifest: Manifest, row: Sequence[float], features: Sequence[float], number: int | None
) -> NotFinite:
    """A request that is inside its bounds and still has no answer, e.g. a ratio of 1e308 and 1e-308.

    Args:
        number: of the row in its batch.
    """
    broken = [
        feature
        for feature, value in zip(manifest.features, features, strict=True)
        if not math.isfinite(value)
    ]
    values = {
        field.name: f"{field.name} = {field.formatted(value)}"
        for field, value in zip(manifest.inputs, row, strict=True)
    }
    names = [name for name in values if any(name in feature.inputs for feature in broken)] or list(values)
    given = ", ".join(values[name] for name in names)
    what = ", ".join(feature.expression for feature in broken) or "the prediction"
    where = "" if number is None else f"row {number}: "
    found = [Fault(name, f"{where}{values[name]}", row=number) for name in names]
    return NotFinite(
        422, "no-finite-prediction", f"{where}{what} is not a finite number for {given}", faults=found
    )
