"""What a search takes on one core and on two, and from which seconds on processes are worth their start.

    python tests/benchmarks/fits.py [1000 10000 100000 1000000] [--pairs 3]
    python tests/benchmarks/fits.py --break-even

Searches among the candidates of the flagship, of so many generated vehicles, on one core and then in two processes, each in
a process of its own, one pair after the other: seconds, processor seconds of all, and the peak of the memory of all. What else
the machine does hits both of a pair, so that the ratio is what to read: the median of the pairs. What both find has to be equal
to the last bit. `--break-even` makes the same fits, as many as take so many seconds on one core, here and in two processes that have
to be started first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.accuracy import declared
from tests.benchmarks.scale import Watched

ROOT = Path(__file__).parents[2]
NAME = "reservations"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEARCH, BREAK_EVEN = "--search", "--fits"
SECONDS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0)
FITS = 14  # of a sample: seven candidates on two folds


def prepare(vehicles: int, folder: Path) -> Path:
    """The dataset of so many vehicles, in a file."""
    import runpy

    import duckdb

    from vroom_assets import sources
    from vroom_assets.features import table

    runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))["generate"](
        folder / "data" / NAME, vehicles=vehicles
    )
    spec = declared(NAME)
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        for name, source in spec.sources.items():
            path = folder / "data" / source.path
            sources.load(connection, name, source, [sources.NamedFile(path, str(path))])
            table.note_origin(connection, name, {"snapshot": path.name})
        table.build(connection, spec)
        data = table.read(connection, spec)
    path = folder / "dataset"
    path.write_bytes(pickle.dumps(data))
    return path


def search_once(path: Path) -> dict[str, Any]:
    """The search that a training makes, in this process: seconds, and a digest of all that it found."""
    from vroom_assets.challenger import parity
    from vroom_assets.training.metrics import METRIC_SETS
    from vroom_assets.training.sampling import FULL_ROWS, sample
    from vroom_assets.training.search import is_raced, search

    spec, data = declared(NAME), pickle.loads(path.read_bytes())
    rows, began = data.row_structure, time.monotonic()
    proved = data
    if is_raced(rows.rows, spec.candidates):
        proved = data.take(sample(rows, FULL_ROWS, spec.validation.seed))
    parity.exportable(spec, proved)
    metric_set = METRIC_SETS[spec.target.kind]
    found = search(data.features, data.target, spec.candidates, spec.validation, metric_set, rows=rows)
    seconds = time.monotonic() - began
    digest = hashlib.sha256(found.nested.tobytes() + str(found.importances).encode())
    for part in (found.out_of_fold, found.fold_metrics, found.standings, found.choice.compared):
        digest.update(pd.util.hash_pandas_object(part).to_numpy().tobytes())
    return {"s": seconds, "chosen": found.chosen, "digest": digest.hexdigest()}


def fits_once(trees: int, are_spread: bool) -> dict[str, Any]:
    """Fits of forests with so many trees, in this process or spread."""
    from vroom_assets.spec import Candidate, Family, Validation
    from vroom_assets.training import parallel
    from vroom_assets.training.folds import RowStructure, Split

    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(4_000, 3)), columns=list("abc"))
    target = rng.normal(size=4_000)
    forest = Candidate(family=Family.FOREST, features=list("abc"), parameters={"n_estimators": trees})
    halves = np.array_split(np.arange(4_000), 2)
    entries = [
        parallel.Entry(Split(0, number, halves[number % 2], halves[1 - number % 2]), {"one": forest})
        for number in range(FITS)
    ]

    def all_of(some: list[parallel.Entry]) -> None:
        list(parallel.fit_splits(some, frame, target, RowStructure(4_000), Validation()))

    parallel.WORTH_SECONDS = float("inf")
    all_of([parallel.Entry(entries[0].split, {"one": forest.model_copy(update={"parameters": {}})})])
    parallel.WORTH_SECONDS = -1.0 if are_spread else float("inf")
    began = time.monotonic()
    all_of(entries)
    return {"s": time.monotonic() - began}


def run(folder: str, cores: int, *arguments: str) -> dict[str, Any]:
    """A part of this file in a process of its own, with what it and its children used."""
    settings = {"PYTHONPATH": str(ROOT), "VROOM_HOME": f"{folder}/home", "VROOM_TRAINING_CORES": str(cores)}
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True)
    watched = Watched(process.pid)
    output, _ = process.communicate()
    watched.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(output) | {"cpu_s": watched.used, "peak_mb": watched.peak_mb}


def line(vehicles: int, pairs: int) -> str:
    """A size: medians of the pairs."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(prepare(vehicles, Path(folder)))
        found = [(run(folder, 1, SEARCH, path), run(folder, 2, SEARCH, path)) for _ in range(pairs)]
    if len({one["digest"] for pair in found for one in pair}) != 1:
        raise SystemExit(f"{vehicles:,} vehicles: one core and two found different things")

    def median(side: int, what: str) -> float:
        return float(np.median([pair[side][what] for pair in found]))

    ratios = [two["s"] / one["s"] for one, two in found]
    return f"| {vehicles:,} | {found[0][0]['chosen']} | " + " | ".join(
        [
            *(f"{median(side, 's'):.1f}, {median(side, 'cpu_s'):.1f}" for side in (0, 1)),
            f"{np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            *(f"{median(side, 'peak_mb'):,.0f}" for side in (0, 1)),
        ]
    )


def break_even(pairs: int) -> None:
    print("| s on one core | in two new processes | ratio |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        pace = run(folder, 2, BREAK_EVEN, "100", "here")["s"] / 100
        for seconds in SECONDS:
            trees = str(max(1, round(seconds / pace)))
            found = [
                [run(folder, 2, BREAK_EVEN, trees, where)["s"] for where in ("here", "spread")]
                for _ in range(pairs)
            ]
            one, two = np.median(found, axis=0)
            ratio = np.median([spread / here for here, spread in found])
            print(f"| {one:.1f} | {two:.1f} | {ratio:.2f} |", flush=True)


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("vehicles", type=int, nargs="*")
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--break-even", action="store_true")
    arguments.add_argument(SEARCH, type=Path, help=argparse.SUPPRESS)
    arguments.add_argument(BREAK_EVEN, nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.search is not None:
        print(json.dumps(search_once(given.search)))
        return 0
    if given.fits is not None:
        print(json.dumps(fits_once(int(given.fits[0]), given.fits[1] == "spread")))
        return 0
    if given.break_even:
        break_even(given.pairs)
        return 0
    print("| vehicles | chosen | one core: s, processor s | two | ratio of s | peak MB, one | two |")
    print("|---|---|---|---|---|---|---|")
    for vehicles in given.vehicles or SIZES:
        print(f"{line(vehicles, given.pairs)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
