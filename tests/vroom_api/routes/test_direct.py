"""Predictions answered past the router are answered as through it."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, golden_of, graph, manifest, publish, write
from tests.support.service import Serve, timeless
from vroom_api.routes import direct

ROUTES = (
    "/predict",
    "/predict/batch",
    "/forecasts/reservations/predict",
    "/forecasts/reservations/predict/batch",
)
BODIES: tuple[Any, ...] = (EXAMPLE, [EXAMPLE, EXAMPLE], {}, [], EXAMPLE | {"actual_price": "x"}, "text")


@pytest.fixture
def both(state: Path, serve: Serve) -> tuple[TestClient[Any], TestClient[Any]]:
    """The service, and one all of whose requests go through Litestar."""
    publish(state, 1)
    return serve(), serve(cors_origins=("https://shop.example",))


@pytest.mark.parametrize("path", [*ROUTES, "/forecasts/nothing/predict", "/forecasts/reservations/predict/"])
def test_answers_and_refusals_are_those_of_the_router(
    both: tuple[TestClient[Any], TestClient[Any]], path: str
) -> None:
    for method in ("POST", "GET", "HEAD", "PUT", "OPTIONS"):
        for body in BODIES if method == "POST" else (EXAMPLE,):
            for query in ("", "?explain=true") if body is EXAMPLE else ("",):
                content = {
                    "content": msgspec.json.encode(body),
                    "headers": {"content-type": "application/json"},
                }
                answers = [
                    client.request(method, path + query, **(content if method == "POST" else {}))
                    for client in both
                ]
                past, through = ((one.status_code, timeless(one.content), _headers(one)) for one in answers)
                assert past == through


def _headers(answer: Any) -> dict[str, str]:
    """Without what differs between any two answers, and what only pages of other sites are sent."""
    ignored = ("x-request-id", "vary", "access-control-allow-credentials", "access-control-allow-origin")
    return {name: value for name, value in answer.headers.items() if name not in ignored}


def test_what_was_published_later_is_answered_by_its_name(state: Path, serve: Serve) -> None:
    client = serve()
    path = "/forecasts/lap_times/predict"
    assert client.post(path, json=EXAMPLE).status_code == 404
    write(state, "lap_times", manifest(1, forecast="lap_times"), graph(1.0), golden_of(1.0))
    assert client.post("/forecasts/lap_times/reload").status_code == 200
    assert client.post(path, json=EXAMPLE).status_code == 200


def test_metrics_name_the_route_and_not_the_path(both: tuple[TestClient[Any], TestClient[Any]]) -> None:
    for client in both:
        for path in ROUTES:
            client.post(path, json=[EXAMPLE] if "batch" in path else EXAMPLE)
    named = [
        {
            line.split('route="')[1].split('"')[0]
            for line in client.get("/metrics").text.splitlines()
            if 'route="' in line
        }
        for client in both
    ]
    assert named[0] == named[1]
    assert "/forecasts/{name}/predict" in named[0]


def test_a_defect_is_in_the_log_and_not_in_the_answer(
    both: tuple[TestClient[Any], TestClient[Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: object) -> bytes:
        raise RuntimeError("secret")

    monkeypatch.setattr(direct.Predictor, "predict", fail)
    with caplog.at_level(logging.ERROR):
        answers = [client.post("/predict", json=EXAMPLE) for client in both]
    assert [one.status_code for one in answers] == [500, 500]
    assert answers[0].json() == answers[1].json()
    assert "secret" not in answers[0].text
    assert "POST /predict failed" in caplog.text
