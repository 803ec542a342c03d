"""The declared rules of an entity's columns, for inputs that were saved over HTTP and stand in no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from vroom_api.contract.saved_entities import SavedEntity
from vroom_assets.spec import Column, ColumnType, ForecastSpec
from vroom_assets.sql import broken_rules, identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLE: Final = "saved_inputs"
TYPES: Final = {
    ColumnType.INTEGER: "bigint",
    ColumnType.NUMBER: "double",
    ColumnType.TEXT: "varchar",
    ColumnType.TIMESTAMP: "timestamp",  # which becomes its text in ISO 8601
}


def faults(
    connection: DuckDBPyConnection, spec: ForecastSpec, saved: Sequence[SavedEntity]
) -> dict[str, str]:
    """Why saved entities break the declaration as it is now, by id: the first rule of each that does."""
    if not saved:
        return {}
    without = set(spec.fallback.without) if spec.fallback is not None else set()
    columns = spec.input_columns
    table = pd.DataFrame(
        {"entity_id": [one.id for one in saved]}
        | {name: [_text(one.inputs.get(name)) for one in saved] for name in columns},
        dtype="string",
    )
    connection.register(TABLE, table)
    try:
        found: dict[str, str] = {}
        for name, column in columns.items():
            for message, condition in _rules(name, column, name in without):
                query = f"select entity_id from {TABLE} where {condition} order by 1"
                for (one,) in connection.execute(query).fetchall():
                    found.setdefault(one, f"{name}: {message}")
        return found
    finally:
        connection.unregister(TABLE)


def _rules(name: str, column: Column, may_lack: bool) -> list[tuple[str, str]]:
    """What a saved value may not be: message and condition."""
    text = identifier(name)
    value = f"try_cast({text} as {TYPES[column.type.stored]})"
    rules = [(f"is not a {column.type}", f"({text} is not null and {value} is null)")]
    if column.type.stored is ColumnType.INTEGER:
        rules.append(
            (f"is not a {column.type}", f"({value} is not null and try_cast({text} as double) <> {value})")
        )
    if not (column.nullable or may_lack):
        rules.append(("is not there", f"{text} is null"))
    return rules + [(message, condition) for _, message, condition in broken_rules(column, value)]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
