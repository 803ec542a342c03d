"""How long a request may take."""

import asyncio
import time

from vroom_api.problems import Problem


class Deadlines:
    """Cancels requests whose answer has not begun in time.

    One look at all of them, eight times in the time they have, costs a request a tenth of a timer of its own.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._under_way: dict[asyncio.Task[None], float] = {}
        self._pass_through: set[asyncio.Task[None]] = set()
        self._looking = False

    def begin(self, task: "asyncio.Task[None]") -> None:
        self._under_way[task] = time.monotonic() + self.seconds
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(self.seconds / 8, self._look)

    def end(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)

    def passed(self, task: "asyncio.Task[None]") -> bool:
        """Whether it was cancelled for that; asked once."""
        if task in self._pass_through:
            self._pass_through.discard(task)
            return True
        return False

    def _look(self) -> None:
        now = time.monotonic()
        for task in [task for task, deadline in self._under_way.items() if deadline <= now]:
            del self._under_way[task]
            self._pass_through.add(task)
            task.cancel()
        self._looking = bool(self._under_way)
        if self._looking:
            asyncio.get_running_loop().call_later(self.seconds / 8, self._look)


def _too_slow(seconds: float, complete: bool) -> Problem:
    if complete:
        detail = f"there was no answer within {seconds:g} s; ask again"
        return Problem(503, "timeout", detail, headers={"retry-after": "5"})
    return Problem(
        408, "timeout", f"the body did not come within {seconds:g} s", headers={"connection": "close"}
    )
