"""The paired comparison of challenger and champion, and its verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from vroom_api.contract.events import Decision
from vroom_assets.spec import Candidate, Contest, Validation
from vroom_assets.training.folds import RowStructure, outer_splits
from vroom_assets.training.metrics import MetricSet, standard_error
from vroom_assets.training.parallel import Entry, fit_splits
from vroom_assets.training.sampling import DECIDING_ROWS, FULL_ROWS, folded_once, sample, sample_sizes


@dataclass(frozen=True)
class Entrant:
    """A recipe with the features as its own definitions compute them on the current data.

    candidates: the recipe and, for an average, its members; name: which of them competes.
    frame: its features, one row per entity, rows in the same order for both entrants.
    """

    name: str
    candidates: dict[str, Candidate]
    frame: pd.DataFrame

    def same_recipe(self, other: Entrant) -> bool:
        """Whether both are declared alike; values of parameters that were chosen by the data may differ."""
        mine, theirs = self.candidates[self.name], other.candidates[other.name]
        members = [self.candidates[m].model_dump() for m in mine.members] == [
            other.candidates[m].model_dump() for m in theirs.members
        ]
        same = mine.model_dump(exclude={"members"}) == theirs.model_dump(exclude={"members"})
        return same and members and self.frame[self.features].equals(other.frame[other.features])

    @property
    def features(self) -> list[str]:
        recipe = self.candidates[self.name]
        return recipe.features or [f for m in recipe.members for f in self.candidates[m].features]


@dataclass(frozen=True)
class Comparison:
    """Champion against challenger on the same rows; a positive gain means the challenger errs less."""

    rows: int
    champion_error: float
    challenger_error: float
    gain: float
    relative_gain: float
    row_z: float
    folds_t: float
    folds_p: float

    def as_evidence(self) -> dict[str, float]:
        return asdict(self)


class WentBack(NamedTuple):
    """The data end earlier than those that the champion was trained on, ISO 8601."""

    now: str
    before: str


def corrected_t(differences: np.ndarray, test_share: float) -> tuple[float, float]:
    """Corrected resampled t-test of mean fold differences against 0, one-sided.

    Args:
        differences: one mean difference per fold and repeat, shape (J,).
        test_share: rows tested over rows trained on, 1 / (folds - 1) for k-fold.

    Returns:
        t and the probability of a t at least as large if there were no difference.
    """
    from scipy.stats import t as student

    count = len(differences)
    spread = differences.std(ddof=1)
    if spread == 0:
        return 0.0, 1.0 if differences.mean() <= 0 else 0.0
    statistic = differences.mean() / (spread * np.sqrt(1 / count + test_share))
    return float(statistic), float(student.sf(statistic, count - 1))


def compare(
    champion: Entrant,
    challenger: Entrant,
    target: np.ndarray,
    validation: Validation,
    metric_set: MetricSet,
    rows: RowStructure | None = None,
) -> Comparison:
    """Score both recipes on the same repeated folds of the current data, paired per row.

    Of many rows a sample is taken, as large as a race at least decides on, and folded as there: the standard error of
    the gain is about a tenth of a percent of the error, a fifth of the gain that a promotion asks for.

    Args:
        rows: their groups and times, None where they are independent.
    """
    rows = rows or RowStructure(len(target))
    chosen, validation = _compared_on(rows, validation)
    rows, target = rows.take(chosen), target[chosen]
    folds = outer_splits(rows, validation)

    def losses(entrant: Entrant) -> list[np.ndarray]:
        entries = [Entry(split, entrant.candidates) for split in folds]
        found = fit_splits(entries, entrant.frame.iloc[chosen], target, rows, validation)
        return [
            metric_set.row_loss(target[split.test], fits[entrant.name].prediction)
            for split, fits in zip(folds, found, strict=True)
        ]

    champion_losses = losses(champion)
    challenger_losses = champion_losses if challenger.same_recipe(champion) else losses(challenger)
    gains, champion_error, times = np.zeros(rows.rows), np.zeros(rows.rows), np.zeros(rows.rows)
    fold_gains = np.empty(len(folds))
    for number, split in enumerate(folds):
        difference = champion_losses[number] - challenger_losses[number]
        gains[split.test] += difference
        champion_error[split.test] += champion_losses[number]
        times[split.test] += 1
        fold_gains[number] = difference.mean()
    tested = times > 0
    gains, champion_error = gains[tested] / times[tested], champion_error[tested] / times[tested]
    deviation = standard_error(gains, None if rows.groups is None else rows.groups[tested])
    share = float(np.mean([len(split.test) / len(split.train) for split in folds]))
    statistic, probability = corrected_t(fold_gains, share)
    gain, error = float(gains.mean()), float(champion_error.mean())
    return Comparison(
        rows=int(tested.sum()),
        champion_error=error,
        challenger_error=error - gain,
        gain=gain,
        relative_gain=gain / error if error > 0 else 0.0,
        row_z=gain / deviation if deviation > 0 else 0.0,
        folds_t=statistic,
        folds_p=probability,
    )


def _compared_on(rows: RowStructure, validation: Validation) -> tuple[np.ndarray, Validation]:
    """Row numbers, ascending, and how they are folded."""
    if rows.rows <= FULL_ROWS:
        return np.arange(rows.rows), validation
    sizes = sample_sizes(rows, validation.seed)
    size = DECIDING_ROWS if len(sizes) > 1 else rows.rows
    return sample(rows, size, validation.seed), folded_once(validation, sizes)


def judge(
    comparison: Comparison,
    rules: Contest,
    *,
    same_recipe: bool,
    new_data: bool,
    new_declaration: bool = False,
    went_back: WentBack | None = None,
) -> tuple[Decision, str]:
    """The verdict on a comparison and its reason in a sentence.

    Args:
        new_data: the challenger was trained on other data than the champion.
        went_back: where these end earlier than the champion's.
    """
    from scipy.stats import norm

    needed_z = float(norm.ppf(rules.confidence))
    share = f"{comparison.relative_gain:+.2%} of the champion's error"
    if comparison.relative_gain >= rules.effect and comparison.row_z > needed_z:
        return Decision.PROMOTE, (
            f"better by {share} (at least {rules.effect:.2%} is asked for), z {comparison.row_z:.2f} > {needed_z:.2f}"
        )
    trained = "trained on newer data"
    if went_back:
        trained = (
            f"trained on the data as they are now, which end at {went_back.now} and not at {went_back.before}"
        )
    if new_data and same_recipe:
        return Decision.REFRESH, f"the champion's own recipe, {trained}"
    if new_data and comparison.relative_gain >= -rules.margin:
        return Decision.REFRESH, (
            f"{trained} and not worse: {share}, a loss up to {rules.margin:.2%} is allowed"
        )
    if new_declaration and same_recipe:
        return Decision.REFRESH, "the champion's own recipe on the same data, under a changed declaration"
    if same_recipe:
        return Decision.HOLD, "the same recipe on the same data: nothing new"
    return Decision.HOLD, (
        f"not proved better: {share}, z {comparison.row_z:.2f} (needs {rules.effect:.2%} and z > {needed_z:.2f})"
    )
