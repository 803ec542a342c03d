"""Names and texts as SQL writes them, and a column's rules as conditions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_assets.spec import Column

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextmanager
def transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """All that a block writes to the warehouse, or nothing of it."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def glob_escaped(path: Path) -> str:
    """A path that means itself, where DuckDB would take it for a pattern."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in str(path))


def as_text(value: object) -> str:
    """A value of a row as DuckDB writes it, whichever engine the row is from; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return str(value).rstrip("0") if value.microsecond else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def broken_rules(column: Column, value: str) -> Iterator[tuple[str, str, str]]:
    """What a value of the column's type may not be, wherever it comes from: rule, message and condition.

    Args:
        value: SQL of the value. Where it is null no rule is broken; a condition is never null.
    """
    bounds = [(column.lowest, ">="), (column.above, ">"), (column.highest, "<=")]
    held = " and ".join(f"{value} {sign} '{bound!r}'::double" for bound, sign in bounds if bound is not None)
    if held:
        message = " ".join(filter(None, ("is not", column.range, column.unit)))
        yield "range", message, f"({value} is not null and not ({held}))"
    if column.values:
        listed = ", ".join(map(literal, column.values))
        message = f"is not one of {', '.join(column.values)}"
        yield "values", message, f"({value} is not null and {value} not in ({listed}))"
    times = [(column.earliest, ">="), (column.latest, "<=")]
    within = " and ".join(f"{value} {sign} '{time}'::timestamp" for time, sign in times if time is not None)
    if within:
        ahead = column.latest is not None and column.latest > datetime.now(UTC).replace(tzinfo=None)
        message = f"is not {column.period}{', and lies ahead of now' if ahead else ''}"
        yield "period", message, f"({value} is not null and not ({within}))"


def as_written(name: str) -> str:
    """A name as somebody would write it: in quotes only where it is a word of SQL."""
    return identifier(name) if name in _keywords() else name


@cache
def _keywords() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute("select keyword_name from duckdb_keywords()").fetchall()
    return frozenset(name for (name,) in rows)
