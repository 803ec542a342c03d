"""Gates that no verdict overrides; a first champion may serve without them, as provisional."""

from __future__ import annotations

from vroom_api.contract import Manifest, Scores
from vroom_assets.spec import Gates

# What usually helps where a gate is not passed.
WIDTHS = "more rows, or features that tell rows with large errors from those with small ones"
TREND = "a feature of time, `validation.order` where the target grows or falls, or a shorter history"
CURVE = "`calibration: sigmoid` or `isotonic` of the candidate"
CANDIDATES = "the reference as a member of an average, or fewer and simpler candidates"


def failed_gates(scores: Scores | None, target_mean: float, gates: Gates) -> list[str]:
    """The gates that a challenger's out-of-fold figures do not pass, each as a sentence.

    Args:
        scores: of its manifest; None where it was trained before they had a shape.
    """
    if scores is None:
        return failed_baselines(scores)
    failures = _failed_intervals(scores, gates) + failed_baselines(scores)
    error = scores.nested.get("calibration_error", 0.0)  # of a probability; others have none
    if error > gates.calibration_error:
        failures.append(
            f"calibration error is {error:.3f}, more than {gates.calibration_error}; what usually helps: {CURVE}"
        )
    loss = scores.loss_over_reference
    if loss is not None and loss > gates.reference_margin:
        failures.append(
            f"error is {loss:.2%} above that of {gates.reference}, more than {gates.reference_margin:.2%}; "
            f"what usually helps: {CANDIDATES}"
        )
    share = abs(scores.nested["bias"]) / abs(target_mean) if target_mean else 0.0
    if share > gates.bias:
        failures.append(
            f"mean error is {share:.1%} of the mean target, more than {gates.bias:.0%}; what usually helps: {TREND}"
        )
    return failures


def failed_baselines(scores: Scores | None) -> list[str]:
    """The baselines that a challenger does not beat; without scores it is not known to be."""
    if scores is None:
        return ["its scores are of an earlier version of Vroom: train again"]
    return [
        f"{metric} over {baseline}: no better than that baseline ({skill:+.3f})".replace("_", " ")
        for baseline in scores.baselines
        for metric, skill in scores.skill(baseline).items()
        if skill <= 0
    ]


def _failed_intervals(scores: Scores, gates: Gates) -> list[str]:
    low, high = gates.coverage
    parts = {"": scores.coverage, " of the fallback": scores.fallback_coverage}
    failures = [
        f"coverage of the 90 % interval{whose} is {coverage['overall']:.3f}, not within {low}-{high}"
        for whose, coverage in parts.items()
        if coverage and not low <= coverage["overall"] <= high
    ]
    failures += [
        f"coverage in the {name.replace('_', ' ')} is {value:.3f}, below {gates.tercile_coverage}"
        for name, value in scores.coverage.items()
        if name.endswith("tercile") and value < gates.tercile_coverage
    ]
    return [f"{failure}; what usually helps: {WIDTHS}" for failure in failures]


def failed_shifts(champion: Manifest, challenger: Manifest, target_sd: float, gates: Gates) -> list[str]:
    """What is so unlike the champion's data that somebody has to check it first, each as a sentence.

    A file loaded twice, a history that grew by a year and is counted as one, a column in another unit: models
    fitted to such data pass all other gates.

    Args:
        target_sd: standard deviation of the target that the challenger was trained on.
    """
    failures = []
    before, now = champion.target_mean, challenger.target_mean
    shift = abs(now - before) / (max(abs(before), target_sd) or 1.0)
    remedy = "check the sources and target.sql, and where they are right raise"
    if shift > gates.target_shift:
        failures.append(
            f"the mean target is {now:.4g}, and was {before:.4g} in the champion's data, a change of {shift:.0%} where "
            f"{gates.target_shift:.0%} is allowed; {remedy} gates.target_shift"
        )
    factor = max(challenger.rows, champion.rows) / max(1, min(challenger.rows, champion.rows))
    if factor > gates.rows_factor:
        failures.append(
            f"there are {challenger.rows} examples, and were {champion.rows} in the champion's data, "
            f"{factor:.3g} times as {'many' if challenger.rows > champion.rows else 'few'} where "
            f"{gates.rows_factor:g} is allowed; {remedy} gates.rows_factor"
        )
    return failures
