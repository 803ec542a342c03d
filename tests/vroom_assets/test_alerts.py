"""Runs that fail and declarations that cannot be loaded raise alerts; what goes well again resolves them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.support.consuming import rows
from tests.support.forecasts import opened
from vroom_api.contract.tables import event_log, serving_database
from vroom_assets import declaration
from vroom_assets.alerts import (
    BY_HAND,
    FailedRun,
    raise_broken_declaration,
    raise_run_failed,
    report_success,
)
from vroom_assets.declaration import scaffold
from vroom_assets.definitions import defs
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.local_run import execute
from vroom_assets.run_workers import watched_in_process_executor

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as one:
        yield one


def failed(job: str, *, serves: bool = True) -> bool:
    with serving_database() as engine:
        run = FailedRun("vans", job, "abc", ["no rows"])
        return raise_run_failed(engine, run, f"{job} failed: no rows", serves=serves)


def subjects() -> list[str]:
    return [alert.subject for alert in opened()]


def test_a_job_that_fails_again_is_one_alert_and_critical_where_nothing_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VROOM_DAGSTER_URL", "https://dagster.example")
    assert failed("vans_retrain") is True
    assert failed("vans_retrain") is False
    (alert,) = opened()
    assert (alert.severity, alert.times_seen) == ("warning", 2)
    assert "no rows. Its page says more: https://dagster.example/runs/abc" in alert.message
    failed("vans_retrain", serves=False)
    assert [alert.severity for alert in opened()] == ["critical"]


def test_a_stage_that_succeeds_ends_its_own_alert_and_the_whole_those_of_its_stages() -> None:
    for job in ("vans_train", "vans_promote", "vans_monitor", BY_HAND):
        failed(job)
    report_success("vans", "vans_promote", "a run")
    assert subjects() == ["vans_train", "vans_monitor", BY_HAND]
    report_success("cars", "cars_retrain", "a run")
    report_success("vans", "vans_retrain", "a run")
    assert subjects() == ["vans_monitor"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_run_that_succeeds_resolves_the_alert_of_one_that_failed(
    instance: dg.DagsterInstance, fails: bool
) -> None:
    @dg.asset(key=["vans", "features"])
    def features() -> None:
        if fails:
            raise ValueError("no rows")

    job = dg.define_asset_job("vans_retrain", tags={FORECAST_TAG: "vans"})
    made = dg.Definitions(assets=[features], jobs=[job], executor=watched_in_process_executor)
    failed("vans_retrain")
    assert execute(instance, made.resolve_job_def("vans_retrain"), QUIET) is not fails
    assert subjects() == (["vans_retrain"] if fails else [])
    completed = [one for one in rows(event_log) if one.name == "pipeline-completed"]
    assert [(one.forecast, one.data["job"], one.data["state"]) for one in completed] == (
        [] if fails else [("vans", "vans_retrain", "succeeded")]  # of those that failed a sensor knows
    )


def test_a_database_that_does_not_answer_fails_no_run(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir()
    (home / "serving.db").write_bytes(b"not a database" * 100)
    report_success("vans", "vans_retrain", "a run")
    assert "could not be reported" in caplog.text


def test_a_declaration_that_cannot_be_loaded_is_a_critical_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    scaffold.write(tmp_path / "defs", "deliveries")
    path = tmp_path / "defs" / "deliveries" / declaration.FILE
    path.write_text(path.read_text().replace("kind:", "kid:", 1))
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    sensor = loaded.resolve_sensor_def("deliveries_declaration")
    cursor = None
    for _ in range(2):  # at every tick: it is over once there is none
        with dg.build_sensor_context(cursor=cursor) as context:
            cursor = sensor.evaluate_tick(context).cursor
    (alert,) = opened()
    assert (alert.forecast, alert.kind, alert.severity) == ("deliveries", "declaration", "critical")
    assert alert.times_seen == 2
    assert "kid" in alert.message
    assert "press Reload definitions" in alert.message


def test_a_broken_declaration_is_one_alert() -> None:
    assert raise_broken_declaration("vans", "m") is True
    assert raise_broken_declaration("vans", "n") is False
    (alert,) = opened()
    assert datetime.now(UTC) - alert.last_seen.replace(tzinfo=UTC) < timedelta(minutes=1)
