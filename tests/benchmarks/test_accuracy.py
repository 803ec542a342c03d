"""The accuracy benchmark on generated data: its tables say what numbers of known answer ask them to say."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import real
from tests.benchmarks.accuracy import declared, markdown, report, warehouse
from tests.benchmarks.measured import NESTED, Measured, measure, table
from tests.benchmarks.yardsticks import YARDSTICKS, validated
from tests.support.project import ROOT
from vroom_assets.features import table as feature_table
from vroom_assets.spec import Kind
from vroom_assets.training.folds import RowStructure, Split
from vroom_assets.training.metrics import METRIC_SETS


def generated(forecast: str, folder: Path, **options: int) -> Path:
    generate = runpy.run_path(str(ROOT / "data" / forecast / "generate.py"))["generate"]
    generate(folder, **options)
    return folder


@pytest.fixture(scope="module")
def upcoming(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """200 vehicles, forward in time, with two candidates and what they are compared with."""
    folder = generated("upcoming_reservations", tmp_path_factory.mktemp("upcoming"), vehicles=200)
    spec = validated(repeats=1, folds=3, inner_folds=2)(declared("upcoming_reservations"))
    kept = {name: spec.candidates[name] for name in ("listing_only", "history")}
    spec = spec.model_copy(update={"candidates": kept})
    data = feature_table.read(warehouse(spec, folder), spec)
    return measure(spec, data, {}, YARDSTICKS["upcoming_reservations"].derived)


def test_forward_in_time_no_window_is_open_when_a_quarter_begins(upcoming):
    rows = upcoming.data.row_structure
    for split in upcoming.folds:
        assert rows.known[split.train].max() <= rows.times[split.test].min()
        assert not set(rows.groups[split.train]) & set(rows.groups[split.test])


def test_the_nested_line_is_of_the_candidates_that_inner_folds_chose(upcoming):
    for number, choice in enumerate(upcoming.choices):
        assert (upcoming.predictions[NESTED][number] == upcoming.predictions[choice][number]).all()


def test_a_forecast_from_history_is_told_to_be_better_than_the_listing(upcoming):
    found = table(upcoming, "listing_only", {})
    assert {"mean", "median", "gamma_poisson", NESTED} <= set(found.index)
    assert found.loc["gamma_poisson", "mae"] == pytest.approx(
        found.loc["listing_only", "mae"] - found.loc["gamma_poisson", "gain"]
    )
    assert found.loc["gamma_poisson", "gain"] > 0 > found.loc["mean", "gain"]
    assert "| gamma_poisson | " in markdown(found)


def measured(target: np.ndarray, **predictions: np.ndarray) -> Measured:
    """Two folds of one repeat; every two rows are a group."""
    count = len(target)
    halves = np.array_split(np.arange(count), 2)
    folds = [Split(0, 0, halves[1], halves[0]), Split(0, 1, halves[0], halves[1])]
    data = feature_table.Dataset(
        forecast="any",
        keys=np.arange(count),
        inputs=pd.DataFrame(index=range(count)),
        features=pd.DataFrame(index=range(count)),
        target=target,
        row_structure=RowStructure(count, groups=np.arange(count) // 2),
        data_version="",
        data_as_of="",
        snapshots={},
    )
    parts = {name: [values[half] for half in halves] for name, values in predictions.items()}
    return Measured(data, METRIC_SETS[Kind.REGRESSION], folds, ["any", "any"], parts)


def test_a_subset_is_scored_on_its_own_rows():
    target = np.zeros(8)
    found = measured(target, near=np.full(8, 0.1), far=np.array([5.0, 1, 1, 1, 5, 1, 1, 1]))
    first = np.arange(8) % 4 == 0
    assert table(found, "near", {}, ~first).loc["far", "mae"] == pytest.approx(1.0)
    assert table(found, "near", {}, first).loc["far", "gain"] == pytest.approx(-4.9)


def test_equals_are_not_told_apart_and_what_is_always_better_is():
    rng = np.random.default_rng(0)
    target = rng.normal(size=400)
    noise = rng.normal(size=400)
    found = table(
        measured(target, one=target + noise, other=target - noise[::-1], better=target + 0.5 * noise),
        "one",
        {},
    )
    assert found.loc["other", "from"] < 0 < found.loc["other", "to"]
    assert found.loc["better", "from"] > 0
    assert found.loc["better", "p"] < 0.001 < found.loc["other", "p"]


def test_real_data_that_are_not_there_are_said_to_be_missing_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv(real.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*laps_2021\.csv not there; VROOM_REAL_DATA names"):
        real.write("lap_times", tmp_path)


def test_the_report_has_a_table_per_protocol_and_says_which_promises_are_kept(tmp_path, monkeypatch, capsys):
    folder = generated("upcoming_reservations", tmp_path, vehicles=200)
    spec = validated(folds=2, inner_folds=2)(declared("upcoming_reservations"))
    kept = {name: spec.candidates[name] for name in ("listing_only", "history")}
    once = replace(YARDSTICKS["upcoming_reservations"], repeats=1)
    monkeypatch.setitem(YARDSTICKS, "upcoming_reservations", once)
    good = report(spec.model_copy(update={"candidates": kept}), folder)
    given = capsys.readouterr().out
    assert given.count("| vroom (nested) | ") == given.count("| own_rate | ") == 2
    assert good == ("\nNO " not in given)
