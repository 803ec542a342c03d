"""A champion that nothing looks after any more is one that says so."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.service import wait_for
from vroom_api.champion import attendance
from vroom_api.champion.attendance import Attendance
from vroom_api.contract.heartbeat import HEARTBEAT, Heartbeat, beat

Serve = Callable[..., TestClient[Any]]


def seen(home: Path, seconds_ago: float, every: float = 5.0) -> None:
    beat(FORECAST, Heartbeat(checked_at=time.time() - seconds_ago, every_s=every), home)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for who judges, and for nobody else."""

    def passes(seconds: float) -> None:
        now = time.time
        monkeypatch.setattr(attendance.time, "time", lambda: now() + seconds)

    return passes


def unattended(home: Path, passes: Callable[[float], None], seconds: float, **given: Any) -> bool:
    found = Attendance(FORECAST, home, **given)
    found.refresh()
    passes(seconds)
    return found.unattended_since is not None


@pytest.mark.parametrize(
    ("every", "seconds", "overdue"), [(5, 50, False), (5, 70, True), (600, 1700, False), (600, 1900, True)]
)
def test_a_look_is_overdue_after_a_minute_or_three_missed_ones(
    state: Path, clock: Callable[[float], None], every: float, seconds: float, overdue: bool
) -> None:
    seen(state, 0, every)
    assert unattended(state, clock, seconds) is overdue


def test_a_forecast_that_no_sensor_ever_looked_after_is_not_judged(
    state: Path, clock: Callable[[float], None]
) -> None:
    assert not unattended(state, clock, 1e6)


def test_a_service_that_just_started_waits_for_those_that_start_with_it(
    state: Path, clock: Callable[[float], None]
) -> None:
    seen(state, 1e6)
    assert not unattended(state, clock, 50)
    assert unattended(state, clock, 70)


def test_where_no_automation_is_meant_to_run_none_is_missed(
    state: Path, clock: Callable[[float], None]
) -> None:
    seen(state, 0)
    assert not unattended(state, clock, 1e6, expected=False)


def test_a_damaged_heartbeat_is_none(state: Path, clock: Callable[[float], None]) -> None:
    seen(state, 0)
    (state / FORECAST / HEARTBEAT).write_bytes(b"\xff{")
    assert not unattended(state, clock, 1e6)


def test_health_list_answers_page_and_metrics_say_that_nothing_looks_after_a_champion(
    state: Path, serve: Serve, clock: Callable[[float], None]
) -> None:
    publish(state, 1)
    seen(state, 0)
    client = serve()
    wait_for(lambda: client.get("/health").json()["attended_at"] is not None)
    assert "unattended_since" not in client.post("/predict", json=EXAMPLE).json()
    assert client.get("/health").json()["status"] == "ok"
    clock(3_600)
    health = client.get("/health").json()
    assert (health["status"], health["unattended_since"]) == ("degraded", health["attended_at"])
    assert f"retire {FORECAST}" in health["last_error"]
    (listed,) = client.get("/forecasts").json()
    assert (listed["status"], listed["unattended_since"]) == ("degraded", health["attended_at"])
    assert client.post("/predict", json=EXAMPLE).json()["unattended_since"] == health["attended_at"]
    assert "unattended since" in client.get("/").text
    assert f'vroom_unattended{{forecast="{FORECAST}"}} 1.0' in client.get("/metrics").text
    seen(state, -3_600)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")


def test_health_and_page_say_that_the_newest_data_are_refused_and_why(state: Path, serve: Serve) -> None:
    publish(state, 1)
    refused = "vans.csv, line 7: price is -3"
    beat(FORECAST, Heartbeat(checked_at=time.time(), every_s=5.0, trouble=refused), state)
    client = serve()
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    assert client.get("/health").json()["last_error"].endswith(f"is not trained: {refused}")
    assert refused in client.get("/").text
    assert client.post("/predict", json=EXAMPLE).status_code == 200
    seen(state, 0)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")
