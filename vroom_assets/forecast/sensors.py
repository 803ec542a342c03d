"""Automation: what makes a forecast renew itself, and why it did or did not.

The sensor compares contents, not times. Its cursor holds what it last saw of each source and the
versions it last asked a run for, so a change that happened while everything was down is found at the
next start. One run is under way at a time; what changes meanwhile is noticed when it ends. A change runs
no more than it has to: a training, the contest, or the publication alone. What was asked for counts once it is
there: a run that was never launched, or ended without it, is asked for again, with pauses that double.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import dagster as dg
import msgspec

from vroom_api.contract.decoding import decode
from vroom_api.contract.events import Decision, RunFailed, SourcesSeen
from vroom_api.contract.heartbeat import Heartbeat, beat
from vroom_api.contract.tables import enter_ledger, serving_database
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
    Step,
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
from vroom_assets.sources import Observation
from vroom_assets.spec import ForecastSpec, Purpose

# Dagster's daemon passes every 5 seconds and leaves out a sensor whose last tick began a moment less than its
# interval ago: one of 5 seconds would tick at every other pass.
DAEMON_LATE_SECONDS = 1

FIRST_PAUSE_SECONDS = 60.0  # from a request to the first look whether it was of use
LONGEST_PAUSE_SECONDS = 86_400.0

RECENT_RUNS = 50  # among which the latest that makes a version is searched

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
    generation: int = 0  # runs asked for so far; part of the run key, so that A, B, A are three runs
    noted: str = ""  # the last decision in the ledger, which is entered once and not at every tick
    settled: bool = False  # whether what was wanted was seen to be there, or given up by somebody
    asked_at: float = 0.0  # the latest request for it, in seconds since the epoch
    requests: int = 0  # for it so far
    trouble: str = ""  # why the latest request came to nothing, until one does not
    adopted: bool = False  # whether what earlier versions of Vroom recorded is recorded as it is today


@dataclass(frozen=True)
class Tick:
    """What one observation of the sources leads to."""

    cursor: Cursor
    reason: str
    step: Step = Step.NOTHING
    decision: Decision | None = None  # for the ledger, when it is worth an entry
    changed: tuple[str, ...] = ()


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
    """

    declared: Callable[[dict[str, str]], Versions]
    recorded: Callable[[dict[str, str]], Versions]
    left_undone: Callable[[], Step]
    latest_run: Callable[[], LatestRun | None]
    failure: Callable[[str | None], str]


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
    now = system.declared(contents)
    if (now.trained, now.judged, now.served) == (cursor.wanted, cursor.judging, cursor.serving):
        return _look_again(updated, now, contents, system, at)
    changed = tuple(name for name, sha256 in contents.items() if cursor.contents.get(name) != sha256)
    unsettled = [
        n
        for n, observation in seen.items()
        if n not in cursor.seen or not observation.same_file_as(cursor.seen[n])
    ]
    if unsettled:
        return Tick(
            updated, f"waits one more tick: {', '.join(unsettled)} just changed", decision=Decision.WAITING
        )
    run = system.latest_run()
    if run is not None and run.under_way:
        return Tick(
            updated,
            f"waits: there is a change, and run {run.id} is still under way",
            decision=Decision.WAITING,
        )
    done = system.recorded(contents)
    open_still = now.trained == cursor.wanted and not cursor.settled
    step = next_step(now, done, asked=cursor.wanted if open_still else "")
    causes = list(changed)
    if cursor.wanted and system.declared(cursor.contents).trained != cursor.wanted:
        causes.append("the declaration")
    reason = reason_of(step, now, done, causes)
    if step is Step.RETRAIN and not cursor.wanted:
        reason = f"nothing was trained from these sources yet: version {short(now.trained)}"
    after = msgspec.structs.replace(
        updated,
        wanted=now.trained or "",
        judging=now.judged or "",
        serving=now.served or "",
        contents=contents,
        generation=cursor.generation + (step is not Step.NOTHING),
        settled=step is Step.NOTHING and not open_still,
        asked_at=cursor.asked_at if open_still else at,
        requests=cursor.requests if open_still else 1,
        trouble="" if step is Step.NOTHING and not open_still else cursor.trouble,
    )
    return Tick(after, reason, step=step, decision=Decision(step.value), changed=changed)


def _look_again(cursor: Cursor, now: Versions, contents: dict[str, str], system: System, at: float) -> Tick:
    """Whether what was asked for is there by now; where no run is under way that would bring it, ask again."""
    version = f"version {short(now.trained)}"
    if cursor.settled:
        return Tick(cursor, f"no change: {version} is the latest that was trained or requested")
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
    step = next_step(now, system.recorded(contents))
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
        )
        tick = decide(cursor, seen, system, time.time())
        every = spec.automation.interval_seconds
        beat(spec.name, Heartbeat(checked_at=time.time(), every_s=every, trouble=tick.cursor.trouble))
        after = _enter(spec, tick, cursor, seen)
        if tick.decision or msgspec.structs.replace(after, seen={}) != msgspec.structs.replace(
            cursor, seen={}
        ):
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


def _enter(spec: ForecastSpec, tick: Tick, before: Cursor, seen: Mapping[str, Observation]) -> Cursor:
    """Enter a decision in the ledger, once and not at every tick that comes to the same; the cursor after it."""
    remark = f"{tick.decision}: {tick.reason}"
    if tick.decision is None or remark == before.noted:
        return tick.cursor
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=spec.name,
            actor=f"sensor {spec.name}_sources",
            decision=tick.decision,
            reason=tick.reason,
            evidence=SourcesSeen(
                sources={name: observation.sha256 for name, observation in seen.items()},
                changed=list(tick.changed),
                generation=tick.cursor.generation,
            ),
        )
    return msgspec.structs.replace(tick.cursor, noted=remark)


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
        step = Step.NOTHING
        missing = [observation.path for observation in seen.values() if observation.missing]
        if missing:
            reason = f"{', '.join(missing)} is not there"
        else:
            now, done = declared(spec, contents), recorded(context.instance, spec, contents)
            step = next_step(now, done)
            reason = reason_of(step, now, done)
            if step is Step.RETRAIN:
                reason = f"trained is {short(done.trained)}, the sources are {short(now.trained)}"
        skipped = step is Step.NOTHING
        with serving_database() as engine:
            enter_ledger(
                engine,
                forecast=spec.name,
                actor=f"schedule {spec.name}_daily",
                decision=Decision.SKIPPED if skipped else Decision(step.value),
                reason=reason,
                evidence=SourcesSeen(sources=contents),
            )
        return (
            dg.SkipReason(reason) if skipped else run_of(spec, step, reason, spec.trained_version(contents))
        )

    return daily
