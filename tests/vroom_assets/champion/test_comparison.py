"""The contest's arithmetic and its verdicts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_api.contract.events import Decision
from vroom_assets.champion.comparison import (
    Comparison,
    Entrant,
    WentBack,
    compare,
    corrected_t,
    judge,
)
from vroom_assets.spec import Candidate, Contest, Family, Kind, Validation
from vroom_assets.training.folds import RowStructure, outer_splits
from vroom_assets.training.metrics import METRIC_SETS, standard_error
from vroom_assets.training.sampling import DECIDING_ROWS

RULES = Contest()
VALIDATION = Validation(folds=4, repeats=2, seed=3)


def found(relative_gain: float, row_z: float) -> Comparison:
    return Comparison(
        rows=1000,
        champion_error=3.5,
        challenger_error=3.5 * (1 - relative_gain),
        gain=3.5 * relative_gain,
        relative_gain=relative_gain,
        row_z=row_z,
        folds_t=row_z,
        folds_p=0.5,
    )


def constant(name: str, family: Family, rows: int) -> Entrant:
    return Entrant(name, {name: Candidate(family=family)}, pd.DataFrame({"x": np.zeros(rows)}))


@pytest.mark.parametrize(
    ("gain", "z", "same_recipe", "new_data", "verdict"),
    [
        (0.02, 3.0, False, False, Decision.PROMOTE),
        (0.02, 3.0, False, True, Decision.PROMOTE),
        (0.02, 1.0, False, False, Decision.HOLD),  # large, and possibly luck
        (0.004, 3.0, False, False, Decision.HOLD),  # sure, and too small to matter
        (0.0, 0.0, True, True, Decision.REFRESH),
        (-0.009, -1.0, False, True, Decision.REFRESH),
        (-0.011, -1.0, False, True, Decision.HOLD),
        (-0.2, -9.0, False, True, Decision.HOLD),
        (0.0, 0.0, True, False, Decision.HOLD),
        (0.0, 0.0, False, False, Decision.HOLD),
    ],
)
def test_the_verdict_follows_gain_confidence_and_news(gain, z, same_recipe, new_data, verdict):
    assert judge(found(gain, z), RULES, same_recipe=same_recipe, new_data=new_data)[0] is verdict


@pytest.mark.parametrize(
    ("same_recipe", "new_data", "verdict", "reason"),
    [
        (True, False, Decision.REFRESH, "on the same data, under a changed declaration"),
        (False, False, Decision.HOLD, "not proved better"),
        (True, True, Decision.REFRESH, "the champion's own recipe, trained on newer data"),
    ],
)
def test_a_changed_declaration_refreshes_its_own_recipe_alone(same_recipe, new_data, verdict, reason):
    found_verdict, found_reason = judge(
        found(0.0, 0.0), RULES, same_recipe=same_recipe, new_data=new_data, new_declaration=True
    )
    assert found_verdict is verdict
    assert reason in found_reason


def test_the_same_recipe_on_the_same_data_is_nothing_new():
    verdict, reason = judge(found(0.0, 0.0), RULES, same_recipe=True, new_data=False)
    assert (verdict, reason) == (Decision.HOLD, "the same recipe on the same data: nothing new")


def test_the_limits_of_gain_and_loss_are_themselves_allowed():
    assert judge(found(0.005, 3.0), RULES, same_recipe=False, new_data=False)[0] is Decision.PROMOTE
    assert judge(found(-0.01, -1.0), RULES, same_recipe=False, new_data=True)[0] is Decision.REFRESH


def test_every_verdict_gives_its_numbers_as_reason():
    _, reason = judge(found(0.02, 3.0), RULES, same_recipe=False, new_data=False)
    assert "+2.00%" in reason
    assert "3.00 > 1.64" in reason


def test_the_same_recipe_ties_exactly():
    target = np.random.default_rng(0).poisson(5, 80).astype(float)
    comparison = compare(
        constant("mean", Family.MEAN, 80),
        constant("mean", Family.MEAN, 80),
        target,
        VALIDATION,
        METRIC_SETS[Kind.COUNT],
    )
    assert comparison.gain == 0
    assert comparison.row_z == 0


def test_data_that_went_back_are_not_called_newer():
    same = Comparison(100, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    ends = WentBack("2023-12-31T00:00:00", "2024-01-20T00:00:00")
    for same_recipe in (True, False):
        verdict, reason = judge(same, Contest(), same_recipe=same_recipe, new_data=True, went_back=ends)
        assert verdict == Decision.REFRESH
        assert f"which end at {ends.now} and not at {ends.before}" in reason
        assert "newer" not in reason


def test_a_comparison_is_the_mirror_image_of_its_reverse():
    target = np.random.default_rng(1).poisson(5, 120).astype(float)
    mean, median = constant("mean", Family.MEAN, 120), constant("median", Family.MEDIAN, 120)
    there = compare(mean, median, target, VALIDATION, METRIC_SETS[Kind.COUNT])
    back = compare(median, mean, target, VALIDATION, METRIC_SETS[Kind.COUNT])
    assert there.gain == pytest.approx(-back.gain)
    assert there.row_z == pytest.approx(-back.row_z)
    assert there.champion_error == pytest.approx(back.challenger_error)


def test_rows_that_are_never_tested_do_not_count():
    """Forward in time the first part is only learned from; what was known too late is in no fold."""
    days = np.datetime64("2025-01-01") + np.arange(80)
    rows = RowStructure(80, times=days, known=days + 1)
    validation = Validation(folds=2, repeats=1, seed=3, order="day", blocks=3)
    target = np.random.default_rng(1).poisson(5, 80).astype(float)
    mean, median = constant("mean", Family.MEAN, 80), constant("median", Family.MEDIAN, 80)
    found = compare(mean, median, target, validation, METRIC_SETS[Kind.COUNT], rows)
    tested = np.unique(np.concatenate([split.test for split in outer_splits(rows, validation)]))
    assert found.rows == len(tested) < 80


def test_members_and_features_are_part_of_a_recipe():
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    forest = Candidate(family=Family.FOREST, features=["x"])
    average = Candidate(family=Family.AVERAGE, members=["one"])
    one = Entrant("both", {"both": average, "one": forest}, frame)
    renamed = Entrant("all", {"all": average.model_copy(update={"members": ["a"]}), "a": forest}, frame)
    assert one.same_recipe(renamed)
    deeper = forest.model_copy(update={"parameters": {"max_depth": 9}})
    assert not one.same_recipe(Entrant("both", {"both": average, "one": deeper}, frame))
    assert not one.same_recipe(Entrant("one", {"one": forest}, frame))
    assert not one.same_recipe(Entrant("both", one.candidates, frame.assign(x=[1.0, 2.5])))
    assert one.same_recipe(Entrant("both", one.candidates, frame.assign(y=0.0)))  # which it does not read


def test_values_that_the_data_chose_make_no_other_recipe():
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    forest = Candidate(family=Family.FOREST, features=["x"], parameters={"max_depth": [3, 9]})
    one, other = (
        Entrant("forest", {"forest": forest.with_values({"max_depth": depth})}, frame) for depth in (3, 9)
    )
    assert one.same_recipe(other)


def test_rows_of_one_group_tell_less_than_as_many_rows_alone():
    values = np.repeat([1.0, -1.0, 2.0, 0.0], 25)
    groups = np.repeat(np.arange(4), 25)
    assert standard_error(values, None) == pytest.approx(values.std(ddof=1) / 10)
    assert standard_error(values, groups) == pytest.approx(
        np.sqrt(((25 * (np.array([1.0, -1.0, 2.0, 0.0]) - 0.5)) ** 2).sum() * 4 / 3) / 100
    )


def test_rows_of_a_group_that_say_the_same_count_as_one():
    once = np.random.default_rng(1).poisson(5, 40).astype(float)

    def compared(times: int) -> Comparison:
        count = 40 * times
        rows = RowStructure(count, groups=np.repeat(np.arange(40), times))
        mean, median = constant("mean", Family.MEAN, count), constant("median", Family.MEDIAN, count)
        return compare(mean, median, np.repeat(once, times), VALIDATION, METRIC_SETS[Kind.COUNT], rows)

    assert compared(4).gain == pytest.approx(compared(1).gain)
    assert compared(4).row_z == pytest.approx(compared(1).row_z)
    assert compared(1).row_z > 0


def test_differences_without_spread_are_sure_or_nothing():
    assert corrected_t(np.full(4, 0.2), 0.5) == (0.0, 0.0)
    assert corrected_t(np.zeros(4), 0.5) == (0.0, 1.0)


def test_corrected_t_agrees_with_the_published_formula():
    differences = np.array([0.1, 0.3, 0.2, 0.4])
    expected = differences.mean() / np.sqrt(differences.var(ddof=1) * (1 / 4 + 1 / 3))
    statistic, probability = corrected_t(differences, 1 / 3)
    assert statistic == pytest.approx(expected)
    assert 0.0 < probability < 0.5


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20), st.floats(0.05, 1))
def test_the_correction_never_makes_a_difference_look_surer(values, test_share):
    differences = np.array(values)
    corrected, _ = corrected_t(differences, test_share)
    plain, _ = corrected_t(differences, 0.0)
    assert abs(corrected) <= abs(plain) + 1e-12


def test_of_many_rows_a_sample_decides_folded_once():
    rows = 50_000
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(size=rows), "idle": rng.normal(size=rows)})
    target = frame["x"].to_numpy() + rng.normal(size=rows)
    good, idle = (
        Entrant(name, {name: Candidate(family=Family.LINEAR, features=[name])}, frame)
        for name in ("x", "idle")
    )
    comparison = compare(idle, good, target, VALIDATION, METRIC_SETS[Kind.REGRESSION])
    assert comparison.rows == DECIDING_ROWS
    assert comparison.champion_error == pytest.approx(np.sqrt(4 / np.pi), rel=0.02)
    assert comparison.challenger_error == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)
    assert comparison.row_z > 20
