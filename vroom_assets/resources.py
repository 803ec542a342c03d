"""The store of tables that assets use, and what computes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from vroom_api.contract import forecast_folder
from vroom_api.contract.events import Rebuilt
from vroom_assets import damage, settings

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession


# DuckDB has no class for it either.
_HELD = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


class Warehouse(dg.ConfigurableResource):
    """One DuckDB file per forecast. Open it only in assets of the forecast's pool: DuckDB has one writer."""

    @contextmanager
    def connect(self, forecast: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse, for the length of a block.

        Raises:
            dagster.Failure: its file is damaged, or another process has it open.
        """
        import duckdb

        from vroom_assets.sources import published

        path = warehouse_path(forecast)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(duckdb.connect(path, config=_limits())) as connection:
                # Of a query that takes seconds it draws one, also where the output is a log.
                connection.execute("set enable_progress_bar = false")
                published.follow(connection, path.parent)
                yield connection
        except duckdb.Error as error:
            _refuse_held(path, error)
            if not damage.is_damage(error):
                raise
            raise dg.Failure(
                description=f"{path} is damaged; the job {forecast}_retrain makes it anew from the CSVs: {error}",
                allow_retries=False,
            ) from error

    def repair(self, forecast: str) -> Rebuilt | None:
        """Set a damaged warehouse aside, before all of its tables are made again, and say so; None for a whole one.

        Raises:
            dagster.Failure: another process has it open.
        """
        import duckdb

        path = warehouse_path(forecast)
        if not path.exists():
            return None
        try:
            with closing(duckdb.connect(path)) as connection:
                damage.read_through(connection)
        except duckdb.Error as error:
            _refuse_held(path, error)
            if not damage.is_damage(error):
                raise
            return Rebuilt(file=path.name, aside=damage.set_aside(path).name, error=str(error))
        return None


def _refuse_held(path: Path, error: duckdb.Error) -> None:
    """Say who has a warehouse open, where that is why it cannot be opened.

    Raises:
        dagster.Failure: that is why. Another try may succeed.
    """
    if held := _HELD.search(str(error)):
        raise dg.Failure(
            description=(
                f"{path} is open in {held['program']}, process {held['pid']}, and DuckDB lets nobody else in meanwhile: "
                f"end that session, or `kill {held['pid']}`; the run is asked for again after a minute, and later with "
                f"growing pauses. Look into the files under {path.parent / 'features'} instead, or into a copy"
            )
        ) from error


@contextmanager
def spark_session() -> Iterator[SparkSession | None]:
    """For the length of a block: a session of Spark where VROOM_ENGINE is spark, else None.

    Raises:
        dagster.Failure: Spark is not installed.
    """
    if settings.engine() == "duckdb":
        yield None
        return
    from vroom_assets.spark.session import SparkMissing, session

    try:
        with session() as opened:
            yield opened
    except SparkMissing as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _limits() -> dict[str, str | bool | int | float | list[str]]:
    """Beyond its limit DuckDB goes on in files beside the warehouse, and takes longer."""
    memory = settings.warehouse_memory()
    return {"memory_limit": memory} if memory else {}


def warehouse_path(forecast: str) -> Path:
    return forecast_folder(forecast) / "warehouse.duckdb"
