"""Each prediction beside its outcome: late, corrected, of an entity and a period, in part."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from tests.support.predictions import database, made, predict, report
from tests.support.tiny import changed, van
from tests.support.vans import bookings
from vroom_api.contract import Manifest
from vroom_assets.monitoring import feedback, record
from vroom_assets.monitoring.feedback import Joined
from vroom_assets.monitoring.warehouse import CLOSED_UNTIL, note, prepare
from vroom_assets.spec import ForecastSpec

MADE = datetime(2026, 1, 1, 0, 30)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def spec() -> ForecastSpec:
    """A forecast of 90 days."""
    declared = bookings({"price": {"type": "number"}})
    return declared.model_copy(update={"target": declared.target.model_copy(update={"due_days": 90.0})})


@pytest.fixture
def manifest() -> Manifest:
    return changed(van()[1], tags=["city"])


@pytest.fixture
def warehouse(home) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(home / "warehouse.duckdb") as connection:
        prepare(connection)
        yield connection


def join(warehouse: duckdb.DuckDBPyConnection, spec: ForecastSpec, now: datetime = NOW) -> Joined:
    with database() as engine:
        record.copy_predictions(warehouse, engine, spec.name, now)
        record.copy_outcomes(warehouse, engine, spec.name, now)
    return feedback.join(warehouse, spec, now)


def outcome(warehouse: duckdb.DuckDBPyConnection, identifier: str) -> tuple[object, ...] | None:
    return warehouse.execute(
        "select outcome, exposure, origin from monitoring.feedback where id = ?", [identifier]
    ).fetchone()


def test_a_prediction_has_no_outcome_until_one_is_reported(warehouse, spec, manifest):
    one = made(MADE, manifest)
    predict(one)
    joined = join(warehouse, spec)
    assert (joined.predictions, joined.due, joined.outcomes, joined.overdue) == (1, 1, 0, 1)
    assert outcome(warehouse, one.id) == (None, None, None)
    report(4, prediction_id=one.id)
    joined = join(warehouse, spec)
    assert (joined.outcomes, joined.overdue, joined.by_origin) == (1, 0, {"reported": 1})
    assert outcome(warehouse, one.id) == (4.0, 1.0, "reported")


def test_what_is_not_due_is_not_overdue(warehouse, spec, manifest):
    predict(made(MADE, manifest))
    joined = join(warehouse, spec, MADE + timedelta(days=89))
    assert (joined.due, joined.overdue) == (0, 0)


def test_a_correction_counts_and_the_outcome_arrived_when_it_first_did(warehouse, spec, manifest):
    one = made(MADE, manifest)
    predict(one)
    report(4, prediction_id=one.id)
    join(warehouse, spec)
    arrived = warehouse.execute("select outcome_at from monitoring.feedback").fetchone()
    report(5, prediction_id=one.id, correction=True)
    join(warehouse, spec)
    assert outcome(warehouse, one.id) == (5.0, 1.0, "reported")
    assert warehouse.execute("select outcome_at from monitoring.feedback").fetchone() == arrived


def test_an_outcome_that_comes_after_its_window_was_closed_arrives_in_the_one_that_is_open(
    warehouse, spec, manifest
):
    closed = NOW + timedelta(minutes=3)
    note(warehouse, CLOSED_UNTIL, closed.replace(tzinfo=None).isoformat())
    one = made(MADE, manifest)
    predict(one)
    report(4, prediction_id=one.id)
    join(warehouse, spec)
    found = warehouse.execute("select counted_at, outcome_at from monitoring.feedback").fetchone()
    assert found == (closed.replace(tzinfo=None), closed.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("period", "is_joined"),
    [
        ("2026-Q1", True),  # the quarter is 90 days long, and began half an hour before
        ("2026-01-01/2026-03-31", True),
        ("2026-01-05/2026-03-31", True),
        ("2026-01", False),
        ("2026-Q2", False),
        ("2026", False),
        ("the first quarter", False),
    ],
)
def test_an_outcome_of_an_entity_belongs_to_the_prediction_whose_horizon_its_period_is(
    warehouse, spec, manifest, period, is_joined
):
    mine, other = made(MADE, manifest, entity_id="12"), made(MADE, manifest, entity_id="13")
    predict(mine, other)
    report(4, forecast="bookings", entity_id="12", period=period)
    joined = join(warehouse, spec)
    assert (joined.outcomes, joined.unjoined) == ((1, 0) if is_joined else (0, 1))
    assert outcome(warehouse, mine.id) == ((4.0, 1.0, "period") if is_joined else (None, None, None))
    assert outcome(warehouse, other.id) == (None, None, None)


def test_where_nothing_is_counted_a_period_around_the_horizon_is_enough(warehouse, spec, manifest):
    from vroom_api.contract import Kind

    binary = spec.model_copy(update={"target": spec.target.model_copy(update={"kind": Kind.BINARY})})
    one = made(MADE, manifest, entity_id="12")
    predict(one)
    report(1, forecast="bookings", entity_id="12", period="2026")
    assert join(warehouse, binary).outcomes == 1


def test_what_is_reported_by_id_counts_before_what_is_reported_of_a_period_and_that_before_the_sources(
    warehouse, spec, manifest
):
    one = made(MADE, manifest, entity_id="12")
    predict(one)
    join(warehouse, spec)
    warehouse.execute("insert into monitoring.derived values (?, 1.0, 1.0, ?)", [one.id, MADE])
    join(warehouse, spec)
    assert outcome(warehouse, one.id) == (1.0, 1.0, "source")
    report(2, forecast="bookings", entity_id="12", period="2026-Q1")
    join(warehouse, spec)
    assert outcome(warehouse, one.id) == (2.0, 1.0, "period")
    report(3, prediction_id=one.id)
    assert join(warehouse, spec).by_origin == {"reported": 1}
    assert outcome(warehouse, one.id) == (3.0, 1.0, "reported")


def test_rows_are_read_with_inputs_features_and_tags_by_name(warehouse, spec, manifest):
    first = made(MADE, manifest, features=[3.0, float("nan")], tags={"city": "Graz"}, entity_id="12")
    second = made(MADE + timedelta(hours=1), changed(manifest, version=4), features=[2.0, 1.1])
    predict(first, second)
    report(4, prediction_id=first.id)
    join(warehouse, spec)
    rows = feedback.read(warehouse, manifest)
    assert rows["id"].tolist() == [first.id, second.id]
    assert rows["feature_photos"].tolist() == [3.0, 2.0]
    assert rows["feature_ratio"].isna().tolist() == [True, False]
    assert rows["input_price"].tolist() == [30.0, 30.0]
    assert rows["tag_city"].tolist() == ["Graz", None]
    assert rows["due_at"].tolist() == [MADE + timedelta(days=90), MADE + timedelta(days=90, hours=1)]
    assert feedback.read(warehouse, manifest, versions=[4])["id"].tolist() == [second.id]
    assert feedback.read(warehouse, manifest, newest=1)["id"].tolist() == [second.id]
    known = feedback.read(warehouse, manifest, with_outcome=True)
    assert (known["id"].tolist(), known["outcome"].tolist()) == ([first.id], [4.0])
