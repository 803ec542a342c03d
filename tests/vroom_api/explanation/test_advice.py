"""The curve along a lever: what it equals, how far it goes, what it says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny import changed, feature_field, input_field, manifest_of, score_of, van
from vroom_api.contract import Lever
from vroom_api.explanation.advice import Curve, NoAdvice, advise

USUAL_VAN = np.array([60.0, 60.0, 3.0])


def curve(row: np.ndarray = USUAL_VAN, lever: str = "price", **given: Any) -> Curve:
    score, manifest = van()
    return advise(score, manifest, manifest.advice[lever], row, **given)


@given(st.floats(35, 90), st.integers(1, 5), st.integers(2, 200), st.sampled_from([0.5, 0.9, 0.99]))
@settings(max_examples=40)
def test_every_point_is_what_is_predicted_there(usual_price, photos, points, level):
    score, manifest = van()
    found = curve(np.array([usual_price, usual_price, photos]), points=points, level=level)
    assert 1 <= len(found.points) <= points
    for point in found.points:
        prediction = float(score(np.array([[point.value, usual_price, photos]]))[0][0])
        assert point.prediction == pytest.approx(prediction, rel=1e-12)
        interval = manifest.calibration.interval(point.prediction, level)
        assert (point.low, point.high) == (interval.low, interval.high)
        assert point.worth == point.value * point.prediction
        assert (point.worth_low, point.worth_high) == (point.value * point.low, point.value * point.high)


@given(st.floats(35, 90))
@settings(max_examples=40)
def test_the_range_is_that_of_the_lever_and_of_what_is_made_from_it(usual_price):
    found = curve(np.array([usual_price, usual_price, 3.0]), points=41)
    low, high = max(30.0, 0.8 * usual_price), min(170.0, 2.0 * usual_price)
    assert found.supported == pytest.approx((low, high), abs=1e-4)
    values = [point.value for point in found.points]
    assert low - 1e-6 <= values[0] <= low + (high - low) / 100
    assert high - (high - low) / 100 <= values[-1] <= high + 1e-6
    assert values == sorted(set(values))
    assert not any(point.extrapolated for point in found.points)


def test_values_have_no_more_decimals_than_they_need():
    values = [point.value for point in curve(points=13).points]
    assert values == [48, 54, 60, 66, 72, 78, 84, 90, 96, 102, 108, 114, 120]


def test_the_best_is_the_supported_point_worth_most_and_its_neighbours_are_named():
    found = curve()
    assert found.best is not None
    assert found.best.worth == max(point.worth for point in found.points)
    # p · (15.5 - p / 10) is largest at p = 77.5
    assert found.best.value == pytest.approx(77.5, abs=1.0)
    assert found.near_best is not None
    low, high = found.near_best
    assert low < found.best.value < high
    for point in found.points:
        assert (low <= point.value <= high) == (point.worth >= 0.95 * found.best.worth)
    assert not any("lies at the end" in note for note in found.notes)


def test_a_best_at_the_end_of_the_range_is_noted():
    found = curve(between=(48.0, 60.0))
    assert found.best is not None
    assert found.best.value == found.points[-1].value == 60
    assert any("whether revenue keeps rising beyond it is not known" in note for note in found.notes)


def test_the_value_that_was_sent_stands_beside_the_curve():
    found = curve(np.array([60.0, 60.0, 3.0]), between=(70.0, 80.0))
    assert found.current.value == 60
    assert found.current.prediction == pytest.approx(14 - 6 + 1.5)
    assert all(70 <= point.value <= 80 for point in found.points)


def test_it_says_that_it_is_associational():
    found = curve()
    assert found.basis == "associational"
    assert found.notes[0].startswith("Associational, not causal: how bookings differ")


def test_a_van_outside_what_training_saw_gets_no_curve_unless_it_is_asked_for():
    row = np.array([60.0, 60.0, 30.0])
    with pytest.raises(
        NoAdvice,
        match=r"no price brings this van inside .*photos 30: seen in training only 1, 2, 3, 4, 5.*extrapolate: true",
    ):
        curve(row)
    found = curve(row, extrapolate=True)
    assert all(point.extrapolated for point in found.points)
    assert found.current.extrapolated
    assert (found.supported, found.best, found.near_best) == (None, None, None)
    assert any("outside the range seen in training" in note for note in found.notes)


def test_points_outside_support_are_shown_only_when_asked_for_and_flagged():
    assert all(48 <= point.value <= 120 for point in curve(between=(20.0, 200.0)).points)
    found = curve(between=(20.0, 200.0), extrapolate=True)
    assert (found.points[0].value, found.points[-1].value) == (20, 200)
    assert all(point.extrapolated == (not 48 <= point.value <= 120) for point in found.points)
    assert found.best is not None
    assert not found.best.extrapolated


def test_a_price_as_sent_may_be_outside_while_others_are_not():
    found = curve(np.array([130.0, 60.0, 3.0]))
    assert found.current.extrapolated
    assert found.supported == pytest.approx((48, 120), abs=1e-4)


def test_a_range_that_holds_nothing_supported_is_refused():
    with pytest.raises(NoAdvice, match=r"training supports 48 to 120 for this van, which does not overlap"):
        curve(between=(130.0, 150.0))


@pytest.mark.parametrize(
    ("between", "message"),
    [
        ((80.0, 70.0), "from 80 to 70 is empty"),
        ((0.0, 50.0), "from 0 to 50 goes beyond the allowed values of the input"),
        ((50.0, 1001.0), "from 50 to 1001 goes beyond the allowed values of the input"),
        ((float("nan"), 50.0), "is empty"),
    ],
)
def test_a_range_that_the_declaration_does_not_allow_is_refused(between, message):
    with pytest.raises(NoAdvice, match=message):
        curve(between=between, extrapolate=True)


@pytest.mark.parametrize("points", [-1, 0, 1, 201])
def test_the_number_of_points_is_bounded(points):
    with pytest.raises(NoAdvice, match=f"points: {points} is not between 2 and 200"):
        curve(points=points)


def test_a_discrete_lever_takes_its_own_values():
    found = curve(lever="photos")
    assert [point.value for point in found.points] == [1, 2, 3, 4, 5]
    assert found.supported == (1, 5)
    with pytest.raises(NoAdvice, match=r"photos: no value from 2\.2 to 2\.8"):
        curve(lever="photos", between=(2.2, 2.8))


def test_an_integer_lever_takes_whole_numbers():
    score = score_of(["text"], [("half", "Mul", "text", 0.5)], ["text"])
    manifest = manifest_of([input_field("text", 1, 250, type="integer")])
    lever = Lever(input="text", worth="product", unit="", description="")
    found = advise(score, manifest, lever, np.array([10.0]), points=7)
    assert all(point.value.is_integer() for point in found.points)
    assert (found.points[0].value, found.points[-1].value, len(found.points)) == (1, 250, 7)


def test_a_hole_in_what_training_saw_is_left_out_of_the_curve():
    score = score_of(
        ["x"],
        [("off", "Sub", "x", 5.0), ("distance", "Abs", "off"), ("sum", "Add", "x", 1.0)],
        ["distance"],
    )
    manifest = manifest_of([input_field("x", 0, 10)], [feature_field("distance", "abs(x - 5)", ["x"], 2, 5)])
    lever = Lever(input="x", worth="product", unit="", description="")
    values = [point.value for point in advise(score, manifest, lever, np.array([1.0]), points=11).points]
    assert values == [0, 1, 2, 3, 7, 8, 9, 10]
    every = advise(score, manifest, lever, np.array([1.0]), points=11, extrapolate=True).points
    assert [point.value for point in every if point.extrapolated] == [4, 5, 6]


def test_a_range_narrower_than_the_search_is_found_from_the_value_that_was_sent():
    score, manifest = van()
    narrow = changed(
        manifest,
        features=[
            changed(field, seen_minimum=0.9999, seen_maximum=1.0001) if field.name == "ratio" else field
            for field in manifest.features
        ],
    )
    found = advise(score, narrow, manifest.advice["price"], np.array([61.03, 61.03, 3.0]), points=5)
    assert found.supported == pytest.approx((61.03 * 0.9999, 61.03 * 1.0001), abs=1e-5)
    assert len(found.points) == 5


def test_values_without_a_finite_prediction_are_left_out_and_a_row_without_one_is_refused():
    score = score_of(["x"], [("log", "Log", "x")], ["x"])
    manifest = manifest_of([input_field("x", -2, 8)])
    lever = Lever(input="x", worth="product", unit="", description="")
    found = advise(score, manifest, lever, np.array([4.0]), points=11)
    assert [point.value for point in found.points] == [1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(NoAdvice, match="no finite prediction"):
        advise(score, manifest, lever, np.array([-1.0]), points=11)
