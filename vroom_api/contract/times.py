"""Times as a model sees them: seconds since 1970, in UTC where the zone is known, else as they are written.

A float64 holds them to the microsecond within 270 years of 1970, and to a hundredth of a second in every year.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)
_DAY: Final = r"(?!0000)\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|[12]\d))"
_CLOCK: Final = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
_OFFSET: Final = r"(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)?"
# As in JSON Schema. The lookahead at its end is for Python, whose `$` lets a newline follow.
TIME: Final = rf"^{_DAY}([T ]{_CLOCK}{_OFFSET})?$(?!\n)"
EXAMPLE: Final = "2023-07-27T14:58:26"
_matches = re.compile(TIME, re.ASCII).search


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601, e.g. ``2023-07-27T14:58:26+02:00`` or ``2023-07-27``.

    Raises:
        ValueError: it is not one.
    """
    if not _matches(text):
        raise ValueError(f"{text!r} is not a time such as {EXAMPLE}")
    found = datetime.fromisoformat(text)
    try:
        found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except OverflowError:
        raise ValueError(f"{text!r} is before the year 1 or after 9999") from None
    return seconds_since(found)


def seconds_since(moment: datetime) -> float:
    """Seconds from 1970 to a time without a zone."""
    return (moment - _EPOCH) / timedelta(seconds=1)


def text_of(seconds: float) -> str:
    """The time in ISO 8601, to the microsecond."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()
