"""A source as a table: lines become typed rows by the rules of the declaration alone.

Nothing is guessed and nothing is rounded: a cell is read as text, and has a value only where its whole
text is one. Lines are numbered by their order in the file, whatever is wrong with those before them. All
of it is a few statements over the whole file, so that millions of rows spill to disk and not into memory.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract import durable
from vroom_assets.sources import cells
from vroom_assets.sources.lines import BREAK, DELIMITER, NOTE, Text, Unreadable, readable
from vroom_assets.sources.report import Finding, SourceRefused, SourceReport, sentence
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import broken_rules, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES = 3
EASTERNMOST = timedelta(hours=14)
MAX_KEPT = 10_000  # findings in quarantine of a refused file
# Temporary tables and views; no source can have such a name.
LINES, ROWS, REPEATS, FINDINGS = '"the lines"', '"the rows"', '"the repeats and orphans"', '"the findings"'


def load(
    connection: DuckDBPyConnection,
    name: str,
    source: Source,
    path: Path,
    file: str,
    past: Collection[str] = (),
) -> SourceReport:
    """Check a snapshot and replace table `name` by its good rows, in one transaction.

    The bad rows replace those in the table `quarantine` that this source had there before. A row is bad if
    a cell of it breaks a rule, if an earlier good row has its key, or if what it refers to is not there.

    Args:
        file: the name that people know the file by, for messages.
        past: columns that say when something happened, and so cannot lie ahead of now, wherever on earth.

    Raises:
        SourceRefused: the file as a whole is unusable, or too many rows are bad. The table stays as it was;
            the bad rows (the first 10,000 findings) are in the table `quarantine` all the same.
    """
    try:
        with readable(path, source.format) as text:
            source = _until_now(source, past)
            warnings = _check_declaration(connection, source, text)
            with _findings(connection, source, text):
                return _decide(connection, name, source, text, path, file, warnings)
    except Unreadable as error:
        message = f"{file}{error}"
        with _transaction(connection):
            _empty_quarantine(connection, name)
            connection.execute(
                "insert into quarantine values (?, ?, ?, null, '', 'file', null, ?, null)",
                [name, file, path.stem, message],
            )
        raise SourceRefused(message, SourceReport(file)) from error


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
            f'order by line, "column") to {literal(str(beside))} (format csv, header)'
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
    read = {position_of(name, column, text.header) for name, column in source.columns.items()}
    if extra := [name for position, name in enumerate(text.header) if position not in read]:
        warnings.append(f"column {', '.join(name or '(without a name)' for name in extra)} is ignored")
    if not text.ends_in_line_break:
        warnings.append("the last line has no line break at its end; was the file cut off there?")
    return warnings


def position_of(name: str, column: Column, header: list[str]) -> int | None:
    """The position of a column in the file: by its name, or by the one whose letters and digits are the same; None for
    one that is in no file."""
    if column.type is ColumnType.ROW:
        return None
    wanted = column.header or name
    if wanted in header:
        return header.index(wanted)
    like = [position for position, one in enumerate(header) if bare(one) == bare(wanted)]
    return like[0] if len(like) == 1 else None


def bare(name: str) -> str:
    """The letters and digits of a name, by which a column is found in a file."""
    return "".join(each for each in name.casefold() if each.isalnum())


def _check_header(source: Source, text: Text) -> None:
    wanted = {name: one for name, one in source.columns.items() if one.type is not ColumnType.ROW}
    missing = [name for name, column in wanted.items() if position_of(name, column, text.header) is None]
    twice = [name for name, one in wanted.items() if text.header.count(one.header or name) > 1]
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
def _findings(connection: DuckDBPyConnection, source: Source, text: Text) -> Iterator[None]:
    """For the length of a block: all rows, typed, and what is wrong with them."""
    try:
        _read_rows(connection, source, text)
        _find_repeats_and_orphans(connection, source)
        _gather_findings(connection, source, text)
        yield
    finally:
        for kind, one in (("view", FINDINGS), ("view", ROWS), ("table", REPEATS), ("table", LINES)):
            connection.execute(f"drop {kind} if exists temp.{one}")


def _raw_lines(path: Path) -> str:
    return f"""
    read_csv(
        {literal(_glob_escaped(path))}, columns = {{'raw': 'varchar'}}, auto_detect = false, header = false,
        delim = '{DELIMITER}', quote = '', escape = '', strict_mode = false, hive_partitioning = false
    )"""


def _read_rows(connection: DuckDBPyConnection, source: Source, text: Text) -> None:
    """Temporary table of all lines in order, and a view of those that are rows.

    A row has its line, `good` unless a cell breaks a rule, and a value per column, `value_1` …; a bad one
    also has its cells and whether its quotes are `broken`.

    Long: it is one statement.
    """
    columns = list(source.columns.items())
    values = ", ".join(
        f"{_value(f'text_{position}', column, source.format)} as value_{position}"
        for position, (_, column) in enumerate(columns, 1)
    )
    bad = " or ".join(
        condition
        for position, (_, column) in enumerate(columns, 1)
        for *_, condition in _rules(position, column)
    )
    mark, quote = source.format.delimiter, source.format.quote
    bare = f"[^{re.escape(quote)}{re.escape(mark)}]*"
    quoted = f"{re.escape(quote)}(?:[^{re.escape(quote)}]|{re.escape(quote * 2)})*{re.escape(quote)}"
    cell = literal(f"({quoted}|{bare}){re.escape(mark)}")
    kept = ", ".join(f"value_{position}" for position in range(1, len(columns) + 1))
    # A line with quotes is taken apart by the CSV grammar; one without is split, which is ten times faster.
    connection.execute(
        f"""
        create or replace temp table {LINES} as
        with pieces as (
            select
                raw,
                case
                    when starts_with(raw, '{NOTE}') then [raw]
                    when contains(raw, {literal(quote)}) then regexp_extract_all(raw || {literal(mark)}, {cell}, 1)
                    else string_split(raw, {literal(mark)})
                end as pieces
            from {_raw_lines(text.path)}
        ),
        cells as (
            select
                trim(coalesce(raw, '')) = '' as blank,
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
        ),
        texts as (select *, {_texts(source, text)} from cells),
        typed as (select *, {values} from texts)
        select
            case
                when not blank
                    then not broken and not starts_with(cells[1], '{NOTE}') and len(cells) = {len(text.header)}
                    and not ({bad or "false"})
            end as good,
            broken,
            case when not good then cells end as cells,
            {kept}
        from typed
        """
    )
    connection.execute(
        f"""
        create or replace temp view {ROWS} as
        select rowid + 1 as line, *{_numbered(source, text)} from {LINES}
        where rowid >= {text.first_row} and good is not null
        """
    )


def _numbered(source: Source, text: Text) -> str:
    """The numbers of rows where a column asks for them: their lines, counted from the first."""
    positions = [n for n, one in enumerate(source.columns.values(), 1) if one.type is ColumnType.ROW]
    counted = ", ".join(f"rowid - {text.first_row - 1} as value_{position}" for position in positions)
    return f" replace ({counted})" if counted else ""


def _texts(source: Source, text: Text) -> str:
    """SQL for the text of every declared column, from the cells in the file's own order."""

    def of(name: str, column: Column) -> str:
        position = position_of(name, column, text.header)
        if position is None:
            return "null::varchar"
        return _text(f"cells[{position + 1}]", column, source.format, text.has_breaks)

    return ", ".join(
        f"{of(name, column)} as text_{position}"
        for position, (name, column) in enumerate(source.columns.items(), 1)
    )


def _text(cell: str, column: Column, format: Format, has_breaks: bool) -> str:
    """The text of a cell; null if it is empty. Blanks around other types than text mean nothing."""
    cell = _with_breaks(cell) if has_breaks else cell
    empty = ", ".join(map(literal, ["", *format.nulls]))
    if column.type.stored is ColumnType.TEXT:
        return f"case when trim({cell}) not in ({empty}) then {cell} end"
    return f"case when trim({cell}) not in ({empty}) then trim({cell}) end"


def _with_breaks(text: str) -> str:
    return f"replace({text}, '{BREAK}', chr(10))"


def _value(text: str, column: Column, format: Format) -> str:
    return "null::bigint" if column.type is ColumnType.ROW else cells.value(text, column, format)


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
    """The rules, those of types with what would read such a text."""
    for rule, words, condition in _rules(position, column):
        if rule != "type":
            yield rule, words, condition
            continue
        for message, part in cells.explained(column, f"text_{position}", condition):
            yield rule, message, part


def _find_repeats_and_orphans(connection: DuckDBPyConnection, source: Source) -> None:
    """Temporary table of the faults of good rows that only other rows show."""
    connection.execute(
        f'create or replace temp table {REPEATS} (line bigint, position int, "column" varchar, rule varchar, '
        "value varchar, message varchar)"
    )
    for position, (name, column) in enumerate(source.columns.items(), 1):
        value = f"value_{position}"
        if column.unique:
            connection.execute(
                f"""
                insert into {REPEATS}
                with firsts as (
                    select {value}, min(line) as first from {ROWS} where good and {value} is not null
                    group by {value} having count(*) > 1
                )
                select
                    line, {position}, {literal(name)}, 'unique', {value}::varchar,
                    'is in line ' || first || ' already'
                from {ROWS} join firsts using ({value})
                where good and line > first
                """
            )
        if column.references:
            table, _, key = column.references.partition(".")
            connection.execute(
                f"""
                insert into {REPEATS}
                select
                    line, {position}, {literal(name)}, 'references', {value}::varchar,
                    {literal(f"does not occur in {column.references}")}
                from {ROWS} anti join {identifier(table)} as present on {value} = present.{identifier(key)}
                where good and {value} is not null
                """
            )
    # An update: a join would not keep the order of the file.
    connection.execute(f"update {LINES} set good = false where rowid + 1 in (select line from {REPEATS})")


def _gather_findings(connection: DuckDBPyConnection, source: Source, text: Text) -> None:
    """Temporary view: line, position of the column, column, rule, value and message."""
    width = len(text.header)
    parts = [
        f"""
        select line, 0 as position, '' as "column", note[2] as rule, note[4] as value, note[3] as message
        from (select line, string_split(cells[1], '{NOTE}') as note from bad) where len(note) = 4
        """,
        """
        select line, 0, '', 'quotes', null, 'has a quote that is not closed, or that stands inside a cell'
        from bad where broken
        """,
        f"""
        select line, 0, '', 'cells', null, 'has ' || len(cells) || ' cells, the header has {width}'
        from bad where not broken and not starts_with(cells[1], '{NOTE}') and len(cells) <> {width}
        """,
        f"from {REPEATS}",
    ]
    for position, (name, column) in enumerate(source.columns.items(), 1):
        parts += [
            f"select line, {position}, {literal(name)}, '{rule}', text_{position}, {literal(words)} from whole where {condition}"
            for rule, words, condition in _explained_rules(position, column)
        ]
    connection.execute(
        f"""
        create or replace temp view {FINDINGS} as
        with bad as materialized (from {ROWS} where not good),
        whole as materialized (
            select *, {_texts(source, text)} from bad
            where not broken and not starts_with(cells[1], '{NOTE}') and len(cells) = {width}
        )
        {" union all ".join(parts)}
        """
    )


def _decide(
    connection: DuckDBPyConnection,
    name: str,
    source: Source,
    text: Text,
    path: Path,
    file: str,
    warnings: list[str],
) -> SourceReport:
    """Replace quarantine and table together, or quarantine alone when the file is refused."""
    report = _report(connection, file, warnings)
    refusal = _refusal(report, source)
    with _transaction(connection):
        _empty_quarantine(connection, name)
        if report.findings:
            _fill_quarantine(connection, name, text, path, file, MAX_KEPT if refusal else None)
        if refusal is None:
            _replace_table(connection, name, source)
    if refusal:
        raise SourceRefused(refusal, report)
    return report


def _report(connection: DuckDBPyConnection, file: str, warnings: list[str]) -> SourceReport:
    [(read, quarantined)] = connection.execute(
        f"""
        select count(*), count(*) filter (not good) from {ROWS}
        """
    ).fetchall()
    if not quarantined:  # asking goes through each rule of each column
        return SourceReport(file, read, 0, [], warnings)
    found = connection.execute(
        f"""
        select "column", rule, count(*), arg_min({{line: line, value: value, message: message}}, line, {EXAMPLES})
        from {FINDINGS} group by position, "column", rule order by position, count(*) desc, rule
        """
    ).fetchall()
    findings = [
        Finding(
            column=column or "(row)",
            rule=rule,
            rows=rows,
            examples=[
                sentence(file, one["line"], column, rule, one["value"], one["message"]) for one in examples
            ],
        )
        for column, rule, rows, examples in found
    ]
    return SourceReport(file, read, quarantined, findings, warnings)


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


def _replace_table(connection: DuckDBPyConnection, name: str, source: Source) -> None:
    columns = ", ".join(
        f"value_{position} as {identifier(column)}" for position, column in enumerate(source.columns, 1)
    )
    connection.execute(
        f"""
        create or replace table {identifier(name)} as
        select {columns} from {ROWS} where good
        """
    )


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


def _fill_quarantine(
    connection: DuckDBPyConnection, name: str, text: Text, path: Path, file: str, limit: int | None
) -> None:
    """The findings with their lines as they stand in the file, which is read again for that."""
    connection.execute(
        f"""
        insert into quarantine
        with kept as (from {FINDINGS} order by line, position {f"limit {limit}" if limit else ""}),
        numbered as (select row_number() over () as line, raw from {_raw_lines(text.path)}),
        raws as (from numbered semi join kept using (line))
        select
            ?, ?, ?, line, "column", rule, value, message,
            case when starts_with(raw, '{NOTE}') then string_split(raw, '{NOTE}')[4] else {_with_breaks("raw")} end
        from kept join raws using (line)
        order by line, position
        """,
        [name, file, path.stem],
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


def _glob_escaped(path: Path) -> str:
    """DuckDB takes a path for a pattern: this one means itself."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in str(path))
