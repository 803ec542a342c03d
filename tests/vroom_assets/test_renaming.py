"""A forecast that is renamed keeps its champion, its record, its ledger and its registry."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support import project
from tests.support.bundles import EXAMPLE, publish
from tests.support.flagship import Run
from tests.support.forecasts import entries
from tests.support.project import ROOT
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import former_names, read_pointer
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.commands import Kind
from vroom_api.contract.tables import serving_database
from vroom_api.record.commands import ask
from vroom_assets import declaration, renaming, settings, tracking
from vroom_assets.__main__ import main
from vroom_assets.forecast import Forecast

OLD, NEW = "reservations", "bookings_of_cars"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vroom_assets", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def here(*arguments: str) -> int:
    """The command in this process, so only once in a home, whose lock it keeps; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()


def killed_after(steps: int) -> None:
    """Rename, and die like a process that is killed when so many steps are done."""
    own = {name: value for name, value in os.environ.items() if name.startswith("VROOM_")}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=rename_and_die, args=(steps, own))
    process.start()
    process.join(120)
    assert process.exitcode == 9


def rename_and_die(steps: int, environment: dict[str, str]) -> None:
    """Run in a process of its own."""
    os.environ.update(environment)
    renaming.STEPS = (*renaming.STEPS[:steps], lambda *_: os._exit(9))
    here("rename", OLD, NEW)


@pytest.fixture
def declared(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The declarations in a folder of the test's own."""
    project.copy(home.parent, "vroom_assets/defs")
    folder = home.parent / "vroom_assets" / "defs"
    monkeypatch.setenv("VROOM_DEFS", str(folder))
    monkeypatch.setenv("VROOM_FORECAST", OLD)
    return folder


def service(home: Path, forecast: str) -> TestClient[Any]:
    return TestClient(create_app(settings_of(home, record=True, forecast=forecast)))


@pytest.fixture
def recorded(trained: Path, declared: Path) -> str:
    """The id of a prediction of the trained home, whose outcome is known."""
    with service(trained, OLD) as client:
        example = client.get(f"/forecasts/{OLD}").json()["example"]
        identifier: str = client.post("/predict", json=example).json()["prediction_id"]
        assert client.post("/outcomes", json={"prediction_id": identifier, "value": 3}).status_code == 200
        assert client.post("/vehicles", json=example | {"vehicle_id": "van"}).status_code == 201
    with serving_database() as engine:
        for name in (OLD, NEW):  # of the new name there may be one already, e.g. of its declaration
            raise_alert(engine, forecast=name, kind="decay", severity=Severity.WARNING, message="m")
        ask(engine, OLD, Kind.TRAIN, "shop", {})
    return identifier


def assert_renamed(home: Path, identifier: str) -> None:
    with service(home, NEW) as client:
        (listed,) = client.get("/forecasts").json()
        assert (listed["name"], listed["status"], listed["model_version"]) == (NEW, "ok", 1)
        example = client.get(f"/forecasts/{NEW}").json()["example"]
        asked = client.post(f"/forecasts/{NEW}/predict", json=example).json()["prediction_id"]
        for one in (identifier, asked):
            lineage = client.get(f"/predictions/{one}")
            assert lineage.status_code == 200, lineage.text
            assert lineage.json()["prediction"]["forecast"] == NEW
        assert client.get(f"/performance?forecast={NEW}").json()["all"]["outcomes"] == 1
        assert client.get(f"/performance?forecast={OLD}").status_code == 404
        assert client.get("/vehicles/van").json()["source"] == "service"
        assert client.post("/predict/id", json={"vehicle_id": "van"}).status_code == 200
        found = client.get("/alerts?which=all&kind=decay").json()["alerts"]
        assert [(one["forecast"], one["resolved_at"] is None) for one in found] == [(NEW, True), (NEW, False)]
        (command,) = client.get("/commands").json()["commands"]
        assert (command["forecast"], command["kind"]) == (NEW, "train")
        assert client.get(f"/events?forecast={OLD}").status_code == 404
        heard = client.get(f"/forecasts/{NEW}/events?after=0&wait=0&topic=alerts").text
        assert heard.count("event: alert-opened") == 2
        told = client.get("/ledger?limit=100").json()["entries"]
    assert {entry["forecast"] for entry in told} == {NEW}
    assert [entry["decision"] for entry in told if entry["event"] == "renaming"] == ["renamed"]
    assert not (home / OLD).exists()
    assert not (home / renaming.UNFINISHED).exists()
    assert former_names(NEW) == (OLD,)
    registry = tracking.Registry()
    assert (registry.version_of(NEW, "champion"), registry.version_of(OLD, "champion")) == (1, None)
    manifest, _ = registry.challenger(NEW)  # downloaded from where the artifacts are now
    assert (manifest.forecast, manifest.version) == (NEW, 1)
    client = tracking.connect()
    experiment = client.get_experiment_by_name(NEW)
    assert experiment is not None
    assert experiment.artifact_location.endswith(f"/mlflow/artifacts/{NEW}")
    assert client.get_experiment_by_name(OLD) is None
    assert not (settings.defs_folder() / OLD).exists()
    assert not (settings.data_folder() / OLD).exists()
    spec = declaration.read(settings.defs_folder() / NEW)
    assert spec.name == NEW
    assert all((settings.data_folder() / source.path).is_file() for source in spec.sources.values())


@pytest.mark.slow
def test_all_that_a_forecast_has_goes_along_and_it_is_trained_on(
    trained: Path, recorded: str, run: Run, fast: Forecast
) -> None:
    before = (settings.defs_folder() / OLD / "defs.yaml").read_text()
    done = command("rename", OLD, NEW)
    assert done.returncode == 0, done.stderr
    assert f"set VROOM_FORECAST={NEW}" in done.stdout
    assert_renamed(trained, recorded)
    changed = before.replace(f"name: {OLD}\n  title", f"name: {NEW}\n  title")
    assert (settings.defs_folder() / NEW / "defs.yaml").read_text() == changed.replace(
        f"path: {OLD}/", f"path: {NEW}/"
    )
    assert command("check", NEW).returncode == 0
    sources = {
        name: source.model_copy(update={"path": source.path.replace(f"{OLD}/", f"{NEW}/")})
        for name, source in fast.sources.items()
    }
    assert run("retrain", fast.model_copy(update={"name": NEW, "sources": sources})).success
    registered = [entry.evidence["version"] for entry in entries("training")]
    assert registered == [1, 2]
    pointer = read_pointer(NEW)
    assert pointer is not None
    with service(trained, NEW) as client:
        assert client.get("/health").json()["model_version"] == pointer.version
    assert not (trained / OLD).exists()


@pytest.mark.parametrize("done", range(len(renaming.STEPS) + 1))
@pytest.mark.slow
def test_what_was_interrupted_goes_on_by_the_same_command(trained: Path, recorded: str, done: int) -> None:
    killed_after(done)
    if done == 3:
        for other in (("materialize",), (), ("rename", OLD, "another")):
            refused = command(*other)
            assert refused.returncode == 2
            assert f"{OLD} is half renamed to {NEW}, since " in refused.stderr
            assert f"run `python -m vroom_assets rename {OLD} {NEW}`, which finishes it" in refused.stderr
    assert here("rename", OLD, NEW) == 0
    assert_renamed(trained, recorded)


def test_a_forecast_that_was_renamed_twice_still_serves(home: Path, declared: Path) -> None:
    publish(home, 1)
    renaming.rename(home, OLD, NEW)
    renaming.rename(home, NEW, "a_third")
    assert former_names("a_third") == (OLD, NEW)
    with service(home, "a_third") as client:
        assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_a_declaration_that_was_renamed_by_hand_gets_its_champion_back(home: Path, declared: Path) -> None:
    publish(home, 1)
    (declared / OLD).rename(declared / NEW)
    file = declared / NEW / "defs.yaml"
    file.write_text(file.read_text().replace(f"name: {OLD}\n", f"name: {NEW}\n", 1))
    assert command("rename", OLD, NEW).returncode == 0
    assert declaration.read(declared / NEW).sources["vehicles"].path == f"{NEW}/vehicles.csv"
    with service(home, NEW) as client:
        assert client.get("/health").json()["status"] == "ok"


def test_data_that_another_forecast_reads_stay(home: Path, declared: Path) -> None:
    other = declared / "lap_times" / "defs.yaml"
    other.write_text(other.read_text().replace("path: lap_times/laps.csv", f"path: {OLD}/vehicles.csv"))
    publish(home, 1)
    assert f"{settings.data_folder() / OLD} stays where it is" in command("rename", OLD, NEW).stdout
    assert declaration.read(declared / NEW).sources["vehicles"].path == f"{OLD}/vehicles.csv"


def taken_in_home(home: Path) -> str:
    publish(home, 1)
    shutil.copytree(home / OLD, home / NEW)
    return f"{home / NEW} is there already"


def taken_in_defs(home: Path) -> str:
    shutil.copytree(settings.defs_folder() / OLD, settings.defs_folder() / NEW)
    return f"{settings.defs_folder() / NEW} is there already"


def taken_in_data(home: Path) -> str:
    (settings.data_folder() / NEW).mkdir()
    return f"{settings.data_folder() / NEW} is there already"


def taken_in_the_record(home: Path) -> str:
    publish(home, 1)
    with service(home, OLD) as client:
        outcome = {"forecast": OLD, "entity_id": "7", "period": "2026", "value": 1}
        assert client.post("/outcomes", json=outcome).status_code == 200
    renaming.rename(home, OLD, NEW)
    shutil.move(home / NEW, home / OLD)
    shutil.move(settings.defs_folder() / NEW, settings.defs_folder() / OLD)
    shutil.move(settings.data_folder() / NEW, settings.data_folder() / OLD)
    return f"the serving database has entries of {NEW} (outcomes, ledger)"


@pytest.mark.parametrize("taken", [taken_in_home, taken_in_defs, taken_in_data, taken_in_the_record])
def test_a_name_that_is_taken_is_refused_and_nothing_changes(
    home: Path, declared: Path, capsys: pytest.CaptureFixture[str], taken: Callable[[Path], str]
) -> None:
    why = taken(home)
    before = files_of(home.parent)
    assert here("rename", OLD, NEW) == 2
    refusal = capsys.readouterr().err
    assert "Nothing was renamed: " in refusal
    assert why in refusal
    assert files_of(home.parent) == before


def test_a_name_that_mlflow_has_is_refused(
    trained: Path, recorded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking.connect().create_registered_model(NEW)
    assert here("rename", OLD, NEW) == 2
    assert f"MLflow has a registered model '{NEW}'" in capsys.readouterr().err
    assert (trained / OLD).is_dir()


def files_of(folder: Path) -> set[str]:
    passing = ("serving.db", "home/dagster", ".vroom.lock", "home/mlflow")
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {name for name in names if not any(part in name for part in passing)}


@pytest.mark.parametrize(
    ("former", "present", "why"),
    [
        (OLD, "Bookings", "'Bookings' is not a valid name for a forecast"),
        (OLD, "../x", "'../x' is not a valid name for a forecast"),
        (OLD, "mlflow", "'mlflow' is not a valid name for a forecast"),
        (OLD, OLD, f"{OLD} has this name already"),
        ("nothing_here", NEW, "there is no forecast 'nothing_here'"),
        ("../home", NEW, "there is no forecast '../home'"),
        ("dagster", NEW, "there is no forecast 'dagster'"),
    ],
)
def test_what_cannot_be_renamed_is_refused(
    home: Path,
    declared: Path,
    capsys: pytest.CaptureFixture[str],
    former: str,
    present: str,
    why: str,
) -> None:
    assert here("rename", former, present) == 2
    assert why in capsys.readouterr().err


@pytest.fixture
def running(home: Path) -> Iterator[None]:
    """Another process that holds the home."""
    script = (
        "import sys, pathlib; from vroom_assets.home_lock import hold; "
        "hold(pathlib.Path(sys.argv[1]), 'make run'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


def test_nothing_is_renamed_while_the_system_runs(home: Path, declared: Path, running: None) -> None:
    publish(home, 1)
    refused = command("rename", OLD, NEW)
    assert refused.returncode == 2
    assert f"the home {home} is in use by process" in refused.stderr
    assert (home / OLD).is_dir()
