"""/model, /health, /ledger and the page."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, manifest, publish
from vroom_api.contract import AgeLimits, FreshnessPolicy, Scores
from vroom_api.contract.events import ContestResult, Decision, SourcesSeen
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer
from vroom_api.contract.tables import enter_ledger, open_database

HELD = ContestResult(
    forecast="reservations",
    challenger=2,
    champion=1,
    generation=1,
    verdict=Decision.HOLD,
    reason="the same",
    failed_gates=[],
    comparison={},
    unseen={},
    data_version="d",
)


@pytest.fixture
def decided(state: Path) -> list[str]:
    """Decisions in the ledger, oldest first; returned as their reasons."""
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    reasons = []
    for position in range(7):
        evidence = HELD if position % 2 else SourcesSeen(sources={}, generation=position)
        reasons.append(f"because <{position}>")
        enter_ledger(
            engine,
            forecast="reservations" if position < 6 else "lap_times",
            actor="sensor",
            decision=Decision.HOLD,
            reason=reasons[-1],
            evidence=evidence,
        )
    engine.dispose()
    return reasons


def test_the_model_says_what_serves_and_what_it_takes(client: TestClient[Any]) -> None:
    found = client.get("/model").json()
    declared = manifest(1)
    for name in ("version", "title", "metrics", "importances", "trained_at", "data_version", "data_as_of"):
        assert found[name] == getattr(declared, name)
    assert found["recipe"]["name"] == "tiny"
    assert found["generation"] == 1
    assert {field["name"]: field["example"] for field in found["inputs"]} == EXAMPLE
    assert found["inputs"][3] | {"seen_minimum": 0, "seen_maximum": 0} == {
        "name": "num_images",
        "type": "integer",
        "values": [],
        "nullable": False,
        "seen_missing": False,
        "is_open": False,
        "description": "photos",
        "unit": "photos",
        "minimum": 0,
        "above": None,
        "maximum": 100,
        "seen_minimum": 0,
        "seen_maximum": 0,
        "example": 8,
        "levels": [],
    }


def test_the_model_names_the_metrics_that_it_was_chosen_and_is_judged_by(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    scores = Scores(
        error="mae", select="poisson_deviance", nested={}, cv_mean={}, cv_std={}, folds=[], baselines={}
    )
    publish(state, 1, scores=scores)
    client = serve()
    for model in (client.get("/model").json(), client.get("/forecasts/reservations").json()["champion"]):
        assert (model["selection_metric"], model["error_metric"]) == ("poisson_deviance", "mae")
    publish(state, 2)  # as bundles were before they had it
    client.post("/reload")
    model = client.get("/model").json()
    assert (model["version"], model["selection_metric"], model["error_metric"]) == (2, None, None)


def test_without_a_champion_there_is_no_model_and_health_says_so(
    serve: Callable[..., TestClient[Any]],
) -> None:
    client = serve()
    assert client.get("/model").status_code == 503
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "no_champion")
    page = client.get("/")
    assert page.status_code == 200
    assert "No champion serves yet; run make run" in page.text


def test_the_ledger_is_newest_first_and_pages_without_gaps(
    client: TestClient[Any], decided: list[str]
) -> None:
    found, before = [], None
    while True:
        parameters = {"limit": 3} | ({"before": before} if before else {})
        page = client.get("/ledger", params=parameters).json()
        found += [entry["reason"] for entry in page["entries"]]
        before = page["next_before"]
        if before is None:
            break
        assert len(page["entries"]) == 3
    assert found == decided[::-1]


def test_the_ledger_is_filtered_by_event_and_forecast(client: TestClient[Any], decided: list[str]) -> None:
    def reasons(**parameters: str) -> list[str]:
        return [entry["reason"] for entry in client.get("/ledger", params=parameters).json()["entries"]]

    assert reasons(event="contest") == [decided[5], decided[3], decided[1]]
    assert reasons(forecast="lap_times") == [decided[6]]
    assert reasons(forecast="lap_times", event="contest") == []


def test_an_entry_carries_its_evidence_and_a_time_with_a_zone(
    client: TestClient[Any], decided: list[str]
) -> None:
    newest = client.get("/ledger", params={"limit": 1}).json()["entries"][0]
    assert newest["evidence"] == {
        "sources": {},
        "changed": [],
        "generation": 6,
        "cause": "change",
        "numbers": {},
    }
    assert newest["time"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("before=0", "before"),
        ("event=%00", "event"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient[Any], query: str, field: str) -> None:
    answer = client.get(f"/ledger?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert answer.json()["detail"].startswith(f"{field}: ")


def test_the_page_shows_champion_and_decisions(client: TestClient[Any], decided: list[str]) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Version 1 serves." in page.text
    assert "one calendar year" in page.text
    assert "because &lt;6&gt;" in page.text
    assert page.text.index("because &lt;6&gt;") < page.text.index("because &lt;0&gt;")


def test_data_that_no_limit_judges_are_not_fresh_on_the_page(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1)
    client = serve()
    assert "<td>no limit is declared</td>" in client.get("/").text
    limits = AgeLimits(stale_after_s=1e12, expired_after_s=1e13)
    publish(state, 2, freshness=FreshnessPolicy(model=limits))
    client.post("/reload")
    assert "<td>fresh (model)</td>" in client.get("/").text


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_json_of_every_route_has_line_breaks_for_a_browser(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1)
    client = serve(record=True)
    recorded = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
    beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=5.0), state)
    command = client.post("/train").json()["id"]
    paths = [
        path.replace("{name}", "reservations")
        .replace("{identifier}", recorded)
        .replace("{command}", command)
        .replace("{before}", "1")
        .replace("{after}", "1")
        .replace("{version}", "1")
        .replace("{cause}", "invalid-input")
        for path, operations in client.get("/schema/openapi.json").json()["paths"].items()
        if "application/json"
        in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    ]
    paths[paths.index("/performance")] = "/performance?forecast=reservations"
    paths = [path for path in paths if not path.startswith("/problems")]  # those are pages for a browser
    # Of entities there are none here, and the ids of others mean nothing there.
    paths = [
        path for path in paths if not re.match(r"(/vehicles|/forecasts/\w+/entities)/[0-9a-f]{8}-", path)
    ]
    assert len(paths) > 10
    refused = ["/nothing", "/predict", "/ledger?limit=0", "/ledger?x=1", "/forecasts/nope"]
    for path in [*paths, "/schema/openapi.json", *refused]:
        plain, readable = client.get(path), client.get(path, headers=BROWSER)
        assert readable.status_code == plain.status_code == 200 or path in refused, (path, plain.text)
        assert readable.headers["content-type"] == plain.headers["content-type"]
        assert int(readable.headers["content-length"]) == len(readable.content)
        assert readable.text.startswith(("{\n  ", "[\n  ")), path
        assert "\n" not in plain.text, path
        assert type(readable.json()) is type(plain.json())
        head = client.head(path, headers=BROWSER)
        # What says how old something is may be a digit longer by now.
        assert abs(int(head.headers["content-length"]) - len(readable.content)) < 5, path
        assert head.content == b""


def test_a_refusal_before_every_route_is_readable_too(serve: Callable[..., TestClient[Any]]) -> None:
    refused = serve(auth=True).get("/model", headers=BROWSER)
    assert (refused.status_code, refused.text[:4]) == (401, "{\n  ")


def test_what_is_not_json_is_left_as_it_is_for_a_browser(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1)
    client = serve(record=True)
    client.post("/predict", json=EXAMPLE)
    for path in ("/predictions/export", "/schema"):
        assert client.get(path, headers=BROWSER).content == client.get(path).content
    answered = client.post("/predict", json=EXAMPLE, headers=BROWSER)
    assert "\n" not in answered.text


def test_a_database_that_does_not_answer_stops_only_the_ledger(
    state: Path, serve: Callable[..., TestClient[Any]], tmp_path: Path
) -> None:
    publish(state, 1)
    folder = tmp_path / "a_folder.db"
    folder.mkdir()
    client = serve(database_url=f"sqlite:///{folder}")
    answer = client.get("/ledger")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:vroom:no-database")
    assert answer.headers["retry-after"] == "10"
    assert "the serving database does not answer" in client.get("/").text
    folder.rmdir()
    assert client.get("/ledger").json() == {"entries": [], "next_before": None}


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing", 404, "/nothing: there is nothing here; /schema lists what there is"),
        ("POST", "/model", 405, "/model does not take POST; it takes GET, HEAD, OPTIONS"),
        ("GET", "/reload", 405, "/reload does not take GET; it takes OPTIONS, POST"),
    ],
)
def test_unknown_paths_and_methods_are_problems(
    client: TestClient[Any], method: str, path: str, status: int, detail: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert sorted(answer.headers["allow"].split(", ")) == sorted(detail.rsplit("takes ")[-1].split(", "))


def test_a_defect_is_logged_and_not_told(
    client: TestClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("vroom_api.routes.forecasts.health_of", broken)
    monkeypatch.setattr("vroom_api.champion.scoring.score", broken)
    for answer in (client.get("/health"), client.post("/predict", json=EXAMPLE)):
        assert answer.status_code == 500
        assert answer.json() == {
            "type": "urn:vroom:defect",
            "title": "Internal Server Error",
            "status": 500,
            "detail": "the service failed on this request; its log says why",
            "help": "/problems/defect",
        }
    assert caplog.text.count("RuntimeError: the secret inside") == 2


def test_the_page_shows_the_features_with_their_sql_and_what_they_are_worth(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1, importances={"num_images": 0.25, "log_price_ratio": 1.5})
    page = serve().get("/").text
    assert "ln(actual_price / recommended_price)" in page
    assert page.index("+1.5") < page.index("+0.25")
