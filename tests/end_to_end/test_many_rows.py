"""More rows than a decision needs: a race of samples through the graph, and a champion that is as good as it says."""

import runpy
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pytest

from tests.support import environment
from tests.support.forecasts import definitions, entries, shipped
from tests.support.project import ROOT
from vroom_api.contract import Bundle
from vroom_api.contract.events import Decision
from vroom_api.contract.model import open_model, score
from vroom_api.contract.store import LocalStore
from vroom_assets.resources import warehouse_path

NAME, VEHICLES = "reservations", 24_000
GENERATOR = runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))
FOREST = {
    "family": "forest",
    "features": ["technology", "num_images", "log_price_ratio"],
    "parameters": {"n_estimators": 15, "min_samples_leaf": 20},
}
BLIND = {"family": "poisson_glm", "features": ["street_parked"]}
ONCE = {"folds": 3, "repeats": 1, "inner_folds": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the forecast was trained on many vehicles, twice: the second challenger is a GLM."""
    folder = tmp_path_factory.mktemp("many")
    GENERATOR["generate"](folder / "data" / NAME, vehicles=VEHICLES)
    glm = shipped(NAME).candidates["glm"]
    first = shipped(NAME, candidates={"forest": FOREST, "blind": BLIND}, validation=ONCE)
    second = shipped(NAME, candidates={"glm": glm, "blind": BLIND}, validation=ONCE)
    folders = {"VROOM_HOME": str(folder / "home"), "VROOM_DATA": str(folder / "data")}
    with environment.of_its_own(**folders), dg.DagsterInstance.ephemeral() as instance:
        for spec in (first, second):
            job = definitions(spec).resolve_job_def(f"{NAME}_retrain")
            assert job.execute_in_process(instance=instance).success
        yield folder / "home"


@pytest.fixture
def bundle(home: Path) -> Bundle:
    store = LocalStore(home)
    pointer = store.pointer(NAME)
    assert pointer is not None
    return store.read(NAME, pointer.version, pointer.manifest_sha256)


def test_the_bundle_says_on_how_many_rows_it_was_decided(bundle):
    assert bundle.manifest.rows == VEHICLES
    assert bundle.manifest.recipe.name == "forest"
    assert bundle.manifest.scores.why.endswith(
        f"{VEHICLES:,} of {VEHICLES:,} rows decided: there are no more"
    )


def test_its_error_is_that_of_vehicles_it_has_never_seen(bundle):
    drawn = GENERATOR["draw"](20_000, np.random.default_rng(99))
    inputs = np.stack([drawn[field.name] for field in bundle.manifest.inputs], axis=1).astype(float)
    predicted, _ = score(open_model(bundle.model), inputs)
    error = float(np.abs(predicted - drawn["reservations"]).mean())
    assert bundle.manifest.scores.nested["mae"] == pytest.approx(error, rel=0.03)
    assert bundle.manifest.calibration.coverage["overall"] == pytest.approx(0.91, abs=0.03)


def test_who_was_dropped_stays_among_the_scores(home, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(home))
    with duckdb.connect(str(warehouse_path(NAME)), read_only=True) as connection:
        scored = connection.execute("select distinct candidate from cv_metrics order by 1").fetchall()
        kept = connection.execute("select distinct candidate from out_of_fold order by 1").fetchall()
    assert scored == [("blind",), ("glm",), ("mean",), ("median",)]
    assert kept == [("glm",), ("mean",), ("median",)]


def test_the_contest_is_held_on_them_too(home, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(home))
    decided = [entry for entry in entries() if entry.event == "contest"]
    assert [entry.decision for entry in decided] == [Decision.PROMOTE, Decision.HOLD]
    assert "not proved better" in decided[-1].reason
    assert decided[-1].evidence["comparison"]["rows"] == VEHICLES
