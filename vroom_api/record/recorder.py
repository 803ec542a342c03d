"""The record: every prediction is durable before it is answered.

Requests put their predictions into a bounded queue and wait. One writer takes all that waits, commits it
in one transaction and wakes them (group commit): the disk's sync is paid once per batch, and nobody gets
a prediction that a crash could lose. A failed commit is reported to its callers and to nobody else; the
next batch starts with a new connection.

A quick disk is waited for by the event loop itself; else a thread of its own commits.

A commit of many is one block (`contract.blocks`). The writer puts blocks into the table of predictions where little
is asked for, and where so many rows wait in them that whoever asks has to wait for it.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any

import sqlalchemy as sa

from vroom_api.contract.blocks import MAX_BLOCK
from vroom_api.contract.ids import first_id
from vroom_api.contract.recorded import Prediction
from vroom_api.contract.tables import outcomes, predictions, shadow_predictions
from vroom_api.record.database import Replaced
from vroom_api.record.prediction import check
from vroom_api.record.stores import SqliteStore, Store, store_of

log = logging.getLogger(__name__)

RETRY_AFTER = 1  # seconds, for the header of a 503
MIN_SOLO_STREAK = 8  # callers in a row, each alone in its turn of the loop
MAX_COMMIT_ON_LOOP = 0.002  # seconds that the latest commit took
MAX_ROWS_ON_LOOP = 1_024
PROBE_SECONDS = 1.0  # that the latest commit or probe counts for
MAX_PROBE_WAIT = 0.05  # seconds that whoever asks waits for a probe
MAX_SILENCE = 10.0  # seconds under way without a result, after which what was known counts no more
NEARLY_ALL = 0.9
CROWD_FADES = 0.98  # with every turn
EXPAND_EVERY = 0.05  # seconds between two attempts to expand blocks
QUIET_ROWS = 50  # predictions between two such attempts that are few
ROWS_BETWEEN = 256  # of blocks that are expanded at once while little is asked for: a commit waits for them
LAST_SECONDS = 1.0  # for blocks that are left when the service stops
AFTER_FAILURE = 1.0  # seconds until blocks are tried again

Call = tuple[Callable[[Any, BaseException | None], None], Callable[..., Any], tuple[Any, ...]]


class WriterThread:
    """A thread that works through calls one after the other and reports to the event loop.

    It costs the loop a tenth of what an executor does, which makes a future, a lock and a task for each call.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self._thread.start()

    def call(
        self, done: Callable[[Any, BaseException | None], None], work: Callable[..., Any], *arguments: Any
    ) -> None:
        """Call `work`; the loop then calls `done` with its result, or with what it raised."""
        self._calls.put((done, work, arguments))

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `work`, or raise what it raises."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.call(partial(_resolve, future), work, *arguments)
        return await future

    async def end(self) -> None:
        """Finish what was asked for."""
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            done, work, arguments = call
            result, raised = None, None
            try:
                result = work(*arguments)
            except BaseException as error:
                raised = error
            with contextlib.suppress(RuntimeError):  # the loop was closed; nobody waits any more
                self._loop.call_soon_threadsafe(done, result, raised)
            del call, done, work, arguments, result, raised  # not kept until the next call


def _resolve(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():  # its caller has gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _settle(future: "asyncio.Future[None]", failure: Exception | None) -> None:
    _resolve(future, None, failure)


class NotRecorded(Exception):
    """The prediction is not in the record, so it must not be answered; 503 with Retry-After."""

    retry_after = RETRY_AFTER


class RecordFull(NotRecorded):
    """More predictions wait for the disk than the queue holds."""


class RecordUnavailable(NotRecorded):
    """The database did not take the commit, or the service is stopping."""


Done = Callable[["RecordUnavailable | None"], None]  # which raises nothing
Waiting = tuple[Sequence[Prediction], Done]


class Recorder:
    """The single writer of the record.

    The counters are plain attributes, for whoever publishes them.

    Args:
        database: opens the serving database, its tables created; asked again as long as it fails.
        capacity: predictions that may wait; more are refused.
        largest_commit: predictions that one transaction takes.
        patience: seconds that a commit waits for a locked database.
        backlog: predictions that may wait in blocks; with more, commits wait until some are expanded.
    """

    def __init__(
        self,
        database: Callable[[], sa.Engine],
        *,
        capacity: int = 10_000,
        largest_commit: int = MAX_BLOCK,
        patience: float = 2.0,
        backlog: int = 1_000_000,
    ) -> None:
        self.capacity = capacity
        self.waiting = 0  # predictions in the queue or in the commit under way
        self.commits = 0
        self.rows = 0
        self.failures = 0  # commits that did not succeed
        self.refused = 0  # predictions refused because the queue was full
        self.in_blocks = 0  # predictions in blocks, as far as this process knows
        self.last_commit_seconds = 0.0
        self.newest: str | None = None  # id of the newest prediction in the record that this process knows of
        self.last_failure: str | None = None  # why the latest commit failed; None once one succeeds
        self._largest_commit = largest_commit
        self._backlog = backlog
        self._database = database
        self._patience = patience
        self._store: Store | None = None  # used in the writer's thread only
        self._queue: deque[Waiting] = deque()
        self._thread: WriterThread | None = None
        self._busy = False  # whether the writer commits or expands
        self._called = False  # whether the loop is to begin a commit in its next turn
        self._arrived = False  # whether any came since a commit was thought of last
        self._crowd = 0.0  # predictions that wait at once, the most of late
        self._drained = asyncio.Event()
        self._stopping = False
        self._probe: asyncio.Task[None] | None = None
        self._heard: float | None = None  # when a commit or probe last came to an end, succeeded or not
        self._succeeded = False  # the latest commit, wherever it was tried
        self._loop_store: Store | None = None  # the event loop's own, for uncontended callers
        self._callers = 0  # in this turn of the loop
        self._solo_streak = 0  # callers in a row that were alone in their turn
        self._timer: asyncio.TimerHandle | None = None  # until blocks are expanded
        self._rows_before = 0  # when blocks were expanded last, or were not because much was asked for

    async def __aenter__(self) -> "Recorder":
        self._stopping = self._busy = self._called = False
        self._drained = asyncio.Event()
        self._thread = WriterThread()
        self._thread.call(self._opened, self._open_ahead)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit all that waits, then stop; what arrives meanwhile is refused."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue or self._busy:
            await self._drained.wait()
        if self._probe is not None:
            await asyncio.wait({self._probe})
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(Exception):  # what stays in blocks is found by the next start
                await thread.run(self._expand_last)
            await thread.run(self._disconnect)
            await thread.end()
        self._disconnect_loop()

    def record(self, *made: Prediction) -> "asyncio.Future[None]":
        """Put predictions into the queue, all or none; the future is done when they are durable.

        Raises (at once, or through the future): as `add`.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(made, partial(_settle, future))
        return future

    def add(self, made: Sequence[Prediction], done: Done) -> None:
        """Put predictions into the queue, all or none; `done` is called when they are durable, or with why they are not.

        Raises (at once, or as what `done` is called with):
            RecordFull: the queue has no room for them.
            RecordUnavailable: they could not be committed, or the recorder is stopping.
            ValueError: a text or number that the table cannot hold.
        """
        for prediction in made:
            check(prediction)
        if self._stopping or self._thread is None:
            raise RecordUnavailable("the service is stopping and records nothing more; ask another one")
        if self.waiting + len(made) > self.capacity:
            self.refused += len(made)
            raise RecordFull(f"{self.waiting} predictions wait for the record, which holds {self.capacity}")
        if self._uncontended() and len(made) <= MAX_ROWS_ON_LOOP and self._commit_on_loop(made):
            done(None)
            return
        self._queue.append((made, done))
        self.waiting += len(made)
        self._arrived = True
        if not (self._busy or self._called):
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)  # with all that comes in this turn

    def _uncontended(self) -> bool:
        """Whether callers came one after the other, each alone in its turn, and the disk is quick."""
        self._callers += 1
        if self._callers == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._solo_streak = 0 if self._callers > 1 or self.waiting or self._busy else self._solo_streak + 1
        return self._solo_streak > MIN_SOLO_STREAK and self._is_quick()

    def _is_quick(self) -> bool:
        """Whether the latest commit succeeded, and took so little that the event loop may wait for the next."""
        return self._succeeded and self.last_commit_seconds < MAX_COMMIT_ON_LOOP

    def _end_turn(self) -> None:
        self._callers = 0

    def _commit_on_loop(self, made: Sequence[Prediction]) -> bool:
        """Commit on the event loop: nobody has to wait for two changes of the thread.

        It holds up the loop for one write to a disk that was quick the last time, never for a lock. What
        does not succeed at once goes to the writer. Not for a database behind a network.
        """
        started = time.perf_counter()
        try:
            if self._loop_store is None:
                writer = self._store  # what it has opened needs no opening here
                if not isinstance(writer, SqliteStore):
                    self._solo_streak = 0 if writer is None else -1_000_000  # asked again after so many
                    return False
                self._loop_store = SqliteStore(writer.engine, 0.0)
            in_blocks = self._loop_store.insert_once(made)
        except (
            Exception
        ) as error:  # whatever the database driver raises; the writer reports it if it stays so
            self._solo_streak, self._succeeded = 0, False
            if not _is_lock(error):
                self._disconnect_loop()
            return False
        self._count(made, in_blocks, time.perf_counter() - started)
        return True

    def _count(self, made: Sequence[Prediction], in_blocks: int, seconds: float) -> None:
        self.commits += 1
        self.rows += len(made)
        self.newest = made[-1].id
        if in_blocks:
            self.in_blocks += in_blocks
            self._expand_soon()
        self.last_failure = None
        self._succeeded = True
        self._heard = time.monotonic()
        self.last_commit_seconds = seconds

    @property
    def checked_seconds(self) -> float | None:
        """How long ago a commit or probe came to an end; None before the first."""
        return None if self._heard is None else time.monotonic() - self._heard

    async def writable(self) -> bool:
        """Whether the record takes predictions, by the latest commit or probe.

        Where that was more than a second ago, a write is tried. It is waited for only for a moment: whoever watches
        the service is not to wait for a lock.
        """
        if self._stopping or self._thread is None:
            return False
        age = self.checked_seconds
        if (age is None or age > PROBE_SECONDS) and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._try(), name="record probe")
        if self._probe is not None and not self._probe.done():
            await asyncio.wait({self._probe}, timeout=MAX_PROBE_WAIT)
        age = self.checked_seconds
        return self.last_failure is None and age is not None and age < MAX_SILENCE

    async def _try(self) -> None:
        """Write and delete a row, and remember how it went."""
        try:
            await self._run(Store.probe)
        except Exception as error:  # whatever the database driver raises
            self.last_failure = _reason(error)
        else:
            self.last_failure = None
        self._heard = time.monotonic()

    async def forget(self, days: float, *, batch: int = 500, pause: float = 0.05) -> int:
        """Delete predictions and outcomes older than `days`, a small batch at a time between commits.

        Returns the number of rows deleted.
        """
        before = first_id(datetime.now(UTC) - timedelta(days=days))
        total = 0
        while await self._run(Store.expand, ROWS_BETWEEN):  # what is too old is deleted where it is found
            await asyncio.sleep(pause)
        for table in (predictions, outcomes, shadow_predictions):
            while deleted := await self._run(Store.delete, table, before, batch):
                total += deleted
                await asyncio.sleep(pause)
        if self.newest is not None and self.newest < before:
            self.newest = None
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

    # --- commits

    def _begin(self) -> None:
        """Have the writer commit what waits, or expand blocks where there are too many."""
        self._called = False
        if self._busy or self._thread is None:
            return
        if self.in_blocks > self._backlog:
            self._expand(2 * MAX_BLOCK)  # at least as much as a commit adds
        elif self._queue:
            if self._is_worth_waiting():
                self._called = True
                asyncio.get_running_loop().call_soon(self._begin)
            else:
                self._commit_quickest(self._take())
        elif self._stopping:
            self._drained.set()

    def _is_worth_waiting(self) -> bool:
        """Whether more come in the next turn of the loop, which are to share this commit.

        Who is ready to ask is waited for, and nobody else: a turn in which nobody came ends it, and so do as many as
        have waited at once of late.
        """
        self._crowd = max(self._crowd * CROWD_FADES, self.waiting)
        arrived, self._arrived = self._arrived, False
        return arrived and self.waiting < NEARLY_ALL * self._crowd and not self._stopping

    def _take(self) -> list["Waiting"]:
        batch = [self._queue.popleft()]
        rows = len(batch[0][0])
        while self._queue and rows + len(self._queue[0][0]) <= self._largest_commit:
            batch.append(self._queue.popleft())
            rows += len(batch[-1][0])
        return batch

    def _commit_quickest(self, batch: list["Waiting"]) -> None:
        """Commit on the event loop where the disk is quick: to change threads for it, twice, would take longer."""
        made = batch[0][0] if len(batch) == 1 else [one for group, _ in batch for one in group]
        if self._is_quick() and len(made) <= MAX_ROWS_ON_LOOP and self._commit_on_loop(made):
            self.waiting -= len(made)
            for _, done in batch:
                done(None)
            self._begin()
        else:
            self._commit(batch)

    def _commit(self, batch: list["Waiting"], attempt: int = 1) -> None:
        assert self._thread is not None
        made = batch[0][0] if len(batch) == 1 else [one for group, _ in batch for one in group]
        self._busy = True
        done = partial(self._committed, batch, made, time.perf_counter(), attempt)
        self._thread.call(done, self._with_store, Store.insert, made)

    def _committed(
        self,
        batch: list["Waiting"],
        made: Sequence[Prediction],
        started: float,
        attempt: int,
        in_blocks: Any,
        error: BaseException | None,
    ) -> None:
        """Wake all whose predictions were committed, or were not, and begin the next commit."""
        if isinstance(error, Replaced) and attempt == 1:
            self._leave_replaced()
            self._commit(batch, attempt + 1)
            return
        self._busy = False
        failure: RecordUnavailable | None = None
        if error is not None:
            # The driver's own words may name hosts and users: they are for the log, not for callers.
            failure = RecordUnavailable(
                "the record could not be written, so nothing is answered; the service's log says why; ask again"
            )
            failure.__cause__ = error
            self.failures += 1
            self.last_failure = _reason(error)
            self.last_commit_seconds = time.perf_counter() - started
            log.warning("record: %d predictions refused: %s", len(made), self.last_failure)
        else:
            self._count(made, in_blocks, time.perf_counter() - started)
        self.waiting -= len(made)
        self._begin()  # before the callers are woken, so that the disk works while they do
        for _, done in batch:
            done(failure)

    # --- blocks

    def _expand_soon(self, after: float = EXPAND_EVERY) -> None:
        if self._timer is None and not self._stopping:
            self._timer = asyncio.get_running_loop().call_later(after, self._expand_if_quiet)

    def _expand_if_quiet(self) -> None:
        """Expand some blocks, unless much is asked for: then they wait, up to the bound."""
        self._timer = None
        rows, self._rows_before = self.rows - self._rows_before, self.rows
        if self._busy or self._called or rows > QUIET_ROWS:
            self._expand_soon()
        elif self._thread is not None:
            self._expand(MAX_BLOCK if rows == 0 else ROWS_BETWEEN)

    def _expand(self, rows: int) -> None:
        assert self._thread is not None
        self._busy = True
        self._thread.call(partial(self._expanded, time.perf_counter()), self._with_store, Store.expand, rows)

    def _expanded(self, started: float, rows: Any, error: BaseException | None) -> None:
        self._busy = False
        if error is None:
            self.in_blocks = max(self.in_blocks - rows, 0) if rows else 0
            if self.in_blocks:  # the others have as much time as this took
                self._expand_soon(time.perf_counter() - started)
        else:
            log.warning("record: blocks cannot be expanded: %s", _reason(error))
            if isinstance(error, Replaced):
                self._leave_replaced()
            self._expand_soon(AFTER_FAILURE)
            if self._queue:  # not held up by blocks: whether it can be recorded is found out by trying
                self._commit(self._take())
                return
        self._begin()

    def _expand_last(self) -> None:
        until = time.monotonic() + LAST_SECONDS
        while self.in_blocks and self._with_store(Store.expand, MAX_BLOCK) and time.monotonic() < until:
            pass

    # --- the writer's thread

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the store in the writer's thread; once more where another file has its name."""
        if self._thread is None:
            raise RecordUnavailable("the service is stopping")
        try:
            return await self._thread.run(self._with_store, work, *arguments)
        except Replaced:
            self._leave_replaced()
            return await self._thread.run(self._with_store, work, *arguments)

    def _leave_replaced(self) -> None:
        self._disconnect_loop()  # connections to two files of one name must not meet in their log
        self.newest = None
        self.in_blocks = 0

    def _opened(self, *_: object) -> None:
        if self.in_blocks:
            self._expand_soon(0.0)

    def _open_ahead(self) -> None:
        """Open the database before a prediction waits for it: to make a new one takes up to a second."""
        try:
            newest = self._with_store(Store.newest)
            self.newest = self.newest or newest
            self.in_blocks += self._with_store(Store.waiting)
        except Exception as error:  # whatever it is, the first prediction tries again and is refused with it
            log.debug("the record cannot be opened yet: %s", error)

    def _with_store(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._store is None:
            self._store = store_of(self._database(), self._patience)
        try:
            return work(self._store, *arguments)
        except Exception:  # whatever the database driver raises; the next one begins with a new connection
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.disconnect()

    def _disconnect_loop(self) -> None:
        store, self._loop_store = self._loop_store, None
        if store is not None:
            store.disconnect()


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _is_lock(error: Exception) -> bool:
    """Whether another process writes; the connection is as good as before."""
    return (
        isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    )
