"""GET /stores: what a forecast keeps, where, and how much of it."""

from pathlib import Path
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import PathParameter

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract.tables import Database
from vroom_api.record.inventory import Stores, inventory
from vroom_api.record.recorder import Recorder
from vroom_api.routes.parameters import NO_SUCH_FORECAST

Name = Annotated[str, PathParameter(description="of the forecast")]
_DESCRIPTION = (
    "Each store as it is at this moment: whether it is there, its kind, size, rows and age, and what is not in it yet. Paths are "
    "relative to the home; no address and no credentials are given."
)


@get(
    "/stores",
    operation_id="stores",
    summary="Where features, models and the record are kept, and how much of each",
    description=_DESCRIPTION,
    sync_to_thread=True,
)
def show_stores(
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    home: NamedDependency[Path],
    recorder: NamedDependency[Recorder | None],
) -> Stores:
    return _stores(forecasts.flagship, database, home, recorder)


@get(
    "/forecasts/{name:str}/stores",
    operation_id="forecastStores",
    summary="The stores of a forecast",
    description=_DESCRIPTION,
    responses={404: NO_SUCH_FORECAST},
    sync_to_thread=True,
)
def show_stores_of(
    name: Name,
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    home: NamedDependency[Path],
    recorder: NamedDependency[Recorder | None],
) -> Stores:
    return _stores(forecasts.named(name), database, home, recorder)


def _stores(watch: ChampionWatch, database: Database, home: Path, recorder: Recorder | None) -> Stores:
    return inventory(
        watch.forecast,
        watch.champion,
        database,
        home,
        waiting=None if recorder is None else recorder.waiting,
    )


router = Router("/", route_handlers=[show_stores, show_stores_of], tags=["operation"])
