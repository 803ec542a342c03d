"""Every route, as the application lists them: a new one is in here by itself."""

import asyncio
import itertools
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import Serve, bearer, settings_of
from vroom_api.app import create_app
from vroom_api.contract.tables import open_database
from vroom_api.security.keys import Role, create_key
from vroom_api.security.shield import PROBES

OPERATOR = {"/outcomes", "/reload", "/forecasts/{name:str}/reload"} | {
    f"{before}/{command}"
    for before in ("", "/forecasts/{name:str}")
    for command in ("materialize", "train", "rollback", "benchmark", "benchmark/id")
}
OPERATOR |= {f"/forecasts/{{name:str}}/trial/{way}" for way in ("stop", "promote")}
# Read by viewers, changed by operators.
CHANGES = {"/forecasts/{name:str}/trial"} | {
    f"{entities}{one}"
    for entities in ("/vehicles", "/forecasts/{name:str}/entities")
    for one in ("", "/{identifier:str}")
}
ADMIN = {"/keys", "/keys/{name_or_id:str}/revoke"}
FOREIGN = [
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://testserver.local:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


def routes(app: Any) -> list[tuple[str, str]]:
    """Methods and paths of all routes; plain ASGI handlers take POST."""
    found = []
    for route in app.routes:
        methods = getattr(route, "methods", {"POST"}) - {"OPTIONS"}
        found += [
            (method, route.path_format if hasattr(route, "path_format") else route.path) for method in methods
        ]
    return sorted(found)


def filled(path: str) -> str:
    """A path with its parameters."""
    values = {"name": "reservations", "name_or_id": "nobody", "question": "price", "version": "1", "cause": "invalid-input", "identifier": "0" * 8 + "-0000-7000-8000-" + "0" * 12}  # fmt: skip
    values["command"] = values["identifier"]
    for name, value in values.items():
        for kind in ("", ":str", ":uuid"):
            path = path.replace("{" + name + kind + "}", value)
    return f"{path}?wait=0" if path.endswith("/events") else path  # a stream has no end of its own


# Under /v2 clients expect the reason in another member as well, whether there is such a route or not.
ERROR = re.compile(r'"error":"[^"]*",')


def ask(client: TestClient[Any], method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    body = EXAMPLE if method == "POST" else None
    if path.endswith("/batch"):
        return client.request(method, filled(path), json=[EXAMPLE], headers=headers)
    return client.request(method, filled(path), json=body, headers=headers)


@pytest.fixture
def keys(state: Path) -> dict[Role, dict[str, str]]:
    publish(state, 1)
    database = open_database(f"sqlite:///{state / 'serving.db'}")
    try:
        return {role: bearer(create_key(database, role.name, role)) for role in Role}
    finally:
        database.dispose()


def needed(path: str, method: str = "GET") -> Role | None:
    if path in PROBES:
        return None
    normal = re.sub(r"{(name|name_or_id|identifier)}", r"{\1:str}", path)
    operated = normal in OPERATOR or (normal in CHANGES and method != "GET")
    return Role.ADMIN if normal in ADMIN else Role.OPERATOR if operated else Role.VIEWER


@pytest.mark.parametrize("auth", [False, True])
def test_every_route_is_for_its_role(serve: Serve, keys: dict[Role, dict[str, str]], auth: bool) -> None:
    """Without keys all routes are for everybody, and there are none about keys."""
    client = serve(auth=auth, record=True)
    listed = routes(client.app)
    assert len(listed) > 20
    assert bool({path for _, path in listed if needed(path) == Role.ADMIN}) == auth
    for (method, path), role in itertools.product(listed, [None, *Role]):
        answer = ask(client, method, path, keys[role] if role else {})
        least = needed(path, method)
        if not auth or least is None or (role is not None and role >= least):
            assert answer.status_code not in (401, 403, 405, 500), (method, path, role)
        else:
            assert answer.status_code == (401 if role is None else 403), (method, path, role)


@pytest.mark.parametrize("auth", [False, True])
def test_no_route_that_does_something_is_for_pages_of_other_sites(
    serve: Serve, keys: dict[Role, dict[str, str]], auth: bool
) -> None:
    client = serve(auth=auth, record=True)
    shown = keys[Role.ADMIN] if auth else {}
    for (method, path), foreign in itertools.product(routes(client.app), FOREIGN):
        if method != "GET":
            refused = ask(client, method, path, shown | foreign)
            assert refused.status_code == 403, (path, foreign)
            assert refused.json()["type"] == "urn:vroom:foreign-origin"
            assert "VROOM_CORS_ORIGINS" in refused.json()["detail"]
    assert client.get("/predictions", headers=shown).json()["predictions"] == []
    for own in (
        {"origin": "http://testserver.local", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        assert ask(client, "POST", "/predict", shown | own).status_code == 200


@pytest.mark.parametrize("auth", [False, True])
def test_every_route_takes_json_alone(serve: Serve, keys: dict[Role, dict[str, str]], auth: bool) -> None:
    client = serve(auth=auth)
    shown = keys[Role.ADMIN] if auth else {}
    wrong = {
        "application/x-www-form-urlencoded": "send application/json",
        "text/plain": "send application/json",
        "multipart/form-data; boundary=a": "send application/json",
        "application/json; charset=latin-1": "send UTF-8",
    }
    for method, path in routes(client.app):
        if method == "GET":
            continue
        for kind, words in wrong.items():
            refused = client.post(filled(path), content=b"{}", headers=shown | {"content-type": kind})
            assert (refused.status_code, words in refused.json()["detail"]) == (415, True), (path, kind)
        for encoding in ("gzip", "deflate", "br"):
            refused = client.post(filled(path), content=b"{}", headers=shown | {"content-encoding": encoding})
            assert refused.status_code == 415
            assert refused.json()["detail"] == f"Content-Encoding {encoding} is not accepted; send it plain"
            assert refused.headers["accept-encoding"] == "identity"
    for kind in (
        {},
        {"content-type": "application/json; charset=UTF-8"},
        {"content-type": "application/ld+json"},
    ):
        answer = client.post("/predict", content=client.build_request("POST", "/", json=EXAMPLE).content, headers=shown | kind)  # fmt: skip
        assert answer.status_code == 200, kind


@pytest.mark.parametrize("auth", [False, True])
def test_head_is_get_without_the_body(serve: Serve, keys: dict[Role, dict[str, str]], auth: bool) -> None:
    client = serve(auth=auth, record=True)
    shown = keys[Role.ADMIN] if auth else {}
    changing = {"x-request-id", "date", "content-length"}  # of a page with times in it the length, too
    for method, path in routes(client.app):
        given = client.head(filled(path), headers=shown)
        if method == "GET":
            got = client.get(filled(path), headers=shown)
            assert (given.status_code, given.content) == (got.status_code, b""), path
            assert {*given.headers} == {*got.headers}
            for name in {*given.headers} - changing:
                assert given.headers[name] == got.headers[name], path
        elif ("GET", path) not in routes(client.app):
            assert (given.status_code, given.content) == (405, b""), path
    assert client.head("/nothing", headers=shown).status_code == 404
    assert set(client.delete("/model", headers=shown).headers["allow"].split(", ")) >= {"GET", "HEAD"}


def test_without_a_key_nobody_learns_which_routes_there_are(
    serve: Serve, keys: dict[Role, dict[str, str]]
) -> None:
    for origins in ((), ("https://shop.example",)):
        client = serve(auth=True, cors_origins=origins)
        paths = [filled(path) for _, path in routes(client.app) if path not in PROBES]
        preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        for method, headers in itertools.product(("OPTIONS", "HEAD", "PUT", "TRACE"), ({}, preflight)):
            answers = {
                (
                    one.status_code,
                    ERROR.sub("", one.text.replace(one.headers["x-request-id"], "")),
                    one.headers.get("allow"),
                )
                for one in (client.request(method, path, headers=headers) for path in [*paths, "/nothing"])
            }
            assert len(answers) == 1, (method, headers)


def test_no_type_names_its_charset_twice(serve: Serve, state: Path) -> None:
    publish(state, 1)
    client = serve(record=True)
    for method, path in routes(client.app):
        kind = ask(client, method, path, {}).headers.get("content-type", "")
        assert kind.count("charset=") <= 1, path
    assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")


@pytest.mark.parametrize("auth", [False, True])
@pytest.mark.parametrize("host", ["[::1]evil", "localhost:80:80", "a@localhost", "localhost/", "local host", "[::1", "localhost:a"])  # fmt: skip
def test_what_is_not_a_host_is_refused_everywhere(
    serve: Serve, keys: dict[Role, dict[str, str]], auth: bool, host: str
) -> None:
    for hosts in ({}, {"allowed_hosts": ("*",)}):
        client = serve(auth=auth, **hosts)
        for method, path in routes(client.app):
            refused = ask(client, method, path, keys[Role.ADMIN] | {"host": host})
            assert (refused.status_code, refused.json()["type"]) == (400, "urn:vroom:bad-host"), path


@pytest.mark.parametrize("name", [b"host", b"origin", b"authorization", b"x-api-key", b"content-type"])
def test_what_decides_something_is_sent_once(state: Path, name: bytes) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/model",
        "headers": [(b"host", b"localhost"), (name, b"localhost"), (name, b"localhost")],
    }
    app: Any = create_app(settings_of(state)).asgi_handler
    asyncio.run(app(scope, None, send))
    assert sent[0]["status"] == 400
    assert f"the header {name.decode()} was sent twice; send it once" in sent[1]["body"].decode()
