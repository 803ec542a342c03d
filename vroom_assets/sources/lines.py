"""A CSV as bytes: made safe to be read line by line.

DuckDB cuts a line at the delimiter it was given, guesses among line ends that are mixed, and gives up on
bytes that are not UTF-8; a line break inside quotes is part of a cell to RFC 4180 and ends a line to it. A
file that is free of such things, as almost all are, is read as it is. Any other is read through a mended
copy, in which each row is one line and each unreadable line stands as a note of what is wrong with it, so
that all lines keep their numbers. Memory is bounded whatever the file holds.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vroom_api.contract import durable
from vroom_assets.sources.files import CHUNK
from vroom_assets.sources.transcoding import Unreadable, transcoded
from vroom_assets.spec import Format

LONGEST_LINE = 1 << 16  # bytes, of a row as of a line
LONGEST_HELD = 1 << 24  # bytes of a line that are read to find where its row ends
DELIMITER = "\x1f"  # passed to DuckDB, which then splits nowhere
NOTE = "\x1e"  # begins a note in a mended copy, and separates rule, message and the start of the line
BREAK = "\x1d"  # a line break inside quotes, in a mended copy
DISPLAYED = 60
OTHER_BLANKS = (b"\t", b"\v", b"\f")
FORBIDDEN = {
    b"\0": "a NUL byte",
    NOTE.encode(): "a control character",
    DELIMITER.encode(): "a control character",
    BREAK.encode(): "a control character",
}


class _State(Enum):
    """Of a row, at the end of a line."""

    COMPLETE = auto()
    OPEN = auto()  # within quotes: the row goes on in the next line
    BROKEN = auto()  # a quote stands where none can


PLAIN = Format()


class Grammar:
    """RFC 4180: a quote opens at the start of a cell and closes before a delimiter or the end; inside it is doubled."""

    def __init__(self, delimiter: str = ",", quote: str = '"') -> None:
        self.delimiter, self.quote = delimiter, quote
        self.mark = quote.encode()
        q, d = re.escape(self.mark), re.escape(delimiter.encode())
        # No possessive quantifiers: before Python 3.11.5 `re` goes wrong on them (cpython#106052). Nothing here is ambiguous.
        quoted, bare = rb"[^%b]*(?:%b%b[^%b]*)*" % (q, q, q, q), rb"[^%b%b]*" % (q, d)
        cell = rb"(?:%b%b%b|%b)" % (q, quoted, q, bare)
        self.opened = re.compile(rb"(?:%b%b)*%b%b" % (cell, d, q, quoted))
        self.still_open = re.compile(rb"%b(?:%b%b(?:%b%b)*%b%b)?" % (quoted, q, d, cell, d, q, quoted))
        self.closed = re.compile(rb"%b%b(?:%b%b)*" % (quoted, q, d, cell))

    def state(self, line: bytes, is_open: bool) -> _State:
        if not is_open:
            odd = (
                line.count(self.mark) % 2
            )  # of what is even, the quotes are closed or broken within the line
            return _State.OPEN if odd and self.opened.fullmatch(line) else _State.COMPLETE
        if self.still_open.fullmatch(line):
            return _State.OPEN
        return _State.COMPLETE if self.closed.fullmatch(line) else _State.BROKEN


@dataclass(frozen=True)
class Text:
    """A file that can be read line by line."""

    path: Path
    header: list[str]
    ends_in_line_break: bool
    first_row: int = 1  # lines before it
    has_breaks: bool = False  # some cell may hold BREAK, which means a line break
    needs_care: bool = True  # some line may have quotes, or be a note
    has_other_blanks: bool = True  # some cell may hold a tab, or another blank of ASCII than a space
    types: tuple[str, ...] | None = None  # of the columns of a Parquet file


@contextmanager
def readable(path: Path, format: Format = PLAIN) -> Iterator[Text]:
    """A file, or a mended copy of it for the length of a block.

    Raises:
        Unreadable: it is not there or empty, or does not begin with a header, or is not written as declared.
    """
    with transcoded(path, format) as plain:
        grammar = Grammar(format.delimiter, format.quote)
        try:
            surveyed = _survey(plain, grammar, format)
        except OSError as error:
            raise Unreadable(f" cannot be read: {error.strerror}") from error
        first = format.skip + (0 if format.header else 1)
        if surveyed.clean:
            yield Text(
                plain,
                surveyed.header,
                surveyed.ends_in_line_break,
                first,
                needs_care=surveyed.has_quotes,
                has_other_blanks=surveyed.has_other_blanks,
            )
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".copy") as copy:
            with durable.opened(plain) as source:
                for mended in _mended(_blocks(source, grammar), grammar):
                    copy.write(mended)
            copy.flush()
            yield Text(Path(copy.name), surveyed.header, surveyed.ends_in_line_break, first, has_breaks=True)


class _Survey(NamedTuple):
    header: list[str]
    clean: bool  # whether all lines can be read as they are
    ends_in_line_break: bool
    has_quotes: bool
    has_other_blanks: bool  # a cell may hold a tab, or another blank of ASCII than a space


def _survey(path: Path, grammar: Grammar, format: Format) -> _Survey:
    header: list[str] | None = None
    clean, last, has_quotes, has_other_blanks = True, b"", False, False
    line_ends: set[float] = set()
    with durable.opened(path) as source:
        for block in _blocks(source, grammar):
            if header is None:
                first = block.split(b"\n", format.skip + 1)[: format.skip + 1]
                header = format.header or _header(first[-1], len(first), grammar)
            unix = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            breaks = unix.count(b"\n")
            if breaks:
                line_ends.add((len(block) - len(unix)) / breaks)  # 0: LF, 1: CRLF, between: both
            clean = clean and _is_clean(unix, grammar)
            has_quotes = has_quotes or grammar.mark in block
            has_other_blanks = has_other_blanks or any(
                blank in block for blank in OTHER_BLANKS if blank != grammar.delimiter.encode()
            )
            last = block
    if header is None:
        raise Unreadable(": the file is empty")
    return _Survey(
        header,
        clean and line_ends in (set(), {0.0}, {1.0}),
        last.endswith(b"\n"),
        has_quotes,
        has_other_blanks or (has_quotes and grammar.delimiter.encode() in OTHER_BLANKS),
    )


def _blocks(source: BinaryIO, grammar: Grammar) -> Iterator[bytes]:
    """Whole lines, many at a time. What an over-long line has beyond the limit may be left out.

    Raises:
        Unreadable: a line is so long that where its row ends cannot be found out.
    """
    pending = b""
    while chunk := source.read(CHUNK):
        lines, line_break, rest = chunk.rpartition(b"\n")
        if line_break:
            yield pending + lines + line_break
            pending = rest
        else:
            pending += chunk
        if grammar.mark not in pending:
            pending = pending[: LONGEST_LINE + 1]
        elif len(pending) > LONGEST_HELD:
            start = pending[:DISPLAYED].decode(errors="backslashreplace")
            raise Unreadable(
                f": the line that begins with {start!r} is longer than {LONGEST_HELD >> 20} MiB; is it one file?"
            )
    if pending:
        yield pending


def _is_clean(block: bytes, grammar: Grammar) -> bool:
    if b"\r" in block or any(byte in block for byte in FORBIDDEN):
        return False
    if grammar.mark in block and any(line.count(grammar.mark) % 2 for line in block.split(b"\n")):
        return False
    start, end = 0, len(block)
    while end - start > LONGEST_LINE:
        line_break = block.rfind(b"\n", start, start + LONGEST_LINE + 1)
        if line_break < 0:
            return False
        start = line_break + 1
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mended(blocks: Iterator[bytes], grammar: Grammar) -> Iterator[bytes]:
    """The lines as they are, as notes, or as rows of several lines that stand on their first line."""
    mending = _Mending(grammar)
    last = b""
    for block in blocks:
        block = block.replace(b"\r\n", b"\n")
        if not mending.is_open and _is_clean(block, grammar):
            mending.number += block.count(b"\n")
            yield block
            continue
        lines = block.split(b"\n")
        last = lines.pop()  # empty, but for the end of a file without a line break
        yield b"".join(line + b"\n" for line in mending.mended(lines))
    yield b"\n".join([*mending.mended([last] if last else []), *mending.end()])


@dataclass
class _Mending:
    """Where in the file, and in which row, the mending is.

    What is properly quoted never becomes a row, whoever wrote the text. Only where a quote shows that a row
    was not written by RFC 4180 are its lines read one by one.
    """

    grammar: Grammar
    number: int = 0  # of the lines so far
    row: list[bytes] = field(default_factory=list)  # lines of a row that is open
    size: int = 0
    opened: int | None = None  # the first line of a row that is open and longer than may be

    @property
    def is_open(self) -> bool:
        return bool(self.row) or self.opened is not None

    def mended(self, lines: list[bytes]) -> Iterator[bytes]:
        pending = lines[::-1]
        while pending:
            line = pending.pop()
            self.number += 1
            state = self.grammar.state(line, self.is_open)
            if self.opened is not None:
                yield _within_quotes(self.opened, line)
                if state is not _State.OPEN:
                    self.opened = None
            elif state is _State.OPEN:
                self.row.append(line)
                self.size += len(line) + 1
                if self.size > LONGEST_LINE:
                    yield from self._too_long()
            elif not self.row:
                yield _line_or_note(line)
            elif state is _State.COMPLETE:
                yield from self._joined(line)
            else:
                first, *others = self._taken()
                pending += [line, *reversed(others)]
                self.number -= len(others) + 1
                yield _line_or_note(first)

    def end(self) -> Iterator[bytes]:
        """What is left at the end of the file: a row whose quotes nothing closes."""
        return self._unfinished("") if self.row else iter(())

    def _taken(self) -> list[bytes]:
        row, self.row, self.size = self.row, [], 0
        return row

    def _joined(self, line: bytes) -> Iterator[bytes]:
        """A complete row on its first line, and empty ones for the others."""
        row = [*self._taken(), line]
        fault = next(filter(None, map(_fault, row)), None)
        joined = BREAK.encode().join(row)
        if fault is None and len(joined) > LONGEST_LINE:
            fault = "length", f"is longer than {LONGEST_LINE} bytes"
        yield _note(*fault, row[0]) if fault else joined
        yield from [b""] * (len(row) - 1)

    def _too_long(self) -> Iterator[bytes]:
        self.opened = self.number - len(self.row) + 1
        yield from self._unfinished(f" within {LONGEST_LINE} bytes")

    def _unfinished(self, within: str) -> Iterator[bytes]:
        first, *others = self._taken()
        number = self.number - len(others)
        yield _note("quotes", f"has a quote that is not closed{within}", first)
        for line in others:
            yield _within_quotes(number, line)


def _line_or_note(line: bytes) -> bytes:
    fault = _fault(line)
    return line if fault is None else _note(*fault, line)


def _within_quotes(first: int, line: bytes) -> bytes:
    """A blank line is not a row there either."""
    return _note("quotes", f"stands in the quotes that line {first} opens", line) if line.strip(b" ") else b""


def _note(rule: str, message: str, line: bytes) -> bytes:
    """What stands in a mended copy for a line that cannot be read."""
    start = line[:DISPLAYED].decode(errors="backslashreplace")
    displayed = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in start)
    return NOTE.join(("", rule, message, displayed + ("…" if len(line) > DISPLAYED else ""))).encode()


def _fault(line: bytes) -> tuple[str, str] | None:
    """Rule and message, for a line that cannot be read."""
    if len(line) > LONGEST_LINE:
        return "length", f"is longer than {LONGEST_LINE} bytes"
    for byte, name in FORBIDDEN.items():
        if byte in line:
            return "bytes", f"holds {name} (0x{byte.hex()})"
    if b"\r" in line:
        return "bytes", "holds a carriage return that ends no line; end lines with LF or CRLF"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return (
            "encoding",
            f"holds byte 0x{line[error.start]:02x}, which is not UTF-8; declare `format: {{encoding: …}}`, e.g. windows-1252, or save it as UTF-8",
        )
    return None


def _header(line: bytes, number: int, grammar: Grammar) -> list[str]:
    """The names in the line with this number.

    Raises:
        Unreadable: there are none.
    """
    where = f" line {number}"
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(
            f"{where} is UTF-16; declare `format: {{encoding: utf-16}}`, or save the file as UTF-8"
        )
    line = line.removesuffix(b"\r")
    if fault := _fault(line):
        raise Unreadable(f"{where} {fault[1]}; a CSV header is expected here")
    text = line.decode("utf-8-sig")
    if not text.strip():
        raise Unreadable(f"{where}: the header is empty")
    if text.startswith("sep="):
        raise Unreadable(
            f"{where}: {text} is for spreadsheets; declare `format: {{skip: 1, delimiter: '{text[4:5]}'}}`"
        )
    try:
        names = next(csv.reader([text], strict=True, delimiter=grammar.delimiter, quotechar=grammar.quote))
    except csv.Error as error:
        raise Unreadable(f"{where}: the header is not valid CSV: {error}") from error
    return [name.strip() for name in names]
