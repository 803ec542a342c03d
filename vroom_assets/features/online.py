"""Online features: the latest inputs of every entity, where the service finds them by id."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.entities import ENTITIES, indices, insert, row_of, schema
from vroom_api.contract.saved_entities import CSV, SERVICE, SavedEntity, SourcedEntity
from vroom_assets.features import examples, saved_rules
from vroom_assets.features import table as feature_table
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHUNK = 50_000  # rows in memory at once


@dataclass(frozen=True)
class StoredEntities:
    """What the file has."""

    count: int
    saved: dict[str, int]  # id -> revision of those that were saved over HTTP
    in_sources: list[str]  # ids of saved ones that the sources have as well: theirs is in the file
    refused: dict[str, str]  # id -> why it was left out


def store(
    connection: DuckDBPyConnection, spec: ForecastSpec, saved: Sequence[SavedEntity] = ()
) -> StoredEntities:
    """Replace the stored inputs at once.

    Args:
        saved: those that were saved over HTTP. They are entities without a target, and no rows of any training.

    Raises:
        DatasetError: the tables are not there, or the examples of now break their declaration.
    """
    path = forecast_folder(spec.name) / ENTITIES
    stored = list(dict.fromkeys([*spec.inputs, *spec.entity.tags]))  # a tag may be an input too
    refused = saved_rules.faults(connection, spec, saved)
    with durable.replaced(path) as beside, closing(sqlite3.connect(beside)) as file:
        # Nobody sees the file before it is complete, so nothing has to be undone.
        file.executescript(f"pragma journal_mode = off; pragma synchronous = off; {schema(len(stored))}")
        file.executemany("insert into field values (?, ?)", list(enumerate(stored)))
        for rows in _latest(connection, spec):
            file.executemany(insert(len(stored)), rows)
        known = {
            one.id
            for one in saved
            if file.execute("select 1 from entity where id = ?", (one.id,)).fetchone() is not None
        }
        fit = [one for one in saved if one.id not in known and one.id not in refused]
        file.executemany(insert(len(stored)), [_saved_row(one, stored) for one in fit])
        file.executescript(indices(len(stored)))
        [(count,)] = file.execute("select count(*) from entity").fetchall()
        file.commit()
    return StoredEntities(count, {one.id: one.revision for one in fit}, sorted(known), refused)


def sourced(spec: ForecastSpec) -> Iterator[SourcedEntity]:
    """The entities of the sources, as the file has them."""
    path = forecast_folder(spec.name) / ENTITIES
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        names = [name for (name,) in file.execute("select name from field order by place")]
        query = f"select id, as_of, \"values\", observed from entity where source = '{CSV}'"
        for identifier, as_of, content, observed in file.execute(query):
            values = dict(zip(names, msgspec.json.decode(content), strict=True))
            yield SourcedEntity(
                identifier,
                as_of,
                {name: values[name] for name in spec.inputs},
                {name: str(values[name]) for name in spec.entity.tags if values[name] is not None},
                observed,
            )


def _saved_row(one: SavedEntity, names: Sequence[str]) -> tuple[Any, ...]:
    content = one.tags | one.inputs
    values = [content.get(name) for name in names]
    return row_of(one.id, one.as_of, msgspec.json.encode(values), values, SERVICE, None)


def _latest(connection: DuckDBPyConnection, spec: ForecastSpec) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of the file for every entity, some at a time."""
    table = spec.entity.source
    columns = spec.input_columns | {name: spec.entity_columns[name] for name in spec.entity.tags}
    inputs = ", ".join(
        f'"{name}"::{saved_rules.TYPES[column.type.stored]}' for name, column in columns.items()
    )
    if table in spec.sources:
        as_of = feature_table.origin(connection, "features")["data_as_of"]
        yield from _rows(
            connection,
            f'select "{spec.entity_id}"::varchar, \'{as_of}\', target::double, {inputs} from "{table}" '
            f'left join features on entity_key = "{table}"."{spec.entity.key}"',
        )
        return
    try:
        with examples.latest(connection, spec, table):
            yield from _rows(
                connection,
                f"select \"{spec.entity_id}\"::varchar, strftime({examples.AS_OF}, '%Y-%m-%dT%H:%M:%S'), "
                f"null, {inputs} "
                f'from temp."{table}" where "{spec.entity_id}" is not null '
                f'qualify row_number() over (partition by "{spec.entity_id}" '
                f'order by {examples.AS_OF} desc, "{spec.entity.key}" desc) = 1',
            )
    except examples.ExamplesError as error:
        raise feature_table.DatasetError(str(error)) from error


def _rows(connection: DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    result: Any = connection.execute(query)
    while rows := result.fetchmany(CHUNK):
        yield [
            row_of(
                entity_id,
                as_of,
                msgspec.json.encode(inputs),
                [value.isoformat() if isinstance(value, datetime) else value for value in inputs],
                CSV,
                observed,
            )
            for entity_id, as_of, observed, *inputs in rows
        ]
