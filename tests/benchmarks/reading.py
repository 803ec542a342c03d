"""How long reading and checking a CSV takes, and how much memory, beside DuckDB's plain `read_csv` of the same types.

    python tests/benchmarks/reading.py [rows ...]

Each reading is a process of its own with a warehouse of its own. Prints the median of three in seconds, the largest
memory of a process in MiB, and the ratio of the two times. DuckDB checks nothing and guesses nothing: it is what
reading such a file costs at least.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from vroom_assets.sources import NamedFile, load
from vroom_assets.sources.cells import SQL_TYPES
from vroom_assets.spec import Column, ColumnType, Source

ROUNDS = 3
COLUMNS = {
    "id": "integer", "vehicle": "integer", "price": "number", "colour": "text", "at": "timestamp", "booked": "integer",
    "length": "integer", "change": "number",
}  # fmt: skip
SOURCE = Source(
    path="rows.csv",
    description="",
    columns={name: Column(type=ColumnType(type)) for name, type in COLUMNS.items()},
)


def write(path: Path, rows: int) -> None:
    duckdb.execute(
        f"""
        copy (
            select
                range as id, (hash(range) % 100000)::int as vehicle, round((hash(range + 1) % 1000000)::int / 100, 2) as price,
                ['red', 'green', 'blue', 'black'][1 + (hash(range + 2) % 4)::int] as colour,
                timestamp '2020-01-01' + to_seconds((hash(range + 3) % 100000000)::int) as at,
                (hash(range + 4) % 2)::int as booked, (hash(range + 5) % 1000)::int as length,
                round((hash(range + 6) % 1000000)::int / 1e6 - 0.5, 6) as change
            from range({rows})
        ) to '{path}' (header)
        """
    )


def read(how: str, path: Path) -> None:
    """Print seconds and MiB of one reading."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        connection = duckdb.connect(f"{folder}/warehouse.duckdb")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        if how == "checked":
            load(connection, "things", SOURCE, [NamedFile(path, path.name)])
        else:
            types = {name: SQL_TYPES[ColumnType(type)] for name, type in COLUMNS.items()}
            connection.execute(
                f"create table things as from read_csv('{path}', columns = {types}, header = true, auto_detect = false)"
            )
        seconds = time.perf_counter() - started
        print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def measured(how: str, path: Path) -> tuple[float, float]:
    answers = [
        subprocess.run([sys.executable, __file__, how, str(path)], check=True, capture_output=True, text=True)
        for _ in range(ROUNDS)
    ]
    seconds, memory = zip(*(map(float, one.stdout.split()) for one in answers), strict=True)
    return statistics.median(seconds), max(memory)


def main(sizes: list[int]) -> None:
    print(f"{'rows':>12}{'checked':>22}{'read_csv':>22}{'ratio':>8}")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            write(path, rows)
            (ours, own), (plain, least) = (measured(how, path) for how in ("checked", "plain"))
        print(f"{rows:12,}{ours:10.2f} s{own:6.0f} MiB{plain:10.2f} s{least:6.0f} MiB{ours / plain:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] in (["checked"], ["plain"]):
        read(sys.argv[1], Path(sys.argv[2]))
    else:
        main([int(one) for one in sys.argv[1:]] or [1_000_000])
