"""Events over HTTP: how things are, what happens, and nothing missing for whoever was away."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.bundles import FORECAST, publish
from tests.support.service import Serve, bearer, metric_set, running, settings_of, wait_for
from vroom_api.app import create_app
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.tables import open_database
from vroom_api.security.keys import Role, create_key, revoke_key


class Event(NamedTuple):
    name: str
    data: dict[str, Any]
    id: str = ""


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events, as the HTML standard reads them."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield Event(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id", ""))
            fields = {}
            continue
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")


def heard(client: TestClient[Any], path: str = "/events", headers: Any = None, **wanted: Any) -> list[Event]:
    """What there is now."""
    answer = client.get(path, params={"wait": 0} | wanted, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(events_of(iter(answer.text.splitlines())))


@pytest.fixture
def engine(state: Path) -> Iterator[sa.Engine]:
    """The database that the service of `serve` has."""
    engine = open_database(settings_of(state).database_url)
    yield engine
    engine.dispose()


def save(engine: sa.Engine, *numbers: int, forecast: str = FORECAST) -> None:
    with engine.begin() as connection:
        for number in numbers:
            append_event(
                connection,
                forecast=forecast,
                topic=Topic.ENTITIES,
                name="vehicle-saved",
                data={"number": number},
            )


def numbers(events: list[Event]) -> list[int]:
    return [event.data["number"] for event in events if event.name == "vehicle-saved"]


def test_the_first_events_say_how_things_are(client: TestClient[Any]) -> None:
    wait_for(lambda: heard(client)[0].data["after"] == 1)  # it was announced that version 1 is loaded
    assert heard(client) == [
        Event("connected", {"after": 1}, "1"),
        Event("health-changed", {"forecast": FORECAST, "status": "ok", "version": 1, "generation": 1}),
        Event("alerts-open", {"open": 0}),
    ]
    (loaded,) = heard(client, after=0)[3:]
    assert (loaded.name, loaded.id, loaded.data["version"], loaded.data["topic"]) == (
        "model-loaded",
        "1",
        1,
        "model",
    )


def test_each_route_has_its_topic(client: TestClient[Any], engine: sa.Engine) -> None:
    wait_for(lambda: len(heard(client, after=0)) == 4)
    save(engine, 1)
    save(engine, 2, forecast="lap_times")
    raise_alert(engine, forecast=FORECAST, kind="drift", severity=Severity.WARNING, message="prices moved")
    assert numbers(heard(client, after=0)) == [1, 2]
    assert numbers(heard(client, "/vehicles/events", after=0)) == [1]
    assert numbers(heard(client, f"/forecasts/{FORECAST}/events", after=0)) == [1]
    assert numbers(heard(client, "/events?topic=entities&topic=alerts", after=0)) == [1, 2]
    assert [event.name for event in heard(client, "/pipelines/events", after=0)] == ["connected"]
    names = [event.name for event in heard(client, topic="alerts", after=0)]
    assert names == ["connected", "alerts-open", "alert-opened"]
    client.post("/alerts/1/acknowledge")
    client.post("/alerts/1/acknowledge")
    (seen,) = heard(client, topic="alerts", after=4)[2:]
    assert (seen.name, seen.data["by"]) == ("alert-acknowledged", "anonymous")


def test_what_was_missed_is_resumed_by_the_header_or_a_parameter(
    client: TestClient[Any], engine: sa.Engine
) -> None:
    wait_for(lambda: len(heard(client, after=0)) == 4)
    save(engine, *range(5))
    last = heard(client, after=0)[5].id
    assert numbers(heard(client, after=last)) == [2, 3, 4]
    assert numbers(heard(client, headers={"last-event-id": last})) == [2, 3, 4]
    assert numbers(heard(client, headers={"last-event-id": "5"}, after=0)) == [4]
    assert heard(client, headers={"last-event-id": "700"})[1].name == "gap"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/events", {"last-event-id": "seven"}),
        ("/events", {"last-event-id": "9" * 30}),
        ("/events?topic=weather", {}),
        ("/events?after=-1", {}),
        ("/events?wait=0&wait=1", {}),
        ("/vehicles/events?topic=model", {}),
    ],
)
def test_what_is_not_possible_is_refused(client: TestClient[Any], path: str, headers: dict[str, str]) -> None:
    assert client.get(path, headers=headers).status_code == 400


def test_a_forecast_that_does_not_exist_has_no_events(client: TestClient[Any]) -> None:
    assert client.get("/events?forecast=nowhere").status_code == 404
    assert client.get("/forecasts/nowhere/events").status_code == 404


def test_a_database_that_does_not_answer_is_a_refusal(state: Path, serve: Serve) -> None:
    publish(state, 1)
    (state / "serving.db").write_bytes(b"not a database" * 100)
    assert serve().get("/events?wait=0").status_code == 503


def test_as_many_listen_as_there_is_room_for(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve()
    client.app.state["feed"].capacity = 0
    refused = client.get("/events?wait=0")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:too-many-listeners")
    assert refused.headers["retry-after"] == "5"


def test_the_time_of_a_stream_is_that_to_its_beginning(client: TestClient[Any]) -> None:
    client.get("/events?wait=0.7")
    seconds = metric_set(client)[
        "vroom_request_seconds_sum", frozenset({("route", "/events"), ("status", "200")})
    ]
    assert seconds < 0.7


def test_a_service_announces_what_it_loads_and_listens_with_any_key(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    engine = open_database(f"sqlite:///{home / 'serving.db'}")
    key = create_key(engine, "page", Role.VIEWER)
    with running(home, AUTH="on") as (address, process):
        assert httpx.get(f"{address}/events").status_code == 401
        head = httpx.head(f"{address}/events", headers=bearer(key), timeout=10)
        assert (head.status_code, head.content) == (200, b"")
        names: list[str] = []
        with httpx.stream("GET", f"{address}/events", headers=bearer(key), timeout=30) as answer:
            for event in events_of(answer.iter_lines()):
                names.append(event.name)
                if names[-1] == "alerts-open":
                    publish(home, 2)
                if event.name == "model-loaded" and event.data["version"] == 2:
                    revoke_key(engine, "page")
        assert "model-loaded" in names  # and the stream ended by itself
        other = create_key(engine, "other", Role.VIEWER)
        with httpx.stream("GET", f"{address}/events", headers=bearer(other), timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            began = time.monotonic()
            process.terminate()
            list(lines)  # ended, and not broken off
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - began < 8
    engine.dispose()


@pytest.mark.slow
def test_a_listener_that_is_killed_again_and_again_misses_nothing_of_two_services(tmp_path: Path) -> None:
    """1,000 events, 20 disconnects, from two services in turn; one of them is killed in between."""
    home = tmp_path / "var"
    publish(home, 1)
    engine = open_database(f"sqlite:///{home / 'serving.db'}")
    rng = random.Random(3)
    found: list[int] = []
    with running(home) as (first, _), running(home) as (second, process):
        writer = threading.Thread(
            target=lambda: [save(engine, *range(at, at + 4)) for at in range(0, 1_000, 4)]
        )
        writer.start()
        last = "0"
        for turn in range(21):
            if turn == 15:
                process.kill()
            address = second if turn % 2 and turn < 15 else first
            goal = 1_000 if turn == 20 else min(len(found) + rng.randint(1, 80), 1_000)
            headers = {"last-event-id": last}
            with httpx.stream("GET", f"{address}/events", headers=headers, timeout=60) as answer:
                for event in events_of(answer.iter_lines()):
                    assert event.name != "gap"
                    last = event.id or last
                    if event.name == "vehicle-saved":
                        found.append(event.data["number"])
                    if len(found) >= goal:
                        break
        writer.join()
    assert found == list(range(1_000))
    engine.dispose()


def test_without_keys_nobody_is_turned_away_for_a_key(state: Path) -> None:
    publish(state, 1)
    with TestClient(create_app(settings_of(state))) as client:
        assert len(heard(client, wait=0.3)) >= 3
