"""Whether a forecast trains now: one decision for the sensor and the schedule, from typed facts alone.

A change of the sources or of the declaration trains by itself; `retraining.new_rows` holds changed data back until there
are enough of them. Drift, decay, the age of the champion and predictions that fall due ask for what is held back at
once, within a budget. Where nothing is held back they ask in vain: a training is reproducible, so on the sources and
the declaration of the latest one it would give the same model. Then new data are needed, and that is the answer.

There is no warm start among the decisions. A fit takes seconds, so there is next to nothing to save; and a model that
was continued depends on the order in which data came, not on the data alone: it could not be rebuilt from its
version, and a contest of two recipes on the same folds would compare neither as it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from vroom_api.contract.events import Evaluated
from vroom_assets.monitoring.verdict import Verdict
from vroom_assets.spec.monitoring import Retraining

DAY = 86_400.0


class Step(StrEnum):
    """What runs; the value is the ledger's word for it."""

    NOTHING = "current"
    REPUBLISH = "republish"
    REJUDGE = "rejudge"
    RETRAIN = "requested"


class Cause(StrEnum):
    """What asks for a training."""

    CHANGE = "change"  # of the sources or the declaration
    DRIFT = "drift"
    DECAY = "decay"
    AGE = "age"
    DEADLINE = "deadline"


class Answer(StrEnum):
    GO = "go"
    WAIT = "wait"  # something is in the way, and ends by itself
    HELD_BACK = "held back"  # the data changed by less than is declared, and nothing asks for them
    NEEDS_DATA = "needs data"  # a training would give the same model
    NOTHING = "nothing"  # nobody asks


@dataclass(frozen=True)
class Change:
    """What differs from the latest training, judgement and publication.

    step: the least that makes them the same.
    reason: as a sentence.
    growth: largest growth of a source since the training asked for last, by its bytes, as a share (negative where it
        shrank); None where more than the content of sources changed, or nobody knows.
    """

    step: Step = Step.NOTHING
    reason: str = ""
    growth: float | None = None


@dataclass(frozen=True)
class Facts:
    """All that is decided on.

    at: now, in seconds since the epoch.
    run: id of the forecast's unfinished run.
    version: that serves.
    finding: the latest one of monitoring.
    model_age_days: since the training of what serves.
    due_in_days: until the next prediction without an outcome falls due.
    asked_at: when trainings were asked for by anything but a change, in seconds since the epoch.
    scheduled: whether the schedule asks, which holds nothing back.
    """

    at: float
    change: Change = Change()
    run: str | None = None
    version: int | None = None
    finding: Evaluated | None = None
    model_age_days: float | None = None
    due_in_days: float | None = None
    asked_at: Sequence[float] = ()
    scheduled: bool = False


@dataclass(frozen=True)
class Demand:
    """What asks for a training without a change of its own."""

    cause: Cause
    version: int | None  # that serves
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def is_harm(self) -> bool:
        """Whether answers are worse already, so that somebody has to know."""
        return self.cause in (Cause.DRIFT, Cause.DECAY)


@dataclass(frozen=True)
class Decision:
    """What happens now, why, and on which numbers. `demand`: what asks for it, where it is more than a change."""

    answer: Answer
    reason: str
    step: Step = Step.NOTHING
    cause: Cause = Cause.CHANGE
    demand: Demand | None = None
    numbers: dict[str, float] = field(default_factory=dict)


def decide(facts: Facts, rules: Retraining) -> Decision:
    """Whether something runs now. A pure function.

    Args:
        rules: as declared.
    """
    change = facts.change
    if change.step is not Step.NOTHING and not is_held_back(change, rules, scheduled=facts.scheduled):
        if facts.run:
            return Decision(
                Answer.WAIT, f"waits: there is a change, and run {facts.run} is still under way", change.step
            )
        return Decision(Answer.GO, change.reason, change.step, numbers=_growth(change))
    demand = demanded(facts, rules)
    if change.step is Step.NOTHING:
        return _in_vain(demand) if demand else Decision(Answer.NOTHING, "nothing asks for a training")
    if demand is None:
        share = f"{rules.new_rows:.1%}"
        reason = (
            f"holds changed data back: they changed by less than {share} of their size; they are trained with once it is "
            "more, when drift or decay asks for them, or by the schedule"
        )
        return Decision(Answer.HELD_BACK, reason, numbers=_growth(change))
    return _within_limits(facts, rules, demand)


def is_held_back(change: Change, rules: Retraining, *, scheduled: bool) -> bool:
    """Whether a change of data is too small to train for it alone."""
    if change.step is not Step.RETRAIN or scheduled or rules.new_rows is None or change.growth is None:
        return False
    return abs(change.growth) < rules.new_rows


def demanded(facts: Facts, rules: Retraining) -> Demand | None:
    """What asks for a training without a change of its own, the gravest first; None where nothing does."""
    finding = facts.finding
    if finding is not None and finding.harmful and finding.version == facts.version:
        cause = Cause.DRIFT if finding.verdict == Verdict.DATA_DRIFT else Cause.DECAY
        if rules.on_drift if cause is Cause.DRIFT else rules.on_decay:
            damage = {} if finding.damage is None else {"damage": finding.damage}
            reason = f"monitoring of version {finding.version} found {finding.verdict}"
            if finding.damage is not None:
                reason += f", which makes the error larger by an estimated {finding.damage:.1%}"
            return Demand(cause, facts.version, reason, {**finding.numbers, **damage})
    age, due = facts.model_age_days, facts.due_in_days
    if age is not None and rules.model_age_days is not None and age > rules.model_age_days:
        reason = f"version {facts.version} was trained more than {rules.model_age_days:g} days ago"
        return Demand(Cause.AGE, facts.version, reason, {"model_age_days": age})
    before = rules.before_due_days
    if before is not None and due is not None and due <= before and (age is None or age > before):
        reason = (
            f"predictions fall due within {before:g} days, and version {facts.version} is older than that"
        )
        numbers = {"due_in_days": due} if age is None else {"due_in_days": due, "model_age_days": age}
        return Demand(Cause.DEADLINE, facts.version, reason, numbers)
    return None


def _in_vain(demand: Demand) -> Decision:
    reason = (
        f"{demand.reason}; the sources and the declaration are those of the latest training, and another one would give "
        "the same model: new data are needed, and are trained with as soon as they arrive"
    )
    return Decision(
        Answer.NEEDS_DATA, reason, cause=demand.cause, demand=demand, numbers=dict(demand.numbers)
    )


def _within_limits(facts: Facts, rules: Retraining, demand: Demand) -> Decision:
    """A training that something but a change asks for: not beside another run, nor too soon, nor too often."""
    since = min((abs(facts.at - asked) for asked in facts.asked_at), default=None)
    today = sum(abs(facts.at - asked) < DAY for asked in facts.asked_at)
    numbers = {**demand.numbers, **_growth(facts.change), "asked_in_24_h": float(today)}
    if since is not None:
        numbers["minutes_since_asked"] = since / 60
    obstacle = ""
    if facts.run:
        obstacle = f"run {facts.run} is still under way"
    elif today >= rules.runs_per_day:
        obstacle = f"the budget of {rules.runs_per_day} trainings in 24 hours is used up"
    elif since is not None and since < rules.cool_down_minutes * 60:
        obstacle = f"the latest training it asked for is less than {rules.cool_down_minutes:g} minutes ago"
    if obstacle:
        return Decision(
            Answer.WAIT, f"{demand.reason}; waits: {obstacle}", Step.RETRAIN, demand.cause, demand, numbers
        )
    reason = f"{demand.reason}: trains with the data that were held back"
    return Decision(Answer.GO, reason, Step.RETRAIN, demand.cause, demand, numbers)


def _growth(change: Change) -> dict[str, float]:
    return {} if change.growth is None else {"growth": change.growth}
