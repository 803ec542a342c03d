"""Bins and ranks in the linear candidate that `new` proposes: do they make it better, or the forecast?

    python tests/benchmarks/steps.py [name ...]

On the files of tests/support/foreign.py, as `new` declares them. Beside `linear` compete the same with eight bins for each
number of more than ten values, and with the ranks of these; beside a `log_linear` too. Differences are of mean row losses, with their
standard error: of a candidate to `linear` on the outer folds, and of the nested error where all of them compete to
that where they do not. One repeat.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.boostings import datasets
from tests.support.foreign import FOREIGN
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, ForecastSpec
from vroom_assets.training.metrics import METRIC_SETS, standard_error
from vroom_assets.training.search import search

BINS, FEW_VALUES = 8, 10


def beside(spec: ForecastSpec, data: Dataset) -> dict[str, Candidate]:
    """The linear candidates with bins, and with ranks."""
    categories = spec.categories_of(spec.features)
    numbers = [
        name
        for name in spec.candidates["linear"].features
        if name not in categories and data.features[name].nunique() > FEW_VALUES
    ]
    linear = {name: spec.candidates[name] for name in ("linear", "log_linear") if name in spec.candidates}
    bins = {
        f"{name}_bins": one.model_copy(update={"bins": dict.fromkeys(numbers, BINS)})
        for name, one in linear.items()
    }
    return bins | {f"{name}_ranks": one.model_copy(update={"ranks": numbers}) for name, one in linear.items()}


def line(name: str, spec: ForecastSpec, data: Dataset) -> str:
    metric_set, rows = METRIC_SETS[spec.target.kind], data.row_structure
    validation = spec.validation.model_copy(update={"repeats": 1})
    declared = dict(spec.candidates)
    without, among = (
        search(
            data.features, data.target, candidates, validation, metric_set, rows=rows, kept=list(candidates)
        )
        for candidates in (declared, declared | beside(spec, data))
    )
    seen = data.target[among.predicted]
    groups = None if rows.groups is None else rows.groups[among.predicted]

    def difference(one: np.ndarray, other: np.ndarray) -> str:
        found = metric_set.row_loss(seen, one) - metric_set.row_loss(seen, other)
        return f"{found.mean():+.3g} ± {standard_error(found, groups):.2g}"

    linear = among.predictions("linear")
    loss = metric_set.row_loss(seen, linear).mean()
    nested = (among.nested[among.predicted], without.nested[without.predicted])
    return (
        f"| {name} | {len(seen):,} | {metric_set.error} | {loss:.5g} | "
        f"{difference(among.predictions('linear_bins'), linear)} | {difference(among.predictions('linear_ranks'), linear)} | "
        f"{metric_set.row_loss(seen, nested[1]).mean():.5g} | {difference(*nested)} | {without.chosen} | {among.chosen} |"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", default=list(FOREIGN), metavar="name")
    print(
        "| | rows | metric | linear | with bins | with ranks | nested | with both competing | champion | among them |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, spec, data in datasets(arguments.parse_args().names):
        print(line(name, spec, data), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
