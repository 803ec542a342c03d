"""The 19 endpoints of vroom-forecast, each by a test of its name: what a client of it finds here under the same path."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.entities import keep
from tests.support.service import running, settings_of
from vroom_api.app import create_app
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer

Client = TestClient[Any]
TARGET = "predicted_reservations"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service with version 1 and a fleet of five vehicles, which records."""
    publish(tmp_path, 1)
    keep(tmp_path, {str(number): list(EXAMPLE.values()) for number in range(1, 6)})
    with TestClient(create_app(settings_of(tmp_path, record=True))) as started:
        yield started


@pytest.fixture
def started(tmp_path: Path) -> Iterator[httpx.Client]:
    """The same in a process of its own, with an address at which it can ask itself."""
    publish(tmp_path, 1)
    keep(tmp_path, {"3": list(EXAMPLE.values())})
    with running(tmp_path) as (address, _), httpx.Client(base_url=address, timeout=60) as asked:
        yield asked


def answer(client: Client, method: str, path: str, status: int = 200, **given: Any) -> Any:
    response = client.request(method, path, **given)
    assert response.status_code == status, response.text
    return response.json()


def test_get_health(client: Client) -> None:
    health = answer(client, "GET", "/health")
    assert (health["status"], health["model_version"], health["forecast"]) == ("ok", 1, "reservations")


def test_get_model(client: Client) -> None:
    model = answer(client, "GET", "/model")
    assert model["version"] == 1
    assert model["metrics"]
    assert "importances" in model
    assert model["trained_at"]


def test_post_reload(client: Client, tmp_path: Path) -> None:
    assert answer(client, "POST", "/reload")["status"] == "unchanged"
    publish(tmp_path, 2)
    reload = answer(client, "POST", "/reload")
    # The watch may have been ahead.
    assert (reload["status"], reload["current_version"]) in [("reloaded", 2), ("unchanged", 2)]


def test_post_predict(client: Client) -> None:
    found = answer(client, "POST", "/predict", json=EXAMPLE)
    assert found["model_version"] == 1
    assert found[TARGET] >= 0
    refused = answer(client, "POST", "/predict", 422, json=EXAMPLE | {"technology": 7})
    assert refused["field"] == "technology"


def test_post_predict_batch(client: Client) -> None:
    assert len(answer(client, "POST", "/predict/batch", json=[EXAMPLE] * 3)) == 3
    assert answer(client, "POST", "/predict/batch", 422, json=[EXAMPLE] * 1_001)["allowed"] == "1..1000 rows"


def test_post_predict_id(client: Client) -> None:
    found = answer(client, "POST", "/predict/id", json={"vehicle_id": 3})
    assert found["stored"]["inputs"] == list(EXAMPLE)
    answer(client, "POST", "/predict/id", 404, json={"vehicle_id": 77})


def test_post_vehicles(client: Client) -> None:
    saved = answer(client, "POST", "/vehicles", 201, json=EXAMPLE | {"vehicle_id": 77})
    assert (saved["id"], saved["source"], saved["status"], saved["materialized"]) == (
        "77",
        "service",
        "created",
        False,
    )
    again = answer(client, "POST", "/vehicles", json=EXAMPLE | {"vehicle_id": 77})
    assert again["status"] == "unchanged"
    assert answer(client, "POST", "/predict/id", json={"vehicle_id": 77})[TARGET] >= 0


def test_delete_vehicles_id(client: Client) -> None:
    answer(client, "POST", "/vehicles", 201, json=EXAMPLE | {"vehicle_id": 77})
    assert answer(client, "DELETE", "/vehicles/77")["status"] == "deleted"
    answer(client, "POST", "/predict/id", 404, json={"vehicle_id": 77})
    answer(client, "DELETE", "/vehicles/77", 404)
    answer(client, "DELETE", "/vehicles/3", 409)  # of the CSV, and changed there


def test_get_vehicles(client: Client) -> None:
    answer(client, "POST", "/vehicles", 201, json=EXAMPLE | {"vehicle_id": 77})
    page = answer(client, "GET", "/vehicles")
    assert [(one["id"], one["source"]) for one in page["entities"]] == [
        *((str(number), "csv") for number in range(1, 6)),
        ("77", "service"),
    ]
    assert page["entities"][-1]["observed"] == {"reservations": None}


def test_get_vehicles_features(client: Client) -> None:
    page = answer(client, "GET", "/vehicles/features")
    assert [one["id"] for one in page["entities"]] == ["1", "2", "3", "4", "5"]
    assert all(one["features"] for one in page["entities"])


def test_get_vehicles_id_features(client: Client) -> None:
    found = answer(client, "GET", "/vehicles/3/features")
    assert (found["id"], found["source"], found["materialized"]) == ("3", "csv", True)
    answer(client, "GET", "/vehicles/77/features", 404)


def test_post_benchmark(started: httpx.Client) -> None:
    found = started.post("/benchmark", json={"n_iterations": 20}).json()
    assert (found["n"], found["errors"], found["source"]) == (20, {}, "raw")
    assert found["split"]["http_and_framework_ms"] > 0


def test_post_benchmark_id(started: httpx.Client) -> None:
    found = started.post("/benchmark/id", json={"vehicle_id": 3, "n_iterations": 20}).json()
    assert (found["n"], found["errors"], found["source"]) == (20, {}, "stored")
    assert started.post("/benchmark/id", json={"vehicle_id": 77}).status_code == 404


def test_get_stores(client: Client) -> None:
    found = answer(client, "GET", "/stores")
    stores = {store["name"]: store for store in found["stores"]}
    assert (stores["online"]["rows"], stores["online"]["pending"]) == (5, 0)
    assert found["feature_view"]["entity"] == "vehicle"
    answer(client, "POST", "/vehicles", 201, json=EXAMPLE)
    stores = {store["name"]: store for store in answer(client, "GET", "/stores")["stores"]}
    assert stores["online"]["pending"] == 1


@pytest.mark.parametrize("pipeline", ["materialize", "train"])
def test_post_materialize_and_post_train(client: Client, tmp_path: Path, pipeline: str) -> None:
    refused = answer(client, "POST", f"/{pipeline}", 503)
    assert "nothing has ever consumed commands here" in refused["detail"]
    beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=5.0), tmp_path)
    command = answer(client, "POST", f"/{pipeline}", 202)
    assert (command["kind"], command["state"]) == (pipeline, "waiting")
    assert answer(client, "POST", f"/{pipeline}")["id"] == command["id"]  # asked twice it is one
    assert answer(client, "GET", f"/commands/{command['id']}")["state"] == "waiting"


def heard(client: Client, path: str, **given: str) -> list[str]:
    """The names of the events so far."""
    return re.findall(r"^event: (\S+)", client.get(path, params=given | {"wait": "0"}).text, re.MULTILINE)


def test_get_events(client: Client) -> None:
    assert heard(client, "/events")[:2] == ["connected", "health-changed"]


def test_get_vehicles_events(client: Client) -> None:
    answer(client, "POST", "/vehicles", 201, json=EXAMPLE)
    assert "vehicle-saved" in heard(client, "/vehicles/events", after="0")


def test_get_pipelines_events(client: Client) -> None:
    assert heard(client, "/pipelines/events")[0] == "connected"


def test_get_docs_redoc_and_openapi_json(client: Client) -> None:
    for path in ("/docs", "/redoc"):
        assert "text/html" in client.get(path).headers["content-type"]
    assert answer(client, "GET", "/openapi.json")["openapi"].startswith("3.1")
