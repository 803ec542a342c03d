"""Processes that fit for a run, and end with it, however it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

IDLE_SECONDS = 30  # that a process waits for more before it ends and gives its memory back
WATCH_SECONDS = 0.5  # between two checks whether the run is still there


@contextmanager
def processes() -> Iterator[None]:
    """What joblib spreads inside the block goes to processes with one thread for each numeric library."""
    from joblib import parallel_config

    with parallel_config(
        "loky",
        inner_max_num_threads=1,
        initializer=_end_with,
        initargs=(os.getpid(),),
        idle_worker_timeout=IDLE_SECONDS,
    ):
        yield


def _end_with(run: int) -> None:
    """End this process when the process of the run has ended: nobody else would tell it before it is idle for long."""

    def watch() -> None:
        while os.getppid() == run:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="ends with the run", daemon=True).start()
