"""The population stability index, for those who know it; nothing is decided by it."""

import numpy as np

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic

LEAST_UNITS = 0.5  # that an empty cell is taken to have


def indices(training: Sample, live: Sample) -> np.ndarray:
    """Σ (p - q) ln(p / q), shape (...). Without drift it is about (bins - 1) · (1/n + 1/m), so it depends on the rows."""
    shares = []
    for one in (training.bins, live.bins):
        filled = np.maximum(one, LEAST_UNITS)
        shares.append(filled / filled.sum(axis=-1, keepdims=True))
    return ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum(axis=-1)


def compare(training: Sample, live: Sample) -> Found:
    return Found(float(indices(training, live)))


STATISTIC = Statistic("population_stability", lambda _: True, compare)
