"""A second version beside the champion: which may be tried, and the one way to begin, change or end it.

The ledger, the log of events and the pointer change together: whoever planned with an older generation changes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from vroom_api.contract.bundle import Pointer, Trial
from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.events import Decision, TrialChanged
from vroom_api.contract.manifest import InputField, Manifest
from vroom_api.contract.store import BundleStore
from vroom_api.contract.tables import append_entry

TRAFFIC_CHANGED = "traffic-changed"
TRIAL_CHECK = "trial"  # the name of the check that the monitoring makes of a trial


class TrialVerdict(StrEnum):
    """What the outcomes say of a second version beside the champion."""

    BETTER = "better"
    WORSE = "worse"  # by more than is tolerated
    OPEN = "no difference yet"


_MEANING = ("kind", "target", "unit", "horizon", "entity")  # of an answer
_ALLOWED = ("type", "unit", "minimum", "above", "maximum", "nullable", "is_open")  # of an input


def unlike(champion: Manifest, other: Manifest) -> Iterator[str]:
    """What a request or an answer would mean otherwise, each as a phrase; nothing of versions that may stand in for each other."""
    for name in _MEANING:
        one, two = getattr(champion, name), getattr(other, name)
        if one != two:
            yield f"{name} is {two!r} and not {one!r}"
    fields = {field.name: field for field in champion.inputs}
    others = {field.name: field for field in other.inputs}
    if list(fields) != list(others):
        if set(fields) == set(others):
            yield "the inputs have another order"
        yield from (f"input {name} is new" for name in others if name not in fields)
        yield from (f"input {name} is missing" for name in fields if name not in others)
    for name in fields.keys() & others.keys():
        yield from _other_range(fields[name], others[name])


def _other_range(one: InputField, two: InputField) -> Iterator[str]:
    for name in _ALLOWED:
        before, after = getattr(one, name), getattr(two, name)
        if before != after:
            yield f"input {one.name}: {name} is {after!r} and not {before!r}"
    if one.values != two.values and not one.is_open:  # those of an open text are what a training has seen
        yield f"input {one.name}: its values are {', '.join(two.values)} and not {', '.join(one.values)}"


def change_traffic(
    engine: sa.Engine,
    store: BundleStore,
    forecast: str,
    trial: Trial | None,
    before: Pointer,
    *,
    decision: Decision,
    reason: str,
    actor: str,
    run_id: str | None = None,
) -> Pointer:
    """Begin a trial, change it, or end it with None, against the pointer that this was decided by.

    The pointer moves last, in the transaction that enters it in the ledger and in the log of events: what cannot be
    written down is not done.

    Returns:
        the pointer after.

    Raises:
        PointerMoved: it is another one; nothing has changed.
        NothingServes: there is no champion.
        ValueError: there is no trial, neither before nor after.
    """
    about = trial or before.trial
    if about is None:
        raise ValueError(f"{forecast}: no version is tried, so there is nothing to end")
    evidence = _evidence(about, before.version, before.generation + 1)
    with engine.begin() as connection:
        _enter(connection, forecast, decision, reason, evidence, actor, run_id)
        return store.set_trial(forecast, trial, before.generation)


def enter_end(
    engine: sa.Engine,
    forecast: str,
    before: Pointer,
    after: Pointer,
    decision: Decision,
    reason: str,
    *,
    actor: str,
    run_id: str | None = None,
) -> None:
    """Enter that a publication, a roll-back or a retirement has ended a trial, where it has."""
    trial = before.trial
    if trial is None or after.trial is not None:
        return
    with engine.begin() as connection:
        evidence = _evidence(trial, after.version, after.generation)
        _enter(connection, forecast, decision, reason, evidence, actor, run_id)


def _evidence(trial: Trial, champion: int, generation: int) -> TrialChanged:
    return TrialChanged(
        version=trial.version,
        champion=champion,
        generation=generation,
        role=trial.role.value,
        share=trial.share,
        since=trial.since,
    )


def _enter(
    connection: sa.Connection,
    forecast: str,
    decision: Decision,
    reason: str,
    evidence: TrialChanged,
    actor: str,
    run_id: str | None,
) -> None:
    """Append a changed traffic to the ledger and to the log of events; at the end of a transaction."""
    append_entry(
        connection,
        forecast=forecast,
        actor=actor,
        decision=decision,
        reason=reason,
        evidence=evidence,
        run_id=run_id,
    )
    append_event(
        connection,
        forecast=forecast,
        topic=Topic.MODEL,
        name=TRAFFIC_CHANGED,
        data={"decision": decision.value} | msgspec.to_builtins(evidence),
    )
