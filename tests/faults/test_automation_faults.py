"""What the automation makes of faults: nothing lost, nothing doubled, and a message that says what to do.

docs/operations.md has the table; rows that are not here name their tests.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import pytest
from mlflow import MlflowClient

from tests.support.automation import Sensor
from tests.support.consuming import rows
from tests.support.forecasts import definitions, entries
from tests.support.project import ROOT, copy
from tests.support.service import wait_until_answered
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_api.contract.tables import event_log
from vroom_assets import settings
from vroom_assets.forecast import failures
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.resources import warehouse_path
from vroom_assets.sources import observe
from vroom_assets.supervisor import free_port
from vroom_assets.training import search

NAME = "reservations"
SCRIPT = """
import logging, signal, sys
import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

if __name__ == "__main__":
    flags = {f"{sys.argv[1]}_sources": {sys.argv[2]: signal.SIGKILL}} if len(sys.argv) > 2 else None
    with dg.DagsterInstance.get() as instance:
        target = ModuleTarget("vroom_assets.definitions", None, None, "vroom")
        with WorkspaceProcessContext(instance, target) as workspace:
            list(execute_sensor_iteration(workspace, logging.getLogger("none"), None, None, debug_crash_flags=flags))
"""


@pytest.fixture
def sensor(instance, fast, trained, data) -> Sensor:
    """Beside a champion of the data as they are."""
    found = Sensor(instance, fast)
    found.settle()
    return found


def swap(data: Path, number: int) -> None:
    """Replace a CSV by one of other content, as whoever brings a new one does."""
    path = data / "vehicles.csv"
    lines = path.read_text().splitlines()
    beside = data / "beside"
    beside.write_text("\n".join([*lines[:-number], ""]))
    beside.replace(path)


def test_after_hours_without_a_daemon_four_swaps_are_one_run_of_the_newest_content(
    sensor, instance, fast, data, run
):
    down_since = json.loads(sensor.cursor or "")
    for number in (1, 2, 3, 4):
        swap(data, number)
    back = Sensor(instance, fast)  # what Dagster keeps while it is down is the cursor
    back.cursor = json.dumps(down_since | {"asked_at": down_since["asked_at"] - 5 * 3600})
    back.run_keys = sensor.run_keys
    assert back.settle().count("run") == 1
    assert run().success
    assert back.later(61).settle().count("run") == 0
    pointer = read_pointer(NAME)
    assert pointer is not None
    manifest = read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256).manifest
    assert manifest.snapshots["vehicles"] == observe(data / "vehicles.csv", None).sha256


def test_schedules_that_were_missed_and_are_caught_up_start_one_run(sensor, instance, fast, data):
    swap(data, 1)
    daily = definitions(fast).resolve_schedule_def(f"{NAME}_daily")
    asked = []
    for _ in range(3):  # Dagster catches up with up to five
        with dg.build_schedule_context(instance=instance) as context:
            found = daily(context)
        asked.append(isinstance(found, dg.RunRequest))
        if asked[-1]:
            job = definitions(fast).resolve_job_def(f"{NAME}_retrain")
            instance.create_run_for_job(
                job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.NOT_STARTED
            )
    assert asked == [True, False, False]
    assert "is still under way" in entries("retrain")[-1].reason


def test_the_same_tick_once_more_asks_for_the_same_run(sensor, data):
    """A daemon that ends between a tick and its run ticks again from the same cursor: by its key the run is one."""
    swap(data, 1)
    sensor.tick()
    before = sensor.cursor
    assert sensor.tick() == "run"
    (key,) = sensor.run_keys
    sensor.cursor, sensor.run_keys = before, set()
    assert sensor.tick() == "run"
    assert sensor.run_keys == {key}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["TICK_HELD", "RUN_CREATED", "RUN_LAUNCHED"])
def test_a_daemon_that_is_killed_between_tick_and_run_leaves_exactly_one_run(
    home, trained, data, tmp_path, monkeypatch, moment
):
    script = tmp_path / "iterate.py"
    script.write_text(SCRIPT)
    folder = home / "dagster"
    folder.mkdir()
    own = (ROOT / "vroom_assets" / "dagster.yaml").read_text()
    (folder / "dagster.yaml").write_text(own)  # runs are queued, and no daemon here launches them
    copy(tmp_path, f"vroom_assets/defs/{NAME}")
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path / "vroom_assets" / "defs"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def iterate(*arguments: str) -> int:
        return subprocess.run(
            [sys.executable, "-W", "ignore", str(script), *arguments], check=False
        ).returncode

    def queued() -> int:
        with dg.DagsterInstance.get() as one:
            return one.get_runs_count(dg.RunsFilter(tags={FORECAST_TAG: NAME}))

    swap(data, 1)
    crashed = iterate(NAME, moment)
    while crashed == 0 and queued() == 0:  # the first tick waits for files that have just changed
        _forget_interval()
        crashed = iterate(NAME, moment)
    assert crashed == -signal.SIGKILL
    for _ in range(2):
        _forget_interval()
        assert iterate() == 0
    assert queued() == 1


def _forget_interval() -> None:
    """Let the next tick be due at once."""
    with dg.DagsterInstance.get() as one:
        for state in one.all_instigator_state():
            data = state.instigator_data
            if data is not None and hasattr(data, "last_tick_start_timestamp"):
                past = data.last_tick_start_timestamp and data.last_tick_start_timestamp - 60
                last = data.last_tick_timestamp and data.last_tick_timestamp - 60
                one.update_instigator_state(
                    state.with_data(data._replace(last_tick_start_timestamp=past, last_tick_timestamp=last))
                )


@pytest.mark.parametrize("mode", ["read_only=False", "read_only=True"])
def test_a_warehouse_that_an_analyst_has_open_fails_the_run_with_who_and_what_to_do(
    run, trained, instance, data, mode
):
    path = warehouse_path(NAME)
    script = f"import duckdb; c = duckdb.connect({str(path)!r}, {mode}); print('open', flush=True); input()"
    analyst = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert analyst.stdout is not None
    assert analyst.stdout.readline() == "open\n"
    before = read_pointer(NAME)
    try:
        failed = run("materialize")
    finally:
        analyst.communicate("\n")
    assert not failed.success
    reasons = " ".join(
        str(event.step_failure_data.user_failure_data.description)
        for event in failed.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    )
    assert f"{path} is open in " in reasons
    assert f"process {analyst.pid}" in reasons
    assert f"`kill {analyst.pid}`" in reasons
    assert read_pointer(NAME) == before
    assert run("materialize").success
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("select count(*) from features").fetchone()[0] > 0


def trainings() -> list[str]:
    """The state of each training in the MLflow of the home."""
    client = MlflowClient(f"sqlite:///{settings.home()}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    return [one.info.run_id for one in runs]


def test_mlflow_that_does_not_answer_fails_the_training_before_a_fit_and_what_serves_serves(
    run, trained, instance, fast, data, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(
        "vroom_assets.training.search.choose", lambda *_, **__: pytest.fail("candidates were fitted")
    )
    swap(data, 1)
    before = read_pointer(NAME)
    failed = run()
    assert not failed.success
    assert read_pointer(NAME) == before
    event = next(one for one in failed.all_events if one.event_type == dg.DagsterEventType.RUN_FAILURE)
    record = instance.get_run_record_by_id(failed.run_id)
    assert record is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="report_failures",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=record.dagster_run,
    ).for_run_failure()
    failures.report_failures(context)
    last = entries("run")[-1]
    assert last.decision == "failed"
    assert re.search(r"MLflow at http://127\.0\.0\.1:\d+ did not take .* Start MLflow", last.reason)
    assert "version 1 keeps serving" in last.reason
    completed = [one for one in rows(event_log) if one.name == "pipeline-completed"][-1]
    assert (completed.forecast, completed.data["run_id"], completed.data["state"]) == (
        NAME,
        failed.run_id,
        "failed",
    )


def test_a_training_that_mlflow_left_open_is_ended_by_the_next_one(run, trained, data):
    client = MlflowClient(settings.tracking_uri())
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    left = client.create_run(experiment.experiment_id, tags={"dagster_run_id": "gone"}).info.run_id
    assert run("train").success
    assert client.get_run(left).info.status == "FAILED"
    assert trainings() == []


@pytest.mark.slow
def test_mlflow_that_ends_while_a_training_runs_fails_it_and_the_next_one_ends_what_is_left_open(
    run, trained, data, home, monkeypatch
):
    port = free_port()
    own = {"VROOM_MLFLOW_PORT": str(port), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [sys.executable, "-m", "vroom_assets.mlflow_server"], cwd=ROOT, env=os.environ | own
    )
    honest = search.choose

    def after_its_end(*arguments: Any, **named: Any) -> Any:
        server.kill()
        server.wait()
        return honest(*arguments, **named)

    before = read_pointer(NAME)
    with monkeypatch.context() as patch, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until_answered(client, "/health", server)
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setattr(search, "choose", after_its_end)
        failed = run("train")
    assert server.poll() is not None
    assert not failed.success
    assert read_pointer(NAME) == before
    assert len(trainings()) == 1
    assert run("train").success
    assert trainings() == []
