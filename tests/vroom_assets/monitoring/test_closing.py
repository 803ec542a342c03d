"""Windows are summarized once, of what does not repeat itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from tests.support.predictions import database, made, outcomes_at, predict
from tests.support.tiny import changed, van
from tests.support.vans import bookings
from vroom_api.contract import Manifest
from vroom_assets.monitoring import closing, feedback, record
from vroom_assets.monitoring.closing import latest_end, summaries, summarize_closed
from vroom_assets.monitoring.warehouse import prepare
from vroom_assets.spec import ForecastSpec

DAY0 = datetime(2026, 1, 1)


@pytest.fixture(scope="module")
def spec() -> ForecastSpec:
    """A forecast of ten days, with windows of a day."""
    declared = bookings({"price": {"type": "number"}})
    return declared.model_copy(update={"target": declared.target.model_copy(update={"due_days": 10.0})})


@pytest.fixture
def manifest() -> Manifest:
    return van()[1]


@pytest.fixture
def warehouse(home) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(home / "warehouse.duckdb") as connection:
        prepare(connection)
        yield connection


def at(day: float) -> datetime:
    return DAY0 + timedelta(days=day)


def close(
    warehouse: duckdb.DuckDBPyConnection, spec: ForecastSpec, manifest: Manifest, day: float
) -> list[tuple[int, int, int]]:
    """Run at a time: rows predicted, observed and in part, of each window until then."""
    with database() as engine:
        record.copy_predictions(warehouse, engine, spec.name, at(day))
        record.copy_outcomes(warehouse, engine, spec.name, at(day))
    feedback.join(warehouse, spec, at(day))
    summarize_closed(warehouse, spec, {manifest.version: manifest}, at(day))
    return [(one.predicted, one.observed, one.partial) for one in summaries(warehouse, [manifest.version])]


def test_a_window_closes_with_a_moment_for_what_is_being_committed():
    assert latest_end(60, datetime(2026, 1, 1, 13, 0, 4)) == datetime(2026, 1, 1, 12)
    assert latest_end(60, datetime(2026, 1, 1, 13, 0, 5, tzinfo=UTC)) == datetime(2026, 1, 1, 13)


def test_predictions_count_where_they_were_made_and_outcomes_where_they_arrived(warehouse, spec, manifest):
    one, two = made(at(0.1), manifest), made(at(1.2), manifest)
    predict(one)
    assert close(warehouse, spec, manifest, 0.5) == []
    predict(two)
    assert close(warehouse, spec, manifest, 1.5) == [(1, 0, 0)]
    outcomes_at([(at(2.5), 4.0, one.id), (at(2.6), 4.0, two.id)], spec.name)
    assert close(warehouse, spec, manifest, 4.0) == [(1, 0, 0), (1, 0, 0), (0, 2, 0)]
    assert close(warehouse, spec, manifest, 9.0) == [(1, 0, 0), (1, 0, 0), (0, 2, 0)]


def test_of_an_entity_the_latest_prediction_of_a_window_counts_and_none_that_says_nothing_new(
    warehouse, spec, manifest
):
    predict(
        made(at(0.1), manifest, entity_id="12", inputs=[30.0, 60.0, 1.0]),
        made(at(0.2), manifest, entity_id="12", inputs=[40.0, 60.0, 1.0]),
        made(at(0.3), manifest, entity_id="13", inputs=[40.0, 60.0, 1.0]),
        made(at(1.1), manifest, entity_id="12", inputs=[40.0, 60.0, 1.0]),
        made(at(2.1), manifest, entity_id="12", inputs=[50.0, 60.0, 1.0]),
        made(at(2.2), manifest, inputs=[50.0, 60.0, 1.0]),
        made(at(2.3), manifest, inputs=[50.0, 60.0, 1.0]),
    )
    assert close(warehouse, spec, manifest, 4.0) == [(2, 0, 0), (3, 0, 0)]


def test_of_an_entity_one_outcome_counts_for_the_same_horizon(warehouse, spec, manifest):
    horizon = 10 * 86_400
    start = datetime.fromtimestamp((at(0).replace(tzinfo=UTC).timestamp() // horizon + 1) * horizon, UTC)
    first = (start.replace(tzinfo=None) - DAY0) / timedelta(days=1)
    mine = [made(at(first + day), manifest, entity_id="12") for day in (0.5, 1.5, 12.5)]
    predict(*mine)
    outcomes_at([(at(first + 20 + number), 4.0, one.id) for number, one in enumerate(mine)], spec.name)
    assert [observed for _, observed, _ in close(warehouse, spec, manifest, first + 30)][-2:] == [1, 1]


def test_a_part_of_an_outcome_counts_in_the_window_in_which_it_was_found(warehouse, spec, manifest):
    one = made(at(0.1), manifest, entity_id="12")
    predict(one)
    close(warehouse, spec, manifest, 0.5)
    for day, outcome, exposure in ((2.5, 1.0, 0.25), (4.5, 2.0, 0.5), (10.5, 3.0, 1.0)):
        warehouse.execute(
            "insert or replace into monitoring.derived values (?, ?, ?, ?)",
            [one.id, outcome, exposure, at(day)],
        )
        close(warehouse, spec, manifest, day + 1)
    assert close(warehouse, spec, manifest, 12) == [(1, 0, 0), (0, 0, 1), (0, 0, 1), (0, 1, 0)]


def test_windows_of_another_length_go_on_where_the_others_ended(warehouse, spec, manifest):
    hours = [made(at(0.02 + number / 24), manifest) for number in range(36)]
    predict(*hours[:26])
    assert close(warehouse, spec, manifest, 1.1) == [(24, 0, 0)]
    hourly = spec.model_copy(
        update={"monitoring": spec.monitoring.model_copy(update={"window_minutes": 180.0})}
    )
    predict(*hours[26:])
    assert close(warehouse, hourly, manifest, 2) == [(24, 0, 0), *[(3, 0, 0)] * 4]
    assert close(warehouse, spec, manifest, 2.5) == [(24, 0, 0), *[(3, 0, 0)] * 4]


def test_each_version_has_its_own_windows_and_unknown_ones_none(warehouse, spec, manifest):
    predict(made(at(0.1), manifest), made(at(0.2), changed(manifest, version=4)))
    assert close(warehouse, spec, manifest, 2) == [(1, 0, 0)]
    assert summaries(warehouse, [4]) == []


def test_who_is_stopped_between_two_windows_goes_on(warehouse, spec, manifest, monkeypatch):
    predict(*(made(at(0.1 + day), manifest) for day in range(3)))
    real, done = closing.summarize, []

    def stopped(*given: object) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(given)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(closing, "summarize", stopped)
    with pytest.raises(KeyboardInterrupt):
        close(warehouse, spec, manifest, 5)
    monkeypatch.setattr(closing, "summarize", real)
    assert close(warehouse, spec, manifest, 5) == [(1, 0, 0)] * 3
