"""What the error is now, as far as it can be known without outcomes, and what each feature has to do with it.

Out of fold it is known how large losses are at predictions of each size. Where only the inputs have moved, live losses are those
of training at the same predictions, in other shares. Where outcomes follow the inputs in another way this sees nothing, and
neither does it of rows outside the range of training; both show as realised errors outside its band (compare the direct loss
estimation of NannyML, which fits a model of the loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vroom_api.contract import FeatureReference, MonitoringReference

Z90 = 1.6449  # of a band that holds 90 %
Z_SURE = 3.29  # of one that holds 99.9 %: the verdict is looked up day after day
MOST_BLIND = 0.1  # share of rows outside the range of training, above which the band promises nothing


@dataclass(frozen=True)
class Estimate:
    """error: mean clipped loss of the covered rows. deviation: standard error of a realised one. rows: covered ones. blind: share of
    the others."""

    error: float
    deviation: float
    rows: float
    blind: float

    def band(self, z: float = Z90) -> tuple[float, float]:
        return max(self.error - z * self.deviation, 0.0), self.error + z * self.deviation

    def holds(self, realised: float, z: float = Z90) -> bool:
        low, high = self.band(z)
        return low <= realised <= high

    @property
    def total(self) -> float:
        """Rows, covered or not."""
        return self.rows / (1.0 - self.blind)

    @property
    def is_blind(self) -> bool:
        return self.blind > MOST_BLIND


def estimate(reference: MonitoringReference, covered: np.ndarray) -> Estimate | None:
    """The estimate for rows.

    Args:
        covered: units by bin of the prediction, then those outside the range of training.

    Returns:
        None without a row.
    """
    inside, total = covered[:-1], float(covered.sum())
    rows = float(inside.sum())
    if rows <= 0:
        return None
    known = reference.prediction
    mean, deviation, training = (np.asarray(one) for one in (known.loss_mean, known.loss_sd, known.units))
    shares = inside / rows
    noise = float(shares @ deviation**2) / rows
    of_reference = float((shares**2) @ (deviation**2 / np.maximum(training, 1.0)))
    return Estimate(float(shares @ mean), (noise + of_reference) ** 0.5, rows, 1.0 - rows / total)


@dataclass(frozen=True)
class Damage:
    """By how much the error grows because a feature has moved, as a share of the error in training. low: of its 90 % band."""

    name: str
    share: float
    low: float


def damage(
    reference: MonitoringReference, feature: FeatureReference, live: np.ndarray, expected: np.ndarray
) -> Damage:
    """The estimate of live rows less that of the same rows weighted so that the feature is distributed as in training.

    Args:
        live: units by cell of the feature. expected: sums of the expected loss of these rows.
    """
    rows = float(live.sum())
    usual = mean_loss(reference)
    if rows <= 0 or usual <= 0:
        return Damage(feature.name, 0.0, 0.0)
    training = np.append(np.asarray(feature.units)[:-1], 0.0)
    back = training / training.sum()
    known = np.append(np.asarray(feature.losses), [usual, usual])
    in_cell = np.where(live > 0, expected / np.maximum(live, 1e-12), known)
    now, before = float(expected.sum()) / rows, float(back @ in_cell)
    spread = np.asarray(reference.prediction.loss_mean).std()
    deviation = (2.0 * spread**2 / rows + spread**2 / max(reference.scored, 1.0)) ** 0.5
    grown = now - before
    return Damage(feature.name, grown / usual, (grown - Z90 * deviation) / usual)


def mean_loss(reference: MonitoringReference) -> float:
    """Of the clipped losses of training."""
    counts = np.asarray(reference.loss)
    total = counts.sum()
    return float(counts @ np.linspace(0.0, reference.bound, len(counts)) / total) if total else 0.0
