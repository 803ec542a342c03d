"""What more rows cost, phase by phase: from a thousand vehicles to millions.

    python tests/benchmarks/scale.py [1000 10000 100000 1000000] [--quick] [--job]

Draws so many vehicles and their reservations and does with them what a run does, each size in a process of its own:
reading and checking the CSVs, the features, the stored inputs, the arrays, the search, the model of all rows with its
proof, a contest against another recipe, and the predictions of all rows by the served graph. Of each phase seconds,
processor seconds and the peak of memory while it lasted; the exponent is that by which processor seconds grow from one
size to the next. `--job` also runs the whole job, `python -m vroom_assets materialize`, and gives the peak of all its
processes and what its home takes on the disk. `--quick` is 1,000 and 10,000.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.accuracy import declared

ROOT = Path(__file__).parents[2]
NAME = "reservations"
SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
MEGABYTE = 2**20
PART = "--part"


class Phases:
    """Seconds, processor seconds and peak memory of what is done one after the other."""

    def __init__(self) -> None:
        self.measured: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        began, used = time.monotonic(), time.process_time()
        yield
        self.measured[name] = {
            "s": time.monotonic() - began,
            "cpu_s": time.process_time() - used,
            "peak_mb": _peak_mb(),
        }
        print(f"  {name}: {self.measured[name]['s']:.1f} s", file=sys.stderr, flush=True)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def part(vehicles: int, folder: Path, without: list[str]) -> dict[str, Any]:
    """All phases of one size, in this process, whose home and data folder `folder` holds; without some candidates."""
    import runpy

    import duckdb

    from vroom_api.contract.model import open_model, score
    from vroom_assets import sources
    from vroom_assets.challenger import parity
    from vroom_assets.challenger.onnx_graph import CHUNK
    from vroom_assets.champion.comparison import Entrant, compare
    from vroom_assets.features import online
    from vroom_assets.features import table as feature_table
    from vroom_assets.training.fitting import with_members
    from vroom_assets.training.metrics import METRIC_SETS
    from vroom_assets.training.sampling import FULL_ROWS, sample
    from vroom_assets.training.search import is_raced, search

    runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))["generate"](
        folder / "data" / NAME, vehicles=vehicles
    )
    whole = declared(NAME)
    competing = {name: one for name, one in whole.candidates.items() if name not in without}
    spec = whole.model_copy(update={"candidates": competing})
    metric_set, phases = METRIC_SETS[spec.target.kind], Phases()
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        with phases.measure("read"):
            for name, source in spec.sources.items():
                path = folder / "data" / source.path
                sources.load(connection, name, source, [sources.NamedFile(path, str(path))])
                feature_table.note_origin(connection, name, {"snapshot": path.name})
        with phases.measure("features"):
            feature_table.build(connection, spec)
            feature_table.write_parquet(connection, NAME, "scale")
        with phases.measure("stored inputs"):
            online.store(connection, spec)
        with phases.measure("arrays"):
            data = feature_table.read(connection, spec)
    with phases.measure("search"):
        if is_raced(len(data.target), spec.candidates):
            exports, _ = parity.exportable(
                spec, data.take(sample(data.row_structure, FULL_ROWS, spec.validation.seed))
            )
        else:
            exports, _ = parity.exportable(spec, data)
        found = search(
            data.features, data.target, spec.candidates, spec.validation, metric_set, rows=data.row_structure
        )
    with phases.measure("model of all rows"):
        exported = parity.export(spec, data, found.chosen, found.fitted)
    with phases.measure("contest"):
        one, other = (
            Entrant(name, with_members({name}, spec.candidates), data.features)
            for name in ("lean_forest", found.chosen)
        )
        compare(one, other, data.target, spec.validation, metric_set, data.row_structure)
    inputs = data.inputs.to_numpy()
    with phases.measure("predictions"):
        session = open_model(exported.model)
        for start in range(0, len(inputs), CHUNK):
            score(session, inputs[start : start + CHUNK])
    return {
        "phases": phases.measured,
        "chosen": found.chosen,
        "why": found.choice.why,
        "candidates": len(exports),
    }


def job(vehicles: int, folder: Path) -> dict[str, float]:
    """The whole job as a user starts it."""
    import runpy

    data = folder / "job data"
    runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))["generate"](data / NAME, vehicles=vehicles)
    home = folder / "home"
    settings = {"VROOM_HOME": str(home), "VROOM_DATA": str(data), "VROOM_FORECAST": NAME}
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "vroom_assets", "materialize"],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    watched = Watched(run.pid)
    if run.wait() != 0:
        raise SystemExit(f"the job failed with {vehicles:,} vehicles; its runs are in {home}")
    watched.stop()
    disk = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    return {
        "s": time.monotonic() - began,
        "cpu_s": watched.used,
        "peak_mb": watched.peak_mb,
        "disk_mb": disk / MEGABYTE,
    }


class Watched:
    """The memory of a process and its children, four times a second; and the processor time of all."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = self.used = 0.0
        self._process, self._stopped = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        by_process: dict[int, float] = {}
        while not self._stopped.wait(0.25):
            memory = 0.0
            try:
                everyone = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                break
            for one in everyone:
                try:
                    memory += one.memory_full_info().pss
                    times = one.cpu_times()
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                by_process[one.pid] = times.user + times.system
            self.peak_mb, self.used = max(self.peak_mb, memory / MEGABYTE), sum(by_process.values())


def table(found: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """A row per phase; of each size seconds, processor seconds and megabytes, and how they grow."""
    rows = []
    sizes = sorted(found)
    for phase in [*found[sizes[0]]["phases"], *(["whole job"] if "job" in found[sizes[0]] else [])]:
        row: dict[str, Any] = {"phase": phase}
        measured = {
            size: found[size]["job"] if phase == "whole job" else found[size]["phases"][phase]
            for size in sizes
        }
        for size, one in measured.items():
            row[f"{size:,}"] = f"{one['s']:.1f} s, {one['cpu_s']:.1f} cpu, {one['peak_mb']:,.0f} MB" + (
                f", {one['disk_mb']:,.0f} MB on disk" if "disk_mb" in one else ""
            )
        if len(sizes) > 1:
            last, before = sizes[-1], sizes[-2]
            grown = max(measured[last]["cpu_s"], 0.01) / max(measured[before]["cpu_s"], 0.01)
            row["exponent"] = f"{math.log(grown) / math.log(last / before):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("vehicles", type=int, nargs="*")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--job", action="store_true")
    arguments.add_argument(
        "--without", nargs="*", default=[], metavar="CANDIDATE", help="leave it out of the phases"
    )
    arguments.add_argument(PART, type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.part is not None:
        print(json.dumps(part(given.vehicles[0], given.part, given.without)))
        return 0
    found: dict[int, dict[str, Any]] = {}
    for vehicles in given.vehicles or (QUICK if given.quick else SIZES):
        print(f"{vehicles:,} vehicles", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, str(vehicles), PART, folder, "--without", *given.without]
            environment = os.environ | {"PYTHONPATH": str(ROOT), "VROOM_HOME": f"{folder}/home"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found[vehicles] = json.loads(done.stdout)
            if given.job:
                found[vehicles]["job"] = job(vehicles, Path(folder))
        print(f"  {found[vehicles]['chosen']}: {found[vehicles]['why']}", file=sys.stderr, flush=True)
    print(table(found).to_markdown(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
