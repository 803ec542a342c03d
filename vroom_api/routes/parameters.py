"""Query parameters: those that several routes of the record share, and which a route takes, each once."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.decoding import convert
from vroom_api.contract.tables import Database
from vroom_api.problems import Fault, Problem
from vroom_api.record.ledger import is_in_ledger
from vroom_api.record.prediction import MAX_TEXT_LENGTH
from vroom_api.routes.problems import documented
from vroom_api.texts import MAX_NAME, NO_CONTROL_CHARACTERS, TAG, TAG_NAME, meant

MAX_UNKNOWN = 5  # parameters that are reported of one request
NO_SUCH_FORECAST = documented("there is no forecast of that name")

Version = Annotated[
    int | None, QueryParameter(ge=1, le=2**31 - 1, description="version of the champion that answered")
]

MAX_ID = 2**31 - 1  # that the column of a server holds

Before = Annotated[
    int | None,
    QueryParameter(ge=1, le=MAX_ID, description="only those with a smaller id: `next_before` of a page"),
]

Forecast = Annotated[
    str | None,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=MAX_NAME, description="name of the forecast"),
]

NamedForecast = Annotated[
    str,
    QueryParameter(pattern=NO_CONTROL_CHARACTERS, max_length=MAX_NAME, description="name of the forecast"),
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
        pattern=TAG,
        description="recorded with the prediction, as name:text",
    ),
]

TagName = Annotated[
    str | None,
    QueryParameter(pattern=TAG_NAME, description="name of a tag to group by"),
]


_LOST_PLUS = re.compile(r"T[\d:.]+ \d\d:?\d\d\Z", re.IGNORECASE)


def time_of(name: str, text: str | None) -> datetime | None:
    """The time that a parameter gives, in UTC where it names no offset.

    Raises:
        Problem: it is not a time, 400.
    """
    if text is None:
        return None
    try:
        time = convert(text, datetime)
    except msgspec.ValidationError:
        allowed = "a time like 2026-03-01T12:00:00Z"
        # In a query a plus that is not encoded is a space.
        remedy = "; write + as %2B, or the time in UTC with Z" if _LOST_PLUS.search(text) else ""
        detail = f"{name}: {text[:40]!r} is not {allowed}{remedy}"
        raise Problem(400, "bad-request", detail, faults=[Fault(name, detail, allowed)]) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def known_forecast(name: str | None, forecasts: Forecasts, database: Database) -> str | None:
    """The forecast that a parameter names: one that was published, or of which the ledger tells.

    Raises:
        Problem: there is none of that name, 404.
    """
    if name is not None and name not in forecasts and not is_in_ledger(database, name):
        forecasts.named(name)
    return name


class Taken(NamedTuple):
    """The query parameters of a route, and those of them that are lists."""

    names: tuple[str, ...]
    lists: frozenset[str]


# By handler and the names of the parameters in its path; of one application, because handlers keep theirs alive.
KnownParameters = dict[tuple[BaseRouteHandler, tuple[str, ...]], Taken]


async def refuse_unknown_names(request: Request[Any, Any, Any]) -> None:
    """What is asked before every route: a parameter that it would pass over, or a value of one, is refused.

    Raises:
        Problem: 400.
    """
    if request.scope["query_string"]:
        known: KnownParameters = request.app.state["known_parameters"]
        taken = _taken_by(request.route_handler, tuple(request.scope["path_params"]), known)
        check_names(request.scope["query_string"], taken.names, taken.lists)


def check_names(query: bytes, taken: Collection[str], lists: Collection[str] = ()) -> None:
    """Refuse parameters that are not taken, and those that are given twice: each has one value, but for lists.

    Raises:
        Problem: 400.
    """
    given = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    unknown = [name for name in given if name not in taken]
    if unknown:
        raise _unknown(unknown, taken)
    if repeated := [name for name, times in given.items() if times > 1 and name not in lists]:
        allowed = "one value"
        faults = [
            Fault(name, f"{name}: given {given[name]} times; give it once", allowed) for name in repeated
        ]
        detail = "; ".join(fault.detail for fault in faults)
        raise Problem(400, "repeated-parameter", detail, faults=faults)


def _unknown(unknown: Sequence[str], taken: Collection[str]) -> Problem:
    allowed = ", ".join(taken) or "none"
    faults = []
    for name in unknown[:MAX_UNKNOWN]:
        detail = f"{name[:64]}: no such parameter here{meant(name, taken)}; there is {allowed}"
        faults.append(Fault(name[:64], detail, allowed))
    return Problem(400, "unknown-parameter", "; ".join(fault.detail for fault in faults), faults=faults)


def _taken_by(handler: BaseRouteHandler, path: tuple[str, ...], known: KnownParameters) -> Taken:
    """What a route takes, also through its dependencies.

    Args:
        path: names of the parameters in its path.
        known: what was found out before.
    """
    if (found := known.get((handler, path))) is not None:
        return found
    model = handler.create_kwargs_model(path_parameters=dict.fromkeys(path))  # type: ignore[arg-type]
    taken = sorted(parameter.field_alias for parameter in model.expected_query_params)
    lists = (parameter.field_alias for parameter in model.expected_query_params if parameter.is_sequence)
    found = known[handler, path] = Taken(tuple(taken), frozenset(lists))
    return found
