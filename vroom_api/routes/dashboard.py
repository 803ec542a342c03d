"""The service's page, and the addresses under which documentation is usually found."""

from typing import Annotated

from litestar import MediaType, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Redirect

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


@get(["/docs", "/redoc"], include_in_schema=False, status_code=307, sync_to_thread=False)
def lead_to_documentation() -> Redirect:
    return Redirect("/schema", status_code=307)


@get("/openapi.json", include_in_schema=False, status_code=307, sync_to_thread=False)
def lead_to_document() -> Redirect:
    return Redirect("/schema/openapi.json", status_code=307)


router = Router("/", route_handlers=[show_page, lead_to_documentation, lead_to_document])
