"""Entities in the serving database, page by page: those that were saved, and where it has them those of the sources."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vroom_api.contract.saved_entities import CSV, SERVICE, SavedEntity, entity_of
from vroom_api.contract.tables import entities
from vroom_api.entities.file_rows import LAST
from vroom_api.entities.search import Condition, Search


def page(
    connection: sa.Connection,
    forecast: str,
    search: Search,
    after: str | None,
    limit: int,
    *,
    end: str | None = None,
    sourced: bool,
) -> list[SavedEntity]:
    """The first entities behind an id, by id.

    Args:
        end: the last id that counts; None for any.
        sourced: whether those of the sources are here too; of an id that was saved as well there are two rows.
    """
    query = (
        sa.select(entities)
        .where(*_found(forecast, sourced))
        .order_by(entities.c.id, entities.c.source)
        .limit(limit)
    )
    if after is not None:
        query = query.where(entities.c.id > after)
    if end is not None:
        query = query.where(entities.c.id <= end)
    if search.prefix:
        query = query.where(entities.c.id >= search.prefix, entities.c.id < search.prefix + LAST)
    if search.source is not None:
        query = query.where(entities.c.source == search.source)
    postgres = connection.dialect.name == "postgresql"
    for condition in search.conditions:
        query = query.where(*_terms(condition, postgres))
    if search.tag is not None:
        query = query.where(_text(entities.c.tags, search.tag[0], postgres) == search.tag[1])
    return [entity_of(row) for row in connection.execute(query)]


def among(connection: sa.Connection, forecast: str, identifiers: Sequence[str]) -> list[str]:
    """Those of some ids that the sources have."""
    query = sa.select(entities.c.id).where(
        entities.c.forecast == forecast, entities.c.id.in_(identifiers), entities.c.source == CSV
    )
    return list(connection.scalars(query))


def count(connection: sa.Connection, forecast: str) -> int:
    """How many saved entities are found."""
    query = sa.select(sa.func.count()).select_from(entities).where(*_found(forecast, sourced=False))
    return connection.scalar(query) or 0


def find(connection: sa.Connection, forecast: str, identifier: str, *, sourced: bool) -> SavedEntity | None:
    """An entity, None where there is none of that id."""
    query = sa.select(entities).where(*_found(forecast, sourced), entities.c.id == identifier)
    row = connection.execute(query.order_by(entities.c.source).limit(1)).first()  # csv, then service
    return None if row is None else entity_of(row)


def _found(forecast: str, sourced: bool) -> list[sa.ColumnElement[bool]]:
    terms: list[sa.ColumnElement[bool]] = [entities.c.forecast == forecast, entities.c.closed_at.is_(None)]
    return terms if sourced else [*terms, entities.c.source == SERVICE]


def _terms(condition: Condition, postgres: bool) -> list[sa.ColumnElement[bool]]:
    is_text = isinstance(condition.low if condition.low is not None else condition.high, str)
    value: Any = _text(entities.c.inputs, condition.name, postgres)
    if not is_text:
        value = _number(condition.name, postgres)
    bounds = [] if condition.low is None else [value >= condition.low]
    return [*bounds, *([] if condition.high is None else [value <= condition.high])]


def _text(column: sa.Column[Any], name: str, postgres: bool) -> sa.ColumnElement[Any]:
    if postgres:
        return sa.func.json_extract_path_text(column, name).collate("C")
    return sa.func.json_extract(column, _path(name), type_=sa.Text)


def _number(name: str, postgres: bool) -> sa.ColumnElement[Any]:
    """A number, and null for what was something else when it was saved."""
    if not postgres:
        return sa.func.json_extract(entities.c.inputs, _path(name), type_=sa.Double)
    is_number = sa.func.json_typeof(sa.func.json_extract_path(entities.c.inputs, name)) == "number"
    text = sa.func.json_extract_path_text(entities.c.inputs, name)
    return sa.case((is_number, sa.cast(text, sa.Double)), else_=sa.null())


def _path(name: str) -> str:
    return f'$."{name}"'
