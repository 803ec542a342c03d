"""Each gate stops a challenger, and says which figure and which limit."""

import msgspec
import pytest

from vroom_api.contract import Scores
from vroom_assets.champion.gates import failed_gates
from vroom_assets.spec import Gates

GOOD = Scores(
    error="mae",
    select="poisson_deviance",
    nested={"mae": 0.9, "poisson_deviance": 0.8, "bias": 0.01},
    cv_mean={},
    cv_std={},
    folds=[],
    baselines={
        "mean": {"mae": 1.0, "poisson_deviance": 1.0},
        "median": {"mae": 1.0, "poisson_deviance": 1.1},
    },
    coverage={"overall": 0.905, "lower_tercile": 0.95, "middle_tercile": 0.88, "upper_tercile": 0.87},
)
TARGET_MEAN = 6.4


def with_(**parts: object) -> Scores:
    """The sound scores, with entries of some parts in place of theirs."""
    given = {
        name: getattr(GOOD, name) | value if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    return msgspec.structs.replace(GOOD, **given)


def test_a_sound_challenger_passes():
    assert failed_gates(GOOD, TARGET_MEAN, Gates()) == []
    assert failed_gates(with_(loss_over_reference=0.0), TARGET_MEAN, Gates(reference="plain")) == []


@pytest.mark.parametrize(
    ("scores", "failure"),
    [
        (with_(coverage={"overall": 0.87}), "coverage of the 90 % interval is 0.870, not within 0.88-0.94"),
        (with_(coverage={"overall": 0.95}), "coverage of the 90 % interval is 0.950, not within 0.88-0.94"),
        (with_(coverage={"upper_tercile": 0.83}), "coverage in the upper tercile is 0.830, below 0.84"),
        (
            with_(baselines={"median": {"mae": 0.89}}),
            "mae over median: no better than that baseline (-0.011)",
        ),
        (with_(nested={"bias": -0.5}), "mean error is 7.8% of the mean target, more than"),
        (with_(nested={"calibration_error": 0.2}), "calibration error is 0.200, more than"),
        (with_(loss_over_reference=0.5), "error is 50.00% above that of plain, more than"),
        (with_(fallback_coverage={"overall": 0.5}), "coverage of the fallback's 90 % interval is 0.500"),
        (None, "train again"),
    ],
)
def test_each_gate_stops_a_challenger_and_says_why(scores, failure):
    (message,) = failed_gates(scores, TARGET_MEAN, Gates(reference="plain"))
    assert failure in message


@pytest.mark.parametrize(
    "scores",
    [
        with_(coverage={"overall": 0.88, "lower_tercile": 0.84}),
        with_(coverage={"overall": 0.94}),
        msgspec.structs.replace(GOOD, coverage={}),  # of a probability there is none
        with_(nested={"bias": -0.0499 * TARGET_MEAN, "calibration_error": 0.04}),
        with_(loss_over_reference=0.01),
        with_(fallback_coverage={"overall": 0.88}),
    ],
)
def test_a_limit_itself_is_passed(scores):
    assert failed_gates(scores, TARGET_MEAN, Gates(reference="plain")) == []


def test_what_only_equals_a_baseline_is_stopped():
    (message,) = failed_gates(with_(baselines={"median": {"mae": 0.9}}), TARGET_MEAN, Gates())
    assert "no better than that baseline (+0.000)" in message


def test_a_mean_target_of_nothing_has_no_share_of_it():
    assert failed_gates(with_(nested={"bias": 3.0}), 0.0, Gates()) == []


def test_too_high_a_mean_is_as_wrong_as_too_low_a_one():
    for bias in (0.5, -0.5):
        assert len(failed_gates(with_(nested={"bias": bias}), TARGET_MEAN, Gates())) == 1
        assert len(failed_gates(with_(nested={"bias": bias}), -TARGET_MEAN, Gates())) == 1


def test_all_that_is_wrong_is_said_at_once():
    wrong = with_(nested={"bias": -0.5}, coverage={"overall": 0.5, "lower_tercile": 0.5})
    assert len(failed_gates(wrong, TARGET_MEAN, Gates())) == 3


def test_a_figure_has_one_name_wherever_it_is_shown():
    flat = with_(train={"mae": 0.5}, loss_over_reference=0.02, fallback_error=1.5).flat()
    assert flat["nested_mae"] == 0.9
    assert flat["skill_mae_over_median"] == pytest.approx(0.1)
    assert flat["coverage_overall"] == 0.905
    assert flat["train_mae"] == 0.5
    assert flat["loss_over_reference"] == 0.02
    assert flat["fallback_mae"] == 1.5
