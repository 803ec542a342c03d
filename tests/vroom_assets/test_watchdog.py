"""When the supervisor starts the automation again, and when it lets it be."""

import multiprocessing
import os
import shlex
import signal
import sys

import pytest

from vroom_api.contract.heartbeat import Heartbeat
from vroom_assets.watchdog import Remedy, RestartableProcess, Watchdog


@pytest.fixture
def dog() -> Watchdog:
    return Watchdog([Remedy("first", lambda: None), Remedy("second", lambda: None)], began=0.0)


def looked(dog: Watchdog, now: float, *beats: Heartbeat) -> str | None:
    remedy = dog.look(beats, now)
    return remedy.name if remedy else None


def test_after_a_minute_without_a_tick_one_remedy_follows_the_other_and_each_is_applied_once(dog):
    beat = Heartbeat(checked_at=1_000.0, every_s=5.0)
    found = {now: looked(dog, now, beat) for now in range(0, 400, 5)}
    assert {now: name for now, name in found.items() if name} == {65: "first", 130: "second"}


def test_a_tick_of_any_forecast_is_one_and_begins_everything_anew(dog):
    old = Heartbeat(checked_at=1_000.0, every_s=5.0)
    looked(dog, 0, old)
    assert looked(dog, 65, old) == "first"
    assert looked(dog, 70, old, Heartbeat(checked_at=1_070.0, every_s=5.0)) is None
    assert looked(dog, 129, old, Heartbeat(checked_at=1_070.0, every_s=5.0)) is None
    assert looked(dog, 135, old, Heartbeat(checked_at=1_070.0, every_s=5.0)) == "first"


def test_sensors_that_check_seldom_have_more_time(dog):
    beat = Heartbeat(checked_at=1_000.0, every_s=100.0)
    looked(dog, 0, beat)
    assert looked(dog, 299, beat) is None
    assert looked(dog, 301, beat) == "first"


def test_a_start_has_the_time_that_it_takes():
    dog, beat = Watchdog([Remedy("first", lambda: None)], began=120.0), Heartbeat(checked_at=1.0, every_s=5.0)
    assert [looked(dog, now, beat) for now in (0, 100, 180, 181)] == [None, None, None, "first"]


def test_where_no_sensor_ever_ticked_nothing_is_missed(dog):
    assert looked(dog, 1_000) is None


def test_sensors_that_somebody_stopped_are_let_be_and_missed_once_they_are_started_again():
    stopped = [True]
    dog = Watchdog([Remedy("first", lambda: None)], began=0.0, is_stopped=lambda: stopped[0])
    beat = Heartbeat(checked_at=1_000.0, every_s=5.0)
    assert [looked(dog, now, beat) for now in range(0, 400, 5)] == [None] * 80
    stopped[0] = False
    found = {now: looked(dog, now, beat) for now in range(400, 800, 5)}
    assert [name for name in found.values() if name] == ["first"]


def test_a_process_is_started_again_and_the_supervisor_sees_no_end_of_it():
    events: multiprocessing.Queue = multiprocessing.Queue()
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    one = RestartableProcess(shlex.join(command), name="one")
    running = multiprocessing.Process(target=one.run, args=(events, True))
    running.start()
    pids = []
    for _ in range(2):
        event = events.get(timeout=30)
        assert event.type == "start"
        pids.append(event.data["pid"])
        assert events.get(timeout=30).type == "line"
        if len(pids) == 1:
            one.restart()
    assert pids[0] != pids[1]

    os.killpg(pids[1], signal.SIGKILL)
    assert events.get(timeout=30).type == "stop"
    running.join(30)


def test_one_that_has_just_ended_by_itself_is_no_error():
    events: multiprocessing.Queue = multiprocessing.Queue()
    one = RestartableProcess("true", name="one")
    one.run(events)
    one.restart()


def test_what_heals_by_itself_is_one_line_of_the_terminal():
    events: multiprocessing.Queue = multiprocessing.Queue()
    lines = (
        "2026-01-01 10:00:00 +0000 - dagster.daemon.QueuedRunCoordinatorDaemon - ERROR - Caught an error dequeuing run 1",
        "Traceback (most recent call last):",
        "  File",
        "2026-01-01 10:00:01 +0000 - dagster.daemon - ERROR - another",
        "Traceback of it",
    )
    RestartableProcess(f"printf '%s\\n' {shlex.join(lines)}", name="daemon").run(events)
    seen = []
    while (event := events.get(timeout=30)).type != "stop":
        seen.append(event.data)
    assert [line.decode().strip() for line in seen[1:]] == [lines[0], *lines[3:]]
