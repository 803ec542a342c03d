"""Commands over HTTP: what the training is to do, asked for here and done where Dagster runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import FromPath, PathParameter, QueryParameter, RawBody

from vroom_api.champion.forecasts import Forecasts
from vroom_api.contract import FORECAST_NAME, BundleError
from vroom_api.contract.commands import Command, Kind, State
from vroom_api.contract.heartbeat import latest_beat
from vroom_api.contract.pages import Pages
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import Database
from vroom_api.json_bodies import without_mark
from vroom_api.problems import Problem
from vroom_api.record.commands import (
    MAX_COMMANDS,
    Consumer,
    NeverPublished,
    UnknownCommand,
    ask,
    check_version,
    find_command,
    list_commands,
)
from vroom_api.record.prediction import caller_of
from vroom_api.routes.bodies import decoded, described
from vroom_api.routes.parameters import NO_SUCH_FORECAST, Forecast, known_forecast
from vroom_api.routes.problems import RECORD_HANDLERS, documented
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role
from vroom_api.texts import NO_CONTROL_CHARACTERS

RETRY_AFTER = 30  # seconds
Name = Annotated[str, PathParameter(description="of the forecast")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_COMMANDS, description="commands on a page")]
Before = Annotated[UUID | None, QueryParameter(description="`next_before` of the page before")]
InState = Annotated[
    State | None, QueryParameter(name="state", description="waiting, running, succeeded, failed or refused")
]


class FollowedCommand(Command, frozen=True, kw_only=True):
    """What somebody asked for, what became of it, and the page of its run in Dagster."""

    run_url: str | None  # null before it has a run, and where Dagster's address is not known


class Commands(msgspec.Struct, frozen=True):
    """A page of commands, newest first; `next_before` asks for the page after it, null at the end."""

    commands: list[FollowedCommand]
    next_before: str | None


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is to serve again, and why."""

    reason: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=500, pattern=NO_CONTROL_CHARACTERS, description="why, for the ledger"
        ),
    ]
    version: (
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1, description="null for the one published before")]
        | None
    ) = None
    generation: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=2**31 - 1,
                description="of `/model` as the caller saw it: of any other nothing is done",
            ),
        ]
        | None
    ) = None


@dataclass
class _RollbackOperation(Operation):
    """The body is decoded by us; this says what it is."""

    def __post_init__(self) -> None:
        self.request_body = described(Rollback, {"reason": "errors grew since the promotion"})


_FOLLOW = ResponseHeader(name="location", documentation_only=True, description="where to follow the command")
_UNAVAILABLE = documented("nothing consumes commands, or the database of the record does not answer")
_REFUSED = {400: documented("the body is not empty"), 404: NO_SUCH_FORECAST, 503: _UNAVAILABLE}
_ALREADY: dict[int, ResponseSpec] = {
    200: ResponseSpec(FollowedCommand, description="one is open already: it, and no other")
}
_PIPELINE: Any = {
    "status_code": 202,
    "guards": [needs(Role.OPERATOR)],
    "responses": {**_ALREADY, **_REFUSED},
    "sync_to_thread": True,
    "response_headers": [_FOLLOW],
}
_ROLLBACK: Any = {
    "status_code": 202,
    "guards": [needs(Role.OPERATOR)],
    "operation_class": _RollbackOperation,
    "responses": {
        400: documented("the body is not JSON"),
        404: documented("there is no forecast of that name, or the version was never published"),
        409: documented(
            "a roll-back or promotion is open, another version serves than the caller saw, or nothing serves; `current` "
            "says how it is"
        ),
        422: documented("a field is unknown, missing or not possible"),
        503: _UNAVAILABLE,
    },
    "sync_to_thread": True,
    "response_headers": [_FOLLOW],
}
_OF_MATERIALIZE = "The sources are checked and the features computed, as when a file has changed."
_OF_TRAIN = (
    "A challenger is trained on the sources as they are, competes with the champion, and serves if it wins the contest. What "
    "came of it is in the command's `message`."
)
_OF_ROLLBACK = (
    "It is checked that the version loads and scores. Of two at once, or a roll-back and a promotion, one is accepted. What is "
    "replaced is not promoted again by itself."
)


class CommandRequest:
    """What entering a command needs: the parts of the service, and the request."""

    def __init__(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        forecasts: NamedDependency[Forecasts],
        consumer: NamedDependency[Consumer],
        home: NamedDependency[Path],
        pages: NamedDependency[Pages],
    ) -> None:
        self.caller = caller_of(request.scope)
        self.database = database
        self.forecasts = forecasts
        self.home = home
        self.pages = pages
        self._consumer = consumer

    def pipeline(self, forecast: str, kind: Kind, body: bytes) -> Response[FollowedCommand]:
        """Ask for a pipeline; the one that is open, where there is one.

        Raises:
            Problem: 400 for a body, 404 for a forecast that is not declared, 503 where nobody would do it.
        """
        if without_mark(body).strip():
            raise Problem(400, "bad-request", "this takes no body: the forecast is in the path")
        # One that was never published is known by the heartbeat of its sensor.
        declared = FORECAST_NAME.fullmatch(forecast) and latest_beat(forecast, self.home) is not None
        name = forecast if declared else self.forecasts.named(forecast).forecast
        self._check_consumer()
        command, new = ask(self.database(), name, kind, self.caller, {})
        return self._answer(command, 202 if new else 200)

    def roll_back(self, forecast: str, body: bytes) -> Response[FollowedCommand]:
        """Ask for an earlier version.

        Raises:
            Problem: 404 for what was never published, 409 where something else was decided, 503 as above.
        """
        asked = decoded(body, Rollback)
        name = self.forecasts.named(forecast).forecast
        self._check_consumer()
        try:
            pointer = LocalStore(self.home).pointer(name)
            if pointer is None:
                raise self._conflict(name, "nothing-published", f"{name}: nothing was published yet")
            if asked.generation not in (None, pointer.generation):
                raise self._conflict(
                    name,
                    "pointer-moved",
                    f"{name}: generation {pointer.generation} serves, version {pointer.version}, and not generation "
                    f"{asked.generation}; read /model again and decide anew",
                )
            if asked.version == pointer.version and pointer.retired is None:
                raise self._conflict(
                    name, "serves-already", f"{name}: version {asked.version} serves already"
                )
            check_version(name, asked.version, pointer, self.home)
        except NeverPublished as error:
            raise Problem(404, "never-published", str(error)) from None
        except BundleError as error:
            raise self._conflict(name, "unreadable-pointer", f"{name}: the pointer is damaged") from error
        arguments = {
            "version": asked.version,
            "reason": asked.reason,
            "generation": pointer.generation,
        }
        return self._move_pointer(name, Kind.ROLLBACK, arguments)

    def promote(self, forecast: str, version: int, reason: str, generation: int) -> Response[FollowedCommand]:
        """Ask for the version that is tried.

        Args:
            generation: of the pointer that it was decided by.

        Raises:
            Problem: 409 where something else is open that moves the pointer, 503 as above.
        """
        self._check_consumer()
        arguments = {"version": version, "reason": reason, "generation": generation}
        return self._move_pointer(forecast, Kind.PROMOTE, arguments)

    def _move_pointer(
        self, forecast: str, kind: Kind, arguments: dict[str, Any]
    ) -> Response[FollowedCommand]:
        command, new = ask(self.database(), forecast, kind, self.caller, arguments)
        if not new:
            detail = f"{forecast}: a {command.kind.value} is open, command {command.id}; wait for its end and decide anew"
            raise self._conflict(forecast, "pointer-is-moving", detail, command)
        return self._answer(command, 202)

    def followed(self, command: Command) -> FollowedCommand:
        """A command as callers see it: one that waits says whether anybody will take it."""
        absence = self._consumer.absence() if command.state is State.WAITING else None
        parts = msgspec.structs.asdict(command)
        if absence is not None:
            parts["message"] = f"nobody takes it: {absence}"
        return FollowedCommand(**parts, run_url=self.pages.dagster_run(command.run_id or ""))

    def _answer(self, command: Command, status: int) -> Response[FollowedCommand]:
        headers = {"location": f"/commands/{command.id}"}
        return Response(self.followed(command), status_code=status, headers=headers)

    def _check_consumer(self) -> None:
        if (absence := self._consumer.absence()) is not None:
            raise Problem(
                503,
                "no-consumer",
                f"{absence}: start Dagster's daemon and code server (`make run` starts both), and see that the sensor "
                "`commands` is on",
                headers={"retry-after": str(RETRY_AFTER)},
            )

    def _conflict(self, forecast: str, cause: str, detail: str, command: Command | None = None) -> Problem:
        """A refusal that says what serves, and what is open."""
        current: dict[str, Any] = {"version": None, "generation": None, "command": None}
        try:
            pointer = LocalStore(self.home).pointer(forecast)
        except BundleError:
            pointer = None
        if pointer is not None:
            current |= {"version": pointer.version, "generation": pointer.generation}
        if command is not None:
            current["command"] = msgspec.to_builtins(self.followed(command))
        return Problem(409, cause, detail, extra={"current": current})


@post("/materialize", operation_id="materialize", summary="Compute the features anew", description=_OF_MATERIALIZE, **_PIPELINE)  # fmt: skip
def materialize(commands: NamedDependency[CommandRequest], body: RawBody) -> Response[FollowedCommand]:
    return commands.pipeline(commands.forecasts.flagship.forecast, Kind.MATERIALIZE, body)


@post("/train", operation_id="train", summary="Train, and serve what wins", description=_OF_TRAIN, **_PIPELINE)  # fmt: skip
def train(commands: NamedDependency[CommandRequest], body: RawBody) -> Response[FollowedCommand]:
    return commands.pipeline(commands.forecasts.flagship.forecast, Kind.TRAIN, body)


@post("/rollback", operation_id="rollback", summary="Let an earlier version serve again", description=_OF_ROLLBACK, **_ROLLBACK)  # fmt: skip
def rollback(commands: NamedDependency[CommandRequest], body: RawBody) -> Response[FollowedCommand]:
    return commands.roll_back(commands.forecasts.flagship.forecast, body)


@post("/forecasts/{name:str}/materialize", operation_id="materializeForecast", summary="Compute a forecast's features anew", description=_OF_MATERIALIZE, **_PIPELINE)  # fmt: skip
def materialize_one(
    name: Name, commands: NamedDependency[CommandRequest], body: RawBody
) -> Response[FollowedCommand]:
    return commands.pipeline(name, Kind.MATERIALIZE, body)


@post("/forecasts/{name:str}/train", operation_id="trainForecast", summary="Train a forecast, and serve what wins", description=_OF_TRAIN, **_PIPELINE)  # fmt: skip
def train_one(
    name: Name, commands: NamedDependency[CommandRequest], body: RawBody
) -> Response[FollowedCommand]:
    return commands.pipeline(name, Kind.TRAIN, body)


@post("/forecasts/{name:str}/rollback", operation_id="rollbackForecast", summary="Let an earlier version of a forecast serve again", description=_OF_ROLLBACK, **_ROLLBACK)  # fmt: skip
def rollback_one(
    name: Name, commands: NamedDependency[CommandRequest], body: RawBody
) -> Response[FollowedCommand]:
    return commands.roll_back(name, body)


@get(
    "/commands",
    operation_id="commands",
    summary="What was asked of the training, newest first",
    responses={404: NO_SUCH_FORECAST, 503: documented("the database of the record does not answer")},
    sync_to_thread=True,
)
def show_commands(
    commands: NamedDependency[CommandRequest],
    forecast: Forecast = None,
    in_state: InState = None,
    limit: Limit = 50,
    before: Before = None,
) -> Commands:
    with commands.database().connect() as connection:
        page = list_commands(
            connection,
            limit,
            forecast=forecast,
            state=in_state,
            before=str(before) if before else None,
        )
    if not page.commands:
        known_forecast(forecast, commands.forecasts, commands.database)
    return Commands([commands.followed(one) for one in page.commands], page.next_before)


@get(
    "/commands/{command:uuid}",
    operation_id="command",
    summary="What became of a command",
    responses={
        404: documented("there is no command of that id"),
        503: documented("the database of the record does not answer"),
    },
    sync_to_thread=True,
)
def show_command(command: FromPath[UUID], commands: NamedDependency[CommandRequest]) -> FollowedCommand:
    try:
        with commands.database().connect() as connection:
            return commands.followed(find_command(connection, str(command)))
    except UnknownCommand as error:
        raise Problem(404, "unknown-command", str(error)) from None


router = Router(
    "/",
    route_handlers=[
        materialize,
        train,
        rollback,
        materialize_one,
        train_one,
        rollback_one,
        show_commands,
        show_command,
    ],
    dependencies={"commands": Provide(CommandRequest, sync_to_thread=False)},
    exception_handlers=RECORD_HANDLERS,
    tags=["operation"],
)
