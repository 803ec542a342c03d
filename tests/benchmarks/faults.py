"""Trainings of many rows that are killed, or whose disk fills up, at each of their stages.

    python tests/benchmarks/faults.py [--vehicles 1000000] [--stages N] [--disk FOLDER]

Draws so many vehicles, trains a champion, changes a file and then trains again and again, killed where a stage begins;
with `--disk`, an empty folder of a file system of its own that may be filled up, the disk is full there instead:

    unshare --user --map-root-user --mount sh -c '
        mount -t tmpfs -o size=3g tmpfs /mnt && python tests/benchmarks/faults.py --disk /mnt'

Of each stage the seconds until it was met, and those of checking what it left behind: the champion proved, nothing
half-written, features whole. At the end the seconds of a training that meets none. Ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import duckdb

from tests.support.doomed import BALLAST, NAME, STAGES, disk_full, half_written, killed, train
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets.champion.publication import prove
from vroom_assets.resources import warehouse_path
from vroom_assets.supervisor import fail_abandoned_runs, prepare_home

ROOT = Path(__file__).parents[2]


def broken(home: Path, vehicles: int) -> list[str]:
    """The promises that what a fault left behind breaks."""
    found = [f"half-written: {name}" for name in half_written(home)]
    pointer = read_pointer(NAME)
    if pointer is None:
        return [*found, "no champion"]
    prove(read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256))
    with duckdb.connect(str(warehouse_path(NAME)), read_only=True) as connection:
        [(rows,)] = connection.execute("select count(*) from features").fetchall()
    return [*found, *([f"{rows} rows of features"] if rows != vehicles else [])]


def story(home: Path, vehicles: int, stages: dict[str, str], is_full: bool) -> list[str]:
    """Meet the fault at each stage, one on top of the other; returns the promises that were broken."""
    fate, expected = (disk_full, 1) if is_full else (killed, -signal.SIGKILL)
    faults: list[str] = []
    for stage, function in stages.items():
        before = read_pointer(NAME)
        began = time.monotonic()
        code = train(function, fate)
        met = time.monotonic()
        if code != expected:
            faults.append(f"{stage}: ended with {code}")
        if "pointer moved" not in stage and read_pointer(NAME) != before:
            faults.append(f"{stage}: another champion")
        Path(os.environ[BALLAST]).unlink(missing_ok=True)
        abandoned = fail_abandoned_runs()
        faults += [f"{stage}: {one}" for one in broken(home, vehicles)]
        print(
            f"{stage:46} {met - began:6.1f} s, checked in {time.monotonic() - met:5.1f} s, "
            f"{abandoned} run failed afterwards",
            flush=True,
        )
    began = time.monotonic()
    if train() != 0:
        faults.append("the training after all of them failed")
    print(f"{'a training that meets no fault':46} {time.monotonic() - began:6.1f} s", flush=True)
    return [*faults, *broken(home, vehicles)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vehicles", type=int, default=1_000_000)
    parser.add_argument("--stages", type=int, default=len(STAGES), help="only so many of the last ones")
    parser.add_argument("--disk", type=Path, help="an empty folder on a file system that may be filled up")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        home = (asked.disk or Path(folder)) / "home"
        home.mkdir()
        os.environ |= {
            "VROOM_HOME": str(home),
            "VROOM_DATA": str(data),
            BALLAST: str(home.parent / "ballast"),
        }
        runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))["generate"](
            data / NAME, vehicles=asked.vehicles
        )
        prepare_home()
        if train() != 0:
            sys.exit("the training before any fault failed")
        vehicles = data / NAME / "vehicles.csv"
        with vehicles.open("a") as file:
            file.write("\n")
        stages = dict(list(STAGES.items())[-asked.stages :])
        faults = story(home, asked.vehicles, stages, is_full=asked.disk is not None)
    print("\n".join(faults) or "every promise was kept")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
