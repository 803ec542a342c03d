"""Dagster's daemon as the supervisor starts it."""

import logging
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon import sensor as sensor_daemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._grpc import server_watcher

from vroom_assets import dagster_daemon

DEFINITIONS = """
import dagster as dg

@dg.sensor(target="*", minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def ticking():
    yield dg.SkipReason("it ticked")

@dg.asset
def one(): ...

defs = dg.Definitions(assets=[one], sensors=[ticking])
"""


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `main` changes, for the length of a test."""
    for module, name in (
        (server_watcher, "WATCH_INTERVAL"),
        (server_watcher, "MAX_RECONNECT_ATTEMPTS"),
        (sensor_daemon, "get_elapsed"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    dagster_daemon.settle()
    dagster_daemon.tick_after_the_clock_was_set_back()


def test_a_sensor_ticks_although_the_clock_was_set_back(
    settled, tmp_path: Path, instance: dg.DagsterInstance
):
    file = tmp_path / "definitions.py"
    file.write_text(DEFINITIONS)
    target = PythonFileTarget(str(file), None, str(tmp_path), "here")
    with WorkspaceProcessContext(instance, target) as workspace:
        (location,) = workspace.create_request_context().code_locations
        (sensor,) = next(iter(location.get_repositories().values())).get_sensors()

        def ticks() -> int:
            list(execute_sensor_iteration(workspace, logging.getLogger("none"), None, None))
            return len(instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id))

        assert ticks() == 1
        assert ticks() == 1  # ten seconds have not gone by
        (state,) = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        ahead = time.time() + 3600
        data = SensorInstigatorData(
            last_tick_timestamp=ahead,
            last_tick_start_timestamp=ahead,
            last_tick_success_timestamp=ahead,
            min_interval=10,
        )
        instance.update_instigator_state(state.with_data(data))
        assert ticks() == 2
        assert isinstance(state, InstigatorState)
        assert state.status is InstigatorStatus.DECLARED_IN_CODE


def test_the_code_server_is_asked_less_often_and_is_gone_as_soon_as_before(settled):
    seconds = server_watcher.WATCH_INTERVAL * server_watcher.MAX_RECONNECT_ATTEMPTS
    assert server_watcher.WATCH_INTERVAL == 5
    assert seconds <= 15
