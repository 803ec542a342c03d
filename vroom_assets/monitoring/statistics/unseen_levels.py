"""The share of rows with a level that training did not have."""

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic


def compare(training: Sample, live: Sample) -> Found:
    return Found(float(live.shares[..., -1]))


STATISTIC = Statistic("unseen_levels", lambda feature: feature.has_levels, compare)
