"""Folds: which rows are learnt from and which are predicted, by groups and forward in time where declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vroom_assets.spec import Validation


@dataclass(frozen=True)
class Split:
    """Row numbers of one fold."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class RowStructure:
    """Groups and times of rows; arrays of shape (rows,), None where it does not matter.

    groups: rows of one value are never in two folds. times: when a row stands. known: when its target was.
    """

    rows: int
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    known: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> RowStructure:
        def part(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[chosen]

        return RowStructure(len(chosen), part(self.groups), part(self.times), part(self.known))


def splits(rows: RowStructure, folds: int, repeats: int, seed: int, blocks: int = 1) -> list[Split]:
    """Repeated shuffled k-fold, or forward in time; the same arguments always give the same folds.

    With times, the rows after a first part are cut into `blocks` of time. A block is predicted by models of
    the rows whose targets were known when it began, so none of the first part is ever predicted, nor is a
    block with less than 20 such rows. With groups as well, a block is predicted fold by fold, by models
    that have not seen the fold's groups; without them a block is one fold, and there is nothing to repeat.

    Raises:
        TooFewRows: no block of time has anything before it to learn from.
    """
    from sklearn.model_selection import GroupKFold, KFold

    def parts(repeat: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        kind = KFold if rows.groups is None else GroupKFold
        whole = kind(folds, shuffle=True, random_state=seed + repeat)
        return whole.split(np.zeros(rows.rows), groups=rows.groups)

    if rows.times is None:
        return [
            Split(repeat, fold, train, test)
            for repeat in range(repeats)
            for fold, (train, test) in enumerate(parts(repeat))
        ]
    found: list[Split] = []
    for repeat in range(repeats if rows.groups is not None else 1):
        number = 0
        sides = (
            list(parts(repeat)) if rows.groups is not None else [(np.arange(rows.rows), np.arange(rows.rows))]
        )
        for begin, end in _blocks(rows.times, blocks):
            for train, test in sides:
                later = test[(rows.times[test] >= begin) & (rows.times[test] < end)]
                assert rows.known is not None
                earlier = train[rows.known[train] <= begin]
                if len(later) and len(earlier) >= MIN_BLOCK_ROWS:
                    found.append(Split(repeat, number, earlier, later))
                number += 1
    if not found:
        raise TooFewRows(
            f"of {rows.rows} rows fewer than {MIN_BLOCK_ROWS} had a target that was known when others had to be predicted: "
            "declare fewer `blocks` in validation, or bring older data"
        )
    return found


class TooFewRows(Exception):
    """Not enough rows to train and test on; the message says what to do."""


MIN_BLOCK_ROWS = 20  # rows to learn from


def _blocks(times: np.ndarray, count: int) -> list[tuple[np.datetime64, np.datetime64]]:
    """Begin and end of so many stretches of time with about as many rows, after a first such stretch."""
    ordered = np.sort(times)
    cuts = ordered[(np.arange(1, count + 1) * len(ordered)) // (count + 1)]
    begins = np.unique(cuts[cuts > ordered[0]])
    if not len(begins):
        raise TooFewRows(
            "all rows have the same time, so none comes before another: leave `order` out of validation, "
            "or bring data of more times"
        )
    ends = [*begins[1:], ordered[-1] + np.timedelta64(1, "s")]
    return list(zip(begins, ends, strict=True))


INNER_BLOCKS = 2  # of time


def outer_splits(rows: RowStructure, validation: Validation) -> list[Split]:
    """The declared folds, but for those whose training rows are too few to choose a candidate by.

    Raises:
        TooFewRows: none is left.
    """
    found = splits(rows, validation.folds, validation.repeats, validation.seed, validation.blocks)
    if rows.times is None:
        return found
    chosen_by: list[Split] = []
    for split in found:
        try:
            inner_splits(rows, split, validation)
        except TooFewRows as error:
            last = error
        else:
            chosen_by.append(split)
    if not chosen_by:
        raise last
    return chosen_by


def inner_splits(rows: RowStructure, outer: Split, validation: Validation) -> list[Split]:
    """Folds of an outer split's training rows, which a candidate is chosen by."""
    found = splits(
        rows.take(outer.train),
        validation.inner_folds,
        1,
        validation.seed + 1000,
        blocks=min(validation.blocks, INNER_BLOCKS),
    )
    return [
        Split(split.repeat, split.fold, outer.train[split.train], outer.train[split.test]) for split in found
    ]
