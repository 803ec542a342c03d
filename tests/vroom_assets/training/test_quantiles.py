"""Edges of bins and ranks, learnt of values of which many may be alike."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import KBinsDiscretizer

from vroom_assets.training.quantiles import MOST_KNOTS, edges_of, ranks_of

LARGEST = float(np.finfo(np.float32).max)
NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)
SPECIAL = st.sampled_from([0.0, -0.0, 1.0, LARGEST, -LARGEST, float(np.finfo(np.float32).tiny)])
VALUES = st.lists(NUMBER | SPECIAL | st.integers(0, 3).map(float), min_size=1, max_size=60).map(np.array)


def sizes(values: np.ndarray, bins: int) -> list[int]:
    """How many values are in each bin."""
    edges = edges_of(values, bins)
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


@given(VALUES, st.integers(2, 255))
def test_edges_part_values_into_bins_none_of_which_is_empty(values, bins):
    edges = edges_of(values, bins)
    assert len(edges) < bins
    assert (np.diff(edges) > 0).all()
    assert not np.isin(edges, values).any()
    assert min(sizes(values, bins)) > 0


@given(VALUES, st.integers(2, 10))
def test_no_bin_is_larger_than_its_share_but_for_values_that_are_alike(values, bins):
    most_alike = np.unique(values, return_counts=True)[1].max()
    assert max(sizes(values, bins)) <= len(values) / bins + 2 * most_alike


def test_bins_of_values_that_differ_are_those_of_scikit_learn():
    values = np.random.default_rng(0).normal(size=240)
    theirs = KBinsDiscretizer(8, encode="ordinal", strategy="quantile").fit_transform(values[:, None])
    assert sizes(values, 8) == [30] * 8
    assert np.array_equal(np.searchsorted(edges_of(values, 8), values, side="right"), theirs[:, 0])


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0] * 4 + [1] * 6, [0.5]),
        ([0] * 90 + [5] * 10, [2.5]),
        ([1, 2, 3], [1.5, 2.5]),
        ([7, 7, 7], []),
        ([], []),
        ([1] * 10 + [2] * 60 + [3] * 30, [1.5, 2.5]),
        (np.array([1, 2, 3]) * 1e-12, [1.5e-12, 2.5e-12]),
    ],
)
def test_a_value_that_many_rows_have_is_whole_and_beside_the_others(values, edges):
    assert edges_of(np.array(values, dtype=float), 8).tolist() == pytest.approx(edges, rel=1e-12, abs=0)


@given(VALUES)
def test_ranks_rise_between_0_and_1_and_are_level_beyond(values):
    ranks = ranks_of(values)
    assert (np.diff(ranks.x) > 0).all()
    assert (np.diff(ranks.y) > 0).all()
    assert len(ranks.x) <= MOST_KNOTS
    beyond = ranks.at(np.array([-np.inf, values.min(), values.max(), np.inf]))
    assert 0 < beyond[0] == beyond[1] <= beyond[2] == beyond[3] < 1


@given(VALUES)
def test_ranks_of_few_values_are_those_of_pandas(values):
    rank = pd.Series(values).rank() - 0.5  # the mean of those that are alike
    assert ranks_of(values).at(values) == pytest.approx(rank.to_numpy() / len(values))


def test_ranks_of_many_values_lie_within_a_knot_of_theirs():
    values = np.random.default_rng(0).lognormal(size=5_000)
    rank = (pd.Series(values).rank() - 0.5) / len(values)
    assert np.abs(ranks_of(values).at(values) - rank).max() < 1 / MOST_KNOTS


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], []])
def test_the_rank_among_one_value_or_none_is_the_middle(values):
    assert ranks_of(np.array(values)).at(np.array([-9.0, 3.0, 9.0])).tolist() == [0.5, 0.5, 0.5]
