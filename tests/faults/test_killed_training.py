"""SIGKILL of a training at every stage: the champion stays, the rerun succeeds, nothing claims to be running."""

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tests.support.forecasts import definitions, entries, shipped
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets import settings, tracking
from vroom_assets.champion.publication import prove
from vroom_assets.spec import ForecastSpec

NAME = "reservations"

# Each stage is a function of the machinery; the training kills itself when it gets there.
STAGES = {
    "a table is being replaced": "vroom_assets.sources.table._replace_table",
    "features are being computed": "vroom_assets.features.table._refuse_bad_rows",
    "candidates are being scored": "vroom_assets.training.search.choose",
    "the version is registered, its bundle is not": "vroom_assets.champion.publication.write",
    "scores are being written": "vroom_assets.training.summary.write_search",
    "the contest is being held": "vroom_assets.champion.contest.compare",
    "the bundle is being proved": "vroom_assets.champion.publication.prove",
    "the bundle is in its place": "vroom_api.contract.store.LocalStore.read",
    "the pointer is about to move": "vroom_assets.champion.publication._point",
    "the pointer moved, the alias did not": "vroom_assets.tracking.Registry.set_alias",
}


def fast_declaration() -> ForecastSpec:
    """The fast flagship, for a process that has no fixtures."""
    whole = shipped(NAME)
    return shipped(
        NAME,
        candidates={"glm": whole.candidates["glm"]},
        validation={"folds": 3, "repeats": 1, "inner_folds": 2},
    )


PRELOADED = [
    "dagster",
    "mlflow",
    "mlflow.onnx",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "sklearn.ensemble",
    "duckdb",
    "onnxruntime",
    "vroom_assets.definitions",
]


def execute(stage: str, environment: dict[str, str]) -> None:
    """Run in a process of its own: train, and die where `stage` says."""
    os.environ.update(environment)
    if stage:
        module, _, name = stage.rpartition(".")
        owner: Any
        try:
            owner = importlib.import_module(module)
        except ModuleNotFoundError:
            outer, _, inner = module.rpartition(".")
            owner = getattr(importlib.import_module(outer), inner)
        getattr(owner, name)  # else the stage was renamed, and nothing would be killed
        setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with dg.DagsterInstance.get() as instance:
        job = definitions(fast_declaration()).resolve_job_def(f"{NAME}_retrain")
        sys.exit(0 if job.execute_in_process(instance=instance, raise_on_error=False).success else 1)


def train(stage: str = "") -> int | None:
    """The exit code of a training in a process that has everything imported already."""
    names = ("VROOM_HOME", "VROOM_DATA", "DAGSTER_HOME")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=execute, args=(stage, {name: os.environ[name] for name in names}))
    process.start()
    process.join(120)
    return process.exitcode


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
