"""How far two distributions are apart: the size of a drift, whatever its number of rows."""

import numpy as np

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic


def distances(training: Sample, live: Sample) -> np.ndarray:
    """Square root of the Jensen-Shannon divergence in bits (Lin 1991, doi:10.1109/18.61115), in [0, 1], shape (...).

    Of samples of one distribution the divergence is not 0 but about (cells - 1) / (8 ln 2) · (1/n + 1/m), as twice that is a
    chi-squared in the limit; so much is taken off.
    """
    first, second = training.shares, live.shares
    middle = (first + second) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(one > 0, one * np.log2(one / middle), 0.0).sum(axis=-1) for one in (first, second)]
    divergence = (parts[0] + parts[1]) / 2
    cells = (training.units + live.units > 0).sum(axis=-1)
    by_chance = (
        (cells - 1) / (8 * np.log(2)) * (1 / np.maximum(training.rows, 1) + 1 / np.maximum(live.rows, 1))
    )
    return np.sqrt(np.clip(divergence - by_chance, 0.0, 1.0))


def compare(training: Sample, live: Sample) -> Found:
    return Found(float(distances(training, live)) if live.rows > 0 else 0.0)


STATISTIC = Statistic("jensen_shannon", lambda _: True, compare)
