"""What is wrong with the rows of a source: where, in whose words, and whether it refuses the source as a whole.

An engine leaves the rows that are not good as a relation of the warehouse, `BAD`; here they are explained. Lines are
numbered by their order in their file, whatever is wrong with those before them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from vroom_assets.sources.columns import explained_rules, texts
from vroom_assets.sources.files import NamedFile
from vroom_assets.sources.lines import NOTE, Text
from vroom_assets.sources.report import Finding, SourceReport, sentence
from vroom_assets.spec import Source
from vroom_assets.sql import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES = 3
# Views and a table for the length of a load; no source can have such a name.
BAD, REPEATS, FINDINGS = '"the bad rows"', '"the repeats and orphans"', '"the findings"'
QUOTES = (
    "has a quote that is not closed, or that stands inside a cell; double it there, or declare "
    '`format: {escape: "\\\\"}` where a backslash stands before it'
)


@dataclass(frozen=True)
class Part:
    """A file among those of a source, whose lines begin at `start` among all."""

    file: NamedFile
    text: Text
    index: int = 0
    start: int = 0
    headers: int = 0  # lines before rows, in it and in those before it

    @property
    def first(self) -> int:
        """The first line that may be a row, among all lines."""
        return self.start + self.text.first_row


class Count(NamedTuple):
    """Of the rows of a file."""

    read: int
    good: int


@dataclass(frozen=True)
class Rows:
    """The lines of all files, one after the other: `nth` counts them from 0. Blank lines and headers are not rows."""

    parts: list[Part]
    counts: list[Count]  # of each part

    @property
    def read(self) -> int:
        return sum(count.read for count in self.counts)

    @property
    def bad(self) -> int:
        return self.read - sum(count.good for count in self.counts)

    def locate(self, nth: int) -> tuple[NamedFile, int]:
        """The file and the line in it."""
        part = self.parts[bisect_right(self.parts, nth, key=lambda one: one.start) - 1]
        return part.file, nth + 1 - part.start


def of_each(parts: Sequence[Part], nth: str, value: Callable[[Part], str]) -> str:
    """SQL of what the file that `nth` lies in has."""
    last, *others = reversed(parts)
    if not others:
        return value(last)
    cases = [f"when {nth} < {after.start} then {value(one)}" for one, after in pairwise(parts)]
    return f"case {' '.join(cases)} else {value(last)} end"


def line(parts: Sequence[Part], nth: str) -> str:
    """SQL of the line in the file that `nth` lies in."""
    return f"({nth} + 1 - {of_each(parts, nth, lambda part: str(part.start))})"


@contextmanager
def repeats(connection: DuckDBPyConnection) -> Iterator[None]:
    """For the length of a block: the table of faults that only other rows show, and what is made of it."""
    connection.execute(
        f'create or replace temp table {REPEATS} (nth bigint, position int, "column" varchar, rule varchar, '
        "value varchar, message varchar)"
    )
    try:
        yield
    finally:
        for kind, one in (("view", FINDINGS), ("view", BAD), ("table", REPEATS)):
            connection.execute(f"drop {kind} if exists temp.{one}")


def add_repeats(
    connection: DuckDBPyConnection, parts: Sequence[Part], position: int, column: str, repeated: str
) -> None:
    """Add rows whose key an earlier row has.

    Args:
        repeated: SQL of a relation of `nth`, `first` (the earlier row), and the key, `value`.
    """
    of_file = (
        of_each(parts, "first", lambda part: literal(f" of {part.file.name}")) if len(parts) > 1 else "''"
    )
    connection.execute(
        f"""
        insert into {REPEATS}
        select
            nth, {position}, {literal(column)}, 'unique', value::varchar,
            'is in line ' || {line(parts, "first")} || {of_file} || ' already'
        from {repeated}
        """
    )


def add_orphans(
    connection: DuckDBPyConnection, position: int, column: str, references: str, orphaned: str
) -> None:
    """Add rows that refer to what is not there.

    Args:
        orphaned: SQL of a relation of `nth` and `value`.
    """
    connection.execute(
        f"""
        insert into {REPEATS}
        select
            nth, {position}, {literal(column)}, 'references', value::varchar,
            {literal(f"does not occur in {references}")}
        from {orphaned}
        """
    )


def report(
    connection: DuckDBPyConnection, source: Source, rows: Rows, whole: str, warnings: list[str]
) -> SourceReport:
    """How many rows break which rule; leaves the view of all findings, if there are any."""
    if not rows.bad:  # asking goes through each rule of each column
        return SourceReport(whole, rows.read, 0, [], warnings)
    _gather(connection, source, rows)
    found = connection.execute(
        f"""
        select "column", rule, count(*), arg_min({{nth: nth, value: value, message: message}}, nth, {EXAMPLES})
        from {FINDINGS} group by position, "column", rule order by position, count(*) desc, rule
        """
    ).fetchall()
    findings = []
    for column, rule, count, examples in found:
        sentences = []
        for one in examples:
            file, line = rows.locate(one["nth"])
            sentences.append(sentence(file.name, line, column, rule, one["value"], one["message"]))
        findings.append(Finding(column=column or "(row)", rule=rule, rows=count, examples=sentences))
    return SourceReport(whole, rows.read, rows.bad, findings, warnings)


def refusal(connection: DuckDBPyConnection, rows: Rows, found: SourceReport, source: Source) -> str | None:
    """Why the source is refused as a whole, None if it is not."""
    return _refusal_for_all(found, source) or _refusal_for_a_file(connection, rows)


def _gather(connection: DuckDBPyConnection, source: Source, rows: Rows) -> None:
    """Temporary view: where, position of the column, column, rule, value and message."""
    width = of_each(rows.parts, "nth", lambda part: str(len(part.text.header)))
    with_texts = " union all ".join(
        f"select *, {texts(source, part.text)} from cut where nth >= {part.start}"
        + (f" and nth < {after.start}" if after else "")
        for part, after in zip_longest(rows.parts, rows.parts[1:])
    )
    parts = [
        f"""
        select nth, 0 as position, '' as "column", note[2] as rule, note[4] as value, note[3] as message
        from (select nth, string_split(cells[1], '{NOTE}') as note from bad) where len(note) = 4
        """,
        f"""
        select nth, 0, '', 'quotes', null, {literal(QUOTES)}
        from bad where broken
        """,
        f"""
        select nth, 0, '', 'cells', null, 'has ' || len(cells) || ' cells, the header has ' || {width}
        from bad where not broken and not starts_with(cells[1], '{NOTE}') and len(cells) <> {width}
        """,
        f"from {REPEATS}",
    ]
    # One scan for all columns: a part for each rule of a wide source would not fit into memory.
    faults = ", ".join(
        f"case when {condition} then {{position: {position}, \"column\": {literal(name)}, rule: '{rule}', "
        f"value: text_{position}::varchar, message: {message}}} end"
        for position, (name, column) in enumerate(source.columns.items(), 1)
        for rule, message, condition in explained_rules(position, column)
    )
    if faults:
        parts.append(
            f"""
            select nth, fault.position, fault."column", fault.rule, fault.value, fault.message
            from (select nth, unnest([{faults}]) as fault from whole) where fault is not null
            """
        )
    connection.execute(
        f"""
        create or replace temp view {FINDINGS} as
        with bad as materialized (from {BAD}),
        cut as materialized (
            from bad where not broken and not starts_with(cells[1], '{NOTE}') and len(cells) = {width}
        ),
        whole as materialized ({with_texts})
        {" union all ".join(parts)}
        """
    )


def _refusal_for_all(report: SourceReport, source: Source) -> str | None:
    """Why the file is refused as a whole, None if it is not."""
    if report.read == 0:
        return f"{report.file}: the file has a header and no rows"
    share = report.quarantined / report.read
    if share <= source.tolerated_bad_share:
        return None
    limit = max(report.findings, key=lambda finding: finding.rows)
    return (
        f"{report.file}: {report.quarantined} of {report.read} rows are bad ({share:.3%}; at most "
        f"{source.tolerated_bad_share:.3%} is tolerated); the most frequent fault: {limit.examples[0]}"
    )


def _refusal_for_a_file(connection: DuckDBPyConnection, rows: Rows) -> str | None:
    """Why a source is refused for one of its files: among many rows, a file without a good one would not be noticed."""
    if len(rows.parts) == 1:
        return None
    without = (
        part for part in rows.parts if rows.counts[part.index].read and not rows.counts[part.index].good
    )
    part = next(without, None)
    if part is None:
        return None
    [(column, rule, value, message, nth)] = connection.execute(
        f'select "column", rule, value, message, nth from {FINDINGS} where nth >= {part.start} order by nth, position limit 1'
    ).fetchall()
    file, line = rows.locate(nth)
    count = rows.counts[part.index].read
    return f"{file.name}: none of its {count} rows is good; {sentence(file.name, line, column, rule, value, message)}"
