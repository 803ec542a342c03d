"""What does the whole system cost while nothing happens, and how soon does it take up a change?

    python tests/benchmarks/at_rest.py [--seconds 60] [--settle 30] [--home FOLDER]

Starts what `make run` starts, from a fresh home, on free ports and a copy of the data, and waits until every
forecast serves and no run is under way. Then, for so many seconds, memory (PSS: what is shared by several
processes is shared out among them) and processor time of every process. Then the reservations are generated
anew from another seed, half as many again, and the time is printed until a run is requested, starts, ends, and
what it published serves. With --home the state is kept there: a second time nothing has to be trained first.
Linux only.
"""

from __future__ import annotations

import argparse
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
CHANGED = "reservations"
GENERATE = runpy.run_path(str(ROOT / "data" / CHANGED / "generate.py"))["generate"]
DEMAND = 1.5  # so much more that the challenger replaces the champion
PAGES = ("dagster", "api", "mlflow")
READY_WITHIN = 600  # seconds
RETRAINED_WITHIN = 300
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


def at_rest(system: System, seconds: float) -> tuple[float, float]:
    """Print what each process costs, and return MB of all and the share of one core that they use."""
    before = {process.pid: processor(process) for process, _ in tree(system.process.pid)}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    memory = share = 0.0
    print(f"\n{'PSS MB':>8}{'% core':>8}  over {took:.0f} s")
    for process, depth in tree(system.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            used = (processor(process) - before.get(process.pid, 0.0)) / took
            held = pss(process)
            memory, share = memory + held, share + used
            print(f"{held:8.0f}{100 * used:8.2f}  {'  ' * depth}{called(process)[: 70 - 2 * depth]}")
    print(f"{memory:8.0f}{100 * share:8.2f}  in all")
    return memory, share


def reaction(system: System, data: Path) -> None:
    """Change the reservations and tell, phase by phase, how long it takes until they are served."""
    served = system.versions()[CHANGED]
    known = len(retrainings(system))
    seed = time.time_ns() % 2**31
    with tempfile.TemporaryDirectory(dir=data) as beside:
        made = GENERATE(Path(beside), seed=seed, demand=DEMAND)
        for file in made:
            file.replace(data / CHANGED / file.name)
    changed = time.time()

    def run() -> dict[str, Any] | None:
        every = retrainings(system)
        return every[0] if len(every) > known and every[0]["status"] in ENDED else None

    run_found = system.wait("a retraining that ended", run, RETRAINED_WITHIN, 0.5)
    published = served
    with contextlib.suppress(RuntimeError):
        published = system.wait(
            "a new version",
            lambda: system.versions()[CHANGED] != served and system.versions()[CHANGED],
            5,
            0.1,
        )
    serving = time.time()
    phases = [
        ("run requested", run_found["creationTime"]),
        ("run started", run_found["startTime"]),
        (f"run ended ({run_found['status'].lower()})", run_found["endTime"]),
    ]
    if published != served:
        phases.append((f"version {published} serves", serving))
    print(f"\n{'seconds':>8}{'in all':>8}  after a changed CSV")
    last = changed
    for what, when in phases:
        print(f"{when - last:8.1f}{when - changed:8.1f}  {what}")
        last = when
    if published == served:
        print(f"{'':16}  version {served} keeps serving: the contest held")


def retrainings(system: System) -> list[dict[str, Any]]:
    """Newest first."""
    return [run for run in system.runs() if run["jobName"] == f"{CHANGED}_retrain"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="to measure for (default %(default)s)")
    parser.add_argument("--settle", type=float, default=30, help="seconds before that (default %(default)s)")
    parser.add_argument("--home", type=Path, help="keep state and data here, to start from them again")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended first
    with contextlib.ExitStack() as stack:
        folder = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = folder.absolute() / "data"
        if not data.exists():
            shutil.copytree(ROOT / "data", data)
        system = stack.enter_context(started(folder.absolute() / "home", data, folder / "log"))
        began = time.monotonic()
        forecasts = sum(1 for _ in (ROOT / "vroom_assets" / "defs").glob("*/defs.yaml"))
        system.wait("all forecasts serve", lambda: len(system.versions()) == forecasts, READY_WITHIN, 1)
        print(f"all {forecasts} forecasts serve after {time.monotonic() - began:.0f} s")
        system.wait(
            "no run is under way", lambda: all(r["status"] in ENDED for r in system.runs()), READY_WITHIN, 1
        )
        time.sleep(options.settle)
        at_rest(system, options.seconds)
        reaction(system, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
