"""Freshness: how old the model and the data behind an answer are, by limits that the forecast declares.

Age of the data is the time since the latest event in them, not since somebody looked. Ages without
limits are reported and not judged: where neither has any, the verdict is "unlimited". The clock is an argument.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from vroom_api.contract import AgeLimits, Manifest

# From the best to the worst: an age without limits leaves the verdict to the other, and nothing is fresh without one.
Verdict = Literal["unlimited", "fresh", "stale", "expired"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
DAY = 86_400.0


class Expired(Exception):
    """The champion is older than its forecast allows, and the forecast refuses such answers."""


class Ages(msgspec.Struct, frozen=True):
    """What every answer says about its age; ages in whole seconds."""

    data_as_of: str  # ISO 8601, latest event in the data
    data_age_s: int | None  # None where the data have no events
    model_age_s: int
    freshness: Verdict


def ages(manifest: Manifest, now: datetime) -> Ages:
    """The ages at `now`, an aware time, and the worse of the verdicts on them."""
    policy = manifest.freshness
    data_age, model_age = age_of_data(manifest, now), age_of_model(manifest, now)
    verdicts = verdict_on(model_age, policy.model), verdict_on(data_age, policy.data)
    return Ages(
        data_as_of=manifest.data_as_of,
        data_age_s=data_age,
        model_age_s=model_age,
        freshness=max(verdicts, key=VERDICTS.index),
    )


def admit(manifest: Manifest, now: datetime) -> Ages:
    """The ages, if an answer may be given at all.

    Raises:
        Expired: the model or the data have expired and the forecast refuses such answers.
    """
    found = ages(manifest, now)
    if found.freshness == "expired" and manifest.freshness.expired == "refuse":
        policy = manifest.freshness
        judged = (("model", found.model_age_s, policy.model), ("data", found.data_age_s, policy.data))
        causes = [
            f"its {what} {_old(age)}, the limit is {limits.expired_after_s / DAY:.1f} days"
            for what, age, limits in judged
            if limits is not None and verdict_on(age, limits) == "expired"
        ]
        raise Expired(
            f"version {manifest.version} of {manifest.forecast} has expired: {'; '.join(causes)}; "
            "a retraining on newer data brings it back"
        )
    return found


def age_of_model(manifest: Manifest, now: datetime) -> int:
    """Seconds since the training."""
    return _age(manifest.trained_at, now)


def age_of_data(manifest: Manifest, now: datetime) -> int | None:
    """Seconds since the latest event in the data; None where they have no events."""
    return _age(manifest.data_as_of, now) if manifest.data_as_of else None


def _age(moment: str, now: datetime) -> int:
    """Seconds from an ISO 8601 time to now; never negative."""
    return max(int(now.timestamp() - _seconds(moment)), 0)


@lru_cache(64)
def _seconds(moment: str) -> float:
    """Since the epoch; an ISO 8601 time is taken as UTC where it names no zone."""
    then = datetime.fromisoformat(moment)
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()


def verdict_on(age: float | None, limits: AgeLimits | None) -> Verdict:
    """What has limits and no known age counts as expired."""
    if limits is None:
        return "unlimited"
    if age is None or age >= limits.expired_after_s:
        return "expired"
    return "stale" if age >= limits.stale_after_s else "fresh"


def _old(age: float | None) -> str:
    return "is of unknown age" if age is None else f"is {age / DAY:.1f} days old"
