"""The share of rows without a value."""

from vroom_assets.monitoring.statistics.base import Found, Sample, Statistic


def compare(training: Sample, live: Sample) -> Found:
    return Found(float(live.shares[..., -2]))


STATISTIC = Statistic("missing", lambda _: True, compare)
