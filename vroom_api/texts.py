"""The texts that callers send: the pattern of each, what a refusal says instead of it, and which name was meant.

Patterns are those of JSON Schema, which the OpenAPI document shows. The lookahead at their end is for Python,
whose `$` lets a newline follow.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_END = r"$(?!\n)"
_OF_A_NAME = "small letter, then small letters, digits and underscores"
MAX_NAME: Final = 64
MIN_PART: Final = 3  # characters by which a part of a name is recognized
MAX_MEANT: Final = 2  # names that have the same part
NO_CONTROL_CHARACTERS: Final = rf"^[^\x00-\x1f\x7f]+{_END}"
NAME: Final = rf"^[a-z][a-z0-9_]*{_END}"
TAG_NAME: Final = rf"^[a-z][a-z0-9_]{{0,63}}{_END}"
TAG: Final = rf"^[a-z][a-z0-9_]{{0,63}}:[^\x00-\x1f\x7f]{{1,128}}{_END}"
PREDICTION_ID: Final = (
    rf"^[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}{_END}"
)

_WORDS = {
    NO_CONTROL_CHARACTERS: "text without control characters",
    NAME: f"a name: a {_OF_A_NAME}",
    TAG_NAME: f"the name of a tag: a {_OF_A_NAME}, {MAX_NAME} at most",
    TAG: f"name:text, the name a {_OF_A_NAME}, {MAX_NAME} at most, the text 1..128 characters",
    PREDICTION_ID: "the id of a prediction, as /predict answers it in prediction_id",
}
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "uuid": "the id of a prediction, as /predict answers it in prediction_id",
    "datetime": "a time like 2026-03-01T12:00:00Z",
}
_BY_MESSAGE = {f"Expected `str` matching regex {pattern!r}": words for pattern, words in _WORDS.items()}
_OTHERS = {
    "Invalid UUID": _TYPES["uuid"],
    "Invalid RFC3339 encoded datetime": _TYPES["datetime"],
    "Expected `datetime` with a timezone component": f"{_TYPES['datetime']}, with Z or an offset",
}
_NUMBER_FOR_TEXT = re.compile(r"^Expected `str[^`]*`, got `(?:int|float)`$")
_LENGTH = re.compile(r"`(\w+)[^`]*` of length (>=|<=) (\d+)")
_PARTS = {"str": "characters"}
_LIMITS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


def as_asked(message: str) -> str:
    """What a message of msgspec about one value asks for, e.g. "expected a whole number at least 1"."""
    message = message.partition(" - at `")[0]
    known = _BY_MESSAGE.get(message) or _OTHERS.get(message)
    if known is not None:
        return f"expected {known}"
    if _NUMBER_FOR_TEXT.match(message):
        return 'expected text, got a number; send it in quotes, e.g. "7"'
    words = _LENGTH.sub(
        lambda found: f"`{found[1]}` of {_LIMITS[found[2]]} {found[3]} {_PARTS.get(found[1], 'entries')}",
        message,
    )
    words = re.sub(r"(>=|<=|>|<) ", lambda found: f"{_LIMITS[found[1]]} ", words)
    words = re.sub(r"`([^`]*)`", lambda found: _types(found[1]), words)
    return words[:1].lower() + words[1:]


def _types(names: str) -> str:
    """The types between two backquotes, e.g. `str | null`."""
    return " or ".join(_TYPES.get(name, name) for name in names.split(" | "))


def meant(name: str, names: Iterable[str]) -> str:
    """What a refusal of an unknown name adds to it, e.g. " (did you mean actual_price?)"; "" where nothing is near.

    Args:
        names: that are taken and not yet given.
    """
    known = {one.lower(): one for one in names}
    name = name[:MAX_NAME].lower()
    near = get_close_matches(name, known, n=1)
    if not near and len(name) >= MIN_PART:
        near = [one for one in known if name in one][:MAX_MEANT]
    return f" (did you mean {' or '.join(known[one] for one in near)}?)" if near else ""
