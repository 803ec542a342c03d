"""In shadow: a second version scores what the champion has answered, after it was answered.

What was answered is put into a bounded queue, and nothing else is done for it while anybody waits. A task takes what has
come in half a second, scores it together in a thread of its own and writes it down. Where that does not keep up, the newest
rows are dropped; where it fails, the rows of that piece are lost. Either is counted, and no request hears of it: the
monitoring computes again what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice

import numpy as np
import sqlalchemy as sa

from vroom_api.champion.loading import Tried, score
from vroom_api.predictions import bulk
from vroom_api.predictions.choice import belongs, subject_of
from vroom_api.record.prediction import Prediction
from vroom_api.record.shadow_predictions import ShadowPrediction, ShadowRecord

log = logging.getLogger(__name__)

CAPACITY = 10_000  # rows that may wait
PIECE = 512  # rows that are scored and written together
INTERVAL = 0.5  # seconds in which rows are collected
STATES = ("scored", "dropped", "failed")


class Shadow:
    """Scores copies of answered requests in the background.

    `rows` counts them by forecast and what became of them, for whoever publishes it.

    Args:
        database: opens the serving database.
        capacity: rows that may wait; more are dropped.
        interval: seconds in which rows are collected.
    """

    def __init__(
        self, database: Callable[[], sa.Engine], *, capacity: int = CAPACITY, interval: float = INTERVAL
    ) -> None:
        self.rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.last_failure: str | None = None  # why the latest piece failed; None once one succeeds
        self._capacity = capacity
        self._interval = interval
        self._record = ShadowRecord(database)  # used in the thread only
        self._waiting: deque[tuple[Tried, Prediction]] = deque()
        self._work = asyncio.Event()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return len(self._waiting)

    def offer(self, tried: Tried, answered: Sequence[Prediction]) -> None:
        """Take a copy of what was answered; never raises, and never waits."""
        if tried.is_split:
            return
        counts = self.rows[tried.second.manifest.forecast]  # made here, so that the thread finds it
        if self._thread is None or len(self._waiting) + len(answered) > self._capacity:
            counts["dropped"] += len(answered)
            return
        for one in answered:
            self._waiting.append((tried, one))
        self._work.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Score what is offered as long as this is open, and what waits then."""
        self._work = asyncio.Event()  # of the loop that runs now: an application may be started again
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        task = asyncio.create_task(self._follow(), name="shadow")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(thread, self._finish)
            thread.shutdown()

    async def _follow(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(self._interval)
            self._work.clear()
            while self._waiting:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._work_off)

    def _finish(self) -> None:
        while self._waiting:
            self._work_off()
        self._record.close()

    def _work_off(self) -> None:
        """Score and write one piece; in the thread, while the queue is only appended to."""
        piece = [self._waiting.popleft() for _ in islice(range(len(self._waiting)), PIECE)]
        for _, group in groupby(piece, key=lambda one: id(one[0])):
            rows = list(group)
            tried = rows[0][0]
            counts = self.rows[tried.second.manifest.forecast]
            try:
                made = scored(tried, [answered for _, answered in rows])
                self._record.write(made)
            except Exception as error:  # of the model, or whatever the database driver raises
                counts["failed"] += len(rows)
                reason = str(error).strip().splitlines()[:1]
                reported, self.last_failure = self.last_failure, f"{type(error).__name__}: {' '.join(reason)}"
                if reported != self.last_failure:  # once, and not with every piece
                    log.warning("version %d in shadow: %s", tried.second.version, self.last_failure)
            else:
                self.last_failure = None
                counts["scored"] += len(made)


def scored(tried: Tried, answered: Sequence[Prediction]) -> list[ShadowPrediction]:
    """What the second version would have answered; rows that it has no finite number for are left out."""
    forecast, second = tried.second.manifest.forecast, tried.second
    if tried.trial.share < 1.0:
        answered = [
            one for one in answered if belongs(forecast, tried.trial, subject_of(one.entity_id, one.inputs))
        ]
    if not answered:
        return []
    rows = rows_of(tried, answered)
    value, _ = score(second, rows)
    low, high = np.empty(len(rows)), np.empty(len(rows))
    levels = np.array([one.level for one in answered])
    for level in np.unique(levels):
        mine = levels == level
        low[mine], high[mine] = bulk.bounds(second.manifest, rows[mine], value[mine], float(level))
    known = np.isfinite(value + low + high)
    return [
        ShadowPrediction(one.id, second.version, forecast, *numbers)
        for one, *numbers, is_known in zip(
            answered, value.tolist(), low.tolist(), high.tolist(), known.tolist(), strict=True
        )
        if is_known
    ]


def rows_of(tried: Tried, answered: Sequence[Prediction]) -> np.ndarray:
    """The rows of inputs as the second version reads them, (n, inputs)."""
    rows = np.array([one.inputs for one in answered], dtype=np.float64)
    if tried.same_rows:
        return rows
    for index, field in answered[0].origin.texts:
        other = tried.second.manifest.inputs[index]
        if field.values == other.values:
            continue
        codes = rows[:, index].copy()  # what is translated must not be translated again
        for code in np.unique(codes):
            rows[codes == code, index] = other.encoded(field.decoded(float(code)))
    return rows
