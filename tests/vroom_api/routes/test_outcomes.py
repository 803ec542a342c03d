"""Outcomes over HTTP: told once, contradicted, corrected, and what is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import bundles
from tests.support.record import FORECAST, predicted, publish, store
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.record.prediction import new_id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    """A champion of counts, that no test changes."""
    home = tmp_path_factory.mktemp("served")
    bundles.publish(home, 1)
    with TestClient(create_app(settings_of(home))) as client:
        yield client


@pytest.fixture
def client(engine: sa.Engine, tmp_path: Path) -> Iterator[TestClient[Any]]:
    address = engine.url.render_as_string(hide_password=False)
    with TestClient(create_app(settings_of(tmp_path / "home", database_url=address))) as client:
        yield client


def test_outcomes_are_told_once_contradicted_and_corrected(
    engine: sa.Engine, client: TestClient[Any]
) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    reported = {"forecast": FORECAST, "prediction_id": one.id, "value": 4}
    other = reported | {"value": 5}
    assert client.post("/outcomes", json=reported).json() == {"recorded": 1, "corrected": 0, "unchanged": 0}
    assert client.post("/outcomes", json=[reported, reported]).json() == {
        "recorded": 0,
        "corrected": 0,
        "unchanged": 2,
    }
    refused = client.post("/outcomes", json=other)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:other-value")
    corrected = client.post("/outcomes", json=other | {"correction": True})
    assert corrected.json() == {"recorded": 0, "corrected": 1, "unchanged": 0}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"forecast": "reservations", "value": 1}', 422),
        (b'{"forecast": "reservations", "value": "1", "entity_id": "7", "period": "2026"}', 422),
        (b'{"forecast": "reservations", "value": 1e400, "entity_id": "7", "period": "2026"}', 400),
        (b'{"forecast": "reservations", "value": NaN, "entity_id": "7", "period": "2026"}', 400),
        (b'{"forecast": "reservations", "value": 1, "entity_id": "7", "period": "2026", "more": 1}', 422),
        (b'{"forecast": "reservations", "value": 1, "entity_id": "", "period": "2026"}', 422),
        (b'{"forecast": "reservations", "value": 1, "prediction_id": "12"}', 422),
        (b"[" * 10_000, 400),
        (
            b'{"forecast": "reservations", "value": 1, "prediction_id": null, "entity_id": "7", "period": "1"}',
            422,
        ),
        (
            b'{"forecast":"f","value":1,"entity_id":"7","period":"1","observed_at":"0001-01-01T00:00:00+14:00"}',
            422,
        ),
    ],
)
def test_a_body_that_is_no_outcome_is_refused(client: TestClient[Any], body: bytes, status: int) -> None:
    response = client.post("/outcomes", content=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


VEHICLE = {"entity_id": "7", "period": "2026"}


@pytest.mark.parametrize(
    ("reported", "field", "detail"),
    [
        (
            VEHICLE | {"value": 1},
            "forecast",
            "missing; it is the name of the forecast that the value belongs to",
        ),
        (VEHICLE | {"forecast": FORECAST}, "value", "missing; each outcome has a value"),
        (VEHICLE | {"forecast": FORECAST, "value": "1"}, "value", "expected a number, got text"),
        (
            VEHICLE | {"forecast": FORECAST, "value": -3},
            "value",
            f"-3 is not an outcome of {FORECAST}; it is a whole number, at least 0",
        ),
        (
            VEHICLE | {"forecast": FORECAST, "value": 2.5},
            "value",
            f"2.5 is not an outcome of {FORECAST}; it is a whole number, at least 0",
        ),
        (
            VEHICLE | {"forecast": "nope", "value": 1},
            "forecast",
            "there is no forecast 'nope'; the forecasts are ",
        ),
        (VEHICLE | {"forecast": "Nope", "value": 1}, "forecast", "expected a name: a small letter, then "),
        (
            VEHICLE | {"forecast": f"{FORECAST}\n", "value": 1},
            "forecast",
            "expected a name: a small letter, then ",
        ),
        (
            VEHICLE | {"forecast": FORECAST, "value": 1, "entity_id": 7},
            "entity_id",
            "expected text, got a number; send ",
        ),
        (
            VEHICLE | {"forecast": FORECAST, "value": 1, "more": 1},
            "more",
            "unknown field; the fields are value, ",
        ),
        (
            {"forecast": FORECAST, "value": 1},
            "prediction_id",
            "give either prediction_id, or entity_id and period",
        ),
        (
            {"forecast": FORECAST, "value": 1, "entity_id": "7"},
            "period",
            "give either prediction_id, or entity_id",
        ),
        (
            {"value": 1, "prediction_id": "x"},
            "prediction_id",
            "expected the id of a prediction, as /predict answers",
        ),
        (
            VEHICLE | {"forecast": FORECAST, "value": 1, "observed_at": "9999-01-01T00:00:00Z"},
            "observed_at",
            "use a time that is past, not 9999-01-01T00:00:00Z",
        ),
        (
            VEHICLE | {"forecast": FORECAST, "value": 1, "observed_at": "2026-01-01"},
            "observed_at",
            "expected a time like 2026",
        ),
    ],
)
def test_what_is_wrong_with_an_outcome_is_named_with_its_row(
    served: TestClient[Any], reported: dict[str, Any], field: str, detail: str
) -> None:
    good = VEHICLE | {"forecast": FORECAST, "value": 1}
    for body, where in ((reported, ""), ([good, reported], "row 1: ")):
        answer = served.post("/outcomes", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
        assert answer.json()["detail"].startswith(f"{where}{field}: {detail}"), answer.text
        assert answer.json()["errors"][0].get("row") == (1 if where else None)


def test_a_prediction_says_which_forecast_its_outcome_is_of(
    engine: sa.Engine, client: TestClient[Any]
) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    assert client.post("/outcomes", json={"prediction_id": one.id, "value": 4}).json()["recorded"] == 1
    assert client.get(f"/performance?forecast={FORECAST}").json()["all"]["outcomes"] == 1


def test_an_outcome_of_an_unknown_prediction_is_404(client: TestClient[Any]) -> None:
    response = client.post("/outcomes", json={"forecast": FORECAST, "prediction_id": new_id(), "value": 1})
    assert response.status_code == 404


def test_the_document_says_what_an_outcome_is(client: TestClient[Any]) -> None:
    document = client.get("/schema/openapi.json").json()
    body = document["paths"]["/outcomes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, several = body["anyOf"]
    assert set(one["required"]) == {"value"}
    assert one["additionalProperties"] is False
    assert several["items"] == one
