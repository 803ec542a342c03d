"""Runs that failed or were terminated, in the ledger and as alerts."""

import dagster as dg
import sqlalchemy as sa

from vroom_api.contract import read_pointer
from vroom_api.contract.announcements import RunState, announce_run
from vroom_api.contract.events import Decision, RunCancelled, RunFailed
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets import tracking
from vroom_assets.alerts import FailedRun, raise_run_failed
from vroom_assets.forecast.names import FORECAST_TAG, REQUESTED_TAG
from vroom_assets.ledger import latest_evidence

MAX_CAUSE = 1_000  # characters of it in the reason of an entry; the evidence has all


def cause_of(event: dg.DagsterEvent) -> str:
    """Why a step failed, in the words of what failed first: a check's own sentence, else the innermost exception's."""
    data = event.step_failure_data
    error = data.error
    if error is None:
        return event.message or ""
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def same_failure(one: RunFailed, other: RunFailed) -> bool:
    return (one.requested, one.failures) == (other.requested, other.failures)


def forecast_of(run: dg.DagsterRun) -> str | None:
    """Which forecast a run belongs to: by its tag, or by the assets that were selected by hand."""
    if FORECAST_TAG in run.tags:
        return run.tags[FORECAST_TAG]
    keys = run.asset_selection or ()
    return next((key.path[0] for key in keys), None)


@dg.run_failure_sensor(
    name="report_failures",
    minimum_interval_seconds=9,  # every second pass of the daemon: each opens an instance, which is dear
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Enters every failed run in the ledger, raises an alert and ends the MLflow run that it left open.",
)
def report_failures(context: dg.RunFailureSensorContext) -> None:
    run = context.dagster_run
    forecast = forecast_of(run)
    if forecast is None:
        return
    failures = [cause_of(event) for event in context.get_step_failure_events()] or [
        context.failure_event.message or ""
    ]
    orphans = tracking.close_orphans(forecast, run.run_id, "its Dagster run died")
    again = "it is tried again; " if is_retried(run) else ""
    evidence = RunFailed(
        failures=failures[:5], mlflow_runs_closed=orphans, requested=run.tags.get(REQUESTED_TAG, "")
    )
    reason = f"{run.job_name} failed: {'; '.join(failures)[:MAX_CAUSE]}; {again}{what_serves(forecast)}"
    serves = read_pointer(forecast) is not None
    with serving_database() as engine:
        before = latest_evidence(engine, forecast, RunFailed)
        if not (before and evidence.requested and same_failure(before, evidence)):  # else it is made again
            enter_ledger(
                engine,
                forecast=forecast,
                actor="sensor report_failures",
                decision=Decision.FAILED,
                reason=reason,
                evidence=evidence,
                run_id=run.run_id,
            )
        # After the ledger, by which the forecast's sensor knows of a failure: a tick that does not is older.
        failed = FailedRun(forecast, run.job_name, run.run_id, evidence.failures, evidence.requested)
        raise_run_failed(engine, failed, reason, serves=serves)
        _announce(engine, run, forecast, RunState.FAILED)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    name="report_terminated_runs",
    minimum_interval_seconds=14,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Enters every run that somebody terminated in the ledger and ends the MLflow run that it left open.",
)
def report_terminated_runs(context: dg.RunStatusSensorContext) -> None:
    run = context.dagster_run
    forecast = forecast_of(run)
    if forecast is None:
        return
    orphans = tracking.close_orphans(forecast, run.run_id, "its Dagster run was terminated", "KILLED")
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=forecast,
            actor="sensor report_terminated_runs",
            decision=Decision.CANCELLED,
            reason=f"{run.job_name} was terminated; {what_serves(forecast)}",
            evidence=RunCancelled(mlflow_runs_closed=orphans),
            run_id=run.run_id,
        )
        _announce(engine, run, forecast, RunState.TERMINATED)


def _announce(engine: sa.Engine, run: dg.DagsterRun, forecast: str, state: RunState) -> None:
    with engine.begin() as connection:
        announce_run(
            connection,
            forecast=forecast,
            job=run.job_name,
            run_id=run.run_id,
            state=state,
            retried=is_retried(run),
        )


def is_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster runs one that failed once more."""
    return run.tags.get("dagster/will_retry") == "true"


def what_serves(forecast: str) -> str:
    pointer = read_pointer(forecast)
    return f"version {pointer.version} keeps serving" if pointer else "no champion serves yet"
