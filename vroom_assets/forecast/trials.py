"""A version that is tried beside the champion: judged whenever the monitoring runs, stopped where it is worse, promoted by whoever asks."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from vroom_api.contract import BundleError, Pointer, read_pointer
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.checks import enter_checks
from vroom_api.contract.events import Decision, TrialChanged, TrialJudged
from vroom_api.contract.store import LocalStore, NothingServes, PointerMoved
from vroom_api.contract.tables import alerts, append_entry, serving_database
from vroom_api.contract.trials import TrialVerdict, change_traffic
from vroom_assets.champion import publication
from vroom_assets.forecast.names import CALLER_TAG, CHAMPION, FORECAST_TAG, ROLLED_BACK, TRIAL_STOPPED
from vroom_assets.forecast.rollback import Actor, restored
from vroom_assets.ledger import latest_evidence
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from vroom_assets.monitoring.shadow import Succession
    from vroom_assets.monitoring.trial import TrialFinding

DECISIONS = {
    TrialVerdict.BETTER: Decision.BETTER,
    TrialVerdict.WORSE: Decision.WORSE,
    TrialVerdict.OPEN: Decision.UNKNOWN,
}


def judge_trial(
    spec: ForecastSpec, connection: "DuckDBPyConnection", actor: Actor, until: datetime
) -> dict[str, Any]:
    """Judge what is tried by the outcomes in the warehouse, whose feedback is up to date.

    Args:
        until: the end of the latest closed window, with a zone.

    Returns:
        what came of it, as metadata; nothing where nothing is tried.
    """
    from vroom_assets.monitoring import trial

    pointer = read_pointer(spec.name)
    if pointer is None or pointer.trial is None:
        _resolve(spec, pointer)
        return {}
    try:
        found = trial.pair_of(spec.name, pointer)
    except BundleError as error:
        return {"trial_verdict": f"not judged: a version is damaged: {error}"}
    return act_on_trial(spec, found, trial.rows_of(connection, found), actor, until)


def act_on_trial(
    spec: ForecastSpec, found: "Succession", rows: "pd.DataFrame", actor: Actor, until: datetime
) -> dict[str, Any]:
    """`judge_trial` of rows that are given, as `monitoring.trial.judge` takes them."""
    from vroom_assets.monitoring import trial

    second = found.successor.manifest.version
    with serving_database() as engine:
        in_shadow = trial.shadow_values(engine, second, rows["id"].tolist())
        finding = trial.judge(spec, found, rows, in_shadow)
        if until > found.since:
            with engine.begin() as transaction:
                enter_checks(transaction, [trial.check_of(spec.name, found, finding, until)])
        _enter_verdict(engine, spec, found, finding, actor)
        stopped = {}
        if finding.verdict is TrialVerdict.WORSE:
            stopped = _stop(engine, spec, found, finding, actor)
        else:
            resolve_alert(engine, forecast=spec.name, kind=TRIAL_STOPPED)
    return {
        "trial_version": second,
        "trial_verdict": finding.sentence,
        **{f"trial_{name}": value for name, value in finding.numbers.items()},
        **stopped,
    }


def _enter_verdict(
    engine: sa.Engine, spec: ForecastSpec, found: "Succession", finding: "TrialFinding", actor: Actor
) -> None:
    """Enter a verdict that is another one than before in the ledger; that nothing is known yet is none."""
    trial = found.pointer.trial
    assert trial is not None
    evidence = TrialJudged(
        version=trial.version,
        champion=found.pointer.version,
        since=trial.since,
        verdict=finding.verdict.value,
        numbers=dict(finding.numbers),
    )
    before = latest_evidence(engine, spec.name, TrialJudged)
    same_trial = before is not None and (before.version, before.since) == (trial.version, trial.since)
    known = before.verdict if before is not None and same_trial else TrialVerdict.OPEN.value
    if evidence.verdict == known:
        return
    with engine.begin() as connection:
        append_entry(
            connection,
            forecast=spec.name,
            actor=actor.name,
            decision=DECISIONS[finding.verdict],
            reason=finding.sentence,
            evidence=evidence,
            run_id=actor.run_id,
        )


def _stop(
    engine: sa.Engine, spec: ForecastSpec, found: "Succession", finding: "TrialFinding", actor: Actor
) -> dict[str, Any]:
    """End the trial of a version that is worse, and raise an alert."""
    second = found.successor.manifest.version
    try:
        change_traffic(
            engine,
            LocalStore(),
            spec.name,
            None,
            found.pointer,
            decision=Decision.STOPPED,
            reason=f"version {second} is not tried any more, because it is worse: {finding.sentence}",
            actor=actor.name,
            run_id=actor.run_id,
        )
    except (PointerMoved, NothingServes) as error:
        return {"trial_refused": str(error)}
    raise_alert(
        engine,
        forecast=spec.name,
        kind=TRIAL_STOPPED,
        severity=Severity.WARNING,
        message=(
            f"The trial of version {second} was stopped, and version {found.pointer.version} answers everything. "
            f"{finding.sentence}. Find out what it learnt wrongly before you try it again"
        ),
        evidence=dict(finding.numbers) | {"version": second, "champion": found.pointer.version},
    )
    return {"trial_stopped": True}


def _resolve(spec: ForecastSpec, pointer: Pointer | None) -> None:
    """Close the alert about a trial that was stopped, once another champion serves than the one it was tried beside."""
    open_one = sa.select(alerts.c.evidence).where(
        alerts.c.forecast == spec.name, alerts.c.kind == TRIAL_STOPPED, alerts.c.resolved_at.is_(None)
    )
    with serving_database() as engine:
        with engine.connect() as connection:
            evidence = connection.scalar(open_one)
        if evidence is not None and (pointer is None or evidence.get("champion") != pointer.version):
            resolve_alert(engine, forecast=spec.name, kind=TRIAL_STOPPED)


class Promotion(dg.Config):
    """What to promote, and why."""

    version: int = Field(ge=1, description="the version that is tried")
    generation: int = Field(
        ge=1, description="of the pointer that this was decided by; where it has another one nothing changes"
    )
    reason: str = Field("asked for by an operator", description="why, for the ledger")


def promotion_job(spec: ForecastSpec) -> dg.JobDefinition:
    """Let the version that is tried beside the champion serve."""

    @dg.op(
        name=f"promote_version_of_{spec.name}",
        description="`version` is the one that is tried, `generation` that of the pointer; `reason` goes into the ledger.",
        required_resource_keys={"registry"},
    )
    def promote(context: dg.OpExecutionContext, config: Promotion) -> None:
        actor = Actor(context.run.tags.get(CALLER_TAG) or "job promote_version", context.run.run_id)
        try:
            before, after = publication.promote(
                spec.name,
                config.version,
                config.generation,
                config.reason,
                actor=actor.name,
                run_id=actor.run_id,
            )
        except Exception as error:
            _refuse(spec, config, actor, str(error))
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if not context.resources.registry.mark_champion(spec.name, after):
            context.log.warning(
                f"MLflow does not have version {after.version}; its alias `{CHAMPION}` names none"
            )
        with serving_database() as engine:
            for kind in (ROLLED_BACK, TRIAL_STOPPED):
                resolve_alert(engine, forecast=spec.name, kind=kind)
        reason = f"serves after its trial instead of version {before.version}: {config.reason}"
        context.log.info(f"version {after.version} {reason}")
        context.log_event(restored(spec, after, reason, Decision.PROMOTED))

    @dg.job(
        name=f"{spec.name}_promote_version",
        tags={FORECAST_TAG: spec.name},
        description=(
            "Let the version that is tried beside the champion serve, after checking that it loads and scores. `version` "
            "and `generation` are those that GET /forecasts/<name>/trial gives; `reason` goes into the ledger."
        ),
    )
    def promote_version() -> None:
        promote()

    return promote_version


def _refuse(spec: ForecastSpec, config: Promotion, actor: Actor, reason: str) -> None:
    """Enter that nothing was promoted."""
    pointer = LocalStore().pointer(spec.name)
    evidence = TrialChanged(
        version=config.version,
        champion=pointer.version if pointer else 0,
        generation=config.generation,
        role="",
        share=0.0,
        since="",
    )
    with serving_database() as engine, engine.begin() as connection:
        append_entry(
            connection,
            forecast=spec.name,
            actor=actor.name,
            decision=Decision.REFUSED,
            reason=reason,
            evidence=evidence,
            run_id=actor.run_id,
        )
