"""The choice among candidates, by predictions of rows that they had not seen."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_assets.spec import SIMPLEST_FIRST, Candidate, Choice, Family, Kind
from vroom_assets.training.choice import Chosen, choose
from vroom_assets.training.metrics import METRIC_SETS

ROWS = 200
REGRESSION = METRIC_SETS[Kind.REGRESSION]
TARGET = np.zeros(ROWS)
FAMILIES = {
    "blend": Family.AVERAGE,
    "boosting": Family.BOOSTING,
    "forest": Family.FOREST,
    "linear": Family.LINEAR,
    "rule": Family.FEATURE,
}
CANDIDATES = {name: Candidate(family=family) for name, family in FAMILIES.items()}


def chosen(
    errors: dict[str, np.ndarray],
    reference: str | None = None,
    groups: np.ndarray | None = None,
    rule: Choice = Choice.SIMPLEST,
) -> Chosen:
    """The choice among candidates whose predictions are off by so much, in five folds."""
    parts = [
        pd.DataFrame(
            {
                "candidate": name,
                "repeat": 0,
                "fold": np.arange(ROWS) % 5,
                "row": np.arange(ROWS),
                "prediction": error,
            }
        )
        for name, error in {**errors, "mean": np.zeros(ROWS)}.items()
    ]
    mine = {name: CANDIDATES[name] for name in errors}
    return choose(pd.concat(parts, ignore_index=True), TARGET, mine, REGRESSION, reference, groups, rule)


def near(behind: float, noise: float) -> np.ndarray:
    """Errors of 1 and so much more in the mean; so large a standard error does the mean have."""
    swing = noise * np.sqrt(ROWS - 1)
    return 1 + behind + np.where(np.arange(ROWS) // 5 % 2, swing, -swing)


BEST = np.ones(ROWS)


@pytest.mark.parametrize(
    ("errors", "reference", "name"),
    [
        ({"blend": BEST, "linear": near(0.05, 0.06), "boosting": near(0.01, 0.06)}, None, "linear"),
        ({"blend": BEST, "linear": near(0.07, 0.06), "boosting": near(0.05, 0.06)}, None, "boosting"),
        ({"blend": BEST, "linear": near(0.07, 0.06), "boosting": near(0.07, 0.06)}, None, "blend"),
        ({"blend": BEST, "boosting": near(0.02, 0.06), "forest": near(0.01, 0.06)}, None, "forest"),
        ({"linear": BEST, "boosting": near(0.01, 0.06)}, None, "linear"),
        ({"linear": BEST, "boosting": near(0.01, 0.06)}, "boosting", "boosting"),
        ({"linear": BEST, "rule": near(0.01, 0.06), "boosting": near(0.01, 0.06)}, "boosting", "boosting"),
        ({"linear": BEST, "boosting": near(0.07, 0.06)}, "boosting", "linear"),
        ({"linear": BEST, "rule": BEST}, None, "rule"),
        ({"boosting": BEST, "forest": BEST}, None, "boosting"),
    ],
)
def test_the_simplest_within_one_standard_error_of_the_best_is_chosen_the_reference_first(
    errors, reference, name
):
    assert chosen(errors, reference).name == name


def test_why_it_was_chosen_is_a_sentence():
    errors = {"blend": BEST, "linear": near(0.05, 0.06)}
    assert chosen({"blend": BEST}).why == "blend has the lowest mae; nothing else is near"
    assert chosen(errors).why == (
        "linear is simpler than blend, and its mae is within one standard error of the lowest, that of blend: "
        "0.05 ± 0.06 above it"
    )
    assert "linear is the declared reference, and its mae is within" in chosen(errors, "linear").why
    compared = chosen(errors).compared
    assert list(compared.index) == ["blend", "linear"]
    assert compared.loc["linear", ["mae", "behind", "noise"]].tolist() == pytest.approx([1.05, 0.05, 0.06])
    assert compared.loc["blend", ["mae", "behind", "noise"]].tolist() == [1.0, 0.0, 0.0]


def test_the_lowest_mean_is_chosen_where_nothing_is_declared_and_what_is_near_is_named():
    found = chosen(
        {"linear": near(0.05, 0.06), "blend": BEST, "rule": near(1.0, 0.06)}, "linear", rule=Choice.LOWEST
    )
    assert (found.name, found.is_reference) == ("blend", False)
    assert found.why == "blend has the lowest mae; within one standard error of it: linear"


def test_rows_of_a_group_are_one_piece_of_evidence():
    errors = {"blend": BEST, "linear": near(0.05, 0.03)}
    assert chosen(errors).name == "blend"
    assert chosen(errors, groups=np.arange(ROWS) // 5 % 2).name == "linear"


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_one_that_fails_in_a_row_is_not_judged_by_the_others(wrong):
    lucky = np.where(np.arange(ROWS) == 7, wrong, 0.1)
    assert chosen({"rule": lucky, "boosting": BEST}).name == "boosting"
    assert chosen({"rule": lucky}).name == "rule"


def test_every_family_has_one_rank():
    assert sorted(family for rank in SIMPLEST_FIRST for family in rank) == sorted(Family)
    assert [Family.MEAN.rank, Family.LINEAR.rank, Family.FOREST.rank, Family.AVERAGE.rank] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", list(Kind))
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.floats(0.001, 0.999)), min_size=1, max_size=20))
def test_the_metric_that_chooses_is_the_mean_of_its_rows(kind, pairs):
    target, prediction = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    metric_set = METRIC_SETS[kind]
    rows = metric_set.select_loss(target, prediction)
    assert rows.shape == target.shape
    assert rows.mean() == pytest.approx(metric_set.metrics[metric_set.select](target, prediction), abs=1e-9)
