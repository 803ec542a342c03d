"""Who is let in, from where, how often and for how long; and that nothing secret comes out."""

import base64
import json
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import Serve, bearer, running, wait_for, whole_log
from vroom_api.contract.environment import BadSetting
from vroom_api.contract.tables import open_database
from vroom_api.security.keys import Role, create_key, revoke_key
from vroom_api.settings import Settings

READING = ["/model", "/health", "/ledger", "/predictions", "/metrics", "/", "/schema", "/schema/openapi.json"]


@pytest.fixture
def key(state: Path) -> Callable[..., str]:
    """Make a key in the service's database."""

    def make(role: Role, name: str | None = None, days: float | None = None) -> str:
        database = open_database(f"sqlite:///{state / 'serving.db'}")
        try:
            return create_key(database, name or role.name, role, days)
        finally:
            database.dispose()

    return make


@pytest.fixture
def guarded(state: Path, serve: Serve, key: Callable[..., str]) -> TestClient[Any]:
    """The service with version 1, keys and a record."""
    publish(state, 1)
    key(Role.ADMIN, "owner")  # so that none is made at the start
    return serve(auth=True, record=True)


@pytest.mark.parametrize("path", READING)
def test_nothing_is_read_without_a_key(guarded: TestClient[Any], key: Callable[..., str], path: str) -> None:
    refused = guarded.get(path)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert guarded.get(path, headers=bearer(key(Role.VIEWER))).status_code == 200


def test_probes_need_no_key(guarded: TestClient[Any]) -> None:
    assert guarded.get("/livez").status_code == 200
    wait_for(lambda: guarded.get("/readyz").status_code == 200)


def test_each_role_may_do_what_it_is_for(guarded: TestClient[Any], key: Callable[..., str]) -> None:
    keys = {role: bearer(key(role)) for role in Role}
    asked: list[tuple[str, str, Any, Role]] = [
        ("POST", "/predict", EXAMPLE, Role.VIEWER),
        ("POST", "/predict/batch", [EXAMPLE], Role.VIEWER),
        ("POST", "/advise/price", EXAMPLE, Role.VIEWER),
        ("POST", "/reload", None, Role.OPERATOR),
        (
            "POST",
            "/outcomes",
            {"forecast": "reservations", "entity_id": "7", "period": "2026", "value": 3},
            Role.OPERATOR,
        ),
        ("GET", "/keys", None, Role.ADMIN),
    ]
    for method, path, content, needed in asked:
        nobody = guarded.request(method, path, json=content)
        assert nobody.status_code == 401, path
        assert nobody.json()["type"] == "urn:vroom:no-key"
        for role, headers in keys.items():
            answer = guarded.request(method, path, json=content, headers=headers)
            assert answer.status_code == (200 if role >= needed else 403), (path, role, answer.text)
            if role < needed:
                assert f"this needs the role {needed.name.lower()}" in answer.json()["detail"]


def test_a_key_is_taken_in_three_ways_and_a_browsers_only_for_reading(
    guarded: TestClient[Any], key: Callable[..., str]
) -> None:
    own = key(Role.ADMIN)
    basic = {"authorization": "Basic " + base64.b64encode(f"me:{own}".encode()).decode()}
    assert guarded.get("/model", headers=bearer(own)).status_code == 200
    assert guarded.get("/model", headers={"x-api-key": own}).status_code == 200
    assert guarded.get("/model", headers=basic).status_code == 200
    assert guarded.post("/reload", headers=basic).status_code == 401
    assert guarded.post("/predict", json=EXAMPLE, headers=basic).status_code == 401


@pytest.mark.parametrize("given", ["", "vroom_", "vroom_000000000000_" + "x" * 43, "\xff", "x" * 5000])
def test_a_wrong_key_is_refused_everywhere_and_not_repeated(guarded: TestClient[Any], given: str) -> None:
    answer = guarded.get("/livez", headers={"authorization": f"Bearer {given}".encode("latin-1")})
    assert answer.status_code == 401
    assert "not known, has expired or was revoked" in answer.json()["detail"]
    if given:
        assert given not in answer.text


def test_a_key_works_as_soon_as_it_is_made_and_not_after_it_was_revoked(
    guarded: TestClient[Any], key: Callable[..., str], state: Path
) -> None:
    import time

    own = key(Role.VIEWER, "late")
    wait_until = time.monotonic() + 10
    while guarded.get("/model", headers=bearer(own)).status_code != 200:
        assert time.monotonic() < wait_until
    admin = bearer(key(Role.ADMIN))
    assert guarded.post("/keys/late/revoke", headers=admin).json()["name"] == "late"
    wait_until = time.monotonic() + 10
    while guarded.get("/model", headers=bearer(own)).status_code != 401:
        assert time.monotonic() < wait_until
        time.sleep(0.05)
    assert guarded.post("/keys/nobody/revoke", headers=admin).status_code == 404


def test_the_record_names_the_key(guarded: TestClient[Any], key: Callable[..., str]) -> None:
    headers = bearer(key(Role.VIEWER, "web shop"))
    made = guarded.post("/predict", json=EXAMPLE, headers=headers).json()
    kept = guarded.get("/predictions?caller=web shop", headers=headers).json()
    assert [one["id"] for one in kept["predictions"]] == [made["prediction_id"]]


def test_the_first_start_with_keys_makes_one_for_the_admin(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(auth=True)
    own = (state / "admin.key").read_text().strip()
    listed = client.get("/keys", headers=bearer(own))
    assert [one["name"] for one in listed.json()] == ["first admin"]
    assert own not in listed.text
    assert "sha256" not in listed.text


def test_without_a_database_keys_are_not_guessed(state: Path, serve: Serve) -> None:
    publish(state, 1)
    (state / "file").touch()
    client = serve(auth=True, database_url=f"sqlite:///{state / 'file' / 'no.db'}")
    answer = client.get("/model", headers=bearer("vroom_x_y"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert str(state) not in answer.text
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8000", 200),
        ("testserver.local", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example:8000", 400),
        ("", 400),
    ],
)
def test_only_declared_hosts_are_answered_whatever_the_port(
    client: TestClient[Any], host: str, status: int
) -> None:
    for path in ("/model", "/nothing-here"):  # routed or not
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == (status if path == "/model" or status == 400 else 404)
        if status == 400:
            assert "VROOM_ALLOWED_HOSTS" in answer.json()["detail"]


def test_a_probe_may_come_by_address(client: TestClient[Any]) -> None:
    assert client.get("/livez", headers={"host": "10.0.0.7:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/nothing", 404), ("/predict", 405), ("/", 200), ("/schema", 200)]
)
def test_every_answer_carries_the_headers(client: TestClient[Any], path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert "access-control-allow-origin" not in answer.headers
    if answer.headers["content-type"].startswith("text/html"):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_request_id_is_kept_if_it_is_one(client: TestClient[Any]) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 65, "<b>"):
        assert client.get("/livez", headers={"x-request-id": bad}).headers["x-request-id"] != bad


def test_other_sites_may_ask_only_where_it_was_allowed(state: Path, serve: Serve) -> None:
    publish(state, 1)
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    closed = serve()
    assert "access-control-allow-origin" not in closed.options("/predict", headers=asked).headers
    opened = serve(cors_origins=("https://shop.example",))
    answer = opened.options("/predict", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    answer = opened.post("/predict", json=EXAMPLE, headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    other = opened.post("/predict", json=EXAMPLE, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_rate_is_kept_for_each_key(state: Path, serve: Serve, key: Callable[..., str]) -> None:
    publish(state, 1)
    one, two = bearer(key(Role.VIEWER, "one")), bearer(key(Role.VIEWER, "two"))
    client = serve(auth=True, rate=1.0)
    # Saying to come from elsewhere does not make another caller of one.
    answers = [
        client.post("/predict", json=EXAMPLE, headers=one | {"x-forwarded-for": f"10.0.0.{number}"})
        for number in range(5)
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses[0] == 200
    assert statuses.count(429) >= 3
    refused = answers[statuses.index(429)]
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["type"] == "urn:vroom:too-many-requests"
    assert client.post("/predict", json=EXAMPLE, headers=two).status_code == 200


def test_each_row_of_a_batch_counts(state: Path, serve: Serve, key: Callable[..., str]) -> None:
    publish(state, 1)
    one, two = bearer(key(Role.VIEWER, "one")), bearer(key(Role.VIEWER, "two"))
    client = serve(auth=True, rate=10.0)
    assert client.post("/predict/batch", json=[EXAMPLE] * 1_000, headers=one).status_code == 200
    refused = client.post("/predict", json=EXAMPLE, headers=one)
    assert refused.status_code == 429
    assert 90 <= int(refused.headers["retry-after"]) <= 100
    assert "a batch counts its rows" in refused.json()["detail"]
    assert client.post("/predict/batch", json=[EXAMPLE] * 2, headers=two).status_code == 200
    assert client.post("/predict", json=EXAMPLE, headers=two).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    with running(home, REQUEST_SECONDS=2) as (address, _):
        port = int(address.rpartition(":")[2])
        head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                for _ in range(2)
            ]
            for connection, part in zip(connections, (b"", b"{"), strict=True):
                connection.sendall(head + part)
            for connection in connections:
                answer = b""
                while piece := connection.recv(65_536):
                    answer += piece
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b"the body did not come within 2 s" in answer
        assert httpx.post(f"{address}/predict", json=EXAMPLE).status_code == 200


def test_forwarded_addresses_are_not_believed(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    given = {
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-host": "evil.example",
        "forwarded": "for=203.0.113.9",
    }
    with running(home, LOG_LEVEL="debug") as (address, process):
        page = httpx.get(f"{address}/schema", headers=given)
        assert "evil.example" not in page.text
        text = whole_log(home, process)
    assert '"/schema"' in text
    assert "203.0.113.9" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "vroom.example"])
def test_without_keys_the_service_is_for_this_machine_alone(host: str) -> None:
    with pytest.raises(BadSetting, match="without API keys the service is for this machine only"):
        Settings.read({"VROOM_HOST": host, "VROOM_AUTH": "off"})
    assert Settings.read({"VROOM_HOST": host}).auth
    assert not Settings.read({}).auth
    assert Settings.read({"VROOM_AUTH": "on"}).auth


def test_logs_are_structured_name_the_request_and_hold_no_secret(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    database = open_database(f"sqlite:///{home / 'serving.db'}")
    own, gone = create_key(database, "shop", Role.VIEWER), create_key(database, "gone", Role.VIEWER)
    revoke_key(database, "gone")
    with running(home, AUTH="on", LOG_LEVEL="debug") as (address, process):
        for secret in (own, gone):
            headers = bearer(secret) | {"x-request-id": "request-1"}
            httpx.post(f"{address}/predict", json=EXAMPLE | {"entity_id": "person-7"}, headers=headers)
            httpx.get(f"{address}/predictions?entity_id=private", headers=headers)
            httpx.post(f"{address}/predict", json={"colour": "person-7"}, headers=headers)
        text = whole_log(home, process)
    lines = [json.loads(line) for line in text.splitlines()]
    mine = [line for line in lines if line.get("request_id") == "request-1" and line["event"] == "request"]
    assert [(line["status"], line["caller"]) for line in mine] == [
        (200, "shop"), (200, "shop"), (422, "shop"), (401, None), (401, None), (401, None),
    ]  # fmt: skip
    assert all({"timestamp", "level", "logger", "path", "milliseconds"} <= line.keys() for line in mine)
    for secret in (own, gone, "person-7", "private"):
        assert secret not in text


def test_errors_do_not_tell_where_things_are(
    state: Path, client: TestClient[Any], caplog: pytest.LogCaptureFixture
) -> None:
    (state / "reservations" / "champion.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        given = client.post("/reload").text + client.get("/health").text + client.get("/").text
    assert "champion.json" in given
    assert str(state) not in given
    assert str(state) in caplog.text
