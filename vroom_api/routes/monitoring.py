"""The monitoring over HTTP: the verdict on a forecast, and the history of each check."""

from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.checks import Status
from vroom_api.contract.tables import Database
from vroom_api.record.alerts import MAX_ALERTS, Wanted, list_alerts
from vroom_api.record.monitoring import (
    MAX_CHECKS,
    Checks,
    MonitoringState,
    WantedChecks,
    latest_checks,
    latest_verdict,
    list_checks,
)
from vroom_api.routes.parameters import NO_SUCH_FORECAST, Before, Since, Until, Version, time_of
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE
from vroom_api.routes.revalidation import revalidated
from vroom_api.texts import NO_CONTROL_CHARACTERS

Name = Annotated[str, PathParameter(description="of the forecast")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_CHECKS, description="checks of a page")]
OfCheck = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS, max_length=64, description="which check, e.g. error, coverage"
    ),
]
Subject = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS, max_length=200, description="what it is about, e.g. a feature"
    ),
]
OfStatus = Annotated[Status | None, QueryParameter(description="what it came to")]


@get(
    "/forecasts/{name:str}/monitoring",
    operation_id="monitoring",
    summary="What the monitoring says of a forecast now: its verdict, the latest checks, the open alerts",
    responses={404: NO_SUCH_FORECAST, 503: RECORD_UNAVAILABLE},
    middleware=[revalidated],
    sync_to_thread=True,
)
def show_monitoring(
    name: Name, database: NamedDependency[Database], forecasts: NamedDependency[Forecasts]
) -> MonitoringState:
    champion = forecasts.named(name).champion
    version = None if champion is None else champion.version
    with database().connect() as connection:
        verdict = latest_verdict(connection, name)
        made = [] if version is None else latest_checks(connection, name, version)
        still_open = list_alerts(connection, Wanted(forecast=name), MAX_ALERTS).alerts
    return MonitoringState(name, version, verdict, made, still_open)


@get(
    "/forecasts/{name:str}/monitoring/checks",
    operation_id="checks",
    summary="What each check found in each window, newest first",
    responses={404: NO_SUCH_FORECAST, 503: RECORD_UNAVAILABLE},
    middleware=[revalidated],
    sync_to_thread=True,
)
def show_checks(
    name: Name,
    database: NamedDependency[Database],
    forecasts: NamedDependency[Forecasts],
    check: OfCheck = None,
    subject: Subject = None,
    version: Version = None,
    status: OfStatus = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    before: Before = None,
) -> Checks:
    forecasts.named(name)
    wanted = WantedChecks(
        forecast=name,
        name=check,
        subject=subject,
        version=version,
        status=status,
        start=time_of("since", since),
        end=time_of("until", until),
    )
    with database().connect() as connection:
        return list_checks(connection, wanted, limit, before=before)


router = Router(
    "/",
    route_handlers=[show_monitoring, show_checks],
    exception_handlers=RECORD_HANDLERS,
    tags=["monitoring"],
)
