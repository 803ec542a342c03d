"""Categories and missing values as numbers that an estimator takes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_assets.spec import Candidate, Family, Validation
from vroom_assets.training import coding
from vroom_assets.training.coding import Coding, Level, Number
from vroom_assets.training.folds import RowStructure, Split
from vroom_assets.training.parallel import Entry, fit_splits

NAN = float("nan")


def fit(family: Family, matrix: list[list[float]], categories: dict[str, int], *optional: str) -> Coding:
    rows = np.array(matrix)
    names = [f"f{number}" for number in range(rows.shape[1])]
    candidate = declared(family, names, categories, *optional)
    return coding.fit(candidate, rows, np.arange(len(rows)) % 2.0, 0).coding


def declared(
    family: Family, features: list[str], categories: dict[str, int], *optional: str, **given: Any
) -> Candidate:
    return Candidate(family=family, features=features, **given).on_features(categories, frozenset(optional))


def test_numbers_that_are_always_there_stay_as_they_are():
    plain = fit(Family.LINEAR, [[1.0, 2.0], [3.0, 4.0]], {})
    assert plain.is_plain
    matrix = np.array([[5.0, 6.0]])
    assert plain.encode(matrix) is matrix


def test_boosting_takes_missing_values_and_categories_itself():
    found = fit(Family.BOOSTING, [[NAN, 0.0], [1.0, 2.0]], {"f1": 3}, "f0")
    assert found.parts == (Number(None), Level(3))
    assert (found.is_plain, found.levels) == (True, [1])


def test_a_missing_number_is_the_median_and_says_so():
    found = fit(Family.FOREST, [[1.0], [NAN], [2.0], [9.0]], {})
    assert found.encode(np.array([[NAN], [4.0]])).tolist() == [[2.0, 1.0], [4.0, 0.0]]
    assert found.names(["price"]) == ["price", "price missing"]


def test_what_is_missing_in_rows_to_come_only_is_the_median():
    found = fit(Family.FOREST, [[1.0], [2.0], [9.0]], {}, "f0")
    assert found.encode(np.array([[NAN], [4.0]])).tolist() == [[2.0], [4.0]]


def test_a_number_that_no_row_has_is_zero():
    assert fit(Family.LINEAR, [[NAN], [NAN]], {}).encode(np.array([[NAN], [3.0]])).tolist() == [[0.0], [3.0]]


@pytest.mark.parametrize(
    ("rows", "levels", "expected"),
    [
        ([0.0, 1.0, 2.0], 3, {0.0: [1, 0], 1.0: [0, 1], 2.0: [0, 0], NAN: [0, 0]}),
        ([0.0, 1.0, NAN], 3, {0.0: [1, 0, 0], 1.0: [0, 1, 0], 2.0: [0, 0, 0], NAN: [0, 0, 1]}),
        ([0.0, NAN], 1, {0.0: [0], NAN: [1]}),
    ],
)
def test_a_category_of_few_levels_has_a_column_for_each_but_the_last_and_for_missing_ones(
    rows, levels, expected
):
    found = fit(Family.LINEAR, [[value] for value in rows], {"f0": levels})
    assert {value: found.encode(np.array([[value]]))[0].tolist() for value in expected} == expected


def test_a_category_of_many_levels_is_its_mean_target_which_no_row_has_a_part_in():
    """Every row has a level of its own: the mean of its level would be its target, and a model would learn it by heart."""
    rows = np.arange(200.0)[:, None]
    target = np.random.default_rng(0).normal(10, 3, 200)
    coded = coding.fit(declared(Family.LINEAR, ["id"], {"id": 200}), rows, target, 0)
    assert abs(np.corrcoef(coded.matrix[:, 0], target)[0, 1]) < 0.3
    again = coded.coding.encode(np.array([[NAN], [4.0]]))
    assert again[0, 0] == pytest.approx(target.mean())
    assert np.isfinite(again).all()


def test_levels_that_differ_are_told_apart_by_their_means():
    level = np.repeat(np.arange(40.0), 25)
    target = level * 2
    coded = coding.fit(declared(Family.FOREST, ["place"], {"place": 40}), level[:, None], target, 0)
    assert np.corrcoef(coded.matrix[:, 0], target)[0, 1] > 0.99
    assert coded.coding.encode(np.array([[0.0]]))[0, 0] < coded.coding.encode(np.array([[39.0]]))[0, 0]


@given(st.lists(st.floats(0, 70) | st.just(NAN), min_size=4, max_size=30), st.integers(1, 60))
def test_whatever_a_row_holds_it_is_coded_as_finite_numbers(values, levels):
    rows = np.array([[min(np.floor(one), levels - 1) if one == one else NAN] for one in values])
    for categories in ({}, {"f0": levels}):
        candidate = declared(Family.FOREST, ["f0"], categories, "f0")
        found = coding.fit(candidate, rows, np.arange(len(rows)) % 3.0, 0)
        encoded = found.coding.encode(np.array([[one] for one in values]))
        assert np.isfinite(encoded).all()
        assert encoded.shape[1] == found.matrix.shape[1] == len(found.coding.names(["f0"]))


def by_order(values: list[float], *optional: str, **given: Any) -> Coding:
    """The coding of one number that enters as bins or as its rank."""
    rows = np.array(values)[:, None]
    candidate = declared(Family.LINEAR, ["f0"], {}, *optional, **given)
    return coding.fit(candidate, rows, np.arange(len(rows)) % 2.0, 0).coding


def columns(found: Coding, *values: float) -> list[list[float]]:
    return found.encode(np.array(values)[:, None]).tolist()


def test_a_number_in_bins_has_a_column_for_each_but_that_of_the_median():
    found = by_order([1.0, 2.0, 3.0], bins={"f0": 8})
    assert columns(found, -9.0, 1.5, 2.0, 2.5, 9.0) == [[1, 0], [0, 0], [0, 0], [0, 1], [0, 1]]
    assert found.names(["price"]) == ["price=0", "price=1"]


def test_what_is_missing_has_a_bin_of_its_own():
    found = by_order([1.0, 2.0, 3.0, NAN], bins={"f0": 8})
    assert columns(found, 1.0, 2.0, 3.0, NAN) == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.names(["price"]) == ["price=0", "price=1", "price=2"]


def test_what_is_missing_in_rows_to_come_only_is_in_the_bin_of_the_median():
    assert columns(by_order([1.0, 2.0, 3.0], "f0", bins={"f0": 8}), NAN, 2.0) == [[0, 0], [0, 0]]


def test_a_rank_that_is_missing_is_that_of_the_median_and_says_so():
    found = by_order([1.0, 2.0, 3.0, 4.0, NAN], ranks=["f0"])
    assert columns(found, 1.0, 4.0, 9.0, NAN) == [[0.125, 0], [0.875, 0], [0.875, 0], [0.5, 1]]
    assert found.names(["price"]) == ["price", "price missing"]
    assert columns(by_order([1.0, 2.0], "f0", ranks=["f0"]), NAN, 2.0) == [[0.5], [0.75]]


@pytest.mark.parametrize("given", [{"bins": {"f0": 4}}, {"ranks": ["f0"]}])
@pytest.mark.parametrize("values", [[NAN, NAN], [3.0, 3.0], [3.0, NAN], [3.0]])
def test_of_one_value_or_none_there_is_nothing_to_tell_apart(values, given):
    """But whether it is there, where it is not always."""
    found = columns(by_order(values, "f0", **given), -1.0, 3.0, 9.0)
    assert found[0] == found[1] == found[2]


def test_steps_and_ranks_are_learnt_of_the_rows_of_their_own_fold():
    """What is beyond them in the other folds moves no edge."""
    frame = pd.DataFrame({"f0": np.append(np.arange(90.0), np.full(30, 1e6))})
    split = Split(train=np.arange(90), test=np.arange(90, 120), repeat=0, fold=0)
    candidates = {
        "steps": declared(Family.LINEAR, ["f0"], {}, bins={"f0": 3}),
        "rank": declared(Family.LINEAR, ["f0"], {}, ranks=["f0"]),
    }
    target, rows = frame["f0"].to_numpy(), RowStructure(120)
    [fits] = fit_splits([Entry(split, candidates)], frame, target, rows, Validation(), with_models=True)
    assert fits["steps"].model.coding.parts[0].edges.tolist() == [29.5, 59.5]
    assert fits["rank"].model.coding.parts[0].ranks.x.max() == 89
