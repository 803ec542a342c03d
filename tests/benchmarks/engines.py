"""What the features of a forecast cost on Spark, beside DuckDB, by the same SQL.

    python tests/benchmarks/engines.py [1000000 10000000] [--spark local[2]]

Draws so many vehicles and six reservations of each as checked tables, and computes the flagship's feature table with
both engines, each in a process of its own. Seconds and processor seconds, of Java too: of Spark's start with a first
query, of handing the checked tables over as Parquet, and of the features until the warehouse has them; and the largest
memory of the processes together. The two tables have to be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.accuracy import declared
from vroom_api.contract import forecast_folder
from vroom_assets.features import table
from vroom_assets.resources import warehouse_path

NAME = "reservations"
ENGINES = ("duckdb", "spark")
PART = "--part"


def draw(connection: duckdb.DuckDBPyConnection, vehicles: int) -> None:
    """The checked tables of so many vehicles."""
    connection.execute(
        f"""
        create or replace table vehicles as
        select i + 1 as vehicle_id, (hash(i) % 2)::bigint as technology,
            round(20 + (hash(i + 1) % 18000)::bigint / 100, 2) as actual_price,
            round(20 + (hash(i + 2) % 18000)::bigint / 100, 2) as recommended_price,
            (hash(i + 3) % 15)::bigint as num_images, (hash(i + 4) % 2)::bigint as street_parked,
            (hash(i + 5) % 300)::bigint as description
        from range({vehicles}) as rows(i)
        """
    )
    connection.execute(
        f"""
        create or replace table reservations as
        select (hash(i) % {vehicles})::bigint + 1 as vehicle_id,
            timestamp '2022-12-01' + to_seconds((hash(i + 1) % 34000000)::bigint) as created_at
        from range({6 * vehicles}) as rows(i)
        """
    )
    for name in ("vehicles", "reservations"):
        table.note_origin(connection, name, {"snapshot": f"{name}{vehicles}", "modified": ""})


class Phases:
    """Seconds and processor seconds of what is done one after the other, by this process and its children."""

    def __init__(self) -> None:
        self.measured: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began, used = time.monotonic(), _processor_seconds()
        yield
        self.measured[f"{name}: s"] = time.monotonic() - began
        self.measured[f"{name}: processor s"] = _processor_seconds() - used


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _processor_seconds() -> float:
    times = [one.cpu_times() for one in _processes()]
    return sum(one.user + one.system for one in times)


def _peak_mb() -> float:
    """The sum of what each process had at most."""
    texts = [Path(f"/proc/{one.pid}/status").read_text() for one in _processes()]
    peaks = [line for text in texts for line in text.splitlines() if line.startswith("VmHWM")]
    return sum(int(line.split()[1]) for line in peaks) / 1024


def part(engine: str, address: str) -> dict[str, float]:
    """One engine, in this process, by the warehouse of the home."""
    spec, phases = declared(NAME), Phases()
    with duckdb.connect(str(warehouse_path(NAME))) as connection:
        connection.execute("set threads = 2")
        if engine == "duckdb":
            with phases.measure("features"):
                table.build(connection, spec)
        else:
            _on_spark(connection, address, phases)
        phases.measured["peak MB"] = _peak_mb()
        [(total,)] = connection.execute("select sum(hash(features)) % 1000000007 from features").fetchall()
    return phases.measured | {"sum": float(total)}


def _on_spark(connection: duckdb.DuckDBPyConnection, address: str, phases: Phases) -> None:
    from vroom_assets.spark.session import session
    from vroom_assets.spark.tables import tables

    spec = declared(NAME)
    with phases.measure("start"), session(address) as started:
        started.sql("select 1").collect()
    with session(address) as opened:
        with phases.measure("hand over"), tables(opened, connection, spec):
            pass
        with phases.measure("features"), tables(opened, connection, spec) as engine:
            table.build(connection, spec, engine)


def measured(vehicles: int, address: str) -> list[dict[str, object]]:
    """A line for each engine.

    Raises:
        AssertionError: the two do not compute the same table.
    """
    lines: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VROOM_HOME"] = folder
        forecast_folder(NAME).mkdir(parents=True)
        with duckdb.connect(str(warehouse_path(NAME))) as connection:
            draw(connection, vehicles)
        for engine in ENGINES:
            printed = subprocess.run(
                [sys.executable, __file__, PART, engine, "--spark", address],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            lines.append({"vehicles": vehicles, "engine": engine} | json.loads(printed))
            print(lines[-1], file=sys.stderr, flush=True)
    assert len({line.pop("sum") for line in lines}) == 1
    return lines


def markdown(lines: list[dict[str, object]]) -> str:
    return pd.DataFrame(lines).round(1).fillna("").to_markdown(index=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vehicles", nargs="*", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument("--spark", default="local[2]")
    parser.add_argument(PART, choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(part(given.part, given.spark)))
        return
    print(markdown([line for vehicles in given.vehicles for line in measured(vehicles, given.spark)]))


if __name__ == "__main__":
    main()
