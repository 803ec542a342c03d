"""A source as a table: lines become typed rows by the rules of the declaration alone.

Nothing is guessed and nothing is rounded: a cell is read as text, and has a value only where its whole
text is one. What is found wrong is in `findings`; here is how DuckDB reads, by a few statements over the whole
source, so that millions of rows spill to disk and not into memory.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vroom_assets.sources import cells, columns, findings, parquet, quarantine
from vroom_assets.sources.columns import cell, is_bad
from vroom_assets.sources.files import NamedFile
from vroom_assets.sources.findings import BAD, Count, Part, Rows, of_each
from vroom_assets.sources.lines import DELIMITER, NOTE, Text, Unreadable, readable
from vroom_assets.sources.report import SourceRefused, SourceReport
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import glob_escaped, identifier, literal, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# A table and a view for the length of a load; no source can have such a name.
LINES, ROWS = '"the lines"', '"the rows"'
GOOD, BROKEN, CELLS = (
    '"is the line good"',
    '"are its quotes broken"',
    '"its cells"',
)  # beside the declared columns


class Engine(Protocol):
    """What reads the lines of files into typed rows."""

    def read(self, source: Source, parts: Sequence[Part]) -> AbstractContextManager[Rows]:
        """For the length of a block: all rows, typed.

        Of those that are not good the warehouse has the view `BAD`, of `nth`, `broken`, `cells` and a value per
        column, `value_1` …; why they are not, where only other rows show it, is among `findings.repeats`.

        Raises:
            Unreadable: it does not read files that are written so.
        """

    def raws(self, rows: Rows) -> str:
        """SQL of a relation of `nth` and `raw`, at least of the lines that are not good."""

    def replace(self, name: str, rows: Rows) -> None:
        """Let the good rows be the table, in the warehouse's transaction that is open."""


def load(
    connection: DuckDBPyConnection,
    name: str,
    source: Source,
    files: Sequence[NamedFile],
    past: Collection[str] = (),
    engine: Engine | None = None,
    now: datetime | None = None,
) -> SourceReport:
    """Check a source and replace table `name` by its good rows, in one transaction.

    The bad rows replace those in the table `quarantine` that this source had there before. A row is bad if
    a cell of it breaks a rule, if an earlier good row has its key, or if what it refers to is not there.

    Args:
        files: CSVs or Parquet files, whose rows follow each other.
        past: columns that say when something happened, and so cannot lie ahead of now, wherever on earth.
        engine: what reads; DuckDB, if it is not given.
        now: the time that these columns cannot be after, with a zone; None for the clock.

    Raises:
        SourceRefused: a file as a whole is unusable, or too many rows are bad. The table stays as it was;
            the bad rows (the first 10,000 findings) are in the table `quarantine` all the same.
    """
    engine = engine or DuckDBEngine(connection)
    source = columns.until_now(source, past, now)
    whole = files[0].name if len(files) == 1 else f"{source.path} ({len(files)} files)"
    try:
        if not files:
            raise _Unusable(NamedFile(Path(source.path), source.path), ": no file has such a name")
        with ExitStack() as opened:
            parts, warnings = [], []
            for file in files:
                try:
                    part = Part(file, opened.enter_context(_text(connection, file.path, source.format)))
                    columns.check_header(source, part.text)
                    _check_references(connection, source)
                except Unreadable as error:
                    raise _Unusable(file, str(error)) from error
                parts.append(part)
                warnings += [
                    one if len(files) == 1 else f"{file.name}: {one}"
                    for one in columns.warnings(source, part.text)
                ]
            try:
                with engine.read(source, parts) as rows:
                    return _decide(connection, engine, name, source, rows, whole, warnings)
            except Unreadable as error:
                raise _Unusable(files[0], str(error)) from error
    except _Unusable as error:
        message = f"{error.file.name}{error}"
        with transaction(connection):
            quarantine.empty(connection, name)
            quarantine.add_file(connection, name, error.file, message)
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


def _check_references(connection: DuckDBPyConnection, source: Source) -> None:
    """Find the tables that columns refer to.

    Raises:
        Unreadable: one is not there.
    """
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


def _decide(
    connection: DuckDBPyConnection,
    engine: Engine,
    name: str,
    source: Source,
    rows: Rows,
    whole: str,
    warnings: list[str],
) -> SourceReport:
    """Replace quarantine and table together, or quarantine alone when the source is refused."""
    report = findings.report(connection, source, rows, whole, warnings)
    refusal = findings.refusal(connection, rows, report, source)
    with transaction(connection):
        quarantine.empty(connection, name)
        if report.findings:
            limit = quarantine.MAX_KEPT if refusal else None
            quarantine.fill(connection, name, rows, engine.raws(rows), limit)
        if refusal is None:
            engine.replace(name, rows)
    if refusal:
        raise SourceRefused(refusal, report)
    return report


class DuckDBEngine:
    """DuckDB, in the process that has the warehouse."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection

    @contextmanager
    def read(self, source: Source, parts: Sequence[Part]) -> Iterator[Rows]:
        connection = self._connection
        with findings.repeats(connection):
            try:
                located = list(_read_lines(connection, source, parts))
                _number_rows(connection, source, located)
                _find_repeats_and_orphans(connection, source, located)
                yield Rows(located, _counts(connection, located))
            finally:
                connection.execute(f"drop view if exists temp.{ROWS}")
                connection.execute(f"drop table if exists {LINES}")

    def raws(self, rows: Rows) -> str:
        """The lines of the files that have bad ones, which are read again."""
        return " union all ".join(
            f"select row_number() over () - 1 + {part.start} as nth, raw from ({_raw_lines(part.text)})"
            for part, count in zip(rows.parts, rows.counts, strict=True)
            if count.read > count.good
        )

    def replace(self, name: str, rows: Rows) -> None:
        _replace_table(self._connection, name, rows)


def _raw_lines(text: Text) -> str:
    """SQL of a table of `raw`, the lines as they are."""
    if text.types is not None:
        return parquet.raw(text)
    return f"""
    from read_csv(
        {literal(glob_escaped(text.path))}, columns = {{'raw': 'varchar'}}, auto_detect = false, header = false,
        delim = '{DELIMITER}', quote = '', escape = '', strict_mode = false, hive_partitioning = false
    )"""


def _read_lines(connection: DuckDBPyConnection, source: Source, parts: Sequence[Part]) -> Iterator[Part]:
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
    declared = list(source.columns.items())
    format = source.format if text.types is None else Format(nulls=source.format.nulls)
    values = ", ".join(
        f"{_value(cell(name, column, text, format), column, format, text, rows_before)} as value_{position}"
        for position, (name, column) in enumerate(declared, 1)
    )
    bad = " or ".join(
        is_bad(
            f"value_{position}",
            column,
            cells.text(cell(name, column, text, source.format), column, source.format),
        )
        for position, (name, column) in enumerate(declared, 1)
        if column.type is not ColumnType.ROW
    )
    kept = ", ".join(
        f"value_{position} as {identifier(name)}" for position, (name, _) in enumerate(declared, 1)
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
    blank = columns.blank("raw")
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


def _value(cell: str, column: Column, format: Format, text: Text, rows_before: int) -> str:
    if column.type is ColumnType.ROW:
        return f"row_number() over () + {rows_before}"
    return cells.read(cell, column, format, plain_blanks=not text.has_other_blanks)


def _number_rows(connection: DuckDBPyConnection, source: Source, parts: Sequence[Part]) -> None:
    """Views of the lines that are rows: `nth`, `good`, `broken`, `cells` and a value per column, `value_1` …; and of bad ones."""
    first = of_each(parts, "rowid", lambda part: str(part.first))
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
    connection.execute(f"create or replace temp view {BAD} as from {ROWS} where not good")


def _counts(connection: DuckDBPyConnection, parts: Sequence[Part]) -> list[Count]:
    """Of each file."""
    index = of_each(parts, "nth", lambda part: str(part.index))
    found = connection.execute(
        f"select {index}, count(*), count(*) filter (good) from {ROWS} group by 1"
    ).fetchall()
    counted = {part: Count(read, good) for part, read, good in found}
    return [counted.get(part.index, Count(0, 0)) for part in parts]


def _find_repeats_and_orphans(connection: DuckDBPyConnection, source: Source, parts: Sequence[Part]) -> None:
    """The faults of good rows that only other rows show."""
    for position, (name, column) in enumerate(source.columns.items(), 1):
        value = f"value_{position}"
        if column.unique:
            repeated = f"""(
                with firsts as (
                    select {value}, min(nth) as first from {ROWS} where good and {value} is not null
                    group by {value} having count(*) > 1
                )
                select nth, first, {value} as value from {ROWS} join firsts using ({value})
                where good and nth > first
            )"""
            findings.add_repeats(connection, parts, position, name, repeated)
        if column.references:
            table, _, key = column.references.partition(".")
            orphaned = f"""(
                select nth, {value} as value
                from {ROWS} anti join {identifier(table)} as present on {value} = present.{identifier(key)}
                where good and {value} is not null
            )"""
            findings.add_orphans(connection, position, name, column.references, orphaned)
    # An update: a join would not keep the order of the file.
    connection.execute(
        f"update {LINES} set {GOOD} = false where rowid in (select nth from {findings.REPEATS})"
    )


def _replace_table(connection: DuckDBPyConnection, name: str, rows: Rows) -> None:
    """Let the good lines be the table."""
    first = of_each(rows.parts, "rowid", lambda part: str(part.first))
    connection.execute(f"delete from {LINES} where {GOOD} is not true or rowid < {first}")
    for column in (GOOD, BROKEN, CELLS):
        connection.execute(f"alter table {LINES} drop column {column}")
    drop(connection, name)
    connection.execute(f"alter table {LINES} rename to {identifier(name)}")


def drop(connection: DuckDBPyConnection, name: str) -> None:
    """Drop a source's table, or the view that stands for it where another engine left its rows."""
    views = connection.execute("select 1 from duckdb_views() where view_name = ?", [name]).fetchall()
    connection.execute(f"drop {'view' if views else 'table'} if exists {identifier(name)}")
