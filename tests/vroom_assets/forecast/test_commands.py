"""What callers of the service ask for is done once, and what becomes of it is written down."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support import databases
from tests.support.bundles import FORECAST
from tests.support.consuming import CommandSensor, asked, rows, state_of
from tests.support.forecasts import definitions, entries
from tests.support.succession import promote
from vroom_api.contract import read_pointer
from vroom_api.contract.commands import Kind, State
from vroom_api.contract.heartbeat import latest_beat_of_consumer
from vroom_api.contract.tables import event_log
from vroom_assets.forecast.commands import request_of
from vroom_assets.forecast.names import CALLER_TAG, COMMAND_TAG, FORECAST_TAG


@pytest.fixture(params=databases.KINDS)
def database(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    with databases.empty(request.param, tmp_path) as url:
        monkeypatch.setenv("VROOM_DATABASE_URL", url)
        yield url


@pytest.fixture
def trouble() -> list[str]:
    """Why the next runs of the small pipeline fail."""
    return []


@pytest.fixture
def sensor(instance: dg.DagsterInstance, trouble: list[str]) -> CommandSensor:
    """Over a forecast whose pipelines are one small step."""

    @dg.asset(key=["vans", "features"])
    def features() -> None:
        if trouble:
            raise ValueError(trouble.pop())

    jobs = [
        dg.define_asset_job(f"vans_{stage}", selection=[features.key], tags={FORECAST_TAG: "vans"})
        for stage in ("materialize", "retrain")
    ]
    return CommandSensor(instance, dg.Definitions(assets=[features], jobs=jobs))


def test_a_command_runs_once_and_its_end_is_written_down(database, sensor, instance):
    command = asked(Kind.TRAIN, "vans")
    assert (command.state, command.run_id, command.finished_at) == (State.WAITING, None, None)
    assert sensor.tick() == "vans_retrain"
    assert sensor.tick() == "under way: train of vans"
    assert sensor.tick() == "nobody asked for anything"
    done = state_of(command)
    (run,) = instance.get_runs()
    assert (done.state, done.message, done.run_id) == (State.SUCCEEDED, "done", run.run_id)
    assert done.requested_at <= done.taken_at <= done.finished_at
    assert (run.tags[COMMAND_TAG], run.tags[CALLER_TAG]) == (command.id, "shop")


def test_a_quiet_tick_opens_no_instance_and_leaves_a_heartbeat(sensor, monkeypatch):
    def opened(_):
        raise AssertionError("Dagster's instance was opened")

    assert latest_beat_of_consumer() is None
    monkeypatch.setattr(dg.SensorEvaluationContext, "instance", property(opened))
    began = time.time()
    assert sensor.tick() == "nobody asked for anything"
    assert latest_beat_of_consumer().checked_at >= began


def test_a_request_that_got_lost_is_made_again_with_the_same_key(sensor, instance):
    command = asked(Kind.MATERIALIZE, "vans")
    sensor.tick(launch=False)
    assert state_of(command).state is State.WAITING
    assert sensor.tick() == "vans_materialize"
    sensor.tick()
    assert state_of(command).state is State.SUCCEEDED
    assert len(instance.get_runs()) == 1


def test_a_run_that_was_created_and_not_launched_is_asked_for_again(sensor, instance):
    command = asked(Kind.TRAIN, "vans")
    instance.create_run_for_job(
        sensor.definitions.resolve_job_def("vans_retrain"), tags={COMMAND_TAG: command.id}
    )
    assert sensor.tick(launch=False) == ""  # a request, which Dagster answers by launching that run
    assert state_of(command).state is State.RUNNING
    assert state_of(command).message == "its run waits for its turn"


def test_a_run_that_fails_leaves_its_cause(sensor, trouble):
    trouble.append("no rows in vans.csv")
    command = asked(Kind.TRAIN, "vans")
    sensor.tick()
    sensor.tick()
    assert state_of(command).state is State.FAILED
    assert "no rows in vans.csv" in state_of(command).message
    again = asked(Kind.TRAIN, "vans")
    sensor.tick()
    sensor.tick()
    assert state_of(again).state is State.SUCCEEDED


def test_a_run_that_somebody_terminates_ends_its_command(sensor, instance):
    command = asked(Kind.TRAIN, "vans")
    run = instance.create_run_for_job(
        sensor.definitions.resolve_job_def("vans_retrain"), tags={COMMAND_TAG: command.id}
    )
    instance.report_run_canceled(run)
    sensor.tick()
    assert (state_of(command).state, state_of(command).message) == (
        State.FAILED,
        "somebody terminated its run",
    )


def test_a_run_that_is_retried_keeps_its_command_open(sensor, instance):
    command = asked(Kind.TRAIN, "vans")
    job = sensor.definitions.resolve_job_def("vans_retrain")
    run = instance.create_run_for_job(job, tags={COMMAND_TAG: command.id, "dagster/will_retry": "true"})
    instance.report_run_failed(run)
    sensor.tick()
    assert state_of(command).state is State.RUNNING
    sensor.execute("vans_retrain", {}, {COMMAND_TAG: command.id})
    sensor.tick()
    assert state_of(command).state is State.SUCCEEDED


def test_a_run_that_was_deleted_ends_its_command(sensor, instance):
    command = asked(Kind.TRAIN, "vans")
    run = instance.create_run_for_job(
        sensor.definitions.resolve_job_def("vans_retrain"), tags={COMMAND_TAG: command.id}
    )
    sensor.tick(launch=False)
    instance.delete_run(run.run_id)
    assert sensor.tick() == "under way: train of vans"
    assert state_of(command).message == "its run was deleted from Dagster"


def test_a_forecast_that_is_not_declared_holds_nobody_up(sensor):
    lost, found = asked(Kind.TRAIN, "cars"), asked(Kind.TRAIN, "vans")
    assert sensor.tick() == "vans_retrain"
    assert state_of(lost).state is State.FAILED
    assert "there is no job cars_retrain" in state_of(lost).message
    sensor.tick()
    assert state_of(found).state is State.SUCCEEDED


@pytest.fixture
def rolling(instance: dg.DagsterInstance, fast) -> CommandSensor:
    """Over the flagship, of which two versions were published."""
    promote(1)
    promote(2, scale=1.5)
    return CommandSensor(instance, definitions(fast))


def back(version: int | None = None, generation: int = 2, caller: str = "eva"):
    return asked(
        Kind.ROLLBACK,
        FORECAST,
        caller,
        version=version,
        reason="errors grew",
        generation=generation,
    )


def test_a_roll_back_is_done_in_the_name_of_its_caller(database, rolling):
    command = back()
    assert rolling.tick() == "reservations_rollback"
    rolling.tick()
    assert read_pointer(FORECAST).version == 1
    done = state_of(command)
    assert (done.state, done.message) == (
        State.SUCCEEDED,
        "version 1 serves again instead of 2: errors grew",
    )
    (entry,) = entries("rollback")
    assert (entry.actor, entry.decision, entry.run_id) == ("eva", "restored", done.run_id)
    (request,) = entries("command")
    assert (request.actor, request.decision, request.evidence["command"]) == ("eva", "requested", command.id)
    moves = [one for one in rows(event_log) if one.name == "model-promoted"]
    assert [(one.data["version"], one.data["previous_version"]) for one in moves] == [
        (1, None),
        (2, 1),
        (1, 2),
    ]


def test_a_roll_back_that_was_decided_against_another_generation_is_refused(rolling):
    command = back()
    promote(3)
    rolling.tick()
    rolling.tick()
    assert read_pointer(FORECAST).version == 3
    assert state_of(command).state is State.REFUSED
    assert "another version was published meanwhile" in state_of(command).message
    assert state_of(command).message.endswith("version 3 serves, in generation 3")


def test_a_roll_back_to_what_was_never_published_is_refused(rolling):
    command = back(version=7)
    rolling.tick()
    rolling.tick()
    assert state_of(command).state is State.REFUSED
    assert "version 7 was never published" in state_of(command).message


def test_a_promotion_goes_to_the_job_of_a_version_that_is_tried(home):
    command = asked(Kind.PROMOTE, "vans", version=4, reason="it was better", generation=6)
    request = request_of(command)
    assert (request.job_name, request.run_key) == ("vans_promote_version", command.id)
    assert request.run_config["ops"] == {
        "promote_version_of_vans": {"config": {"version": 4, "reason": "it was better", "generation": 6}}
    }
