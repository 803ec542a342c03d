"""Entities of the sources, read page by page from the file that the training replaces.

Every page is an index or key range and not the whole file: conditions that few entities meet are found by their index,
others on the way along the ids. Where hardly any entity meets all of several conditions, the page ends after so many ids.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from vroom_api.contract.entities import SEARCHABLE
from vroom_api.contract.saved_entities import CSV
from vroom_api.entities.rows import StorePage
from vroom_api.entities.search import Condition, Search

FEW: Final = 1_000  # entities that are sorted by id where an index finds them by value
LAST: Final = "\U0010ffff"  # behind every character
MAX_SCANNED: Final = 10_000  # ids for one page; a millisecond
_MAPPED: Final = 1 << 30  # bytes of the file that are read without copies


class FileRow(msgspec.Struct, frozen=True, gc=False):
    """What the file has of an entity of the sources."""

    id: str
    as_of: str
    values: dict[str, Any]
    observed: float | None


class FileRows:
    """The rows of one state of the file.

    Args:
        connection: to it, of the caller's own.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"pragma mmap_size = {_MAPPED}")
        self._connection = connection
        self.names = [name for (name,) in connection.execute("select name from field order by place")]
        self._columns = {row[1] for row in connection.execute("pragma table_info(entity)")}
        # An older training wrote neither sources nor targets: all entities were from the sources.
        self._is_older = "source" not in self._columns

    def find(self, identifier: str) -> FileRow | None:
        """An entity, None where the sources have none of that id."""
        found = self._rows("where id = ?", [identifier])
        return found[0] if found else None

    def among(self, identifiers: Sequence[str]) -> list[str]:
        """Those of some ids that the sources have."""
        marks = ", ".join("?" * len(identifiers))
        origin = "" if self._is_older else f"and source = '{CSV}'"
        query = f"select id from entity where id in ({marks}) {origin}"
        return [identifier for (identifier,) in self._connection.execute(query, identifiers)]

    def count(self) -> int:
        """How many entities of the sources there are."""
        query = f"select sum(rows) from counted where source = '{CSV}'"
        [(count,)] = self._connection.execute(
            "select count(*) from entity" if self._is_older else query
        ).fetchall()
        return int(count or 0)

    def page(self, search: Search, after: str | None, limit: int) -> StorePage[FileRow]:
        """The first entities behind an id, by id; fewer than `limit` also where not all were scanned."""
        if search.tag is not None and search.tag[0] not in self.names:
            return StorePage([], None)
        if any(condition.name not in self.names for condition in search.conditions):
            return StorePage([], None)
        conditions = [
            *search.conditions,
            *([Condition(search.tag[0], *[search.tag[1]] * 2)] if search.tag else []),
        ]
        index = self._quickest(conditions)
        terms, values = _range(after, search.prefix)
        end = self._end(terms, values) if conditions and not index else None
        if end is not None:
            terms.append("id <= ?")
            values.append(end)
        more, wanted = self._terms(conditions, along_ids=not index)
        terms += more if self._is_older else [*more, f"source = '{CSV}'"]
        rows = self._rows(f"{index} where {_all(terms)} order by id limit ?", [*values, *wanted, limit])
        return StorePage(rows, rows[-1].id if len(rows) == limit else end)

    def _end(self, terms: Sequence[str], values: Sequence[Any]) -> str | None:
        """The last id of a range that a page scans; None where it can scan all."""
        query = f"select id from entity where {_all(terms)} order by id limit 1 offset {MAX_SCANNED - 1}"
        found = self._connection.execute(query, values).fetchone()
        return None if found is None else str(found[0])

    def _rows(self, rest: str, values: Sequence[Any]) -> list[FileRow]:
        observed = "null" if self._is_older else "observed"
        source = f"'{CSV}'" if self._is_older else "source"
        found = self._connection.execute(
            f'select id, as_of, "values", {observed}, {source} from entity {rest}', values
        ).fetchall()
        listed = msgspec.json.decode(b"[" + b",".join(row[2] for row in found) + b"]")
        return [
            FileRow(identifier, as_of, dict(zip(self.names, content, strict=True)), target)
            for (identifier, as_of, _, target, origin), content in zip(found, listed, strict=True)
            if origin == CSV
        ]

    def _column(self, name: str) -> str:
        """SQL of the value of a field."""
        position = self.names.index(name)
        if position < SEARCHABLE and f"v{position}" in self._columns:
            return f"v{position}"
        return f"json_extract(cast(\"values\" as text), '$[{position}]')"

    def _terms(
        self, conditions: Sequence[Condition], *, along_ids: bool = False
    ) -> tuple[list[str], list[Any]]:
        """SQL of conditions and its values.

        Args:
            along_ids: whether rows are read in the order of their ids, and no index of a value is to be used.
        """
        terms: list[str] = []
        values: list[Any] = []
        for condition in conditions:
            column = f"{'+' if along_ids else ''}{self._column(condition.name)}"
            if condition.is_equality:
                terms.append(f"{column} = ?")
                values.append(condition.low)
                continue
            for sign, bound in ((">=", condition.low), ("<=", condition.high)):
                if bound is not None:
                    terms.append(f"{column} {sign} ?")
                    values.append(bound)
        return terms, values

    def _quickest(self, conditions: Sequence[Condition]) -> str:
        """SQL of the index to read by: that of the condition that fewest entities meet, if these are few; else none."""
        if not conditions or self._is_older:
            return ""
        indexed = [condition for condition in conditions if self._column(condition.name).startswith("v")]
        if len(conditions) == len(indexed) == 1 and conditions[0].is_equality:
            return self._index(conditions[0])  # which holds the entities of a value by their ids
        counts = [(self._count_few(condition), number) for number, condition in enumerate(indexed)]
        if counts and min(counts)[0] < FEW:
            return self._index(indexed[min(counts)[1]])
        return ""

    def _index(self, condition: Condition) -> str:
        return f"indexed by entity_by_{self._column(condition.name)}"

    def _count_few(self, condition: Condition) -> int:
        """How many entities meet a condition, counted up to `FEW`."""
        terms, values = self._terms([condition])
        [(count,)] = self._connection.execute(
            f"select count(*) from (select 1 from entity {self._index(condition)} where {' and '.join(terms)} "
            f"limit {FEW})",
            values,
        ).fetchall()
        return int(count)


def _range(after: str | None, prefix: str) -> tuple[list[str], list[Any]]:
    """SQL of a range of ids and its values."""
    terms: list[str] = []
    values: list[Any] = []
    if after is not None:
        terms.append("id > ?")
        values.append(after)
    if prefix:
        terms += ["id >= ?", "id < ?"]
        values += [prefix, prefix + LAST]
    return terms, values


def _all(terms: Sequence[str]) -> str:
    return " and ".join(terms) or "true"
