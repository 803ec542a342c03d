"""The flagship's declaration, whole and in a fast version, and its graph on a real Dagster instance."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support.forecasts import definitions, shipped, train
from tests.support.project import ROOT
from tests.support.shared import made_once
from vroom_assets.forecast import Forecast


@pytest.fixture(scope="session")
def spec() -> Forecast:
    """`reservations` as it is shipped."""
    return shipped("reservations")


@pytest.fixture(scope="session")
def fast(spec: Forecast) -> Forecast:
    """The same with two quick candidates and few folds."""
    lean = spec.candidates["lean_forest"]
    return spec.model_copy(
        update={
            "candidates": {
                "lean_forest": lean.model_copy(update={"parameters": lean.parameters | {"n_estimators": 15}}),
                "glm": spec.candidates["glm"],
            },
            "validation": spec.validation.model_copy(update={"folds": 3, "repeats": 1, "inner_folds": 2}),
        }
    )


def instance_in(folder: Path) -> dg.DagsterInstance:
    """A Dagster instance on disk, with the storage that it has in a home."""
    own = {
        "module": "vroom_assets.storage",
        "class": "OpenSqliteStorage",
        "config": {"base_dir": str(folder)},
    }
    return dg.DagsterInstance.local_temp(str(folder), overrides={"storage": {"custom": own}})


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an instance that has its tables and nothing in them; tests take copies of it."""

    def make(folder: Path) -> None:
        with instance_in(folder) as one:
            one.get_runs(limit=1)
            one.all_instigator_state()
            one.fetch_observations(dg.AssetKey("none"), limit=1)

    return made_once(tmp_path_factory, "empty_instance", make)


@pytest.fixture
def instance(home: Path, empty_instance: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own, on disk."""
    shutil.copytree(empty_instance, home / "dagster")
    with instance_in(home / "dagster") as one:
        yield one


@pytest.fixture(scope="session")
def first_champion(tmp_path_factory: pytest.TempPathFactory, fast: Forecast) -> Path:
    """A home in which the fast forecast was trained once; tests take copies of it."""
    return made_once(tmp_path_factory, "first_champion", lambda home: train(fast, home, ROOT / "data"))


@pytest.fixture
def trained(home: Path, first_champion: Path) -> Path:
    """A home that has a champion, version 1."""
    shutil.copytree(first_champion, home, dirs_exist_ok=True)
    return home


Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(instance: dg.DagsterInstance, fast: Forecast) -> Run:
    """Execute a job of the fast forecast by the name of its stage."""

    def execute(
        stage: str = "retrain", spec: Forecast = fast, **options: object
    ) -> dg.ExecuteInProcessResult:
        job = definitions(spec).resolve_job_def(f"{spec.name}_{stage}")
        return job.execute_in_process(instance=instance, raise_on_error=False, **options)  # type: ignore[arg-type]

    return execute
