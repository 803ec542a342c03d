"""Query parameters that several routes of the record share."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar.params import QueryParameter

from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import MAX_TEXT_LENGTH, NO_CONTROL_CHARACTERS

Version = Annotated[
    int | None, QueryParameter(ge=1, le=2**31 - 1, description="version of the champion that answered")
]

Forecast = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=64, description="name of the forecast"),
]

NamedForecast = Annotated[
    str,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=64, description="name of the forecast"),
]

Caller = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=MAX_TEXT_LENGTH, description="who asked"),
]

EntityId = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=MAX_TEXT_LENGTH, description="id of the entity"),
]

# Texts, because as times the framework would take bare numbers too.
Since = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"format": "date-time"}, description="from this time on; UTC where no offset is given"
    ),
]

Until = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"format": "date-time"}, description="before this time; UTC where no offset is given"
    ),
]

Tag = Annotated[
    str | None,
    QueryParameter(
        pattern=r"^[a-z][a-z0-9_]{0,63}:[^\x00-\x1f\x7f]{1,128}$(?!\n)",
        description="recorded with the prediction, as name:text",
    ),
]

TagName = Annotated[
    str | None,
    QueryParameter(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)", description="name of a tag to group by"),
]


def time_of(name: str, text: str | None) -> datetime | None:
    """The time that a parameter gives, in UTC where it names no offset.

    Raises:
        Problem: it is not a time, 400.
    """
    if text is None:
        return None
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        allowed = "a time like 2026-03-01T12:00:00Z"
        detail = f"{name}: {text[:40]!r} is not {allowed}"
        raise Problem(400, "bad-request", detail, faults=[Fault(name, detail, allowed)]) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
