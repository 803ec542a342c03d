"""Entities in the serving database, page by page: those that were saved, and where it has them those of the sources."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from vroom_api.contract.saved_entities import CSV, SERVICE, SavedEntity, entity_of
from vroom_api.contract.tables import entities
from vroom_api.entities.file_rows import LAST
from vroom_api.entities.rows import StorePage
from vroom_api.entities.search import Condition, Search

MAX_SCANNED: Final = 2_000  # ids for a page with conditions, which read the inputs as JSON


def page(
    connection: sa.Connection,
    forecast: str,
    search: Search,
    after: str | None,
    limit: int,
    *,
    end: str | None = None,
    sourced: bool,
) -> StorePage[SavedEntity]:
    """The first entities behind an id, by id; fewer than `limit` also where not all were scanned.

    Args:
        end: the last id that counts; None for any.
        sourced: whether those of the sources are here too; of an id that was saved as well there are two rows.
    """
    form = _Form(
        connection.dialect.name == "postgresql",
        sourced,
        search.source is not None,
        bool(search.prefix),
        end is not None,
        tuple(_form_of(one) for one in search.conditions),
        search.tag[0] if search.tag else None,
    )
    values: dict[str, Any] = {"forecast": forecast, "after": after or "", "end": end, "source": search.source}
    values |= {"prefix": search.prefix, "beyond": search.prefix + LAST, "tag": (search.tag or ("", ""))[1]}
    for number, one in enumerate(search.conditions):
        values |= {f"low{number}": one.low, f"high{number}": one.high}
    if search.conditions or search.tag:
        stop = connection.scalar(_end(form), values | {"scanned": MAX_SCANNED - 1})
        if stop is not None:
            form, end = form._replace(ends=True), stop
            values["end"] = stop
    rows = [entity_of(row) for row in connection.execute(_page(form), values | {"limit": limit})]
    return StorePage(rows, rows[-1].id if len(rows) == limit else end)


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


def _found(forecast: str | sa.BindParameter[str], sourced: bool) -> list[sa.ColumnElement[bool]]:
    terms: list[sa.ColumnElement[bool]] = [entities.c.forecast == forecast, entities.c.closed_at.is_(None)]
    return terms if sourced else [*terms, entities.c.source == SERVICE]


class _Form(NamedTuple):
    """The statement of a page but for its values."""

    postgres: bool
    sourced: bool
    of_source: bool
    has_prefix: bool
    ends: bool
    conditions: tuple["_ConditionForm", ...]
    tag: str | None


class _ConditionForm(NamedTuple):
    name: str
    is_text: bool
    has_low: bool
    has_high: bool


@lru_cache(256)  # to build one takes longer than to run it
def _page(form: _Form) -> sa.Select[Any]:
    query = sa.select(entities).where(*_range(form), *_conditions(form))
    return query.order_by(entities.c.id, entities.c.source).limit(sa.bindparam("limit", type_=sa.Integer))


@lru_cache(256)
def _end(form: _Form) -> sa.Select[Any]:
    """The last id that a page scans, where there are more."""
    query = sa.select(entities.c.id).where(*_range(form)).order_by(entities.c.id, entities.c.source)
    return query.offset(sa.bindparam("scanned", type_=sa.Integer)).limit(1)


def _range(form: _Form) -> list[sa.ColumnElement[bool]]:
    """Which rows are scanned."""
    terms = [*_found(sa.bindparam("forecast"), form.sourced), entities.c.id > sa.bindparam("after")]
    if form.ends:
        terms.append(entities.c.id <= sa.bindparam("end"))
    if form.has_prefix:
        terms += [entities.c.id >= sa.bindparam("prefix"), entities.c.id < sa.bindparam("beyond")]
    if form.of_source:
        terms.append(entities.c.source == sa.bindparam("source"))
    return terms


def _conditions(form: _Form) -> list[sa.ColumnElement[bool]]:
    """What the inputs and tags have to be."""
    terms = []
    for number, one in enumerate(form.conditions):
        value: Any = _number(one.name, form.postgres)
        if one.is_text:
            value = _text(entities.c.inputs, one.name, form.postgres)
        terms += [value >= sa.bindparam(f"low{number}")] if one.has_low else []
        terms += [value <= sa.bindparam(f"high{number}")] if one.has_high else []
    if form.tag is not None:
        terms.append(_text(entities.c.tags, form.tag, form.postgres) == sa.bindparam("tag"))
    return terms


def _form_of(condition: Condition) -> _ConditionForm:
    bound = condition.low if condition.low is not None else condition.high
    return _ConditionForm(
        condition.name, isinstance(bound, str), condition.low is not None, condition.high is not None
    )


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
