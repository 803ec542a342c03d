"""All that is watched of a version, followed through its windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vroom_api.contract import Manifest, MonitoringReference
from vroom_assets.monitoring import decay, drift
from vroom_assets.monitoring.estimate import Z_SURE, Damage, Estimate, damage, estimate
from vroom_assets.monitoring.streams import feature_stream
from vroom_assets.monitoring.windows import Subject, Windows, recent_of
from vroom_assets.spec import Monitoring

LEAST_COVERED = 30  # rows, for a mean that is compared with a band


@dataclass(frozen=True)
class Watch:
    """All that is watched, over all windows of a version, and what is known of the error now.

    reference: what is compared with. drifts, decays: subjects. damages: of each feature, the largest first. live: the estimate for recent predictions. scored: the
    estimate for the recent rows whose outcomes are known, and `realised` their mean clipped loss; None without any. held: in which
    share of the windows with enough outcomes the band of 90 % held the realised error; None without any.
    """

    reference: MonitoringReference
    windows: Windows
    drifts: list[Subject]
    decays: list[Subject]
    damages: list[Damage]
    live: Estimate | None
    scored: Estimate | None
    realised: float | None
    held: float | None

    def in_alarm(self, *checks: str) -> list[Subject]:
        return [one for one in (*self.drifts, *self.decays) if one.check in checks and one.now]

    @property
    def is_explained(self) -> bool | None:
        """Whether the realised error is one that the inputs explain, of the rows that are like those of training; None where
        too few are."""
        if self.scored is None or self.realised is None or self.scored.rows < LEAST_COVERED:
            return None
        return self.scored.holds(self.realised, Z_SURE)

    @property
    def is_biased(self) -> bool:
        """Whether recent outcomes are on average other than predicted, in alarm or not."""
        return any(decay.is_biased(self.reference, one) for one in self.decays if one.check == "bias")

    @property
    def harmful_damages(self) -> list[Damage]:
        """Those of features in alarm that chance does not explain, the largest first."""
        moved = {one.name for one in self.drifts if one.now}
        return [one for one in self.damages if one.name in moved and one.low > 0]


def watch(manifest: Manifest, rules: Monitoring, windows: Windows) -> Watch:
    """Follow everything through all windows.

    Args:
        manifest: with a reference.
    """
    reference = manifest.monitoring
    assert reference is not None
    cells = len(reference.prediction.units) + 1
    covered = recent_of(windows.stream("covered", cells), windows.least(rules, outcomes=False), rules)
    scored = windows.stream("scored", cells)
    both = np.column_stack([scored, windows.total("scored_loss")])
    latest = recent_with(both, scored.sum(axis=-1), windows.least(rules, outcomes=True))
    inside = float(latest[: cells - 1].sum())
    return Watch(
        reference=reference,
        windows=windows,
        drifts=drift.watch(reference, rules, windows),
        decays=decay.watch(manifest, rules, windows),
        damages=_damages(reference, rules, windows),
        live=estimate(reference, covered.cells[-1]),
        scored=estimate(reference, latest[:cells]),
        realised=float(latest[cells]) / inside if inside > 0 else None,
        held=_held(reference, scored, windows.total("scored_loss")),
    )


def _held(reference: MonitoringReference, scored: np.ndarray, losses: np.ndarray) -> float | None:
    """How the estimate did, window by window."""
    held = []
    for covered, loss in zip(scored, losses, strict=True):
        one = estimate(reference, covered)
        if one is not None and one.rows >= LEAST_COVERED:
            held.append(one.holds(float(loss) / one.rows))
    return float(np.mean(held)) if held else None


def recent_with(counts: np.ndarray, rows: np.ndarray, least: float) -> np.ndarray:
    """Sums over the recent windows, shape (cells,), where rows are not the sum of the cells."""
    before = np.flatnonzero(np.cumsum(rows[::-1]) >= least - min(0.01, least / 400.0))
    first = len(rows) - 1 - int(before[0]) if len(before) else 0
    return counts[first:].sum(axis=0)


def _damages(reference: MonitoringReference, rules: Monitoring, windows: Windows) -> list[Damage]:
    found, least = [], windows.least(rules, outcomes=False)
    for one in reference.features:
        cells = len(one.units)
        live = windows.stream(feature_stream(one.name), cells)
        expected = windows.stream(f"expected:{one.name}", cells)
        rows = live.sum(axis=-1)
        found.append(
            damage(
                reference,
                one,
                recent_with(live, rows, least),
                recent_with(expected, rows, least),
            )
        )
    return sorted(found, key=lambda one: -one.share)
