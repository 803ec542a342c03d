"""What the service promises when things break, seen from outside: over HTTP, process by process.

An answer with a prediction_id is in the record, whatever happens next.
"""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import EXAMPLE, publish
from tests.support.record import stored
from tests.support.service import running

CLIENTS = 32


class Load:
    """Clients that ask until their connections break, and what they were answered."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.refusals: list[httpx.Response] = []
        self.broken: list[httpx.TransportError] = []  # asked and never answered
        self.stopped = False

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        async with httpx.AsyncClient(base_url=self.address, timeout=20) as client:
            while not self.stopped:
                try:
                    answer = await client.post("/predict", json=EXAMPLE)
                except httpx.ConnectError:  # nothing was asked
                    return
                except httpx.TransportError as error:
                    self.broken.append(error)
                    return
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.acknowledged.add(answer.json()["prediction_id"])
                else:
                    self.refusals.append(answer)

    async def until_acknowledged(self, count: int) -> None:
        while len(self.acknowledged) < count:
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_nothing_answered_is_lost_when_the_service_is_killed_five_times_under_load(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    acknowledged: set[str] = set()

    async def live_and_die(address: str, process: subprocess.Popen[str]) -> Load:
        load = Load(address)
        work = asyncio.create_task(load.run())
        await load.until_acknowledged(500)
        process.send_signal(signal.SIGKILL)
        await work
        return load

    for _ in range(5):
        with running(home) as (address, process):
            load = asyncio.run(asyncio.wait_for(live_and_die(address, process), 60))
        assert set(load.statuses) == {200}
        acknowledged |= load.acknowledged
        assert acknowledged <= stored(home / "serving.db")
    assert len(acknowledged) >= 2_500
    # Of what was written and never answered there is at most what each client had asked last.
    assert len(stored(home / "serving.db")) <= len(acknowledged) + 5 * CLIENTS


def test_sigterm_under_load_answers_what_it_took_and_takes_no_more(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    path = home / "serving.db"

    async def stop(address: str, process: subprocess.Popen[str]) -> Load:
        load = Load(address)
        work = asyncio.create_task(load.run())
        await load.until_acknowledged(1_000)
        # While another process writes, what was asked waits: every client has a request under way.
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        other.execute("BEGIN IMMEDIATE")
        async with httpx.AsyncClient(base_url=address) as client:
            while f"vroom_record_waiting {CLIENTS}.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while await takes_connections(address):
            await asyncio.sleep(0.01)
        other.execute("COMMIT")
        other.close()
        await work
        assert await asyncio.to_thread(process.wait, 30) in (0, -signal.SIGTERM)
        return load

    with running(home) as (address, process):
        load = asyncio.run(asyncio.wait_for(stop(address, process), 90))
    assert load.broken == []
    assert set(load.statuses) == {200}
    assert load.acknowledged == stored(path)


async def takes_connections(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def copied(path: Path, folder: Path) -> Path:
    """A copy of a database where there is room to read it: blocks are expanded by whoever reads."""
    for suffix in ("", "-wal"):
        shutil.copyfile(path.with_name(path.name + suffix), folder / f"copy.db{suffix}")
    return folder / "copy.db"


def test_a_full_disk_is_a_503_never_a_lost_answer_and_passes_alone(small_disk: Path, tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    ballast = small_disk / "ballast"
    path = small_disk / "serving.db"

    async def fill_and_free(address: str) -> Load:
        load = Load(address)
        work = asyncio.create_task(load.run())
        await load.until_acknowledged(200)
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        while len(load.refusals) < 50:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/readyz")).status_code == 503
        assert load.acknowledged <= await asyncio.to_thread(stored, copied(path, tmp_path))
        ballast.unlink()
        await load.until_acknowledged(len(load.acknowledged) + 200)
        load.stopped = True
        await work
        return load

    with running(home, DATABASE_URL=f"sqlite:///{path}") as (address, _):
        load = asyncio.run(asyncio.wait_for(fill_and_free(address), 90))
        assert httpx.get(f"{address}/readyz").status_code == 200
    assert load.broken == []
    assert set(load.statuses) == {200, 503}
    for refusal in load.refusals:
        assert refusal.headers["content-type"] == "application/problem+json"
        assert int(refusal.headers["retry-after"]) >= 1
        assert refusal.json()["type"] == "urn:vroom:not-recorded"
    assert load.acknowledged <= stored(path)
