"""JSON and plain values become typed ones here, because several threads do it.

msgspec 0.22 resolves the fields of a struct when they are first needed, and marks them as resolved before they are: a
thread that needs the same struct in that moment follows a null pointer, and the process ends with a segmentation
fault. So a type is resolved by one thread at a time.
"""

import threading
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_one_at_a_time = threading.Lock()


def decode(content: bytes | str, kind: type[T]) -> T:
    """The value that JSON has.

    Raises:
        msgspec.MsgspecError: it is not JSON, or of another type.
        UnicodeDecodeError: it is not UTF-8.
    """
    value: T = decoder(kind).decode(content)
    return value


def convert(value: Any, kind: type[T]) -> T:
    """A plain value, as JSON has them, as one of a type.

    Raises:
        msgspec.ValidationError: it is of another type.
    """
    decoder(kind)
    return msgspec.convert(value, kind)


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """What decodes JSON into a type, for whoever does it often."""
    with _one_at_a_time:
        return _resolved(kind)


@lru_cache(256)  # bounded: every loaded champion brings a type of request
def _resolved(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
