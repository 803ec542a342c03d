"""What does the whole system cost while nothing happens, by what it is spent on?

    python tests/benchmarks/idle.py [--seconds 120] [--settle 45] [--home FOLDER]

Starts what `make run` starts, on free ports and a copy of the data, waits until every forecast serves, no run is under way
and the start has settled, and prints the processor seconds of each part of the system, its share of one core, and how
often it woke up. With --home the state is kept there: a second time nothing has to be trained first. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.whole_system import FORECASTS, called, processor, pss, serving, settle, tree

LIMIT = 8.0  # % of a core
PARTS = {  # in the command of a process: which part of the system it is
    "multiprocessing.forkserver": "warm process for runs",
    "code-server start": "code server, its front",
    "api grpc": "code server, the definitions",
    "dagster_daemon": "daemon",
    "dagster._daemon": "daemon",
    "dagster_server": "web server",
    "mlflow": "MLflow",
    "vroom_api": "service",
}


@dataclass(frozen=True)
class Used:
    """What the processes of the system used so far, by part: processor seconds, how often they woke up, and PSS in MB."""

    seconds: Counter[str]
    wakes: Counter[str]
    memory: Counter[str]


def part_of(process: psutil.Process) -> str:
    command = called(process)
    known = next((part for words, part in PARTS.items() if words in command), None)
    return known or ("supervisor" if "vroom_assets" in command or command.startswith("sh ") else "other")


def used(pid: int) -> Used:
    seconds: Counter[str] = Counter()
    wakes: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for process, _ in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            part = part_of(process)
            seconds[part] += processor(process)
            wakes[part] += sum(_switches(process.pid))
            memory[part] += pss(process)
    return Used(seconds, wakes, memory)


def _switches(pid: int) -> list[int]:
    """Voluntary context switches of each thread."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    found.append(int(line.split()[1]))
    return found


def measure(pid: int, seconds: float) -> float:
    """Print what each part costs, and return the share of one core of all, in %."""
    before, began = used(pid), time.monotonic()
    time.sleep(seconds)
    after, took = used(pid), time.monotonic() - began
    print(f"\n{'seconds':>8}{'% core':>8}{'wakes/s':>9}{'PSS MB':>8}  over {took:.0f} s")
    spent = {part: after.seconds[part] - before.seconds[part] for part in after.seconds}
    for part, cost in sorted(spent.items(), key=lambda one: -one[1]):
        wakes = (after.wakes[part] - before.wakes[part]) / took
        print(f"{cost:8.2f}{100 * cost / took:8.2f}{wakes:9.1f}{after.memory[part]:8.0f}  {part}")
    share = 100 * sum(spent.values()) / took
    print(
        f"{sum(spent.values()):8.2f}{share:8.2f}{'':9}{after.memory.total():8.0f}  in all; the limit is {LIMIT:g} %"
    )
    return share


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="to measure for (default %(default)s)")
    parser.add_argument("--settle", type=float, default=45, help="seconds before that (default %(default)s)")
    parser.add_argument("--home", type=Path, help="keep state and data here, to start from them again")
    options = parser.parse_args()
    with serving(options.home) as (system, _):
        settle(system, options.settle)
        print(f"{FORECASTS} forecasts")
        share = measure(system.process.pid, options.seconds)
    return 0 if share <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
