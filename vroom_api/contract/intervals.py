"""Prediction intervals, as training calibrates them and the service reads them."""

import math
from bisect import bisect_left, bisect_right
from statistics import NormalDist

import msgspec

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


class Calibration(ContractStruct, frozen=True):
    """Prediction intervals from out-of-fold residuals, scaled by prediction ** power.

    ``quantiles[i]`` is the quantile of (target - prediction) / prediction ** power at
    ``probabilities[i]``. Scaling makes the spread comparable between small and large counts.
    """

    power: float
    probabilities: list[float]
    quantiles: list[float]
    integer: bool
    minimum: float | None
    coverage: dict[str, float]  # measured out of fold at 0.9: overall, lower, middle, upper tercile
    reliability: Reliability | None = None  # of a probability, which has no residuals

    def interval(self, prediction: float, level: float) -> Interval:
        """The central interval at `level` around one prediction.

        For integer targets the bounds are the outermost integers inside the continuous interval, which
        covers exactly what the continuous one covers; it is never empty.
        """
        if self.reliability is not None:
            return self.reliability.interval(prediction, level)
        scale = max(prediction, 1e-9) ** self.power
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

    def _quantile(self, probability: float) -> float:
        grid = self.probabilities
        right = min(max(bisect_left(grid, probability), 1), len(grid) - 1)
        share = (probability - grid[right - 1]) / (grid[right] - grid[right - 1])
        left = self.quantiles[right - 1]
        return left + min(max(share, 0.0), 1.0) * (self.quantiles[right] - left)
