"""A file in another encoding, compressed, or with lines before its header, as one in UTF-8 whose lines keep their numbers."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vroom_api.contract import durable
from vroom_assets.sources.files import CHUNK
from vroom_assets.spec import Format

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # by the first bytes of a file
LARGEST_FACTOR = 1000  # of a compressed file; what grows more was made to fill a disk


class Unreadable(Exception):
    """A file that cannot be read as it is declared; the message begins with the line in the file."""


@contextmanager
def transcoded(path: Path, format: Format) -> Iterator[Path]:
    """The file, or for the length of a block a copy of it in UTF-8; skipped lines are empty in it.

    Raises:
        Unreadable: it is not there, or is not compressed or encoded as it seems.
    """
    try:
        packed = packed_by(path)
    except OSError as error:
        raise Unreadable(f" cannot be read: {error.strerror}") from error
    as_it_is = format.skip == 0 and format.escape is None and codecs.lookup(format.encoding).name == "utf-8"
    if packed is None and as_it_is:
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".copy") as copy:
        with durable.opened(path) as source:
            unpacked = _chunks(source) if packed is None else _unpacked(source, packed, path.stat().st_size)
            doubled = _with_doubled_quotes(_in_utf8(unpacked, format.encoding), format)
            for part in _without_first_lines(doubled, format.skip):
                copy.write(part)
        copy.flush()
        yield Path(copy.name)


def packed_by(path: Path) -> str | None:
    """What a file is compressed by; None if it is not."""
    with durable.opened(path) as source:
        start = source.read(4)
    return next((name for magic, name in PACKED.items() if start.startswith(magic)), None)


def _chunks(source: Any) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk


def _unpacked(source: BinaryIO, packed: str, size: int) -> Iterator[bytes]:
    written = 0
    try:
        for chunk in _chunks(_opened(source, packed)):
            written += len(chunk)
            if written > LARGEST_FACTOR * max(size, CHUNK):
                raise Unreadable(
                    f": unpacked it is more than {LARGEST_FACTOR} times as large; unpack it by hand"
                )
            yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f": it is not a whole {packed} file: {error}") from error


def _opened(source: BinaryIO, packed: str) -> Any:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=source)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), packed)


def _with_doubled_quotes(chunks: Iterator[bytes], format: Format) -> Iterator[bytes]:
    """The same by RFC 4180: a quote after a backslash is doubled, and two backslashes or one before a line break are one or none."""
    if format.escape is None:
        yield from chunks
        return
    quote = format.quote.encode()
    escaped = re.compile(rb"\\(%b|\\|(?=\r?\n))" % re.escape(quote))
    meaning = {quote: quote * 2, b"\\": b"\\", b"": b""}
    pending = b""
    for chunk in chunks:
        chunk = pending + chunk
        # What a backslash at the end stands before comes with the next chunk.
        whole = chunk.rstrip(b"\r").rstrip(b"\\")
        pending = chunk[len(whole) :]
        yield escaped.sub(lambda found: meaning[found[1]], whole)
    yield escaped.sub(lambda found: meaning[found[1]], pending)


def _in_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    name = codecs.lookup(encoding).name
    if name == "utf-8":
        yield from chunks
        return
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(name)(), translate=False)
    lines = 1
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            yield text.encode("utf-8", "surrogatepass")
            lines += text.count("\n")
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise Unreadable(
            f" at or after line {lines}: it is not {encoding}: {error}; declare another `encoding`"
        ) from error


def _without_first_lines(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The same with the first lines empty."""
    for chunk in chunks:
        while count:
            _, line_break, rest = chunk.partition(b"\n")
            if not line_break:
                chunk = b""
                break
            yield b"\n"
            chunk, count = rest, count - 1
        yield chunk
