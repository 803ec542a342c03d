"""Reads that repeat are answered 304 as long as nothing has changed; of predictions nothing may be kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import Serve, bearer
from vroom_api.routes.revalidation import MAX_BODY, revalidated

KEPT = [
    "/model",
    "/forecasts",
    "/forecasts/reservations",
    "/forecasts/reservations/versions/1/compare/1",
    "/forecasts/reservations/monitoring",
    "/schema/openapi.json",
    "/ledger",
    "/ledger?limit=1",
    "/alerts",
    "/problems",
    "/problems/invalid-input",
    "/v2",
    "/v2/models/reservations",
    "/v2/models/reservations/versions/1",
]
NEVER_KEPT = [
    "/health",
    "/livez",
    "/readyz",
    "/predictions",
    "/predictions/export",
    "/performance?forecast=reservations",
    "/metrics",
    "/",
    "/schema",
    "/nothing",
    "/v2/health/ready",
]


@pytest.mark.parametrize("path", KEPT)
def test_an_answer_that_is_known_is_not_sent_again(client: TestClient[Any], path: str) -> None:
    first = client.get(path)
    assert first.status_code == 200
    assert first.headers.get_list("cache-control") == ["no-cache"]
    tag = first.headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = client.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers.get_list("cache-control") == ["no-cache"]
        assert "content-type" not in again.headers
    other = client.get(path, headers={"if-none-match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", NEVER_KEPT)
def test_what_changes_or_is_of_predictions_is_never_kept(client: TestClient[Any], path: str) -> None:
    answer = client.get(path, headers={"if-none-match": "*"})
    assert answer.status_code != 304
    assert "etag" not in answer.headers
    assert answer.headers.get_list("cache-control") == ["no-store"]


def test_predictions_are_never_kept(client: TestClient[Any]) -> None:
    for path, body in (("/predict", EXAMPLE), ("/predict/batch", [EXAMPLE]), ("/reload", None)):
        answer = client.post(path, json=body, headers={"if-none-match": "*"})
        assert answer.status_code == 200
        assert "etag" not in answer.headers
        assert answer.headers.get_list("cache-control") == ["no-store"]


def test_a_new_champion_is_another_answer(state: Path, client: TestClient[Any]) -> None:
    tag = client.get("/model").headers["etag"]
    publish(state, 2)
    client.post("/reload")
    answer = client.get("/model", headers={"if-none-match": tag})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)


def test_what_only_a_key_opens_is_private(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(auth=True)
    key = bearer((state / "admin.key").read_text().strip())
    first = client.get("/model", headers=key)
    assert first.headers.get_list("cache-control") == ["private, no-cache"]
    assert "authorization" in first.headers["vary"]
    known = {"if-none-match": first.headers["etag"]}
    assert client.get("/model", headers=key | known).status_code == 304
    refused = client.get("/model", headers=known)
    assert refused.status_code == 401
    assert refused.headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize(
    ("kind", "status", "pieces"),
    [
        (b"application/json", 200, [b"x" * (MAX_BODY + 1)]),
        (b"application/json", 200, [b"[1,", b"2]"]),
        (b"application/problem+json", 404, [b"{}"]),
        (b"text/html", 200, [b"<p>"]),
    ],
)
def test_what_is_large_in_pieces_refused_or_no_json_is_sent_as_it_is(
    kind: bytes, status: int, pieces: list[bytes]
) -> None:
    start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
    bodies = [
        {"type": "http.response.body", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    sent: list[Any] = []

    async def route(_: Any, __: Any, send: Any) -> None:
        for message in (start, *bodies):
            await send(dict(message))

    async def keep(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "headers": [(b"if-none-match", b"*")]}
    asyncio.run(revalidated(route)(scope, None, keep))  # type: ignore[arg-type]
    assert sent == [start, *bodies]


def test_head_and_browsers_are_answered_as_before(client: TestClient[Any]) -> None:
    plain = client.get("/model")
    head = client.head("/model")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]
    assert head.headers["etag"] == plain.headers["etag"]
    known = {"if-none-match": plain.headers["etag"]}
    assert client.head("/model", headers=known).status_code == 304
    browser = {"accept": "text/html"}
    indented = client.get("/model", headers=browser)
    assert "\n" in indented.text
    assert indented.json() == plain.json()
    assert indented.headers["content-length"] == str(len(indented.content))
    assert client.get("/model", headers=browser | known).status_code == 304
