"""What really happened, and how good the predictions were beside it."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from litestar.params import RawBody

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract import Manifest
from vroom_api.contract.tables import Database
from vroom_api.json_bodies import malformed, without_mark
from vroom_api.problems import Fault, Problem
from vroom_api.record.outcomes import (
    MAX_OUTCOMES,
    BadOutcome,
    OtherValue,
    Outcome,
    Received,
    UnknownSubject,
    receive,
)
from vroom_api.record.performance import Performance, performance
from vroom_api.record.prediction import caller_of
from vroom_api.routes.parameters import (
    NO_SUCH_FORECAST,
    NamedForecast,
    Since,
    TagName,
    Until,
    Version,
    known_forecast,
    time_of,
)
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role
from vroom_api.texts import as_asked, meant

_decoder = msgspec.json.Decoder(Outcome | list[Outcome])


@dataclass
class _OutcomesOperation(Operation):
    """The body is decoded strictly, by us; this says what it is."""

    def __post_init__(self) -> None:
        _, components = msgspec.json.schema_components([Outcome], ref_template="{name}")
        outcome = components["Outcome"] | {
            "oneOf": [
                {"required": ["prediction_id"], "properties": {"entity_id": False, "period": False}},
                {"required": ["forecast", "entity_id", "period"], "properties": {"prediction_id": False}},
            ]
        }
        several = {"type": "array", "items": outcome, "minItems": 1, "maxItems": MAX_OUTCOMES}
        schema: Any = {
            "description": (
                "One outcome or a list of them. Each has value (what was observed), and either prediction_id, or "
                "forecast, entity_id and period (which one the value covers, e.g. 2026-Q1); observed_at, which is "
                "past, and correction where they matter."
            ),
            "examples": [{"forecast": "reservations", "entity_id": "1234", "period": "2026", "value": 7}],
            "anyOf": [outcome, several],
        }
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)


@post(
    "/outcomes",
    operation_id="outcomes",
    summary="What really happened",
    description=(
        "One outcome or a list, recorded all or none. Reporting the same twice changes nothing; another "
        "value is refused with 409 unless it says `correction: true`, which adds it and keeps the earlier one."
    ),
    status_code=200,
    guards=[needs(Role.OPERATOR)],
    operation_class=_OutcomesOperation,
    responses={
        400: documented("the body is not JSON"),
        404: documented("a prediction that is not in the record"),
        409: documented("another value is recorded and this one is not marked as a correction"),
        422: documented("not an outcome"),
        503: RECORD_UNAVAILABLE,
    },
)
async def receive_outcomes(
    request: Request[Any, Any, Any],
    body: RawBody,
    database: NamedDependency[Database],
    forecasts: NamedDependency[Forecasts],
) -> Received:
    reported = _outcomes(body)
    caller = caller_of(request.scope)

    try:
        return await asyncio.to_thread(
            lambda: receive(database(), reported, caller, partial(_check, forecasts, database))
        )
    except UnknownSubject as error:
        raise Problem(404, "unknown-prediction", str(error)) from None
    except OtherValue as error:
        raise Problem(409, "other-value", str(error)) from None


@get(
    "/performance",
    operation_id="performance",
    summary="How good a forecast's predictions were, by the reported outcomes",
    description=(
        "Of recorded predictions whose outcomes were reported by `prediction_id`: mean absolute error, root mean "
        "squared error, bias, and the share of outcomes inside the interval; all together and, with `by`, for each "
        "text of a tag. Of a probability also the share of yes (`base_rate`), the Brier score beside that of always "
        "answering this share (`brier`, `brier_of_base_rate`), and `auc`, where 0.5 is chance; null where all outcomes are "
        "alike and nothing can be told apart. They are null of other kinds, and while the forecast has no champion. "
        "`overdue` are the predictions whose horizon is over and that nobody reported an outcome of by `prediction_id`; "
        "outcomes that follow from new rows of the sources are not among the reported ones, `docs/monitoring.md` has them."
    ),
    responses={404: NO_SUCH_FORECAST, 503: RECORD_UNAVAILABLE},
    sync_to_thread=True,
)
def show_performance(
    database: NamedDependency[Database],
    forecasts: NamedDependency[Forecasts],
    forecast: NamedForecast,
    by: TagName = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
) -> Performance:
    known_forecast(forecast, forecasts, database)
    return performance(
        database(),
        forecast,
        champion=_champions(forecasts).get(forecast),
        by=by,
        version=version,
        start=time_of("since", since),
        end=time_of("until", until),
    )


def _outcomes(body: bytes) -> list[Outcome]:
    """The outcomes of a body.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for what is not an outcome, or too many.
    """
    body = without_mark(body)
    try:
        reported = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(body, error) from None
    reported = reported if isinstance(reported, list) else [reported]
    if not 1 <= len(reported) <= MAX_OUTCOMES:
        allowed = f"1..{MAX_OUTCOMES} outcomes"
        detail = f"{len(reported)} outcomes are not within {allowed}"
        raise Problem(422, "invalid-outcome", detail, faults=[Fault("outcomes", detail, allowed)])
    return reported


def _refusal(body: bytes, error: Exception) -> Problem:
    """Why a body holds no outcomes; what is not JSON at all is refused as such, wherever the decoder stopped."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as unreadable:
        return malformed(body, unreadable)
    found = _POSITION.search(str(error))
    row, field = (found["row"], found["field"]) if found else (None, None)
    if isinstance(cause := error.__cause__, BadOutcome):
        return _invalid(cause.field, cause.allowed, row)
    if missing := _MISSING.match(str(error)):
        return _invalid(missing[1], "missing; each outcome has a value", row)
    if unknown := _UNKNOWN.match(str(error)):
        fields = Outcome.__struct_fields__
        rule = f"unknown field{meant(unknown[1], fields)}; the fields are {', '.join(fields)}"
        return _invalid(unknown[1][:64], rule, row)
    if field is None:
        return _invalid("", "an outcome is a JSON object, and several are a list of them", row)
    return _invalid(field, as_asked(str(error)), row)


# Where msgspec met a fault, and how it says which field has one by being there or not.
_POSITION = re.compile(r" - at `\$(?:\[(?P<row>\d+)\])?(?:\.(?P<field>\w+))?`\Z")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`", re.DOTALL)


def _invalid(field: str, rule: str, row: str | int | None = None, allowed: str | None = None) -> Problem:
    parts = (f"row {row}" if row is not None else "", field, rule)
    detail = ": ".join(part for part in parts if part)
    fault = Fault(field, detail, allowed, None if row is None else int(row))
    return Problem(422, "invalid-outcome", detail, faults=[fault])


def _champions(forecasts: Forecasts) -> dict[str, Manifest]:
    """The manifests of those that serve, by forecast."""
    return {watch.forecast: watch.champion.manifest for watch in forecasts if watch.champion}


def _check(forecasts: Forecasts, database: Database, reported: Sequence[Outcome]) -> None:
    """Whether the outcomes belong to forecasts that there are, and are what can happen to those.

    Raises:
        Problem: 422.
    """
    kinds = {name: champion.kind for name, champion in _champions(forecasts).items()}
    known: set[object] = set(kinds)
    for row, outcome in enumerate(reported):
        where = row if len(reported) > 1 else None
        if outcome.forecast not in known:
            try:
                known.add(known_forecast(outcome.forecast or None, forecasts, database))
            except Problem as problem:
                if problem.status != 404:
                    raise
                names = ", ".join(watch.forecast for watch in forecasts)
                raise _invalid("forecast", problem.detail, where, f"one of {names}") from None
        kind = kinds.get(outcome.forecast or "")
        if kind is not None and not kind.can_be(outcome.value):
            rule = f"{outcome.value:.16g} is not an outcome of {outcome.forecast}; it is {kind.outcomes}"
            raise _invalid("value", rule, where, kind.outcomes)


router = Router(
    "/",
    route_handlers=[receive_outcomes, show_performance],
    exception_handlers=RECORD_HANDLERS,
    tags=["record"],
)
