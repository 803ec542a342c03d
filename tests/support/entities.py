"""Inputs of entities as training stores them for the service."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from tests.support.bundles import FORECAST, NAMES
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES, SCHEMA

AS_OF = "2025-03-01T12:00:00"


def keep(home: Path, entities: dict[str, list[Any]], names: list[str] = NAMES) -> Path:
    """Replace what is stored, as training does."""
    path = forecast_folder(FORECAST, home) / ENTITIES
    beside = path.with_name("beside.db")
    with closing(sqlite3.connect(beside)) as file:
        file.executescript(SCHEMA)
        file.executemany("insert into field values (?, ?)", list(enumerate(names)))
        file.executemany(
            "insert into entity values (?, ?, ?)",
            [(key, AS_OF, msgspec.json.encode(values)) for key, values in entities.items()],
        )
        file.commit()
    os.replace(beside, path)
    return path
