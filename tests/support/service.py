"""The service over a home: in this process or in one of its own, and what is asked of it."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from vroom_api.contract.origins import LOOPBACK
from vroom_api.settings import Settings

Serve = Callable[..., TestClient[Any]]


def timeless(answer: bytes) -> bytes:
    """The JSON of an answer without ages in whole seconds, one of which may pass between two answers."""
    return re.sub(rb'"(data|model)_age_s":[0-9.]+,?', b"", answer)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what time and the stored inputs add to it."""
    return {key: value for key, value in answer.items() if key not in ("stored", "data_age_s", "model_age_s")}


def settings_of(home: Path, **given: Any) -> Settings:
    plain: dict[str, Any] = {
        "database_url": f"sqlite:///{home / 'serving.db'}",
        "watch_seconds": 0.05,
        "allowed_hosts": (*LOOPBACK, "testserver.local"),
    }
    plain["record"] = False  # answers are the same every time; the record has its own tests
    return Settings(home=home, **plain | given)


def environment(home: Path, **given: object) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("VROOM_")}
    return plain | {"VROOM_HOME": str(home)} | {f"VROOM_{name}": str(value) for name, value in given.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(home: Path, **given: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`python -m vroom_api` on a free port, ready; its address and process. What it logs is in `log`."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "log", "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vroom_api"],
            env=environment(home, API_PORT=port, WATCH_SECONDS=0.05, **given),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (home / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/livez", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()


def whole_log(home: Path, process: subprocess.Popen[str]) -> str:
    """All that a service has logged, after its end: the line of a request is written when its answer is sent already."""
    process.terminate()
    process.wait(timeout=60)
    return (home / "log").read_text()


def wait_until_answered(client: httpx.Client, path: str, process: subprocess.Popen[Any]) -> None:
    """Wait until a server of another package, which takes long to start, answers."""
    end = time.monotonic() + 120
    while True:
        assert process.poll() is None
        try:
            client.get(path).raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.2)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for the watch; it checks twenty times a second, so a minute is never reached by a working one."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the watch did not notice"
        time.sleep(0.02)


def metric_set(client: TestClient[Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def one(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
