"""Delivery: each change of an alert to each receiver, once, in order, however long it takes.

Whoever raises or resolves an alert queues the change without a receiver. A service that has receivers adds a row for
each of its own, and sends what is due; of several services one claims a row, by an update that a second one finds
made. A receiver that takes nothing is tried again after pauses that double, up to an hour, for about a week. Where a
service dies between sending and noting it, its claim runs out and the notification is sent again: at least once, with
the same id.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from vroom_api.alerting.receivers import NotDelivered, Receiver, notification_of
from vroom_api.contract.alerts import QUEUED, Change
from vroom_api.contract.tables import alerts, notifications
from vroom_api.record.alerts import Alert, alert_of

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=1)
MAX_ATTEMPTS: Final = 180  # a week
CLAIM: Final = timedelta(minutes=2)  # far longer than an attempt may take
# Of an alert that is over: whoever becomes a receiver is not sent all that ever happened.
NEWS: Final = timedelta(hours=1)

Link = Callable[[str], str | None]  # from a forecast to the page of it


@dataclass(frozen=True)
class _Claimed:
    id: int
    change: Change
    attempts: int  # with this one
    alert: Alert


class Delivery:
    """Sends what is queued, in the thread of whoever calls.

    Args:
        receivers: to whom; without any nothing is addressed, and what is queued waits.
        link: to the page of a forecast.
    """

    def __init__(
        self,
        database: Callable[[], sa.Engine],
        receivers: Sequence[Receiver],
        link: Link = lambda _: None,
    ) -> None:
        self._database = database
        self._receivers = receivers
        self._link = link

    def deliver(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
        """Send all that is due; how much was taken.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, UnusableDatabase: the database does not answer.
        """
        if not self._receivers:
            return 0
        engine, taken = self._database(), 0
        for receiver in self._receivers:
            _address(engine, receiver.digest, now())
            while (claimed := _claim(engine, receiver.digest, now())) is not None:
                delivered = self._send(engine, receiver, claimed, now)
                taken += delivered
                if not delivered:
                    break  # one that takes nothing is not asked again at once
        return taken

    def _send(
        self, engine: sa.Engine, receiver: Receiver, claimed: _Claimed, now: Callable[[], datetime]
    ) -> bool:
        alert = claimed.alert
        try:
            receiver.send(notification_of(claimed.id, claimed.change, alert, self._link(alert.forecast)))
        except NotDelivered as error:
            pause = pause_after(claimed.attempts)
            _note(engine, claimed.id, error=str(error), next_attempt_at=now() + pause)
            log.warning(
                "alert %d (%s) was not taken by the %s receiver %s: %s; tried again in %.0f s",
                alert.id, claimed.change, receiver.kind, receiver.digest[:8], error, pause.total_seconds(),
            )  # fmt: skip
            return False
        _note(engine, claimed.id, error=None, delivered_at=now())
        log.info(
            "alert %d (%s) was sent to the %s receiver %s",
            alert.id, claimed.change, receiver.kind, receiver.digest[:8],
        )  # fmt: skip
        return True


def pause_after(attempts: int) -> timedelta:
    """How long after so many attempts the next one is due."""
    return min(FIRST_PAUSE * 2 ** min(attempts - 1, 20), LONGEST_PAUSE)


def _address(engine: sa.Engine, receiver: str, now: datetime) -> None:
    """A row for a receiver, of every change that it should hear of and has none of."""
    own = notifications.alias()
    same_alert = sa.select(own.c.id).where(
        own.c.alert_id == notifications.c.alert_id, own.c.receiver == receiver
    )
    missing = (
        sa.select(
            notifications.c.alert_id,
            notifications.c.change,
            sa.literal(receiver).label("receiver"),
            sa.literal(0).label("attempts"),
            notifications.c.next_attempt_at,
        )
        .join(alerts, alerts.c.id == notifications.c.alert_id)
        .where(
            notifications.c.receiver == QUEUED,
            ~same_alert.where(own.c.change == notifications.c.change).exists(),
            sa.or_(
                alerts.c.resolved_at.is_(None),
                notifications.c.next_attempt_at > now - NEWS,
                same_alert.exists(),
            ),
        )
        .order_by(notifications.c.id)
    )
    with engine.connect() as connection:
        if connection.execute(missing.limit(1)).first() is None:  # a read does not wait for who writes
            return
    names = ["alert_id", "change", "receiver", "attempts", "next_attempt_at"]
    try:
        with engine.begin() as connection:
            connection.execute(notifications.insert().from_select(names, missing))
    except sa.exc.IntegrityError:  # another service was first
        return


def _claim(engine: sa.Engine, receiver: str, now: datetime) -> _Claimed | None:
    """The oldest notification that is due to a receiver, for this service alone; None where there is none."""
    earlier = notifications.alias()
    waits = sa.select(earlier.c.id).where(
        earlier.c.alert_id == notifications.c.alert_id,
        earlier.c.receiver == receiver,
        earlier.c.delivered_at.is_(None),
        earlier.c.attempts < MAX_ATTEMPTS,
        earlier.c.id < notifications.c.id,
    )
    due = (
        notifications.c.receiver == receiver,
        notifications.c.delivered_at.is_(None),
        notifications.c.attempts < MAX_ATTEMPTS,
        sa.or_(
            notifications.c.next_attempt_at <= now,
            notifications.c.next_attempt_at > now + LONGEST_PAUSE,  # the clock was set back
        ),
    )
    oldest = sa.select(notifications).where(*due, ~waits.exists()).order_by(notifications.c.id).limit(1)
    with engine.connect() as connection:
        row = connection.execute(oldest).mappings().first()
    if row is None:
        return None
    attempts = row["attempts"] + 1
    claim = notifications.update().where(
        notifications.c.id == row["id"], notifications.c.attempts == row["attempts"], *due
    )
    with engine.begin() as connection:
        claimed = connection.execute(claim.values(attempts=attempts, next_attempt_at=now + CLAIM))
        if not claimed.rowcount:  # another service was first
            return None
        alert = connection.execute(sa.select(alerts).where(alerts.c.id == row["alert_id"])).mappings().one()
    return _Claimed(row["id"], Change(row["change"]), attempts, alert_of(alert))


def _note(engine: sa.Engine, identifier: int, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(notifications.update().where(notifications.c.id == identifier).values(values))
