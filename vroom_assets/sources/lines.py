"""A CSV as bytes: made safe to be read line by line.

DuckDB cuts a line at the delimiter it was given, guesses among line ends that are mixed, and gives up on
bytes that are not UTF-8. A file that is free of such things, as almost all are, is read as it is. Any other
is read through a mended copy, in which each unreadable line stands as a note of what is wrong with it, so
that all lines keep their numbers. Memory is bounded whatever the file holds.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vroom_api.contract import durable
from vroom_assets.sources.files import CHUNK

LONGEST_LINE = 1 << 16  # bytes
DELIMITER = "\x1f"  # passed to DuckDB, which then splits nowhere
NOTE = "\x1e"  # begins a note in a mended copy, and separates rule, message and the start of the line
DISPLAYED = 60
FORBIDDEN = {
    b"\0": "a NUL byte",
    NOTE.encode(): "a control character",
    DELIMITER.encode(): "a control character",
}


class Unreadable(Exception):
    """A file without a readable header; the message begins with the line in the file."""


@dataclass(frozen=True)
class Text:
    """A file that can be read line by line."""

    path: Path
    header: list[str]
    ends_in_line_break: bool


@contextmanager
def readable(path: Path) -> Iterator[Text]:
    """A file, or a mended copy of it for the length of a block.

    Raises:
        Unreadable: it is not there or empty, or its first line is not a header.
    """
    try:
        header, clean, ends = _survey(path)
    except OSError as error:
        raise Unreadable(f" cannot be read: {error.strerror}") from error
    if clean:
        yield Text(path, header, ends)
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".copy") as copy:
        with durable.opened(path) as source:
            for block in _blocks(source):
                copy.write(_mended(block))
        copy.flush()
        yield Text(Path(copy.name), header, ends)


def _survey(path: Path) -> tuple[list[str], bool, bool]:
    """The header, whether all lines can be read as they are, and whether the last one is complete."""
    header: list[str] | None = None
    clean, last = True, b""
    line_ends: set[float] = set()
    with durable.opened(path) as source:
        for block in _blocks(source):
            if header is None:
                header = _header(block.partition(b"\n")[0])
            unix = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            breaks = unix.count(b"\n")
            if breaks:
                line_ends.add((len(block) - len(unix)) / breaks)  # 0: LF, 1: CRLF, between: both
            clean = clean and _is_clean(unix)
            last = block
    if header is None:
        raise Unreadable(": the file is empty")
    return header, clean and line_ends in (set(), {0.0}, {1.0}), last.endswith(b"\n")


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    """Whole lines, many at a time. What an over-long line has beyond the limit may be left out."""
    pending = b""
    while chunk := source.read(CHUNK):
        lines, line_break, rest = chunk.rpartition(b"\n")
        if line_break:
            yield pending + lines + line_break
            pending = rest
        else:
            pending += chunk
        pending = pending[: LONGEST_LINE + 1]
    if pending:
        yield pending


def _is_clean(block: bytes) -> bool:
    if b"\r" in block or any(byte in block for byte in FORBIDDEN):
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


def _mended(block: bytes) -> bytes:
    block = block.replace(b"\r\n", b"\n")
    return block if _is_clean(block) else b"\n".join(_line_or_note(line) for line in block.split(b"\n"))


def _line_or_note(line: bytes) -> bytes:
    fault = _fault(line)
    if fault is None:
        return line
    start = line[:DISPLAYED].decode(errors="backslashreplace")
    displayed = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in start)
    return NOTE.join(("", *fault, displayed + ("…" if len(line) > DISPLAYED else ""))).encode()


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
        return "encoding", f"holds byte 0x{line[error.start]:02x}, which is not UTF-8; save the file as UTF-8"
    return None


def _header(line: bytes) -> list[str]:
    """The names in the first line.

    Raises:
        Unreadable: there are none.
    """
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(" line 1 is UTF-16; save the file as UTF-8")
    line = line.removesuffix(b"\r")
    if fault := _fault(line):
        raise Unreadable(f" line 1 {fault[1]}; a CSV header is expected here")
    text = line.decode("utf-8-sig")
    if not text.strip():
        raise Unreadable(" line 1: the header is empty")
    try:
        names = next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise Unreadable(f" line 1: the header is not valid CSV: {error}") from error
    return [name.strip() for name in names]
