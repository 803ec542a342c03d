"""GET /ledger: what was decided and why."""

from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import Parameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.tables import Database
from vroom_api.record.ledger import MAX_ENTRIES, Entries, read_ledger
from vroom_api.routes.parameters import NO_SUCH_FORECAST, Before, Forecast, known_forecast
from vroom_api.routes.revalidation import revalidated
from vroom_api.texts import NO_CONTROL_CHARACTERS


@get(
    "/ledger",
    summary="What was decided and why, newest first",
    responses={404: NO_SUCH_FORECAST},
    middleware=[revalidated],
    sync_to_thread=True,
)
def show_ledger(
    database: NamedDependency[Database],
    forecasts: NamedDependency[Forecasts],
    limit: Annotated[int, Parameter(ge=1, le=MAX_ENTRIES, description="entries of a page")] = 50,
    before: Before = None,
    event: Annotated[
        str | None, Parameter(max_length=32, pattern=NO_CONTROL_CHARACTERS, description="e.g. contest")
    ] = None,
    forecast: Forecast = None,
) -> Entries:
    known_forecast(forecast, forecasts, database)
    return read_ledger(database, limit, before=before, event=event, forecast=forecast)


router = Router("/", route_handlers=[show_ledger], tags=["record"])
