"""Probes and measures: what machines that watch the service read."""

import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, graph, publish
from tests.support.service import Serve, metric_set, one, running, wait_for
from vroom_api.contract import AgeLimits, FreshnessPolicy


def test_a_process_lives_before_it_is_ready(state: Path, serve: Serve) -> None:
    client = serve(record=True)
    assert client.get("/livez").json() == {"alive": True}
    wait_for(lambda: client.get("/readyz").json()["record"])  # to make a new database takes a moment
    waiting = client.get("/readyz")
    assert waiting.status_code == 503
    assert waiting.json() | {"record_checked_s": None} == {
        "ready": False,
        "champion": False,
        "record": True,
        "record_checked_s": None,
        "detail": "no champion serves",
    }
    publish(state, 1)
    wait_for(lambda: client.get("/readyz").status_code == 200)


def test_a_record_that_cannot_be_written_is_not_ready_until_it_can(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(record=True)
    wait_for(lambda: client.get("/readyz").status_code == 200)
    lock = sqlite3.connect(state / "serving.db", isolation_level=None)
    lock.execute("alter table predictions rename to elsewhere")
    wait_for(lambda: client.get("/readyz").status_code == 503)
    assert client.get("/readyz").json()["detail"] == "the record cannot be written"
    lock.execute("alter table elsewhere rename to predictions")
    lock.close()
    wait_for(lambda: client.get("/readyz").status_code == 200)


def test_probes_do_not_wait_for_a_locked_table(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(record=True)
    wait_for(lambda: client.get("/readyz").status_code == 200)
    lock = sqlite3.connect(state / "serving.db", isolation_level=None)
    lock.execute("begin immediate")
    time.sleep(1.1)  # a probe counts for a second
    started = time.monotonic()
    answer = client.get("/readyz")
    assert time.monotonic() - started < 0.5  # 4.7 s where it waits for the lock
    assert (answer.status_code, answer.json()["record"]) == (200, True)
    assert answer.json()["record_checked_s"] > 1.0
    wait_for(lambda: client.get("/readyz").status_code == 503)
    lock.execute("commit")
    lock.close()
    wait_for(lambda: client.get("/readyz").status_code == 200)


def test_without_a_record_a_champion_is_enough(client: TestClient[Any]) -> None:
    assert client.get("/readyz").json()["record"] is None


def test_measures_count_predictions_by_version(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(record=True)
    for _ in range(3):
        client.post("/predict", json=EXAMPLE)
    client.post("/predict/batch", json=[EXAMPLE] * 4)
    client.post("/predict", json={})
    publish(state, 2)
    wait_for(lambda: client.get("/health").json()["model_version"] == 2)
    client.post("/predict", json=EXAMPLE)
    found = metric_set(client)
    assert one(found, "vroom_predictions_total", forecast="reservations", version="1") == 7
    assert one(found, "vroom_predictions_total", forecast="reservations", version="2") == 1
    assert one(found, "vroom_champion_version", forecast="reservations") == 2
    assert one(found, "vroom_request_seconds_count", route="/predict", status="200") == 4
    assert one(found, "vroom_request_seconds_count", route="/predict", status="422") == 1
    assert one(found, "vroom_record_rows_total") == 8
    assert 1 <= one(found, "vroom_record_commits_total") <= 5
    assert one(found, "vroom_record_waiting") == 0
    assert one(found, "vroom_model_age_seconds", forecast="reservations") > 0
    assert one(found, "vroom_data_age_seconds", forecast="reservations") > 0
    assert one(found, "process_resident_memory_bytes") > 0


def test_measures_tell_what_went_wrong(state: Path, client: TestClient[Any]) -> None:
    publish(state, 2, model=graph(5.0))
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    client.get("/nothing-here")
    client.get("/another/thing")
    found = metric_set(client)
    assert one(found, "vroom_reload_failures_total", forecast="reservations") == 1
    assert one(found, "vroom_champion_loaded", forecast="reservations") == 1
    # Strangers cannot make as many series as there are paths.
    assert one(found, "vroom_request_seconds_count", route="(none)", status="404") == 2


def test_measures_are_there_without_a_champion(serve: Serve) -> None:
    assert one(metric_set(serve()), "vroom_champion_loaded", forecast="reservations") == 0


DAY = 86_400.0


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (None, "unlimited"),
        (AgeLimits(stale_after_s=DAY, expired_after_s=1e6 * DAY), "stale"),
        (AgeLimits(stale_after_s=DAY, expired_after_s=2 * DAY), "expired"),
    ],
)
def test_freshness_is_measured(state: Path, serve: Serve, limits: AgeLimits | None, verdict: str) -> None:
    publish(state, 1, freshness=FreshnessPolicy(model=limits))
    found = metric_set(serve())
    verdicts = {
        dict(labels)["verdict"]: value for (name, labels), value in found.items() if name == "vroom_freshness"
    }
    assert verdicts == {"unlimited": 0, "fresh": 0, "stale": 0, "expired": 0} | {verdict: 1}


def test_traces_go_to_the_collector_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    home = tmp_path / "var"
    publish(home, 1)
    with running(home, TELEMETRY="on", RECORD="off") as (address, _):
        httpx.post(f"{address}/predict", json=EXAMPLE)
        wait_for(lambda: any(b"POST /predict" in body for _, body in received))
    collector.shutdown()
    collector.server_close()
    assert {path for path, _ in received} == {"/v1/traces"}
    assert b"service.name" in received[0][1]
