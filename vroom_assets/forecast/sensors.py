"""Automation: what makes a forecast renew itself, and why it did or did not.

The sensor compares contents, not times. Its cursor holds what it last saw of each source and the
versions it last asked a run for, so a change that happened while everything was down is found at the
next start. One run is under way at a time; what changes meanwhile is noticed when it ends. A change runs
no more than it has to: a training, the contest, or the publication alone. What was asked for counts once it is
there: a run that was never launched, or ended without it, is asked for again, with pauses that double.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dagster as dg
import msgspec

from vroom_api.contract.decoding import decode
from vroom_api.contract.events import Decision, RunFailed, SourcesSeen
from vroom_api.contract.heartbeat import Heartbeat, beat
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets.forecast.demands import Demands, announce, gather, gather_or_none
from vroom_assets.forecast.names import (
    DATA_VERSION_TAG,
    FORECAST_TAG,
    MONITOR_JOB,
    QUIET,
    REASON_TAG,
    REQUESTED_TAG,
    key,
)
from vroom_assets.forecast.source_assets import observe_source
from vroom_assets.forecast.versions import (
    SELECTIONS,
    Versions,
    adopted,
    declared,
    left_undone,
    next_step,
    reason_of,
    recorded,
    short,
)
from vroom_assets.ledger import latest_evidence
from vroom_assets.monitoring import policy
from vroom_assets.monitoring.policy import Step
from vroom_assets.sources import Observation
from vroom_assets.spec import ForecastSpec, Purpose, Retraining

# Dagster's daemon passes every 5 seconds and leaves out a sensor whose last tick began a moment less than its
# interval ago: one of 5 seconds would tick at every other pass.
DAEMON_LATE_SECONDS = 1

FIRST_PAUSE_SECONDS = 60.0  # from a request to the first look whether it was of use
LONGEST_PAUSE_SECONDS = 86_400.0

RECENT_RUNS = 50  # among which the latest that makes a version is searched
AT_REST_SECONDS = 3.0  # since a file was last written, from which on it is not waited for
WEIGHED_EVERY_SECONDS = (
    30.0  # whether anything but a change asks for a training; it reads the serving database
)

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Cursor(msgspec.Struct, frozen=True):
    """What the sensor remembers between two ticks."""

    seen: dict[str, Observation] = {}
    wanted: str = ""  # the training last asked for, or found to be there already
    judging: str = ""  # the rules of the contest then
    serving: str = ""  # the texts of the bundle then
    contents: dict[str, str] = {}  # source -> SHA-256 behind that training
    sizes: dict[str, int] = {}  # source -> bytes then
    before: str = ""  # the training that was there when it was asked for
    generation: int = 0  # runs asked for so far; part of the run key, so that A, B, A are three runs
    noted: str = ""  # the last decision in the ledger, which is entered once and not at every tick
    settled: bool = False  # whether what was wanted was seen to be there, or given up by somebody
    asked_at: float = 0.0  # the latest request for it, in seconds since the epoch
    requests: int = 0  # for it so far
    trouble: str = ""  # why the latest request came to nothing, until one does not
    adopted: bool = False  # whether what earlier versions of Vroom recorded is recorded as it is today
    weighed_at: float = 0.0  # when it was last asked whether anything but a change asks for a training
    weighed: str = ""  # what came of it, in short


@dataclass(frozen=True)
class Tick:
    """What one observation of the sources leads to."""

    cursor: Cursor
    reason: str
    step: Step = Step.NOTHING
    decision: Decision | None = None  # for the ledger, when it is worth an entry
    changed: tuple[str, ...] = ()
    weighed: policy.Decision | None = None  # what came of asking for more than changes, where that was done


class LatestRun(NamedTuple):
    """The unfinished run of a forecast, else its latest one."""

    id: str
    under_way: bool = False
    terminated: bool = False  # by somebody


def latest_run(instance: dg.DagsterInstance, forecast: str) -> LatestRun | None:
    tags = {FORECAST_TAG: forecast}
    if runs := instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags=tags), limit=1):
        return LatestRun(runs[0].run_id[:8], under_way=True)
    for run in instance.get_runs(dg.RunsFilter(tags=tags), limit=RECENT_RUNS):
        if run.job_name != f"{forecast}_{MONITOR_JOB}":  # it tells nothing of what was asked for
            return LatestRun(run.run_id[:8], terminated=run.status is dg.DagsterRunStatus.CANCELED)
    return None


def latest_failure(forecast: str, version: str | None) -> str:
    """Why the latest run that was to train a version failed; "" where none did that is known of."""
    with serving_database() as engine:
        found = latest_evidence(engine, forecast, RunFailed)
    return "; ".join(found.failures) if found and found.requested == short(version) else ""


@dataclass(frozen=True)
class System:
    """What a decision asks about. Dagster's instance is behind most of it, and opening it is most of what a tick costs.

    declared: the versions that should be there for these content hashes.
    recorded: those that were made last.
    left_undone: what the latest training still waits for.
    latest_run: of this forecast.
    failure: why the run that was to train a version failed, "" where none did.
    demands: what besides a change may ask for a training; None where the serving database does not answer.
    rules: when it is heard.
    """

    declared: Callable[[dict[str, str]], Versions]
    recorded: Callable[[dict[str, str]], Versions]
    left_undone: Callable[[], Step]
    latest_run: Callable[[], LatestRun | None]
    failure: Callable[[str | None], str]
    demands: Callable[[], Demands | None]
    rules: Retraining

    def run_under_way(self) -> str | None:
        run = self.latest_run()
        return run.id if run is not None and run.under_way else None


def decide(cursor: Cursor, seen: Mapping[str, Observation], system: System, at: float) -> Tick:
    """Decide on one observation of the sources.

    Args:
        at: the time, in seconds since the epoch.
    """
    updated = msgspec.structs.replace(cursor, seen=dict(seen))
    missing = [observation.path for observation in seen.values() if observation.missing]
    if missing:
        return Tick(updated, f"waits for {', '.join(missing)}, which is not there", decision=Decision.WAITING)
    moving = [name for name, observation in seen.items() if not observation.settled]
    if moving:
        return Tick(updated, f"waits: {', '.join(moving)} is being written", decision=Decision.WAITING)

    contents = {name: observation.sha256 for name, observation in seen.items()}
    growth = growth_since(cursor, contents, seen, system)
    held = policy.is_held_back(policy.Change(Step.RETRAIN, growth=growth), system.rules, scheduled=False)
    weighed = _weigh(cursor, contents, growth if held else None, system, at)
    if weighed is not None:
        updated = msgspec.structs.replace(updated, weighed_at=at)
    released = weighed is not None and weighed.answer is policy.Answer.GO
    if held and not released:
        tick = _decided(cursor, updated, cursor.contents, system, at, held=True)
        if tick.step is not Step.RETRAIN or not tick.changed:
            return replace(tick, weighed=weighed)
    why = weighed.reason if released and weighed else ""
    tick = _decided(cursor, updated, contents, system, at, reason=why)
    if released and tick.step is Step.NOTHING:  # a file has just changed: as soon as it is at rest
        tick = replace(tick, cursor=msgspec.structs.replace(tick.cursor, weighed_at=cursor.weighed_at))
    return replace(tick, weighed=weighed)


def growth_since(
    cursor: Cursor, contents: Mapping[str, str], seen: Mapping[str, Observation], system: System
) -> float | None:
    """The largest growth of a source since the training last asked for; None where more than contents changed, or nothing."""
    if system.rules.new_rows is None or not cursor.sizes or contents == cursor.contents:
        return None
    if system.declared(cursor.contents).trained != cursor.wanted or cursor.sizes.keys() != contents.keys():
        return None
    shares = [seen[name].size / max(size, 1) - 1 for name, size in cursor.sizes.items()]
    return max(shares, key=abs)


def _weigh(
    cursor: Cursor, contents: dict[str, str], growth: float | None, system: System, at: float
) -> policy.Decision | None:
    """What comes of asking for more than changes; None where it is too early, or what was asked for is not there yet.

    Args:
        growth: of data that are held back; None where none are.
    """
    if not cursor.settled or abs(at - cursor.weighed_at) < WEIGHED_EVERY_SECONDS:
        return None
    if growth is None and contents != cursor.contents:
        return None  # a change, which is heard in any case
    demands = system.demands()
    if demands is None:
        return None
    change = policy.Change() if growth is None else policy.Change(Step.RETRAIN, growth=growth)
    facts = demands.facts(at, change)
    decision = policy.decide(facts, system.rules)
    if decision.answer is not policy.Answer.GO:
        return decision
    # Only now is it worth asking Dagster: whether a run is under way, or has trained with these data already.
    if system.recorded(contents).trained == system.declared(contents).trained:
        facts = replace(facts, change=policy.Change())
    return policy.decide(replace(facts, run=system.run_under_way()), system.rules)


def _decided(
    cursor: Cursor,
    updated: Cursor,
    contents: dict[str, str],
    system: System,
    at: float,
    *,
    held: bool = False,
    reason: str = "",
) -> Tick:
    """What a change of the sources or of the declaration leads to, if there is one.

    Args:
        contents: of the sources, as far as they count.
        held: whether newer contents are held back.
        reason: why it trains, where that is more than a change.
    """
    now = system.declared(contents)
    if (now.trained, now.judged, now.served) == (cursor.wanted, cursor.judging, cursor.serving):
        return _look_again(updated, now, contents, system, at, held=held)
    changed = tuple(name for name, sha256 in contents.items() if cursor.contents.get(name) != sha256)
    unsettled = [name for name, one in updated.seen.items() if not _is_settled(one, cursor.seen.get(name))]
    if unsettled:
        return Tick(
            updated, f"waits one more tick: {', '.join(unsettled)} just changed", decision=Decision.WAITING
        )
    run = system.run_under_way()
    # What is there after a run that is under way, nobody knows yet.
    done = None if run else system.recorded(contents)
    open_still = now.trained == cursor.wanted and not cursor.settled
    step = Step.RETRAIN
    if done is not None:
        step = next_step(now, done, asked=cursor.wanted if open_still else "")
        reason = reason or _why(cursor, step, now, done, changed, system)
    decision = policy.decide(policy.Facts(at, policy.Change(step, reason), run), system.rules)
    if done is None or decision.answer is policy.Answer.WAIT:
        return Tick(updated, decision.reason, decision=Decision.WAITING)
    after = msgspec.structs.replace(
        updated,
        wanted=now.trained or "",
        judging=now.judged or "",
        serving=now.served or "",
        contents=contents,
        sizes=cursor.sizes if held else {name: one.size for name, one in updated.seen.items()},
        before=done.trained or "",
        generation=cursor.generation + (step is not Step.NOTHING),
        settled=step is Step.NOTHING and not open_still,
        asked_at=cursor.asked_at if open_still else at,
        requests=cursor.requests if open_still else 1,
        trouble="" if step is Step.NOTHING and not open_still else cursor.trouble,
    )
    return Tick(after, reason, step=step, decision=Decision(step.value), changed=changed)


def _is_settled(observation: Observation, before: Observation | None) -> bool:
    """Whether a file is at rest: it was the same a tick ago, or nothing touched it for a while."""
    if before is None:
        return False
    return observation.same_file_as(before) or observation.at_rest_s >= AT_REST_SECONDS


def _why(
    cursor: Cursor, step: Step, now: Versions, done: Versions, changed: tuple[str, ...], system: System
) -> str:
    causes = list(changed)
    if cursor.wanted and system.declared(cursor.contents).trained != cursor.wanted:
        causes.append("the declaration")
    if step is Step.RETRAIN and not cursor.wanted:
        return f"nothing was trained from these sources yet: version {short(now.trained)}"
    return reason_of(step, now, done, causes)


def _look_again(
    cursor: Cursor, now: Versions, contents: dict[str, str], system: System, at: float, *, held: bool
) -> Tick:
    """Whether what was asked for is there by now; where no run is under way that would bring it, ask again."""
    version = f"version {short(now.trained)}"
    if cursor.settled:
        kept = "; newer data are held back" if held else ""
        return Tick(cursor, f"no change: {version} is the latest that was trained or requested{kept}")
    if at < cursor.asked_at:  # the clock was set back
        cursor = msgspec.structs.replace(cursor, asked_at=at)
    due = cursor.asked_at + pause(cursor.requests)
    if at < due:
        # What is newest is not trained from the moment that its run failed, and not from the next request.
        known = cursor.trouble or system.failure(now.trained)
        return Tick(
            msgspec.structs.replace(cursor, trouble=known),
            f"no change: {version} was requested; looks in {due - at:.0f} s whether it is there",
        )
    run = system.latest_run()
    if run is not None and run.under_way:
        return Tick(cursor, f"no change: {version} was requested, and run {run.id} is under way")
    settled = msgspec.structs.replace(cursor, settled=True, trouble="")
    done = system.recorded(contents)
    if held and (done.trained or "") != cursor.before:
        return Tick(settled, "no change: the run trained with data that came after it was requested")
    step = next_step(now, done)
    if step is Step.NOTHING:
        step = system.left_undone()
    if step is Step.NOTHING:
        return Tick(settled, f"no change: {version} is trained")
    if run is not None and run.terminated:
        reason = (
            f"{version} is not finished: somebody terminated its run; start it by hand, or the schedule does"
        )
        return Tick(settled, reason, decision=Decision.SKIPPED)
    after = msgspec.structs.replace(
        cursor,
        asked_at=at,
        requests=cursor.requests + 1,
        generation=cursor.generation + 1,
        trouble=system.failure(now.trained) or "its run failed, or was never launched",
    )
    reason = f"{version} was requested and is not finished: its run failed or was never launched; it is requested again, with growing pauses"
    return Tick(after, reason, step=step, decision=Decision(step.value))


def pause(requests: int) -> float:
    """Seconds from the latest of so many requests to the next look."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** (requests - 1), LONGEST_PAUSE_SECONDS)


def read_cursor(text: str | None, spec: ForecastSpec) -> Cursor:
    """A cursor as it was left; one of before fields had purposes means the declaration as it is, if it can."""
    try:
        cursor = decode(text or "{}", Cursor)
    except msgspec.MsgspecError:
        return Cursor()
    if cursor.judging or cursor.wanted != spec.former_trained_version(cursor.contents):
        return cursor
    return msgspec.structs.replace(
        cursor,
        wanted=spec.trained_version(cursor.contents),
        judging=spec.fingerprint(Purpose.JUDGING),
        serving=spec.fingerprint(Purpose.SERVING),
        adopted=False,
    )


def run_of(
    spec: ForecastSpec, step: Step, reason: str, version: str | None, run_key: str | None = None
) -> dg.RunRequest:
    """The run that takes a step: the retraining, or what of it is enough.

    Args:
        version: of the training that is to be there after it.
    """
    selection = SELECTIONS.get(step)
    return dg.RunRequest(
        run_key=run_key,
        run_config=QUIET,
        tags={FORECAST_TAG: spec.name, REASON_TAG: reason, REQUESTED_TAG: short(version)},
        asset_selection=[key(spec, asset) for asset in selection] if selection else None,
    )


def source_sensor(spec: ForecastSpec, job: Any) -> dg.SensorDefinition:
    """Renews a forecast when the content of a source, or its own declaration, changed."""

    @dg.sensor(
        name=f"{spec.name}_sources",
        job=job,
        minimum_interval_seconds=max(spec.automation.interval_seconds - DAEMON_LATE_SECONDS, 1),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Retrains when the content of a CSV or the definition of the models changed. Holds the contest or "
            "publishes again when only the rules or the texts changed. Each tick that starts no run says why."
        ),
    )
    def sources(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = read_cursor(context.cursor, spec)
        seen = {name: observe_source(spec, name) for name in spec.sources}
        system = System(
            declared=lambda contents: declared(spec, contents),
            recorded=lambda contents: recorded(context.instance, spec, contents),
            left_undone=lambda: left_undone(spec.name),
            latest_run=lambda: latest_run(context.instance, spec.name),
            failure=lambda version: latest_failure(spec.name, version),
            demands=lambda: gather_or_none(spec, time.time()),
            rules=spec.retraining,
        )
        tick = decide(cursor, seen, system, time.time())
        every = spec.automation.interval_seconds
        beat(spec.name, Heartbeat(checked_at=time.time(), every_s=every, trouble=tick.cursor.trouble))
        after = _enter(spec, tick, cursor, seen)
        if tick.decision or _essence(after) != _essence(cursor):
            context.log.info(tick.reason)  # a file of its own, so not at every tick that finds all as it was
        events: list[dg.AssetObservation] = [_observation(spec, name, seen[name]) for name in tick.changed]
        if after.judging and not after.adopted:
            events += adopted(context.instance, spec, after.contents)
            after = msgspec.structs.replace(after, adopted=True)
        text = msgspec.json.encode(after).decode()
        if tick.step is Step.NOTHING:
            return dg.SensorResult(skip_reason=tick.reason, cursor=text, asset_events=events)
        run_key = f"{spec.name}-{after.generation}-{after.wanted[:12]}"
        request = run_of(spec, tick.step, tick.reason, after.wanted, run_key)
        return dg.SensorResult(run_requests=[request], cursor=text, asset_events=events)

    return sources


def _essence(cursor: Cursor) -> Cursor:
    """What of a cursor does not change while nothing happens."""
    return msgspec.structs.replace(cursor, seen={}, weighed_at=0.0)


def _enter(spec: ForecastSpec, tick: Tick, before: Cursor, seen: Mapping[str, Observation]) -> Cursor:
    """Enter what was decided in the ledger, once and not at every tick that comes to the same; the cursor after it."""
    after = tick.cursor
    evidence = SourcesSeen(
        sources={name: observation.sha256 for name, observation in seen.items()},
        changed=list(tick.changed),
        generation=after.generation,
    )
    weighed = tick.weighed
    if weighed is not None:
        after = msgspec.structs.replace(after, weighed=in_short(weighed))
    released = weighed is not None and weighed.answer is policy.Answer.GO and tick.step is Step.RETRAIN
    remark = f"{tick.decision}: {tick.reason}"
    entries = []
    if weighed is not None and weighed.answer in ENTRIES and after.weighed != before.weighed:
        entries.append((ENTRIES[weighed.answer], weighed.reason, with_numbers(evidence, weighed)))
    if tick.decision is not None and remark != before.noted:
        own = with_numbers(evidence, weighed) if released and weighed else evidence
        entries.append((tick.decision, tick.reason, own))
        after = msgspec.structs.replace(after, noted=remark)
    calls = weighed is not None and after.weighed != before.weighed
    if entries or calls:
        with serving_database() as engine:
            if weighed is not None and calls:
                announce(spec, weighed, engine)
            for decision, reason, seen_then in entries:
                enter_ledger(
                    engine,
                    forecast=spec.name,
                    actor=f"sensor {spec.name}_sources",
                    decision=decision,
                    reason=reason,
                    evidence=seen_then,
                )
    return after


# What is entered of an answer beside the tick's own decision; what goes ahead is that decision.
ENTRIES = {
    policy.Answer.WAIT: Decision.WAITING,
    policy.Answer.HELD_BACK: Decision.WAITING,
    policy.Answer.NEEDS_DATA: Decision.NEEDS_DATA,
}


def in_short(weighed: policy.Decision) -> str:
    """What two answers have in common that are one entry: their numbers may differ."""
    return f"{weighed.answer}: {weighed.cause}, {weighed.demand.version if weighed.demand else None}"


def with_numbers(evidence: SourcesSeen, weighed: policy.Decision) -> SourcesSeen:
    return msgspec.structs.replace(evidence, cause=weighed.cause.value, numbers=weighed.numbers)


def _observation(spec: ForecastSpec, source: str, observation: Observation) -> dg.AssetObservation:
    return dg.AssetObservation(
        dg.AssetKey([spec.name, f"{source}_csv"]),
        metadata={"sha256": observation.sha256, "size": observation.size},
        tags={DATA_VERSION_TAG: observation.sha256},
    )


def safety_net(spec: ForecastSpec, job: Any) -> dg.ScheduleDefinition:
    """Does on schedule what the sensor should have done, and nothing else."""

    @dg.schedule(
        name=f"{spec.name}_daily",
        job=job,
        cron_schedule=spec.automation.schedule,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Safety net: starts the run that the sensor should have started, when something differs from what was made last.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        seen = {name: observe_source(spec, name, afresh=True) for name in spec.sources}
        contents = {name: observation.sha256 for name, observation in seen.items()}
        missing = [observation.path for observation in seen.values() if observation.missing]
        if missing:
            decision = policy.Decision(policy.Answer.WAIT, f"{', '.join(missing)} is not there")
        else:
            decision = _on_schedule(context.instance, spec, contents, time.time())
        runs = decision.answer is policy.Answer.GO
        with serving_database() as engine:
            enter_ledger(
                engine,
                forecast=spec.name,
                actor=f"schedule {spec.name}_daily",
                decision=Decision(decision.step.value) if runs else Decision.SKIPPED,
                reason=decision.reason,
                evidence=with_numbers(SourcesSeen(sources=contents), decision),
            )
        if not runs:
            return dg.SkipReason(decision.reason)
        return run_of(spec, decision.step, decision.reason, spec.trained_version(contents))

    return daily


def _on_schedule(
    instance: dg.DagsterInstance, spec: ForecastSpec, contents: dict[str, str], at: float
) -> policy.Decision:
    """What runs by the schedule: all that differs, also what the sensor holds back."""
    now, done = declared(spec, contents), recorded(instance, spec, contents)
    step = next_step(now, done)
    reason = reason_of(step, now, done)
    if step is Step.RETRAIN:
        reason = f"trained is {short(done.trained)}, the sources are {short(now.trained)}"
    run = latest_run(instance, spec.name)
    facts = gather(spec, at).facts(at, policy.Change(step, reason))
    facts = replace(facts, run=run.id if run is not None and run.under_way else None, scheduled=True)
    decision = policy.decide(facts, spec.retraining)
    return replace(decision, reason=reason) if decision.answer is policy.Answer.NOTHING else decision
