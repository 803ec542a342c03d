"""The record: every prediction is durable before it is answered.

Requests put their predictions into a bounded queue and wait. One writer takes all that waits, commits it
in one transaction and wakes them (group commit): the disk's sync is paid once per batch, and nobody is
told of a prediction that a crash could lose. A failed commit is told to its callers and to nobody
else; the next batch starts with a new connection.
"""

import asyncio
import contextlib
import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Protocol

import msgspec
import sqlalchemy as sa

from vroom_api.contract import Manifest
from vroom_api.tables import outcomes, predictions

log = logging.getLogger(__name__)

LONGEST_TEXT = 128  # of caller and entity id, as the table declares
# The look-ahead is for Python, whose `$` would let a newline follow.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]+$(?!\n)"
EntityId = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT, pattern=NO_CONTROL_CHARACTERS)]
_unfit = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").search
RETRY_AFTER = 1  # seconds, for the header of a 503


class NotRecorded(Exception):
    """The prediction is not in the record, so it must not be answered; 503 with Retry-After."""

    retry_after = RETRY_AFTER


class RecordFull(NotRecorded):
    """More predictions wait for the disk than the queue holds."""


class RecordUnavailable(NotRecorded):
    """The database did not take the commit, or the service is stopping."""


class Origin(msgspec.Struct, frozen=True):
    """What all predictions of one champion share; made once per champion."""

    forecast: str
    version: int
    generation: int
    manifest_sha256: str
    data_version: str
    inputs: tuple[str, ...]  # names, in the manifest's order
    features: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest, manifest_sha256: str, generation: int) -> "Origin":
        return cls(
            forecast=manifest.forecast,
            version=manifest.version,
            generation=generation,
            manifest_sha256=manifest_sha256,
            data_version=manifest.data_version,
            inputs=tuple(field.name for field in manifest.inputs),
            features=tuple(field.name for field in manifest.features),
        )


class Interval(Protocol):
    """The interval of an answer."""

    @property
    def level(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One prediction as it is recorded. Its time is in its id (`new_id`)."""

    id: str
    origin: Origin
    caller: str
    entity_id: str | None
    inputs: Sequence[float]  # in the origin's order
    features: Sequence[float]
    value: float
    low: float
    high: float
    level: float
    latency_us: int


class Notes:
    """What one request predicts, collected until it is recorded."""

    def __init__(self, caller: str, started_ns: int) -> None:
        self.made: list[Prediction] = []
        self._caller = caller
        self._started_ns = started_ns  # of time.perf_counter_ns

    def take(
        self,
        origin: Origin,
        inputs: Sequence[float],
        features: Sequence[float],
        value: float,
        interval: Interval,
        entity_id: str | None = None,
    ) -> str:
        """Note one prediction; its id."""
        identifier = new_id()
        latency_us = (time.perf_counter_ns() - self._started_ns) // 1000
        self.made.append(
            Prediction(
                identifier,
                origin,
                self._caller,
                entity_id,
                inputs,
                features,
                value,
                interval.low,
                interval.high,
                interval.level,
                latency_us,
            )
        )
        return identifier


class _Ids:
    """UUIDv7 (RFC 9562, section 6.2, method 3): milliseconds, 12 bits of their fraction, 62 random bits.

    Ascending within a process, also when the clock is set back or stands still.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
        now = milliseconds << 12 | (nanoseconds << 12) // 1_000_000
        with self._lock:
            self._last = now = max(now, self._last + 1)
        tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return _text(now, tail)


def _text(moment: int, tail: int) -> str:
    digits = f"{moment >> 12:012x}7{moment & 0xFFF:03x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


new_id = _Ids().next


def caller_of(scope: Any) -> str:
    """Who asks, as the record names it."""
    return str(getattr(scope.get("auth"), "name", None) or "anonymous")


def time_of(identifier: str) -> datetime:
    """When an id was made, in UTC, to the microsecond."""
    milliseconds = int(identifier[:8] + identifier[9:13], 16)
    fraction = int(identifier[15:18], 16)
    microseconds = milliseconds * 1000 + (fraction * 1000 >> 12)
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def first_id(moment: datetime) -> str:
    """The least id of a moment: ids made before it are smaller, ids made after it are not."""
    microseconds = max((moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1), 0)
    milliseconds, rest = divmod(microseconds, 1000)
    return _text(milliseconds << 12 | -(-(rest << 12) // 1000), 0x8000_0000_0000_0000)


class Recorder:
    """The single writer of the record.

    The counters are plain attributes, for whoever publishes them.

    Args:
        database: opens the serving database, its tables created; asked again as long as it fails.
        capacity: predictions that may wait; more are refused.
        largest_commit: predictions that one transaction takes.
        patience: seconds that a commit waits for a locked database.
    """

    def __init__(
        self,
        database: Callable[[], sa.Engine],
        *,
        capacity: int = 10_000,
        largest_commit: int = 1_024,
        patience: float = 2.0,
    ) -> None:
        self.capacity = capacity
        self.waiting = 0  # predictions in the queue or in the commit under way
        self.commits = 0
        self.rows = 0
        self.failures = 0  # commits that did not succeed
        self.refused = 0  # predictions refused because the queue was full
        self.last_commit_seconds = 0.0
        self.last_failure: str | None = None  # why the latest commit failed; None once one succeeds
        self._largest_commit = largest_commit
        self._database = database
        self._patience = patience
        self._store: _Store | None = None  # only in the writer's thread
        self._queue: deque[tuple[Sequence[Prediction], asyncio.Future[None]]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._writer: asyncio.Task[None] | None = None
        self._stopping = False
        self._probed = 0.0

    async def __aenter__(self) -> "Recorder":
        self._stopping = False
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._writer = asyncio.create_task(self._write(), name="record")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit all that waits, then stop; what arrives meanwhile is refused."""
        self._stopping = True
        self._work.set()
        if self._writer is not None:
            await self._writer
        await self._off_loop(self._disconnect)
        if self._thread is not None:
            self._thread.shutdown()
        self._thread = self._writer = None

    def record(self, *made: Prediction) -> "asyncio.Future[None]":
        """Put predictions into the queue, all or none; the future is done when they are durable.

        Raises (at once, or through the future):
            RecordFull: the queue has no room for them.
            RecordUnavailable: they could not be committed, or the recorder is stopping.
            ValueError: a text or number that the table cannot hold.
        """
        for prediction in made:
            _check(prediction)
        if self._stopping or self._writer is None or self._writer.done():
            raise RecordUnavailable("the service is stopping and records nothing more; ask another one")
        if self.waiting + len(made) > self.capacity:
            self.refused += len(made)
            raise RecordFull(f"{self.waiting} predictions wait for the record, which holds {self.capacity}")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((made, done))
        self.waiting += len(made)
        self._work.set()
        return done

    async def writable(self) -> bool:
        """Whether the record takes predictions now; tries a write when none succeeded within a second."""
        if self._stopping or self._writer is None:
            return False
        if time.monotonic() - self._probed > 1.0:
            self._probed = time.monotonic()
            try:
                await self._run(_Store.probe)
            except Exception as error:  # whatever the database driver raises
                self.last_failure = _reason(error)
            else:
                self.last_failure = None
        return self.last_failure is None

    async def forget(self, days: float, *, batch: int = 500, pause: float = 0.05) -> int:
        """Delete predictions and outcomes older than `days`, a small batch at a time between commits.

        Returns the number of rows deleted.
        """
        before = first_id(datetime.now(UTC) - timedelta(days=days))
        total = 0
        for table in (predictions, outcomes):
            while deleted := await self._run(_Store.delete, table, before, batch):
                total += deleted
                await asyncio.sleep(pause)
        return total

    @contextlib.asynccontextmanager
    async def keeping(self, days: float) -> AsyncIterator[None]:
        """Forget what is older than `days` in the background, every hour; nothing where it is 0."""
        task = asyncio.create_task(self._keep(days), name="retention") if days else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _keep(self, days: float, every: float = 3600.0) -> None:
        while True:
            try:
                deleted = await self.forget(days)
                log.info("record: %d rows older than %g days deleted", deleted, days)
            except Exception as error:  # whatever the database driver raises; the next round may succeed
                log.warning("record: retention failed, tried again in %g s: %s", every, _reason(error))
            await asyncio.sleep(every)

    async def _write(self) -> None:
        try:
            while not self._stopping or self._queue:
                await self._work.wait()
                self._work.clear()
                while self._queue:
                    await self._commit(self._take())
        finally:  # should this ever end early, nobody waits for it
            for _, done in self._queue:
                if not done.done():
                    done.set_exception(RecordUnavailable("the record has stopped; ask again"))

    def _take(self) -> list[tuple[Sequence[Prediction], "asyncio.Future[None]"]]:
        batch = [self._queue.popleft()]
        rows = len(batch[0][0])
        while self._queue and rows + len(self._queue[0][0]) <= self._largest_commit:
            batch.append(self._queue.popleft())
            rows += len(batch[-1][0])
        return batch

    async def _commit(self, batch: list[tuple[Sequence[Prediction], "asyncio.Future[None]"]]) -> None:
        made = [prediction for group, _ in batch for prediction in group]
        started = time.perf_counter()
        failure: RecordUnavailable | None = None
        try:
            await self._run(_Store.insert, made)
        except Exception as error:  # whatever the database driver raises
            # The driver's own words may name hosts and users: they are for the log, not for callers.
            failure = RecordUnavailable("the record could not be written, so nothing is answered; ask again")
            failure.__cause__ = error
            self.failures += 1
            self.last_failure = _reason(error)
            log.warning("record: %d predictions refused: %s", len(made), self.last_failure)
        else:
            self.commits += 1
            self.rows += len(made)
            self.last_failure = None
            self._probed = time.monotonic()
        self.last_commit_seconds = time.perf_counter() - started
        self.waiting -= len(made)
        for _, done in batch:
            if done.done():  # its caller has gone
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the store in the writer's thread."""
        return await self._off_loop(self._with_store, work, *arguments)

    async def _off_loop(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _with_store(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._store is None:
            self._store = _store(self._database(), self._patience)
        return work(self._store, *arguments)

    def _disconnect(self) -> None:
        if self._store is not None:
            self._store.disconnect()


_COLUMNS = (
    "id", "time", "forecast", "caller", "entity_id", "inputs", "features", "value", "low", "high", "level",
    "version", "generation", "manifest_sha256", "data_version", "latency_us",
)  # fmt: skip


class _Store:
    """The writer's own connection; every method runs in the writer's thread.

    Rows go in by statements of many rows: each call into the driver gives up the interpreter's lock, and
    taking it back from a busy event loop costs more than the row.
    """

    mark: str  # how the driver marks a parameter

    def __init__(self, engine: sa.Engine, patience: float) -> None:
        self._engine = engine
        self._milliseconds = int(patience * 1000)
        self._connection: sa.Connection | None = None

    def insert(self, made: Sequence[Prediction]) -> None:
        """Commit predictions in one transaction, at the second attempt with a new connection."""
        try:
            self._insert(self._cursor(), made)
        except Exception:  # whatever the driver raises; the ids make a repetition harmless
            self.disconnect()
            try:
                self._insert(self._cursor(), made)
            except Exception:
                self.disconnect()
                raise

    def probe(self) -> None:
        """Write a row and delete it in one transaction, so that the disk is asked too."""
        identifier = first_id(datetime.fromtimestamp(0, UTC))
        nothing = Prediction(
            identifier, Origin("", 0, 0, "", "", (), ()), "", None, (), (), 0.0, 0.0, 0.0, 0.0, 0
        )
        try:
            cursor = self._cursor()
            cursor.execute("BEGIN")
            self._insert_few(cursor, [nothing])
            cursor.execute(f"DELETE FROM predictions WHERE id = {self.mark}", (identifier,))
            cursor.execute("COMMIT")
        except Exception:
            self.disconnect()
            raise

    def delete(self, table: sa.Table, before: str, most: int) -> int:
        """Delete at most so many of the oldest rows with ids below `before`; how many it were."""
        try:
            cursor = self._cursor()
            cursor.execute(
                f"DELETE FROM {table.name} WHERE id IN "
                f"(SELECT id FROM {table.name} WHERE id < {self.mark} ORDER BY id LIMIT {most:d})",
                (before,),
            )
            return int(cursor.rowcount)
        except Exception:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                connection.close()

    def _cursor(self) -> Any:
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # a broken one must not go back to the pool
            self._prepare(connection)
            self._connection = connection
        return self._connection.connection.cursor()

    def _prepare(self, connection: sa.Connection) -> None:
        raise NotImplementedError

    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        raise NotImplementedError

    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        """One statement, in the transaction that is open or in its own."""
        raise NotImplementedError


class _Sqlite(_Store):
    mark = "?"

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {self._milliseconds}")

    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        pieces = list(_powers_of_two(made))
        if len(pieces) == 1:
            self._insert_few(cursor, pieces[0])
            return
        cursor.execute("BEGIN")
        for piece in pieces:
            self._insert_few(cursor, piece)
        cursor.execute("COMMIT")

    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        cursor.execute(_values(len(made)), [cell for prediction in made for cell in _row(prediction)])


class _Postgres(_Store):
    """All rows travel as one JSON document: a fifth of the client's work of thousands of parameters."""

    mark = "%s"
    _statement = (
        f"INSERT INTO predictions ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)} "
        "FROM json_populate_recordset(NULL::predictions, %s::json) ON CONFLICT (id) DO NOTHING"
    )

    def _prepare(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET statement_timeout = {self._milliseconds}")
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
            connection.exec_driver_sql("SET synchronous_commit = on")

    def _insert(self, cursor: Any, made: Sequence[Prediction]) -> None:
        self._insert_few(cursor, made)

    def _insert_few(self, cursor: Any, made: Sequence[Prediction]) -> None:
        rows = [dict(zip(_COLUMNS, _cells(prediction), strict=True)) for prediction in made]
        cursor.execute(self._statement, (msgspec.json.encode(rows).decode(),))


def _store(engine: sa.Engine, patience: float) -> _Store:
    stores = {"sqlite": _Sqlite, "postgresql": _Postgres}
    if engine.dialect.name not in stores:
        raise ValueError(f"the record is kept in SQLite or Postgres, not in {engine.dialect.name}")
    return stores[engine.dialect.name](engine, patience)


def _cells(made: Prediction) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    origin = made.origin
    return (
        made.id,
        time_of(made.id),
        origin.forecast,
        made.caller,
        made.entity_id,
        dict(zip(origin.inputs, made.inputs, strict=True)),
        dict(zip(origin.features, made.features, strict=True)),
        made.value,
        made.low,
        made.high,
        made.level,
        origin.version,
        origin.generation,
        origin.manifest_sha256,
        origin.data_version,
        made.latency_us,
    )


def _row(made: Prediction) -> tuple[Any, ...]:
    """The values of `_COLUMNS` as SQLAlchemy keeps them in SQLite."""
    identifier, moment, forecast, caller, entity, inputs, features, *rest = _cells(made)
    return (
        identifier,
        moment.isoformat(" ", "microseconds")[:26],
        forecast,
        caller,
        entity,
        msgspec.json.encode(inputs).decode(),
        msgspec.json.encode(features).decode(),
        *rest,
    )


_LARGEST_STATEMENT = 128  # rows


def _powers_of_two(rows: Sequence[Prediction]) -> Iterator[Sequence[Prediction]]:
    """Cut rows into pieces of few different sizes, so that the driver's prepared statements are reused."""
    start = 0
    while start < len(rows):
        size = min(_LARGEST_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size


@lru_cache(None)
def _values(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return (
        f"INSERT INTO predictions ({', '.join(_COLUMNS)}) VALUES {', '.join([row] * rows)} "
        "ON CONFLICT (id) DO NOTHING"
    )


def fits(text: str) -> bool:
    """Whether the tables can hold a text."""
    return 1 <= len(text) <= LONGEST_TEXT and not _unfit(text)


def _check(made: Prediction) -> None:
    """Refuse what a table cannot hold, before it spoils the commit of others."""
    for field, text in (("caller", made.caller), ("entity_id", made.entity_id)):
        if text is not None and not fits(text):
            raise ValueError(f"{field}: 1 to {LONGEST_TEXT} characters, none of them a control character")
    if not math.isfinite(made.value + made.low + made.high):
        raise ValueError(f"value: {made.value}, {made.low}-{made.high}; only finite numbers are recorded")


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
