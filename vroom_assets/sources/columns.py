"""A declared column in the lines of a file: where it is, its cell, and what a cell may not be.

All is SQL over `cells`, the texts of a line in the order of its file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

from vroom_assets.sources import cells
from vroom_assets.sources.lines import BREAK, Text, Unreadable
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import broken_rules, literal

EASTERNMOST = timedelta(hours=14)


def until_now(source: Source, past: Collection[str], now: datetime | None = None) -> Source:
    """The source with the clock as a bound: texts of times have no zone, and the first day begins at +14:00.

    Args:
        now: with a zone; None for the clock.
    """
    now = ((now or datetime.now(UTC)).astimezone(UTC) + EASTERNMOST).replace(tzinfo=None, microsecond=0)
    bounded = {
        name: column.model_copy(update={"latest": min(column.latest or now, now)})
        for name, column in source.columns.items()
        if name in past
    }
    return source.model_copy(update={"columns": source.columns | bounded})


def headers_of(name: str, column: Column) -> list[str]:
    """The names in the file of what a column is read from: none for one that is in no file."""
    if column.type is ColumnType.ROW:
        return []
    return column.joins or [column.header or name]


def position_of(wanted: str, header: list[str]) -> int | None:
    """The position in the file of a column with this name, or of the only one whose letters and digits are the same."""
    if wanted in header:
        return header.index(wanted)
    like = [position for position, one in enumerate(header) if bare(one) == bare(wanted)]
    return like[0] if len(like) == 1 else None


def bare(name: str) -> str:
    """The letters and digits of a name, by which a column is found in a file."""
    return "".join(each for each in name.casefold() if each.isalnum())


def check_header(source: Source, text: Text) -> None:
    wanted = {name: headers_of(name, column) for name, column in source.columns.items()}
    missing = [
        name if not source.columns[name].joins else f"{one} (for {name})"
        for name, headers in wanted.items()
        for one in headers
        if position_of(one, text.header) is None
    ]
    twice = [name for name, headers in wanted.items() if any(text.header.count(one) > 1 for one in headers)]
    where = f" line {text.first_row}" if not source.format.header else ""
    if missing:
        found = ", ".join(text.header)
        remedy = "; or declare another name in the file as the column's `header`"
        if len(text.header) == 1:
            other = next((mark for mark in (";", "\t", "|") if mark in found), None)
            named = {"\t": '"\\t"', None: "…"}.get(other, f"'{other}'")
            remedy = f"; separate the columns by commas, or declare `format: {{delimiter: {named}}}`"
        raise Unreadable(f"{where}: column {', '.join(missing)} is missing; the header is {found}{remedy}")
    if twice:
        raise Unreadable(f"{where}: column {', '.join(twice)} occurs twice")


def warnings(source: Source, text: Text) -> list[str]:
    """What is odd about a file that has the declared columns."""
    found = []
    read = {
        position_of(header, text.header)
        for name, column in source.columns.items()
        for header in headers_of(name, column)
    }
    if extra := [name for position, name in enumerate(text.header) if position not in read]:
        found.append(f"column {', '.join(name or '(without a name)' for name in extra)} is ignored")
    if not text.ends_in_line_break:
        found.append("the last line has no line break at its end; was the file cut off there?")
    return found


def texts(source: Source, text: Text) -> str:
    """SQL for the text of every declared column, from the cells in the file's own order."""
    return ", ".join(
        f"{cells.text(cell(name, column, text, source.format), column, source.format)} as text_{position}"
        for position, (name, column) in enumerate(source.columns.items(), 1)
    )


def cell(name: str, column: Column, text: Text, format: Format) -> str:
    """SQL for the cell of a declared column; of several cells, for what they are together."""
    positions = [position_of(header, text.header) for header in headers_of(name, column)]
    found = [f"cells[{position + 1}]" for position in positions if position is not None]
    if not found:
        return "null::varchar"
    if text.has_breaks:
        found = [with_breaks(one) for one in found]
    if column.joins:
        return cells.joined([cells.text(one, column, format) for one in found])
    return found[0]


def with_breaks(text: str) -> str:
    return f"replace({text}, '{BREAK}', chr(10))"


def blank(raw: str) -> str:
    """SQL of whether a line is not a row."""
    return f"case when starts_with({raw}, ' ') then trim({raw}) = '' else coalesce({raw}, '') = '' end"


def is_bad(value: str, column: Column, text: str) -> str:
    """SQL of whether a cell breaks a rule; its text is asked for only where it has no value."""
    no_value = (
        f"case when {value} is null then {text} is not null else false end"
        if column.nullable
        else f"{value} is null"
    )
    return " or ".join([no_value, *(condition for *_, condition in broken_rules(column, value))])


def _rules(position: int, column: Column) -> Iterator[tuple[str, str, str]]:
    """Rule, message for a text that breaks it, and the condition for breaking it: never null."""
    if column.type is ColumnType.ROW:
        return
    text, value = f"text_{position}", f"value_{position}"
    if not column.nullable:
        yield "required", "is empty", f"{text} is null"
    yield "type", cells.not_one(column), f"({text} is not null and {value} is null)"
    yield from broken_rules(column, value)


def explained_rules(position: int, column: Column) -> Iterator[tuple[str, str, str]]:
    """Rule, SQL of the message, and condition; that of types says what would read such a text."""
    for rule, words, condition in _rules(position, column):
        explained = cells.explained(column, f"text_{position}") if rule == "type" else literal(words)
        yield rule, explained, condition
