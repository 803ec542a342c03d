"""Alerts about runs and declarations, which Dagster knows of and the service does not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vroom_api.contract.alerts import DECLARATION, REQUESTED, RUN_FAILED, Severity, raise_alert, resolve_alert
from vroom_api.contract.announcements import RunState, announce_run
from vroom_api.contract.environment import pages
from vroom_api.contract.tables import UnusableDatabase, serving_database

log = logging.getLogger("vroom")

BY_HAND = "__ASSET_JOB"  # as Dagster calls the run of assets that somebody selected
STAGES = ("materialize", "train", "promote", "retrain")


@dataclass(frozen=True)
class FailedRun:
    """A run that failed.

    requested: the version that the forecast's sensor or schedule wanted of it; "" where it was started by hand.
    """

    forecast: str
    job: str
    id: str
    failures: Sequence[str]
    requested: str = ""


def raise_run_failed(engine: sa.Engine, run: FailedRun, reason: str, *, serves: bool) -> bool:
    """Open the alert of a job whose run failed, or note that it failed again.

    It is over once a run of the job succeeds, or, of a requested one, once the sensor finds that nothing is left to do.

    Args:
        reason: what happened, and what serves now.
        serves: whether a champion does; without one it is critical.

    Returns:
        whether it is a new one.
    """
    link = pages().dagster_run(run.id)
    return raise_alert(
        engine,
        forecast=run.forecast,
        kind=RUN_FAILED,
        subject=run.job,
        severity=Severity.WARNING if serves else Severity.CRITICAL,
        message=f"{reason}. " + (f"Its page says more: {link}" if link else "Its page in Dagster says more"),
        evidence={"run_id": run.id, "failures": list(run.failures), REQUESTED: run.requested},
    )


def report_success(forecast: str, job: str, run_id: str) -> None:
    """A run of a job succeeded: its alert is over, and whoever listens hears of it.

    The whole retraining does what its stages do as well. A database that does not answer fails no run that is done:
    the next one that succeeds resolves the alert.
    """
    jobs = [job]
    if job == f"{forecast}_retrain":
        jobs = [BY_HAND, *(f"{forecast}_{stage}" for stage in STAGES)]
    try:
        with serving_database() as engine:
            for subject in jobs:
                resolve_alert(engine, forecast=forecast, kind=RUN_FAILED, subject=subject)
            with engine.begin() as connection:
                announce_run(connection, forecast=forecast, job=job, run_id=run_id, state=RunState.SUCCEEDED)
    except (sa.exc.SQLAlchemyError, UnusableDatabase, OSError) as error:
        log.warning(f"{forecast}: the end of {job} could not be reported: {type(error).__name__}")


def raise_broken_declaration(forecast: str, message: str) -> bool:
    """Open the alert of a declaration that cannot be loaded, or note that it is still broken.

    The service resolves it once a sensor checks the forecast's sources, which there is none of meanwhile.

    Returns:
        whether it is a new one.
    """
    with serving_database() as engine:
        return raise_alert(
            engine,
            forecast=forecast,
            kind=DECLARATION,
            severity=Severity.CRITICAL,
            message=f"The forecast is left out until its declaration is correct: {message}. Change its files, then "
            "press Reload definitions in Dagster",
            evidence={},
        )
