"""The client is installed as others install it, and drives a real service."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.docs import python_of
from tests.support.entities import keep
from tests.support.markets import MARKET, MARKETS, publish_markets
from tests.support.project import ROOT
from tests.support.service import running, wait_for
from vroom_api.client import vroom_client
from vroom_api.client.vroom_client import Client, Event

PROJECT = ROOT / "vroom_api" / "client"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service with keys, its address and an admin's key."""
    home = tmp_path_factory.mktemp("client") / "var"
    publish(home, 1)
    publish_markets(home)
    keep(home, {"7": list(EXAMPLE.values())})
    with running(home, AUTH="on") as (address, _):
        key = (home / "admin.key").read_text().strip()
        with Client(address, key=key) as client:
            wait_for(lambda: client._http.get("/readyz").is_success)
        yield address, key


@pytest.fixture
def vroom(service: tuple[str, str]) -> Iterator[Client]:
    address, key = service
    with Client(address, key=key) as client:
        yield client


def test_it_is_installed_alone_and_asks(service: tuple[str, str], tmp_path: Path) -> None:
    """With its own build, into a folder that has nothing else."""
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--target", str(tmp_path), str(PROJECT)],
        check=True,
    )  # fmt: skip
    assert [path.name for path in tmp_path.glob("*.py")] == ["vroom_client.py"]
    script = (
        "import sys, json, vroom_client as v; client = v.Client(*sys.argv[1:2], key=sys.argv[2]); "
        "print(client.predict(json.loads(sys.argv[3])).value); print(v.__file__); print('vroom_api' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *service, json.dumps(EXAMPLE)],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    value, file, of_the_service = ran.stdout.split()
    assert float(value) == pytest.approx(2.134, abs=0.001)
    assert (Path(file), of_the_service) == (tmp_path / "vroom_client.py", "False")


def test_it_is_short_and_needs_httpx_alone() -> None:
    source = (PROJECT / "vroom_client.py").read_text()
    assert len(source.splitlines()) < 200
    assert 'dependencies = ["httpx>=0.28"]' in (PROJECT / "pyproject.toml").read_text()


def test_predictions_are_typed_and_kept(vroom: Client) -> None:
    one = vroom.predict(EXAMPLE, level=0.8, tags={"campaign": "spring"})
    assert (one.level, one.model_version, one.in_support) == (0.8, 1, True)
    assert one.low <= one.value <= one.high
    assert one.prediction_id is not None
    assert one.content["horizon"] == "one calendar year"
    several = vroom.predict_batch([EXAMPLE, EXAMPLE | {"num_images": 9}])
    assert [answer.value for answer in several] == [one.value, pytest.approx(one.value * 1.0513, abs=0.001)]
    assert vroom.predict(EXAMPLE, explain=True).content["reasons"]
    assert vroom.predict_by_id("7").value == one.value
    assert vroom.predict_by_id("7", num_images=9).value == several[1].value
    assert vroom.report({"prediction_id": one.prediction_id, "value": 3})["recorded"] == 1
    assert vroom.report({"prediction_id": one.prediction_id, "value": 3})["unchanged"] == 1


def test_what_serves_is_described(service: tuple[str, str], vroom: Client) -> None:
    model = vroom.model()
    assert model is not None
    assert (model["forecast"], model["version"]) == (FORECAST, 1)
    assert [one["name"] for one in vroom.forecasts()] == [FORECAST, MARKETS]
    assert vroom.advise("price", EXAMPLE, points=5)["curve"]["points"]
    address, key = service
    with Client(address, key=key, forecast=MARKETS) as markets:
        assert 0 < markets.predict(MARKET).value < 1
        model = markets.model()
        assert model is not None
        assert model["forecast"] == MARKETS


def test_refusals_are_exceptions_with_their_fields(service: tuple[str, str], vroom: Client) -> None:
    with pytest.raises(vroom_client.InvalidRequest, match="num_images") as invalid:
        vroom.predict(EXAMPLE | {"num_images": 101})
    problem = invalid.value
    assert (problem.status, problem.type, problem.field) == (422, "urn:vroom:invalid-input", "num_images")
    assert (problem.allowed, problem.help) == ("0..100 photos", "/problems/invalid-input")
    assert problem.errors[0]["detail"] == problem.detail
    with pytest.raises(vroom_client.NotFound):
        vroom.predict_by_id("8")
    with (
        Client(service[0], key="vroom_wrong") as nobody,
        pytest.raises(vroom_client.NotAllowed, match="not known"),
    ):
        nobody.predict(EXAMPLE)


def test_the_example_of_the_docs_runs(
    service: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = python_of(ROOT / "docs" / "clients.md")[1].partition("    for event in")[0]
    monkeypatch.setitem(sys.modules, "vroom_client", vroom_client)
    exec(example.replace("http://127.0.0.1:8000", service[0]).replace("vroom_…", service[1]), {})
    predicted, refused = capsys.readouterr().out.splitlines()
    assert len(predicted.split()) == 4
    assert refused == "num_images 0..100 photos"


class Scripted(BaseHTTPRequestHandler):
    """Answers what the test has written down, and keeps what was asked."""

    answers: Iterator[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["last-event-id"]))
        status, headers, body = next(self.answers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def scripted(*answers: tuple[int, dict[str, str], bytes]) -> ThreadingHTTPServer:
    kind = type("Own", (Scripted,), {"answers": iter(answers), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def address_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


LATER = (503, {"retry-after": "1"}, b'{"detail": "not now"}')
BARE = (503, {}, b'{"detail": "expired"}')
FOUND = (200, {}, b'[{"name": "reservations"}]')


def test_what_can_be_asked_again_is_and_what_cannot_is_not() -> None:
    with scripted(LATER, LATER, FOUND, BARE, *[LATER] * 4) as server:
        with Client(address_of(server), longest_wait=0.01) as client:
            assert client.forecasts() == [{"name": "reservations"}]
            with pytest.raises(vroom_client.Unavailable, match="expired"):
                client.forecasts()
            with pytest.raises(vroom_client.Unavailable, match="not now") as caught:
                client.forecasts()
            assert caught.value.retry_after == 1
            assert len(server.RequestHandlerClass.asked) == 3 + 1 + 4  # type: ignore[attr-defined]
        server.shutdown()


def sent(*numbers: int, cut: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    events = [
        b'id: %d\r\nevent: model-promoted\r\ndata: {"n": "%d\xe2\x80\xa8"}\r\n\r\n' % (number, number)
        for number in numbers
    ]
    return 200, {"content-type": "text/event-stream"}, b": keep-alive\n\n" + b"".join(events) + cut


def test_events_go_on_where_they_ended() -> None:
    """Also where one was cut off; a line separator inside a text ends no line."""
    state = (200, {}, b'event: state\ndata: {"version": 1}\n\n')
    with scripted(state, sent(1, 2, cut=b'id: 3\ndata: {"n"'), BARE, sent(3), sent(4)) as server:
        with Client(address_of(server)) as client:
            found = list(itertools.islice(client.events("/events", pause=0.01), 5))
        assert found[0] == Event(None, "state", {"version": 1})
        assert found[1:] == [
            Event(str(number), "model-promoted", {"n": f"{number}\u2028"}) for number in (1, 2, 3, 4)
        ]
        asked = server.RequestHandlerClass.asked  # type: ignore[attr-defined]
        assert asked == [("/events", last) for last in (None, None, "2", "2", "3")]
        server.shutdown()


def test_events_that_are_refused_end_the_iteration(vroom: Client) -> None:
    with pytest.raises(vroom_client.NotFound):
        next(vroom.events("/nothing"))
