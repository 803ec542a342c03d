"""Live recalibration: what outcomes say about the intervals or probabilities of the champion, without a training.

A correction is proposed where evidence that may be checked at any time says that calibration is off by more than is
tolerated, and where it would have been better on outcomes that it had not seen. As outcomes since the change double, it is
made again; what would hardly be noticed is not proposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import Calibration, Manifest
from vroom_api.contract.calibrations import LARGEST, LEAST, CalibrationRevision, Correction
from vroom_assets.monitoring.adaptive import Line, factors, lines
from vroom_assets.monitoring.onset import Evidence, evidence, together
from vroom_assets.spec.monitoring import Monitoring

LEVEL = 0.9  # of the intervals that are corrected; others follow
TAIL = (1 - LEVEL) / 2
LEAST_OUTCOMES = 100  # behind a correction
ENOUGH_OUTCOMES = 3200  # behind a correction, from which on more of them hardly move it
LARGEST_BASIS = 10_000  # outcomes behind a correction, the newest ones
AT_MOST = 200_000  # outcomes that evidence is read from, the newest ones
NOTICED = 0.01  # of the outcomes beyond a bound, or of a probability, from which on a change is one
NO_CORRECTION = Correction()


@dataclass(frozen=True)
class Feedback:
    """Predictions of the model as its bundle has it, and their outcomes, in the order in which these arrived.

    half_widths: distances from the prediction to the lower and the upper bound, shape (n, 2); empty for probabilities.
    """

    prediction: np.ndarray
    outcome: np.ndarray
    arrived: pd.DatetimeIndex
    half_widths: np.ndarray

    def __len__(self) -> int:
        return len(self.outcome)

    def since(self, first: int) -> Feedback:
        return Feedback(
            self.prediction[first:], self.outcome[first:], self.arrived[first:], self.half_widths[first:]
        )

    def after(self, moment: str) -> int:
        """The index of the first that arrived later than an ISO 8601 time; 0 where it is empty."""
        return int(self.arrived.searchsorted(_moment(moment), side="right")) if moment else 0

    def begin(self, moment: str) -> int:
        """The index of the first that arrived then or later."""
        return int(self.arrived.searchsorted(_moment(moment), side="left"))


@dataclass(frozen=True)
class InUse:
    """What corrects the champion now.

    since, until: when the first and the last of the outcomes behind it arrived, ISO 8601; "" where there is none.
    refined: whether it may be made again as outcomes double, without new evidence.
    """

    correction: Correction = NO_CORRECTION
    outcomes: int = 0
    since: str = ""
    until: str = ""
    refined: bool = False

    @classmethod
    def of(cls, revision: CalibrationRevision | None, restored_at: str = "") -> InUse:
        """A revision, or none, that was published, or put in force again by somebody at a time: then only outcomes
        after that time count against it."""
        if restored_at:
            return cls(correction=revision or NO_CORRECTION, until=restored_at)
        if revision is None:
            return cls()
        return cls(revision, revision.outcomes, revision.since, revision.until, refined=True)


@dataclass(frozen=True)
class Proposal:
    """What is proposed, or why nothing is.

    correction: None where nothing is proposed.
    sentence: why, for a person.
    outcomes, since, until: behind the correction.
    numbers: for the ledger and for metadata.
    """

    correction: Correction | None
    sentence: str
    outcomes: int = 0
    since: str = ""
    until: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


class Compared(NamedTuple):
    """What is in use beside what the correction would have been before each outcome, on the later half of them."""

    before: float  # mean loss
    after: float
    change: float  # of the share beyond a bound, or of a probability, by the new correction; the larger of both sides
    correction: Correction
    numbers: dict[str, float]


def propose(manifest: Manifest, rules: Monitoring, given: Feedback, in_use: InUse) -> Proposal:
    """The correction that the outcomes of a champion ask for.

    Args:
        manifest: of the bundle, not corrected.
        given: all outcomes of the champion, or the newest.
    """
    probabilities = manifest.kind.is_probability
    first = given.after(in_use.until)
    later = given.since(first)
    against = (_against_probabilities if probabilities else _against_intervals)(
        later, in_use.correction, rules
    )
    numbers = {"log_evidence": against.log, "outcomes": float(len(later))}
    if against.log >= np.log(1 / rules.false_alarms):
        begin = first + against.onset
    elif in_use.refined and in_use.outcomes < ENOUGH_OUTCOMES:
        begin = given.begin(in_use.since)
        if len(given) - begin < 2 * in_use.outcomes:
            return Proposal(None, "outcomes agree with the calibration in force", numbers=numbers)
    else:
        return Proposal(None, "outcomes agree with the calibration in force", numbers=numbers)
    behind = given.since(max(begin, len(given) - LARGEST_BASIS))
    if len(behind) < LEAST_OUTCOMES:
        waiting = (
            f"calibration is off since {_iso(behind.arrived[0])}; {LEAST_OUTCOMES} outcomes are waited for"
        )
        return Proposal(None, f"{waiting}, {len(behind)} are there", numbers=numbers)
    compared = (_compare_probabilities if probabilities else _compare_intervals)(behind, in_use.correction)
    numbers |= compared.numbers | {"outcomes": float(len(behind))}
    if compared.after >= compared.before:
        return Proposal(None, "a correction would not have been better on later outcomes", numbers=numbers)
    if compared.change < NOTICED:
        return Proposal(None, "a correction would hardly be noticed", numbers=numbers)
    since, until = _iso(behind.arrived[0]), _iso(behind.arrived[-1])
    sentence = (_sentence_of_probabilities if probabilities else _sentence_of_intervals)(
        compared, len(behind), since
    )
    return Proposal(compared.correction, sentence, len(behind), since, until, numbers)


def feedback_of(
    manifest: Manifest, rows: pd.DataFrame, corrections: Mapping[int, CalibrationRevision] | None = None
) -> Feedback:
    """Rows of feedback as they are needed here, the newest 200,000 with a whole outcome.

    Args:
        manifest: of the bundle, not corrected.
        rows: columns `prediction`, `outcome`, `outcome_at` (time of arrival, UTC), and where they are there `exposure`,
            `calibration` (number of the revision that answered, missing for none) and `input_<name>`.
        corrections: by number, of probabilities that were corrected when they were answered.
    """
    rows = rows[rows["outcome"].notna() & rows["prediction"].notna()]
    if "exposure" in rows:
        rows = rows[rows["exposure"] >= 1.0]
    rows = rows.assign(outcome_at=pd.to_datetime(rows["outcome_at"], utc=True))
    rows = rows.sort_values("outcome_at", kind="stable").iloc[-AT_MOST:]
    prediction = rows["prediction"].to_numpy(float)
    if manifest.kind.is_probability:
        prediction = of_the_model(prediction, rows, corrections or {})
    return Feedback(
        prediction=prediction,
        outcome=rows["outcome"].to_numpy(float),
        arrived=pd.DatetimeIndex(rows["outcome_at"]),
        half_widths=_half_widths(manifest, rows, prediction),
    )


def of_the_model(
    prediction: np.ndarray, rows: pd.DataFrame, corrections: Mapping[int, CalibrationRevision]
) -> np.ndarray:
    """Probabilities as the model gave them, before any revision; those of a revision that is lost are as answered."""
    if "calibration" not in rows:
        return prediction
    prediction = prediction.copy()
    numbers = pd.to_numeric(rows["calibration"]).to_numpy(float, na_value=np.nan)
    for number in np.unique(numbers[~np.isnan(numbers)]):
        if (revision := corrections.get(int(number))) is not None:
            mine = numbers == number
            prediction[mine] = revision.of_model(prediction[mine])
    return prediction


def _half_widths(manifest: Manifest, rows: pd.DataFrame, prediction: np.ndarray) -> np.ndarray:
    if manifest.kind.is_probability:
        return np.empty((len(rows), 0))
    found = _continuous(manifest.calibration, prediction)
    if manifest.fallback is not None:
        names = [f"input_{name}" for name in manifest.fallback.without]
        without = rows[[name for name in names if name in rows]].isna().any(axis=1).to_numpy()
        found[without] = _continuous(manifest.fallback.calibration, prediction[without])
    return found


def _continuous(calibration: Calibration, prediction: np.ndarray) -> np.ndarray:
    """Distances to the bounds before these are rounded and cut off; shape (n, 2)."""
    plain = msgspec.structs.replace(calibration, integer=False, minimum=None)
    low, high = plain.bounds(prediction, LEVEL)
    least = 1e-9 * max(float(np.abs(prediction).max(initial=0.0)), 1e-3)
    return np.maximum(np.column_stack([prediction - low, high - prediction]), least)


def _scores(rows: Feedback) -> np.ndarray:
    """How far below and above its prediction each outcome is, in units of the bundle's half-widths; shape (n, 2)."""
    error = rows.outcome - rows.prediction
    scores: np.ndarray = np.column_stack([-error, error]) / rows.half_widths
    return scores


def _sides(correction: Correction) -> np.ndarray:
    return np.array([correction.lower, correction.upper])


def _against_intervals(rows: Feedback, in_use: Correction, rules: Monitoring) -> Evidence:
    """That more outcomes are below, or above, than should be; or that more are inside."""
    missed = _scores(rows) > _sides(in_use) + 1e-9
    tolerated = rules.coverage / 2
    inside = ~missed.any(axis=1)
    return together(
        [
            evidence(missed[:, 0].astype(float), TAIL + tolerated),
            evidence(missed[:, 1].astype(float), TAIL + tolerated),
            evidence(inside.astype(float), min(LEVEL + rules.coverage, 0.99)),
        ]
    )


def _compare_intervals(rows: Feedback, in_use: Correction) -> Compared:
    scores, present = _scores(rows), _sides(in_use)
    made = np.column_stack([factors(scores[:, side], TAIL, present[side]) for side in (0, 1)])
    latest = np.clip(made[-1], LEAST, LARGEST)
    half = slice(len(rows) // 2, None)
    later, before_each = scores[half], np.clip(made[:-1][half], LEAST, LARGEST)
    widths = rows.half_widths[half]
    change = np.abs((scores > present).mean(axis=0) - (scores > latest).mean(axis=0)).max()
    return Compared(
        before=_interval_score(later, np.broadcast_to(present, later.shape), widths),
        after=_interval_score(later, before_each, widths),
        change=float(change),
        correction=Correction(lower=float(latest[0]), upper=float(latest[1])),
        numbers={
            "coverage_before": float((later <= present).all(axis=1).mean()),
            "coverage_after": float((later <= before_each).all(axis=1).mean()),
            "below_before": float((later[:, 0] > present[0]).mean()),
            "above_before": float((later[:, 1] > present[1]).mean()),
        },
    )


def _interval_score(scores: np.ndarray, sides: np.ndarray, half_widths: np.ndarray) -> float:
    """The mean interval score (Gneiting & Raftery 2007, doi:10.1198/016214506000001437)."""
    missed = np.maximum(scores - sides, 0.0)
    return float(((sides + missed / TAIL) * half_widths).sum(axis=1).mean())


def _sentence_of_intervals(found: Compared, outcomes: int, since: str) -> str:
    numbers, correction = found.numbers, found.correction
    return (
        f"of the later half of {outcomes} outcomes since {since}, {numbers['coverage_before']:.1%} were inside the "
        f"{LEVEL:.0%} interval, {numbers['below_before']:.1%} below and {numbers['above_before']:.1%} above it; corrected as "
        f"outcomes came, {numbers['coverage_after']:.1%} would have been inside. Distances to the lower bound are "
        f"multiplied by {correction.lower:.2f}, to the upper by {correction.upper:.2f}"
    )


def _logits(probabilities: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, 1e-6, 1 - 1e-6)
    logits: np.ndarray = np.log(inside / (1 - inside))
    return logits


def _against_probabilities(rows: Feedback, in_use: Correction, rules: Monitoring) -> Evidence:
    """That yes comes more often than predicted, or less often; and that it does so where it is likely and not where it
    is unlikely, or the other way round."""
    predicted = in_use.probabilities(rows.prediction)
    error = rows.outcome - predicted
    bound = (1 + rules.coverage) / 2
    steeper = error * (2 * predicted - 1)
    found = [evidence((1 + one) / 2, bound) for one in (error, -error)]
    found += [evidence((1 + one) / 2, (1 + rules.coverage / 2) / 2) for one in (steeper, -steeper)]
    return together(found)


def _compare_probabilities(rows: Feedback, in_use: Correction) -> Compared:
    logits = _logits(rows.prediction)
    made = lines(logits, rows.outcome, Line(in_use.intercept, in_use.slope))
    made = np.column_stack([np.clip(made[:, 0], -LARGEST, LARGEST), np.clip(made[:, 1], LEAST, LARGEST)])
    correction = Correction(intercept=float(made[-1, 0]), slope=float(made[-1, 1]))
    half = slice(len(rows) // 2, None)
    outcome = rows.outcome[half]
    present = in_use.probabilities(rows.prediction[half])
    before_each = 1 / (1 + np.exp(-(made[:-1, 0] + made[:-1, 1] * logits)[half]))
    change = np.abs(correction.probabilities(rows.prediction) - in_use.probabilities(rows.prediction)).mean()
    return Compared(
        before=_log_loss(outcome, present),
        after=_log_loss(outcome, before_each),
        change=float(change),
        correction=correction,
        numbers={
            "share_of_yes": float(outcome.mean()),
            "predicted_before": float(present.mean()),
            "predicted_after": float(before_each.mean()),
            "log_loss_before": _log_loss(outcome, present),
            "log_loss_after": _log_loss(outcome, before_each),
        },
    )


def _log_loss(outcome: np.ndarray, predicted: np.ndarray) -> float:
    inside = np.clip(predicted, 1e-6, 1 - 1e-6)
    return float(-(outcome * np.log(inside) + (1 - outcome) * np.log(1 - inside)).mean())


def _sentence_of_probabilities(found: Compared, outcomes: int, since: str) -> str:
    numbers, correction = found.numbers, found.correction
    return (
        f"of the later half of {outcomes} outcomes since {since}, {numbers['share_of_yes']:.1%} were a yes where "
        f"{numbers['predicted_before']:.1%} were predicted; corrected as outcomes came, {numbers['predicted_after']:.1%} "
        f"would have been, with a log loss of {numbers['log_loss_after']:.4f} instead of {numbers['log_loss_before']:.4f}. "
        f"The logit is multiplied by {correction.slope:.2f} and {correction.intercept:+.2f} is added"
    )


def _moment(text: str) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _iso(moment: pd.Timestamp) -> str:
    return str(moment.isoformat())
