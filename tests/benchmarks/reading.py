"""How long reading and checking a CSV takes, and how much memory, beside DuckDB's plain `read_csv` of the same types.

    python tests/benchmarks/reading.py [rows ...] [--engine spark] [--columns vehicle at]

Each reading is a process of its own with a warehouse of its own. Prints the median of three in seconds, the largest
memory of a process in MiB, and the ratio of the two times. DuckDB checks nothing and guesses nothing: it is what
reading such a file costs at least. `--engine spark` reads on Spark with two cores beside it; its start is measured by
itself, and its memory is that of the Java process. `--columns` leaves out the others: `vehicle at` is what a file of
reservations has.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil

from vroom_assets.sources import NamedFile, load
from vroom_assets.sources.cells import SQL_TYPES
from vroom_assets.spec import Column, ColumnType, Source

ROUNDS = 3
COLUMNS = {
    "id": "integer", "vehicle": "integer", "price": "number", "colour": "text", "at": "timestamp", "booked": "integer",
    "length": "integer", "change": "number",
}  # fmt: skip


def declared(names: list[str]) -> Source:
    columns = {name: Column(type=ColumnType(COLUMNS[name])) for name in names}
    return Source(path="rows.csv", description="", columns=columns)


def write(path: Path, rows: int, names: list[str]) -> None:
    duckdb.execute(
        f"""
        copy (
            select {", ".join(f'"{name}"' for name in names)} from (select
                range as id, (hash(range) % 100000)::int as vehicle, round((hash(range + 1) % 1000000)::int / 100, 2) as price,
                ['red', 'green', 'blue', 'black'][1 + (hash(range + 2) % 4)::int] as colour,
                timestamp '2020-01-01' + to_seconds((hash(range + 3) % 100000000)::int) as at,
                (hash(range + 4) % 2)::int as booked, (hash(range + 5) % 1000)::int as length,
                round((hash(range + 6) % 1000000)::int / 1e6 - 0.5, 6) as change
            from range({rows}))
        ) to '{path}' (header)
        """
    )


def read(how: str, path: Path, names: list[str]) -> None:
    """Print seconds and MiB of one reading, and the seconds that Spark took to start."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        connection = duckdb.connect(f"{folder}/warehouse.duckdb")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        start = 0.0
        files = [NamedFile(path, path.name)]
        if how == "spark":
            from vroom_assets.spark.session import session
            from vroom_assets.spark.sources import SparkEngine

            with session("local[2]") as opened:
                opened.sql("select 1").collect()
                start = time.perf_counter() - started
                load(
                    connection,
                    "things",
                    declared(names),
                    files,
                    engine=SparkEngine(connection, opened, Path(folder), "s"),
                )
                memory = sum(_peak(child.pid) for child in psutil.Process().children(recursive=True))
        elif how == "checked":
            load(connection, "things", declared(names), files)
        else:
            types = {name: SQL_TYPES[ColumnType(COLUMNS[name])] for name in names}
            connection.execute(
                f"create table things as from read_csv('{path}', columns = {types}, header = true, auto_detect = false)"
            )
        seconds = time.perf_counter() - started - start
        if how != "spark":
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(seconds, memory, start)


def _peak(process: int) -> float:
    """The largest memory of a process, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def measured(how: str, path: Path, names: list[str]) -> tuple[float, float, float]:
    answers = [
        subprocess.run(
            [sys.executable, __file__, how, str(path), *names], check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
        for _ in range(ROUNDS)
    ]
    seconds, memory, start = zip(*(map(float, one.split()) for one in answers), strict=True)
    return statistics.median(seconds), max(memory), statistics.median(start)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("rows", type=int, nargs="*", default=[1_000_000])
    arguments.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb")
    arguments.add_argument("--columns", nargs="+", choices=list(COLUMNS), default=list(COLUMNS))
    given = arguments.parse_args()
    hows = ("checked", "plain", *(["spark"] if given.engine == "spark" else []))
    print(f"{'rows':>12}", *(f"{how:>22}" for how in ("checked", "read_csv", *hows[2:])), f"{'ratio':>8}")
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            write(path, rows, given.columns)
            found = {how: measured(how, path, given.columns) for how in hows}
        times = (f"{seconds:10.2f} s{memory:6.0f} MiB" for seconds, memory, _ in found.values())
        print(f"{rows:12,}", *times, f"{found['checked'][0] / found['plain'][0]:8.2f}", flush=True)
        if "spark" in found:
            print(f"{'':>12} Spark took {found['spark'][2]:.1f} s to start before")


if __name__ == "__main__":
    if sys.argv[1:2] in (["checked"], ["plain"], ["spark"]):
        read(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
