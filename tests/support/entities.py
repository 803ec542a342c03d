"""Inputs of entities as training stores them for the service."""

import os
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from tests.support.bundles import FORECAST, NAMES
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES, indices, insert, row_of, schema

AS_OF = "2025-03-01T12:00:00"


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
