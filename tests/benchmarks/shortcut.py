"""Does the race choose as a search of all rows would, what does it lose, and what does it save?

    python tests/benchmarks/shortcut.py [--seeds 20] [--rows 10000] [--candidates quick|shipped] [--foreign | --real]

Each seed draws a data set from the generator beside the shipped data; with `--foreign` it has other folds of the files of
tests/support/foreign.py, with `--real` of the real data, all seasons of lap times together. The candidates are those of the shipped declaration, or with `quick` those of them that are fitted
in tenths of a second and other parameters of them. The race and the search on all rows have the same folds of one repeat. What is lost is
the mean difference of the losses of the two chosen candidates, on the rows that the full search predicts out of fold, as a
share of the error. Exits with 1 when the choices are neither the same nor equal within the declared precision in more
than 5 % of the seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import pandas as pd

from tests.benchmarks import real
from tests.benchmarks.accuracy import declared, read_folder
from tests.benchmarks.boostings import SHIPPED, datasets
from tests.benchmarks.contest import draw
from vroom_assets.spec import Candidate, ForecastSpec, Validation
from vroom_assets.training.choice import choose
from vroom_assets.training.folds import RowStructure
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.race import Problem, Rung, cross_validated, race

SPEC = declared("reservations")
SHARE = 0.95  # of the seeds
SEASONS = tuple(f"lap_times/laps_{year}.csv" for year in (2019, 2020, 2021))


def quick() -> dict[str, Candidate]:
    """Candidates that are fitted in tenths of a second, some of them nearly alike."""
    boosting, glm = SPEC.candidates["boosting"], SPEC.candidates["glm"]
    changed = {
        "stumps": {"max_leaf_nodes": 2},
        "larger": {"max_leaf_nodes": 8},
        "six_leaves": {"max_leaf_nodes": 6},
        "twelve_leaves": {"max_leaf_nodes": 12},
        "more_trees": {"max_leaf_nodes": 8, "max_iter": 120},
        "slower": {"learning_rate": 0.03},
        "large_leaves": {"min_samples_leaf": 60},
    }
    return {
        "boosting": boosting,
        "glm": glm,
        "line": glm.model_copy(update={"terms": []}),
        **{
            name: boosting.model_copy(update={"parameters": boosting.parameters | more})
            for name, more in changed.items()
        },
    }


@dataclass(frozen=True)
class World:
    name: str
    problem: Problem
    candidates: dict[str, Candidate]


def compared(world: World) -> dict[str, object]:
    """One line: both choices, what the race loses, and the processor seconds of each."""
    problem, began = world.problem, time.process_time()
    found = race(problem, world.candidates, {}, lambda _: None)
    mine = _chosen(world, found.last, found.competing)
    between = time.process_time()
    whole = cross_validated(problem, world.candidates, problem.rows.rows)
    full = _chosen(world, whole, list(world.candidates))
    ended = time.process_time()
    tested = whole.fold >= 0
    lost, error = (whole.losses[mine] - whole.losses[full])[tested], whole.losses[full][tested].mean()
    return {
        "data": world.name,
        "rows": problem.rows.rows,
        "decided on": len(found.last.rows),
        "race": mine,
        "full": full,
        "same": mine == full,
        "equal": lost.mean() <= problem.validation.precision * error,
        "lost": lost.mean() / error,
        "cpu s, race": between - began,
        "cpu s, full": ended - between,
    }


def _chosen(world: World, rung: Rung, names: list[str]) -> str:
    problem, candidates = world.problem, {name: world.candidates[name] for name in names}
    return choose(
        rung.out_of_fold(), problem.target, candidates, problem.metric_set, groups=problem.rows.groups
    ).name


def folded(spec: ForecastSpec, seed: int) -> Validation:
    """As declared, once, with other folds."""
    return spec.validation.model_copy(update={"repeats": 1, "seed": seed})


def generated(seed: int, rows: int, candidates: dict[str, Candidate]) -> World:
    frame, target = draw(rows, np.random.default_rng([seed, 5]))
    metric_set = METRIC_SETS[SPEC.target.kind]
    return World(
        "reservations", Problem(frame, target, RowStructure(rows), folded(SPEC, seed), metric_set), candidates
    )


def foreign(seeds: int) -> list[World]:
    """Those of the foreign files that have more rows than are compared as a whole."""
    return [
        World(
            name,
            Problem(
                data.features,
                data.target,
                data.row_structure,
                folded(spec, seed),
                METRIC_SETS[spec.target.kind],
            ),
            dict(spec.candidates),
        )
        for name, spec, data in datasets(["cancellations", "rides"])
        for seed in range(seeds)
    ]


def real_worlds(seeds: int) -> Iterator[World]:
    """The shipped forecasts on real data, with the candidates that are declared."""
    for name in SHIPPED:
        with tempfile.TemporaryDirectory() as folder:
            _, change = real.write(name, Path(folder), SEASONS if name == "lap_times" else None)
            spec = change(declared(name))
            data = read_folder(spec, merged(Path(folder)))
            spec = spec.with_levels(data.levels)
        metric_set = METRIC_SETS[spec.target.kind]
        for seed in range(seeds):
            problem = Problem(data.features, data.target, data.row_structure, folded(spec, seed), metric_set)
            yield World(name, problem, dict(spec.candidates))


def merged(folder: Path) -> Path:
    """The folder, with the laps of several seasons as one file, as they are declared."""
    if seasons := sorted(folder.glob("laps_*.csv")):
        pd.concat([pd.read_csv(path) for path in seasons]).to_csv(folder / "laps.csv", index=False)
    return folder


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--candidates", choices=["quick", "shipped"], default="quick")
    arguments.add_argument("--foreign", action="store_true")
    arguments.add_argument("--real", action="store_true")
    given = arguments.parse_args()
    candidates = quick() if given.candidates == "quick" else dict(SPEC.candidates)
    worlds = (
        real_worlds(given.seeds)
        if given.real
        else foreign(given.seeds)
        if given.foreign
        else (generated(seed, given.rows, candidates) for seed in range(given.seeds))
    )
    lines = []
    for world in worlds:
        lines.append(compared(world))
        print(lines[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(lines)
    summary = table.groupby(["data", "rows"]).agg(
        seeds=("same", "size"),
        decided_on=("decided on", "mean"),
        same=("same", "mean"),
        same_or_equal=("equal", "mean"),
        lost=("lost", "mean"),
        lost_error=("lost", "sem"),
        race_cpu_s=("cpu s, race", "mean"),
        full_cpu_s=("cpu s, full", "mean"),
    )
    print(summary.reset_index().to_markdown(index=False, floatfmt=".5g"))
    return 0 if table["equal"].mean() >= SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
