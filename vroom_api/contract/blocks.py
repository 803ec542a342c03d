"""Predictions that were answered and are not in their table yet.

What is committed before an answer is one row for many predictions, a block: one statement, without an index to keep
and without JSON to make. Later its predictions are put into the table `predictions`, and the block is deleted, in one
transaction; so a prediction is in a block or in the table, and never in neither. Whoever reads the table calls
`expand_blocks` first and finds all that was answered before.
"""

import contextlib
import logging
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from vroom_api.contract.recorded import Origin, Prediction, insert
from vroom_api.contract.tables import prediction_blocks

log = logging.getLogger(__name__)

MAX_BLOCK: Final = 1_024  # rows
ROWS_AT_A_TIME: Final = 1_024  # that one transaction of a reader expands; who records waits for it
_BLOCKS_AT_A_TIME: Final = 256
_PAUSE: Final = 0.002  # seconds between two of them, in which others may write
_LOCK: Final = 86_767  # in Postgres, of the transaction that expands
_FORMAT: Final = (
    b"\x01"  # MessagePack behind its check sum; to compress it takes four times as long as to write it
)

Number = int | float  # an integer stays one, as JSON has it
Row = tuple[
    str, str | None, list[Number], list[Number], Number, Number, Number, Number, int, dict[str, str] | None
]
Segment = tuple[Origin, str, list[Row]]  # of one champion and one caller
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Segment])


class DamagedBlock(Exception):
    """The content of a block is not what was written."""


def encode(made: Sequence[Prediction]) -> bytes:
    """The content of a block."""
    segments = [
        (
            group[0].origin,
            group[0].caller,
            [
                (
                    one.id, one.entity_id, one.inputs, one.features, one.value, one.low, one.high, one.level,
                    one.latency_us, one.tags,
                )
                for one in group
            ],
        )
        for group in _alike(made)
    ]  # fmt: skip
    content = _encoder.encode(segments)
    return _FORMAT + zlib.crc32(content).to_bytes(4) + content


def _alike(made: Sequence[Prediction]) -> list[list[Prediction]]:
    """Predictions that follow one another and have origin and caller in common."""
    first = made[0]
    if all(one.origin is first.origin and one.caller == first.caller for one in made):
        return [list(made)]
    return [list(group) for _, group in groupby(made, key=attrgetter("origin", "caller"))]


def decode(content: bytes) -> list[Prediction]:
    """The predictions of a block, in their order.

    Raises:
        DamagedBlock: the content is not what was written.
    """
    packed = content[5:]
    if content[:5] != _FORMAT + zlib.crc32(packed).to_bytes(4):
        raise DamagedBlock("its check sum does not fit")
    try:
        segments = _decoder.decode(packed)
    except msgspec.MsgspecError as error:
        raise DamagedBlock(str(error)) from error
    return [
        Prediction(
            identifier, origin, caller, entity, inputs, features, value, low, high, level, latency, tags
        )
        for origin, caller, rows in segments
        for identifier, entity, inputs, features, value, low, high, level, latency, tags in rows
    ]


def insert_blocks(cursor: Any, dialect: str, made: Sequence[Prediction]) -> None:
    """Insert predictions as blocks, in the transaction that is open; what is there already is passed over.

    Args:
        cursor: of the driver.
        dialect: `sqlite` or `postgresql`.
    """
    statement = _INSERT.replace("?", _mark(dialect))
    for start in range(0, len(made), MAX_BLOCK):
        part = made[start : start + MAX_BLOCK]
        cursor.execute(statement, (part[0].id, max(one.id for one in part), len(part), encode(part)))
        if cursor.rowcount == 0:  # a repetition, maybe with others beside it
            insert(cursor, dialect, part)


def expand_some(cursor: Any, dialect: str, rows: int, among: Sequence[str] | None = None) -> int:
    """Put predictions of the oldest blocks into their table, in one transaction of its own.

    Args:
        cursor: of the driver, of a connection in autocommit.
        rows: that it takes about; at least one block.
        among: ids of the blocks that are asked for; any without it.

    Returns:
        How many rows there were; 0 where no block is left.
    """
    mark = _mark(dialect)
    where = f" AND id IN ({', '.join([mark] * len(among))})" if among else ""
    query = (
        f"SELECT id, rows FROM prediction_blocks WHERE rows > 0{where} ORDER BY id LIMIT {_BLOCKS_AT_A_TIME}"
    )
    cursor.execute("BEGIN IMMEDIATE" if dialect == "sqlite" else "BEGIN")
    try:
        if dialect != "sqlite":  # one after the other: who waits finds what the one before has left
            cursor.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        cursor.execute(query, tuple(among or ()))
        expanded: list[str] = []
        total = 0
        for identifier, count in cursor.fetchall():
            if expanded and total + count > rows:
                break
            expanded.append(identifier)
            total += count
        for identifier in expanded:
            _expand(cursor, dialect, identifier)
        cursor.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):  # the connection may be broken
            cursor.execute("ROLLBACK")
        raise
    return total


def expand_in_transaction(cursor: Any, dialect: str) -> None:
    """Put the predictions of all blocks into their table, in the transaction that is open."""
    cursor.execute("SELECT id FROM prediction_blocks WHERE rows > 0 ORDER BY id")
    for (identifier,) in cursor.fetchall():
        _expand(cursor, dialect, identifier)


def _expand(cursor: Any, dialect: str, identifier: str) -> None:
    mark = _mark(dialect)
    cursor.execute(f"SELECT content FROM prediction_blocks WHERE id = {mark}", (identifier,))
    (content,) = cursor.fetchone()
    try:
        predictions = decode(bytes(content))
    except DamagedBlock as damage:  # it stays for whoever repairs it, and keeps no other from being read
        cursor.execute(f"UPDATE prediction_blocks SET rows = -rows WHERE id = {mark}", (identifier,))
        log.error(
            "the serving database is damaged: predictions from %s on cannot be read: %s", identifier, damage
        )
        return
    insert(cursor, dialect, predictions)
    cursor.execute(f"DELETE FROM prediction_blocks WHERE id = {mark}", (identifier,))


def expand_blocks(engine: sa.Engine, containing: Collection[str] | None = None) -> int:
    """Put what was answered until now into the table `predictions`; whoever reads that calls this first.

    Where nothing waits it takes one query of an empty table. Several processes may do so at once.

    Args:
        containing: ids of predictions that are about to be read; only blocks that may hold them are expanded.

    Returns:
        How many rows were put into the table.

    Raises:
        sqlalchemy.exc.DBAPIError: the database does not answer, or takes nothing.
    """
    with engine.connect() as connection:
        wanted = _wanted(connection, containing)
    if not wanted:
        return 0
    total = 0
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        cursor = connection.connection.cursor()
        for start in range(0, len(wanted), _BLOCKS_AT_A_TIME):
            part = wanted[start : start + _BLOCKS_AT_A_TIME]
            while rows := expand_some(cursor, engine.dialect.name, ROWS_AT_A_TIME, part):
                total += rows
                time.sleep(_PAUSE)
        cursor.close()
    return total


def _wanted(connection: sa.Connection, containing: Collection[str] | None) -> list[str]:
    """Ids of the blocks that are there now, of all or of those that may hold certain predictions."""
    blocks = prediction_blocks.c
    query = sa.select(blocks.id, blocks.last_id).where(blocks.rows > 0).order_by(blocks.id)
    if containing is not None and len(containing) == 1:
        (one,) = containing
        query = query.where(blocks.id <= one, blocks.last_id >= one)
    found = [(row.id, row.last_id) for row in connection.execute(query)]
    if containing is None:
        return [first for first, _ in found]
    ordered = sorted(containing)
    return [first for first, last in found if bisect_left(ordered, first) < bisect_right(ordered, last)]


def waiting_rows(cursor: Any) -> int:
    """How many predictions are in blocks."""
    cursor.execute("SELECT coalesce(sum(rows), 0) FROM prediction_blocks WHERE rows > 0")
    (rows,) = cursor.fetchone()
    return int(rows)


def _mark(dialect: str) -> str:
    """How the driver marks a parameter."""
    return "?" if dialect == "sqlite" else "%s"


_INSERT: Final = "INSERT INTO prediction_blocks (id, last_id, rows, content) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
