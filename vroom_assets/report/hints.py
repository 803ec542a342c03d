"""What to try next, derived from figures: each hint names the one that it comes from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from vroom_api.contract import Manifest, Scores
from vroom_assets.champion.comparison import corrected_t
from vroom_assets.champion.gates import CURVE, TREND, WIDTHS
from vroom_assets.report.facts import Facts
from vroom_assets.spec import Gates

NEAR_COVERAGE = 0.01  # from a bound of the coverage
NEAR_SHARE = 0.8  # of what a gate allows
FEW_PERCENT = (
    0.02  # of a baseline's error that is saved, or of the error that a feature is worth too little for
)
LITTLE = 0.001  # of the error: a feature whose importance is not above it
NEARLY_ALL = 0.9  # of the importances
SHIFT = 0.1  # of the mean target, between two trainings
NOISE = 0.05  # probability of a difference as large where there is none
OVERFITTED = 0.5  # of the error out of fold: less on the rows of the training is learnt by heart
LARGE_ERROR = 1.5  # times the error of all rows
FEW_ROWS = 30  # of which an error says little
FINE = "Nothing stands out: no gate is near, every feature counts, and no other candidate is within noise."


def hints(found: Facts, manifest: Manifest) -> list[str]:
    """What to try next; never empty."""
    scores = manifest.scores
    ideas = [
        f"A gate is not passed: {gate}." for gate in (found.pointer.provisional if found.pointer else ())
    ]
    if scores is not None:
        if found.spec is not None:
            ideas += near_gates(scores, manifest.target_mean, found.spec.gates)
        ideas += idle_features(manifest, scores)
        ideas += overfitted(scores)
    ideas += moved_target(found, manifest)
    if scores is not None and found.folds is not None:
        ideas += within_noise(found.folds, manifest.recipe.name, scores.select)
    if scores is not None:
        ideas += large_errors(found.errors_by, scores)
    return ideas or [FINE]


def near_gates(scores: Scores, target_mean: float, gates: Gates) -> Iterator[str]:
    """Gates that are passed by little."""
    low, high = gates.coverage
    whole = scores.coverage.get("overall")
    if whole is not None and low <= whole <= high and min(whole - low, high - whole) <= NEAR_COVERAGE:
        yield (
            f"The 90 % interval covers {whole:.3f}, near the end of what is allowed, {low} to {high}. "
            f"What usually helps: {WIDTHS}."
        )
    for name, value in scores.coverage.items():
        if name != "overall" and 0 <= value - gates.tercile_coverage <= NEAR_COVERAGE:
            part = name.replace("_", " ")
            yield (
                f"Coverage in the {part} is {value:.3f}, near the least allowed, {gates.tercile_coverage}. "
                f"What usually helps: {WIDTHS}."
            )
    bias = abs(scores.nested.get("bias", 0.0)) / abs(target_mean) if target_mean else 0.0
    if NEAR_SHARE * gates.bias <= bias <= gates.bias:
        yield (
            f"The mean error is {bias:.1%} of the mean target; {gates.bias:.0%} is allowed. "
            f"What usually helps: {TREND}."
        )
    error = scores.nested.get("calibration_error", 0.0)
    if NEAR_SHARE * gates.calibration_error <= error <= gates.calibration_error:
        yield f"The calibration error is {error:.3f}; {gates.calibration_error} is allowed. What usually helps: {CURVE}."
    for baseline in scores.baselines:
        skill = scores.skill(baseline)[scores.error]
        if 0 < skill <= FEW_PERCENT:
            yield (
                f"Only {skill:.1%} of the error of the {baseline} is saved: the features say little about the target. "
                "Columns that say more are worth more than other candidates."
            )


def idle_features(manifest: Manifest, scores: Scores) -> Iterator[str]:
    """Features that the error would not miss, and one that is nearly all of it."""
    used = {name: manifest.importances.get(name, 0.0) for name in manifest.recipe.features}
    idle = [name for name, value in used.items() if value <= LITTLE * abs(scores.nested[scores.error])]
    if idle and len(idle) < len(used):
        listed = ", ".join(idle[:8]) + (f" and {len(idle) - 8} more" if len(idle) > 8 else "")
        yield (
            f"Without these features the error would hardly be larger: {listed}. "
            "They may be taken out of the candidates."
        )
    total = sum(value for value in used.values() if value > 0)
    top = max(used, key=lambda name: used[name], default=None)
    if top is not None and len(used) > 1 and total > 0 and used[top] > NEARLY_ALL * total:
        yield f"Nearly all that is known comes from {top}: is it known at the time for which the forecast is asked?"


def overfitted(scores: Scores) -> Iterator[str]:
    known, new = scores.train.get(scores.error), scores.nested[scores.error]
    if known is not None and 0 <= known < OVERFITTED * new:
        yield (
            f"{scores.error} is {known:.4g} on the rows of the training and {new:.4g} on others: much is learnt by heart. "
            "What usually helps: larger leaves, a stronger regularization, fewer features, or more rows."
        )


def moved_target(found: Facts, manifest: Manifest) -> Iterator[str]:
    if not found.former:
        return
    before, now = found.former[-1].target_mean, manifest.target_mean
    if before and abs(now - before) > SHIFT * abs(before):
        yield (
            f"The mean target went from {before:.4g} in the data of version {found.former[-1].version} to {now:.4g}, by "
            f"{(now - before) / abs(before):+.0%}. What usually helps where it goes on: {TREND}."
        )


def within_noise(folds: pd.DataFrame, chosen: str, select: str) -> Iterator[str]:
    """The best of the other candidates, where the folds do not tell it from the chosen one.

    The corrected resampled t-test (Nadeau & Bengio 2003), as in a contest.
    """
    table = folds.pivot_table(index=["repeat", "fold"], columns="candidate", values=select)
    others = table.drop(columns=[name for name in (chosen, "mean", "median") if name in table])
    number = table.index.get_level_values("fold").nunique()
    if chosen not in table or others.empty or number < 2:
        return
    other = str(others.mean().idxmin())
    differences = (others[other] - table[chosen]).to_numpy(dtype=float)
    if not np.isfinite(differences).all():
        return
    _, probability = corrected_t(differences, 1 / (number - 1))
    if probability > NOISE:
        yield (
            f"{other} is within noise of {chosen} ({select} {others[other].mean():.4g} and {table[chosen].mean():.4g} "
            "on the same folds): the simpler of the two would do; where they are of different families, an average of both may be better."
        )


def large_errors(errors_by: dict[str, pd.DataFrame], scores: Scores) -> Iterator[str]:
    for tag, parts in errors_by.items():
        enough = parts[parts["rows"] >= FEW_ROWS]
        if len(enough) < 2 or scores.error not in enough:
            continue
        worst = enough.sort_values(scores.error).iloc[-1]
        if worst[scores.error] > LARGE_ERROR * scores.nested[scores.error]:
            yield (
                f"Errors are largest where {tag} is {worst['value']}: {scores.error} {worst[scores.error]:.4g}, "
                f"{scores.nested[scores.error]:.4g} over all. A feature that tells such rows from others would help, or more of them."
            )
