"""What happens to one home when something else gets hold of it: a signal in any stage, a pipe in place of any file.

Two whole systems on one home are in tests/end_to_end/test_system.py, which has one that runs; a home that is moved in
tests/vroom_assets/forecast/test_component.py; a database that is deleted under load in tests/vroom_api/record/test_database.py.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tests.support.consuming import rows
from tests.support.forecasts import definitions, entries
from tests.support.project import copy
from tests.support.service import running, wait_for
from vroom_api.contract import MANIFEST, MODEL, POINTER, durable, read_pointer
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.heartbeat import HEARTBEAT, Heartbeat, beat
from vroom_api.contract.tables import event_log
from vroom_assets import declaration, settings
from vroom_assets.forecast import failures

NAME = "reservations"


def registered() -> list[int]:
    client = MlflowClient(settings.tracking_uri())
    return sorted(int(one.version) for one in client.search_model_versions(f"name = '{NAME}'"))


def statuses() -> list[str]:
    client = MlflowClient(settings.tracking_uri())
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return sorted(run.info.status for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags)


STAGES = {  # what is under way: the versions that are registered after it, and the state of the trainings in MLflow
    "vroom_assets.sources.load": ([1], ["FINISHED"]),
    "vroom_assets.features.table.build": ([1], ["FINISHED"]),
    "vroom_assets.features.online.store": ([1], ["FINISHED"]),
    "vroom_assets.training.search.choose": ([1], ["FINISHED", "KILLED"]),
    "vroom_assets.champion.publication.write": ([1], ["FINISHED", "KILLED"]),
    "vroom_assets.champion.contest.run_contest": ([1, 2], ["FINISHED", "FINISHED"]),
    "vroom_assets.champion.contest.read_result": ([1, 2], ["FINISHED", "FINISHED"]),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_terminated_ends_there_and_what_served_serves(
    instance, fast, trained, monkeypatch, stage
):
    """The signal comes as it does from the page, at some moment of each stage."""
    before = read_pointer(NAME)

    def terminated(*_: object, **__: object) -> None:
        (run,) = instance.get_runs(limit=1)
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the run went on")

    monkeypatch.setattr(stage, terminated)
    job = definitions(fast).resolve_job_def(f"{NAME}_retrain")
    job.execute_in_process(instance=instance, raise_on_error=False)
    (run,) = instance.get_runs(limit=1)
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert (registered(), statuses()) == STAGES[stage]
    assert read_pointer(NAME) == before
    event = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.PIPELINE_CANCELED)[0].dagster_event
    failures.report_terminated_runs(
        dg.build_run_status_sensor_context(
            sensor_name="report_terminated_runs",
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=run,
        )
    )
    entry = entries()[-1]
    assert (entry.event, entry.decision, entry.run_id) == ("run", "cancelled", run.run_id)
    assert "was terminated; version 1 keeps serving" in entry.reason
    completed = [one for one in rows(event_log) if one.name == "pipeline-completed"][-1]
    assert (completed.data["run_id"], completed.data["state"]) == (run.run_id, "terminated")
    # Nothing of it stands in the way of the next one.
    monkeypatch.undo()


SERVED = {
    POINTER: "trouble",
    f"champions/1/{MANIFEST}": "trouble",
    f"champions/1/{MODEL}": "trouble",
    ENTITIES: "no trouble",
    HEARTBEAT: "no trouble",
}


@pytest.fixture
def service(trained: Path) -> Iterator[httpx.Client]:
    beat(NAME, Heartbeat(checked_at=time.time(), every_s=3600))
    with running(trained) as (address, _), httpx.Client(base_url=address, timeout=5) as client:
        wait_for(lambda: client.get("/health").json()["status"] == "ok")
        yield client


def test_a_pipe_in_place_of_any_file_that_the_service_reads_hangs_nothing(service, trained):
    example = service.get(f"/forecasts/{NAME}").json()["example"]
    for name, expected in SERVED.items():
        path = trained / NAME / name
        aside = path.with_name(f"{path.name}-aside")
        path.rename(aside)
        os.mkfifo(path)
        if expected == "trouble":
            wait_for(lambda: service.get("/health").json()["status"] == "degraded")
            assert "not a regular file" in service.get("/health").json()["last_error"], name
        answer = service.post("/predict", json=example)
        assert (answer.status_code, answer.json()["model_version"]) == (200, 1), name
        if name == ENTITIES:
            refused = service.post("/predict", json={"entity_id": "7"})
            assert refused.status_code == 503
            assert "materialize online_features" in refused.json()["detail"]
        aside.replace(path)
        wait_for(lambda: service.get("/health").json()["status"] == "ok")
    assert service.post("/predict", json={"entity_id": "7"}).status_code == 200
    checked: Any = service.get("/health").json()["checked_s"]
    assert checked < 5


@pytest.mark.parametrize("name", ["defs.yaml", "features.sql", "target.sql"])
def test_a_pipe_in_place_of_a_declaration_is_a_finding_and_waited_for_by_nobody(tmp_path, name):
    copy(tmp_path, f"vroom_assets/defs/{NAME}")
    folder = tmp_path / "vroom_assets" / "defs" / NAME
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(declaration.DeclarationError) as refusal:
        declaration.read(folder)
    assert name in str(refusal.value)
    assert "not a regular file" in str(refusal.value)
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    assert declaration.read(folder).name == NAME


@pytest.mark.parametrize("name", ["vehicles.csv", "reservations.csv"])
def test_a_pipe_in_place_of_a_csv_fails_the_run_with_its_name_and_nothing_else_changes(
    run, data, trained, name
):
    before = read_pointer(NAME)
    content = (data / name).read_bytes()
    (data / name).unlink()
    os.mkfifo(data / name)
    result = run("materialize")
    assert not result.success
    table = name.removesuffix(".csv")
    failed = [node for node in (f"{NAME}__{table}_csv", f"{NAME}__{table}") if _failure(result, node)]
    assert any("not a regular file" in _failure(result, node) for node in failed)
    assert read_pointer(NAME) == before
    (data / name).unlink()
    durable.replace(data / name, content)
    assert run("materialize").success


def _failure(result: dg.ExecuteInProcessResult, node: str) -> str:
    """Why a step failed; "" where it did not."""
    for event in result.all_events:
        if event.is_step_failure and event.node_name == node:
            failure = event.step_failure_data
            described = failure.user_failure_data
            return str(described.description if described else failure.error)
    return ""
