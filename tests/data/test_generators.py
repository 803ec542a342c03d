"""What is promised of each generator, whatever its law: the laws have tests of their own beside this file."""

import errno
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from generating import ArgumentOutOfRange
from lap_times import generate as lap_times
from market_resolution import generate as market_resolution
from reservations import generate as reservations
from upcoming_reservations import generate as upcoming_reservations

from tests.support import project

DATA = project.ROOT / "data"


@dataclass(frozen=True)
class Case:
    """A generator, and what it is asked for."""

    law: ModuleType
    size: str  # the argument that says how much
    few: int
    chunk: int  # drawn at once
    more: int  # than a chunk
    lines: tuple[int, int]  # of the first file with as many, at least and at most
    options: Mapping[str, float]  # of a command
    wrong: tuple[str, float, str]  # an option, and what the command says of it
    out_of_range: Mapping[str, float]
    last_text: str  # makes what is written last of a chunk
    large: Mapping[str, int]  # arguments for enough rows to see every kind of text
    text: Mapping[str, tuple[str, str]]  # by file: the first line, a pattern of the others

    @property
    def forecast(self) -> str:
        return str(self.law.__package__)

    @property
    def script(self) -> Path:
        return DATA / self.forecast / "generate.py"

    def written(self, folder: Path, **arguments: float) -> dict[str, bytes]:
        """What the generator writes, by the name of the file."""
        paths = self.law.generate(folder, **{self.size: self.few} | arguments)
        return {position.name: position.read_bytes() for position in paths}


VEHICLE = r"[1-9]\d*,[01],[1-9]\d*\.\d\d,[1-9]\d,[1-5],[01],[1-9]\d*"
VEHICLE_COLUMNS = "vehicle_id,technology,actual_price,recommended_price,num_images,street_parked,description"


def time(years: str, fraction: str = "") -> str:
    return years + r"-\d\d-\d\d \d\d:\d\d:\d\d" + fraction


CASES = (
    Case(
        law=reservations,
        size="vehicles",
        few=100,
        chunk=reservations.CHUNK,
        more=10,
        lines=(reservations.CHUNK + 11, reservations.CHUNK + 11),
        options={"vehicles": 100, "seed": 2, "demand": 1.5},
        wrong=("seasonality", 2, "seasonality is 2.0; give a value from 0 to 1"),
        out_of_range={
            "vehicles": 0,
            "seed": -1,
            "year": 99,
            "seasonality": 1.1,
            "demand": -0.1,
            "price": 0.0,
        },
        last_text="_reservation_lines",
        large={"vehicles": 1_200, "year": 2024},
        text={
            "vehicles.csv": (VEHICLE_COLUMNS, VEHICLE),
            "reservations.csv": ("vehicle_id,created_at", rf"[1-9]\d*,{time('2024')}"),
        },
    ),
    Case(
        law=upcoming_reservations,
        size="vehicles",
        few=100,
        chunk=upcoming_reservations.CHUNK,
        more=10,
        lines=(upcoming_reservations.CHUNK + 11, upcoming_reservations.CHUNK + 11),
        options={"vehicles": 100, "seed": 2, "demand": 1.5},
        wrong=("days", 7, "days is 7; give a value from 60 to 7300"),
        out_of_range={"vehicles": 0, "seed": -1, "year": 99, "days": 59, "demand": -0.1, "price": 0.0},
        last_text="_reservation_text",
        large={"vehicles": 1_200, "year": 2024},
        text={
            "vehicles.csv": (f"{VEHICLE_COLUMNS},listed_at", rf"{VEHICLE},{time('202[45]')}"),
            "reservations.csv": (
                "vehicle_id,created_at,loaded_at",
                rf"[1-9]\d*,{time('202[45]')},{time('202[45]')}",
            ),
        },
    ),
    Case(
        law=lap_times,
        size="seasons",
        few=1,
        chunk=1,
        more=1,
        lines=(14_200, 17_300),
        options={"seed": 2, "noise": 1.5},
        wrong=("wear", -1, "wear is -1.0; give a value from 0 to 10"),
        out_of_range={"seasons": 0, "seed": -1, "year": 99, "noise": -0.1, "wear": 11},
        last_text="_lap_text",
        large={"year": 2025},
        text={
            "laps.csv": (
                "lap_id,season,circuit,session,driver,lap,stint,compound,tyre_age,lap_time,pit_in,pit_out,"
                "safety_car,weather,track_temperature,started_at,finished_at,loaded_at",
                r"[1-9]\d*,2025,[A-Z][A-Za-z ]+,(race|sprint),D\d\d,[1-9]\d*,[1-9],"
                r"(soft|medium|hard|intermediate),[1-9]\d*,[1-9]\d+\.\d\d\d,[01],[01],[01],(dry|rain),\d+\.\d"
                + 3
                * ("," + time("2025", r"\.\d\d\d")),
            )
        },
    ),
    Case(
        law=market_resolution,
        size="markets",
        few=100,
        chunk=market_resolution.CHUNK,
        more=10,
        lines=(market_resolution.CHUNK + 11, market_resolution.CHUNK + 11),
        options={"markets": 100, "seed": 2, "bias": 0.8},
        wrong=("bias", 3, "bias is 3.0; give a value from 0.1 to 2"),
        out_of_range={"markets": 0, "seed": -1, "year": 99, "bias": 0.0},
        last_text="_price_text",
        large={"markets": 700, "year": 2022, "days": 2_000},
        text={
            "markets.csv": (
                "market_id,category,opened_at,closes_at,resolved_at,resolved_yes",
                r"[1-9]\d*,[a-z]+" + 3 * ("," + time("202[234]")) + ",[01]",
            ),
            "prices.csv": (
                "market_id,quoted_at,price,volume,spread,loaded_at",
                rf"[1-9]\d*,{time('202[234]')},0\.\d\d\d,\d+,0\.\d\d\d,{time('202[234]')}",
            ),
        },
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.forecast)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def run(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, **settings)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_generator_is_here() -> None:
    assert sorted(case.script for case in CASES) == sorted(DATA.glob("*/generate.py"))


def test_the_shipped_files_are_what_the_default_seed_generates(case: Case, tmp_path: Path) -> None:
    written = {position.name: position.read_bytes() for position in case.law.generate(tmp_path)}
    assert written == {path.name: path.read_bytes() for path in case.script.parent.glob("*.csv")}


def test_the_same_arguments_write_the_same_bytes_and_another_seed_others(case: Case, tmp_path: Path) -> None:
    once, again, other = (
        case.written(tmp_path / name, seed=seed) for name, seed in (("once", 7), ("again", 7), ("other", 8))
    )
    assert once == again
    assert all(once[name] != other[name] for name in once)


def test_text_is_canonical(case: Case, tmp_path: Path) -> None:
    written = case.written(tmp_path, **case.large)
    assert list(written) == list(case.text)
    for name, (first, pattern) in case.text.items():
        header, *rows, end = written[name].decode("ascii").split("\n")
        assert header == first
        assert len(rows) > 600
        assert [row for row in rows if not re.fullmatch(pattern, row)] == []
        assert end == ""


def test_more_continues_the_files_after_full_chunks(case: Case, tmp_path: Path) -> None:
    shorter, longer = (
        case.written(tmp_path, seed=1, **{case.size: size}) for size in (case.chunk, case.chunk + case.more)
    )
    assert all(longer[name].startswith(shorter[name]) for name in shorter)
    first, *_ = longer.values()
    least, limit = case.lines
    assert least <= first.count(b"\n") <= limit


def test_memory_does_not_grow_with_the_number_of_rows(case: Case, tmp_path: Path) -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        case.law.generate(tmp_path, **{case.size: size})
        _, limit = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return limit

    case.written(tmp_path)  # what NumPy keeps from its first use on
    assert peak(3 * case.chunk) < 1.1 * peak(case.chunk)


@pytest.mark.parametrize(
    ("case", "argument", "value"),
    [
        pytest.param(case, argument, value, id=f"{case.forecast}-{argument}")
        for case in CASES
        for argument, value in case.out_of_range.items()
    ],
)
def test_an_argument_out_of_range_is_named_and_writes_nothing(
    tmp_path: Path, case: Case, argument: str, value: float
) -> None:
    with pytest.raises(ArgumentOutOfRange, match=rf"{argument} is {value}; give a value from"):
        case.law.generate(tmp_path, **{argument: value})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_old_files(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = case.written(tmp_path)

    def fill_up(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(case.law, case.last_text, fill_up)
    with pytest.raises(OSError, match="No space left"):
        case.written(tmp_path, seed=2)
    assert files(tmp_path) == before


def test_the_command_needs_only_numpy_and_writes_what_the_function_does(case: Case, tmp_path: Path) -> None:
    for module in ("pandas", "pyarrow", "scipy"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('not needed')")
    options = [f"--{name}={value}" for name, value in case.options.items()]
    done = run(case.script, *options, "--out", tmp_path / "command", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "command") == case.written(tmp_path / "function", **case.options)


def test_the_command_explains_a_wrong_argument(case: Case, tmp_path: Path) -> None:
    option, value, explanation = case.wrong
    done = run(case.script, f"--{option}={value}", "--out", tmp_path)
    assert done.returncode == 2
    assert explanation in done.stderr


def test_a_copy_of_the_data_folder_generates_the_same_from_within(case: Case, tmp_path: Path) -> None:
    project.copy(tmp_path, "data")
    program = f"import runpy; runpy.run_path('generate.py')['generate']('.', {case.size}={case.few}, seed=5)"
    folder = tmp_path / "data" / case.forecast
    done = run("-c", program, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == case.written(tmp_path, seed=5)
