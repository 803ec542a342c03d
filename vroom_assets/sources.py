"""Sources: raw CSVs, observed by content, kept as snapshots, checked row by row into DuckDB.

A file is first scanned as bytes (encoding, NUL, over-long lines), then read by DuckDB line by line without
any guessing of types, so that every finding has its line and its text. Cells become typed values by rules
of the declaration alone. Bad rows go to the table `quarantine`; too many of them, and the whole file is
refused while the table from before stays.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vroom_assets.spec import Column, ColumnType, Source

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHUNK = 1 << 20
LONGEST_LINE = 1 << 16  # bytes
RACY_SECONDS = 2.0  # a file changed this shortly before it was hashed may have changed once more unseen
EXAMPLES = 3
LONGEST_SHOWN = 60
TYPE_WORDS = {
    ColumnType.INTEGER: "whole number",
    ColumnType.NUMBER: "finite number",
    ColumnType.TEXT: "text",
    ColumnType.TIMESTAMP: "date and time without zone (2023-07-27 14:58:26)",
}


class SourceError(Exception):
    """A source that cannot be used; the message names file, line, column and rule."""


class SourceChanged(SourceError):
    """The file was written while it was copied: look again later."""


class SourceRefused(SourceError):
    """The file breaks its contract as a whole; `report` has the findings."""

    def __init__(self, message: str, report: SourceReport):
        super().__init__(message)
        self.report = report


class Observation(msgspec.Struct, frozen=True):
    """One look at a file. `settled` is false when it changed while it was looked at."""

    path: str
    sha256: str = ""
    size: int = 0
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)  # size, mtime, ctime (ns), inode
    looked_at: float = 0.0  # seconds since the epoch, when hashing began
    settled: bool = True
    missing: bool = False

    def same_file_as(self, other: Observation) -> bool:
        """Whether nothing touched the file between two looks."""
        return self.identity == other.identity and self.sha256 == other.sha256


def observe(path: Path, previous: Observation | None) -> Observation:
    """Hash a file, or take the previous look's hash when nothing can have touched it since.

    The change time is set by the kernel at every write and cannot be set back, unlike the modification
    time; but it is coarse, so a file changed just before the previous look is hashed again (the "racily
    clean" entries of git's index).
    """
    try:
        identity = _identity(path)
        if (
            previous
            and previous.identity == identity
            and identity[2] / 1e9 < previous.looked_at - RACY_SECONDS
        ):
            return previous
        looked_at = time.time()
        digest = _sha256(path)
        settled = identity == _identity(path)
    except (FileNotFoundError, NotADirectoryError):
        return Observation(str(path), missing=True)
    return Observation(str(path), digest, identity[0], identity, looked_at, settled)


def _identity(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """An immutable copy of a source, named by its content."""

    sha256: str
    path: Path
    size: int


def snapshot(path: Path, folder: Path) -> Snapshot:
    """Copy a file to `<folder>/<sha256>.csv`, read-only; the copy appears complete or not at all.

    Raises:
        SourceChanged: the file was written meanwhile. SourceError: it is not there or not readable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    try:
        before = _identity(path)
        with open(path, "rb") as source, open(beside, "wb") as copy:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        if _identity(path) != before:
            raise SourceChanged(f"{path} was written while it was copied; it is taken up when it is at rest")
        target = folder / f"{digest.hexdigest()}.csv"
        if not (target.exists() and _sha256(target) == digest.hexdigest()):
            os.chmod(beside, 0o444)
            os.replace(beside, target)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
    return Snapshot(digest.hexdigest(), target, before[0])


@dataclass(frozen=True)
class Finding:
    """Rows that break one rule in one column, with the first few as sentences."""

    column: str
    rule: str
    rows: int
    examples: list[str]


@dataclass(frozen=True)
class SourceReport:
    """What a look at every row of a file found."""

    file: str
    read: int = 0
    quarantined: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.read - self.quarantined

    def as_markdown(self) -> str:
        """The findings as a table for people."""
        lines = [
            f"{self.file}: {self.read} rows read, {self.accepted} accepted, {self.quarantined} quarantined."
        ]
        lines += [f"Note: {warning}." for warning in self.warnings]
        if self.findings:
            lines += ["", "| column | rule | rows | examples |", "|---|---|---|---|"]
            lines += [
                f"| {one.column} | {one.rule} | {one.rows} | {'<br>'.join(map(_cell, one.examples))} |"
                for one in self.findings
            ]
        return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def load(connection: DuckDBPyConnection, name: str, source: Source, path: Path, file: str) -> SourceReport:
    """Check a snapshot and replace table `name` by its good rows, in one transaction.

    Args:
        file: the name that people know the file by, for messages.

    Raises:
        SourceRefused: the file as a whole is unusable, or too many rows are bad. The table stays as it was;
            the bad rows are in the table `quarantine` all the same.
    """
    try:
        header = _readable_header(path, file)
        warnings = _check_header(header, source, file)
    except SourceRefused as error:
        _keep_whole_file(connection, name, file, path.stem, str(error))
        raise
    try:
        _read_rows(connection, source, path, header)
        _find(connection, source, len(_names(header)))
        report = _report(connection, source, file, warnings)
        _keep_quarantine(connection, name, file, path.stem)
        if report.read == 0:
            raise SourceRefused(f"{file}: there is a header and no row", report)
        share = report.quarantined / report.read
        if share > source.tolerated_bad_share:
            raise SourceRefused(
                f"{file}: {report.quarantined} of {report.read} rows are bad ({share:.2%}, at most "
                f"{source.tolerated_bad_share:.2%} is tolerated); first: {report.findings[0].examples[0]}",
                report,
            )
        columns = ", ".join(f'"{column}"' for column in source.columns)
        connection.execute(
            f'create or replace table "{name}" as select {columns} from typed_rows '
            "where line not in (select line from findings) order by line"
        )
    finally:
        for temporary in ("typed_rows", "findings"):
            connection.execute(f"drop table if exists temp.{temporary}")
    return report


def write_quarantine(connection: DuckDBPyConnection, name: str, path: Path) -> None:
    """Write the bad rows of a source as a CSV that anybody can open; none, and there is no file."""
    _create_quarantine(connection)
    [(rows,)] = connection.execute("select count(*) from quarantine where source = ?", [name]).fetchall()
    if rows == 0:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex}")
    connection.execute(
        f"copy (from quarantine where source = '{name}' order by line, \"column\") to '{beside}' (header)"
    )
    os.replace(beside, path)


def _readable_header(path: Path, file: str) -> str:
    """Scan the bytes; return the first line.

    Raises:
        SourceRefused: empty, NUL bytes, not UTF-8, or a line too long to be a row.
    """

    def refuse(message: str) -> SourceRefused:
        return SourceRefused(f"{file}{message}", SourceReport(file))

    header = b""
    line, length = 1, 0
    with open(path, "rb") as stream:
        pending = b""
        while chunk := stream.read(CHUNK):
            if b"\0" in chunk:
                raise refuse(
                    f" line {line + chunk[: chunk.index(0)].count(10)}: a NUL byte; this is no text file"
                )
            if (longest := _longest_line(chunk, length)) > LONGEST_LINE:
                raise refuse(
                    f": a line is longer than {LONGEST_LINE} bytes (at least {longest}); is this a CSV?"
                )
            block = pending + chunk
            end = block.rfind(b"\n") + 1 or (len(block) if len(block) <= LONGEST_LINE else 0)
            _require_utf8(block[:end], line, refuse)
            if not header:
                header = block[:end].split(b"\n", 1)[0]
            line += block[:end].count(b"\n")
            pending = block[end:] if block[:end].endswith(b"\n") or end == 0 else b""
            length = len(chunk) - chunk.rfind(b"\n") - 1 if b"\n" in chunk else length + len(chunk)
        _require_utf8(pending, line, refuse)
        header = header or pending
    text = header.decode("utf-8-sig").strip("\r\n")
    if not text.strip():
        raise refuse(
            ": the file is empty" if stream and path.stat().st_size == 0 else " line 1: the header is empty"
        )
    return text


def _longest_line(chunk: bytes, before: int) -> int:
    """The longest line that ends or goes on in a chunk; `before` bytes of the first came earlier."""
    if b"\n" not in chunk:
        return before + len(chunk)
    pieces = chunk.split(b"\n")
    return max(before + len(pieces[0]), max(map(len, pieces[1:])))


def _require_utf8(block: bytes, line: int, refuse: Callable[[str], SourceRefused]) -> None:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + block[: error.start].count(b"\n")
        raise refuse(
            f" line {at}: byte 0x{block[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _check_header(header: str, source: Source, file: str) -> list[str]:
    names = _names(header)
    missing = [column for column in source.columns if column not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if missing:
        raise SourceRefused(
            f"{file} line 1: column {', '.join(missing)} is missing; the header is {', '.join(names)}",
            SourceReport(file),
        )
    if twice:
        raise SourceRefused(f"{file} line 1: column {', '.join(twice)} is there twice", SourceReport(file))
    extra = [name for name in names if name not in source.columns]
    return [f"column {', '.join(extra)} is not declared and is ignored"] if extra else []


def _names(header: str) -> list[str]:
    return [name.strip() for name in next(csv.reader(io.StringIO(header)))]


def _read_rows(connection: DuckDBPyConnection, source: Source, path: Path, header: str) -> None:
    """Temporary table `typed_rows`: line, raw text, cells, and a typed value per column (null if none)."""
    names = _names(header)
    cells = ", ".join(
        f"nullif(trim(cells[{names.index(name) + 1}]), '') as \"text_{name}\"" for name in source.columns
    )
    typed = ", ".join(f'{_typed(name, column)} as "{name}"' for name, column in source.columns.items())
    # A line with quotes is taken apart by the CSV grammar; one without is split, which is ten times faster.
    connection.execute(
        f"""
        create or replace temp table typed_rows as
        with lines as (
            select row_number() over () as line, raw
            from read_csv(
                '{str(path).replace("'", "''")}', header = false, auto_detect = false, delim = '\x1f', quote = '',
                escape = '', strict_mode = false, columns = {{'raw': 'varchar'}}
            )
        ),
        split as (
            select
                line,
                raw,
                case
                    when contains(raw, '"')
                        then regexp_extract_all(raw || ',', '("(?:[^"]|"")*"|[^",]*),', 1)
                    else string_split(raw, ',')
                end as pieces
            from lines
            where line > 1 and raw is not null
        ),
        rows as (
            select
                line,
                raw,
                contains(raw, '"') and array_to_string(pieces, ',') <> raw as broken,
                list_transform(pieces, lambda piece: case
                    when starts_with(piece, '"') and length(piece) > 1
                        then replace(piece[2:-2], '""', '"')
                    else piece
                end) as cells
            from split
        ),
        texts as (select line, raw, broken, len(cells) as count, {cells} from rows)
        select *, {typed} from texts
        """
    )


def _typed(name: str, column: Column) -> str:
    text = f'"text_{name}"'
    match column.type:
        case ColumnType.INTEGER:
            return f"case when regexp_full_match({text}, '[+-]?\\d+') then try_cast({text} as bigint) end"
        case ColumnType.NUMBER:
            number = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
            value = f"try_cast({text} as double)"
            return f"case when regexp_full_match({text}, '{number}') and isfinite({value}) then {value} end"
        case ColumnType.TIMESTAMP:
            stamp = r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?"
            return f"case when regexp_full_match({text}, '{stamp}') then try_cast({text} as timestamp) end"
        case ColumnType.TEXT:
            return text


def _find(connection: DuckDBPyConnection, source: Source, width: int) -> None:
    """Temporary table `findings`: line, place of the column, column, rule, value and what is said of it."""
    whole = f"not broken and count = {width}"
    parts = [
        """select line, 0 as place, '' as "column", 'quotes' as rule, raw as value,
        'has a quote that is not closed or stands inside a cell' as said from typed_rows where broken""",
        f"select line, 0, '', 'cells', raw, 'has ' || count || ' cells, the header has {width}' "
        f"from typed_rows where not broken and count <> {width}",
    ]
    for place, (name, column) in enumerate(source.columns.items(), 1):
        for rule, said, condition in _rules(name, column):
            parts.append(
                f"select line, {place}, '{name}', '{rule}', \"text_{name}\", '{_quoted(said)}' "
                f"from typed_rows where {whole} and {condition}"
            )
        if column.unique:
            parts.append(
                f"select line, {place}, '{name}', 'unique', value, 'is in line ' || first || ' already' from ("
                f'select line, "text_{name}" as value, min(line) over (partition by "{name}") as first '
                f'from typed_rows where {whole} and "{name}" is not null) where line > first'
            )
    connection.execute(f"create or replace temp table findings as {' union all '.join(parts)}")


def _rules(name: str, column: Column) -> Iterator[tuple[str, str, str]]:
    """Rule, what is said of a value that breaks it, and the condition for breaking it."""
    text, value = f'"text_{name}"', f'"{name}"'
    if not column.nullable:
        yield "required", "is empty", f"{text} is null"
    yield "type", f"is no {TYPE_WORDS[column.type]}", f"{text} is not null and {value} is null"
    bounds = [(column.minimum, ">="), (column.above, ">"), (column.maximum, "<=")]
    held = " and ".join(f"{value} {sign} {bound}" for bound, sign in bounds if bound is not None)
    if held:
        yield "range", f"is not {column.range}", f"{value} is not null and not ({held})"
    if column.references:
        table, _, key = column.references.partition(".")
        known = f'select "{key}" from "{table}"'
        yield "references", f"is no {key} of {table}", f"{value} is not null and {value} not in ({known})"


def _report(connection: DuckDBPyConnection, source: Source, file: str, warnings: list[str]) -> SourceReport:
    [(read, quarantined)] = connection.execute(
        "select (select count(*) from typed_rows), (select count(distinct line) from findings)"
    ).fetchall()
    rows = connection.execute(
        f"""
        select place, "column", rule, count(*), list({{line: line, value: value, said: said}} order by line)[:{EXAMPLES}]
        from findings group by place, "column", rule order by place, count(*) desc
        """
    ).fetchall()
    return SourceReport(
        file=file,
        read=read,
        quarantined=quarantined,
        findings=[
            Finding(column or "(row)", rule, count, [_sentence(file, column, one) for one in examples])
            for _, column, rule, count, examples in rows
        ],
        warnings=warnings,
    )


def _sentence(file: str, column: str, finding: dict[str, Any]) -> str:
    where = f"{file} line {finding['line']}" + (f", column {column}" if column else "")
    value = finding["value"]
    if value is None or not column:
        return f"{where}: {finding['said']}"
    shown = value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "…"
    return f"{where}: {shown!r} {finding['said']}"


def _create_quarantine(connection: DuckDBPyConnection) -> None:
    connection.execute(
        """
        create table if not exists quarantine (
            source varchar, file varchar, snapshot varchar, line bigint, "column" varchar, rule varchar,
            value varchar, said varchar, raw varchar
        )
        """
    )


def _keep_quarantine(connection: DuckDBPyConnection, name: str, file: str, snapshot_name: str) -> None:
    """Replace what is in quarantine of this source, in one transaction of its own."""
    _create_quarantine(connection)
    connection.begin()
    try:
        connection.execute("delete from quarantine where source = ?", [name])
        connection.execute(
            """
            insert into quarantine
            select ?, ?, ?, line, "column", rule, value, said, raw
            from findings join (select line, raw from typed_rows) using (line)
            """,
            [name, file, snapshot_name],
        )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _keep_whole_file(
    connection: DuckDBPyConnection, name: str, file: str, snapshot_name: str, said: str
) -> None:
    """A file that cannot be read row by row is one entry in quarantine."""
    _create_quarantine(connection)
    connection.begin()
    try:
        connection.execute("delete from quarantine where source = ?", [name])
        connection.execute(
            "insert into quarantine values (?, ?, ?, null, '', 'file', null, ?, null)",
            [name, file, snapshot_name, said],
        )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _quoted(text: str) -> str:
    return text.replace("'", "''")
