"""Scoring of single rows on the event loop: what comes in one turn of it is scored together.

A call of the model costs some tens of microseconds, whether for one row or for a hundred. Requests that are
ready in the same turn of the loop share one; nobody waits for a clock, and a request that is alone, after a
turn in which nobody met another, is scored at once.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import groupby

import numpy as np

from vroom_api.champion.loading import Champion, score

Scored = tuple[float, list[float]]  # prediction, features
Then = Callable[[Scored | None, Exception | None], None]  # what becomes of a row that was scored, or was not


class Scorer:
    """The rows of one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Champion, list[float], Then]] = []
        self._rows = 0  # of this turn; 0: none has begun
        self._crowded = False  # whether more than one row came in the turn before

    async def score(self, champion: Champion, row: list[float]) -> Scored:
        """Prediction and features of one row, by this champion."""
        found = self.at_once(champion, row)
        if found is None:
            future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
            self.later(champion, row, partial(_resolve, future))
            found = await future
        return found

    def at_once(self, champion: Champion, row: list[float]) -> Scored | None:
        """Prediction and features of a row that is alone; None where others come too: they are scored `later`."""
        self._rows += 1
        if self._rows == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
            if not self._crowded:
                predictions, features = score(champion, np.array([row], dtype=np.float64))
                return predictions.item(), features[0].tolist()
        return None

    def later(self, champion: Champion, row: list[float], then: Then) -> None:
        """Score a row with all others of this turn, at its end, and call `then`, which raises nothing."""
        self._waiting.append((champion, row, then))

    def _end_turn(self) -> None:
        self._crowded = self._rows > 1
        self._rows = 0
        waiting, self._waiting = self._waiting, []
        # All of a turn have one champion, but for the turn in which it is swapped, and while a second one is tried.
        waiting.sort(key=lambda one: id(one[0]))
        for _, group in groupby(waiting, key=lambda one: id(one[0])):
            together = list(group)
            try:
                predictions, features = score(
                    together[0][0], np.array([row for _, row, _ in together], dtype=np.float64)
                )
            except Exception as error:  # each caller gets it
                for *_, then in together:
                    then(None, error)
                continue
            for (*_, then), prediction, row_features in zip(
                together, predictions.tolist(), features.tolist(), strict=True
            ):
                then((prediction, row_features), None)


def _resolve(future: "asyncio.Future[Scored]", scored: Scored | None, error: Exception | None) -> None:
    if future.done():  # its caller has gone
        return
    if error is not None:
        future.set_exception(error)
    elif scored is not None:
        future.set_result(scored)
