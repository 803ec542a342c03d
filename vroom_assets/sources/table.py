"""A source as a table: lines become typed rows by the rules of the declaration alone.

Nothing is guessed and nothing is rounded: a cell is read as text, and has a value only where its whole
text is one. Lines are numbered by their order in their file, whatever is wrong with those before them. All
of it is a few statements over the whole source, so that millions of rows spill to disk and not into memory.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract import durable
from vroom_assets.sources import cells, parquet
from vroom_assets.sources.files import NamedFile
from vroom_assets.sources.lines import BREAK, DELIMITER, NOTE, Text, Unreadable, readable
from vroom_assets.sources.report import Finding, SourceRefused, SourceReport, sentence
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import broken_rules, glob_escaped, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES = 3
EASTERNMOST = timedelta(hours=14)
MAX_KEPT = 10_000  # findings in quarantine of a refused file
# Tables and views for the length of a load; no source can have such a name.
LINES, ROWS, REPEATS, FINDINGS = '"the lines"', '"the rows"', '"the repeats and orphans"', '"the findings"'
GOOD, BROKEN, CELLS = (
    '"is the line good"',
    '"are its quotes broken"',
    '"its cells"',
)  # beside the declared columns
QUOTES = (
    "has a quote that is not closed, or that stands inside a cell; double it there, or declare "
    '`format: {escape: "\\\\"}` where a backslash stands before it'
)


def load(
    connection: DuckDBPyConnection,
    name: str,
    source: Source,
    files: Sequence[NamedFile],
    past: Collection[str] = (),
) -> SourceReport:
    """Check a source and replace table `name` by its good rows, in one transaction.

    The bad rows replace those in the table `quarantine` that this source had there before. A row is bad if
    a cell of it breaks a rule, if an earlier good row has its key, or if what it refers to is not there.

    Args:
        files: CSVs or Parquet files, whose rows follow each other.
        past: columns that say when something happened, and so cannot lie ahead of now, wherever on earth.

    Raises:
        SourceRefused: a file as a whole is unusable, or too many rows are bad. The table stays as it was;
            the bad rows (the first 10,000 findings) are in the table `quarantine` all the same.
    """
    source = _until_now(source, past)
    whole = files[0].name if len(files) == 1 else f"{source.path} ({len(files)} files)"
    try:
        if not files:
            raise _Unusable(NamedFile(Path(source.path), source.path), ": no file has such a name")
        with ExitStack() as opened:
            parts, warnings = [], []
            for file in files:
                try:
                    part = _Part(file, opened.enter_context(_text(connection, file.path, source.format)))
                    found = _check_declaration(connection, source, part.text)
                except Unreadable as error:
                    raise _Unusable(file, str(error)) from error
                parts.append(part)
                warnings += [one if len(files) == 1 else f"{file.name}: {one}" for one in found]
            with _findings(connection, source, parts) as rows:
                return _decide(connection, name, source, rows, whole, warnings)
    except _Unusable as error:
        message = f"{error.file.name}{error}"
        with _transaction(connection):
            _empty_quarantine(connection, name)
            connection.execute(
                "insert into quarantine values (?, ?, ?, null, '', 'file', null, ?, null)",
                [name, error.file.name, error.file.path.stem, message],
            )
        raise SourceRefused(message, SourceReport(whole)) from error


class _Unusable(Exception):
    """A file that cannot be read at all."""

    def __init__(self, file: NamedFile, why: str):
        super().__init__(why)
        self.file = file


@contextmanager
def _text(connection: DuckDBPyConnection, path: Path, format: Format) -> Iterator[Text]:
    """A file that can be read, for the length of a block.

    Raises:
        Unreadable: it cannot.
    """
    if parquet.is_parquet(path):
        yield parquet.text(connection, path)
        return
    with readable(path, format) as text:
        yield text


@dataclass(frozen=True)
class _Part:
    """A file among those of a source, whose lines begin at `start` among all."""

    file: NamedFile
    text: Text
    index: int = 0
    start: int = 0
    headers: int = 0  # lines before rows, in it and in those before it


@dataclass(frozen=True)
class _Rows:
    """The lines of all files, one after the other: `nth` counts them from 0."""

    parts: list[_Part]

    def of_each(self, nth: str, value: Callable[[_Part], str]) -> str:
        """SQL of what the file that `nth` lies in has."""
        last, *others = reversed(self.parts)
        if not others:
            return value(last)
        cases = [f"when {nth} < {after.start} then {value(one)}" for one, after in pairwise(self.parts)]
        return f"case {' '.join(cases)} else {value(last)} end"

    def line(self, nth: str) -> str:
        """SQL of the line in its file."""
        return f"({nth} + 1 - {self.of_each(nth, lambda part: str(part.start))})"

    def locate(self, nth: int) -> tuple[NamedFile, int]:
        """The file and the line in it."""
        part = self.parts[bisect_right(self.parts, nth, key=lambda one: one.start) - 1]
        return part.file, nth + 1 - part.start


def write_quarantine(connection: DuckDBPyConnection, name: str, path: Path) -> None:
    """Write the bad rows of a source as a CSV that anybody can open; without bad rows there is no file.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    _create_quarantine(connection)
    [(rows,)] = connection.execute("select count(*) from quarantine where source = ?", [name]).fetchall()
    if rows == 0:
        path.unlink(missing_ok=True)
        return
    guarded = ", ".join(
        f"case when regexp_matches({text}, '^[=+@\\t-]') and try_cast({text} as double) is null "
        f"then '''' || {text} else {text} end as {text}"
        for text in ("value", "raw")
    )
    with durable.replaced(path) as beside:
        connection.execute(
            f"copy (select * replace ({guarded}) from quarantine where source = {literal(name)} "
            f'order by file, line, "column") to {literal(str(beside))} (format csv, header)'
        )


def _until_now(source: Source, past: Collection[str]) -> Source:
    """The source with the clock as a bound: texts of times have no zone, and the first day begins at +14:00."""
    now = (datetime.now(UTC) + EASTERNMOST).replace(tzinfo=None, microsecond=0)
    bounded = {
        name: column.model_copy(update={"latest": min(column.latest or now, now)})
        for name, column in source.columns.items()
        if name in past
    }
    return source.model_copy(update={"columns": source.columns | bounded})


def _check_declaration(connection: DuckDBPyConnection, source: Source, text: Text) -> list[str]:
    """Warnings about a file that has the declared columns.

    Raises:
        Unreadable: a column is missing or occurs twice, or the table it refers to is not there.
    """
    _check_header(source, text)
    for name, column in source.columns.items():
        if column.references:
            table, _, key = column.references.partition(".")
            known = connection.execute(
                "select 1 from duckdb_columns() where table_name = ? and column_name = ?", [table, key]
            ).fetchall()
            if not known:
                raise Unreadable(
                    f": column {name} refers to {column.references}, which is not there; load {table} first"
                )
    warnings = []
    read = {
        position_of(header, text.header)
        for name, column in source.columns.items()
        for header in headers_of(name, column)
    }
    if extra := [name for position, name in enumerate(text.header) if position not in read]:
        warnings.append(f"column {', '.join(name or '(without a name)' for name in extra)} is ignored")
    if not text.ends_in_line_break:
        warnings.append("the last line has no line break at its end; was the file cut off there?")
    return warnings


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


def _check_header(source: Source, text: Text) -> None:
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


@contextmanager
def _findings(connection: DuckDBPyConnection, source: Source, parts: Sequence[_Part]) -> Iterator[_Rows]:
    """For the length of a block: all rows, typed, and what is wrong with them."""
    try:
        rows = _Rows(list(_read_lines(connection, source, parts)))
        _number_rows(connection, source, rows)
        _find_repeats_and_orphans(connection, source, rows)
        yield rows
    finally:
        for kind, one in (("view", FINDINGS), ("view", ROWS), ("table", REPEATS)):
            connection.execute(f"drop {kind} if exists temp.{one}")
        connection.execute(f"drop table if exists {LINES}")


def _raw_lines(text: Text) -> str:
    """SQL of a table of `raw`, the lines as they are."""
    if text.types is not None:
        return parquet.raw(text)
    return f"""
    from read_csv(
        {literal(glob_escaped(text.path))}, columns = {{'raw': 'varchar'}}, auto_detect = false, header = false,
        delim = '{DELIMITER}', quote = '', escape = '', strict_mode = false, hive_partitioning = false
    )"""


def _read_lines(connection: DuckDBPyConnection, source: Source, parts: Sequence[_Part]) -> Iterator[_Part]:
    """Table of all lines in order, file by file; yields the files with where theirs begin.

    A line has `good`, true unless a cell breaks a rule and null for a blank line, and the declared columns; a bad one
    also has its cells and whether its quotes are `broken`. It becomes the source's table, so that no row is written
    twice; and as it lies in the warehouse's file, it is not held in memory.
    """
    start = headers = 0
    for index, part in enumerate(parts):
        headers += part.text.first_row
        into = f"insert into {LINES}" if index else f"create or replace table {LINES} as"
        connection.execute(f"{into} {_typed_lines(source, part.text, start - headers)}")
        yield replace(part, index=index, start=start, headers=headers)
        [(start,)] = connection.execute(f"select count(*) from {LINES}").fetchall()


def _typed_lines(source: Source, text: Text, rows_before: int) -> str:
    """SQL of the lines of a file, typed by the declaration.

    Args:
        rows_before: the number of its first line, where a column counts rows, is one more.
    """
    columns = list(source.columns.items())
    format = source.format if text.types is None else Format(nulls=source.format.nulls)
    values = ", ".join(
        f"{_value(_cell(name, column, text, format), column, format, text, rows_before)} as value_{position}"
        for position, (name, column) in enumerate(columns, 1)
    )
    bad = " or ".join(
        _is_bad(
            f"value_{position}",
            column,
            cells.text(_cell(name, column, text, source.format), column, source.format),
        )
        for position, (name, column) in enumerate(columns, 1)
        if column.type is not ColumnType.ROW
    )
    kept = ", ".join(
        f"value_{position} as {identifier(name)}" for position, (name, _) in enumerate(columns, 1)
    )
    whole = f"not broken and not starts_with(cells[1], '{NOTE}')" if text.needs_care else "true"
    return f"""
        with cells as ({_cells(text, source.format) if text.types is None else parquet.cells(text)}),
        typed as (select *, {values} from cells)
        select
            case when not blank then {whole} and len(cells) = {len(text.header)} and not ({bad or "false"}) end as {GOOD},
            broken as {BROKEN},
            case when not {GOOD} then cells end as {CELLS},
            {kept}
        from typed
        """


def _cells(text: Text, format: Format) -> str:
    """SQL of the cells of each line, whether it is `blank`, and whether its quotes are `broken`."""
    mark, quote = format.delimiter, format.quote
    blank = "case when starts_with(raw, ' ') then trim(raw) = '' else coalesce(raw, '') = '' end"
    if not text.needs_care:
        return f"""
            select {blank} as blank, false as broken, string_split(raw, {literal(mark)}) as cells
            from ({_raw_lines(text)})
            """
    bare = f"[^{re.escape(quote)}{re.escape(mark)}]*"
    quoted = f"{re.escape(quote)}(?:[^{re.escape(quote)}]|{re.escape(quote * 2)})*{re.escape(quote)}"
    cell = literal(f"({quoted}|{bare}){re.escape(mark)}")
    # A line with quotes is taken apart by the CSV grammar; one without is split, which is ten times faster.
    return f"""
        with pieces as (
            select
                raw,
                case
                    when starts_with(raw, '{NOTE}') then [raw]
                    when contains(raw, {literal(quote)}) then regexp_extract_all(raw || {literal(mark)}, {cell}, 1)
                    else string_split(raw, {literal(mark)})
                end as pieces
            from ({_raw_lines(text)})
        )
        select
            {blank} as blank,
            coalesce(
                contains(raw, {literal(quote)}) and array_to_string(pieces, {literal(mark)}) <> raw, false
            ) as broken,
            case
                when contains(raw, {literal(quote)}) and not starts_with(raw, '{NOTE}') then list_transform(
                    pieces,
                    lambda piece: case
                        when starts_with(piece, {literal(quote)})
                            then replace(piece[2:-2], {literal(quote * 2)}, {literal(quote)})
                        else piece
                    end
                )
                else pieces
            end as cells
        from pieces
        """


def _number_rows(connection: DuckDBPyConnection, source: Source, rows: _Rows) -> None:
    """View of the lines that are rows: `nth`, `good`, `broken`, `cells` and a value per column, `value_1` …"""
    first = rows.of_each("rowid", lambda part: str(part.start + part.text.first_row))
    values = "".join(
        f", {identifier(name)} as value_{position}" for position, name in enumerate(source.columns, 1)
    )
    connection.execute(
        f"""
        create or replace temp view {ROWS} as
        select rowid as nth, {GOOD} as good, {BROKEN} as broken, {CELLS} as cells{values} from {LINES}
        where rowid >= {first} and {GOOD} is not null
        """
    )


def _texts(source: Source, text: Text) -> str:
    """SQL for the text of every declared column, from the cells in the file's own order."""
    return ", ".join(
        f"{cells.text(_cell(name, column, text, source.format), column, source.format)} as text_{position}"
        for position, (name, column) in enumerate(source.columns.items(), 1)
    )


def _cell(name: str, column: Column, text: Text, format: Format) -> str:
    """SQL for the cell of a declared column; of several cells, for what they are together."""
    positions = [position_of(header, text.header) for header in headers_of(name, column)]
    found = [f"cells[{position + 1}]" for position in positions if position is not None]
    if not found:
        return "null::varchar"
    if text.has_breaks:
        found = [_with_breaks(cell) for cell in found]
    if column.joins:
        return cells.joined([cells.text(cell, column, format) for cell in found])
    return found[0]


def _with_breaks(text: str) -> str:
    return f"replace({text}, '{BREAK}', chr(10))"


def _value(cell: str, column: Column, format: Format, text: Text, rows_before: int) -> str:
    if column.type is ColumnType.ROW:
        return f"row_number() over () + {rows_before}"
    return cells.read(cell, column, format, plain_blanks=not text.has_other_blanks)


def _is_bad(value: str, column: Column, text: str) -> str:
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


def _explained_rules(position: int, column: Column) -> Iterator[tuple[str, str, str]]:
    """Rule, SQL of the message, and condition; that of types says what would read such a text."""
    for rule, words, condition in _rules(position, column):
        explained = cells.explained(column, f"text_{position}") if rule == "type" else literal(words)
        yield rule, explained, condition


def _find_repeats_and_orphans(connection: DuckDBPyConnection, source: Source, rows: _Rows) -> None:
    """Temporary table of the faults of good rows that only other rows show."""
    connection.execute(
        f'create or replace temp table {REPEATS} (nth bigint, position int, "column" varchar, rule varchar, '
        "value varchar, message varchar)"
    )
    of_file = (
        rows.of_each("first", lambda part: literal(f" of {part.file.name}")) if len(rows.parts) > 1 else "''"
    )
    for position, (name, column) in enumerate(source.columns.items(), 1):
        value = f"value_{position}"
        if column.unique:
            connection.execute(
                f"""
                insert into {REPEATS}
                with firsts as (
                    select {value}, min(nth) as first from {ROWS} where good and {value} is not null
                    group by {value} having count(*) > 1
                )
                select
                    nth, {position}, {literal(name)}, 'unique', {value}::varchar,
                    'is in line ' || {rows.line("first")} || {of_file} || ' already'
                from {ROWS} join firsts using ({value})
                where good and nth > first
                """
            )
        if column.references:
            table, _, key = column.references.partition(".")
            connection.execute(
                f"""
                insert into {REPEATS}
                select
                    nth, {position}, {literal(name)}, 'references', {value}::varchar,
                    {literal(f"does not occur in {column.references}")}
                from {ROWS} anti join {identifier(table)} as present on {value} = present.{identifier(key)}
                where good and {value} is not null
                """
            )
    # An update: a join would not keep the order of the file.
    connection.execute(f"update {LINES} set {GOOD} = false where rowid in (select nth from {REPEATS})")


def _gather_findings(connection: DuckDBPyConnection, source: Source, rows: _Rows) -> None:
    """Temporary view: where, position of the column, column, rule, value and message."""
    width = rows.of_each("nth", lambda part: str(len(part.text.header)))
    texts = " union all ".join(
        f"select *, {_texts(source, part.text)} from cut where nth >= {part.start}"
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
        for rule, message, condition in _explained_rules(position, column)
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
        with bad as materialized (from {ROWS} where not good),
        cut as materialized (
            from bad where not broken and not starts_with(cells[1], '{NOTE}') and len(cells) = {width}
        ),
        whole as materialized ({texts})
        {" union all ".join(parts)}
        """
    )


def _decide(
    connection: DuckDBPyConnection,
    name: str,
    source: Source,
    rows: _Rows,
    whole: str,
    warnings: list[str],
) -> SourceReport:
    """Replace quarantine and table together, or quarantine alone when the source is refused."""
    report = _report(connection, source, rows, whole, warnings)
    refusal = _refusal(report, source) or _refusal_of_a_file(connection, rows)
    with _transaction(connection):
        _empty_quarantine(connection, name)
        if report.findings:
            _fill_quarantine(connection, name, rows, MAX_KEPT if refusal else None)
        if refusal is None:
            _replace_table(connection, name, rows)
    if refusal:
        raise SourceRefused(refusal, report)
    return report


def _report(
    connection: DuckDBPyConnection, source: Source, rows: _Rows, whole: str, warnings: list[str]
) -> SourceReport:
    [(read, quarantined)] = connection.execute(
        f"""
        select count(*), count(*) filter (not good) from {ROWS}
        """
    ).fetchall()
    if not quarantined:  # asking goes through each rule of each column
        return SourceReport(whole, read, 0, [], warnings)
    _gather_findings(connection, source, rows)
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
    return SourceReport(whole, read, quarantined, findings, warnings)


def _refusal_of_a_file(connection: DuckDBPyConnection, rows: _Rows) -> str | None:
    """Why a source is refused for one of its files: among many rows, a file without a good one would not be noticed."""
    if len(rows.parts) == 1:
        return None
    index = rows.of_each("nth", lambda part: str(part.index))
    found = connection.execute(
        f"select {index}, count(*) from {ROWS} group by 1 having count(*) filter (good) = 0 order by 1 limit 1"
    ).fetchall()
    if not found:
        return None
    [(part, count)] = found
    start = rows.parts[part].start
    [(column, rule, value, message, nth)] = connection.execute(
        f'select "column", rule, value, message, nth from {FINDINGS} where nth >= {start} order by nth, position limit 1'
    ).fetchall()
    file, line = rows.locate(nth)
    return f"{file.name}: none of its {count} rows is good; {sentence(file.name, line, column, rule, value, message)}"


def _refusal(report: SourceReport, source: Source) -> str | None:
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


def _replace_table(connection: DuckDBPyConnection, name: str, rows: _Rows) -> None:
    """Let the good lines be the table."""
    first = rows.of_each("rowid", lambda part: str(part.start + part.text.first_row))
    connection.execute(f"delete from {LINES} where {GOOD} is not true or rowid < {first}")
    for column in (GOOD, BROKEN, CELLS):
        connection.execute(f"alter table {LINES} drop column {column}")
    connection.execute(f"drop table if exists {identifier(name)}")
    connection.execute(f"alter table {LINES} rename to {identifier(name)}")


def _create_quarantine(connection: DuckDBPyConnection) -> None:
    connection.execute(
        """
        create table if not exists quarantine (
            source varchar, file varchar, snapshot varchar, line bigint, "column" varchar, rule varchar,
            value varchar, message varchar, raw varchar
        )
        """
    )


def _empty_quarantine(connection: DuckDBPyConnection, name: str) -> None:
    _create_quarantine(connection)
    connection.execute("delete from quarantine where source = ?", [name])


def _fill_quarantine(connection: DuckDBPyConnection, name: str, rows: _Rows, limit: int | None) -> None:
    """The findings with their lines as they stand in the files, which are read again for that."""
    index = rows.of_each("nth", lambda part: str(part.index))
    bad = connection.execute(f"select distinct {index} from {ROWS} where not good").fetchall()
    raws = " union all ".join(
        f"select row_number() over () - 1 + {part.start} as nth, {literal(part.file.name)} as file, "
        f"{literal(part.file.path.stem)} as snapshot, raw from ({_raw_lines(part.text)})"
        for part in (rows.parts[one] for (one,) in sorted(bad))
    )
    connection.execute(
        f"""
        insert into quarantine
        with kept as (from {FINDINGS} order by nth, position {f"limit {limit}" if limit else ""}),
        raws as (from ({raws}) semi join kept using (nth))
        select
            ?, file, snapshot, {rows.line("nth")}, "column", rule, value, message,
            case when starts_with(raw, '{NOTE}') then string_split(raw, '{NOTE}')[4] else {_with_breaks("raw")} end
        from kept join raws using (nth)
        order by nth, position
        """,
        [name],
    )


@contextmanager
def _transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
