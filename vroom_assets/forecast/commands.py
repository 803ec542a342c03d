"""What callers of the service asked for: one sensor of the whole code location asks Dagster for its runs.

Each command has one run, however often its tick dies: the run's key is the command's id, so a request that is
made again is dropped by Dagster. What becomes of it is read from Dagster's runs, by their tags; nothing is remembered
between two ticks. A tick without an open command asks the serving database one question.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa

from vroom_api.contract import BundleError, read_pointer
from vroom_api.contract.commands import Command, Kind, State, note, open_commands
from vroom_api.contract.events import Decision
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer
from vroom_api.contract.tables import ledger, serving_database
from vroom_assets.forecast.failures import cause_of, is_retried
from vroom_assets.forecast.names import CALLER_TAG, COMMAND_TAG, FORECAST_TAG, QUIET, REASON_TAG
from vroom_assets.forecast.sensors import DAEMON_LATE_SECONDS

EVERY_SECONDS: Final = 5.0
# The job of a kind, as its name ends. A training begins at the sources, so that it never learns from older ones.
STAGES: Final = {
    Kind.MATERIALIZE: "materialize",
    Kind.TRAIN: "retrain",
    Kind.ROLLBACK: "rollback",
    Kind.PROMOTE: "promote_version",
}
# The op that takes a command's arguments, as its name begins.
OPS: Final = {Kind.ROLLBACK: "roll_back", Kind.PROMOTE: "promote_version_of"}
_QUEUED = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED)


def command_sensor(jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The consumer of all commands.

    Args:
        jobs: those that commands may need, of all forecasts.
    """
    names = {job.name for job in jobs}

    @dg.sensor(
        name="commands",
        jobs=jobs,
        minimum_interval_seconds=int(EVERY_SECONDS - DAEMON_LATE_SECONDS),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Starts what callers of the service asked for (POST /materialize, /train, /rollback, …/trial/promote), each once, and writes down "
            "what becomes of it, for GET /commands."
        ),
    )
    def commands(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with serving_database() as engine:
            with engine.connect() as connection:
                still_open = open_commands(connection)
            requests = list(_consume(engine, lambda: context.instance, still_open, names))
        beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=EVERY_SECONDS))
        if requests:
            return dg.SensorResult(run_requests=requests)
        waits = ", ".join(f"{one.kind} of {one.forecast}" for one in still_open)
        return dg.SkipReason(f"under way: {waits}" if waits else "nobody asked for anything")

    return commands


def _consume(
    engine: sa.Engine,
    instance: Callable[[], dg.DagsterInstance],
    still_open: Sequence[Command],
    jobs: Collection[str],
) -> Iterator[dg.RunRequest]:
    """Note how each open command is; the requests of those that have no run yet."""
    if not still_open:
        return
    runs = _runs_of(instance(), still_open)
    for command in still_open:
        run = runs.get(command.id)
        if run is not None:
            state, message = _state_of(engine, instance(), command, run)
            _note(engine, command, state, message, run.run_id)
        elif command.run_id is not None:
            _note(engine, command, State.FAILED, "its run was deleted from Dagster", command.run_id)
        elif (job := job_of(command)) not in jobs:
            reason = (
                f"there is no job {job}: {command.forecast} is not declared, or its declaration is broken"
            )
            _note(engine, command, State.FAILED, reason)
        # One that was created and not launched, because its tick died between, is launched by the same request.
        if job_of(command) in jobs and (
            run.status is dg.DagsterRunStatus.NOT_STARTED if run else command.run_id is None
        ):
            yield request_of(command)


def job_of(command: Command) -> str:
    """The name of the job that does what a command asks for."""
    return f"{command.forecast}_{STAGES[command.kind]}"


def request_of(command: Command) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=command.id,
        job_name=job_of(command),
        run_config={**QUIET, **_config_of(command)},
        tags={
            FORECAST_TAG: command.forecast,
            COMMAND_TAG: command.id,
            CALLER_TAG: command.caller,
            REASON_TAG: f"{command.caller} asked for it",
        },
    )


def _config_of(command: Command) -> Mapping[str, Any]:
    """The configuration of a run: what of a command's arguments its job takes."""
    op = OPS.get(command.kind)
    if op is None:
        return {}
    given = command.arguments
    config = {
        "version": given["version"] or 0,
        "reason": given["reason"],
        "generation": given["generation"],
    }
    return {"ops": {f"{op}_{command.forecast}": {"config": config}}}


def _runs_of(instance: dg.DagsterInstance, commands: Sequence[Command]) -> dict[str, dg.DagsterRun]:
    """The latest run of each command: one that failed may have been tried again."""
    found: dict[str, dg.DagsterRun] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={COMMAND_TAG: [one.id for one in commands]})):
        found.setdefault(run.tags[COMMAND_TAG], run)  # the newest come first
    return found


def _state_of(
    engine: sa.Engine, instance: dg.DagsterInstance, command: Command, run: dg.DagsterRun
) -> tuple[State, str]:
    """How a command is, by its run, and one sentence about it."""
    if run.status in _QUEUED:
        return State.RUNNING, "its run waits for its turn"
    if not run.is_finished:
        return State.RUNNING, "its run is under way"
    if run.status is dg.DagsterRunStatus.CANCELED:
        return State.FAILED, "somebody terminated its run"
    decision, reason = _latest_entry(engine, command.forecast, run.run_id)
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return State.SUCCEEDED, reason or "done"
    if is_retried(run):
        return State.RUNNING, "its run failed and is tried again"
    if decision == Decision.REFUSED:
        return State.REFUSED, f"{reason}; {_present(command.forecast)}"
    return State.FAILED, _failure_of(instance, run.run_id)


def _latest_entry(engine: sa.Engine, forecast: str, run_id: str) -> tuple[str, str]:
    """What a run decided last: decision and reason; empty where the ledger has nothing of it but its failure."""
    query = (
        sa.select(ledger.c.decision, ledger.c.reason)
        .where(
            ledger.c.forecast == forecast,
            ledger.c.run_id == run_id,
            ledger.c.decision != Decision.FAILED.value,
        )
        .order_by(ledger.c.id.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return ("", "") if row is None else (row.decision, row.reason)


def _present(forecast: str) -> str:
    try:
        pointer = read_pointer(forecast)
    except BundleError as error:
        return f"the pointer cannot be read: {error}"
    if pointer is None:
        return "nothing serves"
    return f"version {pointer.version} serves, in generation {pointer.generation}"


def _failure_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Why a run failed: its steps' causes, else Dagster's own."""
    steps = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    causes = [cause_of(entry.dagster_event) for entry in steps if entry.dagster_event is not None]
    if not causes:
        ends = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        causes = [entry.dagster_event.message or "" for entry in ends if entry.dagster_event is not None]
    return "; ".join(filter(None, causes)) or "its run failed; its page in Dagster says more"


def _note(engine: sa.Engine, command: Command, state: State, message: str, run_id: str | None = None) -> None:
    with engine.begin() as connection:
        note(connection, command, state, message, run_id)
