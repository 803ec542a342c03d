"""An evaluation as checks, as numbers and as a sentence for the owner of the forecast."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vroom_api.contract import Manifest
from vroom_api.contract.checks import Check, Status
from vroom_assets.monitoring import decay, drift
from vroom_assets.monitoring.estimate import Z_SURE, Estimate, mean_loss
from vroom_assets.monitoring.verdict import Verdict
from vroom_assets.monitoring.watch import Watch
from vroom_assets.monitoring.windows import Subject
from vroom_assets.spec import Monitoring

EARLY = 2.576  # standard errors of what has come of partial horizons, from which on it is a warning
NAMED = 3  # features in a sentence
LEAST_BLIND = 0.01  # share of rows outside the range of training that a sentence mentions


def checks(manifest: Manifest, rules: Monitoring, found: Watch) -> tuple[Check, ...]:
    """One of each subject, of the estimate, of its score and of partial horizons, for the latest window."""
    return (
        *_drifts(manifest, rules, found),
        *_decays(manifest, found),
        *_estimates(manifest, rules, found),
        *_partial(manifest, found),
    )


def _check(
    manifest: Manifest,
    found: Watch,
    name: str,
    subject: str,
    rows: float,
    status: Status,
    values: dict[str, float],
    message: str,
) -> Check:
    return Check(
        forecast=manifest.forecast,
        version=manifest.version,
        name=name,
        subject=subject,
        window_start=found.windows.latest_start,
        window_end=found.windows.end,
        rows=round(rows),
        status=status,
        values={key: round(float(value), 6) for key, value in values.items() if math.isfinite(value)},
        message=message,
    )


def _status(one: Subject, warning: bool) -> Status:
    if one.now:
        return Status.ALARM
    if not one.recent.enough[-1]:
        return Status.UNKNOWN
    return Status.WARNING if warning or one.watched.crossed[-1] else Status.OK


def _numbers(one: Subject) -> dict[str, float]:
    return {
        "value": float(one.value[-1]),
        "limit": one.limit,
        "evidence": one.evidence,  # as powers of ten, as is its threshold
        "threshold": one.watched.threshold / math.log(10),
    }


def _drifts(manifest: Manifest, rules: Monitoring, found: Watch) -> Iterator[Check]:
    reference = manifest.monitoring
    assert reference is not None
    compared = {one.name: one for one in drift.compare(reference, rules, found.windows)}
    damages = {one.name: one for one in found.damages}
    for subject in found.drifts:
        one, harm = compared.get(subject.name), damages.get(subject.name)
        values, words = _numbers(subject), ""
        if one is not None and harm is not None:
            values |= {name: each.value for name, each in one.statistics.items()}
            values |= {
                f"{name}_p": each.p_value for name, each in one.statistics.items() if each.p_value is not None
            }
            values |= {"damage": harm.share, "damage_low": harm.low, "distance_of_first_rows": one.skew}
            words = f"; it is estimated to change the error by {harm.share:+.1%}"
            if subject.now:
                since = "since this version serves" if one.skew >= rules.distance else "while it served"
                words += f"; other than in training {since}"
        status = _status(subject, one is not None and one.warning)
        yield _check(
            manifest, found, "drift", subject.name, subject.recent.rows[-1], status, values,
            f"distance from training {subject.value[-1]:.3f}, of {subject.limit:g} that count{words}"
            if status is not Status.UNKNOWN
            else _too_few(subject, rules),
        )  # fmt: skip


def _too_few(subject: Subject, rules: Monitoring) -> str:
    return f"{subject.recent.rows[-1]:.0f} rows; {rules.least_rows} are needed"


def _decays(manifest: Manifest, found: Watch) -> Iterator[Check]:
    for subject in found.decays:
        status = _status(subject, False)
        text = {
            "error": f"error {subject.value[-1]:.4g}, of {subject.limit:.4g} that are tolerated",
            "bias": f"{subject.name} by {subject.value[-1]:.4g}, of {subject.limit:.4g} that are tolerated",
            "coverage": f"intervals are off by {subject.value[-1]:.3f}, of {subject.limit:g} that are tolerated",
            "calibration": f"calibration is off by {subject.value[-1]:.3f}, of {subject.limit:.3g} that are tolerated",
        }[subject.check]
        yield _check(
            manifest,
            found,
            subject.check,
            subject.name,
            subject.recent.rows[-1],
            status,
            _numbers(subject),
            text if status is not Status.UNKNOWN else f"{subject.recent.rows[-1]:.0f} outcomes are too few",
        )


def _estimates(manifest: Manifest, rules: Monitoring, found: Watch) -> Iterator[Check]:
    if found.live is not None:
        low, high = found.live.band()
        values = {"value": found.live.error, "low": low, "high": high, "blind": found.live.blind}
        is_known = (
            found.live.total >= 0.99 * found.windows.least(rules, outcomes=False) and not found.live.is_blind
        )
        text = f"error estimated without outcomes {found.live.error:.4g}, {low:.4g} to {high:.4g}"
        if found.live.is_blind:
            text += f"; {found.live.blind:.0%} of the rows are outside the range of training, and theirs is unknown"
        status = Status.OK if is_known else Status.UNKNOWN
        yield _check(manifest, found, "estimate", "", found.live.total, status, values, text)
    if found.scored is None or found.realised is None:
        return
    low, high = found.scored.band()
    values = {"value": found.realised, "estimate": found.scored.error, "low": low, "high": high}
    if found.held is not None:
        values["held"] = found.held
    inside = "inside" if found.scored.holds(found.realised) else "outside"
    text = f"error of known outcomes {found.realised:.4g}, {inside} the estimate of {low:.4g} to {high:.4g}"
    if found.scored.total < 0.99 * found.windows.least(rules, outcomes=True):
        status = Status.UNKNOWN
    else:
        status = Status.OK if found.scored.holds(found.realised, Z_SURE) else Status.WARNING
    yield _check(manifest, found, "estimate", "scored", found.scored.total, status, values, text)


def _partial(manifest: Manifest, found: Watch) -> Iterator[Check]:
    """What has come of horizons that are not over, in the latest window alone."""
    rows, square = float(found.windows.partial[-1]), float(found.windows.total("partial_square")[-1])
    if rows <= 0 or square <= 0:
        return
    z = float(found.windows.total("partial_residual")[-1]) / square**0.5
    status = Status.WARNING if abs(z) > EARLY else Status.OK
    text = f"outcomes so far are {abs(z):.1f} standard errors {'above' if z > 0 else 'below'} predictions × share of the horizon"
    yield _check(
        manifest, found, "bias", "partial horizons", rows, status, {"value": z, "limit": EARLY}, text
    )


def numbers(manifest: Manifest, found: Watch) -> dict[str, float]:
    """For the ledger and the pages of the assets; names stay, so that charts go on."""
    reference = manifest.monitoring
    assert reference is not None
    windows = found.windows
    values: dict[str, float] = {
        "predictions": float(windows.predicted.sum()),
        "outcomes": float(windows.observed.sum()),
        "reference_error": reference.error,
        "largest_distance": max((float(one.value[-1]) for one in found.drifts), default=0.0),
    }
    if outcomes := windows.observed.sum():
        values["error"] = float(windows.total("loss").sum() / outcomes)
    if found.live is not None:
        low, high = found.live.band()
        values |= {"estimate": found.live.error, "estimate_low": low, "estimate_high": high}
        values |= {"blind": found.live.blind}
    if found.realised is not None:
        values["realised"] = found.realised
    if found.held is not None:
        values["estimate_held"] = found.held
    for one in found.decays:
        if not one.name or one.check == "bias":
            name = f"{one.check}_{one.name.replace(' ', '_')}".strip("_")
            values[name if one.check != "error" else "recent_error"] = float(one.value[-1])
    if found.damages:
        values["largest_damage"] = found.damages[0].share
    return {name: round(value, 6) for name, value in values.items()}


def sentence(manifest: Manifest, rules: Monitoring, found: Watch, verdict: Verdict, harmful: bool) -> str:
    """Why, with the numbers, and what follows."""
    rows, outcomes = int(found.windows.predicted.sum()), int(found.windows.observed.sum())
    if verdict is Verdict.NOT_ENOUGH_DATA:
        return (
            f"{rows:,} predictions and {outcomes:,} outcomes since version {manifest.version} serves; "
            f"{rules.least_rows} are needed for a verdict."
        )
    parts = {
        Verdict.HEALTHY: _healthy,
        Verdict.DATA_DRIFT: _moved,
        Verdict.CONCEPT_DRIFT: _concept,
        Verdict.DECAY: _decayed,
        Verdict.MISCALIBRATED: _miscalibrated,
    }[verdict](manifest, found)
    return " ".join(part for part in [*parts, _what_follows(verdict, harmful)] if part)


def _healthy(manifest: Manifest, found: Watch) -> list[str]:
    rows, outcomes = int(found.windows.predicted.sum()), int(found.windows.observed.sum())
    return [
        f"Nothing is wrong in {rows:,} predictions and {outcomes:,} outcomes.",
        _estimated(manifest, found.live),
        _unknown(found.live),
    ]


def _inputs(found: Watch) -> str:
    moved = sorted(found.in_alarm("drift"), key=lambda one: -one.value[-1])
    harm = {one.name: one.share for one in found.damages}
    named = [
        f"{one.name} (distance {one.value[-1]:.2f}"
        + (f", error {harm[one.name]:+.1%} by it)" if one.name in harm else ")")
        for one in moved[:NAMED]
    ]
    more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return f"Other than in training: {', '.join(named)}{more}."


def _moved(manifest: Manifest, found: Watch) -> list[str]:
    known = _realised(manifest, found)
    return [_inputs(found), known or _estimated(manifest, found.live), _unknown(found.live)]


def _concept(manifest: Manifest, found: Watch) -> list[str]:
    also = [_inputs(found)] if found.in_alarm("drift") else ["Inputs are as in training, outcomes are not."]
    return [*also, _biased(found), _realised(manifest, found), _segments(found)]


def _decayed(manifest: Manifest, found: Watch) -> list[str]:
    return ["The error grew.", _biased(found), _realised(manifest, found), _segments(found)]


def _miscalibrated(manifest: Manifest, found: Watch) -> list[str]:
    off = ", ".join(
        f"{one.check} by {one.value[-1]:.3f}" for one in found.in_alarm("coverage", "calibration")
    )
    return [f"The error is fine, but intervals or probabilities are off: {off}."]


def _biased(found: Watch) -> str:
    return " ".join(
        f"{one.name.capitalize()} by {one.value[-1]:.3g} on average."
        for one in found.decays
        if one.check == "bias" and (one.now or decay.is_biased(found.reference, one))
    )


def _segments(found: Watch) -> str:
    worse = [f"{one.name} ({one.value[-1]:.3g})" for one in found.in_alarm("error") if one.name]
    return f"Above what is tolerated in {', '.join(worse)}." if worse else ""


def _realised(manifest: Manifest, found: Watch) -> str:
    if found.scored is None or found.realised is None or manifest.monitoring is None:
        return ""
    low, high = found.scored.band()
    usual = mean_loss(manifest.monitoring)
    return (
        f"The error of known outcomes is {found.realised:.3g}, {found.realised / usual - 1:+.0%} against training; "
        f"inputs alone explain {low:.3g} to {high:.3g}."
        if usual > 0
        else f"The error of known outcomes is {found.realised:.3g}."
    )


def _estimated(manifest: Manifest, live: Estimate | None) -> str:
    if live is None or manifest.monitoring is None:
        return ""
    low, high = live.band()
    return (
        f"Without outcomes the error is estimated as {live.error:.3g} ({low:.3g} to {high:.3g}), "
        f"{mean_loss(manifest.monitoring):.3g} in training."
    )


def _unknown(live: Estimate | None) -> str:
    """What the estimate is blind for."""
    if live is None or live.blind < LEAST_BLIND:
        return ""
    return f"{live.blind:.0%} of the rows are outside the range of training: their error is not known without outcomes."


def _what_follows(verdict: Verdict, harmful: bool) -> str:
    if verdict is Verdict.HEALTHY:
        return ""
    if verdict is Verdict.MISCALIBRATED:
        return "Outcomes can correct that without a training."
    return "A training on newer data is called for." if harmful else "That costs too little for a training."
