"""How many rows a core scores in a second, of every champion in the home: its graph alone, and the whole command.

    python tests/benchmarks/scoring.py [--rows 500000] [forecast ...]

Beside them, in the same run, onnxruntime as it is used without a second thought: one row at a time, or all at once. Rows are
mixed of what is stored of entities, column by column. Processor seconds are of the process and all its threads, the best of
three.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vroom_api.champion.forecasts import published
from vroom_api.champion.loading import Champion, load, score
from vroom_api.contract import home
from vroom_api.contract.intervals import DEFAULT_LEVEL
from vroom_api.predictions import bulk
from vroom_assets.scoring import reading, writing

SIZES = (1, 256, bulk.ROWS_AT_ONCE)
REPEATS = 3


def mixed(champion: Champion, rows: int) -> dict[str, list]:
    """Rows of inputs, each value that of some entity."""
    [stored] = list(champion.entities.pieces(1_000_000))
    rng = np.random.default_rng(0)
    names = [field.name for field in champion.manifest.inputs]
    return {
        name: [stored.values[name][at] for at in rng.integers(0, len(stored.ids), rows)] for name in names
    }


def per_second(rows: int, work: Callable[[], object]) -> float:
    """Rows for each processor second."""
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return rows / min(seconds)


def in_batches(champion: Champion, rows: np.ndarray, size: int) -> None:
    for start in range(0, len(rows), size):
        score(champion, rows[start : start + size])


def measure(name: str, rows: int, folder: Path) -> list[str]:
    """The cells of a forecast's line."""
    champion = load(name)
    assert champion is not None, f"{name} has no champion"
    columns = mixed(champion, rows)
    encoded = bulk.encode(champion.manifest, columns, rows, 1).rows
    cells = [name, champion.manifest.recipe.family]
    for size in (*SIZES, rows):
        count = min(rows, size * 2_000)
        cells.append(per_second(count, lambda s=size, n=count: in_batches(champion, encoded[:n], s)))
    path, output = folder / "rows.parquet", folder / "out.parquet"
    pq.write_table(pa.table(columns), path)
    cells.append(per_second(rows, lambda: bulk.answer(champion, columns, rows, DEFAULT_LEVEL)))
    source = reading.FileRows(path, champion.manifest.inputs)
    cells.append(per_second(rows, lambda: writing.score(champion, source, output, lambda _: None)))
    return [cell if isinstance(cell, str) else f"{cell / 1e6:.2f}" for cell in cells]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("forecasts", nargs="*")
    given = parser.parse_args()
    sizes = " | ".join(f"graph, {size:,} at once" for size in SIZES)
    print("million rows per processor second\n")
    print(
        f"| forecast | family | {sizes} | graph, all at once | with checks and intervals | Parquet to Parquet |"
    )
    print("|---|---|" + "---|" * (len(SIZES) + 3))
    with tempfile.TemporaryDirectory() as folder:
        for name in given.forecasts or published(home()):
            print("| " + " | ".join(measure(name, given.rows, Path(folder))) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
