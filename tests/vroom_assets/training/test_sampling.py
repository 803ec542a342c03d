"""Samples of many rows hold every smaller one, whole groups, and grow to all rows."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vroom_assets.training.folds import RowStructure
from vroom_assets.training.sampling import FIRST_ROWS, UNCUT_ROWS, sample, sample_sizes


@given(st.integers(1, 400), st.integers(1, 500), st.integers(0, 5), st.integers(1, 60))
def test_a_sample_holds_every_smaller_one_and_whole_groups(rows, size, seed, groups):
    members = np.random.default_rng(seed).integers(0, groups, rows)
    for structure in (RowStructure(rows), RowStructure(rows, groups=members)):
        small, large = sample(structure, size, seed), sample(structure, 2 * size, seed)
        assert min(size, rows) <= len(small)
        assert np.isin(small, large).all()
        assert (np.diff(small) > 0).all()
    assert not set(members[small]) & set(np.delete(members, small))
    assert len(sample(RowStructure(rows), size, seed)) == min(size, rows)


@given(st.integers(UNCUT_ROWS + 1, 10**6))
@settings(max_examples=30)
def test_samples_grow_to_all_rows(rows):
    sizes = sample_sizes(RowStructure(rows), 0)
    assert (sizes[0], sizes[-1]) == (FIRST_ROWS, rows)
    assert all(1.5 * one <= next_one for one, next_one in pairwise(sizes))
    assert sample_sizes(RowStructure(UNCUT_ROWS), 0) == [UNCUT_ROWS]
