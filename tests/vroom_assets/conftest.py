"""The flagship's declaration, whole and in a fast version, and its graph on a real Dagster instance."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster.components.core.defs_module import ComponentPath

from tests.support.project import ROOT
from vroom_api.contract.tables import ledger, serving_database
from vroom_assets import resources, tracking
from vroom_assets.declaration.rules import contradictions
from vroom_assets.forecast import Forecast, failures
from vroom_assets.ledger import Ledger
from vroom_assets.spec import ForecastSpec

FOLDER = ROOT / "vroom_assets" / "defs" / "reservations"


@pytest.fixture(scope="session")
def spec() -> Forecast:
    """`reservations` as it is shipped."""
    return Forecast(
        **yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"],
        features_sql=(FOLDER / "features.sql").read_text(),
        target_sql=(FOLDER / "target.sql").read_text(),
    )


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


def contradictions_of(spec: ForecastSpec) -> str:
    """What the fields of a declaration say against each other, a line each."""
    return "\n".join(f"{field}: {message}" for field, message in contradictions(spec, spec.name))


def definitions(spec: Forecast) -> dg.Definitions:
    """One forecast with the resources of the code location."""
    context = dg.ComponentTree.for_test().load_context.for_component_loc(ComponentPath.from_path(FOLDER))
    return dg.Definitions.merge(
        spec.build_defs(context),
        dg.Definitions(
            executor=dg.in_process_executor,
            resources={
                "warehouse": resources.Warehouse(),
                "registry": tracking.Registry(),
                "ledger": Ledger(),
                "mlflow": tracking.tracked_training,
            },
            sensors=[failures.report_failures],
        ),
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
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as one:
        patch.setenv("VROOM_HOME", str(folder))
        patch.setenv("VROOM_DATA", str(ROOT / "data"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        job = definitions(fast).resolve_job_def("reservations_retrain")
        assert job.execute_in_process(instance=one).success
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
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


def entries(event: str | None = None) -> list[sa.Row]:
    """The ledger, oldest first."""
    with serving_database() as engine, engine.connect() as connection:
        query = sa.select(ledger).order_by(ledger.c.id)
        return list(connection.execute(query.where(ledger.c.event == event) if event else query))
