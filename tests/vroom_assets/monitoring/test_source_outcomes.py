"""Outcomes from new rows of the sources, of each of the shipped forecasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from tests.support.forecasts import shipped
from tests.support.predictions import database, made, predict
from tests.support.tiny import input_field, manifest_of
from vroom_assets import settings, sources
from vroom_assets.features.table import note_origin
from vroom_assets.monitoring import feedback, record
from vroom_assets.monitoring.source_outcomes import Derived, derive
from vroom_assets.spec import ForecastSpec

Connection = duckdb.DuckDBPyConnection


def load(warehouse: Connection, spec: ForecastSpec) -> None:
    """Load the sources as they lie in the data folder, as their assets do."""
    for name, source in spec.sources.items():
        path = settings.data_folder() / source.path
        sources.load(warehouse, name, source, [sources.NamedFile(path, source.path)])
        modified = datetime.fromtimestamp(path.stat().st_mtime).isoformat()
        note_origin(warehouse, name, {"snapshot": str(hash(path.read_bytes())), "modified": modified})


def append(data: Path, name: str, rows: list[dict]) -> None:
    """Add rows to a CSV; what they do not name is as in its first row."""
    frame = pd.read_csv(data / name, dtype=str, keep_default_na=False)
    first = frame.iloc[0].to_dict()
    added = pd.DataFrame([first | {column: str(value) for column, value in row.items()} for row in rows])
    pd.concat([frame, added]).to_csv(data / name, index=False)


@contextmanager
def opened(home: Path) -> Iterator[Connection]:
    with duckdb.connect(home / "warehouse.duckdb") as connection:
        yield connection


def watched(warehouse: Connection, spec: ForecastSpec, now: datetime) -> Derived:
    """What the monitoring does with predictions and outcomes, at a time."""
    load(warehouse, spec)
    return again(warehouse, spec, now)


def again(warehouse: Connection, spec: ForecastSpec, now: datetime) -> Derived:
    with database() as engine:
        record.copy_predictions(warehouse, engine, spec.name, now)
    found = derive(warehouse, spec, now)
    feedback.join(warehouse, spec, now)
    return found


def known(warehouse: Connection) -> dict[str, tuple[float, float]]:
    """Outcome and exposure of each prediction that has one, by its id."""
    rows = warehouse.execute(
        "select id, outcome, exposure from monitoring.feedback where outcome is not null"
    )
    return {identifier: (outcome, exposure) for identifier, outcome, exposure in rows.fetchall()}


def reservations_after(moment: datetime, vehicle: int, at_days: list[float], **more: object) -> list[dict]:
    rows = []
    for days in at_days:
        created = moment + timedelta(days=days)
        rows.append({"vehicle_id": vehicle, "created_at": created.isoformat(" ", "seconds")} | more)
    return rows


def test_reservations_of_the_year_after_a_prediction_are_its_outcome(home):
    spec = shipped("reservations")
    manifest = manifest_of([input_field("actual_price", 10, 300)], forecast=spec.name)
    moment = datetime(2024, 3, 5, 9)
    mine, other = (made(moment, manifest, entity_id=entity) for entity in ("7", "8"))
    nobody, unknown = made(moment, manifest), made(moment, manifest, entity_id="no vehicle")
    predict(mine, other, nobody, unknown)
    data = settings.data_folder() / "reservations"
    append(data, "reservations.csv", reservations_after(moment, 7, [1, 30, 100]))
    with opened(home) as warehouse:
        assert watched(warehouse, spec, moment + timedelta(days=101)).outcomes == 2
        # It was found after the window of the day had closed, and counts in it.
        [(arrived,)] = warehouse.execute(
            "select distinct partial_at from monitoring.feedback where exposure < 1"
        ).fetchall()
        assert arrived == datetime(2024, 6, 14) - timedelta(microseconds=1)
        in_part = 100 / 365
        assert known(warehouse) == {
            mine.id: (3.0, pytest.approx(in_part, abs=1e-6)),
            other.id: (0.0, pytest.approx(in_part, abs=1e-6)),
        }
        # The rest of the year comes, and what is after it belongs to no horizon.
        append(data, "reservations.csv", reservations_after(moment, 7, [200, 366]))
        append(data, "reservations.csv", reservations_after(moment, 8, [364]))
        watched(warehouse, spec, moment + timedelta(days=367))
        assert known(warehouse) == {mine.id: (4.0, 1.0), other.id: (1.0, 1.0)}
        again(warehouse, spec, moment + timedelta(days=368))  # that of no vehicle is tried once more
        assert again(warehouse, spec, moment + timedelta(days=369)).why_not.startswith("nothing is new")


def test_a_reported_outcome_stays_whatever_the_sources_say(home):
    from tests.support.predictions import report

    spec = shipped("reservations")
    manifest = manifest_of([input_field("actual_price", 10, 300)], forecast=spec.name)
    moment = datetime(2024, 3, 5, 9)
    mine = made(moment, manifest, entity_id="7")
    predict(mine)
    report(9, prediction_id=mine.id)
    append(
        settings.data_folder() / "reservations", "reservations.csv", reservations_after(moment, 7, [1, 366])
    )
    with opened(home) as warehouse, database() as engine:
        record.copy_outcomes(warehouse, engine, spec.name, datetime.now())
        watched(warehouse, spec, moment + timedelta(days=367))
        assert known(warehouse) == {mine.id: (9.0, 1.0)}


def test_reservations_of_the_next_90_days_are_the_outcome_of_a_prediction_between_quarters(home):
    spec = shipped("upcoming_reservations")
    manifest = manifest_of([input_field("days_listed", 0, 900)], forecast=spec.name)
    moment = datetime(2025, 8, 17, 10, 30)
    mine, other = (made(moment, manifest, entity_id=entity) for entity in ("7", "8"))
    predict(mine, other)
    data = settings.data_folder() / "upcoming_reservations"
    rows = reservations_after(moment, 7, [-1, 1, 45], loaded_at=(moment + timedelta(days=46)).isoformat(" "))
    append(data, "reservations.csv", rows)
    with opened(home) as warehouse:
        watched(warehouse, spec, moment + timedelta(days=46))
        assert known(warehouse)[mine.id] == (2.0, pytest.approx(0.5))
        rows = reservations_after(moment, 7, [89, 91], loaded_at=(moment + timedelta(days=92)).isoformat(" "))
        append(data, "reservations.csv", rows)
        watched(warehouse, spec, moment + timedelta(days=92))
        assert known(warehouse) == {mine.id: (3.0, 1.0), other.id: (0.0, 1.0)}


def test_the_resolution_of_a_market_is_the_outcome_of_what_was_predicted_before(home):
    spec = shipped("market_resolution")
    manifest = manifest_of([input_field("days_left", 0, 100, example=20)], forecast=spec.name)
    data = settings.data_folder() / "market_resolution"
    prices = pd.read_csv(data / "prices.csv")
    last = datetime.fromisoformat(prices["quoted_at"].max())
    markets = pd.read_csv(data / "markets.csv", dtype=str, keep_default_na=False)
    resolved = markets[markets["resolved_at"].between("2024-03-01", "2024-06-01")].iloc[0]
    open_still = markets[markets["resolved_at"] == ""].iloc[0]
    moment = datetime.fromisoformat(resolved["resolved_at"]) - timedelta(days=3)
    before = made(moment, manifest, entity_id=resolved["market_id"])
    after = made(moment + timedelta(days=4), manifest, entity_id=resolved["market_id"])
    unknown = made(last - timedelta(days=2), manifest, entity_id=open_still["market_id"])
    predict(before, after, unknown)
    with opened(home) as warehouse:
        watched(warehouse, spec, last + timedelta(days=1))
        assert known(warehouse) == {before.id: (float(resolved["resolved_yes"]), 1.0)}
        due = warehouse.execute("select due_at from monitoring.feedback where id = ?", [before.id]).fetchone()
        assert due == (moment + timedelta(days=20),)


def test_the_next_lap_of_the_driver_is_the_outcome_of_what_was_predicted_after_the_last_one(home):
    spec = shipped("lap_times")
    manifest = manifest_of([input_field("last_lap", 60, 120)], forecast=spec.name)
    laps = pd.read_csv(settings.data_folder() / "lap_times" / "laps.csv", parse_dates=["loaded_at"])
    race = laps[(laps["session"] == "race") & (laps["circuit"] == laps["circuit"].iloc[-1])]
    race = race[race["season"] == race["season"].max()]
    mine = race[race["driver"] == race["driver"].iloc[0]].sort_values("lap")
    driven = mine["pit_in"] + mine["pit_out"] + mine["safety_car"] == 0
    rows = mine[driven]
    # Four laps one after the other in one stint: predicted after the third, known with the fourth.
    chosen = next(
        part
        for number in range(len(rows) - 3)
        if (part := rows.iloc[number : number + 4])["lap"].diff().iloc[1:].eq(1).all()
        and len(set(part["stint"])) == 1
    )
    third, fourth = chosen.iloc[2], chosen.iloc[3]
    moment = third["loaded_at"].to_pydatetime() + timedelta(seconds=5)
    one = made(moment, manifest, entity_id=third["driver"], value=90.0)
    stranger = made(moment, manifest, entity_id="nobody")
    predict(one, stranger)
    with opened(home) as warehouse:
        watched(warehouse, spec, moment + timedelta(hours=1))
        assert known(warehouse) == {one.id: (fourth["lap_time"], 1.0)}


def test_without_an_entity_or_a_horizon_outcomes_have_to_be_reported(home):
    from tests.support.vans import bookings

    spec = bookings({"price": {"type": "number"}})
    with opened(home) as warehouse:
        assert "does not say when a target is known" in derive(warehouse, spec, datetime.now()).why_not


def test_a_statement_that_cannot_read_predictions_is_named_and_stops_nothing(home):
    spec = shipped("upcoming_reservations").model_copy(
        update={"target_sql": "select example_id, reservations_unheard_of from histories"}
    )
    manifest = manifest_of([input_field("days_listed", 0, 900)], forecast=spec.name)
    predict(made(datetime(2023, 8, 17), manifest, entity_id="7"))
    with opened(home) as warehouse:
        found = watched(warehouse, spec, datetime.now())
        assert "target.sql gives no outcomes of predictions" in found.why_not
        assert "report them to /outcomes" in found.why_not
        assert known(warehouse) == {}
