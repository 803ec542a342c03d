"""Inputs of entities as training and as the service store them."""

import os
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tests.support.bundles import EXAMPLE, FORECAST, NAMES
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES, indices, insert, row_of, schema
from vroom_api.contract.tables import entities as saved_entities
from vroom_api.contract.tables import serving_database

AS_OF = "2025-03-01T12:00:00"
SAVED_AT = datetime(2026, 3, 1, tzinfo=UTC)


def keep(
    home: Path,
    entities: dict[str, list[Any]],
    names: list[str] = NAMES,
    *,
    saved: Collection[str] = (),
    observed: Mapping[str, float] | None = None,
) -> Path:
    """Replace what is stored, as training does.

    Args:
        saved: ids of those that are from the service.
        observed: targets by id.
    """
    path = forecast_folder(FORECAST, home) / ENTITIES
    beside = path.with_name("beside.db")
    with closing(sqlite3.connect(beside)) as file:
        file.executescript(schema(len(names)))
        file.executemany("insert into field values (?, ?)", list(enumerate(names)))
        file.executemany(
            insert(len(names)),
            [
                row_of(
                    key,
                    AS_OF,
                    msgspec.json.encode(values),
                    values,
                    "service" if key in saved else "csv",
                    (observed or {}).get(key),
                )
                for key, values in entities.items()
            ],
        )
        file.executescript(indices(len(names)))
        file.commit()
    os.replace(beside, path)
    return path


def save(identifier: str, **given: Any) -> None:
    """Put a row into the table of saved entities, as the service does."""
    plain: dict[str, Any] = {
        "forecast": FORECAST,
        "id": identifier,
        "source": "service",
        "inputs": EXAMPLE,
        "tags": {},
        "as_of": SAVED_AT.isoformat(),
        "revision": 1,
        "caller": "shop",
        "created_at": SAVED_AT,
        "updated_at": SAVED_AT,
    }
    with serving_database() as engine, engine.begin() as connection:
        connection.execute(saved_entities.insert().values(plain | given))
