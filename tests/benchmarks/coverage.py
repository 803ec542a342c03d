"""Do the intervals cover what they promise, for everybody?

    python tests/benchmarks/coverage.py [forecast] [folder with its CSVs]

Repeated cross-validation (5 folds × 4 repeats), nested: inside each outer fold the candidate is chosen and
its intervals are calibrated on the training rows alone; then the outer rows, which neither has seen, are
counted. Coverage is reported overall, by thirds of the prediction, and by every input and feature: by its
levels where it is discrete, else by its thirds. Beside it, the share of outer rows that are outside what
seen in training. Exits with 1 when coverage of the 90 % interval leaves the declared gates, is below 0.85 in
a segment beyond what chance explains (one-sided 95 % over its rows; below 0.85 at all is marked with *),
or more than 2 % of the outer rows are called unseen.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tests.benchmarks.accuracy import ROOT, declared, read_folder
from vroom_api.contract import Calibration
from vroom_api.explanation.support import supported
from vroom_assets.challenger.manifest import feature_fields, input_fields
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, ForecastSpec
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.folds import RowStructure, Split, splits
from vroom_assets.training.intervals import calibrate
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.models import Fitted
from vroom_assets.training.search import inner_choices

FOLDS, REPEATS, SEED = 5, 4, 0
LEVELS = (0.5, 0.8, 0.9, 0.95)
GATED = 0.9
LEAST = 0.85
ONE_SIDED = 1.645
MAX_UNSEEN = 0.02


def resolved(spec: ForecastSpec, name: str) -> dict[str, Candidate]:
    """A candidate with its members."""
    return {one: spec.candidates[one] for one in (*spec.candidates[name].members, name)}


def calibrated(spec: ForecastSpec, data: Dataset, rows: np.ndarray, name: str) -> tuple[Fitted, Calibration]:
    """The candidate fitted on these rows, with intervals calibrated on their own out-of-fold residuals."""
    frame, target = data.features.iloc[rows], data.target[rows]
    prediction, fold = np.empty(len(rows)), np.empty(len(rows), dtype=int)
    for split in splits(RowStructure(len(rows)), spec.validation.folds, 1, spec.validation.seed):
        fitted = fit_all(resolved(spec, name), frame.iloc[split.train], target[split.train], SEED)[name]
        prediction[split.test] = fitted.predict(frame.iloc[split.test])
        fold[split.test] = split.fold
    calibration = calibrate(target, prediction, fold, METRIC_SETS[spec.target.kind])
    return fit_all(resolved(spec, name), frame, target, SEED)[name], calibration


def unseen(spec: ForecastSpec, data: Dataset, split: Split) -> np.ndarray:
    """Which outer rows are outside the ranges and levels of the training rows."""
    seen = SimpleNamespace(
        inputs=input_fields(spec, data.inputs.iloc[split.train]),
        features=feature_fields(spec, data.features.iloc[split.train]),
        fallback=spec.fallback,
    )
    rows, features = data.inputs.to_numpy()[split.test], data.features.to_numpy()[split.test]
    return ~supported(seen, rows, features)  # type: ignore[arg-type]


def segments(data: Dataset, prediction: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Named subsets of the scored rows."""
    columns = {"prediction": prediction}
    for frame in (data.inputs, data.features):
        columns |= {name: frame[name].to_numpy()[rows] for name in frame.columns}
    found = {}
    for name, values in columns.items():
        levels = np.unique(values)
        if len(levels) <= 6:
            found |= {f"{name} = {level:g}": values == level for level in levels}
            continue
        first, second = np.quantile(values, [1 / 3, 2 / 3])
        found[f"{name} < {first:.3g}"] = values < first
        found[f"{name} from {first:.3g} to {second:.3g}"] = (values >= first) & (values < second)
        found[f"{name} ≥ {second:.3g}"] = values >= second
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("forecast", nargs="?", default="reservations")
    arguments.add_argument("folder", nargs="?", type=Path)
    given = arguments.parse_args()
    spec = declared(given.forecast)
    if spec.validation.group or spec.validation.order:
        arguments.error(
            f"{given.forecast}: rows are grouped or ordered in time; these folds are of independent ones"
        )
    data = read_folder(spec, given.folder or ROOT / "data" / given.forecast)
    began = time.monotonic()

    outer = splits(RowStructure(len(data.target)), FOLDS, REPEATS, SEED)
    choices = inner_choices(
        data.features,
        data.target,
        outer,
        [spec.candidates] * len(outer),
        spec.validation,
        METRIC_SETS[spec.target.kind],
        reference=spec.gates.reference,
    )
    chosen = {(split.repeat, split.fold): name for split, name in zip(outer, choices, strict=True)}

    def score_outer(split: Split) -> tuple[pd.DataFrame, np.ndarray]:
        fitted, calibration = calibrated(spec, data, split.train, chosen[split.repeat, split.fold])
        prediction = fitted.predict(data.features.iloc[split.test])
        table = pd.DataFrame({"row": split.test, "prediction": prediction})
        target = data.target[split.test]
        for level in LEVELS:
            intervals = [calibration.interval(float(one), level) for one in prediction]
            low, high = np.array([(one.low, one.high) for one in intervals]).T
            table[f"covered {level}"] = (low <= target) & (target <= high)
            table[f"width {level}"] = high - low
            table[f"winkler {level}"] = (
                high - low + 2 / (1 - level) * (np.maximum(low - target, 0) + np.maximum(target - high, 0))
            )
        return table, unseen(spec, data, split)

    with threadpool_limits(1):
        parts = [score_outer(split) for split in outer]
    table = pd.concat([part for part, _ in parts], ignore_index=True)
    unseen_share = float(np.concatenate([flags for _, flags in parts]).mean())

    print(f"{len(data.target)} rows, target mean {data.target.mean():.3f}; {FOLDS} folds x {REPEATS} repeats")
    print(
        f"{time.monotonic() - began:.0f} s; chosen: "
        + ", ".join(f"{name} {choices.count(name)}" for name in sorted(set(choices), key=choices.count))
        + "\n"
    )
    print("level  coverage  mean width  mean interval score (Winkler)")
    for level in LEVELS:
        covered, width, winkler = (
            table[f"{what} {level}"].mean() for what in ("covered", "width", "winkler")
        )
        print(f"{level:<5}  {covered:8.3f}  {width:10.2f}  {winkler:10.2f}")

    overall = float(table[f"covered {GATED}"].mean())
    low, high = spec.gates.coverage
    checks = {
        f"{GATED:.0%} interval covers {overall:.3f} (asked for: {low:g} to {high:g})": low <= overall <= high
    }
    print(f"\nsegment{'':40}rows  coverage of {', '.join(f'{level:.0%}' for level in LEVELS)}")
    rows = table["row"].to_numpy()
    for name, mine in segments(data, table["prediction"].to_numpy(), rows).items():
        covered = [float(table.loc[mine, f"covered {level}"].mean()) for level in LEVELS]
        entities = len(np.unique(rows[mine]))
        share = covered[LEVELS.index(GATED)]
        displayed = "  ".join(f"{one:.3f}" for one in covered) + ("  *" if share < LEAST else "")
        print(f"{name:45} {entities:5}  {displayed}")
        if name.startswith("prediction "):
            least = spec.gates.tercile_coverage
            checks[f"{name}: {share:.3f} (asked for: {least:g})"] = share >= least
        elif share < LEAST - ONE_SIDED * (LEAST * (1 - LEAST) / entities) ** 0.5:
            checks[f"{name}: {share:.3f} of {entities} rows (asked for: {LEAST:g})"] = False
    checks[f"{unseen_share:.2%} of the outer rows called unseen (asked for: ≤ {MAX_UNSEEN:.0%})"] = (
        unseen_share <= MAX_UNSEEN
    )
    print()
    for text, passed in checks.items():
        print(f"{'yes' if passed else 'NO '}  {text}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
