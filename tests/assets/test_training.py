"""Cross-validation, choice and calibration."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_poisson_deviance

from vroom_assets.spec import Candidate, Family, Kind, Validation
from vroom_assets.training import MEASURES, calibrate, choose, poisson_deviance, reference, search, splits

COUNT = MEASURES[Kind.COUNT]
VALIDATION = Validation(folds=3, repeats=2, inner_folds=2, seed=1)
CANDIDATES = {
    "shallow": Candidate(
        family=Family.FOREST, features=["x"], parameters={"n_estimators": 10, "max_depth": 1}
    ),
    "good": Candidate(
        family=Family.FOREST, features=["x"], parameters={"n_estimators": 20, "min_samples_leaf": 10}
    ),
}


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.uniform(0, 3, 400), "noise": rng.uniform(0, 1, 400)})
    return frame, rng.poisson(np.exp(frame["x"])).astype(float)


@pytest.fixture(scope="module")
def found(world):
    return search(*world, CANDIDATES, VALIDATION, COUNT)


@given(st.integers(10, 200), st.integers(2, 5), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_every_row_is_tested_once_a_repeat_and_never_trained_on_there(rows, folds, seed):
    for repeat in range(2):
        mine = [split for split in splits(rows, folds, 2, seed) if split.repeat == repeat]
        assert sorted(np.concatenate([split.test for split in mine])) == list(range(rows))
        assert all(not set(split.test) & set(split.train) for split in mine)


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    assert all(
        (a.test == b.test).all() for a, b in zip(splits(50, 5, 2, 1), splits(50, 5, 2, 1), strict=True)
    )
    assert any(
        (a.test != b.test).any() for a, b in zip(splits(50, 5, 2, 1), splits(50, 5, 2, 2), strict=True)
    )


def test_baselines_stand_in_every_report(found):
    assert set(found.fold_metrics["candidate"]) == {"shallow", "good", "mean", "median"}
    assert len(found.fold_metrics) == 4 * 3 * 2


def test_the_choice_is_the_lowest_mean_and_never_a_baseline(found):
    means = found.fold_metrics.groupby("candidate")["poisson_deviance"].mean()
    assert found.chosen == means[["shallow", "good"]].idxmin() == "good"
    best_baseline = pd.DataFrame({"candidate": ["a", "mean"], "poisson_deviance": [2.0, 1.0]})
    assert choose(best_baseline, ["a"], "poisson_deviance") == "a"


def test_nested_predictions_are_those_of_the_inner_choice(found):
    assert len(found.nested_choices) == VALIDATION.folds
    expected = found.out_of_fold.query("repeat == 0")
    for fold, choice in enumerate(found.nested_choices):
        rows = expected[(expected["candidate"] == choice) & (expected["fold"] == fold)]
        assert (found.nested[rows["row"]] == rows["prediction"]).all()


def test_a_feature_that_says_nothing_has_no_importance(found):
    assert found.importances["noise"] == 0.0
    assert found.importances["x"] > 1.0


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 50)), min_size=1, max_size=30))
def test_poisson_deviance_agrees_with_scikit_learn(pairs):
    target, prediction = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    assert poisson_deviance(target, prediction) == pytest.approx(
        mean_poisson_deviance(target, prediction), abs=1e-9
    )


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
        covered = np.mean([low <= y <= high for (low, high), y in zip(bounds, fresh_target, strict=True)])
        assert level - 0.04 <= covered <= level + 0.08
    assert calibration.coverage["overall"] == pytest.approx(0.9, abs=0.04)


@given(st.floats(0.0, 1000.0), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_intervals_are_ordered_integers_from_zero_and_wider_at_higher_levels(prediction, one, other):
    calibration = calibrate(*over_dispersed(300, 2), np.arange(300) % 5, COUNT)
    narrow, wide = (calibration.interval(prediction, level) for level in sorted((one, other)))
    assert 0 <= narrow[0] <= narrow[1]
    assert float(narrow[0]).is_integer()
    assert (
        wide[1] - wide[0] >= narrow[1] - narrow[0] - 1
    )  # an empty interval is widened to one integer or two


def test_the_reference_counts_every_row_once():
    few = reference("f", "f", np.array([0.0, 1.0, 1.0, 2.0]))
    assert few.shares == [0.25, 0.5, 0.25]
    many = reference("f", "f", np.random.default_rng(0).normal(size=1000))
    assert sum(many.shares) == pytest.approx(1.0)
    assert len(many.shares) == len(many.edges) + 1 == 10
