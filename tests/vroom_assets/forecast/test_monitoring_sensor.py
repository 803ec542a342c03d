"""When the monitoring runs, and why it does not."""

import dataclasses
import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from tests.support.forecasts import definitions
from tests.support.predictions import made, predict
from tests.support.tiny import manifest_of
from vroom_api.contract.benchmark import BENCHMARK_TAG
from vroom_assets.forecast import Forecast
from vroom_assets.forecast.monitoring_sensor import (
    Cursor,
    System,
    decide,
    interval_seconds,
    is_new,
    loaded_version,
    read_cursor,
)
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.monitoring import progress
from vroom_assets.monitoring.progress import Progress

NAME = "reservations"
NOON = 1_800_000_000.0 // 3600 * 3600
HOUR = 3600.0


def never(*_: object) -> bool:
    raise AssertionError("a tick asks for it only when it has to")


QUIET = System(
    serves=lambda: True,
    done_until=lambda: 0.0,
    loaded=lambda: "a",
    is_new=lambda since: False,
    run=lambda: None,
)
WITH_ROWS = dataclasses.replace(QUIET, is_new=lambda since: True)
SEEN = Cursor(until=NOON, loaded="a", any_rows=True)


def test_while_the_window_is_open_nothing_is_asked():
    silent = System(serves=never, done_until=never, loaded=never, is_new=never, run=never)  # type: ignore[arg-type]
    tick = decide(SEEN, HOUR, silent, NOON + 600)
    assert (tick.runs, tick.cursor) == (False, SEEN)
    assert tick.reason == "the window is open for another 3005 s"


def test_a_closed_window_with_new_rows_is_run_for_once():
    tick = decide(SEEN, HOUR, WITH_ROWS, NOON + HOUR + 6)
    assert tick.runs
    assert "a window has closed at" in tick.reason
    again = decide(tick.cursor, HOUR, WITH_ROWS, NOON + HOUR + 20)
    assert not again.runs
    assert "a run was requested" in again.reason
    done = dataclasses.replace(WITH_ROWS, done_until=lambda: NOON + HOUR)
    assert decide(tick.cursor, HOUR, done, NOON + HOUR + 40).cursor.settled


def test_rows_have_a_moment_to_be_committed():
    assert not decide(SEEN, HOUR, WITH_ROWS, NOON + HOUR + 4).runs


def test_a_closed_window_without_rows_is_passed_over_with_a_reason():
    tick = decide(SEEN, HOUR, QUIET, NOON + 3 * HOUR + 6)
    assert (tick.runs, tick.cursor.until) == (False, NOON + 3 * HOUR)
    assert "nothing was predicted or observed until" in tick.reason


def test_changed_sources_are_run_for_where_there_are_predictions():
    changed = dataclasses.replace(QUIET, loaded=lambda: "b")
    tick = decide(SEEN, HOUR, changed, NOON + HOUR + 6)
    assert tick.runs
    assert "the sources have changed" in tick.reason
    assert not decide(Cursor(until=NOON, loaded="a"), HOUR, changed, NOON + HOUR + 6).runs


def test_it_waits_for_a_run_of_the_forecast_and_runs_after_it():
    busy = dataclasses.replace(WITH_ROWS, run=lambda: "abcdefgh")
    tick = decide(SEEN, HOUR, busy, NOON + HOUR + 6)
    assert (tick.runs, tick.cursor) == (False, SEEN)
    assert tick.reason == "waits: a window has closed, and run abcdefgh is still under way"
    assert decide(tick.cursor, HOUR, WITH_ROWS, NOON + HOUR + 30).runs


def test_a_run_that_came_to_nothing_is_requested_again_with_pauses_that_double():
    tick = decide(SEEN, HOUR, WITH_ROWS, NOON + HOUR + 6)
    asked, cursor = [], tick.cursor
    for second in range(0, 600, 5):
        tick = decide(cursor, HOUR, QUIET, NOON + HOUR + 6 + second)
        cursor = tick.cursor
        if tick.runs:
            asked.append(second)
    assert asked == [60, 180, 420]
    assert cursor.until == NOON + HOUR


def test_a_run_that_is_under_way_is_not_requested_again():
    tick = decide(SEEN, HOUR, WITH_ROWS, NOON + HOUR + 6)
    busy = dataclasses.replace(QUIET, run=lambda: "abcdefgh")
    assert not decide(tick.cursor, HOUR, busy, NOON + HOUR + 100).runs


def test_without_a_champion_nothing_runs():
    idle = dataclasses.replace(WITH_ROWS, serves=lambda: False)
    assert decide(SEEN, HOUR, idle, NOON + HOUR + 6).reason == "no champion serves yet"


def test_short_windows_are_seen_to_within_seconds_and_long_ones_within_a_minute():
    assert [interval_seconds(minutes) for minutes in (0.2, 1, 60, 1440)] == [5, 15, 30, 30]


def test_a_cursor_that_cannot_be_read_begins_anew():
    assert read_cursor("{") == Cursor()


def test_what_is_new_is_asked_of_the_serving_database(home):
    manifest = manifest_of([], forecast=NAME)
    now = datetime.now(UTC)
    assert not is_new(NAME, 0.0)
    predict(made(now - timedelta(minutes=30), manifest, tags={BENCHMARK_TAG: "7"}))
    assert not is_new(NAME, 0.0)  # nobody wanted to know it
    predict(made(now - timedelta(minutes=30), manifest))
    assert is_new(NAME, 0.0)
    assert not is_new("other", 0.0)
    assert not is_new(NAME, now.timestamp())


def test_the_tables_that_are_there_are_known_without_the_warehouse(trained, fast: Forecast, data):
    from vroom_assets.forecast.source_assets import observe_source

    assert loaded_version(fast) != ""
    with open(data / "reservations.csv", "a") as file:
        file.write("1,2023-12-31 00:00:00\n")
    for name in fast.sources:
        observe_source(fast, name, afresh=True)
    assert loaded_version(fast) == ""


@pytest.fixture
def minutely(fast: Forecast) -> Forecast:
    return fast.model_copy(update={"monitoring": fast.monitoring.model_copy(update={"window_minutes": 0.01})})


def test_the_sensor_itself_asks_for_its_job_and_says_why_it_does_not(trained, instance, minutely):
    sensor = definitions(minutely).resolve_sensor_def(f"{NAME}_monitoring")

    def tick(cursor: str | None) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, definitions=definitions(minutely)
        ) as context:
            return sensor.evaluate_tick(context)  # type: ignore[return-value]

    quiet = tick(None)
    assert "nothing was predicted" in str(quiet.skip_message)
    predict(made(datetime.now(UTC), manifest_of([], forecast=NAME)))
    time.sleep(1)
    (request,) = tick(quiet.cursor).run_requests or []
    assert request.job_name in (None, f"{NAME}_monitor")
    assert request.tags[FORECAST_TAG] == NAME
    progress.write(NAME, Progress(closed_until=time.time() + 60))
