"""A disk that is full at a stage of a training: what served serves, nothing half-written is seen, and room heals all."""

import os
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from mlflow import MlflowClient

from tests.support.doomed import BALLAST, NAME, STAGES, disk_full, half_written, train
from tests.support.forecasts import entries
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets import settings
from vroom_assets.champion.publication import prove
from vroom_assets.resources import warehouse_path
from vroom_assets.run_workers import WatchedRunLauncher
from vroom_assets.supervisor import fail_abandoned_runs, prepare_home


@pytest.fixture
def system(small_disk: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on a disk of its own, with a champion, and then newer data."""
    monkeypatch.setenv("VROOM_HOME", str(small_disk / "home"))
    monkeypatch.setenv(BALLAST, str(small_disk / "ballast"))
    (small_disk / "home").mkdir()
    prepare_home()
    assert train() == 0
    path = data / "vehicles.csv"
    path.write_text(path.read_text().replace(",", ", ", 1))
    return small_disk / "home"


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [256], indirect=True)
def test_a_disk_that_fills_up_fails_the_run_and_nothing_else(system):
    """One story through all stages; each fault happens on top of what those before left behind."""
    with dg.DagsterInstance.get() as instance:  # the daemon's, which was started while there was room
        for stage, function in STAGES.items():
            before = read_pointer(NAME)
            assert train(function, disk_full) == 1, stage
            after = read_pointer(NAME)
            assert after is not None
            if "pointer moved" not in stage:
                assert after == before, stage
            prove(read_bundle(bundle_folder(NAME, after.version), after.manifest_sha256))
            (run,) = instance.get_runs(limit=1)
            if (
                run.status is not dg.DagsterRunStatus.FAILURE
            ):  # there was no room to write down that it failed
                health = WatchedRunLauncher().check_run_worker_health(run)
                assert health.status.value == "FAILED", stage
                assert f"as the disk of {system} is full" in str(health.msg), stage
            Path(os.environ[BALLAST]).unlink()
            fail_abandoned_runs()
            assert half_written(system) == [], stage
            with duckdb.connect(str(warehouse_path(NAME)), read_only=True) as connection:
                [(rows,)] = connection.execute("select count(*) from features").fetchall()
            assert rows == 1000, stage

    assert train() == 0
    pointer = read_pointer(NAME)
    assert pointer is not None
    prove(read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256))
    champion = MlflowClient(settings.tracking_uri()).get_model_version_by_alias(NAME, "champion")
    assert int(champion.version) == pointer.version
    assert entries("champion")[-1].evidence["version"] == pointer.version


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [60], indirect=True)
def test_a_disk_without_room_for_a_run_is_named_before_it_begins(small_disk, data, monkeypatch):
    """The message is in the event log, as there still is room for that."""
    monkeypatch.setenv("VROOM_HOME", str(small_disk / "home"))
    prepare_home()
    assert train() == 1
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(limit=1)
        assert run.status is dg.DagsterRunStatus.FAILURE
        failed = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    (message,) = [
        str(entry.dagster_event.event_specific_data.user_failure_data.description) for entry in failed
    ]
    assert "may need 64 MB of the disk of" in message
    assert "VROOM_HOME" in message
    assert not (small_disk / "home" / NAME / "warehouse.duckdb").exists()
