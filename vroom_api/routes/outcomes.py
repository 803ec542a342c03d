"""What really happened, and how good the predictions were beside it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from litestar.params import RawBody

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.tables import Database
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
from vroom_api.routes.parameters import NamedForecast, Since, TagName, Until, Version, time_of
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role

_decoder = msgspec.json.Decoder(Outcome | list[Outcome])


@dataclass
class _OutcomesOperation(Operation):
    """The body is decoded strictly, by us; this says what it is."""

    def __post_init__(self) -> None:
        _, components = msgspec.json.schema_components([Outcome], ref_template="{name}")
        outcome = components["Outcome"] | {
            "oneOf": [
                {"required": ["prediction_id"], "properties": {"entity_id": False, "period": False}},
                {"required": ["entity_id", "period"], "properties": {"prediction_id": False}},
            ]
        }
        several = {"type": "array", "items": outcome, "minItems": 1, "maxItems": MAX_OUTCOMES}
        schema: Any = {
            "description": (
                "One outcome or a list of them. Each has forecast and value (what was observed), and either "
                "prediction_id, or entity_id and period (which one the value covers, e.g. 2026-Q1); observed_at "
                "and correction where they matter."
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
    _check_values(forecasts, reported)
    caller = caller_of(request.scope)
    try:
        return await asyncio.to_thread(lambda: receive(database(), reported, caller))
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
        "text of a tag."
    ),
    responses={503: RECORD_UNAVAILABLE},
    sync_to_thread=True,
)
def show_performance(
    database: NamedDependency[Database],
    forecast: NamedForecast,
    by: TagName = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
) -> Performance:
    return performance(
        database(),
        forecast,
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
    try:
        reported = _decoder.decode(body)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        detail = str(cause) if isinstance(cause, BadOutcome) else str(error)
        raise Problem(422, "invalid-outcome", detail, faults=[Fault(_field(str(error)), detail)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "not-json", f"the body is not valid JSON: {error}") from None
    reported = reported if isinstance(reported, list) else [reported]
    if not 1 <= len(reported) <= MAX_OUTCOMES:
        allowed = f"1..{MAX_OUTCOMES} outcomes"
        detail = f"{len(reported)} outcomes are not within {allowed}"
        raise Problem(422, "invalid-outcome", detail, faults=[Fault("outcomes", detail, allowed)])
    return reported


def _check_values(forecasts: Forecasts, reported: Sequence[Outcome]) -> None:
    """A probability comes true or does not; what else an outcome may be is not declared."""
    binary = {
        watch.forecast for watch in forecasts if watch.champion and watch.champion.manifest.kind == "binary"
    }
    for outcome in reported:
        if outcome.forecast in binary and outcome.value not in (0, 1):
            allowed = "0 or 1"
            detail = f"value: {outcome.value:g} is not a valid outcome of {outcome.forecast}; it is {allowed}"
            raise Problem(422, "invalid-outcome", detail, faults=[Fault("value", detail, allowed)])


def _field(message: str) -> str:
    """The part of the body that msgspec's message names."""
    _, _, path = message.rpartition("at `$")
    return path.strip("`.") or "outcome"


router = Router(
    "/",
    route_handlers=[receive_outcomes, show_performance],
    exception_handlers=RECORD_HANDLERS,
    tags=["record"],
)
