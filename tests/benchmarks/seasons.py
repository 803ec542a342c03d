"""What laps of earlier seasons tell about one that is not seen: several seasons as one source, beside one alone.

    python tests/benchmarks/seasons.py

Reads `lap_times/laps_<season>.csv` of the real data (real.py says where they are looked for). Each season is a file
of its own, and the source is a pattern. Of each set of training seasons the product's own inner folds choose the
candidate, which then predicts the last season. Beside it is the previous lap, on the same rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd

from tests.benchmarks import real
from tests.benchmarks.accuracy import declared
from tests.benchmarks.yardsticks import CLEAN_LAPS, CLEAN_TARGET
from vroom_assets import sources
from vroom_assets.features import table as feature_table
from vroom_assets.features.table import Dataset
from vroom_assets.spec import ForecastSpec
from vroom_assets.training.folds import Split
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.parallel import Entry, fit_splits
from vroom_assets.training.search import inner_choices

NAIVE = "previous_lap"


class Rows(NamedTuple):
    """The examples of all seasons. seasons, and each part: shape (rows,)."""

    data: Dataset
    seasons: np.ndarray
    parts: dict[str, np.ndarray]


def read(spec: ForecastSpec, folder: Path) -> Rows:
    """The feature table of all files that the source names."""
    [(name, source)] = spec.sources.items()
    with duckdb.connect() as connection:
        files = [sources.NamedFile(path, path.name) for path in sources.files_like(folder / source.path)]
        report = sources.load(connection, name, source, files)
        print(f"{report.file}: {report.accepted:,} of {report.read:,} rows accepted")
        feature_table.note_origin(connection, name, {"snapshot": source.path})
        feature_table.build(connection, spec)
        data = feature_table.read(connection, spec)
        laps = connection.execute("select lap_id, season from laps").df().set_index("lap_id")["season"]
        parts = {
            "driven through": np.ones(len(data.keys), dtype=bool),
            "clean": np.isin(data.keys, next(iter(connection.execute(CLEAN_TARGET).fetchnumpy().values()))),
            "clean, as the three before": np.isin(
                data.keys, next(iter(connection.execute(CLEAN_LAPS).fetchnumpy().values()))
            ),
        }
    return Rows(data, laps.loc[data.keys].to_numpy(), parts)


def lines(spec: ForecastSpec, rows: Rows) -> Iterator[dict[str, object]]:
    """A line for each set of seasons to learn from."""
    data, target, metric_set = rows.data, rows.data.target, METRIC_SETS[spec.target.kind]
    *earlier, last = sorted(set(rows.seasons.tolist()))
    test = np.flatnonzero(rows.seasons == last)
    for chosen in [[one] for one in earlier] + [earlier]:
        began = time.monotonic()
        split = Split(0, 0, np.flatnonzero(np.isin(rows.seasons, chosen)), test)
        structure, validation = data.row_structure, spec.validation
        [name] = inner_choices(
            data.features,
            target,
            [split],
            [spec.candidates],
            validation,
            metric_set,
            structure,
            spec.gates.reference,
        )
        entry = Entry(split, spec.candidates)
        [fits] = fit_splits([entry], data.features, target, structure, validation)
        errors = {one: np.abs(target[test] - fits[one].prediction) for one in (name, NAIVE)}
        line: dict[str, object] = {
            "seasons": " ".join(map(str, chosen)),
            "rows": len(split.train),
            "chosen": name,
        }
        for title, part in rows.parts.items():
            mine, naive = (float(errors[one][part[test]].mean()) for one in (name, NAIVE))
            line |= {f"MAE, {title}": mine, f"below {NAIVE}, {title}": f"{1 - mine / naive:.1%}"}
        yield line | {"s": round(time.monotonic() - began)}


def main() -> int:
    paths = sorted((real.position() / "lap_times").glob("laps_*.csv"))
    if len(paths) < 3:
        print(
            f"three seasons are not in {real.position() / 'lap_times'}; {real.VARIABLE} names the folder of the real data"
        )
        return 1
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lap_times").mkdir()
        real.ADAPTERS["lap_times"].write(paths, Path(folder) / "lap_times")
        whole = declared("lap_times")
        source = whole.sources["laps"].model_copy(update={"path": "lap_times/laps_*.csv"})
        spec = whole.model_copy(update={"sources": {"laps": source}})
        rows = read(spec, Path(folder))
        table = pd.DataFrame(lines(spec, rows))
    print(table.to_markdown(index=False, floatfmt=".4f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
