"""What is recorded of a trial: the verdict on it so far, and the command that promotes its version."""

from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from vroom_api.champion.descriptions import TriedVersion
from vroom_api.contract import Trial
from vroom_api.contract.checks import Status
from vroom_api.contract.tables import commands
from vroom_api.contract.trials import TRIAL_CHECK, TrialVerdict
from vroom_api.record.monitoring import MadeCheck, WantedChecks, list_checks
from vroom_api.record.prediction import new_id

VERDICTS = {Status.OK: TrialVerdict.BETTER, Status.ALARM: TrialVerdict.WORSE}


class Judgement(msgspec.Struct, frozen=True):
    """What the monitoring found of a trial, by the outcomes that were known then."""

    verdict: TrialVerdict
    sentence: str
    rows: int  # requests whose outcome is known, answered by both versions
    window_end: datetime
    numbers: dict[
        str, float | None
    ]  # mean losses; logarithms of the evidence for either verdict, and what is needed


class Traffic(msgspec.Struct, frozen=True):
    """Which versions answer, and what is known of the one that is tried."""

    forecast: str
    champion: int  # the version that serves
    generation: int  # of the pointer
    trial: TriedVersion | None  # null where none is tried
    loaded: bool  # whether this process has the version that is tried
    trouble: str | None  # why it has not, or not as it is kept now
    judgement: Judgement | None  # null before the monitoring has judged the trial


class Ordered(msgspec.Struct, frozen=True):
    """A command that waits for the training to take it."""

    id: str
    forecast: str
    kind: str
    state: str
    arguments: dict[str, str | int]


class CommandOpen(Exception):
    """Another command that moves the pointer is under way."""


def judgement(connection: sa.Connection, forecast: str, trial: Trial) -> Judgement | None:
    """The newest verdict on a trial; None before the first."""
    wanted = WantedChecks(forecast, name=TRIAL_CHECK, version=trial.version)
    newest = next(iter(list_checks(connection, wanted, 1).checks), None)
    if newest is None or newest.window_end <= datetime.fromisoformat(trial.since):
        return None  # it is of an earlier trial of the same version
    return _judgement(newest)


def _judgement(check: MadeCheck) -> Judgement:
    verdict = VERDICTS.get(check.status, TrialVerdict.OPEN)
    return Judgement(verdict, check.message, check.rows, check.window_end, check.values)


def order_promotion(
    engine: sa.Engine, forecast: str, version: int, reason: str, generation: int, caller: str
) -> Ordered:
    """Enter the command that lets the version of a trial serve, decided against a generation of the pointer.

    Raises:
        CommandOpen: another one of the same lane is open.
    """
    ordered = Ordered(
        new_id(),
        forecast,
        "promote",
        "waiting",
        {"version": version, "reason": reason, "generation": generation},
    )
    row = {
        "id": ordered.id,
        "forecast": forecast,
        "kind": ordered.kind,
        "lane": "pointer",
        "arguments": ordered.arguments,
        "caller": caller,
        "requested_at": datetime.now(UTC),
        "state": ordered.state,
        "message": "nobody has taken it yet",
    }
    try:
        with engine.begin() as connection:
            connection.execute(commands.insert().values(**row))
    except sa.exc.IntegrityError as error:
        with engine.connect() as connection:
            lane = commands.c.forecast == forecast, commands.c.lane == "pointer"
            query = sa.select(commands.c.id).where(*lane, commands.c.finished_at.is_(None))
            other = connection.scalar(query)
        raise CommandOpen(
            f"another command that moves the pointer of {forecast} is under way{f' ({other})' if other else ''}; "
            "ask again when it has come to its end"
        ) from error
    return ordered
