"""The 19 endpoints of vroom-forecast, each by a test of its name: what a client of it finds here under the same path."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.entities import keep
from tests.support.service import settings_of
from vroom_api.app import create_app

Client = TestClient[Any]
TARGET = "predicted_reservations"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service with version 1 and a fleet of five vehicles, which records."""
    publish(tmp_path, 1)
    keep(tmp_path, {str(number): list(EXAMPLE.values()) for number in range(1, 6)})
    with TestClient(create_app(settings_of(tmp_path, record=True))) as started:
        yield started


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


def test_get_docs_redoc_and_openapi_json(client: Client) -> None:
    for path in ("/docs", "/redoc"):
        assert "text/html" in client.get(path).headers["content-type"]
    assert answer(client, "GET", "/openapi.json")["openapi"].startswith("3.1")
