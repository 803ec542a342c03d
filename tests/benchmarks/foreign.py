"""From a file that nobody described to a prediction, without a line edited: how long, and how good?

    python tests/benchmarks/foreign.py [name ...] [--rows 1.0]

For each file of tests/support/foreign.py: `new --from`, `check --data`, `materialize`, a prediction over HTTP. Beside
it stands what twenty lines do: scikit-learn's HistGradientBoosting with its defaults, given the types by hand and the
leaks taken out, on the same folds. `not worse` is by one standard error of the paired losses per row. Exits with 1 where
something has no champion or is worse.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.foreign import FOREIGN, Foreign
from tests.support.service import running
from vroom_api.contract import Kind, Manifest, bundle_folder, read_bundle, read_pointer
from vroom_assets import declaration
from vroom_assets.spec import ForecastSpec
from vroom_assets.training.folds import outer_splits
from vroom_assets.training.metrics import METRIC_SETS


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    name: str
    rows: int
    seconds: float  # from the file to a champion
    cpu: float
    megabytes: float
    provisional: tuple[str, ...]
    ours: float
    plain: float
    noise: float  # standard error of the difference of the mean losses
    metric: str
    manifest: Manifest

    @property
    def verdict(self) -> str:
        if self.ours < self.plain - self.noise:
            return "better"
        return "worse" if self.ours > self.plain + self.noise else "equal"


def run(arguments: list[str], variables: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak megabytes of a command of the project.

    Raises:
        SystemExit: it failed.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vroom_assets", *arguments],
            env=os.environ | variables,
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            raise SystemExit(output.read().decode()[-3000:])
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def tried(foreign: Foreign, rows: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        variables = {f"VROOM_{part.upper()}": str(root / part) for part in ("defs", "data", "home")}
        variables |= {"VROOM_FORECAST": foreign.name}
        file = root / f"{foreign.name}.csv"
        foreign.write(file, rows)
        for part in ("defs", "data"):
            (root / part).mkdir()
        used = [
            run(["new", foreign.name, "--from", str(file), "--target", foreign.target], variables),
            run(["check", foreign.name, "--data"], variables),
            run(["materialize"], variables),
        ]
        os.environ.update(variables)
        spec = declaration.read(root / "defs" / foreign.name)
        pointer = read_pointer(foreign.name)
        if pointer is None:
            raise SystemExit(f"{foreign.name}: no champion")
        manifest = read_bundle(bundle_folder(foreign.name, pointer.version), pointer.manifest_sha256).manifest
        with running(root / "home", FORECAST=foreign.name) as (url, _):
            httpx.post(f"{url}/predict", json=manifest.example).raise_for_status()
        ours, plain, noise = compared(foreign, spec, file, manifest)
        seconds, cpu, memory = zip(*used, strict=True)
        return Outcome(
            foreign.name, rows, sum(seconds), sum(cpu), max(memory), pointer.provisional, ours, plain, noise,
            METRIC_SETS[spec.target.kind].error, manifest,
        )  # fmt: skip


def compared(
    foreign: Foreign, spec: ForecastSpec, file: Path, manifest: Manifest
) -> tuple[float, float, float]:
    """Our nested error, the plain one on the same rows and folds, and the standard error of their difference.

    The nested error is that of the manifest: in each fold of the candidate that was chosen without it.
    """
    import duckdb
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from vroom_assets.features import table

    with duckdb.connect(str(Path(os.environ["VROOM_HOME"]) / spec.name / "warehouse.duckdb")) as connection:
        data = table.read(connection, spec)
        out_of_fold = connection.execute("from out_of_fold where repeat = 0").df()
    texts = pd.read_csv(file, dtype=str, keep_default_na=False)
    frame, target = foreign.frame(texts)
    at = data.keys.astype(int) - 1 if spec.entity.key == "row" else positions(texts, spec, data.keys)
    if spec.entity.key == "row" and file.read_text().count("\n") != len(texts) + 1:
        raise SystemExit(f"{file}: rows of several lines have no number to be found by")
    frame, target = frame.iloc[at].reset_index(drop=True), target[at]
    np.testing.assert_allclose(target, data.target)
    metric_set = METRIC_SETS[spec.target.kind]
    losses: list[np.ndarray] = []
    nested = nested_predictions(out_of_fold, choices(manifest), len(target))
    for split in outer_splits(data.row_structure, spec.validation):
        if split.repeat:
            continue
        if spec.target.kind is Kind.BINARY:
            model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
            predicted = model.fit(frame.iloc[split.train], target[split.train]).predict_proba(
                frame.iloc[split.test]
            )[:, 1]
        else:
            model = HistGradientBoostingRegressor(
                loss="poisson" if spec.target.kind is Kind.COUNT else "squared_error",
                categorical_features="from_dtype", random_state=0,
            )  # fmt: skip
            predicted = model.fit(frame.iloc[split.train], target[split.train]).predict(
                frame.iloc[split.test]
            )
        seen = target[split.test]
        losses.append(
            np.stack([metric_set.row_loss(seen, nested[split.test]), metric_set.row_loss(seen, predicted)])
        )
    ours, plain = np.concatenate(losses, axis=1)
    np.testing.assert_allclose(ours.mean(), manifest.metrics[f"nested_{metric_set.error}"], rtol=1e-6)
    return float(ours.mean()), float(plain.mean()), float((ours - plain).std() / np.sqrt(len(ours)))


def choices(manifest: Manifest) -> list[str]:
    """The candidate of each fold, chosen without the fold."""
    from vroom_assets.tracking import connect

    parameters = connect().get_run(manifest.mlflow_run_id).data.params
    return str(parameters["nested_choices"]).split(", ")


def nested_predictions(out_of_fold: pd.DataFrame, chosen: list[str], rows: int) -> np.ndarray:
    """Out-of-fold predictions by row, in each fold those of the candidate that was chosen without it."""
    found = np.full(rows, np.nan)
    for fold, name in zip(sorted(out_of_fold["fold"].unique()), chosen, strict=True):
        mine = out_of_fold[(out_of_fold["candidate"] == name) & (out_of_fold["fold"] == fold)]
        found[mine["row"].to_numpy()] = mine["prediction"].to_numpy()
    return found


def positions(texts: pd.DataFrame, spec: ForecastSpec, keys: np.ndarray) -> np.ndarray:
    """Where in the file the rows of the feature table are."""
    column = spec.entity_columns[spec.entity.key].header or spec.entity.key
    header = next(
        one for one in texts.columns if one.lower().replace("_", "") == column.lower().replace("_", "")
    )
    where = {str(text).strip(): number for number, text in enumerate(texts[header])}
    return np.array([where[str(key)] for key in keys])


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", default=list(FOREIGN), metavar="name")
    arguments.add_argument("--rows", type=float, default=1.0, help="share of the rows of the public files")
    given = arguments.parse_args()
    print(
        "| file | rows × inputs | edited | s | CPU s | MB | champion | metric | nested | plain | ± | | 90 % covers, by tercile |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    bad = 0
    for name in given.names:
        one = tried(FOREIGN[name], int(FOREIGN[name].rows * given.rows))
        coverage = one.manifest.calibration.coverage
        covers = " ".join(f"{value:.3f}" for value in coverage.values()) or "a probability"
        champion = f"{one.manifest.recipe.name}{', provisional' if one.provisional else ''}"
        print(
            f"| {name} | {one.rows:,} × {len(one.manifest.inputs)} | 0 | {one.seconds:.0f} | {one.cpu:.0f} | {one.megabytes:.0f} | "
            f"{champion} | {one.metric} | {one.ours:.4g} | {one.plain:.4g} | {one.noise:.2g} | {one.verdict} | {covers} |",
            flush=True,
        )
        for gate in one.provisional:
            print(f"  provisional: {gate}")
        bad += one.verdict == "worse"
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
