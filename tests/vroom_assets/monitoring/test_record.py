"""The record is copied into the warehouse exactly once, whatever comes between."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from tests.support import databases
from tests.support.predictions import made
from tests.support.record import store
from tests.support.tiny import changed, van
from vroom_api.contract.benchmark import BENCHMARK_TAG
from vroom_api.contract.tables import open_database, predictions
from vroom_api.record.outcomes import Outcome, receive
from vroom_assets.monitoring import record

_, MANIFEST = van()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


url, engine = databases.url, databases.engine


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        yield connection


def ids(warehouse: duckdb.DuckDBPyConnection) -> list[str]:
    return [
        one for (one,) in warehouse.execute("select id from monitoring.predictions order by id").fetchall()
    ]


def copy(warehouse: duckdb.DuckDBPyConnection, engine: sa.Engine, now: datetime = LATER) -> int:
    return record.copy_predictions(warehouse, engine, MANIFEST.forecast, now)


def test_each_prediction_is_copied_once_as_it_was_recorded(engine, warehouse):
    first = made(NOON, MANIFEST, entity_id="12", tags={"city": "Graz"}, features=[float("nan"), 1.5])
    store(engine, first)
    assert (copy(warehouse, engine), copy(warehouse, engine)) == (1, 0)
    second = made(NOON + timedelta(seconds=1), MANIFEST)
    store(engine, second)
    assert copy(warehouse, engine) == 1
    assert ids(warehouse) == [first.id, second.id]
    row = warehouse.execute("from monitoring.predictions order by id limit 1").df().iloc[0]
    assert (row.made_at, row.version, row.entity_id, row.prediction) == (
        NOON.replace(tzinfo=None),
        3,
        "12",
        6.0,
    )
    assert (row.inputs, row.tags) == ('{"price":30,"usual_price":35,"photos":1}', '{"city":"Graz"}')
    assert row.features == '{"photos":null,"ratio":1.5}'


def test_other_forecasts_are_left_out(engine, warehouse):
    store(engine, made(NOON, changed(MANIFEST, forecast="other")), made(NOON, MANIFEST))
    assert copy(warehouse, engine) == 1


def test_predictions_of_a_benchmark_are_left_out(engine, warehouse):
    measured = [made(NOON, MANIFEST, tags={BENCHMARK_TAG: "1"}) for _ in range(3)]
    asked = made(NOON, MANIFEST, tags={"city": "Graz"})
    store(engine, *measured, asked, made(NOON, MANIFEST))
    assert copy(warehouse, engine) == 2
    assert not set(ids(warehouse)) & {one.id for one in measured}


def test_what_is_committed_late_or_by_a_clock_that_is_behind_is_found(engine, warehouse):
    store(engine, made(NOON, MANIFEST))
    copy(warehouse, engine)
    store(engine, made(NOON - timedelta(minutes=9), MANIFEST))
    assert copy(warehouse, engine) == 1


def test_an_id_of_the_future_hides_nothing(engine, warehouse):
    store(engine, made(NOON + timedelta(days=400), MANIFEST))
    assert copy(warehouse, engine, now=NOON) == 1
    store(engine, made(NOON + timedelta(hours=1), MANIFEST))
    assert copy(warehouse, engine, now=NOON + timedelta(hours=2)) == 1
    counted = warehouse.execute("select max(counted_at) from monitoring.predictions").fetchone()
    assert counted == (NOON.replace(tzinfo=None) + timedelta(hours=1),)


def test_what_the_record_deletes_stays(engine, warehouse):
    store(engine, made(NOON, MANIFEST))
    copy(warehouse, engine)
    with engine.begin() as connection:
        connection.execute(predictions.delete())
    assert copy(warehouse, engine) == 0
    assert len(ids(warehouse)) == 1


def test_it_goes_in_pieces(engine, warehouse, monkeypatch):
    monkeypatch.setattr(record, "PIECE", 7)
    store(engine, *(made(NOON + timedelta(seconds=number), MANIFEST) for number in range(50)))
    assert copy(warehouse, engine) == 50
    assert len(ids(warehouse)) == 50


def test_every_revision_of_an_outcome_is_kept(engine, warehouse):
    one = made(NOON, MANIFEST)
    store(engine, one)
    for value, correction in ((4.0, False), (5.0, True)):
        receive(engine, [Outcome(value=value, prediction_id=one.id, correction=correction)], "shop")
    receive(engine, [Outcome(value=7, forecast="bookings", entity_id="12", period="2026-Q1")], "shop")
    now = datetime.now(UTC)
    assert record.copy_outcomes(warehouse, engine, "bookings", now) == 3
    assert record.copy_outcomes(warehouse, engine, "bookings", now) == 0
    found = warehouse.execute(
        "select outcome, revision, prediction_id, entity_id, period from monitoring.outcomes order by id"
    ).fetchall()
    assert found == [
        (4.0, 1, one.id, None, None),
        (5.0, 2, one.id, None, None),
        (7.0, 1, None, "12", "2026-Q1"),
    ]


def killed_between_pieces(database: str, warehouse: Path) -> None:
    """Copy, and be gone after some pieces: one is in the warehouse, and what notes it is not committed."""
    pieces = iter(range(10))
    note = record.note

    def doomed(*given: object) -> None:
        note(*given)  # type: ignore[arg-type]
        if next(pieces) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    record.PIECE, record.note = 5, doomed  # type: ignore[assignment]
    with duckdb.connect(warehouse) as connection:
        record.copy_predictions(connection, sa.create_engine(database), MANIFEST.forecast, LATER)


def test_who_is_killed_between_copy_and_commit_copies_nothing_twice_and_leaves_nothing_out(tmp_path):
    url = f"sqlite:///{tmp_path / 'serving.db'}"
    engine = open_database(url)
    store(engine, *(made(NOON + timedelta(minutes=number), MANIFEST) for number in range(60)))
    path = tmp_path / "warehouse.duckdb"
    process = multiprocessing.get_context("spawn").Process(target=killed_between_pieces, args=(url, path))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with duckdb.connect(path) as warehouse:
        assert len(ids(warehouse)) == 15
        assert copy(warehouse, engine) == 45
        assert len(ids(warehouse)) == 60
