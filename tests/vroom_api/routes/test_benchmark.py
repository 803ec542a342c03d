"""A benchmark measures what a client waits, by requests that are real, recorded, and judged by nobody."""

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.project import ROOT
from tests.support.service import Serve, running
from vroom_api.benchmarking import AlreadyRunning, alone
from vroom_api.contract.benchmark import BENCHMARK_TAG, is_no_benchmark
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.tables import open_database, predictions
from vroom_api.load_generator import run
from vroom_api.record.performance import performance


@pytest.fixture
def service(state: Path) -> Iterator[httpx.Client]:
    publish(state, 1)
    with running(state) as (address, _), httpx.Client(base_url=address, timeout=60) as client:
        yield client


def recorded(state: Path, *where: sa.ColumnElement[bool]) -> int:
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    expand_blocks(engine)
    with engine.connect() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(predictions).where(*where))
    engine.dispose()
    return int(count or 0)


@pytest.mark.parametrize("path", ["/benchmark", "/forecasts/reservations/benchmark"])
def test_its_predictions_are_real_recorded_and_left_out_of_what_is_judged(
    service: httpx.Client, state: Path, path: str
) -> None:
    service.post("/predict", json=EXAMPLE).raise_for_status()
    answer = service.post(path, json={"n_iterations": 50})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["n"], found["n_iterations"], found["errors"]) == (50, 50, {})
    assert (found["source"], found["model_version"], found["forecast"]) == ("raw", 1, "reservations")
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert sum(found["split"].values()) == pytest.approx(found["avg_ms"], rel=0.01)
    assert found["split"]["record_ms"] > 0
    tag = predictions.c.tags[BENCHMARK_TAG].as_string() == found["benchmark_id"]
    assert recorded(state, tag) == 50
    assert recorded(state, is_no_benchmark()) == 1
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    assert performance(engine, "reservations").predictions == 1
    engine.dispose()


def test_inputs_are_those_of_a_prediction(service: httpx.Client) -> None:
    answer = service.post("/benchmark", json=EXAMPLE | {"n_iterations": 3, "tags": {"host": "a"}})
    assert answer.json()["n"] == 3
    assert service.post("/benchmark").json()["n"] == 1_000


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/benchmark", {"n_iterations": 0}, 422),
        ("/benchmark", {"n_iterations": 10_001}, 422),
        ("/benchmark", {"n_iterations": "x"}, 422),
        ("/benchmark", {"n_iterations": 1.5}, 422),
        ("/benchmark", EXAMPLE | {"actual_price": "x"}, 422),
        ("/benchmark", EXAMPLE | {"unknown": 1}, 422),
        ("/benchmark", EXAMPLE | {"explain": True}, 422),
        ("/benchmark", EXAMPLE | {"tags": 5}, 422),
        ("/benchmark", [EXAMPLE], 422),
        ("/benchmark/id", {"entity_id": "nobody"}, 404),
        ("/benchmark/id", {"vehicle_id": 999}, 404),
        ("/benchmark/id", {}, 422),
        ("/benchmark/id", {"entity_id": "7", "vehicle_id": "7"}, 422),
        ("/benchmark/id", {"entity_id": None}, 422),
        ("/benchmark/id", {"entity_id": "7", "level": 0.9}, 422),
        ("/forecasts/nothing/benchmark", {}, 404),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_is(
    client: TestClient[Any], path: str, body: Any, status: int
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_no_json_is_refused(client: TestClient[Any]) -> None:
    answer = client.post("/benchmark", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_without_a_champion_there_is_nothing_to_measure(serve: Serve) -> None:
    assert serve().post("/benchmark", json={}).status_code == 503


def test_one_at_a_time_in_whatever_process(state: Path, client: TestClient[Any]) -> None:
    with alone(state):
        answer = client.post("/benchmark", json={})
        assert answer.status_code == 409
        assert int(answer.headers["retry-after"]) >= 1
        with pytest.raises(AlreadyRunning), alone(state):
            pass
    with alone(state):
        pass


def test_an_operator_may_and_a_viewer_may_not_and_the_key_is_in_no_command_line(state: Path) -> None:
    publish(state, 1)
    with running(state, AUTH="on") as (address, _):
        key = (state / "admin.key").read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.post(f"{address}/benchmark", json={}).status_code == 401
        lines: set[str] = set()
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                    except OSError:
                        continue

        thread = threading.Thread(target=watch)
        thread.start()
        answer = httpx.post(f"{address}/benchmark", json={"n_iterations": 300}, headers=headers, timeout=60)
        over.set()
        thread.join()
        assert answer.json()["errors"] == {}
        assert any("load_generator" in line for line in lines)
        assert not any(key in line for line in lines)


def test_no_other_answer_says_where_its_time_went(service: httpx.Client) -> None:
    assert "server-timing" not in service.post("/predict", json=EXAMPLE).headers
    tagged = EXAMPLE | {"tags": {BENCHMARK_TAG: "x"}}
    for path in ("/predict", "/forecasts/reservations/predict"):
        timing = service.post(path, json=tagged).headers["server-timing"]
        assert [part.partition(";")[0] for part in timing.split(", ")] == [
            "decode", "stored", "score", "answer", "record",
        ]  # fmt: skip


@pytest.mark.slow
def test_an_outside_load_generator_measures_the_same(state: Path) -> None:
    """Medians of many short turns that alternate, so that what else the machine does hits both alike.

    On a disk in memory: where the sync of a shared one takes now 0.2 and now 4 ms, two medians differ by chance.
    """
    sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
    from load import ask, request

    publish(state, 1)
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        running(state, DATABASE_URL=f"sqlite:///{folder}/serving.db") as (address, _),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        port = client.base_url.port or 0
        content = request(port, "/predict", msgspec.json.encode(EXAMPLE))
        inside, outside = [], []
        for _ in range(9):
            inside.append(client.post("/benchmark", json=EXAMPLE | {"n_iterations": 1_000}).json()["p50_ms"])
            outside.append(1000 * ask(port, content, clients=1, seconds=0.3).p50)
    assert median(inside) == pytest.approx(median(outside), rel=0.2)


def test_a_generator_stops_when_its_time_is_over(service: httpx.Client) -> None:
    began = time.monotonic()
    head = f"GET /livez HTTP/1.1\r\nhost: 127.0.0.1:{service.base_url.port}\r\n\r\n"
    report = asyncio.run(
        run({"host": "127.0.0.1", "port": service.base_url.port, "request": head, "n": 10**9, "seconds": 0.3})
    )
    assert time.monotonic() - began < 10
    assert set(report["statuses"]) == {"200"}
    assert len(report["latencies"]) == report["statuses"]["200"]


def test_a_service_that_is_gone_is_an_error() -> None:
    from tests.support.service import free_port
    from vroom_api.benchmarking import CannotMeasure, measure

    with pytest.raises(CannotMeasure, match="refused"):
        asyncio.run(measure(("127.0.0.1", free_port()), "GET / HTTP/1.1\r\n\r\n", 1, 1.0))
