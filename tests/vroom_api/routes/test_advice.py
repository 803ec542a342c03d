"""What predictions tell beside the number, and advice, over HTTP."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish, write
from tests.support.service import Serve
from tests.support.tiny import Step, input_field, manifest_of, model_of
from vroom_api.contract import AgeLimits, FreshnessPolicy, Golden, Lever, Recipe

PRICE = Lever(input="actual_price", worth="revenue", unit="USD", description="price × reservations")
ALL_INPUTS = Recipe(name="small", family="small", features=[], definition={})  # of which the graph reads any
TYPICAL = [[0.0, 60.0, 60.0, 4.0, 0.0, 100.0], [0.0, 90.0, 60.0, 2.0, 1.0, 30.0]]


@pytest.fixture
def client(state: Path, serve: Serve) -> TestClient[Any]:
    """The service with a champion that advises about prices and can explain itself."""
    publish(state, 1, advice={"price": PRICE}, background=TYPICAL, recipe=ALL_INPUTS)
    return serve()


def ask(client: TestClient[Any], path: str = "/predict", **given: Any) -> dict[str, Any]:
    answer = client.post(path, json=EXAMPLE | given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient[Any], path: str, body: Any) -> tuple[int, str]:
    answer = client.post(path, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["detail"]


def test_reasons_are_given_on_request_and_add_up(client: TestClient[Any]) -> None:
    assert "reasons" not in ask(client)
    found = ask(client, explain=True)
    reasons = found["reasons"]
    assert "approximation" not in reasons
    assert len(reasons["reasons"]) == len(EXAMPLE)
    total = reasons["baseline"] + sum(reason["amount"] for reason in reasons["reasons"])
    assert total == pytest.approx(found["predicted_reservations"], abs=1e-6)
    assert "compared with a typical vehicle" in reasons["reasons"][0]["sentence"]


def test_reasons_of_two_hundred_inputs_add_up_and_are_called_approximate(state: Path, serve: Serve) -> None:
    names = [f"x{number}" for number in range(200)]
    pairs = [(f"pair{n}", "Mul", names[n], names[n + 1]) for n in range(0, 200, 2)]
    steps: list[Step] = [*pairs, ("prediction_of_all", "Sum", *(pair[0] for pair in pairs))]
    rows = np.random.default_rng(1).uniform(size=(64, 200))
    expected = (rows[:, ::2] * rows[:, 1::2]).sum(axis=1)
    golden = Golden(
        inputs=rows[:3].tolist(),
        features=rows[:3].tolist(),
        predictions=expected[:3].tolist(),
        tolerance=1e-6,
    )
    declared = manifest_of(
        [input_field(name, 0, 1, example=1.0) for name in names],
        forecast="reservations",
        version=1,
        background=rows[np.argsort(expected)].tolist(),
    )
    write(state, "reservations", declared, model_of(names, steps, names), golden)
    answer = serve().post("/predict", json=dict.fromkeys(names, 1.0) | {"explain": True})
    assert answer.status_code == 200, answer.text
    reasons = answer.json()["reasons"]
    assert len(reasons["reasons"]) == 200
    assert reasons["baseline"] == pytest.approx(expected.mean())
    total = reasons["baseline"] + sum(reason["amount"] for reason in reasons["reasons"])
    assert total == pytest.approx(100.0)
    assert reasons["approximation"]["orders"] == 256
    assert 0 < reasons["approximation"]["error"] < 0.1


def test_in_a_batch_reasons_go_to_the_rows_that_ask(client: TestClient[Any]) -> None:
    rows = [EXAMPLE, EXAMPLE | {"explain": True}]
    plain, explained = client.post("/predict/batch", json=rows).json()
    assert "reasons" not in plain
    assert explained["reasons"] == ask(client, explain=True)["reasons"]
    asking = [EXAMPLE | {"explain": True}]
    assert client.post("/predict/batch", json=asking * 20).status_code == 200
    assert refused(client, "/predict/batch", asking * 21) == (
        422,
        "explain: reasons are given for up to 20 rows of a batch",
    )


def test_a_champion_that_cannot_explain_says_so(state: Path, serve: Serve) -> None:
    publish(state, 1, background=[])
    status, detail = refused(serve(), "/predict", EXAMPLE | {"explain": True})
    assert status == 422
    assert "has no background rows" in detail


def test_what_training_has_not_seen_is_told_with_the_number(client: TestClient[Any]) -> None:
    assert ask(client)["in_support"] is True
    found = ask(client, num_images=30)
    assert found["in_support"] is False
    assert [(one["field"], one["value"], one["seen_maximum"]) for one in found["outside"]] == [
        ("num_images", 30, 20)
    ]
    together = client.post("/predict/batch", json=[EXAMPLE, EXAMPLE | {"num_images": 30}]).json()
    assert [(one["in_support"], one["outside"]) for one in together] == [
        (True, []),
        (False, found["outside"]),
    ]


def trained(age: timedelta) -> str:
    return (datetime.now(UTC) - age).isoformat()


DAY = AgeLimits(stale_after_s=86_400, expired_after_s=2 * 86_400)


@pytest.mark.parametrize(("hours", "verdict"), [(1, "fresh"), (25, "stale"), (49, "expired")])
def test_every_answer_tells_its_freshness(state: Path, serve: Serve, hours: int, verdict: str) -> None:
    publish(state, 1, trained_at=trained(timedelta(hours=hours)), freshness=FreshnessPolicy(model=DAY))
    found = ask(serve())
    assert found["freshness"] == verdict
    assert hours * 3600 <= found["model_age_s"] <= hours * 3600 + 60
    assert found["data_age_s"] > found["model_age_s"]


def test_an_expired_champion_is_refused_where_its_forecast_says_so(state: Path, serve: Serve) -> None:
    policy = FreshnessPolicy(model=DAY, expired="refuse")
    publish(state, 1, trained_at=trained(timedelta(hours=49)), freshness=policy, advice={"price": PRICE})
    client = serve()
    for path, body in (("/predict", EXAMPLE), ("/predict/batch", [EXAMPLE]), ("/advise/price", EXAMPLE)):
        status, detail = refused(client, path, body)
        assert status == 503
        assert detail.startswith("version 1 of reservations has expired: its model is 2.0 days old")


def test_every_point_of_a_curve_is_what_predict_answers_there(client: TestClient[Any]) -> None:
    found = ask(client, "/advise/price", points=15, level=0.8)
    assert (found["model_version"], found["curve"]["worth"]) == (1, "revenue")
    assert len(found["curve"]["points"]) == 15
    for point in [*found["curve"]["points"], found["curve"]["current"], found["curve"]["best"]]:
        alone = ask(client, actual_price=point["value"], level=0.8)
        assert point["prediction"] == pytest.approx(alone["predicted_reservations"], rel=1e-9)
        assert [point["low"], point["high"]] == [alone["interval"]["low"], alone["interval"]["high"]]
        assert point["worth"] == pytest.approx(point["value"] * alone["predicted_reservations"])
        assert alone["in_support"]
        assert not point["extrapolated"]


def test_a_curve_stays_where_training_was_unless_it_is_told_not_to(client: TestClient[Any]) -> None:
    low, high = ask(client, "/advise/price")["curve"]["supported"]
    # ln(price / 50) is within ±2, the price within 20 to 300
    assert (low, high) == pytest.approx((20, 300))
    beyond = {"between": [100, 1000], "extrapolate": True}
    points = ask(client, "/advise/price", **beyond)["curve"]["points"]
    assert [point["extrapolated"] for point in points] == [point["value"] > 300 for point in points]
    assert any(point["extrapolated"] for point in points)


def test_a_vehicle_unlike_any_other_gets_no_curve(client: TestClient[Any]) -> None:
    status, detail = refused(client, "/advise/price", EXAMPLE | {"num_images": 30})
    assert status == 422
    assert "num_images 30: seen in training 1 to 20" in detail


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"points": 1}, "points"),
        ({"points": 201}, "points"),
        ({"points": True}, "points"),
        ({"extrapolate": 1}, "extrapolate"),
        ({"between": [1]}, "between"),
        ({"between": [1, "2"]}, "between[1]"),
        ({"num_images": 130}, "num_images"),
        ({"level": 2}, "level"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient[Any], change: dict[str, Any], field: str) -> None:
    answer = client.post("/advise/price", json=EXAMPLE | change)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"[" * 100_000, 400), (b'{"points": NaN}', 400)],
)
def test_what_is_no_question_is_refused(client: TestClient[Any], body: bytes, status: int) -> None:
    assert client.post("/advise/price", content=body).status_code == status


def test_a_question_that_is_not_declared_is_not_found(client: TestClient[Any]) -> None:
    assert refused(client, "/advise/colour", EXAMPLE) == (
        404,
        "reservations declares no advice 'colour'; there is /advise/price",
    )
    assert client.get("/advise/price").status_code == 405


def test_the_document_describes_what_is_answered(client: TestClient[Any]) -> None:
    document = client.get("/schema/openapi.json").json()
    assert set(document["paths"]) >= {"/predict", "/predict/batch", "/advise/price"}
    assert not [path for path in document["paths"] if "{question}" in path]
    schemas = document["components"]["schemas"]
    taken = schemas["Question"]["properties"]
    assert set(taken) >= {*EXAMPLE, "level", "explain", "points", "between", "extrapolate"}
    answered = {"/predict": "Answer", "/advise/price": "Advice"}
    for path, name in answered.items():
        found = ask(client, path)
        assert set(schemas[name]["required"]) <= set(found) <= set(schemas[name]["properties"])
    assert "reasons" not in schemas["Answer"]["required"]
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas


def test_numbers_of_a_curve_are_finite(client: TestClient[Any]) -> None:
    points = ask(client, "/advise/price", points=200)["curve"]["points"]
    assert np.isfinite([[point["prediction"], point["worth"], point["worth_high"]] for point in points]).all()
