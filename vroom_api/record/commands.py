"""Commands, as the service enters them and lists them."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract import Pointer
from vroom_api.contract.commands import LANES, Command, Kind, State, command_of, open_command
from vroom_api.contract.events import Commanded, Decision
from vroom_api.contract.heartbeat import latest_beat_of_consumer
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import append_entry, commands
from vroom_api.record.prediction import new_id

MAX_COMMANDS = 500  # of a page
NOT_TAKEN = "nobody has taken it yet"
_ATTEMPTS = 5  # to be first, or to find whoever was


class UnknownCommand(LookupError):
    """There is no command of that id."""


class NeverPublished(LookupError):
    """A version that nothing can go back to."""


class Consumer:
    """Whether anybody consumes commands: by the heartbeat of the sensor that does.

    Args:
        root: the home.
        seconds: without a heartbeat, after which nobody does.
    """

    def __init__(self, root: Path, seconds: float) -> None:
        self._root = root
        self._seconds = seconds

    def absence(self) -> str | None:
        """Since when nobody consumes commands, in a few words; None where somebody does."""
        beat = latest_beat_of_consumer(self._root)
        if beat is None:
            return "nothing has ever consumed commands here"
        silent = abs(time.time() - beat.checked_at)  # a clock that was set back leaves times to come
        if silent <= self._seconds:
            return None
        since = datetime.fromtimestamp(beat.checked_at, UTC).isoformat(timespec="seconds")
        return f"nothing has consumed commands since {since}"


class Page(msgspec.Struct, frozen=True):
    commands: list[Command]
    next_before: str | None  # asks for the page after it; None at the end


def ask(
    engine: sa.Engine, forecast: str, kind: Kind, caller: str, arguments: Mapping[str, Any]
) -> tuple[Command, bool]:
    """Enter a command, unless one of its lane is open; the one that is open, and whether it is this one.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer, or the race was lost too often.
    """
    lane = LANES[kind]
    for attempt in range(1, _ATTEMPTS + 1):
        with engine.connect() as connection:
            already = open_command(connection, forecast, lane)
        if already is not None:
            return already, False
        try:
            with engine.begin() as connection:
                return _enter(connection, forecast, kind, caller, arguments), True
        except sa.exc.IntegrityError:  # somebody else was first
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _enter(
    connection: sa.Connection, forecast: str, kind: Kind, caller: str, arguments: Mapping[str, Any]
) -> Command:
    identifier = new_id()
    row = {
        "id": identifier,
        "forecast": forecast,
        "kind": kind.value,
        "arguments": dict(arguments),
        "caller": caller,
        "requested_at": datetime.now(UTC),
        "state": State.WAITING.value,
        "message": NOT_TAKEN,
        "taken_at": None,
        "run_id": None,
        "finished_at": None,
    }
    connection.execute(commands.insert().values(**row, lane=LANES[kind]))
    why = f": {arguments['reason']}" if arguments.get("reason") else ""
    append_entry(
        connection,
        forecast=forecast,
        actor=caller,
        decision=Decision.REQUESTED,
        reason=f"{kind.value} was asked for{why}",
        evidence=Commanded(command=identifier, kind=kind.value, arguments=dict(arguments)),
    )
    return command_of(row)


def find_command(connection: sa.Connection, identifier: str) -> Command:
    """
    Raises:
        UnknownCommand: there is none of that id.
    """
    row = connection.execute(sa.select(commands).where(commands.c.id == identifier)).mappings().first()
    if row is None:
        raise UnknownCommand(f"there is no command {identifier}; GET /commands lists all")
    return command_of(row)


def list_commands(
    connection: sa.Connection,
    limit: int,
    *,
    forecast: str | None = None,
    state: State | None = None,
    before: str | None = None,
) -> Page:
    """A page of commands, newest first."""
    query = sa.select(commands).order_by(commands.c.id.desc()).limit(limit + 1)
    if forecast is not None:
        query = query.where(commands.c.forecast == forecast)
    if state is not None:
        query = query.where(commands.c.state == state.value)
    if before is not None:
        query = query.where(commands.c.id < before)
    found = [command_of(row) for row in connection.execute(query).mappings()]
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def check_version(forecast: str, version: int | None, pointer: Pointer, root: Path) -> None:
    """Refuse at once what is known to be no version to go back to; the roll-back itself proves the rest.

    Raises:
        NeverPublished: it never served, or none did before the one that serves.
        BundleError: a pointer cannot be read.
    """
    store = LocalStore(root)
    pointers = store.history(forecast)
    published = {former.version for former in pointers}
    if len(pointers) < pointer.generation:  # pointers of before they were kept are known by the ledger alone
        published |= set(store.versions(forecast))
    choices = ", ".join(map(str, sorted(published)))
    if version is not None and version not in published:
        raise NeverPublished(
            f"{forecast}: version {version} was never published; choose one of {choices}, or leave it out for the one before"
        )
    if version is None and len(published) < 2:
        raise NeverPublished(f"{forecast}: no version before {pointer.version} was published")
