"""Every published forecast is served by its name, described by itself, and stopped by no other."""

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.markets import CATEGORIES, MARKET, MARKETS, probability, publish_markets
from tests.support.service import Serve, metric_set, one, settings_of, wait_for
from vroom_api.app import create_app
from vroom_api.contract import POINTER, AgeLimits, FreshnessPolicy, bundle_folder, forecast_folder
from vroom_api.contract.pages import Pages
from vroom_api.contract.tables import open_database
from vroom_api.openapi import camel
from vroom_api.security.keys import Role, create_key

PATH = f"/forecasts/{MARKETS}"


@pytest.fixture
def both(state: Path, serve: Serve) -> Iterator[TestClient[Any]]:
    """The service with two forecasts, which records."""
    publish(state, 1)
    publish_markets(state)
    return serve(record=True)


def ask(client: TestClient[Any], path: str = f"{PATH}/predict", body: Any = MARKET) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_forecast_answers_by_its_name(both: TestClient[Any]) -> None:
    found = ask(both)
    expected = probability(1.0, 0.25, 400.0, 0.0)[1]
    assert found["predicted_resolved_yes"] == pytest.approx(expected)
    assert 0 <= found["interval"]["low"] < expected < found["interval"]["high"] <= 1
    assert (found["horizon"], found["in_support"]) == ("its resolution", True)
    sparse = {"category": "sports", "price": 0.5}
    several = ask(both, f"{PATH}/predict/batch", [MARKET, sparse])
    assert [one["predicted_resolved_yes"] for one in several] == pytest.approx(
        [expected, probability(2.0, 0.5, math.nan, math.nan)[1]]
    )
    explained = ask(both, body=MARKET | {"explain": True})["reasons"]
    assert explained["prediction"] == pytest.approx(expected)


def test_the_flagship_has_its_short_routes_and_its_name(both: TestClient[Any]) -> None:
    for short, path in (("/predict", EXAMPLE), ("/predict/batch", [EXAMPLE]), ("/advise/price", EXAMPLE)):
        found = [ask(both, prefix + short, path) for prefix in ("", "/forecasts/reservations")]
        for answer in found:
            for each in answer if isinstance(answer, list) else [answer]:
                for changing in ("prediction_id", "data_age_s", "model_age_s"):
                    each.pop(changing, None)
        assert found[0] == found[1]


def test_what_is_wrong_is_told_in_the_forecasts_own_words(both: TestClient[Any]) -> None:
    answer = both.post(f"{PATH}/predict", json={"category": "weather", "technology": 1})
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert 'category: "weather" is not one of politics, economy, sports' in detail
    assert "technology: unknown field; the fields are category, price, volume, mood" in detail
    assert both.post(f"{PATH}/predict", json=EXAMPLE).status_code == 422
    assert both.post(f"{PATH}/predict", content=b"{").status_code == 400
    assert both.get(f"{PATH}/predict").status_code == 405


def test_rows_of_two_forecasts_at_once_get_their_own_answers(both: TestClient[Any]) -> None:
    def asked(position: int) -> bool:
        if position % 2:
            return "predicted_resolved_yes" in ask(both)
        return "predicted_reservations" in ask(both, "/forecasts/reservations/predict", EXAMPLE)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(asked, range(80)))


def test_forecasts_are_listed_with_what_they_say_and_where(both: TestClient[Any]) -> None:
    first, second = both.get("/forecasts").json()
    assert (first["name"], first["flagship"], first["kind"]) == ("reservations", True, "count")
    assert second | {"links": {}} == {
        "name": MARKETS,
        "flagship": False,
        "status": "ok",
        "title": "Resolution of a market",
        "kind": "binary",
        "entity": "market",
        "target": "resolved_yes",
        "unit": "probability of yes",
        "horizon": "its resolution",
        "model_version": 1,
        "data_as_of": "2025-03-01T12:00:00",
        "freshness": "unlimited",
        "unattended_since": None,
        "last_error": None,
        "links": {},
    }
    assert second["links"]["advise_bet"] == f"{PATH}/advise/bet"
    for name in ("self", "health"):
        assert both.get(second["links"][name]).status_code == 200
    ask(both, second["links"]["predict"])


def test_a_forecast_tells_its_inputs_its_champion_and_an_example_that_is_taken(both: TestClient[Any]) -> None:
    found = both.get(PATH).json()
    assert [field["name"] for field in found["inputs"]] == list(MARKET)
    assert found["inputs"][0]["values"] == CATEGORIES
    assert found["champion"]["version"] == 1
    assert found["horizon"] == "its resolution"
    assert found["example"] == MARKET
    ask(both, body=found["example"])
    flagship = both.get("/forecasts/reservations").json()
    assert flagship["champion"] == both.get("/model").json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/health"),
        ("POST", "/reload"),
        ("POST", "/predict"),
        ("POST", "/predict/batch"),
        ("POST", "/advise/bet"),
    ],
)
@pytest.mark.parametrize("name", ["horses", "Reservations", "%00", "x" * 5_000])
def test_an_unknown_name_is_not_found_and_the_known_ones_are_told(
    both: TestClient[Any], method: str, path: str, name: str
) -> None:
    answer = both.request(method, f"/forecasts/{name}{path}", json=MARKET)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    if name == "horses":
        assert answer.json()["type"] == "urn:vroom:no-such-forecast"
        assert "the forecasts are reservations, market_resolution" in answer.json()["detail"]
    assert len(answer.content) < 10_000


def test_advice_is_given_about_each_forecasts_own_questions(both: TestClient[Any]) -> None:
    found = ask(both, f"{PATH}/advise/bet", MARKET | {"points": 5})
    assert (found["curve"]["worth"], len(found["curve"]["points"])) == ("stake", 5)
    other = both.post(f"{PATH}/advise/price", json=MARKET)
    assert (other.status_code, other.json()["detail"]) == (
        404,
        f"market_resolution declares no advice 'price'; there is {PATH}/advise/bet",
    )


def test_one_that_is_published_later_is_served_without_a_restart(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve()
    assert client.post(f"{PATH}/predict", json=MARKET).status_code == 404
    publish_markets(state)
    wait_for(lambda: client.post(f"{PATH}/predict", json=MARKET).status_code == 200)
    publish_markets(state, 2)
    wait_for(lambda: client.get(f"{PATH}/health").json()["model_version"] == 2)
    assert client.get("/health").json()["model_version"] == 1


def test_reload_finds_what_was_published_just_before(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(watch_seconds=3_600)
    publish_markets(state)
    assert client.post(f"{PATH}/reload").json()["current_version"] == 1
    publish_markets(state, 2)
    assert client.post(f"{PATH}/reload").json()["status"] == "reloaded"
    assert ask(client)["model_version"] == 2
    assert client.post("/reload").json()["status"] == "unchanged"


def test_folders_that_are_no_forecasts_are_left_alone(state: Path, serve: Serve) -> None:
    publish(state, 1)
    for name in ("Upper", "a-b", "1st", ".hidden", "x" * 65, "a b"):
        (state / name).mkdir()
        (state / name / POINTER).write_bytes(b"{}")
    (state / "folder" / POINTER).mkdir(parents=True)
    (state / "empty").mkdir()
    assert [one["name"] for one in serve().get("/forecasts").json()] == ["reservations"]


def damaged(state: Path) -> None:
    (bundle_folder(MARKETS, 1, state) / "model.onnx").write_bytes(b"")


def garbled(state: Path) -> None:
    (forecast_folder(MARKETS, state) / POINTER).write_bytes(b"\x00not json")


def undated(state: Path) -> None:
    publish_markets(state, 1, trained_at="long ago")


def unnamed(state: Path) -> None:
    publish_markets(state, 1, inputs=[])


@pytest.mark.parametrize("damage", [damaged, garbled, undated, unnamed])
def test_a_broken_forecast_stops_no_other(state: Path, serve: Serve, damage: Callable[[Path], None]) -> None:
    publish(state, 1)
    publish_markets(state)
    damage(state)
    client = serve()
    ask(client, "/predict", EXAMPLE)
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/readyz").status_code == 200
    for path in ("/forecasts", "/schema", "/schema/openapi.json", "/metrics", "/", "/ledger"):
        assert client.get(path).status_code == 200, path
    broken = client.get(PATH).json()
    assert (broken["status"], broken["champion"], broken["inputs"]) == ("no_champion", None, [])
    assert broken["last_error"]
    refused = client.post(f"{PATH}/predict", json=MARKET)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:no-champion")
    assert "`make run FORECAST=market_resolution` trains one" in refused.json()["detail"]
    publish_markets(state, 2)
    wait_for(lambda: client.get(f"{PATH}/health").json()["status"] == "ok")
    ask(client)


def test_a_broken_flagship_stops_no_other(state: Path, serve: Serve) -> None:
    publish(state, 1, model=b"not a graph")
    publish_markets(state)
    client = serve(record=True)
    assert client.get("/health").json()["status"] == "no_champion"
    assert client.post("/predict", json=EXAMPLE).status_code == 503
    ask(client)
    assert client.get("/readyz").status_code == 200
    assert client.get("/schema/openapi.json").status_code == 200


def test_without_any_champion_the_service_is_not_ready(state: Path, serve: Serve) -> None:
    publish_markets(state, model=b"not a graph")
    answer = serve().get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "no champion serves")


def test_each_forecast_has_its_own_freshness(state: Path, serve: Serve) -> None:
    publish(state, 1)
    day = AgeLimits(stale_after_s=86_400, expired_after_s=2 * 86_400)
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    publish_markets(state, trained_at=old, freshness=FreshnessPolicy(model=day, expired="refuse"))
    client = serve()
    assert ask(client, "/predict", EXAMPLE)["freshness"] == "unlimited"
    refused = client.post(f"{PATH}/predict", json=MARKET)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:expired")
    assert [one["freshness"] for one in client.get("/forecasts").json()] == ["unlimited", "expired"]


@pytest.mark.parametrize(
    "body", [MARKET, {"category": "sports", "price": 0.5}], ids=["all inputs", "some left out"]
)
def test_predictions_are_recorded_under_their_forecast_and_verified(
    both: TestClient[Any], body: dict[str, Any]
) -> None:
    identifier = ask(both, body=body)["prediction_id"]
    ask(both, "/predict", EXAMPLE)
    recorded = both.get("/predictions", params={"forecast": MARKETS}).json()["predictions"]
    assert [(each["id"], each["forecast"]) for each in recorded] == [(identifier, MARKETS)]
    lineage = both.get(f"/predictions/{identifier}")
    assert (lineage.status_code, lineage.json()["verified"]) == (200, True)
    # As they were sent: texts as texts, and nothing for what was left out.
    assert lineage.json()["prediction"]["inputs"] == dict.fromkeys(MARKET) | body


def test_a_prediction_of_a_bundle_that_was_touched_does_not_verify(
    state: Path, both: TestClient[Any]
) -> None:
    mine, other = ask(both)["prediction_id"], ask(both, "/predict", EXAMPLE)["prediction_id"]
    damaged(state)
    assert both.get(f"/predictions/{mine}").status_code == 409
    assert both.get(f"/predictions/{other}").status_code == 200


def test_reasons_of_a_probability_are_percentage_points(both: TestClient[Any]) -> None:
    given = ask(both, body=MARKET | {"explain": True})["reasons"]
    for reason in given["reasons"]:
        message = (
            "no difference"
            if abs(reason["amount"]) <= 1e-9
            else f"{100 * reason['amount']:+.2g} percentage points"
        )
        assert message in reason["sentence"]
    assert any("percentage points" in reason["sentence"] for reason in given["reasons"])


@pytest.mark.parametrize("value", [0, 1, 1.0])
def test_outcomes_of_a_probability_are_yes_or_no(both: TestClient[Any], value: float) -> None:
    given = {"forecast": MARKETS, "prediction_id": ask(both)["prediction_id"], "value": value}
    assert both.post("/outcomes", json=given).json() == {"recorded": 1, "corrected": 0, "unchanged": 0}
    assert both.post("/outcomes", json=given).json()["unchanged"] == 1
    of_another = given | {"forecast": "reservations"}
    assert both.post("/outcomes", json=of_another).status_code == 404


def test_what_is_neither_yes_nor_no_is_no_outcome_of_a_probability(both: TestClient[Any]) -> None:
    given = {"forecast": MARKETS, "entity_id": "17", "period": "2026", "value": 0.7}
    refused = both.post("/outcomes", json=[given | {"value": 1}, given])
    assert (refused.status_code, refused.json()["allowed"]) == (422, "0 or 1")
    assert (
        both.post("/outcomes", json=given | {"value": 1}).json()["recorded"] == 1
    )  # none was recorded before
    of_a_count = both.post("/outcomes", json=given | {"forecast": "reservations"})
    assert (of_a_count.status_code, of_a_count.json()["allowed"]) == (422, "a whole number, at least 0")


def test_measures_are_taken_of_each_forecast(state: Path, both: TestClient[Any]) -> None:
    for _ in range(2):
        ask(both)
    ask(both, f"{PATH}/predict/batch", [MARKET] * 3)
    ask(both, "/predict", EXAMPLE)
    publish_markets(state, 2, model=b"not a graph")
    wait_for(lambda: both.get(f"{PATH}/health").json()["status"] == "degraded")
    found = metric_set(both)
    assert one(found, "vroom_predictions_total", forecast=MARKETS, version="1") == 5
    assert one(found, "vroom_predictions_total", forecast="reservations", version="1") == 1
    assert one(found, "vroom_reload_failures_total", forecast=MARKETS) == 1
    assert one(found, "vroom_reload_failures_total", forecast="reservations") == 0
    for name in ("champion_loaded", "champion_version", "champion_generation"):
        for forecast in (MARKETS, "reservations"):
            assert one(found, f"vroom_{name}", forecast=forecast) == 1
    assert one(found, "vroom_freshness", forecast=MARKETS, verdict="unlimited") == 1
    assert one(found, "vroom_data_age_seconds", forecast=MARKETS) > 0
    assert one(found, "vroom_request_seconds_count", route="/forecasts/{name}/predict", status="200") == 2


def test_only_operators_reload_and_only_callers_with_a_key_ask(state: Path, serve: Serve) -> None:
    publish_markets(state)
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    viewer, operator = (create_key(engine, role.name.lower(), role) for role in (Role.VIEWER, Role.OPERATOR))
    engine.dispose()
    client = serve(auth=True)

    def status(method: str, path: str, key: str | None) -> int:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return client.request(method, path, json=MARKET, headers=headers).status_code

    for method, path in (("GET", "/forecasts"), ("GET", PATH), ("POST", f"{PATH}/predict")):
        assert (status(method, path, None), status(method, path, viewer)) == (401, 200)
    assert status("POST", f"{PATH}/reload", viewer) == 403
    assert status("POST", f"{PATH}/reload", operator) == 200


def test_each_forecast_is_described_by_itself(both: TestClient[Any]) -> None:
    document = both.get("/schema/openapi.json").json()
    schemas = document["components"]["schemas"]

    def validator(name: str) -> Draft202012Validator:
        return Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        )

    for path, request, answer, example in (
        ("/predict", "Request", "Answer", EXAMPLE),
        ("/forecasts/reservations/predict", "ReservationsRequest", "ReservationsAnswer", EXAMPLE),
        (f"{PATH}/predict", "MarketResolutionRequest", "MarketResolutionAnswer", MARKET),
        (f"{PATH}/advise/bet", "MarketResolutionQuestion", "Advice", MARKET),
    ):
        operation = document["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        given = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert (body["$ref"].split("/")[-1], given["$ref"].split("/")[-1]) == (request, answer)
        assert schemas[request]["examples"] == [example]
        assert list(validator(answer).iter_errors(ask(both, path, example))) == []
    market = schemas["MarketResolutionRequest"]
    assert market["title"] == "MarketResolutionRequest"
    assert sorted(market["properties"]["category"]["enum"]) == sorted(CATEGORIES)
    assert market["anyOf"] == [
        {"required": ["category", "price"]},
        {"required": ["entity_id"], "properties": {"entity_id": {"type": "string"}}},
    ]
    assert "predicted_resolved_yes" in schemas["MarketResolutionAnswer"]["required"]
    request = validator("MarketResolutionRequest")
    for change in (
        {},
        {"category": "weather"},
        {"category": None},
        {"volume": None},
        {"volume": -1},
        {"mood": None},
        {"mood": "wild"},
        {"mood": "sad"},
        {"price": 2},
    ):
        taken = both.post(f"{PATH}/predict", json=MARKET | change).status_code == 200
        assert taken == request.is_valid(MARKET | change), change
    named = document["paths"]["/forecasts/{name}"]["get"]["parameters"][0]["schema"]
    assert named["enum"] == ["reservations", MARKETS]


def test_operations_and_schemas_have_names_of_their_own(both: TestClient[Any]) -> None:
    text = both.get("/schema/openapi.json").text
    operations = [
        operation["operationId"] for path in json.loads(text)["paths"].values() for operation in path.values()
    ]
    assert len(operations) == len(set(operations))
    names = ["a_b", "ab", "a__b", "a_1", "a1", "_a", "a", "a_", "a_b_c", "ab_c", "a_bc"]
    assert len({camel(name) for name in names}) == len(names)
    assert camel("lap_times") == "LapTimes"


def test_the_document_follows_every_champion(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve()

    def document() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/schema/openapi.json").json()
        return found

    assert f"{PATH}/predict" not in document()["paths"]
    publish_markets(state, model=b"not a graph")
    wait_for(lambda: f"{PATH}/predict" in document()["paths"])
    assert "properties" not in document()["components"]["schemas"]["MarketResolutionRequest"]
    publish_markets(state, 2)
    wait_for(lambda: "properties" in document()["components"]["schemas"]["MarketResolutionRequest"])


def test_the_page_of_the_document_shows_texts_and_what_may_be_left_out(both: TestClient[Any]) -> None:
    text = both.get("/schema").text
    displayed = text[text.index(f"POST {PATH}/predict<") :]
    for cells in (
        ("category *", "string", "one of economy, politics, sports", "what it is about"),
        (
            "volume",
            "number or null",
            "at least 0, at most 1000000, may be left out",
            "traded in a week, in USD",
        ),
        ("mood", "string or null", "one of calm, wild, may be left out", "of the traders"),
    ):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in displayed
    assert f"curl -s http://testserver.local{PATH}/predict" in displayed


def test_the_page_lists_the_forecasts_and_shows_the_one_that_is_chosen(both: TestClient[Any]) -> None:
    front = both.get("/").text
    assert f'<a href="/?forecast={MARKETS}">{MARKETS}</a>' in front
    assert "Reservations per listing" in front
    assert "reservations of a vehicle in one calendar year" in front
    chosen = both.get("/", params={"forecast": MARKETS}).text
    assert "probability of yes, from 0 to 1, of a market: its resolution" in chosen
    assert "one of politics, economy, sports" in chosen
    assert f'href="{PATH}/health"' in chosen
    assert "<script" not in chosen
    assert both.get("/", params={"forecast": "horses"}).status_code == 404


def test_the_page_leads_to_the_run_that_trained_what_serves_and_to_its_version(
    state: Path, serve: Serve
) -> None:
    publish(state, 3, dagster_run_id="7")
    dagster, mlflow = "http://127.0.0.1:3000", "https://tools.example/mlflow"
    displayed = serve(pages=Pages(dagster=dagster, mlflow=mlflow)).get("/").text
    assert f'href="{dagster}/runs/7"' in displayed
    assert f'href="{mlflow}/#/models/{FORECAST}/versions/3?workflowType=machine_learning"' in displayed


def test_an_empty_page_says_what_to_run(serve: Serve) -> None:
    assert "run make run FORECAST=lap_times" in serve(forecast="lap_times").get("/").text


def test_a_service_that_starts_again_follows_all_forecasts_again(state: Path) -> None:
    publish(state, 1)
    publish_markets(state)
    app = create_app(settings_of(state))

    def follows() -> None:
        with TestClient(app) as client:
            before = ask(client)["model_version"]
            publish_markets(state, before + 1)
            wait_for(lambda: ask(client)["model_version"] == before + 1)

    follows()
    follows()
