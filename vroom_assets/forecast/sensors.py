"""Automation: what makes a forecast renew itself, and why it did or did not.

The sensor compares contents, not times. Its cursor holds what it last saw of each source and the
version it last asked a run for, so a change that happened while everything was down is found at the
next start. One retraining is under way at a time; what changes meanwhile is taken up when it ends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec

from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets import resources
from vroom_assets.forecast.names import CHALLENGER, FORECAST_TAG, QUIET
from vroom_assets.sources import Observation, observe
from vroom_assets.spec import ForecastSpec

# Dagster's daemon passes every 5 seconds and leaves out a sensor whose last tick began a moment less than its
# interval ago: one of 5 seconds would tick at every other pass.
DAEMON_LATE_SECONDS = 1

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
    wanted: str = ""  # the version last asked for, or found to be trained already
    contents: dict[str, str] = {}  # source -> SHA-256 behind that version
    generation: int = 0  # runs asked for so far; part of the run key, so that A, B, A are three runs
    noted: str = ""  # the last decision in the ledger, which is entered once and not at every tick


@dataclass(frozen=True)
class Decision:
    """What one look at the sources leads to."""

    cursor: Cursor
    reason: str
    run: bool = False
    note: str | None = None  # the ledger's word for it, when it is worth an entry
    changed: tuple[str, ...] = ()


def source_paths(spec: ForecastSpec) -> dict[str, Any]:
    return {name: resources.data_folder() / source.path for name, source in spec.sources.items()}


def decide(
    cursor: Cursor,
    seen: Mapping[str, Observation],
    version_of: Callable[[dict[str, str]], str],
    trained: Callable[[], str | None],
    run_under_way: Callable[[], str | None],
) -> Decision:
    """Decide on one look at the sources.

    Args:
        version_of: the version that training on these content hashes would have.
        trained: the version of the latest challenger, None if there is none.
        run_under_way: id of an unfinished run of this forecast.

    Dagster is asked for the last two only when it matters: opening its instance is most of what a tick costs.
    """
    looked = msgspec.structs.replace(cursor, seen=dict(seen))
    missing = [look.path for look in seen.values() if look.missing]
    if missing:
        return Decision(looked, f"waits for {', '.join(missing)}, which is not there", note="waiting")
    moving = [name for name, look in seen.items() if not look.settled]
    if moving:
        return Decision(looked, f"waits: {', '.join(moving)} is being written", note="waiting")

    contents = {name: look.sha256 for name, look in seen.items()}
    wanted = version_of(contents)
    if wanted == cursor.wanted:
        return Decision(looked, f"no change: version {wanted[:12]} is the one last asked for")
    changed = tuple(name for name, sha256 in contents.items() if cursor.contents.get(name) != sha256)
    unsettled = [
        n for n, look in seen.items() if n not in cursor.seen or not look.same_file_as(cursor.seen[n])
    ]
    if unsettled:
        return Decision(looked, f"waits one more look: {', '.join(unsettled)} just changed", note="waiting")
    if run := run_under_way():
        return Decision(looked, f"waits: there is a change, and run {run} is still under way", note="waiting")
    if wanted == trained():
        adopted = msgspec.structs.replace(looked, wanted=wanted, contents=contents)
        return Decision(adopted, f"version {wanted[:12]} is trained already", note="current", changed=changed)
    asked = msgspec.structs.replace(
        looked, wanted=wanted, contents=contents, generation=cursor.generation + 1
    )
    reason = f"{' and '.join(changed)} changed" if changed else "the declaration changed"
    reason = reason if cursor.wanted else "nothing was trained from these sources yet"
    return Decision(asked, f"{reason}: version {wanted[:12]}", run=True, note="requested", changed=changed)


def trained_version(instance: dg.DagsterInstance, forecast: str) -> str | None:
    """The version of the latest challenger."""
    event = instance.get_latest_materialization_event(dg.AssetKey([forecast, CHALLENGER]))
    if event is None or event.asset_materialization is None:
        return None
    entry = event.asset_materialization.metadata.get("trained_version")
    return str(entry.value) if entry else None


def source_sensor(spec: ForecastSpec, job: Any) -> dg.SensorDefinition:
    """Retrains when the content of a source, or the forecast's own definition, changed."""

    @dg.sensor(
        name=f"{spec.name}_sources",
        job=job,
        minimum_interval_seconds=max(spec.automation.interval_seconds - DAEMON_LATE_SECONDS, 1),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Retrains when a CSV's content or the declaration changed; says at each tick why it did not.",
    )
    def sources(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            cursor = msgspec.json.decode(context.cursor or "{}", type=Cursor)
        except msgspec.MsgspecError:
            cursor = Cursor()

        def run_under_way() -> str | None:
            runs = context.instance.get_run_records(
                dg.RunsFilter(statuses=UNFINISHED, tags={FORECAST_TAG: spec.name}), limit=1
            )
            return runs[0].dagster_run.run_id[:8] if runs else None

        seen = {name: observe(path, cursor.seen.get(name)) for name, path in source_paths(spec).items()}
        decision = decide(
            cursor,
            seen,
            spec.trained_version,
            lambda: trained_version(context.instance, spec.name),
            run_under_way,
        )
        after = decision.cursor
        remark = f"{decision.note}: {decision.reason}"
        if decision.note and remark != cursor.noted:
            with serving_database() as engine:
                enter_ledger(
                    engine,
                    forecast=spec.name,
                    actor=f"sensor {spec.name}_sources",
                    event="retrain",
                    decision=decision.note,
                    reason=decision.reason,
                    evidence={
                        "sources": {name: look.sha256 for name, look in seen.items()},
                        "changed": list(decision.changed),
                        "generation": after.generation,
                    },
                )
            after = msgspec.structs.replace(after, noted=remark)
        text = msgspec.json.encode(after).decode()
        observations = [
            dg.AssetObservation(
                dg.AssetKey([spec.name, f"{name}_csv"]),
                metadata={"sha256": seen[name].sha256, "size": seen[name].size},
                tags={"dagster/data_version": seen[name].sha256},
            )
            for name in decision.changed
        ]
        if not decision.run:
            return dg.SensorResult(skip_reason=decision.reason, cursor=text, asset_events=observations)
        request = dg.RunRequest(
            run_key=f"{spec.name}-{after.generation}-{after.wanted[:12]}",
            run_config=QUIET,
            tags={FORECAST_TAG: spec.name, "vroom/reason": decision.reason},
        )
        return dg.SensorResult(run_requests=[request], cursor=text, asset_events=observations)

    return sources


def safety_net(spec: ForecastSpec, job: Any) -> dg.ScheduleDefinition:
    """Retrains on schedule what the sensor should have retrained, and nothing else."""

    @dg.schedule(
        name=f"{spec.name}_daily",
        job=job,
        cron_schedule=spec.automation.schedule,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Safety net: retrains when the sources differ from what was trained last.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        seen = {name: observe(path, None) for name, path in source_paths(spec).items()}
        trained = trained_version(context.instance, spec.name)
        missing = [look.path for look in seen.values() if look.missing]
        if missing:
            decision, reason = "skipped", f"{', '.join(missing)} is not there"
        elif (wanted := spec.trained_version({n: look.sha256 for n, look in seen.items()})) == trained:
            decision, reason = "skipped", f"version {wanted[:12]} is trained already"
        else:
            decision, reason = (
                "requested",
                f"trained is {(trained or 'nothing')[:12]}, the sources are {wanted[:12]}",
            )
        with serving_database() as engine:
            enter_ledger(
                engine,
                forecast=spec.name,
                actor=f"schedule {spec.name}_daily",
                event="retrain",
                decision=decision,
                reason=reason,
                evidence={"sources": {name: look.sha256 for name, look in seen.items()}},
            )
        if decision == "skipped":
            return dg.SkipReason(reason)
        return dg.RunRequest(run_config=QUIET, tags={FORECAST_TAG: spec.name, "vroom/reason": reason})

    return daily
