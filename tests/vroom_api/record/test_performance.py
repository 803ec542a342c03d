"""Tags of predictions, and how good they turned out, tag by tag."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sklearn.metrics import brier_score_loss, roc_auc_score

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.entities import keep
from tests.support.markets import MARKET, MARKETS, publish_markets
from tests.support.service import Serve


@pytest.fixture
def client(state: Path, serve: Serve) -> TestClient[Any]:
    publish(state, 1, scale=2.0, kind="regression")  # outcomes at any distance from a prediction
    return serve(record=True)


def ask(client: TestClient[Any], **given: Any) -> dict[str, Any]:
    answer = client.post("/predict", json=EXAMPLE | given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tell(client: TestClient[Any], answer: dict[str, Any], value: float, **more: Any) -> None:
    outcome = {"forecast": FORECAST, "prediction_id": answer["prediction_id"], "value": value, **more}
    assert client.post("/outcomes", json=outcome).status_code == 200


def test_tags_are_recorded_found_and_exported_and_change_nothing(client):
    tags = {"circuit": "Aldermoor", "session": "2024 race"}
    with_tags, without = ask(client, tags=tags), ask(client)
    assert with_tags["predicted_reservations"] == without["predicted_reservations"]
    recorded = client.get(f"/predictions/{with_tags['prediction_id']}").json()["prediction"]
    assert recorded["tags"] == tags
    assert client.get(f"/predictions/{without['prediction_id']}").json()["prediction"]["tags"] is None
    found = client.get("/predictions", params={"tag": "session:2024 race"}).json()["predictions"]
    assert [one["id"] for one in found] == [with_tags["prediction_id"]]
    assert client.get("/predictions", params={"tag": "session:2025 race"}).json()["predictions"] == []
    exported = client.get("/predictions/export", params={"tag": "circuit:Aldermoor"}).text.splitlines()
    assert len(exported) == 2
    assert exported[0].split(",")[-2:] == ["tags", "calibration"]


def test_a_batch_has_tags_row_by_row(client):
    rows = [EXAMPLE, EXAMPLE | {"tags": {"shop": "b"}}, EXAMPLE | {"tags": None}]
    reported = client.post("/predict/batch", json=rows).json()
    recorded = [
        client.get(f"/predictions/{one['prediction_id']}").json()["prediction"]["tags"] for one in reported
    ]
    assert recorded == [None, {"shop": "b"}, None]


@pytest.mark.parametrize(
    ("tags", "reported"),
    [
        (1, "expected an object or null, got a whole number"),
        ({"Shop": "b"}, "expected the name of a tag: a small letter"),
        ({"shop": ""}, "text of at least 1 characters"),
        ({"shop": "x" * 129}, "text of at most 128 characters"),
        ({"shop": 7}, "expected text, got a number"),
        ({f"t{number}": "x" for number in range(9)}, "an object of at most 8 entries"),
    ],
)
def test_what_is_no_tag_is_refused(client, tags, reported):
    refused = client.post("/predict", json=EXAMPLE | {"tags": tags})
    assert refused.status_code == 422
    [fault] = refused.json()["errors"]
    assert fault["field"] == "tags"
    assert reported in fault["detail"]
    assert 'up to 8 names with texts, e.g. {"session": "2024 race"}' in fault["detail"]


def test_stored_tags_come_with_the_entity_and_those_sent_go_before(state, serve):
    publish(state, 1, tags=["circuit", "session"])
    keep(state, {"7": [*EXAMPLE.values(), "Aldermoor", "2024 race"]}, [*EXAMPLE, "circuit", "session"])
    client = serve(record=True)
    answers = client.post(
        "/predict/batch", json=[{"entity_id": "7"}, {"entity_id": "7", "tags": {"session": "x"}}]
    )
    single = client.post("/predict", json={"entity_id": "7"})
    recorded = [
        client.get(f"/predictions/{one['prediction_id']}").json()["prediction"]["tags"]
        for one in (*answers.json(), single.json())
    ]
    whole = {"circuit": "Aldermoor", "session": "2024 race"}
    assert recorded == [whole, whole | {"session": "x"}, whole]
    assert "tags" not in single.json()["stored"]["inputs"]


def test_errors_are_told_for_each_session_while_outcomes_come_in(client):
    first = [ask(client, tags={"session": "one"}) for _ in range(3)]
    second = ask(client, tags={"session": "two"})
    untagged = ask(client)
    ask(client, tags={"session": "no outcome yet"})
    value = first[0]["predicted_reservations"]
    assert value > 3
    empty = client.get("/performance", params={"forecast": FORECAST, "by": "session"}).json()
    assert (empty["predictions"], empty["all"]["outcomes"], empty["all"]["mae"], empty["groups"]) == (
        6,
        0,
        None,
        [],
    )
    for answer, error in zip(first, (1, 2, 3), strict=True):
        tell(client, answer, value - error)
    tell(client, second, value + 1000)
    tell(client, second, value + 2, correction=True)  # what was reported first counts no more
    tell(client, untagged, value)
    found = client.get("/performance", params={"forecast": FORECAST, "by": "session"}).json()
    groups = {group["value"]: group for group in found["groups"]}
    assert set(groups) == {"one", "two", None}
    assert (groups["one"]["outcomes"], groups["one"]["mae"], groups["one"]["bias"]) == pytest.approx(
        (3, 2, 2)
    )
    assert groups["one"]["rmse"] == pytest.approx((14 / 3) ** 0.5)
    assert groups["two"]["mae"] == pytest.approx(2)
    assert groups["two"]["bias"] == pytest.approx(-2)
    assert found["all"]["outcomes"] == 5
    assert found["all"]["mae"] == pytest.approx(8 / 5)
    low, high = first[0]["interval"]["low"], first[0]["interval"]["high"]
    inside = [low <= value + error <= high for error in (-1, -2, -3, 2, 0)]
    assert found["all"]["covered"] == pytest.approx(sum(inside) / 5)
    assert 0 < sum(inside) < 5
    assert client.get("/performance", params={"forecast": "lap_times"}).status_code == 404
    later = client.get("/performance", params={"forecast": FORECAST, "since": "2100-01-01T00:00:00Z"}).json()
    assert later["predictions"] == 0


CHANCES = [(0.1, 0), (0.2, 1), (0.3, 0), (0.3, 1), (0.3, 1), (0.45, 0), (0.48, 1)]  # prediction, outcome


@pytest.fixture
def markets(state: Path, serve: Serve) -> TestClient[Any]:
    publish_markets(state)
    return serve(record=True)


def happened(client: TestClient[Any], chances: list[tuple[float, int]], **given: Any) -> list[str]:
    """Predict probabilities and report what came of them; the ids of the predictions."""
    found = []
    for probability, outcome in chances:
        body = MARKET | {"category": "politics", "volume": 0.0, "price": 2 * probability, **given}
        answer = client.post(f"/forecasts/{MARKETS}/predict", json=body).json()
        assert answer["predicted_resolved_yes"] == pytest.approx(probability)
        reported = {"prediction_id": answer["prediction_id"], "value": outcome}
        assert client.post("/outcomes", json=reported).status_code == 200
        found.append(answer["prediction_id"])
    return found


PROBABILITY_FIGURES = ("base_rate", "brier", "brier_of_base_rate", "auc")


def performance_of(client: TestClient[Any], forecast: str, **parameters: str) -> dict[str, Any]:
    answer = client.get("/performance", params={"forecast": forecast, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_probabilities_have_brier_score_and_auc_beside_those_of_the_base_rate(markets):
    happened(markets, CHANCES, tags={"topic": "weather"})
    happened(markets, [(0.2, 1), (0.4, 1)], tags={"topic": "sport"})  # more would be no other AUC of weather
    found = performance_of(markets, MARKETS, by="topic")
    groups = {group["value"]: group for group in found["groups"]}
    both = [*CHANCES, (0.2, 1), (0.4, 1)]
    for score, chances in ((found["all"], both), (groups["weather"], CHANCES)):
        predictions, outcomes = np.array(chances).T
        rate = outcomes.mean()
        assert score["base_rate"] == pytest.approx(rate)
        assert score["brier"] == pytest.approx(brier_score_loss(outcomes, predictions))
        assert score["brier_of_base_rate"] == pytest.approx(
            brier_score_loss(outcomes, np.full(len(outcomes), rate))
        )
        assert score["auc"] == pytest.approx(roc_auc_score(outcomes, predictions.round(6)))
        assert score["rmse"] == pytest.approx(score["brier"] ** 0.5)


def test_where_all_outcomes_are_alike_there_is_nothing_to_tell_apart(markets):
    empty = performance_of(markets, MARKETS)["all"]
    assert [empty[name] for name in PROBABILITY_FIGURES] == [None] * 4
    happened(markets, [(0.2, 1), (0.4, 1)])
    found = performance_of(markets, MARKETS)["all"]
    assert found["brier"] == pytest.approx((0.64 + 0.36) / 2)
    assert (found["base_rate"], found["brier_of_base_rate"], found["auc"]) == (1.0, None, None)


def test_what_is_not_a_probability_has_neither_brier_score_nor_auc(client):
    for outcome in (0, 1):
        tell(client, ask(client), outcome)
    found = performance_of(client, FORECAST)["all"]
    assert found["outcomes"] == 2
    assert [found[name] for name in PROBABILITY_FIGURES] == [None] * 4


def overdue(client: TestClient[Any], **asked: Any) -> int | None:
    return client.get("/performance", params={"forecast": FORECAST, **asked}).json()["overdue"]


def test_a_prediction_is_overdue_from_its_horizon_to_its_outcome(state, serve):
    publish(state, 1, scale=2.0, kind="regression", due_s=0.05)
    client = serve(record=True)
    first, _ = ask(client), ask(client)
    time.sleep(0.06)
    assert overdue(client) == 2
    tell(client, first, 3.0)
    assert overdue(client) == 1
    assert overdue(client, version=2) == 0


def test_an_input_says_when_a_prediction_falls_due(state, serve):
    publish(state, 1, scale=2.0, kind="regression", due_input="description")
    client = serve(record=True)
    ask(client, description=0)
    ask(client, description=1)
    assert overdue(client) == 1


def test_without_a_declared_horizon_nothing_is_overdue(client):
    ask(client)
    assert overdue(client) is None
