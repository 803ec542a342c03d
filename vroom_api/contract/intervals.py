"""Prediction intervals, as training calibrates them and the service reads them."""

import math
from bisect import bisect_left, bisect_right
from statistics import NormalDist

import msgspec
import numpy as np

from vroom_api.contract.struct import ContractStruct

MIN_LEVEL, DEFAULT_LEVEL, MAX_LEVEL = 0.5, 0.9, 0.99  # of an interval


class Interval(msgspec.Struct, frozen=True, gc=False):
    """The central interval that holds the outcome with probability `level`; integers for integer targets."""

    level: float
    low: float
    high: float


class Reliability(ContractStruct, frozen=True):
    """How often out-of-fold probabilities came true, in bins; a value on an edge belongs above it.

    Its intervals hold the share of yes among predictions of the same bin (Wilson 1927,
    doi:10.1080/01621459.1927.10502953), moved by how far the prediction is from the bin's mean.
    """

    edges: list[float]  # inner, ascending
    rows: list[int]
    yes: list[float]  # how many
    predicted: list[float]  # mean

    def interval(self, prediction: float, level: float) -> Interval:
        position = bisect_right(self.edges, prediction)
        count, moved = self.rows[position], prediction - self.predicted[position]
        if not count:
            return Interval(level, 0.0, 1.0)
        z = NormalDist().inv_cdf(0.5 + level / 2)
        share, weight = self.yes[position] / count, z * z / count
        middle = (share + weight / 2) / (1 + weight)
        half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
        low, high = middle - half + moved, middle + half + moved
        return Interval(level, max(min(low, prediction), 0.0), min(max(high, prediction), 1.0))

    def bounds(self, predictions: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of `interval` for each of many predictions, shapes (n,), bit by bit the same."""
        z = NormalDist().inv_cdf(0.5 + level / 2)
        middles, halves = [], []
        for count, yes in zip(self.rows, self.yes, strict=True):
            share, weight = (yes / count, z * z / count) if count else (0.0, 0.0)
            spread = math.sqrt(share * (1 - share) / count + weight / (4 * count)) if count else 0.0
            middles.append((share + weight / 2) / (1 + weight))
            halves.append(z / (1 + weight) * spread)
        position = np.searchsorted(self.edges, predictions, side="right")
        middle, half = np.array(middles)[position], np.array(halves)[position]
        moved = predictions - np.array(self.predicted)[position]
        low = np.maximum(np.minimum(middle - half + moved, predictions), 0.0)
        high = np.minimum(np.maximum(middle + half + moved, predictions), 1.0)
        empty = np.array(self.rows)[position] == 0
        return np.where(empty, 0.0, low), np.where(empty, 1.0, high)


class Spread(ContractStruct, frozen=True):
    """How large errors are at a prediction: a line through points, level beyond the outer ones."""

    predictions: list[float]  # ascending, at least one
    sizes: list[float]  # above 0

    def at(self, prediction: float) -> float:
        right = bisect_right(self.predictions, prediction)
        if right == 0 or right == len(self.predictions):
            return self.sizes[max(right - 1, 0)]
        before, after = self.predictions[right - 1], self.predictions[right]
        share = (prediction - before) / (after - before)
        return self.sizes[right - 1] + share * (self.sizes[right] - self.sizes[right - 1])

    def at_each(self, predictions: np.ndarray) -> np.ndarray:
        """`at` for each of many predictions, shape (n,), bit by bit the same."""
        points, sizes = np.array(self.predictions), np.array(self.sizes)
        right = np.searchsorted(points, predictions, side="right")
        inner = np.clip(right, 1, max(len(points) - 1, 1))
        if len(points) == 1:
            return np.full(len(predictions), sizes[0])
        before, after = points[inner - 1], points[inner]
        share = (predictions - before) / (after - before)
        line = sizes[inner - 1] + share * (sizes[inner] - sizes[inner - 1])
        outside = (right == 0) | (right == len(points))
        return np.where(outside, sizes[np.maximum(right - 1, 0)], line)


class Calibration(ContractStruct, frozen=True):
    """Prediction intervals from out-of-fold residuals, in units of their size at the prediction.

    ``quantiles[i]`` is the quantile of (target - prediction) / scale at ``probabilities[i]``; the scale is
    the spread at the prediction, or prediction ** power where there is none. It makes small and large values
    comparable.
    """

    power: float
    probabilities: list[float]
    quantiles: list[float]
    integer: bool
    minimum: float | None
    coverage: dict[str, float]  # measured out of fold at 0.9: overall, lower, middle, upper tercile
    reliability: Reliability | None = None  # of a probability, which has no residuals
    spread: Spread | None = None

    def scale(self, prediction: float) -> float:
        """The size of errors at a prediction, up to a factor."""
        if self.spread is not None:
            return self.spread.at(prediction)
        return float(max(prediction, 1e-9) ** self.power)

    def interval(self, prediction: float, level: float) -> Interval:
        """The central interval at `level` around one prediction.

        For integer targets the bounds are the outermost integers inside the continuous interval, which
        covers exactly what the continuous one covers; it is never empty.
        """
        if self.reliability is not None:
            return self.reliability.interval(prediction, level)
        scale = self.scale(prediction)
        tail = (1.0 - level) / 2.0
        low = prediction + self._quantile(tail) * scale
        high = prediction + self._quantile(1.0 - tail) * scale
        if self.integer:
            low, high = math.ceil(low - 1e-9), math.floor(high + 1e-9)
            if low > high:
                low, high = math.floor(prediction), math.ceil(prediction)
        if self.minimum is not None:
            low, high = max(low, self.minimum), max(high, self.minimum)
        return Interval(level, int(low), int(high)) if self.integer else Interval(level, low, high)

    def bounds(self, predictions: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of `interval` for each of many predictions, shapes (n,), bit by bit the same."""
        if self.reliability is not None:
            return self.reliability.bounds(predictions, level)
        scale = self._scales(predictions)
        tail = (1.0 - level) / 2.0
        low = predictions + self._quantile(tail) * scale
        high = predictions + self._quantile(1.0 - tail) * scale
        if self.integer:
            low, high = np.ceil(low - 1e-9), np.floor(high + 1e-9)
            crossed = low > high
            low = np.where(crossed, np.floor(predictions), low)
            high = np.where(crossed, np.ceil(predictions), high)
        if self.minimum is not None:
            low, high = np.maximum(low, self.minimum), np.maximum(high, self.minimum)
        return low, high

    def cumulative(self, predictions: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The probability that the outcome is at most a value, shape (n,), of as many predictions.

        Beyond the outermost quantile it is that of the quantile.
        """
        scaled = (values - predictions) / self._scales(predictions)
        return np.interp(scaled, self.quantiles, self.probabilities)

    def _scales(self, predictions: np.ndarray) -> np.ndarray:
        if self.spread is not None:
            return self.spread.at_each(predictions)
        if self.power == 0.0:
            return np.ones(len(predictions))
        # Not NumPy's power: with AVX-512 its last digit is not always that of the C library, which `scale` has.
        power = self.power
        least = np.maximum(predictions, 1e-9).tolist()
        return np.fromiter((one**power for one in least), np.float64, len(least))

    def _quantile(self, probability: float) -> float:
        grid = self.probabilities
        right = min(max(bisect_left(grid, probability), 1), len(grid) - 1)
        share = (probability - grid[right - 1]) / (grid[right] - grid[right - 1])
        left = self.quantiles[right - 1]
        return left + min(max(share, 0.0), 1.0) * (self.quantiles[right] - left)
