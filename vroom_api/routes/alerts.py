"""Alerts over HTTP: what somebody has to know, and who sees to it."""

from typing import Annotated, Any, Literal

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.alerts import Severity
from vroom_api.contract.tables import Database
from vroom_api.problems import Problem
from vroom_api.record.alerts import (
    MAX_ALERTS,
    Alert,
    Alerts,
    UnknownAlert,
    Wanted,
    acknowledge,
    list_alerts,
)
from vroom_api.record.prediction import caller_of
from vroom_api.routes.parameters import MAX_ID, NO_SUCH_FORECAST, Before, Forecast, known_forecast
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented
from vroom_api.routes.revalidation import revalidated
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role
from vroom_api.texts import NO_CONTROL_CHARACTERS

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ALERTS, description="alerts of a page")]
Which = Annotated[Literal["open", "all"], QueryParameter(description="open, or also those that are over")]
OfSeverity = Annotated[Severity | None, QueryParameter(description="warning or critical")]
Kind = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS, max_length=64, description="what is wrong, e.g. decay, stale"
    ),
]


@get(
    "/alerts",
    operation_id="alerts",
    summary="What somebody has to know, newest first",
    responses={404: NO_SUCH_FORECAST, 503: RECORD_UNAVAILABLE},
    middleware=[revalidated],
    sync_to_thread=True,
)
def show_alerts(
    database: NamedDependency[Database],
    forecasts: NamedDependency[Forecasts],
    forecast: Forecast = None,
    severity: OfSeverity = None,
    kind: Kind = None,
    which: Which = "open",
    limit: Limit = 50,
    before: Before = None,
) -> Alerts:
    wanted = Wanted(known_forecast(forecast, forecasts, database), severity, kind, which == "open")
    with database().connect() as connection:
        return list_alerts(connection, wanted, limit, before=before)


@post(
    "/alerts/{identifier:int}/acknowledge",
    operation_id="acknowledge",
    summary="Say that somebody sees to an alert; it stays open until what it is about is over",
    description="The first who says so is kept; to say it again changes nothing.",
    status_code=200,
    guards=[needs(Role.OPERATOR)],
    responses={404: documented("there is no alert of that id"), 503: RECORD_UNAVAILABLE},
    sync_to_thread=True,
)
def acknowledge_alert(
    identifier: Annotated[int, PathParameter(ge=1, le=MAX_ID, description="`id` of the alert")],
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
) -> Alert:
    try:
        return acknowledge(database(), identifier, caller_of(request.scope))
    except UnknownAlert as error:
        raise Problem(404, "unknown-alert", str(error)) from None


router = Router(
    "/",
    route_handlers=[show_alerts, acknowledge_alert],
    exception_handlers=RECORD_HANDLERS,
    tags=["monitoring"],
)
