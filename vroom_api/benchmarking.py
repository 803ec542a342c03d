"""How fast the service answers, measured from outside: by real requests over HTTP to its own address."""

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from vroom_api import load_generator
from vroom_api.contract.decoding import decode

MAX_ITERATIONS: Final = 10_000
DEFAULT_ITERATIONS: Final = 1_000
MAX_SECONDS: Final = 20.0  # after which it ends, with what was answered until then
_LOCK: Final = "benchmark.lock"  # in the home


class CannotMeasure(Exception):
    """The service did not answer its own load generator; the message says why."""


class AlreadyRunning(Exception):
    """One benchmark runs at a time: two would measure each other."""


Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class Split(msgspec.Struct, frozen=True):
    """Where the time of an answer goes, means in milliseconds, as the service measures it."""

    http_and_framework_ms: Milliseconds  # what the load generator waited beyond all that follows
    decode_ms: Milliseconds  # JSON into a checked row
    stored_inputs_ms: Milliseconds  # inputs that were left out, and their encoding
    features_and_model_ms: Milliseconds
    answer_ms: Milliseconds  # interval, support, ages, JSON
    record_ms: Milliseconds  # until the prediction was durable; 0 without a record


class Benchmark(msgspec.Struct, frozen=True):
    """What one client waits for a prediction."""

    forecast: str
    model_version: int
    source: Literal["raw", "stored"]  # of the inputs: sent, or stored of the entity
    benchmark_id: str  # in the tag `vroom_benchmark` of each of its predictions
    n_iterations: Annotated[int, msgspec.Meta(ge=1, le=MAX_ITERATIONS)]  # asked for
    n: Annotated[int, msgspec.Meta(ge=0)]  # made; fewer where the time was over
    errors: dict[str, int]  # status -> answers that were none
    avg_ms: Milliseconds
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    requests_per_second: Annotated[float, msgspec.Meta(ge=0)]
    split: Split


class Report(msgspec.Struct, frozen=True):
    """What the load generator reports."""

    latencies: list[float]  # seconds
    statuses: dict[str, int]
    timings: dict[str, float]  # sums in milliseconds
    seconds: float


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Nobody else runs a benchmark of this home, in whatever process.

    Raises:
        AlreadyRunning: somebody does.
    """
    home.mkdir(parents=True, exist_ok=True)
    file = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning("a benchmark is running; ask again when it is over") from None
        yield
    finally:
        os.close(file)


async def measure(address: tuple[str, int], request: str, n: int, seconds: float) -> Report:
    """Send a request `n` times, one after the other, from a process of its own.

    Args:
        address: of this service.
        request: head and body.
        seconds: after which no more is asked.

    Raises:
        CannotMeasure: it was not answered at all.
    """
    order = {"host": address[0], "port": address[1], "request": request, "n": n, "seconds": seconds}
    generator = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", str(load_generator.__file__)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await generator.communicate(msgspec.json.encode(order))
    finally:
        if generator.returncode is None:  # whoever asked has gone
            generator.kill()
            await generator.wait()
    if generator.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise CannotMeasure(lines[-1] if lines else f"it ended with code {generator.returncode}")
    return decode(output, Report)


def figures(report: Report) -> dict[str, Any]:
    """The fields of a `Benchmark` that are measured."""
    milliseconds = 1000 * np.array(report.latencies or [0.0])
    average = float(milliseconds.mean())
    count = len(report.latencies)
    answered = report.statuses.get("200", 0)
    parts = {
        name: report.timings.get(name, 0.0) / max(answered, 1)
        for name in ("decode", "stored", "score", "answer", "record")
    }
    p50, p95, p99 = (float(one) for one in np.quantile(milliseconds, (0.5, 0.95, 0.99)))
    return {
        "n": count,
        "errors": {status: number for status, number in report.statuses.items() if status != "200"},
        "avg_ms": average,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "requests_per_second": count / report.seconds if report.seconds else 0.0,
        "split": Split(
            http_and_framework_ms=max(average - sum(parts.values()), 0.0),
            decode_ms=parts["decode"],
            stored_inputs_ms=parts["stored"],
            features_and_model_ms=parts["score"],
            answer_ms=parts["answer"],
            record_ms=parts["record"],
        ),
    }
