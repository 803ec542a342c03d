"""Dagster's pages as the supervisor starts them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.project import ROOT
from tests.support.service import wait_until_answered
from vroom_assets.dagster_server import Guard
from vroom_assets.supervisor import free_port, prepare_home, services

QUERY = {"query": "{ version }"}
CHANGE = {"query": "mutation { setNuxSeen }"}
FOREIGN = [
    {"origin": "http://elsewhere.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},  # another port is another site
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
]


async def answers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answered"})


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """The guard around an application that answers everything."""
    import asyncio

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            async def ask() -> httpx.Response:
                inner = httpx.ASGITransport(app=Guard(answers))
                sent = httpx.Request(request.method, request.url, headers=request.headers, content=b"")
                answer = await inner.handle_async_request(sent)
                return httpx.Response(answer.status_code, content=await answer.aread())

            return asyncio.run(ask())

    with httpx.Client(transport=Transport(), base_url="http://localhost:3000") as client:
        yield client


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_changes_nothing(client, headers):
    for path in ("/graphql", "/report_asset_check/a"):
        refused = client.post(path, headers=headers)
        assert refused.status_code == 403
        assert refused.text == "A page of another site may not ask here."
    refused = client.get("/graphql", params=CHANGE, headers=headers)
    assert refused.status_code == 403


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "[::1]elsewhere", "localhost:1:2", ""]
)
def test_a_name_of_another_site_is_refused(client, host):
    for path in ("/", "/graphql"):
        refused = client.get(path, headers={"host": host})
        assert refused.status_code == 403
        assert "VROOM_DAGSTER_HOSTS" in refused.text


def test_graphql_is_asked_by_post_alone(client):
    assert client.get("/graphql", params=CHANGE).status_code == 403
    assert client.get("/graphql").status_code == 200  # its page for people
    assert client.post("/graphql").status_code == 200


def test_own_pages_programs_and_links_are_answered(client):
    own = {"origin": "http://localhost:3000", "sec-fetch-site": "same-origin"}
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.post("/graphql", headers=own).status_code == 200
    assert client.post("/graphql").status_code == 200
    assert client.get("/runs/1", headers=link).status_code == 200


def test_the_supervisor_starts_the_guarded_one(home: Path):
    prepare_home()
    command = next(service.command for service in services() if service.name == "dagster")
    assert command[1:3] == ["-m", "vroom_assets.dagster_server"]


@pytest.mark.slow
def test_the_real_one_refuses_other_sites_and_answers_its_own(home: Path, tmp_path: Path):
    workspace, port = tmp_path / "workspace.yaml", free_port()
    workspace.write_text("load_from: []\n")
    prepare_home()
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "vroom_assets.dagster_server", "-w", str(workspace), "-h", "127.0.0.1"),
            *("-p", str(port)),
        ],
        cwd=ROOT,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            wait_until_answered(client, "/server_info", process)
            assert "version" in client.post("/graphql", json=QUERY).json()["data"]
            assert client.post("/graphql", json=CHANGE).json() == {"data": {"setNuxSeen": True}}
            for headers in FOREIGN:
                assert client.post("/graphql", json=CHANGE, headers=headers).status_code == 403
                assert client.get("/graphql", params=CHANGE, headers=headers).status_code == 403
            assert client.get("/graphql", params=CHANGE).status_code == 403
            assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 403
            upgrade = {
                "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol": "graphql-ws",
            }  # fmt: skip
            foreign = client.get("/graphql", headers=upgrade | {"origin": "http://elsewhere.example"})
            assert foreign.status_code == 403
            own = {"origin": f"http://127.0.0.1:{port}"}
            with client.stream("GET", "/graphql", headers=upgrade | own) as opened:
                assert opened.status_code == 101
    finally:
        process.terminate()
        process.wait(20)
