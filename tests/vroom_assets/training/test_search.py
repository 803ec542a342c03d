"""Cross-validation, choice and calibration."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, mean_poisson_deviance, roc_auc_score

from vroom_assets.spec import Candidate, Curve, Family, Kind, Validation
from vroom_assets.training import models
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.folds import RowStructure, TooFewRows, splits
from vroom_assets.training.metrics import METRIC_SETS, poisson_deviance
from vroom_assets.training.search import search
from vroom_assets.training.summary import reference, scores

COUNT = METRIC_SETS[Kind.COUNT]
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
@settings(max_examples=25)
def test_every_row_is_tested_once_a_repeat_and_never_trained_on_there(rows, folds, seed):
    for repeat in range(2):
        mine = [split for split in splits(RowStructure(rows), folds, 2, seed) if split.repeat == repeat]
        assert sorted(np.concatenate([split.test for split in mine])) == list(range(rows))
        assert all(not set(split.test) & set(split.train) for split in mine)


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    assert all(
        (a.test == b.test).all()
        for a, b in zip(splits(RowStructure(50), 5, 2, 1), splits(RowStructure(50), 5, 2, 1), strict=True)
    )
    assert any(
        (a.test != b.test).any()
        for a, b in zip(splits(RowStructure(50), 5, 2, 1), splits(RowStructure(50), 5, 2, 2), strict=True)
    )


def test_baselines_stand_in_every_report(found):
    assert set(found.fold_metrics["candidate"]) == {"shallow", "good", "mean", "median"}
    assert len(found.fold_metrics) == 4 * 3 * 2


def test_the_best_candidate_is_chosen(found):
    means = found.fold_metrics.groupby("candidate")["poisson_deviance"].mean()
    assert found.chosen == means[["shallow", "good"]].idxmin() == "good"


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


def test_the_reference_counts_every_row_once():
    few = reference("f", "f", np.array([0.0, 1.0, 1.0, 2.0]))
    assert few.shares == [0.25, 0.5, 0.25]
    many = reference("f", "f", np.random.default_rng(0).normal(size=1000))
    assert sum(many.shares) == pytest.approx(1.0)
    assert len(many.shares) == len(many.edges) + 1 == 10


# Forward in time

HISTORY = Validation(folds=3, repeats=2, inner_folds=2, order="at", blocks=3)


def arranged(rows: int, seed: int, *, grouped: bool = False) -> RowStructure:
    """Rows at times of a year, each with a target that is known 1 to 60 days later."""
    rng = np.random.default_rng(seed)
    times = np.datetime64("2024-01-01", "us") + rng.integers(0, 365 * 86_400, rows).astype("timedelta64[s]")
    known = times + rng.integers(1, 60 * 86_400, rows).astype("timedelta64[s]")
    return RowStructure(rows, rng.integers(0, 30, rows) if grouped else None, times, known)


@given(rows=st.integers(200, 400), seed=st.integers(0, 99), grouped=st.booleans())
@settings(max_examples=40)
def test_every_target_that_is_learnt_from_was_known_when_the_block_began(rows, seed, grouped):
    row_structure = arranged(rows, seed, grouped=grouped)
    found = splits(row_structure, 3, 2, seed, blocks=3)
    assert len({split.repeat for split in found}) == (2 if grouped else 1)
    for split in found:
        assert row_structure.known[split.train].max() <= row_structure.times[split.test].min()
        if grouped:
            assert not set(row_structure.groups[split.train]) & set(row_structure.groups[split.test])
    tested = np.concatenate([split.test for split in found if split.repeat == 0])
    assert len(np.unique(tested)) == len(tested)
    first = np.sort(row_structure.times)[rows // 4]
    assert set(tested) <= set(np.flatnonzero(row_structure.times >= first))
    assert len(tested) >= rows // 2


def test_a_history_too_short_to_learn_from_says_what_to_do():
    row_structure = arranged(60, 1)
    late = RowStructure(60, None, row_structure.times, row_structure.times + np.timedelta64(400, "D"))
    with pytest.raises(TooFewRows, match="declare fewer `blocks`"):
        splits(late, 3, 1, 0, blocks=3)
    together = RowStructure(60, None, np.repeat(row_structure.times[:1], 60), row_structure.known)
    with pytest.raises(TooFewRows, match="all rows have the same time"):
        splits(together, 3, 1, 0, blocks=3)


def test_a_search_forward_in_time_is_judged_by_the_later_rows_alone(world):
    frame, target = world
    row_structure = arranged(len(frame), 3)
    found = search(frame, target, CANDIDATES, HISTORY, COUNT, rows=row_structure)
    assert 0.4 * len(frame) < len(found.predicted) < 0.8 * len(frame)
    assert row_structure.times[found.predicted].min() >= np.sort(row_structure.times)[len(frame) // 4]
    figures = scores(found, target, COUNT, reference="shallow")
    assert figures.nested["mae"] == pytest.approx(
        np.abs(target[found.predicted] - found.nested[found.predicted]).mean()
    )
    assert figures.loss_over_reference is not None
    assert figures.loss_over_reference < 0


# Probabilities


@pytest.fixture(scope="module")
def chances() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"x": rng.normal(size=2_000), "noise": rng.normal(size=2_000)})
    chance = 1 / (1 + np.exp(-1.5 * frame["x"].to_numpy()))
    return frame, (rng.uniform(size=2_000) < chance).astype(float)


def test_the_measures_of_probabilities_are_those_of_scikit_learn(chances):
    frame, target = chances
    prediction = 1 / (1 + np.exp(-frame["x"].to_numpy().round(1)))
    measured = {name: score(target, prediction) for name, score in METRIC_SETS[Kind.BINARY].metrics.items()}
    assert measured["brier"] == pytest.approx(brier_score_loss(target, prediction))
    assert measured["log_loss"] == pytest.approx(log_loss(target, prediction))
    assert measured["auc"] == pytest.approx(roc_auc_score(target, prediction))
    assert 0 < measured["calibration_error"] < 0.1
    assert METRIC_SETS[Kind.BINARY].metrics["calibration_error"](target, target) == 0


@pytest.mark.parametrize("curve", list(Curve))
def test_a_calibrated_candidate_is_calibrated_where_its_model_is_not(chances, curve):
    frame, target = chances
    sure = Candidate(
        family=Family.BINARY_BOOSTING,
        features=["x", "noise"],
        parameters={"max_iter": 200, "learning_rate": 0.3, "min_samples_leaf": 2},
    )
    candidates = {"sure": sure, "calibrated": sure.model_copy(update={"calibration": curve})}
    models = fit_all(candidates, frame[:1_000], target[:1_000], 0)
    measure = METRIC_SETS[Kind.BINARY].metrics["calibration_error"]
    errors = {name: measure(target[1_000:], model.predict(frame[1_000:])) for name, model in models.items()}
    assert errors["calibrated"] < 0.06 < errors["sure"]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_a_prediction_that_is_not_finite_is_the_worst_by_every_measure(kind, wrong):
    target = np.array([0.0, 1.0, 1.0])
    metric_set = METRIC_SETS[kind]
    for name, measure in metric_set.metrics.items():
        found = measure(target, np.array([0.5, wrong, 0.5]))
        assert found == (-np.inf if name in metric_set.higher else np.inf)


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate(family=Family.FOREST, features=["x", "noise"], parameters={"n_estimators": 12}),
        Candidate(family=Family.POISSON_BOOSTING, features=["x", "noise"], parameters={"max_iter": 30}),
        Candidate(
            family=Family.POISSON_EBM, features=["x", "noise"], parameters={"outer_bags": 2, "max_rounds": 40}
        ),
    ],
    ids=lambda candidate: candidate.family,
)
def test_several_cores_give_the_model_of_one(world, candidate, monkeypatch):
    monkeypatch.setattr(models, "MANY_ROWS", 100)
    predicted = []
    for cores in ("1", "2"):
        monkeypatch.setenv("VROOM_TRAINING_CORES", cores)
        model = fit_all({"one": candidate}, *world, seed=1)["one"]
        predicted.append(model.predict(world[0]))
    assert (predicted[0] == predicted[1]).all()


def test_few_rows_are_fitted_on_one_core(monkeypatch):
    monkeypatch.setenv("VROOM_TRAINING_CORES", "8")
    assert models.cores_for(models.MANY_ROWS - 1) == 1
    assert models.cores_for(models.MANY_ROWS) == 8
