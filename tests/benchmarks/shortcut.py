"""Does the race choose as a search of all rows would, what does it lose, and what does it save?

    python tests/benchmarks/shortcut.py [--seeds 20] [--rows 10000] [--candidates quick|shipped] [--foreign]

Each seed draws a data set from the generator beside the shipped data, or with `--foreign` writes a file of
tests/support/foreign.py; the candidates are those of the shipped declaration, or with `quick` those of them that are fitted
in tenths of a second and other parameters of them. The race and the search on all rows have the same folds of one repeat. What is lost is
the mean difference of the losses of the two chosen candidates, on the rows that the full search predicts out of fold, as a
share of the error. Exits with 1 when the choices are neither the same nor equal within the declared precision in more
than 5 % of the seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import pandas as pd

from tests.benchmarks.accuracy import declared
from tests.benchmarks.boostings import datasets
from tests.benchmarks.contest import draw
from vroom_assets.spec import Candidate, Validation
from vroom_assets.training import race as racing
from vroom_assets.training.choice import choose
from vroom_assets.training.folds import RowStructure
from vroom_assets.training.metrics import METRIC_SETS, MetricSet

SPEC = declared("reservations")
SHARE = 0.95  # of the seeds


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
    frame: pd.DataFrame
    target: np.ndarray
    rows: RowStructure
    candidates: dict[str, Candidate]
    validation: Validation
    metric_set: MetricSet


def compared(world: World) -> dict[str, object]:
    """One line: both choices, what the race loses, and the processor seconds of each."""
    began = time.process_time()
    found = racing.race(
        world.frame,
        world.target,
        world.candidates,
        {},
        world.validation,
        world.metric_set,
        lambda _: None,
        world.rows,
    )
    mine = _chosen(world, found.last, found.competing)
    between = time.process_time()
    lap = racing.compare(
        world.frame,
        world.target,
        world.candidates,
        world.validation,
        world.metric_set,
        world.rows,
        len(world.frame),
    )
    full = _chosen(world, lap, list(world.candidates))
    ended = time.process_time()
    tested = lap.fold >= 0
    lost, error = (lap.losses[mine] - lap.losses[full])[tested], lap.losses[full][tested].mean()
    return {
        "data": world.name,
        "rows": len(world.frame),
        "decided on": len(found.last.rows),
        "race": mine,
        "full": full,
        "same": mine == full,
        "equal": lost.mean() <= world.validation.precision * error,
        "lost": lost.mean() / error,
        "cpu s, race": between - began,
        "cpu s, full": ended - between,
    }


def _chosen(world: World, lap: racing.Lap, names: list[str]) -> str:
    candidates = {name: world.candidates[name] for name in names}
    return choose(
        lap.out_of_fold(), world.target, candidates, world.metric_set, groups=world.rows.groups
    ).name


def generated(seed: int, rows: int, candidates: dict[str, Candidate]) -> World:
    frame, target = draw(rows, np.random.default_rng([seed, 5]))
    validation = SPEC.validation.model_copy(update={"repeats": 1, "seed": seed})
    return World(
        "reservations",
        frame,
        target,
        RowStructure(rows),
        candidates,
        validation,
        METRIC_SETS[SPEC.target.kind],
    )


def foreign(seeds: int) -> list[World]:
    """Those of the foreign files that have more rows than are compared as a whole."""
    return [
        World(
            name,
            data.features,
            data.target,
            data.row_structure,
            dict(spec.candidates),
            spec.validation.model_copy(update={"repeats": 1, "seed": seed}),
            METRIC_SETS[spec.target.kind],
        )
        for name, spec, data in datasets(["cancellations", "rides"])
        for seed in range(seeds)
    ]


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--candidates", choices=["quick", "shipped"], default="quick")
    arguments.add_argument("--foreign", action="store_true")
    given = arguments.parse_args()
    candidates = quick() if given.candidates == "quick" else dict(SPEC.candidates)
    worlds = (
        foreign(given.seeds)
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
