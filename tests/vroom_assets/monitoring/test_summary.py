"""What is kept of a window: counts that add up, whatever the rows are."""

from datetime import timedelta

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.monitored import DAY0, draw, features_of, trained, window, windows
from tests.support.tiny import changed
from vroom_api.contract import Fallback
from vroom_api.contract.decoding import decode
from vroom_assets.monitoring.cells import divided, points, units_of
from vroom_assets.monitoring.summary import Summary
from vroom_assets.monitoring.windows import stacked
from vroom_assets.spec import Monitoring

RULES = Monitoring(segments=["city"])


@pytest.fixture(scope="module")
def champion():
    rng = np.random.default_rng(0)
    tags = pd.DataFrame({"city": rng.choice(["here", "there"], 500)})
    return trained(500, rng, tags=tags)


@pytest.fixture
def frame(champion):
    live = draw(60, np.random.default_rng(1))
    return champion.served(features_of(live), np.asarray(live["reservations"], float), tag_city="here")


def of(champion, predicted, observed=None, rules=RULES):
    return window(champion.manifest, rules, 0, predicted, predicted if observed is None else observed)


def test_a_summary_goes_to_json_and_back(champion, frame):
    found = of(champion, frame)
    written = msgspec.json.encode(found)
    assert decode(written, Summary) == found
    assert len(written) < 4_000


def test_it_counts_every_row_once_in_every_stream(champion, frame):
    found = of(champion, frame)
    assert (found.predicted, found.observed, found.partial) == (60, 60, 0)
    once = {name: sum(one) for name, one in found.counts.items() if not name.startswith("expected:")}
    assert all(
        total == pytest.approx(60, abs=0.01) for name, total in once.items() if name != "segment:city=there"
    )
    assert once["segment:city=there"] == 0
    assert found.sums["loss"] == pytest.approx(np.abs(frame["outcome"] - frame["prediction"]).sum())


def test_summaries_of_parts_add_up_to_that_of_all(champion, frame):
    parts = [of(champion, frame.iloc[:25]), of(champion, frame.iloc[25:])]
    whole = of(champion, frame)
    for name, counts in whole.counts.items():
        if name != "pit":  # drawn within the unit of a count
            total = np.sum([one.counts[name] for one in parts], axis=0)
            assert counts == pytest.approx(total, abs=1e-3)
    assert sum(one.sums["loss"] for one in parts) == pytest.approx(whole.sums["loss"])


def test_the_same_rows_give_the_same_summary(champion, frame):
    assert of(champion, frame) == of(champion, frame.copy())


def test_an_empty_window_is_one_with_nothing_in_it(champion, frame):
    found = of(champion, frame.iloc[:0])
    assert (found.predicted, found.observed) == (0, 0)
    assert {total for counts in found.counts.values() for total in counts} == {0.0}


def test_rows_without_a_number_are_left_out_and_missing_features_are_counted(champion, frame):
    frame = frame.assign(prediction=frame["prediction"].where(np.arange(60) > 4))
    frame["outcome"] = frame["outcome"].where(np.arange(60) < 50)
    frame["num_images"] = np.nan
    found = of(champion, frame)
    assert (found.predicted, found.observed) == (55, 45)
    assert found.counts["feature:num_images"] == [0, 0, 0, 0, 0, 55, 0]
    assert found.counts["covered"][-1] == 55


def test_infinite_values_are_unseen_and_not_an_error(champion, frame):
    found = of(champion, frame.assign(price_diff=np.inf))
    assert found.counts["feature:price_diff"][-1] == 60


def test_partial_horizons_are_compared_and_bring_no_loss(champion, frame):
    half = frame.assign(exposure=0.5, outcome=np.round(frame["prediction"]))
    found = of(champion, frame, half)
    assert (found.observed, found.partial) == (0, 60)
    assert sum(found.counts["loss"]) == 0
    assert found.sums["partial_residual"] == pytest.approx((half["outcome"] - frame["prediction"] / 2).sum())


def test_intervals_of_other_levels_and_without_any_are_not_misses(champion, frame):
    mixed = frame.assign(level=np.where(np.arange(60) < 20, 0.9, 0.5))
    mixed.loc[mixed.index[:5], ["low", "high"]] = np.nan
    assert sum(of(champion, mixed).counts["misses"]) == 15


def test_levels_of_what_a_revision_answered_are_not_judged(champion, frame):
    mixed = frame.assign(calibration=np.where(np.arange(60) < 40, 1.0, np.nan))
    assert sum(of(champion, mixed).counts["pit"]) == 20


def test_what_a_fallback_answered_is_left_out_of_the_errors(champion, frame):
    manifest = champion.manifest
    fallback = Fallback(
        without=["num_images"], description="", recipe=manifest.recipe,
        calibration=manifest.calibration, error=1.0,
    )  # fmt: skip
    frame["num_images"] = np.where(np.arange(60) < 10, np.nan, frame["num_images"])
    found = window(changed(manifest, fallback=fallback), RULES, 0, frame, frame)
    assert sum(found.counts["loss"]) == pytest.approx(50, abs=0.01)
    assert found.observed == 60


def test_rows_of_a_group_count_as_one(champion, frame):
    grouped = frame.assign(group=np.arange(60) % 4)
    found = of(champion, grouped)
    assert found.predicted == 60
    assert [sum(found.counts[name]) for name in ("prediction", "loss")] == pytest.approx([4, 4], abs=0.01)


def test_without_a_reference_rows_are_counted_and_nothing_else(champion, frame):
    manifest = changed(champion.manifest, monitoring=None)
    found = window(manifest, RULES, 0, frame, frame)
    assert (found.predicted, found.counts) == (60, {})


def test_a_missing_column_is_named(champion, frame):
    with pytest.raises(ValueError, match="version 3: the window has no column num_images"):
        of(champion, frame.drop(columns="num_images"))
    with pytest.raises(ValueError, match="no column level"):
        of(champion, frame, frame.drop(columns="level"))


def test_thresholds_leave_a_summary_as_it_is(champion, frame):
    other = RULES.model_copy(update={"growth": 0.5, "bias": 0.5, "distance": 0.5, "false_alarms": 0.2})
    assert of(champion, frame) == of(champion, frame, rules=other)


def test_windows_stand_in_the_order_of_time(champion):
    summaries = windows(champion, 4, 30, np.random.default_rng(2))
    found = stacked(summaries[::-1])
    assert found.end == DAY0 + timedelta(days=4)
    assert found.latest_start == DAY0 + timedelta(days=3)
    assert found.counts["loss"].shape == (4, 33)
    assert found.counts["loss"][0] == pytest.approx(summaries[0].counts["loss"])


def test_windows_of_which_some_lack_a_stream_are_filled_with_nothing(champion):
    full = windows(champion, 1, 30, np.random.default_rng(3))
    bare = Summary(start=DAY0 - timedelta(days=1), end=DAY0)
    found = stacked([*full, bare])
    assert found.counts["loss"][0].sum() == 0
    assert found.stream("nothing", 3).shape == (2, 3)
    assert found.total("nothing").tolist() == [0, 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@settings(max_examples=50)
def test_values_between_points_keep_their_sum(values):
    found = divided(np.array(values), -10.0, 30.0).counts(np.ones(len(values)))
    grid = points() * 40.0 - 10.0
    assert found.sum() == pytest.approx(len(values))
    assert found @ grid == pytest.approx(np.clip(values, -10, 30).sum(), abs=1e-6)
    assert (found >= -1e-12).all()


def test_units_of_groups_add_up_to_the_groups():
    assert units_of(None, 3).tolist() == [1, 1, 1]
    assert units_of(np.array(["a", "b", "a", "a"]), 4) == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])
