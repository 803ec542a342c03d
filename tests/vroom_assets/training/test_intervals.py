"""How large errors are where, and intervals that follow it."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vroom_api.contract import OLDEST_FORMAT, InputField, Spread, format_of
from vroom_api.contract.manifest import FORMAT, WITH_SPREADS, WITH_TIMES
from vroom_assets.spec import Kind
from vroom_assets.training.intervals import calibrate, spread_of
from vroom_assets.training.metrics import METRIC_SETS

REGRESSION, COUNT = METRIC_SETS[Kind.REGRESSION], METRIC_SETS[Kind.COUNT]
TERCILES = ("lower_tercile", "middle_tercile", "upper_tercile")


def amounts(rows: int, seed: int, growth: float, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Targets and their true means; errors grow with the mean to a power."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(3, 0.8, rows)
    return mean + 0.2 * mean**growth * rng.standard_normal(rows) - shift, mean - shift


def folds(rows: int) -> np.ndarray:
    return np.arange(rows) % 5


@pytest.mark.parametrize("shift", [0.0, 40.0], ids=["positive", "of both signs"])
@pytest.mark.parametrize("growth", [0.5, 1.0, 1.4])
def test_small_and_large_amounts_are_covered_alike(growth, shift):
    calibration = calibrate(*amounts(3000, 0, growth, shift), folds(3000), REGRESSION)
    assert calibration.spread is not None
    assert all(0.86 <= calibration.coverage[tercile] <= 0.94 for tercile in TERCILES)
    target, prediction = amounts(20_000, 1, growth, shift)
    intervals = [calibration.interval(one, 0.9) for one in prediction.tolist()]
    covered = np.array([one.low <= y <= one.high for one, y in zip(intervals, target, strict=True)])
    order = np.argsort(prediction)
    assert all(0.86 <= covered[part].mean() <= 0.94 for part in np.array_split(order, 3))


def test_where_errors_are_alike_everywhere_nothing_is_learnt_and_older_services_can_read_it():
    calibration = calibrate(*amounts(2000, 0, 0.0), folds(2000), REGRESSION)
    assert calibration.spread is None
    assert calibration.power == 0
    assert format_of([calibration], []) == OLDEST_FORMAT
    growing = calibrate(*amounts(2000, 0, 1.0), folds(2000), REGRESSION)
    assert format_of([calibration, growing], []) == WITH_SPREADS
    time = InputField("at", "time", "", None, None, None, None, 0.0, 1.0, 0.5)
    assert format_of([calibration], [time]) == WITH_TIMES == FORMAT


def test_a_target_that_was_predicted_exactly_has_narrow_intervals():
    target, _ = amounts(200, 0, 1.0)
    interval = calibrate(target, target, folds(200), REGRESSION).interval(20.0, 0.9)
    assert (interval.low, interval.high) == (20.0, 20.0)


@given(st.data())
def test_a_spread_is_a_line_through_its_points_and_level_beyond_them(data):
    points = data.draw(
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12, unique=True).map(sorted), label="points"
    )
    sizes = data.draw(
        st.lists(st.floats(1e-3, 1e6), min_size=len(points), max_size=len(points)), label="sizes"
    )
    assume(min(np.diff(points), default=1.0) > 1e-290)  # NumPy's slope is infinite between closer ones
    at = data.draw(st.floats(-2e6, 2e6) | st.sampled_from(points), label="at")
    assert Spread(points, sizes).at(at) == pytest.approx(np.interp(at, points, sizes), rel=1e-6)


def test_a_spread_is_finite_between_points_that_are_next_to_equal():
    spread = Spread([-1.0, -9.813495205770956e-305, 2.6833898757919078e-304], [1.0, 1.0, 65882.0])
    share = 9.813495205770956 / (9.813495205770956 + 26.833898757919078)
    assert spread.at(0.0) == pytest.approx(1.0 + share * 65881.0)


@given(st.integers(1, 400), st.booleans())
def test_a_spread_of_few_or_equal_rows_has_ascending_points_and_is_above_zero(rows, equal):
    target, prediction = amounts(rows, rows, 1.0)
    found = spread_of(target, np.full(rows, 3.0) if equal else prediction)
    assert found.predictions == sorted(set(found.predictions))
    assert min(found.sizes) > 0


def over_dispersed(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prediction = rng.uniform(1, 10, rows)
    return rng.negative_binomial(2, 2 / (2 + prediction)).astype(float), prediction


def test_intervals_cover_what_they_promise_on_rows_they_were_not_calibrated_on():
    target, prediction = over_dispersed(3000, 0)
    calibration = calibrate(target, prediction, np.arange(3000) % 5, COUNT)
    fresh_target, fresh_prediction = over_dispersed(3000, 1)
    for level in (0.5, 0.8, 0.9, 0.95):
        bounds = [calibration.interval(mu, level) for mu in fresh_prediction]
        covered = np.mean([one.low <= y <= one.high for one, y in zip(bounds, fresh_target, strict=True)])
        assert level - 0.04 <= covered <= level + 0.08
    assert calibration.coverage["overall"] == pytest.approx(0.9, abs=0.04)


def test_counts_whose_errors_grow_with_them_are_covered_alike():
    def counts(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        prediction = np.exp(rng.uniform(1, 6, rows))
        return rng.negative_binomial(8, 8 / (8 + prediction)).astype(float), prediction

    calibration = calibrate(*counts(3000, 0), folds(3000), COUNT)
    assert calibration.spread is not None
    assert all(0.87 <= calibration.coverage[tercile] <= 0.93 for tercile in TERCILES)
    target, prediction = counts(20_000, 1)
    intervals = [calibration.interval(one, 0.9) for one in prediction.tolist()]
    covered = np.array([one.low <= y <= one.high for one, y in zip(intervals, target, strict=True)])
    order = np.argsort(prediction)
    assert all(0.87 <= covered[part].mean() <= 0.93 for part in np.array_split(order, 3))
    assert calibrate(*over_dispersed(3000, 0), folds(3000), COUNT).spread is None


@given(st.floats(0.0, 1000.0), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_intervals_are_ordered_integers_from_zero_and_wider_at_higher_levels(prediction, one, other):
    calibration = calibrate(*over_dispersed(300, 2), np.arange(300) % 5, COUNT)
    narrow, wide = (calibration.interval(prediction, level) for level in sorted((one, other)))
    assert 0 <= narrow.low <= narrow.high
    assert isinstance(narrow.low, int)
    assert isinstance(narrow.high, int)
    # An empty interval is widened to one integer or two.
    assert wide.high - wide.low >= narrow.high - narrow.low - 1


def test_the_interval_of_a_probability_holds_the_share_of_yes_among_those_like_it():
    rng = np.random.default_rng(11)
    true = 1 / (1 + np.exp(-1.5 * rng.normal(size=2000)))
    target = (rng.uniform(size=2000) < true).astype(float)
    calibration = calibrate(target, true, np.arange(len(target)) % 5, METRIC_SETS[Kind.BINARY])
    assert calibration.coverage == {}
    for prediction in np.linspace(0, 1, 21):
        narrow, wide = calibration.interval(prediction, 0.5), calibration.interval(prediction, 0.99)
        assert 0 <= wide.low <= narrow.low <= prediction <= narrow.high <= wide.high <= 1
    held = []
    for seed in range(20):
        again = (np.random.default_rng(seed).uniform(size=len(true)) < true).astype(float)
        found = calibrate(again, true, np.arange(len(true)) % 5, METRIC_SETS[Kind.BINARY])
        assert found.reliability is not None
        for mean in found.reliability.predicted:  # the share that bins of these probabilities tend to
            interval = found.interval(mean, 0.9)
            held.append(interval.low <= mean <= interval.high)
    assert np.mean(held) > 0.85
