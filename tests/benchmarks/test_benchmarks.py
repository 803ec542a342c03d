"""The benchmarks that nobody runs every day still run."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest

from tests.benchmarks import (
    accuracy,
    boostings,
    catalog,
    contest,
    coverage,
    engines,
    monitoring,
    scale,
    scoring,
    shortcut,
    split,
    steps,
)
from tests.support import spark
from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.entities import keep
from tests.support.project import ROOT

GENERATE = runpy.run_path(str(ROOT / "data" / "reservations" / "generate.py"))["generate"]


def test_the_contest_benchmark_tells_how_often_what_is_promoted(monkeypatch, capsys):
    monkeypatch.setattr(contest, "SCENARIOS", {key: contest.SCENARIOS[key] for key in ("equal", "better")})
    monkeypatch.setattr(contest, "true_errors", lambda *_: dict.fromkeys(contest.RECIPES, 1.0))
    monkeypatch.setattr(sys, "argv", ["contest.py", "--simulations", "1", "--vehicles", "150"])
    failed = contest.main()
    given = capsys.readouterr().out
    assert ("yes  equals promoted " in given, "NO   equals promoted " in given) == (not failed, bool(failed))
    assert "1 contests each on 150 rows" in given


def test_the_benchmark_of_monitoring_counts_alarms_and_says_which_promises_are_kept(monkeypatch, capsys):
    monkeypatch.setattr(monitoring, "POOL", 500)
    monkeypatch.setattr(monitoring, "BAND_TRAININGS", 1)
    monkeypatch.delenv("VROOM_REAL_DATA", raising=False)
    few = ["--deployments", "1", "--changed", "1", "--trainings", "1", "--days", "5", "--after", "4"]
    monkeypatch.setattr(sys, "argv", ["monitoring.py", *few, "--a-day", "200"])
    failed = monitoring.main()
    given = capsys.readouterr().out
    assert ("NO   " in given) == bool(failed)
    assert "yes  any alarm on a healthy deployment: at most 5 %" in given
    assert "price +15 %" in given


def test_the_benchmark_of_splits_tells_false_verdicts_from_true_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["split.py", "--months", "1", "--days", "4", "--kinds", "same", "worse"])
    failed = split.main()
    given = capsys.readouterr().out
    assert ("NO   same law" in given) == bool(failed)
    assert "high, 10% worse +10" in given
    assert "4 days of 200 outcomes, 1% tolerated" in given


def test_the_benchmark_of_boostings_compares_both_on_the_same_folds(tmp_path: Path):
    GENERATE(tmp_path, vehicles=200)
    spec = accuracy.declared("reservations")
    text = boostings.line("mine", spec, accuracy.read_folder(spec, tmp_path))
    assert text.startswith("| mine | 200 | mae | ")
    assert " ± " in text


def test_the_benchmark_of_steps_lets_them_compete(tmp_path: Path):
    GENERATE(tmp_path, vehicles=200)
    spec = accuracy.declared("reservations")
    linear = spec.candidates["glm"].model_copy(update={"terms": []})
    quick = spec.model_copy(update={"candidates": {"linear": linear}})
    text = steps.line("mine", quick, accuracy.read_folder(spec, tmp_path))
    assert text.startswith("| mine | 200 | mae | ")
    assert text.count(" ± ") == 3


def test_the_benchmark_of_the_shortcut_holds_it_against_all_rows():
    candidates = {name: one for name, one in shortcut.quick().items() if name in ("boosting", "glm", "line")}
    line = shortcut.compared(shortcut.generated(0, 21_000, candidates))
    assert (line["race"], line["full"], line["lost"]) == ("boosting", "boosting", 0)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are measured on Linux"
)
def test_the_benchmark_of_scale_measures_every_phase(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    slow = [name for name in scale.declared(scale.NAME).candidates if name not in ("glm", "lean_forest")]
    found = scale.part(200, tmp_path, without=slow)
    assert list(found["phases"])[:3] == ["read", "features", "stored inputs"]
    assert all(one["peak_mb"] > 0 for one in found["phases"].values())
    assert "| search " in scale.table({200: found}).to_markdown(index=False)


def test_the_coverage_benchmark_counts_outcomes_in_intervals(tmp_path: Path, monkeypatch, capsys):
    GENERATE(tmp_path, vehicles=200)
    spec = coverage.declared("reservations")
    quick = spec.model_copy(update={"candidates": {"glm": spec.candidates["glm"]}})
    monkeypatch.setattr(coverage, "declared", lambda _: quick)
    monkeypatch.setattr(coverage, "REPEATS", 1)
    monkeypatch.setattr(sys, "argv", ["coverage.py", "reservations", str(tmp_path)])
    failed = coverage.main()
    given = capsys.readouterr().out
    assert "num_images" in given
    assert ("\nNO   " in given) is bool(failed)


def test_the_coverage_benchmark_refuses_rows_that_hang_together(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["coverage.py", "lap_times"])
    with pytest.raises(SystemExit):
        coverage.main()
    assert "lap_times: rows are grouped" in capsys.readouterr().err


def test_the_benchmark_of_scoring_measures_the_graph_and_the_command(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    publish(tmp_path, 1)
    keep(tmp_path, {"7": list(EXAMPLE.values()), "8": [0, 90.0, 60.0, 3, 1, 20]})
    name, _, *figures = scoring.measure(FORECAST, 300, tmp_path)
    assert name == FORECAST
    assert len(figures) == len(scoring.SIZES) + 3
    assert all(float(figure) >= 0 for figure in figures)


@pytest.mark.slow
@spark.needed
def test_the_benchmark_of_engines_computes_the_same_table_with_both(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    by_duckdb, by_spark = engines.measured(200, spark.LOCAL)
    assert (by_duckdb["engine"], by_spark["engine"]) == ("duckdb", "spark")
    assert by_spark["peak MB"] > 0


def test_the_benchmark_of_recalibration_compares_with_the_champion_left_alone(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    recalibration = importlib.import_module("tests.benchmarks.recalibration")
    monkeypatch.setattr(recalibration, "FRESH", 2_000)
    monkeypatch.setattr(recalibration, "BEFORE", 200)
    monkeypatch.setattr(recalibration, "CHECKED", (0, 400))
    monkeypatch.setattr(recalibration, "STATED", 400)
    champions = [recalibration.champion(0)]
    assert 0 <= recalibration.changes(champions, 1, 100, "demand x1.3") <= 1
    assert recalibration.healthy(champions, recalibration.Kind.BINARY, 1, 4, 100) == 0
    given = capsys.readouterr().out
    assert "demand x1.3: left alone 0." in given
    assert "healthy, binary: 0.0% of 1 streams of 4 days x 100 outcomes" in given


@pytest.mark.slow
def test_the_benchmark_of_the_catalog_asks_every_question_and_says_what_was_missed(monkeypatch, capsys):
    few = ["--vehicles", "300", "--saved", "20", "--clients", "2", "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", ["catalog.py", *few])
    missed = catalog.main()
    lines = capsys.readouterr().out.splitlines()[3:]
    assert len(lines) == len(catalog.questions(300, 20)) + 2
    assert any(line.startswith("NO ") for line in lines) == bool(missed)
    assert [line for line in lines if not line.endswith("  none")] == []
