"""What is decided about a forecast: the events of the ledger, their decisions, and the evidence of each.

An entry's evidence is the struct of its event, written as JSON. What reads it again asks by `evidence_of`, so a
renamed field is an error of types and not a decision that is never found.
"""

from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import msgspec

from vroom_api.contract.decoding import convert


class Event(StrEnum):
    """What a decision is about."""

    RETRAIN = "retrain"  # whether to train, judge or publish again
    TRAINING = "training"
    CONTEST = "contest"
    CHAMPION = "champion"
    ROLLBACK = "rollback"
    RETIREMENT = "retirement"
    RUN = "run"
    WAREHOUSE = "warehouse"
    AUTOMATION = "automation"
    RENAMING = "renaming"
    CALIBRATION = "calibration"
    MONITORING = "monitoring"
    COMMAND = "command"  # what a caller asked the training for
    TRIAL = "trial"  # of a second version beside the champion


class Decision(StrEnum):
    """What was decided. Words of the past stay: the ledger keeps them."""

    # retrain
    WAITING = "waiting"
    CURRENT = "current"
    REQUESTED = "requested"
    REJUDGE = "rejudge"
    REPUBLISH = "republish"
    SKIPPED = "skipped"
    NEEDS_DATA = "needs data"
    # training
    REGISTERED = "registered"
    # contest
    PROMOTE = "promote"
    REFRESH = "refresh"
    HOLD = "hold"
    # champion and rollback
    PUBLISHED = "published"
    KEPT = "kept"
    RESTATED = "restated"
    CONFIRMED = "confirmed"  # what was provisional has passed all gates, or passes others than before
    RESTORED = "restored"
    REFUSED = "refused"
    RETIRED = "retired"
    # run
    FAILED = "failed"
    CANCELLED = "cancelled"
    # warehouse
    REBUILT = "rebuilt"
    # automation
    RESTARTED = "restarted"
    # renaming
    RENAMED = "renamed"
    # calibration
    RECALIBRATED = "recalibrated"
    REVERTED = "reverted"
    # monitoring
    HEALTHY = "healthy"
    DRIFTED = "drifted"
    DECAYED = "decayed"
    MISCALIBRATED = "miscalibrated"
    UNKNOWN = "unknown"  # there is not enough data for a verdict
    # trial
    STARTED = "started"
    CHANGED = "changed"  # its role or share
    STOPPED = "stopped"
    PROMOTED = "promoted"
    BETTER = "better"
    WORSE = "worse"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers and names behind a decision."""

    event: ClassVar[Event]


class SourcesSeen(Evidence, frozen=True):
    """What the sensor or the schedule saw when it decided whether something has to run."""

    event = Event.RETRAIN
    sources: dict[str, str]  # SHA-256 by source
    changed: list[str] = []
    generation: int | None = None
    cause: str = "change"  # what asked for it: vroom_assets.monitoring.policy.Cause
    numbers: dict[str, float] = {}


class Registered(Evidence, frozen=True):
    """A challenger."""

    event = Event.TRAINING
    version: int
    candidate: str
    data_version: str
    mlflow_run: str
    failed_gates: list[str]
    not_exportable: dict[str, str]
    trained_version: str = ""  # of data and declaration; entries of before it was kept have none


class ContestResult(Evidence, frozen=True):
    """A contest's outcome: what the champion asset acts on and the ledger keeps."""

    event = Event.CONTEST
    forecast: str
    challenger: int
    champion: int | None
    generation: int  # of the pointer it was decided against, 0 where there was none
    verdict: Decision
    reason: str
    failed_gates: list[str]
    comparison: dict[str, float]
    unseen: dict[str, float]  # the champion as it serves, on rows it has never seen
    data_version: str
    serving: dict[
        str, float
    ] = {}  # the champion as it serves, on all current rows; `comparison` has its recipe refitted
    judging_version: str = ""  # of the rules
    provisional: bool = (
        False  # a first champion that does not pass `failed_gates`, and is better than the baselines
    )

    def publishes(self, generation: int) -> bool:
        """Whether the challenger is to serve, while the pointer has this generation."""
        return self.verdict is not Decision.HOLD and self.generation == generation


class Published(Evidence, frozen=True):
    """What serves after a contest."""

    event = Event.CHAMPION
    version: int
    generation: int
    verdict: Decision
    serving_version: str = ""  # of the declaration's texts
    provisional: tuple[str, ...] = ()  # the gates that it has not passed


class NotPublished(Evidence, frozen=True):
    """What was to serve and was refused."""

    event = Event.CHAMPION
    version: int
    generation: int  # that it was decided against


class RolledBack(Evidence, frozen=True, rename={"before": "from", "after": "to"}):
    """An earlier version serves again; the one before is suspended."""

    event = Event.ROLLBACK
    before: int
    after: int
    generation: int


class RolledBackByItself(RolledBack, frozen=True, rename={"before": "from", "after": "to"}):
    """A new champion was worse than the version before it, on the same requests.

    Losses are means, in the measure that contests are decided by. The evidence is the logarithm of what a bet on "worse" has won.
    """

    rows: int  # requests whose outcome is known
    loss: float
    predecessor_loss: float
    tolerated: float  # difference of the losses
    log_evidence: float
    log_evidence_needed: float


class RollbackRefused(Evidence, frozen=True):
    event = Event.ROLLBACK
    asked: int  # 0 for the version before


class Retirement(Evidence, frozen=True):
    """No version serves any more."""

    event = Event.RETIREMENT
    version: int  # that served last
    generation: int


class RunFailed(Evidence, frozen=True):
    event = Event.RUN
    failures: list[str]
    mlflow_runs_closed: list[str]
    requested: str = ""  # version that the run was to train; "" where it was started by hand


class RunCancelled(Evidence, frozen=True):
    """Somebody terminated a run."""

    event = Event.RUN
    mlflow_runs_closed: list[str]


class Rebuilt(Evidence, frozen=True):
    """A damaged warehouse was set aside, and is made again from the CSVs."""

    event = Event.WAREHOUSE
    file: str
    aside: str  # what it is called now
    error: str


class Renamed(Evidence, frozen=True):
    """A forecast has another name, and under it all that it had."""

    event = Event.RENAMING
    before: str
    after: str
    began: str  # of the command, also where it was interrupted and run again


class Recalibrated(Evidence, frozen=True):
    """The revision that corrects intervals or probabilities is another one, or none any more."""

    event = Event.CALIBRATION
    version: int  # of the champion
    before: int | None  # the revision that was in force
    after: int | None
    lower: float = 1.0
    upper: float = 1.0
    intercept: float = 0.0
    slope: float = 1.0
    outcomes: int = 0  # behind the correction
    numbers: dict[str, float] = {}


class ReversalRefused(Evidence, frozen=True):
    event = Event.CALIBRATION
    asked: int | None  # the revision to go back to; None for none


class Evaluated(Evidence, frozen=True):
    """What the monitoring found of the version that serves, after a window had closed."""

    event = Event.MONITORING
    version: int
    verdict: str  # vroom_assets.monitoring.evaluation.Verdict
    harmful: bool  # whether a training is called for
    damage: float | None
    window_end: str  # ISO 8601
    numbers: dict[str, float] = {}


class Commanded(Evidence, frozen=True):
    """Somebody asked for something over HTTP; its run is looked up by the id of the command."""

    event = Event.COMMAND
    command: str
    kind: str
    arguments: dict[str, Any]


class TrialChanged(Evidence, frozen=True):
    """A second version is tried, tried otherwise, or not any more."""

    event = Event.TRIAL
    version: int  # that is tried
    champion: int  # that serves from now on
    generation: int  # of the pointer after it
    role: str  # vroom_api.contract.TrialRole
    share: float
    since: str  # ISO 8601, when the trial began


class TrialJudged(Evidence, frozen=True):
    """What the outcomes say of a second version beside the champion, on the same requests.

    Losses are means, in the measure that contests are decided by. Evidence is the logarithm of what a bet has won.
    """

    event = Event.TRIAL
    version: int
    champion: int
    since: str
    verdict: str  # vroom_assets.monitoring.trial.TrialState
    numbers: dict[str, float] = {}


class AutomationRestarted(Evidence, frozen=True):
    """No sensor ticked, and the supervisor started again what stood still."""

    event = Event.AUTOMATION


E = TypeVar("E", bound=Evidence)


def evidence_of(kind: type[E], content: dict[str, Any]) -> E:
    """The evidence of an entry that has this kind of it.

    Raises:
        msgspec.ValidationError: it is of another kind.
    """
    return convert(content, kind)
