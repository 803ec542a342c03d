"""SIGKILL of a training at every stage: the champion stays, the rerun succeeds, nothing claims to be running."""

import os
import signal
from pathlib import Path

import dagster as dg
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tests.support.doomed import NAME, STAGES, train
from tests.support.forecasts import entries
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets import settings, tracking
from vroom_assets.champion.publication import prove


@pytest.fixture
def system(home: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> Path:
    """A champion trained by a process of its own, and then newer data."""
    from vroom_assets.supervisor import prepare_home

    prepare_home()
    assert train() == 0
    path = data / "vehicles.csv"
    path.write_text(path.read_text().replace(",", ", ", 1))
    return home


@pytest.mark.slow
def test_a_killed_training_leaves_the_champion_and_the_rerun_heals_everything(system):
    """One story through all stages; each kill happens on top of what the kills before left behind."""
    from vroom_assets.supervisor import fail_abandoned_runs

    for stage, function in STAGES.items():
        before = read_pointer(NAME)
        assert train(function) == -signal.SIGKILL, stage
        after = read_pointer(NAME)
        assert after is not None
        if "pointer moved" not in stage:
            assert after == before, stage
        prove(read_bundle(bundle_folder(NAME, after.version), after.manifest_sha256))

        assert fail_abandoned_runs() == 1, stage
        with dg.DagsterInstance.get() as instance:
            (killed,) = instance.get_runs(limit=1)
            assert killed.status is dg.DagsterRunStatus.FAILURE
        tracking.close_orphans(NAME, killed.run_id, "its Dagster run died")
        client = MlflowClient(settings.tracking_uri())
        experiment = client.get_experiment_by_name(NAME)
        mine = client.search_runs([experiment.experiment_id], f"tags.dagster_run_id = '{killed.run_id}'")
        mine = [run for run in mine if MLFLOW_PARENT_RUN_ID not in run.data.tags]
        trained = stage.startswith(("the contest", "the bundle", "the pointer"))
        assert [run.info.status for run in mine] in ([], ["FINISHED" if trained else "FAILED"]), stage

    assert train() == 0
    pointer = read_pointer(NAME)
    assert pointer is not None
    prove(read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256))
    client = MlflowClient(settings.tracking_uri())
    assert int(client.get_model_version_by_alias(NAME, "champion").version) == pointer.version
    statuses = {
        run.info.status for run in client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    }
    assert "RUNNING" not in statuses
    assert entries("champion")[-1].evidence["version"] == pointer.version
    assert not [name for name in os.listdir(system / NAME / "champions") if name.startswith(".")]
