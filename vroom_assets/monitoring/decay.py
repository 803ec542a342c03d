"""Whether the error has grown, predictions are biased, or intervals and probabilities are off.

What is declared as tolerated is where an effect begins to count. The evidence is against half of it, so that what is as large as
that is found, and what is half as large never raises an alarm.
"""

from __future__ import annotations

import numpy as np

from vroom_api.contract import Manifest, MonitoringReference
from vroom_assets.monitoring import e_processes
from vroom_assets.monitoring.budget import CALIBRATION, ERROR, Allowance, allowance
from vroom_assets.monitoring.cells import FEW_POINTS, points
from vroom_assets.monitoring.e_processes import EProcess
from vroom_assets.monitoring.estimate import Z_SURE
from vroom_assets.monitoring.streams import TENTHS, segment_stream
from vroom_assets.monitoring.windows import Subject, Windows, recent_of
from vroom_assets.spec import Monitoring

HALF = 0.5  # of what is tolerated: the evidence is against more than that


def watch(manifest: Manifest, rules: Monitoring, windows: Windows) -> list[Subject]:
    """The error, the bias in both directions, the calibration, and the error of declared segments."""
    reference = manifest.monitoring
    assert reference is not None
    segments = [one for one in reference.segments if one.tag in rules.segments]
    share = ERROR / 2 if segments else ERROR
    found = [
        _error("", np.asarray(reference.loss), "loss", reference, rules, windows, allowance(rules.false_alarms, share, 2)),
        *_bias(manifest, reference, rules, windows, allowance(rules.false_alarms, share, 4)),
    ]  # fmt: skip
    each = allowance(rules.false_alarms, ERROR / 2, len(segments))
    for one in segments:
        stream = segment_stream(one.tag, one.value)
        name = f"{one.tag}={one.value}"
        found.append(_error(name, np.asarray(one.loss), stream, reference, rules, windows, each))
    if reference.misses:
        mine = allowance(rules.false_alarms, CALIBRATION, 2)
        return [
            *found,
            _coverage(reference, rules, windows, mine),
            _transforms(reference, rules, windows, mine),
        ]
    if reference.reliability:
        mine = allowance(rules.false_alarms, CALIBRATION, 1)
        found.append(_reliability(reference, rules, windows, mine))
    return found


def bias_scale(manifest: Manifest) -> float:
    """What a tolerated bias is a share of: the mean target, but neither less than the size of errors nor more than twice that.

    Of a lap of 90 seconds that is predicted to 0.4 s, a bias of 5 % of the mean would be ten times the error.
    """
    reference = manifest.monitoring
    assert reference is not None
    error = reference.error**0.5 if manifest.kind.is_probability else reference.error  # Brier's is a square
    return min(max(abs(manifest.target_mean), error), 2.0 * error)


def is_biased(reference: MonitoringReference, bias: Subject) -> bool:
    """Whether the recent rows alone show a bias, by a test of its own: after another alarm that tells what it is about."""
    counts = np.asarray(reference.residual)
    grid = (2.0 * points(len(counts)) - 1.0) * reference.bound
    shares = counts / max(counts.sum(), 1e-12)
    spread = float(shares @ grid**2 - (shares @ grid) ** 2) ** 0.5
    units = max(float(bias.recent.units[-1]), 1e-12)
    deviation = spread * (1.0 / units + 1.0 / max(reference.scored, 1.0)) ** 0.5
    return bool(bias.recent.enough[-1] and bias.value[-1] >= max(bias.limit, Z_SURE * deviation))


def _error(
    name: str,
    training: np.ndarray,
    stream: str,
    reference: MonitoringReference,
    rules: Monitoring,
    windows: Windows,
    mine: Allowance,
) -> Subject:
    """The clipped loss, against that of training grown by what is tolerated."""
    counts = windows.stream(stream, len(training))
    watched = e_processes.mean(counts, training, mine, factor=1.0 + HALF * rules.growth)
    latest = recent_of(counts, windows.least(rules, outcomes=True), rules)
    grid = points(len(training)) * reference.bound
    value = latest.shares @ grid
    usual = float(training @ grid / max(training.sum(), 1e-12))
    return Subject("error", name, watched, value, usual * (1.0 + rules.growth) or float("inf"), latest)


def _bias(
    manifest: Manifest,
    reference: MonitoringReference,
    rules: Monitoring,
    windows: Windows,
    mine: Allowance,
) -> list[Subject]:
    """Outcomes above the predictions, and below them."""
    training = np.asarray(reference.residual)
    counts = windows.stream("residual", len(training))
    latest = recent_of(counts, windows.least(rules, outcomes=True), rules)
    grid = (2.0 * points(len(training)) - 1.0) * reference.bound
    value = latest.shares @ grid
    limit = rules.bias * bias_scale(manifest)
    tolerance = HALF * limit / (2.0 * reference.bound)
    above = e_processes.mean(counts, training, mine, tolerance=tolerance)
    below = e_processes.mean(counts[..., ::-1], training[::-1], mine, tolerance=tolerance)
    return [
        Subject("bias", "outcomes above predictions", above, value, limit, latest),
        Subject("bias", "outcomes below predictions", below, -value, limit, latest),
    ]


def _coverage(
    reference: MonitoringReference, rules: Monitoring, windows: Windows, mine: Allowance
) -> Subject:
    """Misses below, above, on either side, and outcomes inside; the first two may be off by half of what is tolerated."""
    training = np.asarray(reference.misses)
    counts = windows.stream("misses", 3)
    sets = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]], float)
    tolerance = HALF * rules.coverage * np.array([0.5, 0.5, 1.0, 1.0])
    watched = e_processes.shares(counts, training, training.sum(), sets, mine, tolerance)
    latest = recent_of(counts, windows.least(rules, outcomes=True), rules)
    shares = latest.shares
    usual = training / max(training.sum(), 1e-12)
    one_side = np.maximum(shares[..., 0] - usual[0], shares[..., 2] - usual[2])
    off = np.maximum(np.abs(shares[..., 1] - reference.level), 2.0 * one_side)
    return Subject("coverage", "", watched, np.where(latest.units > 0, off, 0.0), rules.coverage, latest)


def _transforms(
    reference: MonitoringReference, rules: Monitoring, windows: Windows, mine: Allowance
) -> Subject:
    """Probability integral transforms below and above each tenth (anytime-valid, as in arXiv:2603.13156, with a tolerance)."""
    training = np.asarray(reference.pit)
    counts = windows.stream("pit", TENTHS)
    sets = np.hstack([np.triu(np.ones((TENTHS, TENTHS)))[:, :-1], np.tril(np.ones((TENTHS, TENTHS)))[:, 1:]])
    watched = e_processes.shares(counts, training, training.sum(), sets, mine, HALF * rules.coverage)
    latest = recent_of(counts, windows.least(rules, outcomes=True), rules)
    below = latest.shares @ sets
    usual = training @ sets / max(training.sum(), 1e-12)
    off = np.abs(below - usual).max(axis=-1)
    return Subject("calibration", "", watched, np.where(latest.units > 0, off, 0.0), rules.coverage, latest)


def _reliability(
    reference: MonitoringReference, rules: Monitoring, windows: Windows, mine: Allowance
) -> Subject:
    """Yes more or less often than its probability: in each bin of the probability, and in all below and all above an edge."""
    training = np.asarray(reference.reliability)
    bins = len(training)
    flat = windows.stream("reliability", bins * FEW_POINTS)
    counts = flat.reshape(len(flat), bins, FEW_POINTS)
    sets = e_processes.unions(bins, ordered=True).T
    known, live = sets @ training, np.einsum("sb,wbp->wsp", sets, counts)
    part = Allowance(mine.reference / (2 * len(sets)), mine.live)
    tolerance = HALF * rules.coverage / 2.0
    both = [
        e_processes.mean(live, known, part, tolerance=tolerance).evidence,
        e_processes.mean(live[..., ::-1], known[:, ::-1], part, tolerance=tolerance).evidence,
    ]
    watched = EProcess(e_processes.averaged(np.concatenate(both, axis=-1)), mine.threshold)
    latest = recent_of(flat, windows.least(rules, outcomes=True), rules)
    grid = 2.0 * points(FEW_POINTS) - 1.0
    # Expected calibration error.
    error = np.abs(latest.shares.reshape(len(flat), bins, FEW_POINTS) @ grid).sum(axis=-1)
    usual = float(np.abs(training @ grid).sum() / max(training.sum(), 1e-12))
    return Subject("calibration", "", watched, error, usual + rules.coverage, latest)
