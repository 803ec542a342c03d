"""How long a request may take."""

import asyncio
import time

from vroom_api.problems import Problem


class Deadlines:
    """Cancels requests whose answer has not begun in time.

    One check of all of them, eight times within the limit, costs a request a tenth of a timer of its own.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._under_way: dict[asyncio.Task[None], float] = {}
        self._pass_through: set[asyncio.Task[None]] = set()
        self._checking = False

    def begin(self, task: "asyncio.Task[None]") -> None:
        self._under_way[task] = time.monotonic() + self.seconds
        if not self._checking:
            self._checking = True
            asyncio.get_running_loop().call_later(self.seconds / 8, self._check)

    def end(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)

    def passed(self, task: "asyncio.Task[None]") -> bool:
        """Whether it was cancelled for that; asked once."""
        if task in self._pass_through:
            self._pass_through.discard(task)
            return True
        return False

    def _check(self) -> None:
        now = time.monotonic()
        for task in [task for task, deadline in self._under_way.items() if deadline <= now]:
            del self._under_way[task]
            self._pass_through.add(task)
            task.cancel()
        self._checking = bool(self._under_way)
        if self._checking:
            asyncio.get_running_loop().call_later(self.seconds / 8, self._check)


def _too_slow(seconds: float, complete: bool) -> Problem:
    if complete:
        detail = f"there was no answer within {seconds:g} s; ask again"
        return Problem(503, "timeout", detail, headers={"retry-after": "5"})
    return Problem(
        408, "timeout", f"the body did not come within {seconds:g} s", headers={"connection": "close"}
    )
