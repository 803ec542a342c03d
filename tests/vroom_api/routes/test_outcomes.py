"""Outcomes over HTTP: told once, contradicted, corrected, and what is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.record import FORECAST, predicted, publish, store
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.record.prediction import new_id


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
        (b'{"forecast": "reservations", "value": 1e400, "entity_id": "7", "period": "2026"}', 422),
        (b'{"forecast": "reservations", "value": NaN, "entity_id": "7", "period": "2026"}', 400),
        (b'{"forecast": "reservations", "value": 1, "entity_id": "7", "period": "2026", "more": 1}', 422),
        (b'{"forecast": "reservations", "value": 1, "entity_id": "", "period": "2026"}', 422),
        (b'{"forecast": "reservations", "value": 1, "prediction_id": "12"}', 422),
        (b"[" * 10_000, 422),
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


def test_an_outcome_of_an_unknown_prediction_is_404(client: TestClient[Any]) -> None:
    response = client.post("/outcomes", json={"forecast": FORECAST, "prediction_id": new_id(), "value": 1})
    assert response.status_code == 404


def test_the_document_says_what_an_outcome_is(client: TestClient[Any]) -> None:
    document = client.get("/schema/openapi.json").json()
    body = document["paths"]["/outcomes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, several = body["anyOf"]
    assert set(one["required"]) == {"forecast", "value"}
    assert one["additionalProperties"] is False
    assert several["items"] == one
