"""What a search asks of the inputs, e.g. ``technology:1,actual_price:40..60``."""

import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from vroom_api.contract import InputField, Manifest
from vroom_api.contract.times import text_of
from vroom_api.problems import Fault, Problem
from vroom_api.texts import meant

MAX_CONDITIONS: Final = 8
_ALLOWED: Final = 'conditions on inputs, e.g. technology:1,actual_price:40..60 or category:"a, b"; of a range either end may be left out'
# A name, and a text in quotes or what stands before the next comma.
_PART = re.compile(r'\s*([^:,"]{1,128}):(?:"((?:[^"\\]|\\["\\])*)"\s*|([^,"]*))(?:,|\Z)')


class Condition(NamedTuple):
    """What the value of an input has to be: between two, or one where they are the same; None is open."""

    name: str
    low: float | str | None
    high: float | str | None

    @property
    def is_equality(self) -> bool:
        return self.low is not None and self.low == self.high


class Search(msgspec.Struct, frozen=True):
    """Which entities; what is empty does not restrict."""

    source: str | None = None
    prefix: str = ""  # of the id
    conditions: tuple[Condition, ...] = ()
    tag: tuple[str, str] | None = None  # name and text

    @property
    def is_for_all(self) -> bool:
        return self == Search()

    @property
    def is_quick(self) -> bool:
        """Whether a page of it is found in half a millisecond: for several conditions many ids may be scanned."""
        return len(self.conditions) <= 1 and self.tag is None


def conditions_of(manifest: Manifest, text: str) -> tuple[Condition, ...]:
    """The conditions of a parameter.

    Raises:
        Problem: it is not a list of them, or names what is not an input, 400.
    """
    found = []
    for name, value, quoted in _parts(text):
        fields = {field.name: field for field in manifest.inputs}
        if name not in fields:
            raise _refused(
                f"{name[:64]!r} is not an input{meant(name, fields)}; the inputs are {', '.join(fields)}"
            )
        found.append(_condition(fields[name], value, quoted))
    if not 1 <= len(found) <= MAX_CONDITIONS:
        raise _refused(f"{len(found)} conditions are not 1 to {MAX_CONDITIONS}")
    return tuple(found)


def _parts(text: str) -> Iterator[tuple[str, str, bool]]:
    """Name and value of each condition, and whether the value was in quotes."""
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise _refused(f"{text[at : at + 40]!r} is not a condition")
        at = part.end()
        if part[2] is not None:
            yield part[1].strip(), re.sub(r"\\(.)", r"\1", part[2]), True
        else:
            yield part[1].strip(), part[3].strip(), False


def _condition(field: InputField, text: str, quoted: bool) -> Condition:
    if field.type == "text":
        return Condition(field.name, text, text)
    low, dots, high = text.partition("..")
    if quoted or not text or text == "..":
        raise _refused(f"{field.name}: {text[:40]!r} is neither a {field.type} nor a range of them")
    first = _bound(field, low)
    return Condition(field.name, first, _bound(field, high) if dots else first)


def _bound(field: InputField, text: str) -> float | str | None:
    if not text.strip():
        return None
    try:
        if field.type == "time":
            return text_of(field.encoded(text.strip()))
        value = float(text)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise _refused(f"{field.name}: {text[:40]!r} is not a {field.type}")
    return value


def _refused(why: str) -> Problem:
    detail = f"where: {why}; it takes {_ALLOWED}"
    return Problem(400, "bad-request", detail, faults=[Fault("where", detail, _ALLOWED)])
