"""A further forecast is a folder of declarations and one of data, and nothing else."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dagster as dg
import duckdb
import pytest
from dagster.components.component_scaffolding import scaffold_object

from tests.support.project import ROOT, copy
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets import declaration, settings
from vroom_assets.champion.publication import prove
from vroom_assets.declaration import scaffold

DOCUMENT = ROOT / "docs" / "forecasts.md"
NAME = "trip_durations"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the shipped declarations and data, and a home elsewhere."""
    folder = tmp_path / "project"
    copy(folder, "vroom_assets/defs", "data/reservations")
    monkeypatch.setenv("VROOM_DEFS", str(folder / "vroom_assets" / "defs"))
    monkeypatch.setenv("VROOM_DATA", str(folder / "data"))
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
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
    folder = settings.defs_folder() / "deliveries"
    written = scaffold.write(folder.parent, folder.name)
    assert {path.name for path in written} == {"defs.yaml", "features.sql", "target.sql", "trips.csv"}
    spec = declaration.read(folder)
    declaration.check_parameters(folder, spec)
    assert spec.name == "deliveries"
    assert (project / "data" / spec.sources["trips"].path).is_file()
    assert schema_of(folder) == declaration.SCHEMA


@pytest.mark.parametrize("position", ["plain", "a blank", "größer als % und #"])
def test_an_editor_finds_the_schema_from_any_folder(project, monkeypatch, position):
    """From declarations outside of the project, the way to the schema names the folders of both."""
    schema = project.parent / position / "docs" / declaration.SCHEMA.name
    schema.parent.mkdir(parents=True)
    shutil.copy(declaration.SCHEMA, schema)
    monkeypatch.setattr(declaration, "SCHEMA", schema)
    scaffold.write(settings.defs_folder(), "deliveries")
    assert schema_of(settings.defs_folder() / "deliveries") == schema


def schema_of(folder: Path) -> Path:
    """What an editor reads of the first line: up to a blank, an address decoded, a way as it is."""
    named = re.search(r"\$schema=(\S+)", (folder / "defs.yaml").read_text())
    assert named
    if named[1].startswith("file:"):
        return Path(unquote(urlsplit(named[1]).path))
    return (folder / named[1]).resolve()


@pytest.mark.parametrize("name", ["Trips", "2fast", "a-b", "a b", "", "../escape", "dagster", "mlflow"])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(project, name):
    before = contents(project.parent)
    with pytest.raises(scaffold.CannotScaffold, match="use lower-case letters, digits and _"):
        scaffold.write(settings.defs_folder(), name)
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
    assert done.stderr.startswith("Nothing was written: '../escape' is not a valid name for a forecast")


@pytest.mark.parametrize("taken", ["vroom_assets/defs", "data"])
def test_a_name_that_is_taken_is_refused(project, taken):
    (project / taken / "trips").mkdir()
    (project / taken / "trips" / "file").touch()
    before = contents(project)
    with pytest.raises(scaffold.CannotScaffold, match="is there already; choose another name"):
        scaffold.write(settings.defs_folder(), "trips")
    assert contents(project) == before


def test_dagsters_own_scaffolding_writes_the_same(project):
    ours = contents_of(scaffold.write(settings.defs_folder(), "deliveries"))
    for part in (settings.defs_folder(), project / "data"):
        shutil.rmtree(part / "deliveries")
    folder = settings.defs_folder() / "deliveries"
    scaffold_object(folder, "vroom_assets.forecast.Forecast", None, "yaml", project)
    assert declaration.read(folder).name == "deliveries"
    assert contents_of(ours) == ours


def contents_of(files: Iterable[Path]) -> dict[Path, str]:
    return {file: file.read_text() for file in files}


def test_a_folder_that_is_new_is_found_by_the_code_location(project):
    from vroom_assets.definitions import defs

    scaffold.write(settings.defs_folder(), "deliveries")
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    assert "deliveries_retrain" in {job.name for job in loaded.resolve_all_job_defs()}
