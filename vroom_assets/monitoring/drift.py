"""Whether inputs and predictions have moved away from those of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vroom_api.contract import FeatureReference, MonitoringReference
from vroom_assets.monitoring import e_processes
from vroom_assets.monitoring.budget import DRIFT, Allowance, allowance
from vroom_assets.monitoring.statistics import STATISTICS, Feature, Found, Sample
from vroom_assets.monitoring.statistics.jensen_shannon import distances
from vroom_assets.monitoring.streams import feature_stream
from vroom_assets.monitoring.windows import Subject, Windows, recent_of
from vroom_assets.spec import Monitoring

FALSE_DISCOVERIES = 0.05  # expected share of warnings that are none
PREDICTION = "prediction"


def watch(reference: MonitoringReference, rules: Monitoring, windows: Windows) -> list[Subject]:
    """Each feature, and the predictions.

    The reference is a sample as well, so that no share is held to be exactly the one in training: a share counts as moved
    when it is above the upper confidence bound of training's, and as drift when the distance of the recent rows from training
    is as large as declared.
    """
    mine = allowance(rules.false_alarms, DRIFT, len(reference.features) + 1)
    found = [_feature(one, reference.units, rules, windows, mine) for one in reference.features]
    return [*found, _prediction(reference, rules, windows, mine)]


def _feature(
    reference: FeatureReference, units: float, rules: Monitoring, windows: Windows, mine: Allowance
) -> Subject:
    training = np.asarray(reference.units)
    counts = windows.stream(feature_stream(reference.name), len(training))
    sets = e_processes.unions(len(training) - 2, reference.ordered, apart=2)
    watched = e_processes.shares(counts, training, units, sets, mine)
    return _subject(reference.name, watched, counts, training, rules, windows)


def _prediction(
    reference: MonitoringReference, rules: Monitoring, windows: Windows, mine: Allowance
) -> Subject:
    training = np.asarray(reference.prediction.units)
    counts = windows.stream(PREDICTION, len(training))
    sets = e_processes.unions(len(training), ordered=True)
    watched = e_processes.shares(counts, training, reference.scored, sets, mine)
    return _subject(PREDICTION, watched, counts, training, rules, windows)


def _subject(
    name: str,
    watched: e_processes.EProcess,
    counts: np.ndarray,
    training: np.ndarray,
    rules: Monitoring,
    windows: Windows,
) -> Subject:
    latest = recent_of(counts, windows.least(rules, outcomes=False), rules)
    distance = np.where(latest.units > 0, distances(Sample(training), Sample(latest.cells)), 0.0)
    return Subject("drift", name, watched, distance, rules.distance, latest)


@dataclass(frozen=True)
class Compared:
    """A feature's recent rows beside those of training: statistics by name. warning: whether a test finds a difference, with
    false discoveries controlled over all features. skew: the distance of the first rows from training."""

    name: str
    statistics: dict[str, Found]
    warning: bool
    skew: float


def compare(reference: MonitoringReference, rules: Monitoring, windows: Windows) -> list[Compared]:
    """All statistics of each feature, of the recent rows at the latest window.

    Skew, where live rows never were like those of training, shows in the first rows of the version.
    """
    found, p_values = [], []
    least = windows.least(rules, outcomes=False)
    for one in reference.features:
        training = Sample(np.asarray(one.units))
        counts = windows.stream(feature_stream(one.name), len(one.units))
        latest = recent_of(counts, least, rules)
        live = Sample(latest.cells[-1])
        kind = Feature(one.ordered, bool(one.levels))
        statistics = {each.name: each.compare(training, live) for each in STATISTICS if each.applies(kind)}
        tests = [each.p_value for each in statistics.values() if each.p_value is not None]
        p_values.append(min(tests, default=1.0) if latest.enough[-1] else 1.0)
        first = counts[: int(np.searchsorted(counts.sum(axis=-1).cumsum(), least)) + 1].sum(axis=0)
        found.append((one.name, statistics, float(distances(training, Sample(first)))))
    warned = discoveries(np.array(p_values), FALSE_DISCOVERIES)
    return [
        Compared(name, statistics, bool(warning), skew)
        for (name, statistics, skew), warning in zip(found, warned, strict=True)
    ]


def discoveries(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Which tests find something, so that of these at most a share is expected to be wrong (Benjamini & Hochberg 1995,
    doi:10.1111/j.2517-6161.1995.tb02031.x); bool, shape (tests,)."""
    tests = len(p_values)
    if not tests:
        return np.zeros(0, dtype=bool)
    ordered = np.sort(p_values)
    passed = np.flatnonzero(ordered <= rate * np.arange(1, tests + 1) / tests)
    return p_values <= ordered[passed[-1]] if len(passed) else np.zeros(tests, dtype=bool)
