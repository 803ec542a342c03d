"""Parameters of several values: chosen by inner folds, and by nothing else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vroom_assets.spec import Candidate, Family, Kind, Validation
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.folds import RowStructure, outer_splits
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.models import CandidateError
from vroom_assets.training.search import search, tuned_candidates
from vroom_assets.training.tuning import tune_on_all

REGRESSION = METRIC_SETS[Kind.REGRESSION]
VALIDATION = Validation(folds=3, repeats=2, inner_folds=2, seed=1)
ROWS = 120


def line(**parameters: object) -> Candidate:
    return Candidate(family=Family.LINEAR, features=["x"], parameters=parameters)


WEAK_OR_STRONG = line(alpha=[10_000.0, 0.001], fit_intercept=[False, True])
CANDIDATES = {
    "line": WEAK_OR_STRONG,
    "forest": Candidate(
        family=Family.FOREST, features=["x"], parameters={"n_estimators": 3, "min_samples_leaf": [1, 40]}
    ),
    "both": Candidate(family=Family.AVERAGE, members=["line", "forest"]),
    "plain": line(alpha=1.0),
}


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.uniform(0, 3, ROWS)})
    return frame, 10 + 3 * frame["x"].to_numpy() + rng.normal(0, 0.5, ROWS)


def test_of_every_combination_the_best_on_inner_folds_is_chosen(world):
    tuned = tune_on_all(CANDIDATES, *world, VALIDATION, REGRESSION, RowStructure(ROWS))
    assert tuned.candidates["line"].chosen == {"alpha": 0.001, "fit_intercept": True}
    assert tuned.candidates["line"].values == {"alpha": 0.001, "fit_intercept": True}
    assert tuned.candidates["plain"].values == {"alpha": 1.0}
    assert tuned.candidates["plain"].chosen == {}
    assert len(tuned.tried) == 4 + 2
    for name in ("line", "forest"):
        tried = tuned.tried[tuned.tried["candidate"] == name]
        assert tried["chosen"].sum() == 1
        assert tried.loc[tried["chosen"], "mae"].item() == tried["mae"].min()
    assert "alpha 0.001, fit_intercept True" in set(tuned.tried["parameters"])


@given(st.integers(0, 1_000))
@settings(max_examples=10)
def test_what_is_chosen_inside_a_fold_does_not_know_the_fold(world, seed):
    frame, target = world
    rows = RowStructure(ROWS)
    outer = outer_splits(rows, VALIDATION)
    split = outer[seed % len(outer)]
    changed = target.copy()
    changed[split.test] = np.random.default_rng(seed).normal(0, 1_000, len(split.test))
    one, other = (
        tuned_candidates(frame, values, [split], CANDIDATES, VALIDATION, REGRESSION, rows)
        for values in (target, changed)
    )
    assert one == other


def test_the_search_scores_each_fold_with_the_values_that_were_chosen_without_it(world):
    frame, target = world
    found = search(frame, target, CANDIDATES, VALIDATION, REGRESSION)
    rows = RowStructure(ROWS)
    outer = outer_splits(rows, VALIDATION)
    tuned = tuned_candidates(frame, target, outer, CANDIDATES, VALIDATION, REGRESSION, rows)
    assert len(tuned) == len(outer) == 6
    for split in outer:
        models = fit_all(
            tuned[split.repeat, split.fold], frame.iloc[split.train], target[split.train], VALIDATION.seed
        )
        mine = found.out_of_fold.query("repeat == @split.repeat and fold == @split.fold")
        for name, model in models.items():
            predicted = mine[mine["candidate"] == name].set_index("row")["prediction"]
            assert (predicted[split.test] == model.predict(frame.iloc[split.test])).all()
    again = search(frame, target, CANDIDATES, VALIDATION, REGRESSION)
    assert (again.nested == found.nested).all()


def test_one_value_is_what_it_is_without_a_list(world):
    frame, target = world
    listed = tune_on_all(
        {"one": line(alpha=[2.0])}, frame, target, VALIDATION, REGRESSION, RowStructure(ROWS)
    )
    assert listed.candidates["one"].values == {"alpha": 2.0}
    assert listed.tried.empty
    models = [
        fit_all({"one": one}, frame, target, 1)["one"] for one in (listed.candidates["one"], line(alpha=2.0))
    ]
    assert (models[0].predict(frame) == models[1].predict(frame)).all()


def test_a_combination_that_cannot_be_fitted_is_named(world):
    frame, target = world
    gamma = Candidate(
        family=Family.BOOSTING, features=["x"], parameters={"loss": ["squared_error", "gamma"], "max_iter": 3}
    )
    with pytest.raises(
        CandidateError, match="candidate some with loss gamma: loss gamma is for targets above 0"
    ):
        tune_on_all({"some": gamma}, frame, target - 20, VALIDATION, REGRESSION, RowStructure(ROWS))


def test_values_that_were_chosen_are_no_part_of_what_is_declared():
    chosen = WEAK_OR_STRONG.with_values({"alpha": 0.001, "fit_intercept": True})
    assert chosen.model_dump() == WEAK_OR_STRONG.model_dump()
    assert [one.chosen_words for one in chosen.variants] == ["alpha 0.001, fit_intercept True"]
