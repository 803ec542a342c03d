"""The monitoring of a forecast as Dagster runs it, on what the service recorded."""

import runpy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb
import numpy as np
import pytest
import sqlalchemy as sa

from tests.support.flagship import Run
from tests.support.forecasts import entries
from tests.support.predictions import answered, outcomes_at, predict, report
from tests.support.project import ROOT
from tests.support.succession import scaled, try_bundle
from vroom_api.contract import Bundle, bundle_folder, read_bundle, read_pointer
from vroom_api.contract.events import Evaluated, evidence_of
from vroom_api.contract.recorded import Prediction
from vroom_api.contract.tables import alerts, checks, serving_database
from vroom_assets.forecast import Forecast
from vroom_assets.monitoring import progress

NAME = "reservations"
GENERATOR = runpy.run_path(str(ROOT / "data" / "reservations" / "generate.py"))
DAY0 = datetime(2026, 1, 1)
Check = Callable[[], dict[str, object]]


@pytest.fixture
def monitor(run: Run) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run the monitoring; it succeeds."""

    def execute(**options: object) -> dg.ExecuteInProcessResult:
        result = run("monitor", **options)
        failed = [event.event_specific_data for event in result.all_events if event.is_step_failure]
        assert not failed, failed
        assert result.success
        return result

    return execute


@pytest.fixture
def champion(trained) -> Bundle:
    pointer = read_pointer(NAME)
    assert pointer is not None
    return read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256)


def listings(number: int, seed: int) -> dict[str, np.ndarray]:
    """Vehicles by the law of the shipped data, with what really came of each."""
    rng = np.random.default_rng(seed)
    rows = GENERATOR["draw"](number, rng)
    caps = GENERATOR["reservation_caps"](rows)
    return rows | {"outcome": np.floor(rng.random(number) * (caps + 1))}


def serve(
    champion: Bundle, days: int, rows: int, *, demand: float = 1.0, price: float = 1.0, first: int = 0
) -> list[Prediction]:
    """Answer so many requests a day, and report what came of each the day after."""
    made, reported = [], []
    for day in range(first, first + days):
        found = listings(rows, day)
        found["actual_price"] = found["actual_price"] * price
        inputs = [[float(found[field.name][n]) for field in champion.manifest.inputs] for n in range(rows)]
        today = answered(champion, inputs, DAY0 + timedelta(days=day), spacing=60.0)
        arrival = DAY0 + timedelta(days=day + 1)
        reported += [
            (arrival + timedelta(seconds=n), float(np.round(demand * found["outcome"][n])), one.id)
            for n, one in enumerate(today)
        ]
        made += today
    predict(*made)
    outcomes_at(reported, NAME)
    return made


def warehouse_rows(home, query: str) -> list[tuple]:
    with duckdb.connect(home / NAME / "warehouse.duckdb") as connection:
        return connection.execute(query).fetchall()


def of(table: sa.Table) -> list[sa.Row]:
    with serving_database() as engine, engine.connect() as connection:
        return list(connection.execute(sa.select(table).order_by(table.c.id)))


def verdicts() -> list[tuple[str, bool]]:
    found = [evidence_of(Evaluated, entry.evidence) for entry in entries("monitoring")]
    return [(one.verdict, one.harmful) for one in found]


def page(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    events = result.asset_materializations_for_node(f"{NAME}_evaluation")
    (mine,) = [one for one in events if one.asset_key.path[-1] == asset]
    return {name: one.value for name, one in mine.metadata.items()}


def asset_checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, dg.AssetCheckSeverity]]:
    return {
        f"{one.asset_key.path[-1]}.{one.check_name}": (one.passed, one.severity)
        for one in result.get_asset_check_evaluations()
    }


def test_a_healthy_champion_is_called_healthy_and_asks_for_nothing(monitor, champion, home):
    serve(champion, days=5, rows=100)
    result = monitor()
    assert verdicts() == [("healthy", False)]
    assert of(alerts) == []
    assert all(passed for passed, _ in asset_checks(result).values())
    assert page(result, "health")["verdict"] == "healthy"
    assert page(result, "performance")["outcomes"] == 500
    assert {"error", "reference_error", "over_time", "latest_windows"} <= page(result, "performance").keys()
    assert {"largest_distance", "estimate", "over_time"} <= page(result, "drift").keys()
    assert {row.name for row in of(checks)} >= {"drift", "error", "bias", "coverage", "feedback"}
    assert progress.read(NAME).closed_until > 0


@pytest.mark.slow
def test_intervals_that_outcomes_show_to_be_off_are_corrected_once(monitor, champion, home):
    serve(champion, days=6, rows=100, demand=1.3)
    found = page(monitor(), "health")
    assert found["calibration_revision"] == 1
    assert "were inside the 90% interval" in str(found["calibration"])
    (entry,) = entries("calibration")
    assert (entry.decision, entry.actor) == ("recalibrated", f"job {NAME}_monitor")
    assert entry.evidence["upper"] > 1.2
    again = page(monitor(), "health")
    assert "calibration_revision" not in again
    assert again["calibration"] == "outcomes agree with the calibration in force"


@pytest.mark.slow
def test_each_row_is_in_one_window_however_often_the_job_runs(monitor, champion, home):
    serve(champion, days=3, rows=30)
    monitor()
    once = warehouse_rows(home, "from monitoring.summaries order by window_end")
    checked = len(of(checks))
    monitor()
    assert warehouse_rows(home, "from monitoring.summaries order by window_end") == once
    assert len(of(checks)) == checked
    assert len(entries("monitoring")) == 1
    sums = "sum((summary->>'$.predicted')::int), sum((summary->>'$.observed')::int)"
    assert warehouse_rows(home, f"select count(*), {sums} from monitoring.summaries") == [(4, 90, 90)]


def test_outcomes_that_come_late_count_in_the_window_in_which_they_come(monitor, champion, home, fast):
    one, two = answered(champion, champion.golden.inputs[:2], DAY0)
    predict(one, two)
    outcomes_at([(DAY0 + timedelta(days=1), 4.0, one.id)], NAME)
    monitor()
    outcomes_at([(DAY0 + timedelta(days=2), 5.0, two.id)], NAME)  # reported while no job ran
    report(6.0, prediction_id=one.id, correction=True)
    monitor()
    found = warehouse_rows(home, "select outcome, exposure, origin from monitoring.feedback order by id")
    assert found == [(6.0, 1.0, "reported"), (5.0, 1.0, "reported")]
    sums = "select sum((summary->>'$.observed')::int) from monitoring.summaries"
    assert warehouse_rows(home, sums) == [(1,)]  # the window in which the second one arrived is still open
    arrived = warehouse_rows(home, "select outcome_at from monitoring.feedback order by id")
    until = warehouse_rows(home, "select value from monitoring.marks where name = 'closed_until'")[0][0]
    assert arrived == [(DAY0 + timedelta(days=1),), (datetime.fromisoformat(until),)]


@pytest.mark.slow
def test_a_champion_whose_demand_has_halved_is_in_alarm_everywhere_once(monitor, champion):
    serve(champion, days=3, rows=100)
    serve(champion, days=12, rows=100, demand=0.4, first=3)
    result = monitor()
    assert verdicts()[-1][0] in ("concept drift", "decay")
    assert verdicts()[-1][1]
    (alert,) = of(alerts)
    assert (alert.kind, alert.severity, alert.resolved_at) == ("decay", "critical", None)
    assert "What to do:" in alert.message
    assert entries("monitoring")[-1].decision == "decayed"
    found = asset_checks(result)
    assert found["health.verdict"] == (False, dg.AssetCheckSeverity.ERROR)
    assert found["performance.error"] == (False, dg.AssetCheckSeverity.ERROR)
    assert any(row.status == "alarm" for row in of(checks))
    before = len(entries())
    monitor()
    assert len(entries()) == before
    assert [row.times_seen for row in of(alerts)] == [2]


@pytest.mark.slow
def test_a_changed_threshold_judges_anew_and_trains_nothing(monitor, champion, fast: Forecast):
    serve(champion, days=4, rows=100, price=1.3)
    monitor()
    assert [row.kind for row in of(alerts)] == ["drift"]
    blind = fast.monitoring.model_copy(update={"least_rows": 100_000})
    monitor(spec=fast.model_copy(update={"monitoring": blind}))
    assert verdicts()[-1] == ("not enough data", False)
    assert [row.resolved_at is None for row in of(alerts)] == [False]
    assert len(entries("training")) == 1


def test_a_second_version_that_is_worse_is_stopped_and_leaves_the_champion_healthy(monitor, champion):
    """Every third request was answered by one that predicts half as much again: its errors are its own."""
    second = scaled(champion, champion.manifest.version + 1, 1.5)
    try_bundle(second, DAY0.replace(tzinfo=UTC).isoformat(), 0.33)
    serve(champion, days=5, rows=80)
    serve(second, days=5, rows=40)
    result = monitor()
    assert verdicts() == [("healthy", False)]
    assert [row.kind for row in of(alerts)] == ["trial_stopped"]
    found = page(result, "health")
    assert (found["trial_version"], found["trial_rows"]) == (second.manifest.version, 600)
    assert found["trial_stopped"] is True
    assert all(passed for passed, _ in asset_checks(result).values())
    by_version = {
        (row.name, row.version, row.status)
        for row in of(checks)
        if row.name in ("error", "trial") and row.status != "unknown"
    }
    assert by_version == {("error", 1, "ok"), ("trial", 2, "alarm")}
    assert read_pointer(NAME).trial is None
    monitor()
    assert [row.times_seen for row in of(alerts)] == [1]


def test_before_the_first_champion_it_copies_and_judges_nothing(monitor, home):
    result = monitor()
    assert verdicts() == []
    assert "no champion serves" in str(page(result, "health")["sentence"])


def test_what_was_never_reported_is_said_on_the_page_of_the_feedback(monitor, champion, fast):
    serve(champion, days=1, rows=10)
    due = fast.target.model_copy(update={"window_days": None, "due_days": 1.0})
    predict(*answered(champion, champion.golden.inputs[:3], DAY0))
    result = monitor(spec=fast.model_copy(update={"target": due}))
    assert asset_checks(result)["feedback.outcomes_arrive"] == (False, dg.AssetCheckSeverity.WARN)
