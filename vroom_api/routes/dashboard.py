"""The service's page."""

from typing import Annotated

from litestar import MediaType, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.pages import Pages
from vroom_api.contract.tables import Database
from vroom_api.dashboard.overview import page_of


@get("/", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=True)
def show_page(
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    pages: NamedDependency[Pages],
    forecast: Annotated[str | None, QueryParameter()] = None,
) -> Response[str]:
    return Response(page_of(forecasts, database, pages, forecast), media_type=MediaType.HTML)


router = Router("/", route_handlers=[show_page])
