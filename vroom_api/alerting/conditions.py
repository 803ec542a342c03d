"""What the service finds wrong by itself: it is alive when what should have reported it is dead."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from vroom_api.champion.freshness import DAY, age_of_data, age_of_model, verdict_on
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import AgeLimits, Manifest
from vroom_api.contract.alerts import Severity

UNATTENDED: Final = "unattended"
NOT_LOADED: Final = "not_loaded"
STALE: Final = "stale"
EXPIRED: Final = "expired"
KINDS: Final = (UNATTENDED, NOT_LOADED, STALE, EXPIRED)  # that nobody but the service raises


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now."""

    forecast: str
    kind: str
    severity: Severity
    message: str  # what is wrong and what to do
    subject: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.forecast, self.kind, self.subject


def conditions(watch: ChampionWatch, now: datetime) -> Iterator[Condition]:
    """What is wrong with a forecast at an aware time; nothing of one that was retired."""
    if watch.retired is not None:
        return
    if (since := watch.attendance.unattended_at(now.timestamp())) is not None:
        yield Condition(
            watch.forecast,
            UNATTENDED,
            Severity.CRITICAL,
            watch.describe_unattended(since),
            evidence={"checked_at": since},
        )
    if watch.failure is not None:
        remedy = (
            f"Publish it again by the job {watch.forecast}_retrain, or go back by {watch.forecast}_rollback"
        )
        yield _not_loaded(
            watch, f"The champion that the pointer names cannot be loaded: {watch.failure}", remedy
        )
    elif watch.untried is not None:
        yield _not_loaded(
            watch,
            f"The version that is tried beside the champion cannot be loaded: {watch.untried}",
            f"Put its files back, or stop the trial: POST /forecasts/{watch.forecast}/trial/stop",
        )
    elif (reason := watch.stalled) is not None:
        yield _not_loaded(
            watch, f"A newer champion would not be noticed: {reason}", "Bring back the disk of the home"
        )
    if watch.champion is not None:
        yield from _of_age(watch.champion.manifest, now)


def _not_loaded(watch: ChampionWatch, reason: str, remedy: str) -> Condition:
    champion = watch.champion
    serves = "nothing serves" if champion is None else f"version {champion.version} keeps serving"
    return Condition(
        watch.forecast,
        NOT_LOADED,
        Severity.CRITICAL if champion is None else Severity.WARNING,
        f"{reason}; {serves}. {remedy}",
        evidence={"serving": None if champion is None else champion.version},
    )


def _of_age(manifest: Manifest, now: datetime) -> Iterator[Condition]:
    """Ages beyond the declared limits. What has expired is stale too: both are open until it is neither."""
    policy = manifest.freshness
    judged = (
        ("model", age_of_model(manifest, now), policy.model, f"was trained at {manifest.trained_at}", _TRAIN),
        (
            "data",
            age_of_data(manifest, now),
            policy.data,
            f"end at {manifest.data_as_of or 'no known time'}",
            _BRING,
        ),
    )
    for subject, age, limits, origin, remedy in judged:
        verdict = verdict_on(age, limits)
        if limits is None or verdict not in (STALE, EXPIRED):
            continue
        for kind, severity in ((STALE, Severity.WARNING), (EXPIRED, Severity.CRITICAL)):
            if kind == EXPIRED and verdict != EXPIRED:
                continue
            yield Condition(
                manifest.forecast,
                kind,
                severity,
                f"The {subject} of version {manifest.version} {origin}: {_limit(kind, age, limits)}. "
                + remedy.format(forecast=manifest.forecast),
                subject=subject,
                evidence={"version": manifest.version, "age_s": age},
            )


_TRAIN = (
    "Train again by the job {forecast}_retrain; where its sensor should have, its ticks say why it did not"
)
_BRING = "Bring newer rows into its CSVs; a training on the same rows does not make them younger"


def _limit(kind: str, age: int | None, limits: AgeLimits) -> str:
    limit = limits.stale_after_s if kind == STALE else limits.expired_after_s
    old = "their age is not known" if age is None else f"{age / DAY:.1f} days ago"
    return f"{old}, {kind} from {limit / DAY:.1f} days on"
