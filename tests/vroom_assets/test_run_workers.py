"""A run whose process is gone is failed within one round of Dagster's monitoring, and none that works is."""

import logging
import multiprocessing
import os
import shutil
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from vroom_assets.local_run import execute
from vroom_assets.run_workers import GONE, lock_path, watched_in_process_executor

WAITING = 20.0  # seconds, of a test that would hang


@pytest.fixture
def instance(home: Path, empty_instance: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """One with the shipped settings, as the daemon and each run open it for themselves."""
    folder = home / "dagster"
    shutil.copytree(empty_instance, folder)
    (folder / "dagster.yaml").write_bytes(Path("vroom_assets/dagster.yaml").read_bytes())
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return dg.DagsterInstance.get()


def work(started: Connection, goes_on: Connection) -> None:
    """A run in a process of its own, which waits in its step until it is told to go on."""

    @dg.asset
    def one() -> None:
        started.send(os.getpid())
        goes_on.recv()

    made = dg.Definitions(
        assets=[one], jobs=[dg.define_asset_job("all")], executor=watched_in_process_executor
    )
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance:
        execute(instance, made.resolve_job_def("all"), quiet)


def monitor(instance: dg.DagsterInstance) -> None:
    """One round of the daemon's run monitoring."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        faults = [
            one for one in execute_run_monitoring_iteration(workspace, logging.getLogger("none")) if one
        ]
    assert faults == []


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "at work"])
def test_a_run_is_failed_once_its_process_is_gone_and_not_before(instance, is_killed):
    context = multiprocessing.get_context("spawn")
    started, started_there = context.Pipe(duplex=False)
    goes_on_there, goes_on = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(started_there, goes_on_there))
    worker.start()
    assert started.poll(WAITING * 3)
    started.recv()
    (run,) = instance.get_runs()
    monitor(instance)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    if is_killed:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(WAITING)
        monitor(instance)
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
        (failed,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert GONE in failed.message
    else:
        goes_on.send("go on")
        worker.join(WAITING)
        monitor(instance)
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert not lock_path(run.run_id).exists()
