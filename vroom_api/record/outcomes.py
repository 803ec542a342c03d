"""Outcomes: what really happened, reported by the applications that know.

An outcome belongs to a prediction, or to an entity and a period. Reporting it twice changes nothing.
Another value is refused unless it says that it is a correction; a correction is added, nothing is
overwritten, and the highest revision counts.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.tables import outcomes, predictions
from vroom_api.record.prediction import EntityId, new_id
from vroom_api.texts import MAX_NAME, NAME, NO_CONTROL_CHARACTERS, PREDICTION_ID

MAX_OUTCOMES = 1_000
_ATTEMPTS = 5
_CLOCKS = timedelta(minutes=1)  # that the clock of whoever reports may be ahead of ours
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME, pattern=NAME)]
Period = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=NO_CONTROL_CHARACTERS)]
Identifier = Annotated[str, msgspec.Meta(pattern=PREDICTION_ID)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class BadOutcome(ValueError):
    """An outcome that does not say what it belongs to, or that cannot have happened.

    Args:
        field: which part of it is wrong.
        allowed: what that may be.
    """

    def __init__(self, field: str, allowed: str) -> None:
        super().__init__(f"{field}: {allowed}")
        self.field = field
        self.allowed = allowed


class UnknownSubject(Exception):
    """An outcome of a prediction that is not in the record."""


class OtherValue(Exception):
    """An outcome that contradicts the recorded one and does not say that it corrects it."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The observed target of one prediction (`prediction_id`), or of one entity in one period."""

    value: Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
    forecast: Name | UnsetType = UNSET  # a prediction is of one: it need not be named again
    prediction_id: Identifier | UnsetType = UNSET
    entity_id: EntityId | UnsetType = UNSET
    period: Period | UnsetType = UNSET  # which one the number covers, in the caller's words, e.g. 2026-Q1
    observed_at: Moment | UnsetType = UNSET  # the time of receipt where it is not given
    correction: bool = False

    def __post_init__(self) -> None:
        given = [part is not UNSET for part in (self.prediction_id, self.entity_id, self.period)]
        if given not in ([True, False, False], [False, True, True]):
            absent = next(
                (name for name in ("entity_id", "period") if any(given) and getattr(self, name) is UNSET),
                "prediction_id",
            )
            raise BadOutcome(absent, "give either prediction_id, or entity_id and period")
        if self.forecast is UNSET and self.prediction_id is UNSET:
            raise BadOutcome("forecast", "missing; it is the name of the forecast that the value belongs to")
        if self.observed_at is not UNSET:
            try:
                moment = self.observed_at.astimezone(UTC)
            except OverflowError:
                raise BadOutcome("observed_at", "use a time within the years 1 to 9999 of UTC") from None
            if moment > datetime.now(UTC) + _CLOCKS:
                raise BadOutcome("observed_at", f"use a time that is past, not {moment:%Y-%m-%dT%H:%M:%SZ}")

    @property
    def subject(self) -> str:
        """What the outcome belongs to, as one text; the length keeps two entities from meeting in one."""
        if isinstance(self.entity_id, str):
            return f"entity {len(self.entity_id)} {self.entity_id} {self.period}"
        return f"prediction {self.prediction_id}"

    @property
    def key(self) -> tuple[str, str]:
        """Forecast and subject, of an outcome whose forecast is known."""
        return str(self.forecast), self.subject


class Received(msgspec.Struct, frozen=True):
    """What became of the outcomes: new ones, corrections of known ones, and those known already."""

    recorded: int
    corrected: int
    unchanged: int


def receive(
    engine: sa.Engine,
    reported: Sequence[Outcome],
    caller: str,
    check: Callable[[Sequence[Outcome]], None] = lambda _: None,
) -> Received:
    """Record outcomes, all or none.

    Args:
        check: raises where they may not be recorded; it is given them with the forecasts of their predictions.

    Raises:
        UnknownSubject: a prediction is not in the record, or is of another forecast.
        OtherValue: another value is recorded and this one is not a correction.
    """
    if wanted := {outcome.prediction_id for outcome in reported if outcome.prediction_id}:
        expand_blocks(engine, wanted)
    with engine.connect() as connection:
        complete = _with_forecasts(connection, reported)
    check(complete)
    for attempt in range(_ATTEMPTS):
        try:
            with engine.begin() as connection:
                return _receive(connection, complete, caller)
        except (
            sa.exc.IntegrityError
        ):  # another writer reported the same subject at the same moment: read again
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _receive(connection: sa.Connection, reported: Sequence[Outcome], caller: str) -> Received:
    recorded = _latest(connection, {outcome.key for outcome in reported})
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    corrected = 0
    for outcome in reported:
        key = outcome.key
        revision, value = recorded.get(key, (0, None))
        if value == outcome.value:
            continue
        if revision and not outcome.correction:
            raise OtherValue(
                f"{outcome.forecast}, {outcome.subject}: {value:g} is recorded and {outcome.value:g} was reported; "
                "send it with correction: true if the new value is right"
            )
        corrected += revision > 0
        recorded[key] = revision + 1, outcome.value
        rows.append(
            {
                "id": new_id(),
                "forecast": outcome.forecast,
                "subject": outcome.subject,
                "revision": revision + 1,
                "prediction_id": outcome.prediction_id or None,
                "entity_id": outcome.entity_id or None,
                "period": outcome.period or None,
                "value": outcome.value,
                "observed_at": (outcome.observed_at or now).astimezone(UTC),
                "received_at": now,
                "caller": caller,
            }
        )
    if rows:
        connection.execute(outcomes.insert(), rows)
    return Received(len(rows) - corrected, corrected, len(reported) - len(rows))


def _with_forecasts(connection: sa.Connection, reported: Sequence[Outcome]) -> list[Outcome]:
    wanted = {outcome.prediction_id for outcome in reported if outcome.prediction_id}
    if not wanted:
        return list(reported)
    query = sa.select(predictions.c.id, predictions.c.forecast).where(predictions.c.id.in_(wanted))
    found = {row.id: row.forecast for row in connection.execute(query)}
    complete = []
    for outcome in reported:
        if outcome.prediction_id:
            forecast = found.get(outcome.prediction_id)
            if forecast is None or outcome.forecast not in (UNSET, forecast):
                of = f" of {outcome.forecast}" if outcome.forecast else ""
                raise UnknownSubject(f"{outcome.prediction_id}: no prediction{of} in the record has this id")
            complete.append(msgspec.structs.replace(outcome, forecast=forecast))
        else:
            complete.append(outcome)
    return complete


def _latest(
    connection: sa.Connection, subjects: set[tuple[str, str]]
) -> dict[tuple[str, str], tuple[int, float]]:
    """The highest revision and its value of each subject that has one."""
    query = (
        sa.select(outcomes.c.forecast, outcomes.c.subject, outcomes.c.revision, outcomes.c.value)
        .where(sa.tuple_(outcomes.c.forecast, outcomes.c.subject).in_(list(subjects)))
        .order_by(outcomes.c.revision)
    )
    return {(row.forecast, row.subject): (row.revision, row.value) for row in connection.execute(query)}
