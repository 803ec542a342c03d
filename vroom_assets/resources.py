"""The store of tables that assets use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from vroom_api.contract import forecast_folder

if TYPE_CHECKING:
    import duckdb


class Warehouse(dg.ConfigurableResource):
    """One DuckDB file per forecast. Open it only in assets of the forecast's pool: DuckDB has one writer."""

    @contextmanager
    def connect(self, forecast: str) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        folder = forecast_folder(forecast)
        folder.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(folder / "warehouse.duckdb")
        try:
            yield connection
        finally:
            connection.close()
