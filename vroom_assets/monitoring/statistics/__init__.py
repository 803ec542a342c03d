"""Statistics of drift, one to a file. A new one is a file and a line here."""

from vroom_assets.monitoring.statistics import (
    chi_squared,
    jensen_shannon,
    kolmogorov_smirnov,
    missing,
    out_of_range,
    population_stability,
    unseen_levels,
)
from vroom_assets.monitoring.statistics.base import Feature, Found, Sample, Statistic

STATISTICS: tuple[Statistic, ...] = (
    kolmogorov_smirnov.STATISTIC,
    chi_squared.STATISTIC,
    jensen_shannon.STATISTIC,
    population_stability.STATISTIC,
    missing.STATISTIC,
    unseen_levels.STATISTIC,
    out_of_range.STATISTIC,
)

__all__ = ["STATISTICS", "Feature", "Found", "Sample", "Statistic"]
