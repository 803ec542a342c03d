"""Query parameters: what is not taken is refused with what is, in words."""

from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE
from vroom_api.contract.tables import ledger, open_database


@pytest.mark.parametrize(
    ("query", "field", "meant"),
    [
        ("/predictions?entity=7", "entity", "did you mean entity_id?"),
        ("/predictions/export?forecst=reservations", "forecst", "did you mean forecast?"),
        ("/ledger?forecst=", "forecst", "did you mean forecast?"),
        (
            "/performance?forecast=reservations&grouped=a",
            "grouped",
            "there is by, forecast, since, until, version",
        ),
        ("/health?x", "x", "there is none"),
        ("/?forecasts=reservations", "forecasts", "did you mean forecast?"),
        ("/schema?x=1", "x", "there is none"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_nearest(
    client: TestClient[Any], query: str, field: str, meant: str
) -> None:
    answer = client.get(query)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:vroom:unknown-parameter")
    assert answer.json()["field"] == field
    assert meant in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/predict", "/forecasts/reservations/predict", "/advise/price", "/reload"])
def test_what_is_sent_in_a_body_is_not_taken_from_the_query(client: TestClient[Any], path: str) -> None:
    answer = client.post(f"{path}?level=0.5", json=EXAMPLE)
    assert (answer.status_code, answer.json()["field"]) == (400, "level")
    assert "there is none" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/predictions?limit=1&limit=2", "limit"),
        ("/predictions?forecast=reservations&forecast=nope", "forecast"),
        ("/predictions/export?format=csv&format=csv", "format"),
        ("/ledger?event=a&limit=1&event=b&event=c", "event"),
        ("/performance?forecast=nope&forecast=reservations", "forecast"),
        ("/?forecast=nope&forecast=reservations", "forecast"),
    ],
)
def test_a_parameter_that_is_given_twice_is_refused(client: TestClient[Any], query: str, field: str) -> None:
    answer = client.get(query)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:vroom:repeated-parameter")
    times = query.count(f"{field}=")
    assert answer.json()["detail"] == f"{field}: given {times} times; give it once"
    assert answer.json()["field"] == field


def test_what_a_path_allows_is_asked_for_without_parameters(client: TestClient[Any]) -> None:
    assert client.options("/alerts").status_code == 204
    for _ in range(2):  # also once it is known what the route takes
        refused = client.options("/alerts?limit=50")
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:vroom:unknown-parameter")


def test_no_parameter_is_a_list_but_the_topics_of_events(client: TestClient[Any]) -> None:
    """One that is not may not be given several times."""
    document = client.get("/schema/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                kinds = [parameter["schema"], *parameter["schema"].get("oneOf", [])]
                several = any(kind.get("type") == "array" for kind in kinds)
                assert several == (parameter["name"] == "topic"), path


PAGES = ["/predictions", "/predictions/export", "/ledger", "/performance", "/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_forecast_that_does_not_exist_is_not_an_empty_page(client: TestClient[Any], path: str) -> None:
    answer = client.get(f"{path}?forecast=nope")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:vroom:no-such-forecast")
    assert client.get(f"{path}?forecast=reservations").status_code == 200


def test_of_a_forecast_that_was_never_published_the_ledger_tells(client: TestClient[Any], state: Any) -> None:
    database = open_database(f"sqlite:///{state / 'serving.db'}")
    row = {
        "forecast": "new",
        "actor": "job",
        "event": "run",
        "decision": "failed",
        "reason": "why",
        "evidence": {},
    }
    with database.begin() as connection:
        connection.execute(ledger.insert().values(**row, time=sa.func.now()))
    database.dispose()
    assert client.get("/ledger?forecast=new").json()["entries"][0]["reason"] == "why"


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_plus_that_was_not_encoded_is_explained(client: TestClient[Any], name: str) -> None:
    time = "2026-11-26T00:00:00+00:00"
    answer = client.get(f"/predictions?{name}={time}")
    assert (answer.status_code, answer.json()["field"]) == (400, name)
    assert answer.json()["detail"].endswith("write + as %2B, or the time in UTC with Z")
    assert client.get(f"/predictions?{name}={quote(time)}").status_code == 200


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (
            "/predictions?tag=a",
            "tag: expected name:text, the name a small letter, then small letters, digits and ",
        ),
        ("/predictions?caller=%00", "caller: expected text without control characters"),
        ("/predictions?limit=0", "limit: expected a whole number at least 1"),
        ("/predictions?limit=x", "limit: expected a whole number, got text"),
        (
            "/predictions?before=x",
            "before: expected the id of a prediction, as /predict answers it in prediction_id",
        ),
        ("/ledger?event=a%0A", "event: expected text without control characters"),
        (f"/ledger?event={'a' * 33}", "event: expected text of at most 32 characters"),
        ("/performance", "forecast: missing; /performance?forecast=... gives it"),
    ],
)
def test_a_wrong_value_is_refused_without_a_pattern(client: TestClient[Any], query: str, detail: str) -> None:
    answer = client.get(query)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(detail), answer.text
    assert "`" not in answer.json()["detail"]
    assert "^" not in answer.json()["detail"]
