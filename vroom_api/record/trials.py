"""What is recorded of a trial: the verdict on it so far."""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from vroom_api.champion.descriptions import TriedVersion
from vroom_api.contract import Trial
from vroom_api.contract.checks import Status
from vroom_api.contract.trials import TRIAL_CHECK, TrialVerdict
from vroom_api.record.monitoring import MadeCheck, WantedChecks, list_checks

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
