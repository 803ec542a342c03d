"""The whole system as `make run` starts it, for benchmarks that ask it from outside. Linux only."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
FORECASTS = sum(1 for _ in (ROOT / "vroom_assets" / "defs").glob("*/defs.yaml"))
CHANGED = "reservations"
GENERATE = runpy.run_path(str(ROOT / "data" / CHANGED / "generate.py"))["generate"]
PAGES = ("dagster", "api", "mlflow")
READY_WITHIN = 600  # seconds
RUNS = """{ runsOrError(limit: 20) { ... on Runs {
    results { jobName status creationTime startTime endTime tags { key value } } } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class System:
    """A started system, asked from outside."""

    process: subprocess.Popen
    ports: dict[str, int]

    def get(self, page: str, path: str, body: Any = None) -> Any:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[page]}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def versions(self) -> dict[str, int]:
        """The version that each forecast serves."""
        found = self.get("api", "/forecasts")
        return {one["name"]: one["model_version"] for one in found if one["status"] == "ok"}

    def runs(self) -> list[dict[str, Any]]:
        """Newest first."""
        return self.get("dagster", "/graphql", {"query": RUNS})["data"]["runsOrError"]["results"]

    def wait(self, what: str, until: Callable[[], Any], seconds: float, every: float) -> Any:
        """What is waited for, as soon as there is any."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"the system ended before {what}")
            with contextlib.suppress(OSError):
                if found := until():
                    return found
            time.sleep(every)
        raise RuntimeError(f"{what}: not within {seconds:.0f} s")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def started(home: Path, data: Path, log: Path, *own: str) -> Iterator[System]:
    """The system as `make run` starts it; everything it started is ended with it.

    Args:
        own: further settings, each as NAME=value.
    """
    ports = dict(zip(PAGES, free_ports(len(PAGES)), strict=True))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VROOM_", "MLFLOW_"))}
    settings = {f"VROOM_{page.upper()}_PORT": str(port) for page, port in ports.items()}
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "vroom_assets"],
            cwd=ROOT,
            env=clean
            | settings
            | dict(one.split("=", 1) for one in own)
            | {"VROOM_HOME": str(home), "VROOM_DATA": str(data)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield System(process, ports)
    except RuntimeError:
        print(log.read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        family = tree(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        for one in psutil.wait_procs([one for one, _ in family], 5)[1]:
            one.kill()
        process.wait()


def tree(pid: int) -> list[tuple[psutil.Process, int]]:
    """A process and its descendants, each with its depth, parents before their children."""
    found = []

    def add(process: psutil.Process, depth: int) -> None:
        found.append((process, depth))
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in process.children():
                add(child, depth + 1)

    with contextlib.suppress(psutil.NoSuchProcess):
        add(psutil.Process(pid), 0)
    return found


def called(process: psutil.Process) -> str:
    """What is run, without interpreter and options that say how."""
    words = process.cmdline()
    if words[:1] and Path(words[0]).name.startswith("python"):
        words = words[1:]
    return " ".join(Path(word).name if word.startswith("/") else word for word in words if word != "-m")


def pss(process: psutil.Process) -> float:
    """In MB."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def processor(process: psutil.Process) -> float:
    """Seconds used so far, with those of children that have ended."""
    return sum(process.cpu_times()[:4])


@contextlib.contextmanager
def serving(home: Path | None, *own: str) -> Iterator[tuple[System, Path]]:
    """The system, once every forecast serves, and its folder of data.

    Args:
        home: where state and data are kept; None for a folder that is removed.
        own: further settings, each as NAME=value.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended first
    with contextlib.ExitStack() as stack:
        folder = (home or Path(stack.enter_context(tempfile.TemporaryDirectory()))).absolute()
        if not (folder / "data").exists():
            shutil.copytree(ROOT / "data", folder / "data")
        system = stack.enter_context(started(folder / "home", folder / "data", folder / "log", *own))
        system.wait("all forecasts serve", lambda: len(system.versions()) == FORECASTS, READY_WITHIN, 1)
        yield system, folder / "data"


def settle(system: System, seconds: float) -> None:
    """Wait until no run is under way, and so much longer."""
    system.wait(
        "no run is under way", lambda: all(r["status"] in ENDED for r in system.runs()), READY_WITHIN, 1
    )
    time.sleep(seconds)
