"""What the training and the service both put into the log of events, each in one form.

Whatever happens once has a key, so that it is in the log once, whoever notices it first: the training announces what
it published, and the service what it finds published and not announced, because its database may have been away.
"""

import logging
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from vroom_api.contract.bundle import Pointer
from vroom_api.contract.environment import pages
from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.tables import UnusableDatabase, event_log, serving_database

log = logging.getLogger("vroom")

PROMOTED: Final = "model-promoted"
RETIRED: Final = "model-retired"
LOADED: Final = "model-loaded"
COMPLETED: Final = "pipeline-completed"
MAX_MISSED_AGE: Final = timedelta(
    days=1
)  # of a publication that the service announces in the training's stead


class RunState(StrEnum):
    """How a run came to its end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TERMINATED = "terminated"


def announce_pointer(
    connection: sa.Connection, forecast: str, pointer: Pointer, previous_version: int | None
) -> bool:
    """Announce what the pointer names since it moved; whether that is news."""
    retired = pointer.retired is not None
    data = {"version": pointer.version, "generation": pointer.generation}
    return append_event(
        connection,
        forecast=forecast,
        topic=Topic.MODEL,
        name=RETIRED if retired else PROMOTED,
        data=data | ({"reason": pointer.retired} if retired else {"previous_version": previous_version}),
        key=f"pointer:{forecast}:{pointer.generation}:{pointer.published_at}",
    )


def announce_moved_pointer(forecast: str, pointer: Pointer, previous_version: int | None) -> None:
    """As `announce_pointer`, for whoever moved it: a database that does not answer undoes no publication."""
    try:
        with serving_database() as engine, engine.begin() as connection:
            announce_pointer(connection, forecast, pointer, previous_version)
    except (sa.exc.SQLAlchemyError, UnusableDatabase, OSError) as error:
        log.warning(
            f"{forecast}: version {pointer.version} could not be announced, the service does so: {type(error).__name__}"
        )


def announce_loaded(
    connection: sa.Connection,
    forecast: str,
    pointer: Pointer,
    calibration: int | None,
    previous_version: int | None,
) -> None:
    """Announce that a service has loaded a version, once however many do, and the publication where nobody did.

    Args:
        calibration: the number of the revision that corrects it.
    """
    if _is_missed(connection, forecast, pointer):
        announce_pointer(connection, forecast, pointer, previous_version)
    append_event(
        connection,
        forecast=forecast,
        topic=Topic.MODEL,
        name=LOADED,
        data={"version": pointer.version, "generation": pointer.generation, "calibration": calibration},
        key=f"loaded:{forecast}:{pointer.generation}:{calibration or 0}:{pointer.published_at}",
    )


def announce_run(
    connection: sa.Connection, *, forecast: str, job: str, run_id: str, state: RunState, retried: bool = False
) -> None:
    """Announce that a run has come to its end.

    Args:
        retried: whether another run does it again.
    """
    link = pages().dagster_run(run_id)
    append_event(
        connection,
        forecast=forecast,
        topic=Topic.PIPELINES,
        name=COMPLETED,
        data={"job": job, "run_id": run_id, "state": state.value, "retried": retried, "link": link},
        key=f"run:{run_id}:{state.value}",
    )


def _is_missed(connection: sa.Connection, forecast: str, pointer: Pointer) -> bool:
    """Whether nobody announced a version that was published lately: a generation may also change without the version."""
    if datetime.now(UTC) - _time(pointer.published_at) > MAX_MISSED_AGE:
        return False
    latest = (
        sa.select(event_log.c.data)
        .where(event_log.c.forecast == forecast, event_log.c.name.in_([PROMOTED, RETIRED]))
        .order_by(event_log.c.id.desc())
        .limit(1)
    )
    data = connection.scalar(latest)
    return data is None or data["version"] != pointer.version


def _time(text: str) -> datetime:
    """A time of a pointer; long ago where it is not one."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
