"""Many rows at once, by columns: the numbers that a request for each would be answered with, bit by bit.

What is usual is encoded, checked and bounded as whole columns. What is not goes value by value through the functions
that single requests go through, so that one rule decides in both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vroom_api.champion.loading import Champion, score
from vroom_api.champion.schemas import bounds_of
from vroom_api.contract import InputField, Manifest
from vroom_api.explanation.reasons import rows_to_score
from vroom_api.predictions.answered import reasons_of
from vroom_api.predictions.refusals import missing_input, not_finite, wrong, wrong_input
from vroom_api.problems import Problem

MAX_SCORED_FOR_AMOUNTS = 2_000_000  # rows, of all explanations together: some seconds of a forest
ROWS_AT_ONCE = 4_096  # of the model: what its nodes hand on stays in the processor's cache
Columns = Mapping[str, Sequence[Any]]  # by input, a value for each row; None or NaN where it is left out


class Answers(NamedTuple):
    """What rows are answered with, shapes (n,); all NaN where one is refused."""

    predictions: np.ndarray
    low: np.ndarray
    high: np.ndarray
    refused: dict[int, str]  # by position among the rows: why, ascending


class Amounts(NamedTuple):
    """What inputs add to the predictions of rows, in units of the target."""

    baseline: float | None  # that all amounts are beside; None where no row is explained
    amounts: list[
        list[tuple[str, float]] | None
    ]  # by row: inputs and amounts, the largest first; None without any


class Encoded(NamedTuple):
    rows: np.ndarray  # (n, inputs), in the manifest's order; NaN for what is missing or refused
    refused: dict[int, str]


def answer(champion: Champion, columns: Columns, count: int, level: float, first: int = 0) -> Answers:
    """Answer `count` rows.

    Args:
        columns: of the inputs; one that is not there is left out of all rows.
        level: of the intervals.
        first: the number of the first row, in what is written of those that are refused.
    """
    manifest = champion.manifest
    rows, refused = encode(manifest, columns, count, first)
    predictions = np.empty(count)
    known = np.empty(count, dtype=bool)
    for start in range(0, count, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        predictions[part], features = score(champion, rows[part])
        known[part] = _are_known(manifest, rows[part], features) & np.isfinite(predictions[part])
    for at in np.flatnonzero(~known).tolist():
        if at not in refused:
            _, features = score(champion, rows[at : at + 1])
            problem = not_finite(manifest, rows[at].tolist(), features[0].tolist(), first + at)
            refused[at] = problem.detail
    low, high = bounds(manifest, rows, predictions, level)
    without = list(refused)
    for numbers in (predictions, low, high):
        numbers[without] = np.nan
    return Answers(predictions, low, high, dict(sorted(refused.items())))


def are_explained(champion: Champion, rows: int) -> bool:
    """Whether so many rows are few enough to be explained one by one."""
    return rows * rows_to_score(champion.manifest) <= MAX_SCORED_FOR_AMOUNTS


def amounts(champion: Champion, columns: Columns, count: int) -> Amounts:
    """Why `count` rows are answered as they are; rows that are refused, or cannot be explained, have no amounts.

    Args:
        columns: as for `answer`.
    """
    rows, refused = encode(champion.manifest, columns, count, 1)
    found: list[list[tuple[str, float]] | None] = []
    baseline: float | None = None
    for at in range(count):
        try:
            explained = None if at in refused else reasons_of(champion, rows[at].tolist())
        except Problem:
            explained = None
        if explained is None:
            found.append(None)
            continue
        baseline = explained.baseline
        found.append([(reason.input, reason.amount) for reason in explained.reasons if reason.amount])
    return Amounts(baseline, found)


def encode(manifest: Manifest, columns: Columns, count: int, first: int) -> Encoded:
    rows = np.empty((count, len(manifest.inputs)))
    refused: dict[int, str] = {}
    for index, field in enumerate(manifest.inputs):
        values = columns.get(field.name, (None,) * count)
        rows[:, index], unsure = (
            _texts(field, values) if field.type in ("text", "time") else _numbers(field, values)
        )
        for at in np.flatnonzero(unsure).tolist():
            value, where = _plain(values[at]), f"row {first + at}: "
            if value is None and not field.nullable:
                refused.setdefault(at, missing_input(field, where, None).detail)
            elif why := wrong(value, field):
                refused.setdefault(at, wrong_input(field, value, why, where, None).detail)
            else:
                rows[at, index] = field.encoded(value)
    rows[list(refused)] = np.nan
    return Encoded(rows, refused)


def _numbers(field: InputField, values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column, and where they are not surely what is allowed."""
    if not (isinstance(values, np.ndarray) or set(map(type, values)) <= {int, float, type(None)}):
        return np.full(len(values), np.nan), np.ones(len(values), dtype=bool)
    numbers = np.array(values, dtype=np.float64)
    bounds = bounds_of(field)
    sure = np.isfinite(numbers)
    for limit, holds in (
        (bounds.minimum, np.greater_equal),
        (bounds.above, np.greater),
        (bounds.maximum, np.less_equal),
    ):
        if limit is not None:
            sure &= holds(numbers, limit)
    if field.type == "integer":
        sure &= numbers == np.floor(numbers)
    if field.nullable:
        sure |= np.isnan(numbers)
    return numbers, ~sure


def _texts(field: InputField, values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The codes of a column of texts or the seconds of one of times, and where they are to be found one by one."""
    codes: dict[Any, float] = {value: field.encoded(value) for value in field.values}
    if field.type == "time":
        codes = {value: field.encoded(value) for value in set(values) if value and not wrong(value, field)}
    found = np.fromiter((codes.get(value, math.nan) for value in values), np.float64, len(values))
    unsure = np.isnan(found)
    if field.nullable:
        unsure &= np.fromiter((value is not None for value in values), bool, len(values))
    return found, unsure


def _plain(value: Any) -> Any:
    """A value as JSON has them."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def _are_known(manifest: Manifest, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Whether all features that are read are numbers, or missing for want of an input that may be left out, (n,)."""
    known = np.isfinite(features)
    if known.all():
        return known.all(axis=1)
    gaps = np.isnan(rows)
    positions = {field.name: index for index, field in enumerate(manifest.inputs)}
    fallback = _falls_back(manifest, rows)
    for index, field in enumerate(manifest.features):
        read = [positions[name] for name in field.inputs if name in positions]
        known[:, index] |= np.isnan(features[:, index]) & gaps[:, read].any(axis=1)
        if manifest.fallback is not None and field.name not in manifest.fallback.recipe.features:
            known[:, index] |= fallback
    return known.all(axis=1)


def _falls_back(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """Which rows the fallback answers, (n,)."""
    without = manifest.fallback.without if manifest.fallback else []
    read = [index for index, field in enumerate(manifest.inputs) if field.name in without]
    return np.isnan(rows[:, read]).any(axis=1)


def bounds(
    manifest: Manifest, rows: np.ndarray, predictions: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of encoded rows, by what answers each: shapes (n,)."""
    low, high = manifest.calibration.bounds(predictions, level)
    if manifest.fallback is not None and (instead := _falls_back(manifest, rows)).any():
        low[instead], high[instead] = manifest.fallback.calibration.bounds(predictions[instead], level)
    return low, high
