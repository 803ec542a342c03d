"""A correction keeps what intervals promise, and a revision is whole, of its model, and in force or not."""

import threading
from math import ceil, floor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bundles import FORECAST, publish
from tests.support.calibrations import correct, go_back, revision
from vroom_api.contract import Calibration, Reliability, Spread, calibrations, read_manifest
from vroom_api.contract.bundle import MANIFEST, bundle_folder, forecast_folder
from vroom_api.contract.calibrations import (
    IN_FORCE,
    CalibrationError,
    CalibrationMoved,
    Correction,
    read_in_force,
    revision_file,
    revision_of,
)
from vroom_api.contract.manifest import Manifest

PLAIN = {
    "probabilities": [0.0, 0.05, 0.5, 0.95, 1.0],
    "quantiles": [-2.0, -1.3, 0.1, 1.7, 3.1],
    "coverage": {},
}
NUMBERS = {
    "count": Calibration(power=0.5, integer=True, minimum=0.0, **PLAIN),
    "regression": Calibration(power=0.75, integer=False, minimum=None, **PLAIN),
    "spread": Calibration(
        power=0.0,
        integer=True,
        minimum=0.0,
        spread=Spread(predictions=[1.0, 2.5, 7.0], sizes=[0.3, 1.1, 0.9]),
        **PLAIN,
    ),
}
SHARES = Calibration(
    power=0.0,
    integer=False,
    minimum=0.0,
    reliability=Reliability(
        edges=[0.2, 0.5], rows=[40, 0, 17], yes=[3.0, 0.0, 12.0], predicted=[0.1, 0.3, 0.8]
    ),
    **PLAIN | {"probabilities": [], "quantiles": []},
)
FACTORS = st.floats(0.1, 10)
CORRECTIONS = st.builds(Correction, lower=FACTORS, upper=FACTORS, intercept=st.floats(-10, 10), slope=FACTORS)
LEVELS = st.lists(st.floats(0.5, 0.99), min_size=2, max_size=2).map(sorted)


@pytest.mark.parametrize("name", NUMBERS)
@given(correction=CORRECTIONS, prediction=st.floats(0, 1e6), levels=LEVELS)
def test_corrected_intervals_keep_what_intervals_promise(
    name: str, correction: Correction, prediction: float, levels: list[float]
) -> None:
    corrected = correction.calibration(NUMBERS[name])
    narrow, wide = (corrected.interval(prediction, level) for level in levels)
    # Of a count, the interval holds the whole numbers inside the one around the prediction.
    least = 1.0 if corrected.integer else 1e-9 * max(prediction, 1.0)
    for one in (narrow, wide):
        assert one.low - least <= prediction <= one.high + least
        assert one.low <= one.high
        if corrected.minimum is not None:
            assert one.low >= corrected.minimum
        if corrected.integer:
            assert isinstance(one.low, int)
            assert isinstance(one.high, int)
    # Where no whole number is inside, the two around the prediction are given, of a bundle's own intervals too.
    if not (corrected.integer and (narrow.low, narrow.high) == (floor(prediction), ceil(prediction))):
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high


@given(correction=CORRECTIONS, given_values=st.lists(st.floats(0, 1), min_size=1), levels=LEVELS)
def test_corrected_probabilities_keep_what_probabilities_promise(
    correction: Correction, given_values: list[float], levels: list[float]
) -> None:
    calibration = correction.calibration(SHARES)
    ordered = np.array(sorted(given_values))
    corrected = correction.probabilities(ordered)
    assert ((corrected >= 0) & (corrected <= 1)).all()
    assert (np.diff(corrected) >= 0).all()
    for value in corrected.tolist():
        narrow, wide = (calibration.interval(value, level) for level in levels)
        assert 0 <= narrow.low <= value <= narrow.high <= 1
        assert wide.low <= narrow.low + 1e-12
        assert wide.high >= narrow.high - 1e-12


@pytest.mark.parametrize("name", [*NUMBERS, "shares"])
@given(
    correction=CORRECTIONS,
    predictions=st.lists(st.floats(0, 1) | st.floats(0, 1e6) | st.sampled_from([0.2, 0.5, 1.0, 2.5, 7.0])),
    level=st.sampled_from([0.5, 0.9, 0.99]),
)
def test_corrected_bounds_of_many_are_the_intervals_of_each(
    name: str, correction: Correction, predictions: list[float], level: float
) -> None:
    calibration = correction.calibration((NUMBERS | {"shares": SHARES})[name])
    low, high = calibration.bounds(np.array(predictions, dtype=np.float64), level)
    each = [calibration.interval(one, level) for one in predictions]
    assert low.tolist() == [one.low for one in each]
    assert high.tolist() == [one.high for one in each]


@pytest.mark.parametrize("name", [*NUMBERS, "shares"])
@given(prediction=st.floats(0, 1), level=st.sampled_from([0.5, 0.9, 0.99]))
def test_a_correction_by_nothing_changes_nothing(name: str, prediction: float, level: float) -> None:
    plain = (NUMBERS | {"shares": SHARES})[name]
    one, other = (
        plain.interval(prediction, level),
        Correction().calibration(plain).interval(prediction, level),
    )
    np.testing.assert_allclose([other.low, other.high], [one.low, one.high], rtol=1e-12)


def test_the_half_widths_are_multiplied_each_by_its_own() -> None:
    plain = NUMBERS["regression"]
    before = plain.interval(16.0, 0.9)
    after = Correction(lower=0.5, upper=2.0).calibration(plain).interval(16.0, 0.9)
    assert 16 - after.low == pytest.approx(0.5 * (16 - before.low))
    assert after.high - 16 == pytest.approx(2.0 * (before.high - 16))


@given(correction=CORRECTIONS, value=st.floats(0.01, 0.99))
def test_the_probability_of_the_model_is_found_again(correction: Correction, value: float) -> None:
    corrected = correction.probabilities(np.array([value]))
    if 1e-6 < corrected[0] < 1 - 1e-6:
        np.testing.assert_allclose(correction.of_model(corrected), [value], rtol=1e-6)


def manifest_of(home: Path, version: int) -> Manifest:
    path = bundle_folder(FORECAST, version, home) / MANIFEST
    return read_manifest(path.read_bytes(), str(path))


def test_numbers_ascend_within_the_forecast_and_the_latest_is_in_force(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    assert read_in_force(FORECAST, tmp_path) is None
    first, second = correct(tmp_path, FORECAST, upper=1.4), correct(tmp_path, FORECAST, upper=1.5)
    publish(tmp_path, 2)
    third = correct(tmp_path, FORECAST, upper=1.6)
    assert [(one.version, one.number) for one in (first, second, third)] == [(1, 1), (1, 2), (2, 3)]
    assert revision_of(manifest_of(tmp_path, 2), FORECAST, tmp_path) == third
    assert calibrations.revisions(FORECAST, tmp_path) == {1: first, 2: second, 3: third}


def test_a_revision_of_another_model_is_passed_over(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    made = correct(tmp_path, FORECAST, upper=1.4)
    publish(tmp_path, 2)
    assert revision_of(manifest_of(tmp_path, 2), FORECAST, tmp_path) is None
    assert revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path) == made


def test_the_same_model_in_other_words_keeps_its_revision(tmp_path: Path) -> None:
    publish(tmp_path, 1, scale=1.0)
    made = correct(tmp_path, FORECAST, upper=1.4)
    publish(tmp_path, 2, scale=1.0, title="Bookings per listing")
    assert revision_of(manifest_of(tmp_path, 2), FORECAST, tmp_path) == made


def test_one_goes_back_to_an_earlier_one_and_to_none(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    first = correct(tmp_path, FORECAST, upper=1.4)
    correct(tmp_path, FORECAST, upper=1.5)
    go_back(tmp_path, FORECAST, 1)
    assert revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path) == first
    go_back(tmp_path, FORECAST, None)
    assert revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path) is None
    assert correct(tmp_path, FORECAST, upper=1.7).number == 3
    with pytest.raises(CalibrationError, match="there is no calibration revision 9"):
        go_back(tmp_path, FORECAST, 9)


def test_of_two_at_once_one_wins(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    given_revision = revision(tmp_path, FORECAST, upper=1.4)
    won: list[int] = []
    lost: list[str] = []

    def run() -> None:
        try:
            won.append(calibrations.publish(FORECAST, given_revision, generation=0, root=tmp_path).number)
        except CalibrationMoved as error:
            lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]
    assert len(lost) == 4
    assert "was put in force or taken back meanwhile" in lost[0]


@pytest.mark.parametrize(
    "numbers", [{"upper": 11.0}, {"lower": 0.0}, {"slope": -1.0}, {"intercept": float("nan")}]
)
def test_numbers_beyond_a_correction_are_refused(tmp_path: Path, numbers: dict[str, float]) -> None:
    publish(tmp_path, 1)
    with pytest.raises(CalibrationError, match=r"not within 0\.1 to 10"):
        correct(tmp_path, FORECAST, **numbers)
    assert read_in_force(FORECAST, tmp_path) is None


def test_one_changed_byte_is_found(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    made = correct(tmp_path, FORECAST, upper=1.4)
    path = revision_file(FORECAST, 1, made.number, tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b"1.4")] ^= 1
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="its SHA-256 is not the published one"):
        revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path)


def test_what_is_half_written_names_nothing(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    correct(tmp_path, FORECAST, upper=1.4)
    path = forecast_folder(FORECAST, tmp_path) / IN_FORCE
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CalibrationError, match="does not name a calibration revision"):
        revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path)
    calibrations.revert(FORECAST, 1, "the pointer was damaged", generation=None, root=tmp_path)
    assert msgspec.structs.asdict(calibrations.numbered(FORECAST, 1, tmp_path))["upper"] == 1.4
    assert revision_of(manifest_of(tmp_path, 1), FORECAST, tmp_path) is not None
