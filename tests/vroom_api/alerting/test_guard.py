"""What the service finds wrong by itself, by clocks that the tests hold: alerts that open and are over."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.bundles import EXAMPLE, FORECAST, point, publish
from tests.support.receivers import webhook
from tests.support.service import Serve, running, wait_for
from vroom_api.alerting.delivery import Delivery
from vroom_api.alerting.guard import OVER_AFTER, SEEN_EVERY, Guard
from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract import POINTER, AgeLimits, FreshnessPolicy, forecast_folder
from vroom_api.contract.alerts import DECLARATION, RUN_FAILED, Severity, raise_alert
from vroom_api.contract.heartbeat import Heartbeat, beat
from vroom_api.contract.tables import open_database
from vroom_api.record.alerts import Alert, Wanted, list_alerts

HOUR = 3_600.0
LIMITS = AgeLimits(stale_after_s=24 * HOUR, expired_after_s=48 * HOUR)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Guarded:
    """A guard over a home, without a service around it."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.engine = open_database(f"sqlite:///{home / 'serving.db'}")
        self.clock = clock
        self.forecasts = Forecasts(FORECAST, home, 0.5)
        self.guard = Guard(
            lambda: self.engine, self.forecasts, Delivery(lambda: self.engine, []), home, 0.5, clock
        )

    def load(self) -> None:
        asyncio.run(self.forecasts.flagship.reload())

    def alerts(self, **wanted: Any) -> list[Alert]:
        with self.engine.connect() as connection:
            return list_alerts(connection, Wanted(**wanted), 100).alerts

    def open_after_check(self) -> list[tuple[str, str, str]]:
        """Kind, subject and severity of what is open after one more check."""
        self.guard.check()
        return sorted((alert.kind, alert.subject, alert.severity.value) for alert in self.alerts())

    def until_over(self) -> list[tuple[str, str, str]]:
        self.clock.passes(OVER_AFTER.total_seconds() + 1)
        return self.open_after_check()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(state: Path, clock: Clock) -> Iterator[Guarded]:
    found = Guarded(state, clock)
    yield found
    found.engine.dispose()


def published(home: Path, version: int, clock: Clock, **policy: Any) -> None:
    made = clock().isoformat()
    publish(home, version, trained_at=made, data_as_of=made, freshness=FreshnessPolicy(**policy))


def test_a_model_that_nobody_renews_is_stale_and_then_expired_until_it_is_renewed(
    state: Path, guarded: Guarded, clock: Clock
) -> None:
    published(state, 1, clock, model=LIMITS)
    guarded.load()
    assert guarded.open_after_check() == []
    clock.passes(25 * HOUR)
    assert guarded.open_after_check() == [("stale", "model", "warning")]
    clock.passes(24 * HOUR)
    assert guarded.open_after_check() == [("expired", "model", "critical"), ("stale", "model", "warning")]
    (expired, _) = guarded.alerts()
    assert "the model of version 1 was trained at" in expired.message.lower()
    assert "2.0 days ago, expired from 2.0 days on" in expired.message
    assert f"{FORECAST}_retrain" in expired.message
    published(state, 2, clock, model=LIMITS)
    guarded.load()
    assert guarded.until_over() == []


def test_data_are_stale_by_the_time_of_their_newest_event_and_not_by_that_of_a_job(
    state: Path, guarded: Guarded, clock: Clock
) -> None:
    publish(
        state,
        1,
        trained_at=clock().isoformat(),
        data_as_of=(clock() - timedelta(hours=30)).isoformat(),
        freshness=FreshnessPolicy(model=LIMITS, data=LIMITS),
    )
    guarded.load()
    assert guarded.open_after_check() == [("stale", "data", "warning")]
    (alert,) = guarded.alerts()
    assert "Bring newer rows" in alert.message
    assert alert.evidence == {"version": 1, "age_s": pytest.approx(30 * HOUR, abs=5)}


def test_what_has_no_limits_is_never_stale(state: Path, guarded: Guarded, clock: Clock) -> None:
    published(state, 1, clock)
    guarded.load()
    clock.passes(10_000 * HOUR)
    assert guarded.open_after_check() == []


def test_a_forecast_that_nothing_attends_is_one_critical_alert_until_it_is_attended(
    state: Path, guarded: Guarded, clock: Clock
) -> None:
    publish(state, 1)
    beat(FORECAST, Heartbeat(checked_at=clock().timestamp(), every_s=5.0), state)
    guarded.load()
    guarded.forecasts.flagship.attendance.refresh()
    clock.passes(50)
    assert guarded.open_after_check() == []
    clock.passes(20)
    for _ in range(3):
        assert guarded.open_after_check() == [("unattended", "", "critical")]
    (alert,) = guarded.alerts()
    assert "Dagster's daemon or code server stands still" in alert.message
    beat(FORECAST, Heartbeat(checked_at=clock().timestamp() + 1e6, every_s=5.0), state)
    guarded.forecasts.flagship.attendance.refresh()
    assert guarded.open_after_check() == [("unattended", "", "critical")]  # it may go again at once
    assert guarded.until_over() == []
    (alert,) = guarded.alerts(open_only=False)
    assert alert.resolved_at == clock()


def test_a_champion_that_cannot_be_loaded_is_a_warning_while_another_serves(
    state: Path, guarded: Guarded
) -> None:
    publish(state, 1)
    guarded.load()
    point(state, 1, "0" * 64)
    guarded.load()
    assert guarded.open_after_check() == [("not_loaded", "", "warning")]
    (alert,) = guarded.alerts()
    assert "version 1 keeps serving" in alert.message
    publish(state, 2)
    guarded.load()
    assert guarded.until_over() == []


def test_a_first_champion_that_cannot_be_loaded_is_critical(state: Path, guarded: Guarded) -> None:
    publish(state, 1)
    point(state, 1, "0" * 64)
    guarded.load()
    assert guarded.open_after_check() == [("not_loaded", "", "critical")]


def test_before_the_first_champion_nothing_is_wrong(guarded: Guarded) -> None:
    guarded.load()
    assert guarded.open_after_check() == []


def test_what_stays_wrong_is_written_seldom(state: Path, guarded: Guarded, clock: Clock) -> None:
    published(state, 1, clock, model=LIMITS)
    guarded.load()
    clock.passes(30 * HOUR)
    for _ in range(10):
        guarded.guard.check()
        clock.passes(SEEN_EVERY.total_seconds() / 5)
    (alert,) = guarded.alerts()
    assert alert.times_seen == 2


def test_what_another_service_sees_stays_open(state: Path, guarded: Guarded, clock: Clock) -> None:
    publish(state, 1)
    guarded.load()  # here it can be loaded
    elsewhere: dict[str, Any] = {"forecast": FORECAST, "kind": "not_loaded", "message": "m"}
    for _ in range(5):
        raise_alert(guarded.engine, severity=Severity.WARNING, now=clock(), **elsewhere)
        clock.passes(SEEN_EVERY.total_seconds())
        assert guarded.open_after_check() == [("not_loaded", "", "warning")]
    assert guarded.until_over() == []


def test_alerts_of_others_are_left_to_them(guarded: Guarded) -> None:
    raise_alert(guarded.engine, forecast=FORECAST, kind="decay", severity=Severity.WARNING, message="m")
    assert guarded.until_over() == [("decay", "", "warning")]


def test_a_declaration_is_in_order_once_its_sensor_checks_the_sources_again(
    state: Path, guarded: Guarded, clock: Clock
) -> None:
    beat("vans", Heartbeat(checked_at=clock().timestamp() - 1, every_s=5.0), state)
    broken: dict[str, Any] = {"forecast": "vans", "kind": DECLARATION, "severity": Severity.CRITICAL}
    raise_alert(guarded.engine, message="m", now=clock(), **broken)
    assert guarded.until_over() == [(DECLARATION, "", "critical")]
    beat("vans", Heartbeat(checked_at=clock().timestamp(), every_s=5.0), state)
    assert guarded.open_after_check() == []
    raise_alert(guarded.engine, message="m", now=clock(), **broken)
    clock.passes(HOUR + 1)
    assert guarded.open_after_check() == []  # its folder is gone


def test_a_failed_run_is_over_once_its_sensor_finds_nothing_left_to_do(
    state: Path, guarded: Guarded, clock: Clock
) -> None:
    failed: dict[str, Any] = {
        "forecast": "vans",
        "kind": RUN_FAILED,
        "severity": Severity.WARNING,
        "message": "m",
    }
    raise_alert(guarded.engine, subject="vans_retrain", evidence={"requested": "abc"}, now=clock(), **failed)
    raise_alert(guarded.engine, subject="vans_train", evidence={"requested": ""}, now=clock(), **failed)
    both = [(RUN_FAILED, "vans_retrain", "warning"), (RUN_FAILED, "vans_train", "warning")]
    assert guarded.until_over() == both  # nobody has looked since
    beat("vans", Heartbeat(checked_at=clock().timestamp(), every_s=5.0, trouble="no rows"), state)
    assert guarded.open_after_check() == both
    beat("vans", Heartbeat(checked_at=clock().timestamp(), every_s=5.0), state)
    assert guarded.open_after_check() == both[1:]  # what somebody started by hand is for somebody to see to


def test_a_retired_forecast_has_no_alerts_of_the_service(state: Path, guarded: Guarded, clock: Clock) -> None:
    published(state, 1, clock, model=LIMITS)
    guarded.load()
    clock.passes(25 * HOUR)
    assert guarded.open_after_check() == [("stale", "model", "warning")]
    pointer = forecast_folder(FORECAST, state) / POINTER
    retired = msgspec.json.decode(pointer.read_bytes()) | {"retired": "nobody needs it"}
    pointer.write_bytes(msgspec.json.encode(retired))
    guarded.load()
    assert guarded.until_over() == []


def test_the_running_service_opens_them_by_itself_and_answers_on(state: Path, serve: Serve) -> None:
    publish(state, 1, trained_at="2020-01-01T00:00:00+00:00", freshness=FreshnessPolicy(model=LIMITS))
    client = serve()
    wait_for(lambda: len(client.get("/alerts").json()["alerts"]) == 2)
    assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_a_database_that_is_gone_is_reported_once_and_waited_for(
    state: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    publish(state, 1)
    client = serve()
    wait_for(lambda: (state / "serving.db").exists() and client.get("/alerts").status_code == 200)
    with sqlite3.connect(state / "serving.db", isolation_level=None) as other:
        other.execute("alter table alerts rename to elsewhere")
        wait_for(lambda: "does not answer" in caplog.text)
        time.sleep(0.7)
        assert caplog.text.count("alerts: the serving database does not answer") == 1
        other.execute("alter table elsewhere rename to alerts")
    other.close()
    raise_alert_in(state)
    wait_for(lambda: 'severity="warning"} 1.0' in client.get("/metrics").text)


def raise_alert_in(home: Path, **given: Any) -> None:
    engine = open_database(f"sqlite:///{home / 'serving.db'}")
    plain = {"forecast": FORECAST, "kind": "decay", "severity": Severity.WARNING, "message": "m"}
    raise_alert(engine, **plain | given)
    engine.dispose()


def test_the_service_that_runs_sends_what_it_finds_and_what_others_raise(tmp_path: Path) -> None:
    home = tmp_path / "home"
    publish(home, 1, trained_at="2020-01-01T00:00:00+00:00", freshness=FreshnessPolicy(model=LIMITS))
    with webhook() as hook:
        with running(home, ALERT_URLS=hook.url("hidden-path"), SERVICE_URL="https://vroom.example") as (
            address,
            _,
        ):
            wait_for(lambda: len(hook.taken) == 2)
            raise_alert_in(home)
            wait_for(lambda: len(hook.taken) == 3)
            still_open = httpx.get(f"{address}/alerts").json()["alerts"]
        assert sorted(hook.titles()) == [
            f"[critical] {FORECAST}: expired (model)",
            f"[warning] {FORECAST}: decay",
            f"[warning] {FORECAST}: stale (model)",
        ]
        assert [one["id"] for one in still_open] == [3, 2, 1]
        assert {body["link"] for body in hook.taken} == {f"https://vroom.example/?forecast={FORECAST}"}
        with running(home, ALERT_URLS=hook.url("hidden-path")):
            time.sleep(1.0)
        assert len(hook.taken) == 3  # one that starts again sends nothing twice
    log = (home / "log").read_text()
    assert "was sent to the http receiver" in log
    assert "hidden" not in log


def test_a_service_whose_home_is_empty_finds_nothing(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path / "nothing", Clock())
    assert guarded.open_after_check() == []
    assert not forecast_folder(FORECAST, tmp_path / "nothing").exists()
    guarded.engine.dispose()
