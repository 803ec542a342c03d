"""Samples of many rows: how large they are, which rows they hold, and how they are folded.

Each is four times as large as the one before and holds it; groups are never cut, and times stay with their rows. A sample
has two folds: where rows are plenty, twice the sample in two folds has more rows to learn from and to test on than the
sample in five, and is fitted in half the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vroom_assets.spec import Validation
from vroom_assets.training.folds import RowStructure

FULL_ROWS = 8_000  # up to so many there is no race
UNCUT_ROWS = 20_000  # up to so many all rows are the only sample, in the declared folds
FIRST_ROWS, GROWTH = 2_500, 4  # the first sample, and how many times the one before each next one is
SAMPLE_FOLDS = 2
LEAST_GROUPS = 30  # of a sample: of fewer neither folds nor standard errors can be trusted
DECIDING_ROWS = 40_000  # fewer do not end a race: the error is measured on them too


def sample_order(rows: RowStructure, seed: int) -> np.ndarray:
    """Row numbers in an order of which any beginning is a random sample, (rows,); rows of a group stand together."""
    rng = np.random.default_rng(seed)
    if rows.groups is None:
        return rng.permutation(rows.rows)
    _, member = np.unique(rows.groups, return_inverse=True)
    shuffled = rng.permutation(int(member.max()) + 1)
    return np.argsort(shuffled[member], kind="stable")


def sample(rows: RowStructure, size: int, seed: int) -> np.ndarray:
    """So many random rows, ascending; all rows of a group, or none."""
    order = sample_order(rows, seed)
    if size >= rows.rows:
        return np.arange(rows.rows)
    if rows.groups is not None:  # to the end of the group that begins last
        ordered = rows.groups[order]
        changes = np.flatnonzero(ordered[size:] != ordered[size - 1])
        size = size + int(changes[0]) if len(changes) else rows.rows
    return np.sort(order[:size])


def sample_sizes(rows: RowStructure, seed: int) -> list[int]:
    """How many rows each sample has; the last one is of all, and not much larger than the one before it would be useless.

    Of few groups, whose samples would have fewer, all rows are the only one.
    """
    if rows.rows <= UNCUT_ROWS or _groups(rows, sample(rows, FIRST_ROWS, seed)) < LEAST_GROUPS:
        return [rows.rows]
    sizes = [FIRST_ROWS]
    while sizes[-1] * GROWTH * 1.5 <= rows.rows:
        sizes.append(sizes[-1] * GROWTH)
    return [*sizes, rows.rows]


def folded_once(validation: Validation, sizes: Sequence[int]) -> Validation:
    """The validation of samples: that which is declared, without repeats; where there are several samples in few folds."""
    folds = min(SAMPLE_FOLDS, validation.folds) if len(sizes) > 1 else validation.folds
    return validation.model_copy(update={"repeats": 1, "folds": folds})


def _groups(rows: RowStructure, chosen: np.ndarray) -> int:
    """How many groups the rows are of; each is one where there are none."""
    return len(chosen) if rows.groups is None else len(np.unique(rows.groups[chosen]))
