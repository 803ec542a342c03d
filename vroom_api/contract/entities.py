"""The file of stored inputs: what is known of each entity now.

``<home>/<forecast>/entities.db`` is a SQLite file of three tables: ``entity`` (id, as_of, values as a JSON array, and
since they are kept its source, the target that was observed of it, and the first values as columns ``v0``, ``v1`` …
to search by), ``field`` (place, name) and ``counted`` (source, rows). Training writes it beside and renames it whenever the features are
computed, so a lookup sees one state of all entities, the old one or the new one. An older service reads it as well.
"""

from typing import Any, Final

ENTITIES: Final = "entities.db"
SEARCHABLE: Final = 16  # fields that have a column and an index

SCHEMA: Final = """
create table field (place integer primary key, name text not null);
create table counted (source text primary key, rows integer not null);
create table entity (
    id text primary key, as_of text not null, "values" blob not null, source text not null default 'csv', observed real
) without rowid;
"""


def searchable(fields: int) -> int:
    """How many of so many fields have a column of their own."""
    return min(fields, SEARCHABLE)


def schema(fields: int) -> str:
    """The tables for so many fields, without indices: these are made when the rows are there."""
    columns = "".join(f"alter table entity add column v{index};\n" for index in range(searchable(fields)))
    return f"{SCHEMA}{columns}"


def indices(fields: int) -> str:
    """An index of every column that is searched by, each of which holds the id too, and the numbers of entities."""
    counted = "insert into counted select source, count(*) from entity group by source;\n"
    return counted + "".join(
        f"create index entity_by_v{index} on entity (v{index});\n" for index in range(searchable(fields))
    )


def insert(fields: int) -> str:
    """The statement for `row_of`."""
    return f"insert into entity values ({', '.join('?' * (5 + searchable(fields)))})"


def row_of(
    identifier: str, as_of: str, encoded: bytes, values: list[Any], source: str, observed: float | None
) -> tuple[Any, ...]:
    """A row of `entity`.

    Args:
        encoded: the values as a JSON array.
        values: the same, as SQLite takes them: times as text.
    """
    return (identifier, as_of, encoded, source, observed, *values[: searchable(len(values))])
