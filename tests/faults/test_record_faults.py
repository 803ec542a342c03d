"""What the record promises when things break: an acknowledged prediction is never lost."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.record import LOAD, stored
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.contract.tables import open_database
from vroom_api.record.prediction import new_id
from vroom_api.record.recorder import Recorder, RecordUnavailable


# Records as fast as it can from many callers and says every id only after it was acknowledged.
def made(padding: int = 0) -> Prediction:
    inputs = tuple(float(number) for number in range(padding)) or (50.0,)
    origin = Origin(
        "reservations", 3, 7, "a" * 64, "d" * 64, tuple(f"i{n}" for n in range(len(inputs))), ("ratio",)
    )
    return Prediction(new_id(), origin, "shop", None, inputs, (1.0,), 6.4, 0.0, 15.0, 0.9, 180)


def test_nothing_acknowledged_is_lost_when_the_process_is_killed_under_load(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    acknowledged: set[str] = set()
    for _ in range(3):
        load = subprocess.Popen([sys.executable, "-c", LOAD, f"sqlite:///{path}"], stdout=subprocess.PIPE)
        assert load.stdout is not None
        message = [load.stdout.readline() for _ in range(2_000)]
        load.send_signal(signal.SIGKILL)
        message += load.stdout.readlines()
        load.wait()
        load.stdout.close()
        acknowledged |= {line.decode().strip() for line in message if line.endswith(b"\n")}
        assert acknowledged <= stored(path)
    assert len(acknowledged) >= 6_000


def test_a_full_disk_refuses_loses_nothing_and_recovers_alone(small_disk: Path) -> None:
    path = small_disk / "serving.db"
    engine = open_database(f"sqlite:///{path}")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 15_000_000)
    acknowledged: set[str] = set()

    async def record_until_refused(recorder: Recorder) -> None:
        for _ in range(10_000):
            one = made(padding=100)
            await recorder.record(one)
            acknowledged.add(one.id)

    async def run() -> None:
        async with Recorder(lambda: engine) as recorder:
            with pytest.raises(RecordUnavailable) as refusal:
                await record_until_refused(recorder)
            assert refusal.value.retry_after >= 1
            assert "full" in (recorder.last_failure or "")
            assert not await recorder.writable()
            assert len(acknowledged) > 30
            assert acknowledged <= stored(path)
            ballast.unlink()
            await asyncio.sleep(1.1)  # a probe counts for a second
            while not await recorder.writable():
                await asyncio.sleep(0.01)
            for _ in range(100):
                one = made(padding=100)
                await recorder.record(one)
                acknowledged.add(one.id)

    asyncio.run(run())
    engine.dispose()
    assert acknowledged <= stored(path)


def test_a_locked_database_refuses_in_time_and_recovers_alone(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    engine = open_database(f"sqlite:///{path}")

    async def run() -> set[str]:
        async with Recorder(lambda: engine, patience=0.1) as recorder:
            first = made()
            await recorder.record(first)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RecordUnavailable):
                await recorder.record(made())
            assert "locked" in (recorder.last_failure or "")
            other.execute("COMMIT")
            other.close()
            last = made()
            await recorder.record(last)
            return {first.id, last.id}

    assert asyncio.run(run()) == stored(path)
    engine.dispose()


def test_a_lock_that_is_released_in_time_is_not_noticed(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    engine = open_database(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.execute, ["COMMIT"]).start()

    async def run() -> None:
        async with Recorder(lambda: engine, patience=30) as recorder:
            await recorder.record(made())

    asyncio.run(run())
    other.close()
    engine.dispose()
    assert len(stored(path)) == 1


def test_sigterm_in_a_service_drains_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    service = """
import asyncio, os, signal, sys
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.record.prediction import new_id
from vroom_api.record.recorder import Recorder
from vroom_api.contract.tables import open_database

origin = Origin("reservations", 3, 7, "a" * 64, "d" * 64, ("price",), ("ratio",))

async def run():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Recorder(lambda: open_database(sys.argv[1]), largest_commit=4) as recorder:
        print("ready", flush=True)
        await stop.wait()
        made = [Prediction(new_id(), origin, "shop", None, (50.0,), (1.0,), 6.4, 0.0, 15.0, 0.9, 180) for _ in range(200)]
        waiting = [recorder.record(one) for one in made]
    assert all(done.done() and done.exception() is None for done in waiting)
    print("\\n".join(one.id for one in made))

asyncio.run(run())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", service, f"sqlite:///{path}"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    message, _ = process.communicate()
    assert process.returncode == 0
    assert set(message.split()) == stored(path)
    assert len(stored(path)) == 200
