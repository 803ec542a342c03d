"""/forecasts, /model, /health and /reload: what there is, what serves and how it is, and what served before."""

from pathlib import Path
from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter

from vroom_api.champion.descriptions import (
    Forecast,
    Health,
    Listed,
    Model,
    forecast_of,
    health_of,
    model_of,
    parts_of,
)
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.versions import comparison
from vroom_api.champion.watch import Reload
from vroom_api.contract.comparison import VersionComparison
from vroom_api.routes.parameters import NO_SUCH_FORECAST
from vroom_api.routes.predictions import serving
from vroom_api.routes.problems import documented
from vroom_api.routes.revalidation import revalidated
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role

Name = Annotated[str, PathParameter(description="of the forecast")]
Number = Annotated[int, PathParameter(description="of a version that was published", ge=1, le=2**31 - 1)]


@get("/model", summary="The version that serves", middleware=[revalidated], sync_to_thread=False)
def show_model(forecasts: NamedDependency[Forecasts]) -> Model:
    return model_of(serving(forecasts.flagship))


@get("/health", summary="Whether predictions are answered; always 200", sync_to_thread=False)
def show_health(forecasts: NamedDependency[Forecasts]) -> Health:
    return health_of(forecasts.flagship)


@post(
    "/reload",
    summary="Load what the pointer names, now",
    status_code=200,
    guards=[needs(Role.OPERATOR)],
)
async def reload(forecasts: NamedDependency[Forecasts]) -> Reload:
    return await forecasts.flagship.reload()


@get(
    "/forecasts",
    summary="Every forecast, the one of the short routes first",
    middleware=[revalidated],
    sync_to_thread=False,
)
def list_forecasts(forecasts: NamedDependency[Forecasts]) -> list[Listed]:
    return [Listed(**parts_of(forecasts, watch)) for watch in forecasts]


@get(
    "/forecasts/{name:str}",
    summary="A forecast: its inputs, its champion, and where to ask it",
    responses={404: NO_SUCH_FORECAST},
    middleware=[revalidated],
    sync_to_thread=False,
)
def show_forecast(name: Name, forecasts: NamedDependency[Forecasts]) -> Forecast:
    return forecast_of(forecasts, forecasts.named(name))


@get(
    "/forecasts/{name:str}/health",
    summary="Whether a forecast's predictions are answered",
    responses={404: NO_SUCH_FORECAST},
    sync_to_thread=False,
)
def show_health_of(name: Name, forecasts: NamedDependency[Forecasts]) -> Health:
    return health_of(forecasts.named(name))


@post(
    "/forecasts/{name:str}/reload",
    summary="Load what a forecast's pointer names, now; also one that was published just before",
    status_code=200,
    responses={404: NO_SUCH_FORECAST},
    guards=[needs(Role.OPERATOR)],
)
async def reload_of(name: Name, forecasts: NamedDependency[Forecasts]) -> Reload:
    await forecasts.scan()
    return await forecasts.named(name).reload()


@get(
    "/forecasts/{name:str}/versions/{before:int}/compare/{after:int}",
    operation_id="compareVersions",
    summary="Two published versions beside each other",
    description=(
        "Recipe, data, inputs, features, metrics and importances of both, and what differs, from their manifests. What "
        "each would answer is printed by `python -m vroom_assets replay`."
    ),
    responses={
        404: documented("there is no forecast of that name, or a version was never published"),
        409: documented("a manifest is not the published one"),
    },
    middleware=[revalidated],
    sync_to_thread=True,
)
def compare_versions(
    name: Name,
    before: Number,
    after: Number,
    forecasts: NamedDependency[Forecasts],
    home: NamedDependency[Path],
) -> VersionComparison:
    return comparison(forecasts.named(name).forecast, before, after, home)


router = Router(
    "/",
    route_handlers=[
        show_model,
        show_health,
        reload,
        list_forecasts,
        show_forecast,
        show_health_of,
        reload_of,
        compare_versions,
    ],
    tags=["forecasts"],
)
