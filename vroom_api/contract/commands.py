"""Commands: what callers ask the training for, over a table, so that the service needs no Dagster.

The service enters a command; the one sensor of the code location that consumes them asks Dagster for its run, and
writes down what becomes of it. Of each lane of a forecast one command is open at a time: pipelines share none, and
what moves the pointer shares one.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from vroom_api.contract.decoding import convert
from vroom_api.contract.tables import commands


class Kind(StrEnum):
    """What is asked for."""

    MATERIALIZE = "materialize"  # check the sources and compute the features
    TRAIN = "train"  # everything, from the sources to the champion
    ROLLBACK = "rollback"  # an earlier version serves again
    PROMOTE = "promote"  # the version that is tried out serves


class State(StrEnum):
    WAITING = "waiting"  # nobody has taken it yet
    RUNNING = "running"  # it has a run
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # its run failed or was terminated
    REFUSED = "refused"  # something else had been decided meanwhile, and nothing was changed


POINTER_LANE: Final = "pointer"
LANES: Final = {
    Kind.MATERIALIZE: "materialize",
    Kind.TRAIN: "train",
    Kind.ROLLBACK: POINTER_LANE,
    Kind.PROMOTE: POINTER_LANE,
}
MAX_MESSAGE: Final = 2_000  # characters


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for, and what became of it."""

    id: str  # UUIDv7: ids ascend with time
    forecast: str
    kind: Kind
    arguments: dict[str, Any]
    caller: str
    requested_at: datetime
    state: State
    message: str  # one sentence for a person
    taken_at: datetime | None  # when it was first seen to have a run
    run_id: str | None  # of Dagster
    finished_at: datetime | None  # null while it is open


def open_commands(connection: sa.Connection) -> list[Command]:
    """The commands that have not come to their end, oldest first."""
    query = sa.select(commands).where(commands.c.finished_at.is_(None)).order_by(commands.c.id)
    return [command_of(row) for row in connection.execute(query).mappings()]


def open_command(connection: sa.Connection, forecast: str, lane: str) -> Command | None:
    """The open command of a lane, if there is one."""
    query = sa.select(commands).where(
        commands.c.forecast == forecast, commands.c.lane == lane, commands.c.finished_at.is_(None)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else command_of(row)


def note(
    connection: sa.Connection, command: Command, state: State, message: str, run_id: str | None = None
) -> None:
    """Write down how an open command is; one that has come to its end stays as it is.

    Args:
        message: one sentence for a person; cut to 2,000 characters.
    """
    if (state, message, run_id) == (command.state, command.message, command.run_id):
        return
    now = datetime.now(UTC)
    values: dict[str, Any] = {"state": state.value, "message": message[:MAX_MESSAGE]}
    if run_id is not None:
        values |= {"run_id": run_id, "taken_at": sa.func.coalesce(commands.c.taken_at, now)}
    if state not in (State.WAITING, State.RUNNING):
        values["finished_at"] = now
    still_open = commands.c.id == command.id, commands.c.finished_at.is_(None)
    connection.execute(commands.update().where(*still_open).values(**values))


def command_of(row: Any) -> Command:
    """A command of a row of its table."""
    values = {name: row[name] for name in Command.__struct_fields__}
    # SQLite forgets the zone; what is written is UTC.
    times = {
        name: value if value.tzinfo else value.replace(tzinfo=UTC)
        for name, value in values.items()
        if isinstance(value, datetime)
    }
    return convert(values | times, Command)
