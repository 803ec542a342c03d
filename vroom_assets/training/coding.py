"""From features to the numbers that an estimator takes: categories are coded, missing values filled.

Boosting takes both as they are. For the others a category of few levels becomes a column for each level but the last
(`other`), one of many levels the mean target of its level, out of fold in training (Micci-Barreca 2001,
doi:10.1145/507533.507538, as scikit-learn's TargetEncoder has it); a missing number becomes the median, with a
column that says so. What is fitted here is a few numbers, which the served graph looks up too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vroom_assets.spec import Family

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


Part = Number | Level | Table


@dataclass(frozen=True)
class Coding:
    """How each feature of a candidate is coded, in their order."""

    parts: tuple[Part, ...]

    @property
    def is_plain(self) -> bool:
        """Whether features go to the estimator as they are."""
        return all(
            not isinstance(part, Table) and (isinstance(part, Level) or part.fill is None)
            for part in self.parts
        )

    @property
    def levels(self) -> list[int]:
        """The positions of the categories that the estimator takes as levels."""
        return [position for position, part in enumerate(self.parts) if isinstance(part, Level)]

    def names(self, features: Sequence[str]) -> list[str]:
        """Names of the columns, those of plain numbers are their features'."""
        found: list[str] = []
        for feature, part in zip(features, self.parts, strict=True):
            if isinstance(part, Table):
                found += [f"{feature}={column}" for column in range(part.values.shape[1])]
            else:
                found.append(feature)
                found += [f"{feature} missing"] if isinstance(part, Number) and part.indicated else []
        return found

    def encode(self, matrix: np.ndarray) -> np.ndarray:
        """Columns for the estimator, from features of shape (rows, features)."""
        if self.is_plain:
            return matrix
        return np.concatenate(
            [_encoded(part, values) for part, values in zip(self.parts, matrix.T, strict=True)], axis=1
        )


def _encoded(part: Part, values: np.ndarray) -> np.ndarray:
    """The columns of one feature, (rows, columns)."""
    if isinstance(part, Table):
        return part.values[_rows_of(values, len(part.values) - 1)]
    if isinstance(part, Level) or part.fill is None:
        return values[:, None]
    missing = np.isnan(values)
    filled = np.where(missing, part.fill, values)
    return np.stack([filled, missing] if part.indicated else [filled], axis=1)


class Encoded(NamedTuple):
    """A coding, and the rows it was fitted on as an estimator may learn from them."""

    coding: Coding
    matrix: np.ndarray


def fit(
    family: Family,
    features: Sequence[str],
    categories: Mapping[str, int],
    optional: Collection[str],
    matrix: np.ndarray,
    target: np.ndarray,
    seed: int,
) -> Encoded:
    """Learn the coding of a candidate's features from its training rows.

    Args:
        categories: those of the features that are indices of levels, with the number of levels.
        optional: those that may be missing, if not in these rows.
        matrix: shape (rows, features). target: (rows,).
    """
    parts: list[Part] = []
    unseen: dict[int, np.ndarray] = {}  # by position: what a row's target had no part in
    for position, (feature, values) in enumerate(zip(features, matrix.T, strict=True)):
        size = categories.get(feature)
        if family in NATIVE and size is None and not np.isnan(values).all():
            parts.append(Number(None))
        elif family in NATIVE and size is not None and size <= MOST_NATIVE:
            parts.append(Level(size))
        elif size is None:
            parts.append(_number(values, feature in optional))
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
