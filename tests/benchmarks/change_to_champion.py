"""From a changed CSV to the champion that serves, phase by phase.

    python tests/benchmarks/change_to_champion.py [--times 3] [--settle 20] [--home FOLDER] [NAME=value ...]

Starts what `make run` starts, on free ports and a copy of the data, waits until every forecast serves and no run is under
way, and generates the reservations anew, so often, from another seed and with another demand, so that the challenger
replaces the champion. Beside the seconds of each phase it prints the processor seconds of the run's own process: where
they are fewer than the seconds, something else had the processors. With --home the state is kept there. Further arguments are
settings, e.g. VROOM_WARM_RUNS=off.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.whole_system import CHANGED, ENDED, GENERATE, System, serving, settle, tree

DEMANDS = (1.5, 0.8, 1.6, 0.7, 1.4)
WITHIN = 300.0  # seconds
TARGET = 30.0
EVENTS = """query ($id: ID!) { runOrError(runId: $id) { ... on Run {
    creationTime startTime endTime status eventConnection { events { __typename
        ... on MessageEvent { timestamp }
        ... on MaterializationEvent { assetKey { path } }
        ... on EngineEvent { message }
    } } } } }"""
RUNS = """{ runsOrError(limit: 20) { ... on Runs { results { runId jobName status creationTime } } } }"""
PHASES = (
    *("seen and requested", "launched", "its process ready", "sources", "features", "search", "challenger"),
    *("contest", "publication", "served"),
)


@dataclass(frozen=True)
class Renewal:
    """When each phase ended, in seconds after the change, and the processor seconds of the run's process."""

    ends: list[float]
    processor: float

    @property
    def phases(self) -> list[float]:
        return [end - start for start, end in zip([0.0, *self.ends], self.ends, strict=False)]


def change(data: Path, demand: float) -> float:
    """Generate the source anew, and return when that was done."""
    with tempfile.TemporaryDirectory(dir=data) as beside:
        for file in GENERATE(Path(beside), seed=time.time_ns() % 2**31, demand=demand):
            file.replace(data / CHANGED / file.name)
    return time.time()


def renewal(system: System, data: Path, demand: float) -> Renewal:
    """Change the source and wait until what was trained from it serves."""
    before, served = {run["runId"] for run in runs(system)}, system.versions()[CHANGED]
    changed = change(data, demand)
    run_id = system.wait(
        "a run",
        lambda: next((r["runId"] for r in runs(system) if r["runId"] not in before), None),
        WITHIN,
        0.1,
    )
    processor, ended = 0.0, False
    while not ended:
        processor = max(processor, used_by_run(system))
        ended = next(run["status"] for run in runs(system) if run["runId"] == run_id) in ENDED
        if system.versions()[CHANGED] != served:
            break
        time.sleep(0.2)
    with contextlib.suppress(RuntimeError):
        system.wait("a new version", lambda: system.versions()[CHANGED] != served, 5, 0.05)
    serves = time.time()
    system.wait("the run's end", lambda: all(r["status"] in ENDED for r in runs(system)), WITHIN, 0.2)
    if system.versions()[CHANGED] == served:
        raise RuntimeError("the contest held: there is nothing to measure")
    return Renewal([end - changed for end in (*ends(system, run_id), serves)], processor)


def runs(system: System) -> list[dict[str, Any]]:
    found = system.get("dagster", "/graphql", {"query": RUNS})["data"]["runsOrError"]["results"]
    return [run for run in found if run["jobName"] == f"{CHANGED}_retrain"]


def used_by_run(system: System) -> float:
    """Processor seconds of the process that executes a run; what it is forked from used a few before."""
    seconds = [0.0]
    for process, _ in tree(system.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command = " ".join(process.cmdline())
            if "spawn_main" in command or "forkserver" in command or "execute_run" in command:
                seconds.append(sum(process.cpu_times()[:2]))
    return max(seconds)


def ends(system: System, run_id: str) -> list[float]:
    """When each phase within Dagster ended, in seconds since the epoch."""
    asked = {"query": EVENTS, "variables": {"id": run_id}}
    run = system.get("dagster", "/graphql", asked)["data"]["runOrError"]
    launched = run["creationTime"]
    made: dict[str, float] = {}
    for event in run["eventConnection"]["events"]:
        at = float(event["timestamp"]) / 1000
        if event["__typename"] == "RunStartingEvent":
            launched = at
        if event["__typename"] == "MaterializationEvent":
            made[event["assetKey"]["path"][-1]] = at
    sources = max(at for asset, at in made.items() if asset in ("vehicles", "reservations"))
    assets = ("cv_metrics", "challenger", "contest", "champion")
    features = max(made["features"], made.get("online_features", 0.0))
    return [
        run["creationTime"],
        launched,
        run["startTime"],
        sources,
        features,
        *(made[one] for one in assets),
    ]


def describe(renewals: Sequence[Renewal]) -> float:
    """Print the medians, and return that of the whole."""
    print(f"\n{'median':>8}{'least':>8}{'most':>8}  s, of {len(renewals)}")
    for index, phase in enumerate(PHASES):
        seconds = [one.phases[index] for one in renewals]
        print(f"{statistics.median(seconds):8.1f}{min(seconds):8.1f}{max(seconds):8.1f}  {phase}")
    whole = [one.ends[-1] for one in renewals]
    middle = statistics.median(whole)
    print(f"{middle:8.1f}{min(whole):8.1f}{max(whole):8.1f}  in all; the target is {TARGET:g}")
    print(f"{statistics.median(one.processor for one in renewals):8.1f}{'':16}  processor seconds of the run")
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, help="changes to measure (default %(default)s)")
    parser.add_argument("--settle", type=float, default=20, help="seconds before each (default %(default)s)")
    parser.add_argument("--home", type=Path, help="keep state and data here, to start from them again")
    parser.add_argument("settings", nargs="*", metavar="NAME=value", help="settings of the system")
    options = parser.parse_args()
    with serving(options.home, *options.settings) as (system, data):
        found = []
        for index in range(options.times):
            settle(system, options.settle)
            found.append(renewal(system, data, DEMANDS[index % len(DEMANDS)]))
        middle = describe(found)
    return 0 if middle <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
