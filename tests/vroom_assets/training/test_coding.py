"""Categories and missing values as numbers that an estimator takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_assets.spec import Family
from vroom_assets.training import coding
from vroom_assets.training.coding import Coding, Level, Number

NAN = float("nan")


def fit(family: Family, matrix: list[list[float]], categories: dict[str, int], *optional: str) -> Coding:
    rows = np.array(matrix)
    names = [f"f{number}" for number in range(rows.shape[1])]
    return coding.fit(family, names, categories, optional, rows, np.arange(len(rows)) % 2.0, 0).coding


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
    coded = coding.fit(Family.LINEAR, ["id"], {"id": 200}, (), rows, target, 0)
    assert abs(np.corrcoef(coded.matrix[:, 0], target)[0, 1]) < 0.3
    again = coded.coding.encode(np.array([[NAN], [4.0]]))
    assert again[0, 0] == pytest.approx(target.mean())
    assert np.isfinite(again).all()


def test_levels_that_differ_are_told_apart_by_their_means():
    level = np.repeat(np.arange(40.0), 25)
    target = level * 2
    coded = coding.fit(Family.FOREST, ["place"], {"place": 40}, (), level[:, None], target, 0)
    assert np.corrcoef(coded.matrix[:, 0], target)[0, 1] > 0.99
    assert coded.coding.encode(np.array([[0.0]]))[0, 0] < coded.coding.encode(np.array([[39.0]]))[0, 0]


@given(st.lists(st.floats(0, 70) | st.just(NAN), min_size=4, max_size=30), st.integers(1, 60))
def test_whatever_a_row_holds_it_is_coded_as_finite_numbers(values, levels):
    rows = np.array([[min(np.floor(one), levels - 1) if one == one else NAN] for one in values])
    for categories in ({}, {"f0": levels}):
        found = coding.fit(Family.FOREST, ["f0"], categories, ("f0",), rows, np.arange(len(rows)) % 3.0, 0)
        encoded = found.coding.encode(np.array([[one] for one in values]))
        assert np.isfinite(encoded).all()
        assert encoded.shape[1] == found.matrix.shape[1] == len(found.coding.names(["f0"]))
