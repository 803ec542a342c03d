"""LightGBM beside the histogram boosting, with the same parameters: which errs less, and how long do they take?

    python tests/benchmarks/boostings.py [name ...]

On the shipped forecasts, generated data, as declared; and on the files of tests/support/foreign.py, as `new` declares
them. Both have the parameters of the declared candidate `boosting`, its features, offset and calibration, on the same outer
folds. `difference` is that of the mean row losses, LightGBM's less the other's, with its standard error: rows paired, those of a
group together. Seconds are of all fits on one core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import accuracy
from tests.support.foreign import FOREIGN
from vroom_assets import declaration, sources
from vroom_assets.features import table
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, Family, ForecastSpec
from vroom_assets.training.folds import outer_splits
from vroom_assets.training.metrics import METRIC_SETS, standard_error
from vroom_assets.training.parallel import Entry, fit_splits

SHIPPED = ("reservations", "upcoming_reservations", "market_resolution", "lap_times")
NAMES = {
    "max_iter": "n_estimators",
    "learning_rate": "learning_rate",
    "max_leaf_nodes": "num_leaves",
    "min_samples_leaf": "min_child_samples",
}
FAMILIES = {
    Family.BOOSTING: Family.LIGHTGBM,
    Family.POISSON_BOOSTING: Family.POISSON_LIGHTGBM,
    Family.BINARY_BOOSTING: Family.BINARY_LIGHTGBM,
}
LOSSES = {"absolute_error": "l1"}


def beside(one: Candidate) -> Candidate:
    """The same candidate of LightGBM; it has no early stopping."""
    parameters: dict[str, Any] = {
        NAMES[name]: value for name, value in one.parameters.items() if name in NAMES
    }
    if "loss" in one.parameters:
        parameters["objective"] = LOSSES[one.parameters["loss"]]
    return one.model_copy(update={"family": FAMILIES[one.family], "parameters": parameters})


def datasets(names: list[str]) -> Iterator[tuple[str, ForecastSpec, Dataset]]:
    for name in names:
        if name in SHIPPED:
            spec = accuracy.declared(name)
            data = accuracy.read_folder(spec, accuracy.ROOT / "data" / name)
            yield name, spec.with_levels(data.levels), data
            continue
        with tempfile.TemporaryDirectory() as folder:
            root, foreign = Path(folder), FOREIGN[name]
            file = root / f"{name}.csv"
            foreign.write(file, foreign.rows)
            variables = {f"VROOM_{part.upper()}": str(root / part) for part in ("defs", "data", "home")}
            command = ["new", name, "--from", str(file), "--target", foreign.target]
            subprocess.run(
                [sys.executable, "-m", "vroom_assets", *command],
                env=os.environ | variables,
                cwd=accuracy.ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            spec = declaration.read(root / "defs" / name)
            with duckdb.connect() as connection:
                for source_name, source in spec.sources.items():
                    path = root / "data" / source.path
                    sources.load(connection, source_name, source, [sources.NamedFile(path, str(path))])
                    table.note_origin(connection, source_name, {"snapshot": path.name, "modified": ""})
                table.build(connection, spec)
                data = table.read(connection, spec)
            yield name, spec.with_levels(data.levels), data


def line(name: str, spec: ForecastSpec, data: Dataset) -> str:
    metric_set, rows = METRIC_SETS[spec.target.kind], data.row_structure
    declared = spec.candidates["boosting"]
    losses, seconds = [], []
    splits = outer_splits(rows, spec.validation)
    for one in (declared, beside(declared)):
        began = time.monotonic()
        total, times = np.zeros(len(data.target)), np.zeros(len(data.target))
        entries = [Entry(split, {"one": one}) for split in splits]
        found = fit_splits(entries, data.features, data.target, rows, spec.validation)
        for split, fits in zip(splits, found, strict=True):
            total[split.test] += metric_set.row_loss(data.target[split.test], fits["one"].prediction)
            times[split.test] += 1
        seconds.append(time.monotonic() - began)
        losses.append(total[times > 0] / times[times > 0])
    seen = times > 0
    groups = None if rows.groups is None else rows.groups[seen]
    difference = losses[1] - losses[0]
    noise = standard_error(difference, groups)
    return (
        f"| {name} | {len(difference):,} | {metric_set.error} | {losses[0].mean():.5g} | {losses[1].mean():.5g} | "
        f"{difference.mean():+.3g} ± {noise:.2g} | {seconds[0]:.1f} | {seconds[1]:.1f} |"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", default=[*SHIPPED, *FOREIGN], metavar="name")
    print("| | rows | metric | histogram boosting | LightGBM | difference | s | s, LightGBM |")
    print("|---|---|---|---|---|---|---|---|")
    for name, spec, data in datasets(arguments.parse_args().names):
        print(line(name, spec, data), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
