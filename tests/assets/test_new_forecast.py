"""A further forecast is a folder of declarations and one of data, and nothing else."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster.components.component_scaffolding import scaffold_object

from tests.conftest import ROOT
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets import declaration, scaffold
from vroom_assets.bundle import prove

DOCUMENT = ROOT / "docs" / "forecasts.md"
NAME = "trip_durations"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the shipped declarations and data, and a home elsewhere."""
    folder = tmp_path / "project"
    for part in ("vroom_assets/defs", "data/reservations"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("VROOM_DEFS", str(folder / "vroom_assets" / "defs"))
    monkeypatch.setenv("VROOM_DATA", str(folder / "data"))
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    for name in ("VROOM_DATABASE_URL", "MLFLOW_TRACKING_URI", "DAGSTER_HOME", "VROOM_FORECAST"):
        monkeypatch.delenv(name, raising=False)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tutorial() -> str:
    """The commands of the document's tutorial, in order."""
    text = DOCUMENT.read_text().partition("# Tutorial")[2].partition("\n# ")[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@pytest.mark.slow
def test_the_tutorial_ends_with_a_champion_and_touches_declarations_and_data_only(project):
    before = contents(project)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tutorial()],
        cwd=project,
        env=dict(os.environ) | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    after = contents(project)
    changed = sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
    assert changed == [
        f"data/{NAME}/trips.csv",
        f"vroom_assets/defs/{NAME}/defs.yaml",
        f"vroom_assets/defs/{NAME}/features.sql",
        f"vroom_assets/defs/{NAME}/target.sql",
    ]
    pointer = read_pointer(NAME)
    assert pointer is not None
    bundle = read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256)
    prove(bundle)
    assert [field.name for field in bundle.manifest.inputs] == ["distance", "rush_hour"]
    assert bundle.manifest.metrics["nested_mae"] < 0.3 * bundle.manifest.metrics["mean_mae"]
    with duckdb.connect(project.parent / "home" / NAME / "warehouse.duckdb", read_only=True) as warehouse:
        scored = warehouse.execute("select distinct candidate from cv_metrics").fetchall()
    assert ("with_short",) in scored


def test_what_is_new_is_sound_as_it_is(project):
    folder = declaration.defs_folder() / "deliveries"
    written = scaffold.write(folder.parent, folder.name)
    assert {path.name for path in written} == {"defs.yaml", "features.sql", "target.sql", "trips.csv"}
    spec = declaration.read(folder)
    declaration.check_parameters(folder, spec)
    assert spec.name == "deliveries"
    assert (project / "data" / spec.sources["trips"].path).is_file()
    named = re.search(r"\$schema=(\S+)", (folder / "defs.yaml").read_text())
    assert named
    assert (folder / named[1]).resolve() == declaration.SCHEMA


@pytest.mark.parametrize("name", ["Trips", "2fast", "a-b", "a b", "", "../escape", "dagster", "mlflow"])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(project, name):
    before = contents(project.parent)
    with pytest.raises(scaffold.CannotScaffold, match="use lower-case letters, digits and _"):
        scaffold.write(declaration.defs_folder(), name)
    assert contents(project.parent) == before


def test_the_command_refuses_with_an_exit_code_and_without_a_stack(project):
    done = subprocess.run(
        [sys.executable, "-m", "vroom_assets", "new", "../escape"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Nothing was written: '../escape' is no name for a forecast")


@pytest.mark.parametrize("taken", ["vroom_assets/defs", "data"])
def test_a_name_that_is_taken_is_refused(project, taken):
    (project / taken / "trips").mkdir()
    (project / taken / "trips" / "file").touch()
    before = contents(project)
    with pytest.raises(scaffold.CannotScaffold, match="is there already; choose another name"):
        scaffold.write(declaration.defs_folder(), "trips")
    assert contents(project) == before


def test_dagsters_own_scaffolding_writes_the_same(project):
    scaffold.write(declaration.defs_folder(), "one")
    two = declaration.defs_folder() / "two"
    scaffold_object(two, "vroom_assets.forecast.Forecast", None, "yaml", project)
    assert declaration.read(two).name == "two"
    for file in ("defs.yaml", "features.sql", "target.sql"):
        assert (two / file).read_text() == (two.parent / "one" / file).read_text().replace(
            "one/", "two/"
        ).replace("name: one", "name: two").replace("check one", "check two")


def test_a_folder_that_is_new_is_found_by_the_code_location(project):
    from vroom_assets.definitions import defs

    scaffold.write(declaration.defs_folder(), "deliveries")
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    assert "deliveries_retrain" in {job.name for job in loaded.resolve_all_job_defs()}
