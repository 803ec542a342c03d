"""The flagship's declaration, whole and in a fast version, and its graph on a real Dagster instance."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support.forecasts import definitions, shipped, train
from tests.support.project import ROOT
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


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own, on disk."""
    (home / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as one:
        yield one


@pytest.fixture(scope="session")
def first_champion(tmp_path_factory: pytest.TempPathFactory, fast: Forecast) -> Path:
    """A home in which the fast forecast was trained once; tests take copies of it."""
    folder = tmp_path_factory.mktemp("trained") / "home"
    train(fast, folder, ROOT / "data")
    return folder


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
