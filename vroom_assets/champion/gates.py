"""Gates that no verdict overrides."""

from __future__ import annotations

from vroom_assets.spec import Gates


def failed_gates(
    metrics: dict[str, float], coverage: dict[str, float], target_mean: float, gates: Gates
) -> list[str]:
    """The gates that a challenger's out-of-fold figures do not pass, each as a sentence.

    Args:
        metrics: of `training.summary`. coverage: of the calibration, at the 0.9 level.
    """
    failures = []
    low, high = gates.coverage
    if coverage and not low <= coverage["overall"] <= high:
        failures.append(
            f"coverage of the 90 % interval is {coverage['overall']:.3f}, not within {low}-{high}"
        )
    for name, value in coverage.items():
        if name.endswith("tercile") and value < gates.tercile_coverage:
            failures.append(
                f"coverage in the {name.replace('_', ' ')} is {value:.3f}, below {gates.tercile_coverage}"
            )
    if not low <= (covered := metrics.get("fallback_coverage_overall", low)) <= high:
        failures.append(f"coverage of the fallback's 90 % interval is {covered:.3f}, not within {low}-{high}")
    for name, value in metrics.items():
        if name.startswith("skill_") and value <= 0:
            _, _, rest = name.partition("skill_")
            failures.append(f"{rest.replace('_', ' ')}: no better than that baseline ({value:+.3f})")
    error = metrics.get("nested_calibration_error", 0.0)
    if error > gates.calibration_error:
        failures.append(f"calibration error is {error:.3f}, more than {gates.calibration_error}")
    loss = metrics.get("loss_over_reference", 0.0)
    if loss > gates.reference_margin:
        failures.append(
            f"error is {loss:.2%} above that of {gates.reference}, more than {gates.reference_margin:.2%}"
        )
    share = abs(metrics["nested_bias"]) / abs(target_mean) if target_mean else 0.0
    if share > gates.bias:
        failures.append(f"mean error is {share:.1%} of the mean target, more than {gates.bias:.0%}")
    return failures
