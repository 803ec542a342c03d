"""The service's page."""

from typing import Annotated

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract.tables import Database
from vroom_api.dashboard.overview import page_of


def dashboard_routes(forecasts: Forecasts, database: Database) -> list[HTTPRouteHandler]:
    @get("/", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=True)
    def show_page(forecast: Annotated[str | None, QueryParameter()] = None) -> Response[str]:
        return Response(page_of(forecasts, database, forecast), media_type=MediaType.HTML)

    return [show_page]
