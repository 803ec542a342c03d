"""The largest difference of two distribution functions, at the edges of the bins."""

from scipy.stats import kstwobign

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic


def compare(training: Sample, live: Sample) -> Found:
    """Kolmogorov & Smirnov's two-sample test; between edges it does not see, so its p-value is rather too large."""
    rows = [one.bins.sum(axis=-1) for one in (training, live)]
    if min(rows) <= 0:
        return Found(0.0, 1.0)
    below = [one.bins.cumsum(axis=-1) / number for one, number in zip((training, live), rows, strict=True)]
    distance = float(abs(below[0] - below[1]).max())
    effective = (rows[0] * rows[1] / (rows[0] + rows[1])) ** 0.5
    return Found(distance, float(kstwobign.sf(distance * effective)))


STATISTIC = Statistic("ks", lambda feature: feature.ordered and not feature.has_levels, compare)
