"""The one decision whether a forecast trains now, as a function of facts."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_api.contract.events import Evaluated
from vroom_assets.monitoring.evaluation import Verdict
from vroom_assets.monitoring.policy import Answer, Cause, Change, Facts, Step, decide
from vroom_assets.spec import Retraining

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
RULES = Retraining(new_rows=0.1)
SMALL = Change(Step.RETRAIN, "vehicles changed", growth=0.02)
LARGE = Change(Step.RETRAIN, "vehicles changed", growth=0.2)


def found(verdict: Verdict, *, harmful: bool = True, version: int = 3) -> Evaluated:
    return Evaluated(
        version=version, verdict=verdict.value, harmful=harmful, damage=0.2, window_end="2026-11-28T00:00:00"
    )


DRIFT = found(Verdict.DATA_DRIFT)
DRIFTED = Facts(NOW, SMALL, version=3, finding=DRIFT)


@pytest.mark.parametrize("step", [Step.RETRAIN, Step.REJUDGE, Step.REPUBLISH])
def test_a_change_runs_the_least_that_is_enough(step):
    decision = decide(Facts(NOW, Change(step, "it changed")), Retraining())
    assert (decision.answer, decision.step, decision.reason) == (Answer.GO, step, "it changed")


def test_nothing_runs_beside_another_run():
    assert decide(Facts(NOW, LARGE, run="12345678"), RULES).answer is Answer.WAIT
    waits = decide(replace(DRIFTED, run="12345678"), RULES)
    assert waits.answer is Answer.WAIT
    assert "run 12345678 is still under way" in waits.reason


def test_data_that_changed_by_little_are_held_back_where_that_is_declared():
    assert decide(Facts(NOW, SMALL), Retraining()).answer is Answer.GO
    held = decide(Facts(NOW, SMALL), RULES)
    assert (held.answer, held.step, held.numbers) == (Answer.HELD_BACK, Step.NOTHING, {"growth": 0.02})
    assert "by less than 10.0%" in held.reason
    assert decide(Facts(NOW, LARGE), RULES).answer is Answer.GO
    assert decide(Facts(NOW, replace(SMALL, growth=-0.2)), RULES).answer is Answer.GO  # rows were taken away
    assert (
        decide(Facts(NOW, replace(SMALL, growth=None)), RULES).answer is Answer.GO
    )  # more than data changed


def test_the_schedule_holds_nothing_back():
    assert decide(Facts(NOW, SMALL, scheduled=True), RULES).answer is Answer.GO


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [
        (Verdict.DATA_DRIFT, Cause.DRIFT),
        (Verdict.CONCEPT_DRIFT, Cause.DECAY),
        (Verdict.DECAY, Cause.DECAY),
    ],
)
def test_harm_asks_for_what_is_held_back(verdict, cause):
    decision = decide(replace(DRIFTED, finding=found(verdict)), RULES)
    assert (decision.answer, decision.step, decision.cause) == (Answer.GO, Step.RETRAIN, cause)
    assert f"monitoring of version 3 found {verdict}" in decision.reason
    assert decision.numbers["damage"] == 0.2
    off = RULES.model_copy(update={f"on_{cause}": False})
    assert decide(replace(DRIFTED, finding=found(verdict)), off).answer is Answer.HELD_BACK


def test_what_is_harmless_or_of_another_version_asks_for_nothing():
    for finding in (found(Verdict.DATA_DRIFT, harmful=False), found(Verdict.DECAY, version=2), None):
        assert decide(replace(DRIFTED, finding=finding), RULES).answer is Answer.HELD_BACK


def test_on_the_data_of_the_latest_training_harm_needs_new_ones():
    decision = decide(replace(DRIFTED, change=Change()), Retraining())
    assert (decision.answer, decision.step, decision.cause) == (Answer.NEEDS_DATA, Step.NOTHING, Cause.DRIFT)
    assert "new data are needed" in decision.reason


def test_a_champion_that_is_too_old_asks_for_what_is_held_back():
    rules = RULES.model_copy(update={"model_age_days": 30})
    facts = Facts(NOW, SMALL, version=3, model_age_days=31)
    assert decide(facts, rules).cause is Cause.AGE
    assert decide(replace(facts, model_age_days=29), rules).answer is Answer.HELD_BACK


def test_predictions_that_fall_due_ask_for_what_is_held_back():
    rules = RULES.model_copy(update={"before_due_days": 2})
    tomorrow = Facts(NOW, SMALL, version=3, model_age_days=5, due_in_days=1)
    assert decide(tomorrow, rules).cause is Cause.DEADLINE
    assert decide(replace(tomorrow, due_in_days=3), rules).answer is Answer.HELD_BACK
    assert decide(replace(tomorrow, due_in_days=None), rules).answer is Answer.HELD_BACK
    assert decide(replace(tomorrow, model_age_days=1), rules).answer is Answer.HELD_BACK


def test_the_budget_and_the_cool_down_are_for_what_monitoring_asks_and_not_for_changes():
    asked = tuple(NOW - hours * HOUR for hours in (2, 5, 9, 23))
    spent = decide(replace(DRIFTED, asked_at=asked), RULES)
    assert spent.answer is Answer.WAIT
    assert "budget of 4 trainings in 24 hours" in spent.reason
    soon = decide(replace(DRIFTED, asked_at=(NOW - 0.5 * HOUR,)), RULES)
    assert soon.answer is Answer.WAIT
    assert "less than 60 minutes ago" in soon.reason
    assert soon.numbers["minutes_since_asked"] == 30
    assert decide(replace(DRIFTED, asked_at=(NOW - 1.5 * HOUR,)), RULES).answer is Answer.GO
    assert decide(replace(DRIFTED, change=LARGE, asked_at=asked), RULES).answer is Answer.GO


def test_a_clock_that_was_set_back_by_a_year_blocks_nothing_for_a_year():
    assert decide(replace(DRIFTED, asked_at=(NOW + 365 * DAY,)), RULES).answer is Answer.GO
    assert decide(replace(DRIFTED, asked_at=(NOW + 60.0,)), RULES).answer is Answer.WAIT


@dataclass
class Deployment:
    """Days of a forecast, minute by minute: what is asked for runs for a while, and nothing else does."""

    rules: Retraining
    at: float = NOW
    trained: str = ""
    runs_until: float = 0.0
    asked: list[float] = field(default_factory=list)
    trainings: list[tuple[str, Cause]] = field(default_factory=list)

    def minute(self, content: str, *, drifts: bool, small: bool, minutes: float) -> None:
        self.at += minutes * 60
        change = Change()
        if content != self.trained:
            change = Change(Step.RETRAIN, "it changed", growth=0.01 if small else 0.5)
        busy = self.at < self.runs_until
        facts = Facts(
            self.at,
            change,
            run="a" if busy else None,
            version=3,
            finding=DRIFT if drifts else None,
            asked_at=self.asked,
        )
        decision = decide(facts, self.rules)
        if decision.answer is not Answer.GO:
            return
        assert not busy, "two at once"
        assert content != self.trained, "the same model once more"
        if decision.cause is not Cause.CHANGE:
            recent = [asked for asked in self.asked if self.at - asked < DAY]
            assert len(recent) < self.rules.runs_per_day, "over budget"
            assert all(self.at - asked >= self.rules.cool_down_minutes * 60 for asked in self.asked)
            self.asked.append(self.at)
        self.trained = content
        self.trainings.append((content, decision.cause))
        self.runs_until = self.at + 300


MINUTES = st.lists(
    st.tuples(st.sampled_from("ABC"), st.booleans(), st.booleans(), st.floats(0.1, 400)), max_size=80
)


@given(MINUTES, st.integers(0, 4), st.sampled_from([0.0, 10.0, 60.0, 2000.0]))
def test_whatever_happens_one_runs_at_a_time_within_budget_and_cool_down(minutes, budget, cool_down):
    deployment = Deployment(Retraining(new_rows=0.1, runs_per_day=budget, cool_down_minutes=cool_down))
    for content, drifts, small, length in minutes:
        deployment.minute(content, drifts=drifts, small=small, minutes=length)
    if budget == 0:
        assert {cause for _, cause in deployment.trainings} <= {Cause.CHANGE}


@given(st.lists(st.sampled_from("ABC"), max_size=30), st.booleans())
def test_every_content_that_follows_another_is_trained_also_one_that_was_there_before(contents, drifts):
    deployment = Deployment(Retraining())
    for content in contents:
        deployment.minute(content, drifts=drifts, small=True, minutes=10)
    changes = [one for one, before in zip(contents, ["", *contents], strict=False) if one != before]
    assert [content for content, _ in deployment.trainings] == changes
