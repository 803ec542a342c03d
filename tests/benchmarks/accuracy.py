"""How good is a forecast on data that neither its model nor its choice has seen, and what would a simple one do?

    python tests/benchmarks/accuracy.py [forecast] [folder with its CSVs]

Without a folder on the shipped, generated data, and on real data where they are there (real.py says where they
are looked for; they are not part of the project). The way is the product's own: the checked tables, the examples,
the features and the declared folds (with seed 0 instead of the declared one), on which every candidate, the
simple forecasts of yardsticks.py and `vroom (nested)` are scored; the latter is the candidate that inner folds of
a fold's training rows chose. Exits with 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tests.benchmarks import real
from tests.benchmarks.measured import Measured, measure, table
from tests.benchmarks.yardsticks import YARDSTICKS, validated
from vroom_assets import declaration, sources
from vroom_assets.features import table as feature_table
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROOT = Path(__file__).parents[2]
SEED = 0


def declared(forecast: str) -> ForecastSpec:
    """The declaration as it is shipped."""
    return declaration.read(ROOT / "vroom_assets" / "defs" / forecast)


def warehouse(spec: ForecastSpec, folder: Path) -> DuckDBPyConnection:
    """The checked tables and the feature table of a folder of CSVs, by the same code that trains."""
    import duckdb

    connection = duckdb.connect()
    for name, source in spec.sources.items():
        path = folder / Path(source.path).name
        sources.load(connection, name, source, [sources.NamedFile(path, str(path))])
        feature_table.note_origin(connection, name, {"snapshot": path.name})
    feature_table.build(connection, spec)
    return connection


def read_folder(spec: ForecastSpec, folder: Path) -> feature_table.Dataset:
    """The feature table of a folder of CSVs."""
    return feature_table.read(warehouse(spec, folder), spec)


def widened(spec: ForecastSpec, features: str) -> ForecastSpec:
    """The declaration with features that only the simple forecasts read."""
    head, source, rest = spec.features_sql.rpartition("from inputs")
    return spec.model_copy(update={"features_sql": f"{head.rstrip()},\n    {features}\n{source}{rest}"})


def report(spec: ForecastSpec, folder: Path) -> bool:
    """Print all tables of a forecast on one folder of CSVs; whether every promise is kept."""
    sticks = YARDSTICKS[spec.name]
    spec = widened(spec, sticks.features) if sticks.features else spec
    tables: dict[str, pd.DataFrame] = {}
    for title, change in sticks.protocols.items():
        began = time.monotonic()
        mine = validated(seed=SEED, repeats=sticks.repeats)(change(spec))
        connection = warehouse(mine, folder)
        found = measure(mine, feature_table.read(connection, mine), sticks.candidates, sticks.derived)
        took = time.monotonic() - began
        tables[title] = table(found, sticks.versus, sticks.metrics)
        print(f"\n### {title}\n\n{summary(mine, found)}; {took:.0f} s\n\n{markdown(tables[title])}")
        for part, query in sticks.subsets.items():
            keys = connection.execute(query).fetchnumpy()
            within = np.isin(found.data.keys, next(iter(keys.values())))
            tables[part] = table(found, sticks.versus, sticks.metrics, within)
            scored = int(within[found.tested].sum())
            print(f"\n### {part}\n\n{scored} rows, same models\n\n{markdown(tables[part])}")
        print()
        print("\n".join(sticks.remarks(found, connection)))
    print(f"\ngain: against {sticks.versus}")
    promises = sticks.promises(tables, found)
    for text, kept in promises.items():
        print(f"{'yes' if kept else 'NO '}  {text}")
    return all(promises.values())


def summary(spec: ForecastSpec, found: Measured) -> str:
    groups = found.data.row_structure.groups
    rows = found.tested
    parts = [f"{len(rows)} of {len(found.data.target)} rows predicted"]
    if groups is not None:
        parts.append(f"{len(np.unique(groups[rows]))} groups ({spec.validation.group})")
    parts.append(f"target mean {found.data.target[rows].mean():.3f}")
    parts.append(f"{len(found.folds)} folds in {spec.validation.repeats} repeats")
    counts = pd.Series(found.choices).value_counts()
    parts.append("chosen in them: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    return "; ".join(parts)


def markdown(figures: pd.DataFrame) -> str:
    def formatted(column: str, value: float) -> str:
        if np.isnan(value):
            return ""
        return "< 0.0001" if column[:2] in ("p", "p,") and value < 0.0001 else f"{value:.4f}"

    columns = [str(column) for column in figures.columns]
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [
        [str(name), *map(formatted, columns, row)]
        for name, row in zip(figures.index, figures.to_numpy(), strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("forecast", nargs="?", default="reservations", choices=YARDSTICKS)
    arguments.add_argument("folder", nargs="?", type=Path)
    given = arguments.parse_args()
    spec = declared(given.forecast)
    if given.folder:
        print(f"## {given.forecast}: {given.folder}")
        return 0 if report(spec, given.folder) else 1
    print(f"## {given.forecast}: shipped, generated data")
    kept = report(spec, ROOT / "data" / given.forecast)
    print(f"\n## {given.forecast}: real data\n")
    with tempfile.TemporaryDirectory() as folder:
        try:
            notes, change = real.write(given.forecast, Path(folder))
        except FileNotFoundError as error:
            print(f"skipped: {error}")
        else:
            print("\n".join(f"- {note}" for note in notes))
            kept = report(change(spec), Path(folder)) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
