"""Bodies as JSON: the mark that may stand before them, and why one cannot be read.

The decoder says at which byte it gave up. What a caller did is found here by reading the body once more, so
that a body that can be read costs nothing.
"""

import json
import re
from collections import Counter

from vroom_api.problems import Problem

_MARK = b"\xef\xbb\xbf"  # U+FEFF in UTF-8, as .NET and PowerShell write it
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FORM = re.compile(rb"[\w.\[\]%+-]+=")
_MULTIPART = re.compile(rb"--[^\r\n]+\r?\ncontent-disposition:", re.IGNORECASE)
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_POSITION = re.compile(r" \(byte (\d+)\)$")
_NEAR = 20  # bytes before and behind what cannot be read


def without_mark(body: bytes) -> bytes:
    """The body without a byte order mark, which a reader may pass over (RFC 8259 section 8.1)."""
    return body.removeprefix(_MARK)


def malformed(body: bytes, error: Exception) -> Problem:
    """The refusal of a body that is not JSON.

    Args:
        error: of the decoder.
    """
    return Problem(400, "malformed", f"the body cannot be read as JSON: {_reason(body, error)}")


def repeated_names(body: bytes) -> list[str]:
    """Names that an object of a body has twice; of those the last counts, and the reader may have met the first."""
    found: dict[str, None] = {}

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(content := dict(pairs)) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            found.update((name, None) for name, times in counts.items() if times > 1)
        return content

    json.loads(body, object_pairs_hook=look)
    return list(found)


def _reason(body: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not body.strip():
        return "it is empty"
    return _encoding(body, error) or _other_type(body) or _extension(body) or _where(body, str(error))


def _encoding(body: bytes, error: Exception) -> str | None:
    if body.startswith(_GZIP):
        return "it is compressed with gzip; send it plain"
    if body.startswith(_UTF16) or b"\0" in body[:4]:
        return "it is UTF-16 or UTF-32; send UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as undecodable:
        at = undecodable.start
        return f"byte {at} (0x{body[at]:02x}) is not UTF-8; send UTF-8"
    return None


def _other_type(body: bytes) -> str | None:
    if _FORM.match(body) or _MULTIPART.match(body):
        return 'it is a form; send a JSON object, e.g. {"name": 1}, as application/json'
    return None


class _NotANumber(ValueError):
    """What Python and pandas write for a number that is none."""


def _refuse_constant(name: str) -> float:
    raise _NotANumber(name)


def _extension(body: bytes) -> str | None:
    """What Python's own reader takes and JSON does not have."""
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except _NotANumber as constant:
        return f"{constant} is not JSON; leave the input out or send null"
    except (ValueError, RecursionError):
        return None
    half = _HALF_OF_A_PAIR.search(json.dumps(content, ensure_ascii=False))
    if half is None:
        return None
    return (
        f"\\u{ord(half[0]):x} is one half of a character; send both halves, or the character itself in UTF-8"
    )


def _where(body: bytes, message: str) -> str:
    """The decoder's message with what is written where it stopped."""
    message = message.removeprefix("JSON is malformed: ")
    found = _POSITION.search(message)
    if found is None:
        return "it ends too early" if "truncated" in message else message
    at = int(found[1])
    near = body[max(at - _NEAR, 0) : at + _NEAR].decode(errors="ignore")
    return f"{message}, near {near!r}"
