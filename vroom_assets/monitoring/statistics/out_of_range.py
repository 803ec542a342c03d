"""The share of rows with a value outside the range seen in training."""

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic


def compare(training: Sample, live: Sample) -> Found:
    return Found(float(live.shares[..., -1]))


STATISTIC = Statistic("out_of_range", lambda feature: not feature.has_levels, compare)
