"""From features to the numbers that an estimator takes: categories are coded, missing values filled.

Boosting takes both as they are. For the others a category of few levels becomes a column for each level but the last
(`other`), one of many levels the mean target of its level, out of fold in training (Micci-Barreca 2001,
doi:10.1145/507533.507538, as scikit-learn's TargetEncoder has it); a missing number becomes the median, with a
column that says so. A number that is declared to enter as bins has a column for each bin but that of the median, and one
for missing values where there are some; one that is declared to enter as its rank is filled first. What is fitted here is
a few numbers, which the served graph looks up too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vroom_assets.spec import Candidate, Family
from vroom_assets.training.quantiles import Ranks, edges_of, ranks_of

MOST_NATIVE = 250  # levels that histogram boosting takes
MOST_COLUMNS = 30  # levels that become columns of their own
NATIVE = (
    *(Family.BOOSTING, Family.BINARY_BOOSTING, Family.POISSON_BOOSTING),
    *(Family.LIGHTGBM, Family.BINARY_LIGHTGBM, Family.POISSON_LIGHTGBM),
)
PROBABILITIES = (Family.LOGISTIC, Family.BINARY_BOOSTING, Family.BINARY_LIGHTGBM)


class Number(NamedTuple):
    """A feature that is a number."""

    fill: float | None  # for a missing value; None where the estimator takes it as it is
    indicated: bool = False  # whether one more column says that it is missing


class Level(NamedTuple):
    """A category for an estimator that takes the index of its level; NaN where it is missing."""

    levels: int


class Table(NamedTuple):
    """A category as the numbers of its level."""

    values: np.ndarray  # (levels + 1, columns), the last row for a missing one


class Bins(NamedTuple):
    """A number as the numbers of its bin."""

    edges: np.ndarray  # (edges,), ascending; a value that is equal to one is in the bin above
    values: np.ndarray  # (edges + 2, columns), the last row for a missing one


class Rank(NamedTuple):
    """A number as its rank among the training rows."""

    number: Number
    ranks: Ranks


Part = Number | Level | Table | Bins | Rank


@dataclass(frozen=True)
class Coding:
    """How each feature of a candidate is coded, in their order."""

    parts: tuple[Part, ...]

    @property
    def is_plain(self) -> bool:
        """Whether features go to the estimator as they are."""
        return all(
            isinstance(part, Level) or (isinstance(part, Number) and part.fill is None) for part in self.parts
        )

    @property
    def levels(self) -> list[int]:
        """The positions of the categories that the estimator takes as levels."""
        return [position for position, part in enumerate(self.parts) if isinstance(part, Level)]

    @property
    def columns(self) -> list[slice]:
        """The columns of each feature."""
        widths = [_width(part) for part in self.parts]
        return [
            slice(end - width, end) for end, width in zip(np.cumsum(widths).tolist(), widths, strict=True)
        ]

    def names(self, features: Sequence[str]) -> list[str]:
        """Names of the columns, those of plain numbers are their features'."""
        found: list[str] = []
        for feature, part in zip(features, self.parts, strict=True):
            if isinstance(part, Table | Bins):
                found += [f"{feature}={column}" for column in range(_width(part))]
            else:
                found += [feature, f"{feature} missing"][: _width(part)]
        return found

    def encode(self, matrix: np.ndarray) -> np.ndarray:
        """Columns for the estimator, from features of shape (rows, features)."""
        if self.is_plain:
            return matrix
        return np.concatenate(
            [_encoded(part, values) for part, values in zip(self.parts, matrix.T, strict=True)], axis=1
        )


def _width(part: Part) -> int:
    """How many columns a feature has."""
    if isinstance(part, Table | Bins):
        return part.values.shape[1]
    number = part.number if isinstance(part, Rank) else part
    return 2 if isinstance(number, Number) and number.indicated else 1


def _encoded(part: Part, values: np.ndarray) -> np.ndarray:
    """The columns of one feature, (rows, columns)."""
    if isinstance(part, Table):
        return part.values[_rows_of(values, len(part.values) - 1)]
    if isinstance(part, Bins):
        own = np.searchsorted(part.edges, values, side="right")
        return part.values[np.where(np.isnan(values), len(part.values) - 1, own)]
    if isinstance(part, Rank):
        columns = _encoded(part.number, values)
        return np.column_stack([part.ranks.at(columns[:, 0]), columns[:, 1:]])
    if isinstance(part, Level) or part.fill is None:
        return values[:, None]
    missing = np.isnan(values)
    filled = np.where(missing, part.fill, values)
    return np.stack([filled, missing] if part.indicated else [filled], axis=1)


class Encoded(NamedTuple):
    """A coding, and the rows it was fitted on as an estimator may learn from them."""

    coding: Coding
    matrix: np.ndarray


def fit(candidate: Candidate, matrix: np.ndarray, target: np.ndarray, seed: int) -> Encoded:
    """Learn the coding of a candidate's features from its training rows.

    Args:
        matrix: its features, shape (rows, features). target: (rows,).
    """
    family, features = candidate.family, candidate.features
    parts: list[Part] = []
    unseen: dict[int, np.ndarray] = {}  # by position: what a row's target had no part in
    for position, (feature, values) in enumerate(zip(features, matrix.T, strict=True)):
        size = candidate.categories.get(feature)
        if feature in candidate.bins and size is None:
            parts.append(_bins(values, candidate.bins[feature]))
        elif feature in candidate.ranks and size is None:
            number = _number(values, feature in candidate.optional)
            parts.append(Rank(number, ranks_of(values[~np.isnan(values)])))
        elif family in NATIVE and size is None and not np.isnan(values).all():
            parts.append(Number(None))
        elif family in NATIVE and size is not None and size <= MOST_NATIVE:
            parts.append(Level(size))
        elif size is None:
            parts.append(_number(values, feature in candidate.optional))
        elif size <= MOST_COLUMNS:
            parts.append(_columns(values, size))
        else:
            table, unseen[position] = _means(values, size, target, family, seed)
            parts.append(table)
    coding = Coding(tuple(parts))
    encoded = coding.encode(matrix)
    if unseen:
        encoded = encoded.copy()
        names = coding.names(features)
        for position, column in unseen.items():
            encoded[:, names.index(f"{features[position]}=0")] = column
    return Encoded(coding, encoded)


def _rows_of(values: np.ndarray, levels: int) -> np.ndarray:
    """Rows of a table, from indices of levels; what lies beyond the last level is the last."""
    inside = np.minimum(np.nan_to_num(values), levels - 1)
    return np.where(np.isnan(values), levels, inside).astype(np.int64)


def _number(values: np.ndarray, optional: bool) -> Number:
    missing = np.isnan(values)
    if missing.all():
        return Number(0.0)
    if not missing.any():  # missing in rows to come at most: nothing is learnt about it
        return Number(float(np.median(values)) if optional else None)
    return Number(float(np.nanmedian(values)), indicated=True)


def _bins(values: np.ndarray, bins: int) -> Bins:
    """Edges of the values that are there; the bin of their median is what the others are compared with, and has no column.

    Of all bins, columns would add up to 1, and without a penalty no solver could tell which of them a level belongs to.
    """
    there = values[~np.isnan(values)]
    edges = edges_of(there, bins)
    usual = np.searchsorted(edges, np.median(there), side="right") if len(there) else 0
    has_column = np.arange(len(edges) + 2) != usual
    has_column[-1] = len(there) < len(values) or not len(edges)  # never none at all
    return Bins(edges, np.eye(len(edges) + 2)[:, has_column])


def _columns(values: np.ndarray, levels: int) -> Table:
    """A column for each level but the last, and one for missing values where there are some."""
    missing = bool(np.isnan(values).any())
    table = np.eye(levels + 1, levels if missing else max(levels - 1, 1))
    if levels > 1 and missing:
        table[levels - 1], table[levels] = 0.0, np.eye(levels)[levels - 1]
    elif levels == 1:
        table[:, 0] = [0.0, 1.0]
    return Table(table)


def _means(
    values: np.ndarray, levels: int, target: np.ndarray, family: Family, seed: int
) -> tuple[Table, np.ndarray]:
    """The smoothed mean target of each level, and for the training rows that of the other folds."""
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import TargetEncoder

    rows = _rows_of(values, levels)
    kind = "binary" if family in PROBABILITIES else "continuous"
    folds = KFold(min(5, len(target)), shuffle=True, random_state=seed)
    encoder = TargetEncoder(categories=[np.arange(levels + 1)], target_type=kind, cv=folds)
    of_others = encoder.fit_transform(rows[:, None], target)[:, 0]
    return Table(np.asarray(encoder.encodings_[0])[:, None]), of_others
