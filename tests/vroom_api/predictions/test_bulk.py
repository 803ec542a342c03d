"""Many rows at once are answered as each is alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_api.contract import Calibration, Reliability, Spread

PLAIN = {
    "probabilities": [0.0, 0.05, 0.5, 0.95, 1.0],
    "quantiles": [-2.0, -1.3, 0.1, 1.7, 3.1],
    "coverage": {},
}
CALIBRATIONS = {
    "roots": Calibration(power=0.5, integer=True, minimum=0.0, **PLAIN),
    "powers": Calibration(power=0.75, integer=False, minimum=None, **PLAIN),
    "alike": Calibration(power=0.0, integer=False, minimum=None, **PLAIN),
    "spread": Calibration(
        power=0.0,
        integer=True,
        minimum=0.0,
        spread=Spread(predictions=[1.0, 2.5, 7.0], sizes=[0.3, 1.1, 0.9]),
        **PLAIN,
    ),
    "one size": Calibration(
        power=0.0, integer=False, minimum=None, spread=Spread(predictions=[1.0], sizes=[0.3]), **PLAIN
    ),
    "shares": Calibration(
        power=0.0,
        integer=False,
        minimum=None,
        reliability=Reliability(
            edges=[0.2, 0.5], rows=[40, 0, 17], yes=[3.0, 0.0, 12.0], predicted=[0.1, 0.3, 0.8]
        ),
        **PLAIN,
    ),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
@given(
    predictions=st.lists(st.floats(0, 1) | st.floats(0, 1e6) | st.sampled_from([0.2, 0.5, 1.0, 2.5, 7.0])),
    level=st.sampled_from([0.5, 0.9, 0.99]),
)
def test_bounds_of_many_are_the_intervals_of_each(name: str, predictions: list[float], level: float) -> None:
    calibration = CALIBRATIONS[name]
    low, high = calibration.bounds(np.array(predictions, dtype=np.float64), level)
    each = [calibration.interval(one, level) for one in predictions]
    assert low.tolist() == [one.low for one in each]
    assert high.tolist() == [one.high for one in each]
