"""Whether two samples fall into levels in the same shares."""

import numpy as np
from scipy.stats import chi2

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic

LEAST_EXPECTED = 1.0  # of a level in the smaller sample; rarer ones are left to what watches them alone


def compare(training: Sample, live: Sample) -> Found:
    """Pearson's test of homogeneity."""
    table = np.stack([training.bins, live.bins])
    total = table.sum()
    if min(table.sum(axis=1)) <= 0:
        return Found(0.0, 1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / total
    kept = expected.min(axis=0) >= LEAST_EXPECTED
    if kept.sum() < 2:
        return Found(0.0, 1.0)
    value = float((((table - expected) ** 2)[:, kept] / expected[:, kept]).sum())
    return Found(value, float(chi2.sf(value, kept.sum() - 1)))


STATISTIC = Statistic("chi_squared", lambda feature: feature.has_levels or not feature.ordered, compare)
