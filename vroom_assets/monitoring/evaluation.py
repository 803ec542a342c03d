"""What the closed windows of a champion say about it: checks, a verdict, and the sentence that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vroom_api.contract import Manifest
from vroom_api.contract.checks import Check
from vroom_assets.monitoring import report
from vroom_assets.monitoring.summary import Summary
from vroom_assets.monitoring.verdict import Verdict, damage_of, is_harmful, judge
from vroom_assets.monitoring.watch import watch
from vroom_assets.monitoring.windows import stacked
from vroom_assets.spec import Monitoring

__all__ = ["Evaluation", "Verdict", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What was found after the latest closed window.

    verdict: the state of the champion.
    sentence: why, as a host understands it.
    checks: those of the latest window, with their numbers.
    harmful: whether a training is called for by drift (`damage` is large enough) or by decay.
    damage: estimated growth of the error by drift, as a share of the reference error; None where it is not known.
    numbers: for the ledger and for metadata, by name.
    """

    verdict: Verdict
    sentence: str
    checks: tuple[Check, ...] = ()
    harmful: bool = False
    damage: float | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


def evaluate(manifest: Manifest, rules: Monitoring, summaries: Sequence[Summary]) -> Evaluation:
    """Judge a version by all its closed windows, in any order.

    The probability that a healthy version ever gets another verdict than healthy, or not enough data, is at most
    `rules.false_alarms`, however many windows there are and however often this is called. Held by that are alarms; a warning is
    a finding of one test among many (false discoveries are controlled within a window, not over windows), and leads to nothing.

    Args:
        summaries: those of the version alone.
    """
    if manifest.monitoring is None:
        return Evaluation(
            Verdict.NOT_ENOUGH_DATA,
            f"Version {manifest.version} was trained before its reference for monitoring was kept: a retraining adds it.",
        )
    if not summaries:
        return Evaluation(Verdict.NOT_ENOUGH_DATA, "No window has closed since this version serves.")
    found = watch(manifest, rules, stacked(summaries))
    verdict = judge(found, rules)
    harmful = is_harmful(found, rules, verdict)
    return Evaluation(
        verdict=verdict,
        sentence=report.sentence(manifest, rules, found, verdict, harmful),
        checks=report.checks(manifest, rules, found),
        harmful=harmful,
        damage=damage_of(found),
        numbers=report.numbers(manifest, found),
    )
