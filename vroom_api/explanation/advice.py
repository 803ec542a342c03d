"""Advice: which value of an input that its owner may set is worth most, within the range seen in training.

The worth of a value is lever × prediction, as the forecast declares it: price × reservations is revenue.
Every point of the curve is scored by the function that answers predictions. The range of the lever is the
one in which this entity, its other inputs as they are, stays in support: the lever's own range and that
of every feature, so a price is bounded by the ratios seen in training as well.

The curve is associational. It says what entities that had this value got, not what a change would cause.
"""

from typing import Literal

import msgspec
import numpy as np

from vroom_api.contract import Calibration, InputField, Lever, Manifest
from vroom_api.explanation.reasons import Score
from vroom_api.explanation.support import out_of_range, supported

MIN_POINTS, MAX_POINTS, DEFAULT_POINTS = 2, 200, 41  # of a curve
NEAR = 0.95  # a worth of at least this share of the best is as good, for all that is known
SCAN = 201  # values tried in search of the supported range


class NoAdvice(Exception):
    """Why there is no curve for this entity or request."""


class Point(msgspec.Struct, frozen=True):
    """One value of the lever, what is predicted there and what that is worth, with the band of both."""

    value: float
    prediction: float
    low: float
    high: float
    worth: float
    worth_low: float
    worth_high: float
    extrapolated: bool  # outside the range seen in training


class Curve(msgspec.Struct, frozen=True):
    """What is predicted along a lever, everything else as sent."""

    lever: str
    unit: str | None
    worth: str
    worth_unit: str
    worth_description: str
    level: float  # of the bands
    supported: tuple[float, float] | None  # range of the lever that training supports for this entity
    points: list[Point]
    current: Point  # at the value that was sent
    best: Point | None  # of the supported points
    near_best: tuple[float, float] | None  # values around the best, worth at least 95 % as much
    basis: Literal["associational"]
    notes: list[str]


def advise(
    score: Score,
    manifest: Manifest,
    lever: Lever,
    row: np.ndarray,
    *,
    points: int = DEFAULT_POINTS,
    level: float = 0.9,
    between: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Curve:
    """The curve of one entity.

    Args:
        row: shape (inputs,), in the manifest's order.
        points: of the curve, 2 to 200; fewer where the range holds fewer.
        between: the part of the lever's range that the curve covers; all of it when not given.
        extrapolate: show points outside support as well, flagged; without `between`, over all values of
            the lever seen in training.

    Raises:
        NoAdvice: nothing in the range is in support and extrapolation was not asked for, the row has no
            finite prediction, or an argument is out of its bounds.
    """
    if not MIN_POINTS <= points <= MAX_POINTS:
        raise NoAdvice(f"points: {points} is not between {MIN_POINTS} and {MAX_POINTS}")
    index = [field.name for field in manifest.inputs].index(lever.input)
    field = manifest.inputs[index]
    if between is not None:
        _refuse_undeclared(field, between)
    span = supported_range(score, manifest, index, row)
    low, high = _range(score, manifest, field, row, span, between, extrapolate)
    *along, current = _points(score, manifest, index, row, grid(field, low, high, points), level)
    displayed = [point for point in along if extrapolate or not point.extrapolated]
    if not displayed:
        raise NoAdvice(
            f"{field.name}: no value from {low:.6g} to {high:.6g} is inside the range seen in training"
        )
    sound = [point for point in displayed if not point.extrapolated]
    best = max(sound, key=lambda point: point.worth, default=None)
    return Curve(
        lever=field.name,
        unit=field.unit,
        worth=lever.worth,
        worth_unit=lever.unit,
        worth_description=lever.description,
        level=level,
        supported=span,
        points=displayed,
        current=current,
        best=best,
        near_best=near_best(sound, best) if best else None,
        basis="associational",
        notes=notes(manifest, lever, span, sound, best, current),
    )


def supported_range(
    score: Score, manifest: Manifest, index: int, row: np.ndarray
) -> tuple[float, float] | None:
    """The lowest and highest value of the lever that keep this row in support; None if none does."""
    field = manifest.inputs[index]

    def keeps(values: np.ndarray) -> np.ndarray:
        rows = _along(row, index, values)
        return supported(manifest, rows, score(rows)[1])

    values = np.linspace(field.seen_minimum, field.seen_maximum, SCAN)
    if field.type == "integer":
        values = grid(field, field.seen_minimum, field.seen_maximum, SCAN)
    values = np.unique(np.append(values, row[index]))
    good = np.flatnonzero(keeps(values))
    if len(good) == 0:
        return None
    first, last = good[0], good[-1]
    low, high = values[first], values[last]
    if field.type == "number":
        # Each scan narrows an edge between a good and a bad value to a hundredth.
        below, above = values[max(first - 1, 0)], values[min(last + 1, len(values) - 1)]
        for _ in range(4):
            lower, upper = np.linspace(below, low, 101), np.linspace(high, above, 101)
            good = keeps(np.append(lower, upper))
            edge = int(np.argmax(good[:101]))
            below, low = lower[max(edge - 1, 0)], lower[edge]
            edge = 100 - int(np.argmax(good[101:][::-1]))
            high, above = upper[edge], upper[min(edge + 1, 100)]
    return float(low), float(high)


def grid(field: InputField, low: float, high: float, points: int) -> np.ndarray:
    """Up to `points` values from low to high, evenly spread, with no more decimals than that takes.

    A discrete input has its own values, an integer one whole numbers.
    """
    if field.levels:
        levels = np.array(field.levels)
        return levels[(levels >= low) & (levels <= high)]
    if field.type == "integer":
        first, last = np.ceil(low), np.floor(high)
        return np.unique(np.round(np.linspace(first, last, points))) if first <= last else np.empty(0)
    if low == high:
        return np.array([low])
    decimals = max(0, int(np.ceil(-np.log10((high - low) / (points - 1) / 20))))
    values = np.round(np.linspace(low, high, points), decimals)
    slack = (high - low) * 1e-8  # the ends were found by a search, to less than that
    values[values < low - slack] += 10.0**-decimals
    values[values > high + slack] -= 10.0**-decimals
    return np.unique(np.round(values, decimals))


def near_best(sound: list[Point], best: Point) -> tuple[float, float]:
    """The run of supported points around the best that are worth nearly as much."""
    first = last = sound.index(best)
    while first > 0 and sound[first - 1].worth >= NEAR * best.worth:
        first -= 1
    while last < len(sound) - 1 and sound[last + 1].worth >= NEAR * best.worth:
        last += 1
    return sound[first].value, sound[last].value


def notes(
    manifest: Manifest,
    lever: Lever,
    span: tuple[float, float] | None,
    sound: list[Point],
    best: Point | None,
    current: Point,
) -> list[str]:
    """What a person must know before acting on a curve."""
    found = [
        f"Associational, not causal: how {manifest.unit} differ between one {manifest.entity} and another that "
        f"are alike but for {lever.input}; setting it for this {manifest.entity} need not have that effect.",
        f"The bands are those of a single {manifest.entity}, not of the curve.",
    ]
    if current.extrapolated:
        found.append(f"This {manifest.entity} as sent is outside the range seen in training.")
    if best and span and best.value in (sound[0].value, sound[-1].value) and len(sound) > 1:
        found.append(
            f"The best value lies at the end of the curve; whether {lever.worth} keeps rising beyond "
            "it is not known."
        )
    return found


def _range(
    score: Score,
    manifest: Manifest,
    field: InputField,
    row: np.ndarray,
    span: tuple[float, float] | None,
    between: tuple[float, float] | None,
    extrapolate: bool,
) -> tuple[float, float]:
    if extrapolate:
        return between or (field.seen_minimum, field.seen_maximum)
    if span is None:
        features = score(row[None])[1][0]
        causes = [
            found.sentence
            for found in out_of_range(manifest, row.tolist(), features.tolist())
            if found.field != field.name
        ]
        raise NoAdvice(
            f"no {field.name} brings this {manifest.entity} inside the range seen in training "
            f"({'; '.join(causes) or 'its other inputs do not occur together'}); "
            "ask with extrapolate: true to see what the model says there"
        )
    low, high = between or span
    low, high = max(low, span[0]), min(high, span[1])
    if low > high:
        raise NoAdvice(
            f"{field.name}: training supports {span[0]:.6g} to {span[1]:.6g} for this {manifest.entity}, which "
            "does not overlap the range asked for; ask with extrapolate: true to see it anyway"
        )
    return low, high


def _refuse_undeclared(field: InputField, between: tuple[float, float]) -> None:
    low, high = between
    if not low <= high:
        raise NoAdvice(f"{field.name}: the range from {low:g} to {high:g} is empty")
    if (
        (field.minimum is not None and low < field.minimum)
        or (field.above is not None and low <= field.above)
        or (field.maximum is not None and high > field.maximum)
    ):
        raise NoAdvice(
            f"{field.name}: the range from {low:g} to {high:g} goes beyond the allowed values of the input"
        )


def _along(row: np.ndarray, index: int, values: np.ndarray) -> np.ndarray:
    rows = np.repeat(row[None], len(values), axis=0)
    rows[:, index] = values
    return rows


def _points(
    score: Score, manifest: Manifest, index: int, row: np.ndarray, values: np.ndarray, level: float
) -> list[Point]:
    """The points at these values of the lever that have a finite prediction, and that of the row itself last.

    Raises:
        NoAdvice: the row itself has no finite prediction.
    """
    rows = np.vstack([_along(row, index, values), row])
    predictions, features = score(rows)
    inside = supported(manifest, rows, features)
    finite = np.isfinite(predictions)
    if not finite[-1]:
        raise NoAdvice(f"this {manifest.entity} has no finite prediction")
    calibration = manifest.calibration_of(row.tolist())
    return [
        _point(calibration, value, prediction, level, extrapolated=not seen)
        for value, prediction, seen in zip(
            rows[finite, index], predictions[finite], inside[finite], strict=True
        )
    ]


def _point(
    calibration: Calibration, value: float, prediction: float, level: float, *, extrapolated: bool
) -> Point:
    value, prediction = float(value), float(prediction)
    interval = calibration.interval(prediction, level)
    worths = sorted((value * interval.low, value * interval.high))
    return Point(
        value=value,
        prediction=prediction,
        low=interval.low,
        high=interval.high,
        worth=value * prediction,
        worth_low=worths[0],
        worth_high=worths[1],
        extrapolated=extrapolated,
    )
