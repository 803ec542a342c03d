"""Online features: the latest inputs of every entity, where the service finds them by id."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.entities import ENTITIES, SCHEMA
from vroom_assets.features import examples
from vroom_assets.features import table as feature_table
from vroom_assets.spec import ColumnType, ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHUNK = 50_000  # rows in memory at once
TYPES = {
    ColumnType.INTEGER: "bigint",
    ColumnType.NUMBER: "double",
    ColumnType.TEXT: "varchar",
    ColumnType.TIMESTAMP: "timestamp",  # which becomes its text in ISO 8601
}


def store(connection: DuckDBPyConnection, spec: ForecastSpec) -> int:
    """Replace the stored inputs at once, and say of how many entities there are any.

    Raises:
        DatasetError: the tables are not there, or the examples of now break their declaration.
    """
    path = forecast_folder(spec.name) / ENTITIES
    with durable.replaced(path) as beside, closing(sqlite3.connect(beside)) as file:
        # Nobody sees the file before it is complete, so nothing has to be undone.
        file.executescript(f"pragma journal_mode = off; pragma synchronous = off; {SCHEMA}")
        stored = dict.fromkeys([*spec.inputs, *spec.entity.tags])  # a tag may be an input too
        file.executemany("insert into field values (?, ?)", list(enumerate(stored)))
        for rows in _latest(connection, spec):
            file.executemany("insert into entity values (?, ?, ?)", rows)
        [(count,)] = file.execute("select count(*) from entity").fetchall()
        file.commit()
    return count


def _latest(connection: DuckDBPyConnection, spec: ForecastSpec) -> Iterator[list[tuple[str, str, bytes]]]:
    """Id, time and inputs of every entity, some at a time."""
    table = spec.entity.source
    columns = spec.input_columns | {name: spec.entity_columns[name] for name in spec.entity.tags}
    inputs = ", ".join(f'"{name}"::{TYPES[column.type.stored]}' for name, column in columns.items())
    if table in spec.sources:
        as_of = feature_table.origin(connection, "features")["data_as_of"]
        yield from _rows(
            connection, f'select "{spec.entity_id}"::varchar, \'{as_of}\', {inputs} from "{table}"'
        )
        return
    try:
        with examples.latest(connection, spec, table):
            yield from _rows(
                connection,
                f"select \"{spec.entity_id}\"::varchar, strftime({examples.AS_OF}, '%Y-%m-%dT%H:%M:%S'), {inputs} "
                f'from temp."{table}" where "{spec.entity_id}" is not null '
                f'qualify row_number() over (partition by "{spec.entity_id}" '
                f'order by {examples.AS_OF} desc, "{spec.entity.key}" desc) = 1',
            )
    except examples.ExamplesError as error:
        raise feature_table.DatasetError(str(error)) from error


def _rows(connection: DuckDBPyConnection, query: str) -> Iterator[list[tuple[str, str, bytes]]]:
    result: Any = connection.execute(query)
    while rows := result.fetchmany(CHUNK):
        yield [(entity_id, as_of, msgspec.json.encode(inputs)) for entity_id, as_of, *inputs in rows]
