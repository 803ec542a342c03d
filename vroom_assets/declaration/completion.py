"""What a declaration need not say, because another part of it says so: filled in before its fields are read.

What comes out is a declaration in full, so nothing behind the reading knows of this; and one that is shortened means
the same as before. What is not of the expected form is left as it is, for the fields' own messages.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vroom_assets.spec import FACTOR

Raw = Mapping[str, Any]

# Of a column that is like another: how a file holds it, and what it is in its own table, is not the other's to say.
OWN = ("unique", "references", "header", "joins")


class Unlike(NamedTuple):
    """A column that is like none: its field, and why."""

    field: str
    message: str


def completed(attributes: Raw) -> tuple[dict[str, Any], list[Unlike]]:
    """The attributes in full, and which columns name another in vain."""
    full: dict[str, Any] = dict(attributes)
    faults: list[Unlike] = []
    for part in ("sources", "examples"):
        if isinstance(tables := full.get(part), Mapping):
            full[part] = {name: _table(table, attributes) for name, table in tables.items()}
            faults += _unlike(part, tables, attributes)
    if isinstance(candidates := full.get("candidates"), Mapping):
        full["candidates"] = {name: _candidate(candidate) for name, candidate in candidates.items()}
    if "inputs" not in full and _at(full, "sources", _at(full, "entity", "source")) is None:
        full["inputs"] = _inputs(full)
    return full, faults


def _table(table: Any, attributes: Raw) -> Any:
    columns = _at(table, "columns")
    if not isinstance(columns, Mapping):
        return table
    return {**table, "columns": {name: _column(column, attributes) for name, column in columns.items()}}


def _column(column: Any, attributes: Raw) -> Any:
    """The column with what it takes from the one that it is like."""
    if (model := _model(_at(column, "like"), attributes)) is None:
        return column
    taken = {field: value for field, value in model.items() if field not in OWN}
    return taken | {field: value for field, value in column.items() if field != "like"}


def _model(reference: Any, attributes: Raw) -> Raw | None:
    """The column of a source that a reference names, if it says itself what it is."""
    source, _, name = reference.partition(".") if isinstance(reference, str) else ("", "", "")
    column = _at(attributes, "sources", source, "columns", name)
    return column if isinstance(column, Mapping) and "like" not in column else None


def _unlike(part: str, tables: Raw, attributes: Raw) -> Iterator[Unlike]:
    for table, declared in tables.items():
        columns = _at(declared, "columns")
        for name, column in columns.items() if isinstance(columns, Mapping) else ():
            reference = _at(column, "like")
            if reference is not None and _model(reference, attributes) is None:
                yield Unlike(
                    f"{part}.{table}.columns.{name}.like",
                    f"{reference!r} is not a column of a source that says itself what it is; write <source>.<column> of one "
                    "that does",
                )


def _candidate(candidate: Any) -> Any:
    """The candidate with the features that its terms are made of, and those that enter as bins or ranks."""
    if not isinstance(candidate, Mapping) or "features" in candidate:
        return candidate
    terms, bins, ranks = (candidate.get(field) for field in ("terms", "bins", "ranks"))
    if not any((isinstance(terms, list), isinstance(bins, Mapping), isinstance(ranks, list))):
        return candidate
    factors = [
        re.fullmatch(FACTOR, factor)
        for term in (terms if isinstance(terms, list) else ())
        for factor in str(term).split("*")
    ]
    named = [
        *(factor[1] for factor in factors if factor),
        *(bins if isinstance(bins, Mapping) else ()),
        *(ranks if isinstance(ranks, list) else ()),
    ]
    return {**candidate, "features": list(dict.fromkeys(str(name) for name in named))}


def _inputs(attributes: Raw) -> list[str]:
    """Of a table of examples, which holds what was known and nothing else: every column that is not for something else.

    None of a table that is not declared, which is a fault of the entity.
    """
    entity, validation = _at(attributes, "entity"), _at(attributes, "validation")
    columns = _at(attributes, "examples", _at(entity, "source"), "columns")
    if not isinstance(columns, Mapping):
        return []
    tags = _at(entity, "tags")
    taken = {"as_of", *(tags if isinstance(tags, list) else ())}
    taken |= {_at(entity, "key"), _at(entity, "id"), _at(validation, "group"), _at(validation, "order")}
    return [name for name in columns if name not in taken]


def _at(value: Any, *path: Any) -> Any:
    """What stands at a path of keys, None where nothing does."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) and isinstance(key, str) else None
    return value
