"""The record: every prediction is durable before it is answered.

Requests put their predictions into a bounded queue and wait. One writer takes all that waits, commits it
in one transaction and wakes them (group commit): the disk's sync is paid once per batch, and nobody gets
a prediction that a crash could lose. A failed commit is reported to its callers and to nobody else; the
next batch starts with a new connection.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import outcomes, predictions, shadow_predictions
from vroom_api.record.database import Replaced
from vroom_api.record.prediction import Prediction, check
from vroom_api.record.stores import SqliteStore, Store, store_of

log = logging.getLogger(__name__)

RETRY_AFTER = 1  # seconds, for the header of a 503
MIN_SOLO_STREAK = 8  # callers in a row, each alone in its turn of the loop
MAX_COMMIT_ON_LOOP = 0.002  # seconds that the latest commit took
PROBE_SECONDS = 1.0  # that the latest commit or probe counts for
MAX_PROBE_WAIT = 0.05  # seconds that whoever asks waits for a probe
MAX_SILENCE = 10.0  # seconds under way without a result, after which what was known counts no more


class NotRecorded(Exception):
    """The prediction is not in the record, so it must not be answered; 503 with Retry-After."""

    retry_after = RETRY_AFTER


class RecordFull(NotRecorded):
    """More predictions wait for the disk than the queue holds."""


class RecordUnavailable(NotRecorded):
    """The database did not take the commit, or the service is stopping."""


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
        self.newest: str | None = None  # id of the newest prediction in the record that this process knows of
        self.last_failure: str | None = None  # why the latest commit failed; None once one succeeds
        self._largest_commit = largest_commit
        self._database = database
        self._patience = patience
        self._store: Store | None = None  # used in the writer's thread only
        self._queue: deque[tuple[Sequence[Prediction], asyncio.Future[None]]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._writer: asyncio.Task[None] | None = None
        self._stopping = False
        self._probe: asyncio.Task[None] | None = None
        self._heard: float | None = None  # when a commit or probe last came to an end, succeeded or not
        self._loop_store: Store | None = None  # the event loop's own, for uncontended callers
        self._callers = 0  # in this turn of the loop
        self._solo_streak = 0  # callers in a row that were alone in their turn

    async def __aenter__(self) -> "Recorder":
        self._stopping = False
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._thread.submit(self._open_ahead)
        self._writer = asyncio.create_task(self._write(), name="record")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit all that waits, then stop; what arrives meanwhile is refused."""
        self._stopping = True
        self._work.set()
        if self._writer is not None:
            await self._writer
        if self._probe is not None:
            await asyncio.wait({self._probe})
        await self._off_loop(self._disconnect)
        self._disconnect_loop()
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
            check(prediction)
        if self._stopping or self._writer is None or self._writer.done():
            raise RecordUnavailable("the service is stopping and records nothing more; ask another one")
        if self.waiting + len(made) > self.capacity:
            self.refused += len(made)
            raise RecordFull(f"{self.waiting} predictions wait for the record, which holds {self.capacity}")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._uncontended() and self._commit_on_loop(made):
            done.set_result(None)
            return done
        self._queue.append((made, done))
        self.waiting += len(made)
        self._work.set()
        return done

    def _uncontended(self) -> bool:
        """Whether callers came one after the other, each alone in its turn, and the disk is quick."""
        self._callers += 1
        if self._callers == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._solo_streak = 0 if self._callers > 1 or self.waiting else self._solo_streak + 1
        return self._solo_streak > MIN_SOLO_STREAK and self.last_commit_seconds < MAX_COMMIT_ON_LOOP

    def _end_turn(self) -> None:
        self._callers = 0

    def _commit_on_loop(self, made: Sequence[Prediction]) -> bool:
        """Commit on the event loop: a single caller need not wait for two changes of the thread.

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
            self._loop_store.insert_once(made)
        except Exception:  # whatever the database driver raises; the writer reports it if it stays so
            self._solo_streak = 0
            self._disconnect_loop()
            return False
        self._count(made, time.perf_counter() - started)
        return True

    def _count(self, made: Sequence[Prediction], seconds: float) -> None:
        self.commits += 1
        self.rows += len(made)
        self.newest = made[-1].id
        self.last_failure = None
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
        if self._stopping or self._writer is None:
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
            await self._run(Store.insert, made)
        except Exception as error:  # whatever the database driver raises
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
            self._count(made, time.perf_counter() - started)
        self.waiting -= len(made)
        for _, done in batch:
            if done.done():  # its caller has gone
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the store in the writer's thread; once more where another file has its name."""
        try:
            return await self._off_loop(self._with_store, work, *arguments)
        except Replaced:
            self._disconnect_loop()  # connections to two files of one name must not meet in their log
            self.newest = None
            return await self._off_loop(self._with_store, work, *arguments)

    async def _off_loop(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open_ahead(self) -> None:
        """Open the database before a prediction waits for it: to make a new one takes up to a second."""
        try:
            newest = self._with_store(Store.newest)
            self.newest = self.newest or newest
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
