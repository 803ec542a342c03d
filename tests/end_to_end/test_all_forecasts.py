"""All shipped forecasts under one roof: `make run FORECAST=...` trains one, the sensors train the others."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import httpx
import pytest

from tests.support.project import copy
from tests.support.system import System, wait
from vroom_api.champion.stored_inputs import Entities
from vroom_api.contract import bundle_folder, read_pointer
from vroom_api.contract.entities import ENTITIES

pytestmark = pytest.mark.slow

FORECASTS = ("lap_times", "market_resolution", "reservations", "upcoming_reservations")
FLAGSHIP = "upcoming_reservations"  # of this start
STAGES = ("features", "cv_metrics", "challenger", "contest", "champion")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("all")
    copy(folder, "data")
    one = System(folder, forecast=FLAGSHIP)
    copy(one.project, "vroom_assets", "vroom_api", "pyproject.toml", "workspace.yaml")
    one.start()
    yield one
    if one.process and one.process.poll() is None:
        one.stop()


@pytest.fixture(scope="module")
def api(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url("api"), timeout=20) as client:
        yield client


def description_of(api: httpx.Client, name: str) -> dict[str, Any]:
    return api.get(f"/forecasts/{name}").json()


def ask(api: httpx.Client, name: str, **changes: Any) -> dict[str, Any]:
    """Ask a forecast for its own example, with changes; None takes an input out."""
    body = {
        key: value
        for key, value in (description_of(api, name)["example"] | changes).items()
        if value is not None
    }
    answer = api.post(f"/forecasts/{name}/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_one_that_is_asked_for_serves_first_and_has_the_short_routes(system, api):
    assert "Vroom is ready" in system.log, system.log[-3000:]
    command = next(line.strip() for line in system.log.splitlines() if line.strip().startswith("curl "))
    answer = json.loads(
        subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    )
    assert answer["predicted_upcoming_reservations"] > 0
    assert answer["horizon"] == "the next 90 days"


def test_the_others_are_trained_by_their_sensors_side_by_side(system, api):
    def all_serve() -> bool:
        states = {one["name"]: one["status"] for one in api.get("/forecasts").json()}
        return states == dict.fromkeys(FORECASTS, "ok")

    print(f"\nall serve after {wait('all forecasts serve', all_serve, 400):.0f} s")
    trained = {run["jobName"]: run for run in system.runs() if run["jobName"].endswith("_retrain")}
    assert set(trained) == {f"{name}_retrain" for name in FORECASTS}
    assert {run["status"] for run in trained.values()} <= {"SUCCESS", "STARTED"}
    together = [
        (one, other)
        for one, other in combinations((run for run in trained.values() if run["endTime"]), 2)
        if max(one["startTime"], other["startTime"]) < min(one["endTime"], other["endTime"])
    ]
    assert together, "no two were under way at the same time"


def test_one_dagster_shows_the_lineage_of_each(system):
    query = "{ assetNodes { assetKey { path } groupName dependencyKeys { path } } }"
    nodes = {tuple(node["assetKey"]["path"]): node for node in system.graphql(query)["assetNodes"]}
    ingested = {path[1] for path, node in nodes.items() if node["groupName"] == "ingestion"}
    for name in FORECASTS:
        parents = {
            path[1]: {tuple(key["path"])[1] for key in node["dependencyKeys"]}
            for path, node in nodes.items()
            if node["groupName"] == name
        }
        outside = {other for others in parents.values() for other in others} - set(parents)
        assert outside <= ingested, "a line leads out, and not to what writes a CSV"
        line = {"champion"}
        while more := {parent for asset in line - outside for parent in parents[asset]} - line:
            line |= more
        assert set(STAGES) <= line
        assert {asset for asset in parents if asset.endswith("_csv")} <= line


@pytest.mark.parametrize("name", FORECASTS)
def test_each_answers_explains_records_and_verifies(api, name):
    found = ask(api, name, explain=True)
    value = found[f"predicted_{description_of(api, name)['target']}"]
    assert found["interval"]["low"] <= value <= found["interval"]["high"]
    assert found["reasons"]["prediction"] == pytest.approx(value)
    both = api.post(
        f"/forecasts/{name}/predict/batch", json=[description_of(api, name)["example"]] * 2
    ).json()
    assert [answer[f"predicted_{description_of(api, name)['target']}"] for answer in both] == pytest.approx(
        [value] * 2
    )
    recorded = api.get(f"/predictions/{found['prediction_id']}").json()
    assert recorded["verified"], [step["problem"] for step in recorded["chain"] if step["problem"]]
    assert recorded["prediction"]["forecast"] == name
    outcome = {"forecast": name, "prediction_id": found["prediction_id"], "value": 1}
    assert api.post("/outcomes", json=outcome).json()["recorded"] == 1


@pytest.mark.parametrize("name", FORECASTS)
def test_each_answers_for_an_entity_by_its_id(system, api, name):
    home = system.folder / "home"
    with sqlite3.connect(home / name / ENTITIES) as file:
        [(known,)] = file.execute("select id from entity order by id limit 1").fetchall()
    stored = Entities(name, home).find(known)
    assert stored is not None
    by_id = api.post(f"/forecasts/{name}/predict", json={"entity_id": known}).json()
    whole = ask(api, name, **{key: stored.values[key] for key in description_of(api, name)["example"]})
    target = f"predicted_{description_of(api, name)['target']}"
    assert by_id[target] == whole[target]
    assert by_id["stored"]["as_of"] == stored.as_of


def test_a_vehicle_without_a_history_is_answered_by_its_listing(api):
    history = ("days_listed", "reservations_so_far", "reservations_last_90")
    new = ask(api, FLAGSHIP, **dict.fromkeys(history))
    assert "listings like it" in new["fallback"]
    assert "fallback" not in ask(api, FLAGSHIP)
    recorded = api.get(f"/predictions/{new['prediction_id']}").json()
    assert recorded["verified"]


def test_what_breaks_one_stops_no_other(system, api):
    """A source, a champion and a declaration, each of another forecast."""
    laps = system.folder / "data" / "lap_times" / "laps.csv"
    laps.write_bytes(laps.read_bytes().replace(b"lap_time", b"time", 1))
    home = system.folder / "home"
    pointer = read_pointer("market_resolution", home)
    assert pointer is not None
    model = bundle_folder("market_resolution", pointer.version, home) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    declared = system.project / "vroom_assets" / "defs" / "reservations" / "defs.yaml"
    declared.write_text(declared.read_text().replace("kind: count", "kind: counts"))
    system.graphql('mutation { reloadRepositoryLocation(repositoryLocationName: "vroom") { __typename } }')

    def states() -> dict[str, str]:
        return {one["name"]: one["status"] for one in api.get("/forecasts").json()}

    wait("the damage is reported", lambda: states()["market_resolution"] == "degraded", 30)
    failed = lambda: [e for e in system.ledger("run") if e["forecast"] == "lap_times"]  # noqa: E731
    wait("the refusal is in the ledger", failed, 120)
    assert states() == dict.fromkeys(FORECASTS, "ok") | {"market_resolution": "degraded"}
    for name in FORECASTS:
        assert ask(api, name)["model_version"] >= 1
    query = "{ assetNodes { assetKey { path } description } }"
    nodes = {
        tuple(node["assetKey"]["path"]): node["description"] for node in system.graphql(query)["assetNodes"]
    }
    assert "target.kind: it should be 'count'" in nodes["reservations", "declaration"]
    assert ("lap_times", "champion") in nodes

    before = ask(api, FLAGSHIP)["model_version"]
    vehicles = system.folder / "data" / FLAGSHIP / "vehicles.csv"
    lines = vehicles.read_text().splitlines(keepends=True)
    vehicles.write_text("".join(lines[:-5]))
    reservations = system.folder / "data" / FLAGSHIP / "reservations.csv"
    gone = {line.split(",")[0] for line in lines[-5:]}
    kept = [
        line for line in reservations.read_text().splitlines(keepends=True) if line.split(",")[0] not in gone
    ]
    reservations.write_text("".join(kept))
    wait("the sound one is retrained", lambda: ask(api, FLAGSHIP)["model_version"] > before, 180)
