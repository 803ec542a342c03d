"""How fast is the catalog: 100,000 vehicles listed, searched, paged and predicted by their ids at 8 clients?

    python tests/benchmarks/catalog.py [--vehicles 100000] [--saved 1000] [--clients 8] [--seconds 4] [--only search] [--database URL]

Over HTTP on loopback against `python -m vroom_api`, one worker with its record, beside an empty Litestar endpoint in the
same run; CPU ms is what the service used for one answer. Every request of a row is another one: other ids, cursors and ranges. With --database the service keeps its
tables there, and those of the fleet too (VROOM_STORED_INPUTS=database). Exits with 1 when a 99th percentile is not
below 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import uvloop

from tests.benchmarks.load import Measured, _Client
from tests.support.bundles import EXAMPLE, FORECAST, NAMES, publish
from tests.support.entities import keep
from tests.support.service import environment, free_port
from vroom_api.contract.tables import entities, open_database

PEERS = Path(__file__).parent / "peers"
LIMIT = 0.020  # seconds, of a 99th percentile
VARIETY = 2_000  # different requests of a row


@dataclass(frozen=True)
class Question:
    """What is asked, each time with other values."""

    name: str
    method: str
    path: Callable[[random.Random], str]
    body: Callable[[random.Random], dict[str, object]] | None = None


class Varied(_Client):
    """A client that asks one request after the other."""

    def __init__(self, requests: Iterator[bytes], until: float, measured: Measured) -> None:
        super().__init__(b"", until, measured, 0.0)
        self._requests = requests

    def _ask(self) -> None:
        self._request = next(self._requests)
        super()._ask()


def vehicles(count: int, rng: random.Random) -> dict[str, list[object]]:
    def one() -> list[object]:
        usual = rng.uniform(25, 250)
        price = round(usual * rng.lognormvariate(0, 0.3), 2)
        images = min(int(rng.expovariate(0.25)), 100)
        return [rng.randint(0, 1), price, round(usual, 2), images, rng.randint(0, 1), rng.randint(0, 900)]

    return {str(number): one() for number in range(1, count + 1)}


def questions(count: int, saved: int) -> list[Question]:
    def search(text: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
        return lambda rng: f"/vehicles?limit=50&where={urllib.parse.quote(text(rng))}"

    def around(rng: random.Random, width: float) -> str:
        low = rng.uniform(30, 200)
        return f"{low:.2f}..{low + width:.2f}"

    def some(rng: random.Random) -> str:
        return str(rng.randint(1, count))

    return [
        Question("list, first page of 50", "GET", lambda rng: "/vehicles?limit=50"),
        Question("page of 50 behind any id", "GET", lambda rng: f"/vehicles?limit=50&after={some(rng)}"),
        Question("page of 100 behind any id", "GET", lambda rng: f"/vehicles?after={some(rng)}"),
        Question("one by id", "GET", lambda rng: f"/vehicles/{some(rng)}"),
        Question(
            "search: id begins with", "GET", lambda rng: f"/vehicles?limit=50&prefix={rng.randint(1, 999)}"
        ),
        Question("search: half of all", "GET", search(lambda rng: f"technology:{rng.randint(0, 1)}")),
        Question(
            "search: a price to the cent",
            "GET",
            search(lambda rng: f"actual_price:{rng.uniform(30, 200):.2f}"),
        ),
        Question("search: prices of a dollar", "GET", search(lambda rng: f"actual_price:{around(rng, 1)}")),
        Question(
            "search: prices of 40 dollars", "GET", search(lambda rng: f"actual_price:{around(rng, 40)}")
        ),
        Question(
            "search: three conditions",
            "GET",
            search(lambda rng: f"actual_price:{around(rng, 40)},technology:1,num_images:{rng.randint(0, 9)}"),
        ),
        Question(
            "search: what no vehicle has",
            "GET",
            search(lambda rng: f"actual_price:..{rng.uniform(40, 60):.2f},recommended_price:200.."),
        ),
        Question("search: saved ones", "GET", lambda rng: "/vehicles?limit=50&source=service"),
        Question("features of one", "GET", lambda rng: f"/vehicles/{some(rng)}/features"),
        Question("features, page of 50", "GET", lambda rng: f"/vehicles/features?limit=50&after={some(rng)}"),
        Question(
            "predict by id, fleet",
            "POST",
            lambda rng: "/predict/id",
            lambda rng: {"vehicle_id": int(some(rng))},
        ),
        Question(
            "predict by id, saved",
            "POST",
            lambda rng: "/predict/id",
            lambda rng: {"vehicle_id": f"s{rng.randrange(saved)}"},
        ),
        Question("predict, all inputs sent", "POST", lambda rng: "/predict", lambda rng: dict(EXAMPLE)),
        Question(
            "save the same again",
            "POST",
            lambda rng: "/vehicles",
            lambda rng: EXAMPLE | {"vehicle_id": f"s{rng.randrange(saved)}"},
        ),
    ]


def encoded(question: Question, rng: random.Random) -> bytes:
    body = b"" if question.body is None else json.dumps(question.body(rng)).encode()
    lines = [f"{question.method} {question.path(rng)} HTTP/1.1", "host: 127.0.0.1"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def measured(port: int, question: Question, clients: int, seconds: float) -> Measured:
    rng = random.Random(question.name)
    varied = [encoded(question, rng) for _ in range(VARIETY)]
    found = Measured()

    def endless(start: int) -> Iterator[bytes]:
        while True:
            for position in range(VARIETY):
                yield varied[(start + position) % VARIETY]

    async def run() -> None:
        until, loop = time.perf_counter() + seconds, asyncio.get_running_loop()
        made = [
            await loop.create_connection(
                lambda start=number * VARIETY // clients: Varied(endless(start), until, found),
                "127.0.0.1",
                port,
            )
            for number in range(clients)
        ]
        await asyncio.wait([client.done for _, client in made], timeout=seconds + 20)

    began = time.perf_counter()
    uvloop.run(run())
    found.seconds = time.perf_counter() - began
    return found


@contextlib.contextmanager
def started(command: list[str], port: int, **options: object) -> Iterator[int]:
    """A process that answers; its id."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            if process.poll() is not None:
                raise SystemExit(f"{command} ended")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def processor_seconds(process: int) -> float:
    """What a process has used of the processors, which other work on the machine does not change."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(home: Path, url: str, count: int, saved: int, *, in_database: bool) -> None:
    publish(home, 1, entity_key="vehicle_id")
    fleet = vehicles(count, random.Random(0))
    if not in_database:
        keep(home, fleet, observed=dict.fromkeys(fleet, 3.0))
    now = datetime.now(UTC)
    plain = {"forecast": FORECAST, "tags": {}, "as_of": now.isoformat(timespec="seconds"), "revision": 1}
    plain |= {"caller": "benchmark", "created_at": now, "updated_at": now}
    rows = [plain | {"id": f"s{number}", "source": "service", "inputs": EXAMPLE} for number in range(saved)]
    if in_database:
        rows += [
            plain | {"id": name, "source": "csv", "inputs": dict(zip(NAMES, content, strict=True))}
            for name, content in fleet.items()
        ]
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(sa.delete(entities).where(entities.c.forecast == FORECAST))
        connection.execute(entities.insert(), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE entities")
    engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vehicles", type=int, default=100_000)
    parser.add_argument("--saved", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="", help="the questions with this in their names")
    parser.add_argument("--database", default="")
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        url = options.database or f"sqlite:///{home / 'serving.db'}"
        fill(home, url, options.vehicles, options.saved, in_database=bool(options.database))
        port, bare = free_port(), free_port()
        stored = {"STORED_INPUTS": "database"} if options.database else {}
        settings = environment(home, API_PORT=port, DATABASE_URL=url, LOG_LEVEL="error", **stored)
        empty = ["-m", "uvicorn", "bare:app", "--host", "127.0.0.1", "--port", str(bare), "--loop", "uvloop"]
        quiet = ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
        with (
            started([sys.executable, "-m", "vroom_api"], port, env=settings) as service,
            started([sys.executable, *empty, *quiet], bare, cwd=PEERS) as peer,
        ):
            floor = Question(
                "an empty Litestar endpoint", "POST", lambda rng: "/predict", lambda rng: dict(EXAMPLE)
            )
            print(f"{options.vehicles:,} vehicles, {options.saved:,} saved, {options.clients} clients\n")
            print(f"{'':32}{'p50 ms':>9}{'p99 ms':>9}{'1/s':>9}{'CPU ms':>9}  errors")
            asked = [one for one in questions(options.vehicles, options.saved) if options.only in one.name]
            for question in [floor, *asked, floor]:
                address = bare if question is floor else port
                measured(address, question, options.clients, min(options.seconds, 0.5))  # warm
                process = peer if question is floor else service
                used = processor_seconds(process)
                found = measured(address, question, options.clients, options.seconds)
                used = 1000 * (processor_seconds(process) - used) / max(len(found.latencies), 1)
                held = found.p99 < LIMIT and not found.errors
                missed += not held
                print(
                    f"{'yes' if held else 'NO ':4}{question.name:28}{1000 * found.p50:9.2f}{1000 * found.p99:9.2f}"
                    f"{found.rate:9.0f}{used:9.2f}  {found.errors or 'none'}",
                    flush=True,
                )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
