"""Gates that no verdict overrides."""

from __future__ import annotations

from vroom_api.contract import Manifest, Scores
from vroom_assets.spec import Gates


def failed_gates(scores: Scores | None, target_mean: float, gates: Gates) -> list[str]:
    """The gates that a challenger's out-of-fold figures do not pass, each as a sentence.

    Args:
        scores: of its manifest; None where it was trained before they had a shape.
    """
    if scores is None:
        return ["its scores are of an earlier version of Vroom: train again"]
    failures = []
    low, high = gates.coverage
    coverage = scores.coverage
    if coverage and not low <= coverage["overall"] <= high:
        failures.append(
            f"coverage of the 90 % interval is {coverage['overall']:.3f}, not within {low}-{high}"
        )
    for name, value in coverage.items():
        if name.endswith("tercile") and value < gates.tercile_coverage:
            failures.append(
                f"coverage in the {name.replace('_', ' ')} is {value:.3f}, below {gates.tercile_coverage}"
            )
    if scores.fallback_coverage and not low <= (covered := scores.fallback_coverage["overall"]) <= high:
        failures.append(f"coverage of the fallback's 90 % interval is {covered:.3f}, not within {low}-{high}")
    for baseline in scores.baselines:
        for metric, skill in scores.skill(baseline).items():
            if skill <= 0:
                words = f"{metric} over {baseline}".replace("_", " ")
                failures.append(f"{words}: no better than that baseline ({skill:+.3f})")
    error = scores.nested.get("calibration_error", 0.0)  # of a probability; others have none
    if error > gates.calibration_error:
        failures.append(f"calibration error is {error:.3f}, more than {gates.calibration_error}")
    loss = scores.loss_over_reference
    if loss is not None and loss > gates.reference_margin:
        failures.append(
            f"error is {loss:.2%} above that of {gates.reference}, more than {gates.reference_margin:.2%}"
        )
    share = abs(scores.nested["bias"]) / abs(target_mean) if target_mean else 0.0
    if share > gates.bias:
        failures.append(f"mean error is {share:.1%} of the mean target, more than {gates.bias:.0%}")
    return failures


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
