"""What besides a change asks for a training: how the sensor and the schedule hear it, and what they enter of it."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from tests.support.automation import Sensor
from tests.support.forecasts import definitions, entries
from vroom_api.contract.alerts import Severity
from vroom_api.contract.events import Decision, Evaluated, SourcesSeen
from vroom_api.contract.tables import alerts, enter_ledger, ledger, outcomes, predictions, serving_database
from vroom_assets.forecast import Forecast
from vroom_assets.forecast.demands import asked_at, gather, next_due
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.monitoring.evaluation import Verdict
from vroom_assets.spec import Automation, Retraining

NAME = "reservations"


@pytest.fixture
def careful(fast: Forecast) -> Forecast:
    """The forecast, which does not train for every new row."""
    return fast.model_copy(
        update={"retraining": Retraining(new_rows=0.1), "automation": Automation(interval_seconds=1)}
    )


@pytest.fixture
def sensor(instance: dg.DagsterInstance, careful: Forecast, trained: Path, data: Path) -> Sensor:
    """Its sensor, beside a champion of the data as they are."""
    found = Sensor(instance, careful)
    for _ in range(3):
        found.tick()
    return found


def report(verdict: Verdict, *, harmful: bool, version: int = 1, damage: float = 0.21) -> None:
    """What monitoring enters after a window."""
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=NAME,
            actor="monitoring",
            decision=Decision.DRIFTED,
            reason="",
            evidence=Evaluated(
                version=version, verdict=verdict.value, harmful=harmful, damage=damage, window_end=""
            ),
        )


def append(data: Path, rows: int = 1) -> None:
    with open(data / "reservations.csv", "a") as file:
        lines = (data / "reservations.csv").read_text().splitlines()
        file.writelines(f"{line}\n" for line in lines[1 : 1 + rows])


def half_a_minute_later(sensor: Sensor) -> Sensor:
    cursor = json.loads(sensor.cursor or "")
    sensor.cursor = json.dumps(cursor | {"weighed_at": cursor["weighed_at"] - 31})
    return sensor


def alert() -> sa.Row | None:
    with serving_database() as engine, engine.connect() as connection:
        return connection.execute(alerts.select().where(alerts.c.resolved_at.is_(None))).first()


def test_a_few_new_rows_are_held_back_and_that_is_entered_once(sensor, data):
    append(data)
    assert "run" not in half_a_minute_later(sensor).settle()
    append(data)
    assert "run" not in half_a_minute_later(sensor).settle()
    held = [e.decision for e in entries("retrain") if "holds changed data back" in e.reason]
    assert held == ["waiting"]
    assert "newer data are held back" in sensor.tick()


def test_many_new_rows_are_trained_with_and_so_is_another_declaration(sensor, data, careful):
    append(data)
    sensor.settle()
    other = careful.model_copy(update={"validation": careful.validation.model_copy(update={"seed": 8})})
    assert sensor.under(other).settle().count("run") == 1


def test_rows_that_add_up_to_many_are_trained_with(sensor, data):
    size = (data / "reservations.csv").stat().st_size
    append(data)
    assert "run" not in sensor.settle()
    while (data / "reservations.csv").stat().st_size < 1.11 * size:
        append(data, 200)
    assert sensor.settle().count("run") == 1
    assert entries("retrain")[-1].evidence["cause"] == "change"


def test_other_words_are_published_while_data_are_held_back(sensor, data, careful):
    append(data)
    sensor.settle()
    ticks = sensor.under(careful.model_copy(update={"title": "Bookings"})).settle()
    assert [tick for tick in ticks if "change" not in tick and "waits" not in tick] == ["champion"]


def test_harmful_drift_asks_for_what_is_held_back_once(sensor, data, instance):
    append(data)
    sensor.settle()
    report(Verdict.DATA_DRIFT, harmful=True)
    assert "run" not in sensor.settle()  # the record is asked every half minute
    assert half_a_minute_later(sensor).settle().count("run") == 1
    last = entries("retrain")[-1]
    assert (last.decision, last.evidence["cause"]) == ("requested", "drift")
    assert last.evidence["numbers"]["damage"] == 0.21
    assert "monitoring of version 1 found data drift" in last.reason
    assert "run" not in half_a_minute_later(sensor).settle()
    assert alert() is None


def test_harm_on_the_data_of_the_latest_training_calls_for_new_ones_and_trains_when_they_arrive(sensor, data):
    report(Verdict.DECAY, harmful=True)
    assert "run" not in half_a_minute_later(sensor).settle()
    assert "run" not in half_a_minute_later(sensor).settle()
    assert [e.decision for e in entries("retrain")].count("needs data") == 1
    found = alert()
    assert found is not None
    assert (found.kind, found.severity, found.times_seen) == ("needs_data", Severity.WARNING, 1)
    assert "Bring new rows to" in found.message
    append(data)
    assert half_a_minute_later(sensor).settle().count("run") == 1
    assert entries("retrain")[-1].evidence["cause"] == "decay"
    assert alert() is None


def test_a_second_training_that_drift_asks_for_waits_for_the_cool_down(sensor, data, careful):
    with serving_database() as engine:
        seen = SourcesSeen(sources={}, cause="drift")
        enter_ledger(engine, forecast=NAME, actor="", decision=Decision.REQUESTED, reason="", evidence=seen)
        assert len(asked_at(engine, careful, time.time())) == 1
        assert asked_at(engine, careful, time.time() + 2 * 86_400) == ()
    append(data)
    report(Verdict.DATA_DRIFT, harmful=True)
    assert "run" not in half_a_minute_later(sensor).settle()
    assert "less than 60 minutes ago" in entries("retrain")[-1].reason
    with serving_database() as engine, engine.begin() as connection:
        connection.execute(
            ledger.update()
            .where(ledger.c.reason == "")
            .where(ledger.c.event == "retrain")
            .values(time=datetime.now(UTC) - timedelta(hours=2))
        )
    assert half_a_minute_later(sensor).settle().count("run") == 1


def test_what_drift_asks_for_waits_for_a_run_that_is_under_way(sensor, data, instance):
    append(data)
    report(Verdict.DATA_DRIFT, harmful=True)
    job = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    run = instance.create_run_for_job(job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.STARTED)
    assert "run" not in half_a_minute_later(sensor).settle()
    assert f"run {run.run_id[:8]} is still under way" in entries("retrain")[-1].reason
    instance.report_run_failed(run)
    assert half_a_minute_later(sensor).settle().count("run") == 1


def test_the_schedule_trains_with_what_the_sensor_holds_back(sensor, data, careful, instance):
    append(data)
    sensor.settle()
    daily = definitions(careful).resolve_schedule_def(f"{NAME}_daily")
    with dg.build_schedule_context(instance=instance) as context:
        assert isinstance(daily(context), dg.RunRequest)


def test_the_schedule_starts_nothing_beside_a_run(sensor, data, careful, instance):
    append(data)
    job = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    instance.create_run_for_job(job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.STARTED)
    daily = definitions(careful).resolve_schedule_def(f"{NAME}_daily")
    with dg.build_schedule_context(instance=instance) as context:
        skipped = daily(context)
    assert isinstance(skipped, dg.SkipReason)
    assert "is still under way" in skipped.skip_message


@pytest.mark.slow
def test_a_request_that_came_to_other_data_than_were_there_then_is_not_repeated_for_ever(
    sensor, data, careful, run
):
    append(data, 3000)
    assert sensor.settle().count("run") == 1
    append(data)  # while its run is under way, which trains with this row, too
    assert run().success
    assert "run" not in sensor.later(61).settle()


def test_a_clock_that_was_set_back_is_no_reason_to_wait_for_it(sensor, data):
    append(data, 3000)
    assert sensor.settle().count("run") == 1
    sensor.later(-7200)  # the request lies two hours ahead
    assert "looks in 60 s" in sensor.tick()
    assert sensor.later(61).settle().count("run") == 1


def predict(engine: sa.Engine, at: datetime, number: int, **inputs: float) -> str:
    milliseconds = f"{int(at.timestamp() * 1000):012x}"
    id_ = f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{number:012x}"
    values = {
        column.name: 0
        for column in predictions.c
        if isinstance(column.type, sa.Integer | sa.Double) and not column.nullable
    }
    texts = {column.name: "" for column in predictions.c if isinstance(column.type, sa.String)}
    with engine.begin() as connection:
        connection.execute(
            predictions.insert().values(
                {**values, **texts, "id": id_, "time": at, "forecast": NAME, "inputs": inputs, "features": {}}
            )
        )
    return id_


def test_the_next_prediction_to_fall_due_is_the_oldest_without_an_outcome(home, careful):
    now = datetime.now(UTC)
    yearly = careful.model_copy(update={"target": careful.target.model_copy(update={"due_days": 365.0})})
    with serving_database() as engine:
        assert next_due(engine, yearly, now.timestamp(), 7) is None
        first = predict(engine, now - timedelta(days=363), 1)
        predict(engine, now - timedelta(days=360), 2)
        predict(engine, now - timedelta(days=366), 3)  # overdue
        assert next_due(engine, yearly, now.timestamp(), 7) == pytest.approx(2, abs=1e-3)
        assert next_due(engine, yearly, now.timestamp(), 1) is None
        with engine.begin() as connection:
            connection.execute(
                outcomes.insert().values(
                    id="1",
                    forecast=NAME,
                    subject=first,
                    revision=1,
                    prediction_id=first,
                    value=1,
                    observed_at=now,
                    received_at=now,
                    caller="",
                )
            )
        assert next_due(engine, yearly, now.timestamp(), 7) == pytest.approx(5, abs=1e-3)


def test_an_input_may_say_when_a_prediction_falls_due(home, careful):
    now = datetime.now(UTC)
    target = careful.target.model_copy(update={"due_days": None, "due_input": "num_images"})
    by_input = careful.model_copy(update={"target": target})
    with serving_database() as engine:
        predict(engine, now - timedelta(days=3), 1, num_images=2)  # overdue
        predict(engine, now - timedelta(days=1), 2, num_images=4)
        predict(engine, now, 3, num_images=5)
        assert next_due(engine, by_input, now.timestamp(), 7) == pytest.approx(3, abs=1e-3)
        assert next_due(engine, by_input, now.timestamp(), 2) is None


def test_only_what_a_rule_asks_about_is_read(trained, careful):
    found = gather(careful, time.time())
    assert (found.version, found.model_age_days, found.due_in_days) == (1, None, None)
    rules = Retraining(model_age_days=1, before_due_days=1)
    found = gather(careful.model_copy(update={"retraining": rules}), time.time() + 86_400)
    assert found.model_age_days == pytest.approx(1, abs=0.2)


def test_a_database_that_does_not_answer_stops_no_tick(sensor, data, monkeypatch):
    monkeypatch.setenv("VROOM_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert half_a_minute_later(sensor).tick().startswith("no change")
