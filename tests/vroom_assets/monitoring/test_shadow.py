"""A new champion is compared with the version before it on the same requests, and only what is worse is called so."""

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bundles import FORECAST, inputs
from tests.support.succession import predictions, promote, with_error
from tests.support.tiny import input_field
from vroom_api.contract import MODEL, Kind, bundle_folder
from vroom_assets.champion import publication
from vroom_assets.monitoring import shadow
from vroom_assets.monitoring.shadow import (
    NoSuccession,
    State,
    SuccessorVerdict,
    counted,
    inputs_of,
    largest_gain,
    paired,
    succession,
)
from vroom_assets.training.metrics import METRIC_SETS


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))


def watch_successor(spec, rows: pd.DataFrame, **given) -> SuccessorVerdict:
    return shadow.watch_successor(spec, lambda _: rows, **given)


def soon(days: float = 6.0) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_a_worse_successor_is_called_so_with_its_figures(spec):
    promote(1)
    pointer = promote(2, scale=1.5)
    found = watch_successor(spec, predictions(1000, 2, 1.5), now=soon())
    assert (found.state, found.successor, found.predecessor, found.generation) == (
        State.WORSE,
        2,
        1,
        pointer.generation,
    )
    assert found.numbers["rows"] == 1000
    assert found.numbers["loss"] > found.numbers["predecessor_loss"]
    assert found.numbers["log_evidence"] > found.numbers["log_evidence_needed"] == pytest.approx(np.log(20))
    assert "on the same 1,000 requests whose outcomes are known" in found.sentence


@pytest.mark.parametrize(("before", "after"), [(1.0, 1.0), (1.5, 1.0)], ids=["equal", "better"])
def test_what_is_not_worse_stays(spec, before, after):
    promote(1, before)
    promote(2, after)
    found = watch_successor(spec, predictions(1000, 2, after), now=soon())
    assert (found.state, found.is_worse) == (State.OPEN, False)
    assert found.numbers["loss"] <= found.numbers["predecessor_loss"]


def test_a_loss_that_a_refresh_may_have_is_tolerated(spec):
    promote(1, **with_error(100.0))  # of which 1 % is more than the two differ by
    promote(2, 1.2)
    found = watch_successor(spec, predictions(1000, 2, 1.2), now=soon())
    assert found.state is State.OPEN
    assert found.numbers["tolerated"] == pytest.approx(1.0)
    assert 0 < found.numbers["loss"] - found.numbers["predecessor_loss"] < 1.0


def test_evidence_that_was_there_once_is_not_lost_by_later_rows(spec):
    promote(1)
    promote(2, scale=1.5)
    rows = predictions(1000, 2, 1.5)
    early = watch_successor(spec, rows[:500], now=soon()).numbers["log_evidence"]
    late = watch_successor(spec, rows, now=soon()).numbers["log_evidence"]
    assert late >= early > 0


def test_rows_of_other_versions_without_an_outcome_or_with_a_part_of_it_do_not_count(spec):
    promote(1)
    promote(2, scale=1.5)
    rows = predictions(40, 2, 1.5)
    rows.loc[:9, "version"] = 1
    rows.loc[10:19, "exposure"] = 0.5
    rows.loc[20:29, "outcome"] = np.nan
    found = counted(succession(FORECAST), rows, soon(14))
    assert found["id"].tolist() == rows["id"].tolist()[30:]


def test_of_an_entity_a_prediction_counts_once_the_outcome_of_the_one_before_is_known(spec):
    promote(1)
    promote(2)
    rows = predictions(6, 2, 1.0, days=6.0)
    rows["entity_id"] = ["a", "a", "b", "a", None, None]
    rows["outcome_at"] = rows["time"] + pd.Timedelta(days=2)
    kept = counted(succession(FORECAST), rows, soon(14))
    assert kept["id"].tolist() == [rows["id"][number] for number in (0, 2, 3, 4, 5)]


def test_rows_of_one_group_count_as_one(spec):
    grouped = spec.model_copy(
        update={"validation": spec.validation.model_copy(update={"group": "technology"})}
    )
    promote(1)
    promote(2, scale=1.5)
    rows = predictions(30, 2, 1.5, days=1.0).assign(tag_technology=["x"] * 20 + ["y"] * 10)
    pairs = paired(grouped, succession(FORECAST), rows)
    assert sum(map(len, pairs.windows)) == 2
    assert pairs.rows == 30


def test_other_texts_of_the_same_training_are_the_same_successor(spec):
    promote(1)
    promote(2, 1.5, training="second")
    promote(3, 1.5, training="second", title="Bookings")
    found = succession(FORECAST)
    assert (found.successors, found.replaced.version) == ({2, 3}, 1)
    rows = pd.concat([predictions(500, 2, 1.5), predictions(500, 3, 1.5, seed=6)], ignore_index=True)
    assert watch_successor(spec, rows, now=soon()).successor == 3
    assert watch_successor(spec, rows, now=soon()).numbers["rows"] == 1000


def test_nothing_is_compared_before_anything_was_replaced(spec):
    rows = predictions(3, 1, 1.0)
    assert "no version serves" in watch_successor(spec, rows).sentence
    promote(1)
    found = watch_successor(spec, rows)
    assert (found.state, found.numbers) == (State.NONE, {})
    assert "no other version served before 1" in found.sentence


def test_what_somebody_went_back_or_forward_to_is_not_compared(spec):
    promote(1)
    promote(2, 1.5)
    for version in (1, 2):
        publication.restore(FORECAST, version, {}.__getitem__)
        with pytest.raises(NoSuccession, match=f"version {version} serves again"):
            succession(FORECAST)
    promote(3)
    assert succession(FORECAST).replaced.version == 2


def test_a_retired_forecast_is_not_compared(spec):
    promote(1)
    promote(2)
    publication.retire(FORECAST, "the series ended")
    assert watch_successor(spec, predictions(3, 2, 1.0)).state is State.NONE


def test_the_requests_of_the_declared_days_count_whenever_their_outcomes_come(spec):
    promote(1)
    promote(2, 1.5)
    late = predictions(500, 2, 1.5)
    late["outcome_at"] = late["time"] + pd.Timedelta(days=300)
    assert watch_successor(spec, late, now=soon(310)).state is State.WORSE
    asked_late = predictions(500, 2, 1.5, begin=soon(15).isoformat())
    found = watch_successor(spec, asked_late, now=soon(30))
    assert (found.state, found.numbers) == (State.OPEN, {"rows": 0.0})


def test_it_ends_when_the_outcomes_of_these_days_are_due(spec):
    assert spec.target.due_after_days == 365
    promote(1)
    promote(2, 1.5)
    rows = predictions(500, 2, 1.5)
    assert watch_successor(spec, rows, now=soon(14 + 364.9)).state is State.WORSE
    found = watch_successor(spec, rows, now=soon(14 + 365.1))
    assert (found.state, found.is_worse) == (State.OVER, False)
    by_input = spec.model_copy(
        update={"target": spec.target.model_copy(update={"window_days": None, "due_input": "description"})}
    )
    assert watch_successor(by_input, rows, now=soon(999)).state is State.WORSE


def test_no_days_switch_it_off(spec):
    promote(1)
    promote(2, 1.5)
    never = spec.model_copy(update={"monitoring": spec.monitoring.model_copy(update={"shadow_days": 0})})
    found = watch_successor(never, predictions(500, 2, 1.5), now=soon())
    assert (found.state, found.sentence) == (State.NONE, "reservations: monitoring.shadow_days is 0")


def test_without_outcomes_it_stays_open(spec):
    promote(1)
    promote(2, 1.5)
    rows = predictions(10, 2, 1.5)
    found = watch_successor(spec, rows[:0], now=soon())
    assert (found.state, found.numbers) == (State.OPEN, {"rows": 0.0})
    assert "no outcome of a request since then is known yet" in found.sentence


def test_a_version_before_that_cannot_answer_says_so(spec):
    promote(1, inputs=[*inputs(), input_field("seats", 1, 9)][-6:])
    promote(2)
    found = watch_successor(spec, predictions(10, 2, 1.0), now=soon())
    assert found.state is State.OPEN
    assert "version 1 could answer none of 10 requests" in found.sentence


def test_a_damaged_version_before_is_named(spec):
    promote(1)
    promote(2)
    (bundle_folder(FORECAST, 1) / MODEL).write_bytes(b"another")
    found = watch_successor(spec, predictions(10, 2, 1.0), now=soon())
    assert found.state is State.NONE
    assert "cannot be compared, because it is damaged" in found.sentence


def test_of_older_versions_nothing_has_to_be_there(spec):
    for version in (1, 2, 3):
        promote(version)
    shutil.rmtree(bundle_folder(FORECAST, 1))
    assert succession(FORECAST).replaced.version == 2


def test_a_label_free_estimate_may_decide_in_place_of_outcomes(spec):
    promote(1)
    promote(2, 1.5)
    rows = predictions(500, 2, 1.5).assign(outcome=np.nan, exposure=0.0, outcome_at=pd.NaT)
    found = watch_successor(
        spec, rows, now=soon(), estimate=lambda manifest, prediction: manifest.version + 0 * prediction
    )
    assert (found.state, found.numbers["loss"], found.numbers["predecessor_loss"]) == (State.WORSE, 2.0, 1.0)


def test_a_missing_column_is_named(spec):
    promote(1)
    promote(2)
    with pytest.raises(ValueError, match="reservations: the rows have no column outcome, outcome_at"):
        watch_successor(spec, predictions(3, 2, 1.0).drop(columns=["outcome", "outcome_at"]))


def test_rows_are_asked_for_only_where_a_promotion_is_to_be_compared(spec):
    promote(1)
    assert shadow.watch_successor(spec, lambda _: pytest.fail("read for nothing")).state is State.NONE


def test_an_input_that_was_left_out_is_none():
    rows = pd.DataFrame({"input_a": [1.0, np.nan], "input_b": [None, "x"], "b": [1, 2]})
    assert inputs_of(rows) == [{"a": 1.0, "b": None}, {"a": None, "b": "x"}]


count = st.floats(0, 50)
share = st.floats(0, 1)


@given(count, count, st.integers(0, 500))
def test_absolute_errors_differ_at_most_by_as_much_as_the_predictions(one, other, outcome):
    _assert_bounded(Kind.COUNT, one, other, outcome)


@given(share, share, st.integers(0, 1))
def test_squared_errors_of_probabilities_differ_at_most_by_their_squares(one, other, outcome):
    _assert_bounded(Kind.BINARY, one, other, outcome)


def _assert_bounded(kind: Kind, one: float, other: float, outcome: int) -> None:
    loss = METRIC_SETS[kind].row_loss
    first, second, seen = np.array([one]), np.array([other]), np.array([float(outcome)])
    difference = abs(loss(seen, first) - loss(seen, second))
    assert difference[0] <= largest_gain(kind, first, second)[0] + 1e-12
