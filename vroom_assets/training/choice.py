"""Which candidate is chosen: that of the lowest mean, or the simplest of those that the folds cannot tell from it.

The lowest of several means is partly luck. Where `simplest` is declared, every candidate counts as equal that is within
one standard error of the best, and of equals the simplest is chosen (Breiman et al. 1984, section 3.4.3, the
one-standard-error rule; here by the error of the paired difference, which is far smaller than that of the mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Choice
from vroom_assets.training.metrics import MetricSet, standard_error


@dataclass(frozen=True)
class Chosen:
    """The candidate that was chosen, and beside which others.

    best: the one with the lowest mean of `metric`. compared: by candidate, best first, its mean, how far it is
    `behind` the best, and the standard error of that, its `noise`.
    """

    name: str
    best: str
    metric: str
    compared: pd.DataFrame
    is_reference: bool
    decided: str = ""  # by which of many rows

    def is_near(self, name: str) -> bool:
        """Whether the folds cannot tell a candidate from the best."""
        row = self.compared.loc[name]
        return name == self.best or bool(row["behind"] <= row["noise"])

    @property
    def why(self) -> str:
        return "; ".join(filter(None, (self._why, self.decided)))

    @property
    def _why(self) -> str:
        if self.name == self.best:
            others = [name for name in self.compared.index if name != self.best and self.is_near(name)]
            beside = (
                f"within one standard error of it: {', '.join(others)}" if others else "nothing else is near"
            )
            return f"{self.name} has the lowest {self.metric}; {beside}"
        row = self.compared.loc[self.name]
        what = "is the declared reference" if self.is_reference else f"is simpler than {self.best}"
        return (
            f"{self.name} {what}, and its {self.metric} is within one standard error of the lowest, "
            f"that of {self.best}: {row['behind']:.2g} ± {row['noise']:.2g} above it"
        )


def choose(
    out_of_fold: pd.DataFrame,
    target: np.ndarray,
    candidates: Mapping[str, Candidate],
    metric_set: MetricSet,
    reference: str | None = None,
    groups: np.ndarray | None = None,
    rule: Choice = Choice.LOWEST,
) -> Chosen:
    """The candidate of the lowest mean; or the reference, else the simplest, among those within one standard error of it.

    The mean of the selection metric is that over folds; the standard error that of the mean difference over rows, those
    of a group moving together. Of equally simple ones the best is chosen, of ties the one declared first. One whose
    prediction is not finite in some fold is not judged by the others.

    Args:
        out_of_fold: a row per candidate, repeat, fold and row, with its prediction.
        target: shape (rows,). groups: shape (rows,).
    """
    names = [name for name in candidates if name in set(out_of_fold["candidate"])]
    prediction = out_of_fold["prediction"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore", over="ignore"):
        loss = metric_set.select_loss(target[out_of_fold["row"].to_numpy()], prediction)
    losses = out_of_fold.assign(loss=np.where(np.isfinite(prediction + loss), loss, np.inf)).pivot_table(
        index=["repeat", "fold", "row"], columns="candidate", values="loss"
    )
    means = losses.groupby(level=["repeat", "fold"]).mean().mean()
    mean = {name: float(means[name]) for name in names}
    best = min(names, key=lambda name: mean[name])
    of_rows = losses.groupby(level="row").mean()
    groups = None if groups is None else groups[of_rows.index.to_numpy()]
    behind = {name: mean[name] - mean[best] for name in names if np.isfinite(mean[name])}
    noise = {name: _noise(of_rows[name] - of_rows[best], groups) for name in behind}
    compared = pd.DataFrame({metric_set.select: mean, "behind": behind, "noise": noise})
    compared = compared.loc[sorted(names, key=lambda name: mean[name])]
    lowest = Chosen(best, best, metric_set.select, compared, is_reference=False)
    if rule is Choice.LOWEST:
        return lowest
    near = [name for name in names if lowest.is_near(name)]
    if reference in near:
        return replace(lowest, name=str(reference), is_reference=True)
    return replace(lowest, name=min(near, key=lambda one: (candidates[one].family.rank, mean[one])))


def _noise(differences: pd.Series, groups: np.ndarray | None) -> float:
    """The standard error of their mean; 0 where all are alike."""
    values = differences.to_numpy(dtype=float)
    return standard_error(values, groups) if np.ptp(values) > 0 else 0.0
