"""How a file is written: its encoding, what stands between and around cells, and where its header is."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from vroom_api.contract import durable
from vroom_assets.sources import parquet
from vroom_assets.sources.lines import readable
from vroom_assets.sources.transcoding import transcoded
from vroom_assets.spec import Format

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SNIFFED = 1 << 24  # bytes at the beginning of a file by which its notation is found
ESCAPED = re.compile(
    rb'(?<!\\)(\\\\)*\\"[^",;\t|\r\n]'
)  # a quote after a backslash, and then more of the cell
NUMBER = r"[-+$€£(]*\d"  # how a number begins
SAMPLE = 50  # lines by which the delimiter is found


class CannotInfer(Exception):
    """Why nothing can be made of a file; the message says what to do."""


def notation_of(connection: DuckDBPyConnection, path: Path) -> tuple[Format, list[str]]:
    """How a file is written, and its header.

    Raises:
        Unreadable: it cannot be read.
    """
    if parquet.is_parquet(path):
        return Format(), parquet.text(connection, path).header
    format = _format(path)
    return format, _header(path, format)


def _format(path: Path) -> Format:
    """Encoding, delimiter, quote and lines before the header."""
    encoding = _encoding(path)
    escape = _escape(path, encoding)
    with transcoded(path, Format(encoding=encoding, escape=escape)) as plain:
        with durable.opened(plain) as file:
            first = file.readline(4096).decode("utf-8-sig", errors="replace")
        skip = 1 if first.lower().startswith("sep=") else 0
        if skip:
            return Format(encoding=encoding, delimiter=first[4:5], skip=1)
        try:
            mark, quote, before, has_header = _sniffed(plain)
        except duckdb.Error as error:
            raise CannotInfer(
                f"{path.name} does not look like a CSV: {str(error).splitlines()[0]}"
            ) from error
        with durable.opened(plain) as file:
            lines = [file.readline(1 << 16).decode(errors="replace") for _ in range(int(before) + SAMPLE)]
    whole = [line.rstrip() for line in lines if line.strip()]
    better = _delimiter(whole, mark)
    mark, before = (mark, before) if better == mark else (better, 0)
    sample = whole[int(before) :]
    if _is_parted_by_blanks(sample, mark):
        raise CannotInfer(
            f"{path.name}: its columns stand apart by blanks, and not by one character; write it as a CSV first, e.g. "
            f"`sed -E 's/^ +//; s/ +/,/g' {path.name} > {path.stem}-commas.csv`"
        )
    titles = _titles(sample, mark)
    if titles:
        before, sample = int(before) + titles, sample[titles:]
        has_header = False
    has_header = has_header or _is_header(sample, mark)
    parts: dict[str, Any] = {"encoding": encoding, "delimiter": mark, "skip": int(before), "escape": escape}
    if quote not in ("", "(empty)", '"') and len(quote) == 1:
        parts["quote"] = quote
    if not has_header:
        parts["header"] = [f"column_{number}" for number in range(1, len(_header(path, Format(**parts))) + 1)]
    return Format(**parts)


def _delimiter(lines: list[str], sniffed: str) -> str:
    """What stands equally often in every line, outside quotes; as sniffed where that does, or nothing does.

    A decimal comma stands in many lines, and in no header.
    """
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines]
    counts = {mark: {line.count(mark) for line in bare} for mark in (",", ";", "\t", "|")}
    steady = {mark: min(found) for mark, found in counts.items() if len(found) == 1 and min(found) > 0}
    return sniffed if sniffed in steady or not steady else max(steady, key=lambda mark: steady[mark])


def _is_parted_by_blanks(lines: list[str], mark: str) -> bool:
    """Whether lines have the same number of words each, several, and nothing else that parts them."""
    words = {len(line.split()) for line in lines}
    return len(words) == 1 and words.pop() > 1 and not (mark != " " and any(mark in line for line in lines))


def _sniffed(path: Path) -> tuple[str, str, int, bool]:
    """Delimiter, quote, lines before the header and whether there is one, by DuckDB, which takes no mixed line ends."""
    with durable.opened(path) as file, tempfile.NamedTemporaryFile(suffix=".csv") as sample:
        start = file.read(SNIFFED)
        whole = start[: start.rfind(b"\n") + 1] or start
        sample.write(whole.replace(b"\r\n", b"\n"))
        sample.flush()
        with duckdb.connect() as connection:
            [found] = connection.execute(
                "select Delimiter, Quote, SkipRows, HasHeader from sniff_csv(?, sample_size = 20000)",
                [sample.name],
            ).fetchall()
    return found


def _titles(lines: list[str], mark: str) -> int:
    """How many lines at the top have one cell that is not empty, above one that is full: merged cells of a spreadsheet."""
    full = [[bool(cell.strip(" \"'")) for cell in line.split(mark)] for line in lines]
    titles = next((number for number, cells in enumerate(full) if sum(cells) != 1 or len(cells) == 1), 0)
    return titles if titles and all(full[titles]) else 0


def _is_header(lines: list[str], mark: str) -> bool:
    """Whether the first line has names above lines with numbers, however these are written."""
    if not lines:
        return False
    first, *others = ([cell.strip(" \"'") for cell in line.rstrip(mark).split(mark)] for line in lines)
    named = len(set(first)) == len(first) and not any(re.match(NUMBER, cell) or not cell for cell in first)
    return named and any(re.match(NUMBER, cell) for line in others for cell in line)


def _escape(path: Path, encoding: str) -> Literal["\\"] | None:
    """A backslash, where one stands before a quote that by RFC 4180 could not stand there."""
    with transcoded(path, Format(encoding=encoding)) as plain, durable.opened(plain) as file:
        while lines := file.readlines(1 << 20):
            block = b"".join(lines)
            if b'\\"' in block and ESCAPED.search(block):
                return "\\"
    return None


def _encoding(path: Path) -> str:
    """UTF-8 or UTF-16 where the bytes say so, else the encoding that Western spreadsheets write."""
    with durable.opened(path) as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
    with transcoded(path, Format()) as plain, durable.opened(plain) as file:
        try:
            while chunk := file.readlines(1 << 20):
                b"".join(chunk).decode()
        except UnicodeDecodeError:
            return "windows-1252"
    return "utf-8"


def _header(path: Path, format: Format) -> list[str]:
    if format.header:
        return list(format.header)
    with readable(path, format) as text:
        return text.header
