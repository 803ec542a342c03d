"""A file in another encoding, compressed, or with lines before its header, as one in UTF-8 whose lines keep their numbers."""

from __future__ import annotations

import codecs
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vroom_api.contract import durable
from vroom_assets.sources.files import CHUNK
from vroom_assets.spec import Format

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
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
        with durable.opened(path) as source:
            start = source.read(4)
    except OSError as error:
        raise Unreadable(f" cannot be read: {error.strerror}") from error
    if start.startswith(ZSTD):
        raise Unreadable(": it is compressed by zstd; unpack it, or compress it by gzip")
    compressed = start.startswith(GZIP)
    if not compressed and format.skip == 0 and codecs.lookup(format.encoding).name == "utf-8":
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".copy") as copy:
        with durable.opened(path) as source:
            unpacked = _unpacked(source, path.stat().st_size) if compressed else _chunks(source)
            for part in _without_first_lines(_in_utf8(unpacked, format.encoding), format.skip):
                copy.write(part)
        copy.flush()
        yield Path(copy.name)


def _chunks(source: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk


def _unpacked(source: BinaryIO, size: int) -> Iterator[bytes]:
    written = 0
    try:
        for chunk in _chunks(gzip.GzipFile(fileobj=source)):
            written += len(chunk)
            if written > LARGEST_FACTOR * max(size, CHUNK):
                raise Unreadable(
                    f": unpacked it is more than {LARGEST_FACTOR} times as large; unpack it by hand"
                )
            yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f": it is not a whole gzip file: {error}") from error


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
