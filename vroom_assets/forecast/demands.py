"""What besides a change may ask for a training: read from the ledger, the champion and the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa

from vroom_api.contract import read_pointer
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.benchmark import is_no_benchmark
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.events import Decision as Entry
from vroom_api.contract.events import Evaluated, Event, SourcesSeen, evidence_of
from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import ledger, outcomes, predictions, serving_database
from vroom_assets.forecast.versions import champion
from vroom_assets.ledger import latest_evidence
from vroom_assets.monitoring.policy import DAY, Answer, Cause, Change, Decision, Facts
from vroom_assets.spec import ForecastSpec

ALERT = "needs_data"
LONGEST_HORIZON_DAYS = 366.0  # of an input that says how many days are left and has no maximum
MOST_PREDICTIONS = 10_000  # newest ones that are asked when they fall due


@dataclass(frozen=True)
class Demands:
    """What `policy.Facts` holds beside a change; its fields have the same meaning there."""

    version: int | None = None
    finding: Evaluated | None = None
    model_age_days: float | None = None
    due_in_days: float | None = None
    asked_at: tuple[float, ...] = ()

    def facts(self, at: float, change: Change) -> Facts:
        return Facts(
            at,
            change,
            version=self.version,
            finding=self.finding,
            model_age_days=self.model_age_days,
            due_in_days=self.due_in_days,
            asked_at=self.asked_at,
        )


def gather(spec: ForecastSpec, at: float) -> Demands:
    """What is known now. What no rule of the declaration asks for is not read.

    Args:
        at: the time, in seconds since the epoch.
    """
    rules = spec.retraining
    pointer = read_pointer(spec.name)
    if pointer is None or pointer.retired is not None:
        return Demands()
    aged = rules.model_age_days is not None or rules.before_due_days is not None
    manifest = champion(spec.name) if aged else None
    with serving_database() as engine:
        finding = latest_evidence(engine, spec.name, Evaluated)
        before = rules.before_due_days
        return Demands(
            version=pointer.version,
            finding=finding,
            model_age_days=None if manifest is None else (at - _seconds(manifest.trained_at)) / DAY,
            due_in_days=None if before is None else next_due(engine, spec, at, before),
            asked_at=asked_at(engine, spec, at),
        )


def gather_or_none(spec: ForecastSpec, at: float) -> Demands | None:
    """The same; None where the serving database does not answer: changes are seen without it."""
    try:
        return gather(spec, at)
    except sa.exc.OperationalError:
        return None


def asked_at(engine: sa.Engine, spec: ForecastSpec, at: float) -> tuple[float, ...]:
    """When anything but a change asked for a training, as far back as budget and cool-down reach; seconds since the epoch.

    A clock that was set back leaves entries of times to come; they count like those of the past.
    """
    reach = timedelta(seconds=max(DAY, spec.retraining.cool_down_minutes * 60))
    now = datetime.fromtimestamp(at, UTC)
    found = sa.select(ledger.c.time, ledger.c.evidence).where(
        ledger.c.forecast == spec.name,
        ledger.c.event == Event.RETRAIN.value,
        ledger.c.decision == Entry.REQUESTED.value,
        ledger.c.time.between(now - reach, now + reach),
    )
    times = []
    with engine.connect() as connection:
        for time, content in connection.execute(found):
            try:
                cause = evidence_of(SourcesSeen, content).cause
            except msgspec.ValidationError:
                continue
            if cause != Cause.CHANGE:
                times.append(time.replace(tzinfo=time.tzinfo or UTC).timestamp())
    return tuple(times)


def next_due(engine: sa.Engine, spec: ForecastSpec, at: float, within_days: float) -> float | None:
    """Days until the next prediction without an outcome falls due; None where none does within so many days."""
    target = spec.target
    expand_blocks(engine)
    if target.due_input is not None:
        return _next_due_by_input(engine, spec, target.due_input, at, within_days)
    horizon = target.due_after_days
    if horizon is None:
        return None
    first = at - horizon * DAY
    earliest = (
        sa.select(predictions.c.time)
        .where(*_open(spec, first, first + within_days * DAY))
        .order_by(predictions.c.id)
        .limit(1)
    )
    with engine.connect() as connection:
        time = connection.scalar(earliest)
    return None if time is None else (_epoch(time) - first) / DAY


def _next_due_by_input(
    engine: sa.Engine, spec: ForecastSpec, name: str, at: float, within_days: float
) -> float | None:
    longest = spec.input_columns[name].maximum if name in spec.input_columns else None
    reach = (LONGEST_HORIZON_DAYS if longest is None else float(longest)) * DAY
    newest = (
        sa.select(predictions.c.time, predictions.c.inputs[name].as_float())
        .where(*_open(spec, at - reach, at))
        .order_by(predictions.c.id.desc())
        .limit(MOST_PREDICTIONS)
    )
    with engine.connect() as connection:
        left = [
            (_epoch(time) - at) / DAY + days for time, days in connection.execute(newest) if days is not None
        ]
    return min((days for days in left if 0 <= days <= within_days), default=None)


def _open(spec: ForecastSpec, first: float, last: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Predictions between two times that have no outcome of their own."""
    answered = sa.exists().where(outcomes.c.prediction_id == predictions.c.id)
    return (
        predictions.c.id.between(_first_id(first), _first_id(last + 1)),
        predictions.c.forecast == spec.name,
        is_no_benchmark(),
        ~answered,
    )


def _first_id(at: float) -> str:
    return first_id(datetime.fromtimestamp(max(at, 0.0), UTC))


def _epoch(time: datetime) -> float:
    return time.replace(tzinfo=time.tzinfo or UTC).timestamp()


def _seconds(moment: str) -> float:
    return _epoch(datetime.fromisoformat(moment))


def announce(spec: ForecastSpec, decision: Decision, engine: sa.Engine) -> None:
    """Open the alert that new data are needed, or close it where they no longer are."""
    demand = decision.demand
    if decision.answer is Answer.NEEDS_DATA and demand is not None and demand.is_harm:
        raise_alert(
            engine,
            forecast=spec.name,
            kind=ALERT,
            severity=Severity.WARNING,
            message=f"{decision.reason}. Bring new rows to {_files(spec)}, or change the declaration.",
            evidence={"cause": demand.cause.value, **demand.numbers},
        )
    else:
        resolve_alert(engine, forecast=spec.name, kind=ALERT)


def _files(spec: ForecastSpec) -> str:
    return ", ".join(source.path for source in spec.sources.values())
