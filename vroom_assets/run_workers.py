"""Runs whose process is gone, noticed wherever it worked: on this machine or in another container.

The process of a run holds a lock in the home for as long as it executes steps. The system lets go of it when the
process ends, however it ends, so Dagster's run monitoring finds out by trying the lock. Its own launcher can only
ask the code server, which forgets its runs when it is started again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from vroom_api.contract import home
from vroom_assets import disk

if TYPE_CHECKING:
    from dagster._core.execution.retries import RetryMode

RUNS = ".runs"  # which no forecast can be called
GONE = "its process ended without a word, as when memory ran out or its container was restarted"
SWEPT_SECONDS = 86_400.0  # Dagster's monitoring asks after a run that is under way every few seconds


def lock_path(run_id: str) -> Path:
    return home() / RUNS / f"{run_id}.lock"


@contextmanager
def working(run_id: str) -> Iterator[None]:
    """Hold the lock of a run for the length of a block; afterwards its file is gone.

    A block that fails keeps both until the process ends: its run may never be given an end, as on a full disk, and
    is then known to be left.
    """
    path = lock_path(run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    path.unlink(missing_ok=True)  # before it is let go of, or the run would seem to be left
    os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove the locks of runs that failed long ago, and were given an end of their own."""
    for path in folder.glob("*.lock"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - SWEPT_SECONDS and is_left(path.stem):
                path.unlink(missing_ok=True)


def is_left(run_id: str) -> bool:
    """Whether a process began to work on a run and is gone."""
    try:
        handle = os.open(lock_path(run_id), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock_path(run_id).exists()  # it may have ended well between the two lines
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which also knows whether the process of a run is still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if not is_left(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        lock_path(run.run_id).unlink(missing_ok=True)
        return CheckRunHealthResult(WorkerStatus.FAILED, disk.why_full() or GONE)


class _Watched(dg.Executor):
    """An executor that holds the lock of its run, and ends the alert of one before that failed."""

    def __init__(self, inner: dg.Executor):
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        failed = False
        with working(plan_context.run_id):
            for event in self._inner.execute(plan_context, execution_plan):
                failed = failed or event.is_failure
                yield event
            if not failed:
                _report_success(plan_context.dagster_run)


def _report_success(run: dg.DagsterRun) -> None:
    """A run that succeeds says so itself: a sensor for it would open Dagster's instance every few seconds."""
    from vroom_assets.alerts import report_success  # the daemon imports this module, and runs nothing
    from vroom_assets.forecast.failures import forecast_of

    forecast = forecast_of(run)
    if forecast is not None:
        report_success(forecast, run.job_name, run.run_id)


@dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema.as_field())
def watched_in_process_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """All steps in the process of the run, which is known to be there."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _Watched(create(context))
