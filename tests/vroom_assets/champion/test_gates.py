"""Each gate stops a challenger, and says which figure and which limit."""

import msgspec
import pytest

from tests.support.tiny import changed, van
from vroom_api.contract import Scores
from vroom_assets.champion.gates import failed_gates, failed_shifts
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
        (with_(fallback_coverage={"overall": 0.5}), "coverage of the 90 % interval of the fallback is 0.500"),
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


@pytest.mark.parametrize(
    ("mean", "rows", "failure"),
    [
        (
            12.8,
            1000,
            "the mean target is 12.8, and was 6.4 in the champion's data, a change of 100% where 50%",
        ),
        (2.0, 1000, "the mean target is 2, and was 6.4 in the champion's data"),
        (
            6.4,
            23_000,
            "there are 23000 examples, and were 1000 in the champion's data, 23 times as many where 3",
        ),
        (6.4, 300, "there are 300 examples, and were 1000 in the champion's data, 3.33 times as few where 3"),
    ],
)
def test_data_that_are_unlike_the_champions_are_looked_at_before_they_serve(mean, rows, failure):
    _, manifest = van()
    champion = changed(manifest, target_mean=6.4, rows=1000)
    (message,) = failed_shifts(champion, changed(manifest, target_mean=mean, rows=rows), 5.0, Gates())
    assert failure in message
    assert "where they are right raise gates." in message


def test_data_that_grow_as_data_do_pass():
    _, manifest = van()
    champion = changed(manifest, target_mean=6.4, rows=1000)
    assert failed_shifts(champion, changed(manifest, target_mean=7.1, rows=2500), 5.0, Gates()) == []
    around_zero = changed(manifest, target_mean=0.01, rows=1000)
    assert failed_shifts(around_zero, changed(manifest, target_mean=-0.3, rows=1000), 5.0, Gates()) == []
    wide = Gates(target_shift=2, rows_factor=30)
    assert failed_shifts(champion, changed(manifest, target_mean=12.8, rows=23_000), 5.0, wide) == []


def test_a_figure_has_one_name_wherever_it_is_shown():
    flat = with_(train={"mae": 0.5}, loss_over_reference=0.02, fallback_error=1.5).flat()
    assert flat["nested_mae"] == 0.9
    assert flat["skill_mae_over_median"] == pytest.approx(0.1)
    assert flat["coverage_overall"] == 0.905
    assert flat["train_mae"] == 0.5
    assert flat["loss_over_reference"] == 0.02
    assert flat["fallback_mae"] == 1.5
