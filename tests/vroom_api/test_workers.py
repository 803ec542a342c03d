"""Several workers on one port: what one has answered the others find, and none outlives the first process."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import running

pytestmark = pytest.mark.slow


def workers(first: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [one for one in psutil.Process(first).children() if "spawn_main" in " ".join(one.cmdline())]
    return []


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def ask(address: str, times: int, **given: object) -> Iterator[httpx.Response]:
    """Each by a connection of its own, which any worker may take."""
    for _ in range(times):
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client.post("/predict", json=EXAMPLE, **given)  # type: ignore[arg-type]


def test_what_one_has_answered_the_others_find_at_once_and_all_end_together(state: Path) -> None:
    publish(state, 1)
    with running(state, WORKERS=2) as (address, process):
        until(lambda: len(workers(process.pid)) == 2)
        answers = set()
        for answer in ask(address, 40):
            identifier = answer.json()["prediction_id"]
            answers.add(answer.headers["x-request-id"].partition("-")[0])  # which process it was
            for _ in range(2):
                assert httpx.get(f"{address}/predictions/{identifier}", timeout=30).status_code in (200, 409)
        assert len(answers) == 2
        both = workers(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert not any(one.is_running() for one in both)


def test_one_that_is_killed_is_started_anew_and_nothing_acknowledged_is_lost(state: Path) -> None:
    publish(state, 1)
    with running(state, WORKERS=2) as (address, process):
        until(lambda: len(workers(process.pid)) == 2)
        acknowledged = [answer.json()["prediction_id"] for answer in ask(address, 20)]
        killed = workers(process.pid)[0]
        killed.kill()
        until(
            lambda: (
                len(workers(process.pid)) == 2 and killed.pid not in [one.pid for one in workers(process.pid)]
            )
        )
        until(lambda: all(answer.status_code == 200 for answer in ask(address, 10)))
        found = {
            one["id"]
            for one in httpx.get(f"{address}/predictions?limit=500", timeout=30).json()["predictions"]
        }
        assert set(acknowledged) <= found


def test_none_outlives_a_first_process_that_was_killed(state: Path) -> None:
    publish(state, 1)
    with running(state, WORKERS=2) as (_, process):
        until(lambda: len(workers(process.pid)) == 2)
        both = workers(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in both))


def test_the_first_admin_has_one_key_that_all_know(state: Path) -> None:
    publish(state, 1)
    with running(state, WORKERS=3, AUTH="on") as (address, process):
        until(lambda: len(workers(process.pid)) == 3 and (state / "admin.key").exists())
        key = (state / "admin.key").read_text().strip()
        until(lambda: next(ask(address, 1, headers={"authorization": f"Bearer {key}"})).status_code == 200)
        statuses = [one.status_code for one in ask(address, 20, headers={"authorization": f"Bearer {key}"})]
        assert statuses == [200] * 20
        assert (state / "log").read_text().count("the admin's key is in") == 1
