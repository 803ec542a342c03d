"""/forecasts/{name}/trial: a second version beside the champion, set up, judged, stopped and promoted."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import Operation
from litestar.params import PathParameter, RawBody

from vroom_api.champion.descriptions import TriedVersion
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion, Unlike, load_second
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import BundleError, Pointer, Trial, TrialRole
from vroom_api.contract.events import Decision
from vroom_api.contract.store import LocalStore, NothingServes, PointerMoved
from vroom_api.contract.tables import Database
from vroom_api.contract.trials import change_traffic
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import caller_of
from vroom_api.record.recorder import Recorder
from vroom_api.record.trials import Traffic, judgement
from vroom_api.routes.bodies import decoded, described
from vroom_api.routes.commands import CommandRequest, FollowedCommand
from vroom_api.routes.parameters import NO_SUCH_FORECAST
from vroom_api.routes.predictions import serving
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented
from vroom_api.routes.routers import PathRouter
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role
from vroom_api.texts import NO_CONTROL_CHARACTERS

Name = Annotated[str, PathParameter(description="of the forecast")]
_ID = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Generation = Annotated[
    int | None,
    msgspec.Meta(
        description="of the pointer that this was decided by; where it has another one by now nothing changes"
    ),
]
_Reason = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=500, pattern=NO_CONTROL_CHARACTERS, description="why, for the ledger"
    ),
]


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version to try, and how."""

    version: Annotated[_ID, msgspec.Meta(description="a version whose bundle is kept")]
    role: Annotated[
        TrialRole,
        msgspec.Meta(description="shadow: it scores copies, unseen; split: it answers a share"),
    ]
    share: (
        Annotated[
            float,
            msgspec.Meta(
                gt=0,
                le=1,
                description="of the requests, by entity: that it answers, below 1; in shadow, that are copied",
            ),
        ]
        | None
    ) = None
    generation: _Generation = None


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a trial ends."""

    reason: _Reason
    generation: _Generation = None


@dataclass
class _TakesAttempt(Operation):
    """The body is decoded by us; this says what it is."""

    def __post_init__(self) -> None:
        self.request_body = described(Attempt, {"version": 1, "role": "shadow"})


@dataclass
class _TakesEnding(Operation):
    def __post_init__(self) -> None:
        self.request_body = described(Ending, {"reason": "it was tried for a week"})


_CHANGES: Any = {
    "status_code": 200,
    "guards": [needs(Role.OPERATOR)],
    "responses": {
        400: documented("the body is not JSON"),
        404: NO_SUCH_FORECAST,
        409: documented("the state does not allow it: `detail` says what serves and what is tried now"),
        410: documented("the forecast was retired"),
        422: documented("a field is missing, unknown or outside its range"),
        503: documented("no champion serves yet, or the ledger cannot be written"),
    },
}


@get(
    "/forecasts/{name:str}/trial",
    operation_id="trial",
    summary="The version that is tried beside the champion, and the verdict so far",
    responses={404: NO_SUCH_FORECAST, 409: documented("the pointer is damaged"), 503: RECORD_UNAVAILABLE},
    sync_to_thread=True,
)
def show_trial(
    name: Name,
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    home: NamedDependency[Path],
) -> Traffic:
    return _traffic(forecasts.named(name), database, home)


@post(
    "/forecasts/{name:str}/trial",
    operation_id="tryVersion",
    summary="Try a second version beside the champion, or change how it is tried",
    description=(
        'E.g. `{"version": 8, "role": "shadow"}` or `{"version": 8, "role": "split", "share": 0.1}`. It has to take and '
        "answer what the champion does. Another role or share leaves each entity with its version, as far as the share "
        "allows, and the comparison of the two goes on."
    ),
    operation_class=_TakesAttempt,
    **_CHANGES,
)
async def begin_trial(
    name: Name,
    request: Request[Any, Any, Any],
    body: RawBody,
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    recorder: NamedDependency[Recorder | None],
    home: NamedDependency[Path],
) -> Traffic:
    asked = decoded(body, Attempt)
    share = _share(asked, recorder)
    watch, caller = forecasts.named(name), caller_of(request.scope)
    pointer = await asyncio.to_thread(_pointer, name, home, asked.generation)
    champion = serving(watch)
    if (champion.version, champion.generation) != (pointer.version, pointer.generation):
        await watch.reload()
        champion = serving(watch)
    await asyncio.to_thread(_begin, champion, pointer, asked, share, caller, database, home)
    await watch.reload()
    return await asyncio.to_thread(_traffic, watch, database, home)


@post(
    "/forecasts/{name:str}/trial/stop",
    operation_id="stopTrial",
    summary="End the trial; the champion answers everything again",
    operation_class=_TakesEnding,
    **_CHANGES,
)
async def stop_trial(
    name: Name,
    request: Request[Any, Any, Any],
    body: RawBody,
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
    home: NamedDependency[Path],
) -> Traffic:
    asked = decoded(body, Ending)
    watch, caller = forecasts.named(name), caller_of(request.scope)

    def stop() -> None:
        pointer, trial = _tried(name, home, asked.generation)
        reason = f"version {trial.version} is not tried any more: {asked.reason}"
        _change(name, home, database, None, pointer, decision=Decision.STOPPED, reason=reason, actor=caller)

    await asyncio.to_thread(stop)
    await watch.reload()
    return await asyncio.to_thread(_traffic, watch, database, home)


@post(
    "/forecasts/{name:str}/trial/promote",
    operation_id="promoteTrial",
    summary="Let the version of the trial serve",
    description=(
        "Enters a command, which the training carries out: it proves the version once more, moves the pointer, and with "
        "it MLflow's alias. Where the pointer moves before that, nothing changes."
    ),
    operation_class=_TakesEnding,
    **_CHANGES | {"status_code": 202},
)
async def promote_trial(
    name: Name,
    body: RawBody,
    commands: NamedDependency[CommandRequest],
    home: NamedDependency[Path],
) -> Response[FollowedCommand]:
    asked = decoded(body, Ending)
    commands.forecasts.named(name)

    def order() -> Response[FollowedCommand]:
        pointer, trial = _tried(name, home, asked.generation)
        return commands.promote(name, trial.version, asked.reason, pointer.generation)

    return await asyncio.to_thread(order)


def _begin(
    champion: Champion,
    pointer: Pointer,
    asked: Attempt,
    share: float,
    caller: str,
    database: Database,
    home: Path,
) -> None:
    """Prove the second version and move the pointer.

    Raises:
        Problem: 404 for a version that is not kept, 409 where it cannot stand in or the state does not allow it.
    """
    name = champion.manifest.forecast
    if (champion.version, champion.generation) != (pointer.version, pointer.generation):
        raise Problem(409, "not-loaded", f"the version that serves cannot be loaded here; {_state(pointer)}")
    if asked.version == pointer.version:
        raise Problem(409, "serves-already", f"version {asked.version} serves; {_state(pointer)}")
    before = pointer.trial
    if before is not None and before.version != asked.version:
        raise Problem(409, "trial-runs", f"another version is tried; stop that first; {_state(pointer)}")
    trial = Trial(
        version=asked.version,
        manifest_sha256=_digest(name, asked.version, home),
        role=asked.role,
        share=share,
        since=before.since if before else datetime.now(UTC).isoformat(timespec="milliseconds"),
        by=caller,
    )
    try:
        load_second(champion, pointer, trial, home)
    except Unlike as error:
        raise Problem(
            409, "other-contract", f"version {asked.version}: {error}; nothing has changed"
        ) from None
    except BundleError as error:
        detail = f"{_without(home, error)}; nothing has changed"
        raise Problem(409, "damaged-version", detail) from None
    does = "answers" if trial.role is TrialRole.SPLIT else "gets a copy of"
    reason = (
        f"version {trial.version} {does} {100 * share:.3g} % of the requests beside version {pointer.version}"
    )
    decision = Decision.CHANGED if before else Decision.STARTED
    _change(name, home, database, trial, pointer, decision=decision, reason=reason, actor=caller)


def _change(
    name: str, home: Path, database: Database, trial: Trial | None, pointer: Pointer, **entry: Any
) -> None:
    store = LocalStore(home)
    try:
        change_traffic(database(), store, name, trial, pointer, **entry)
    except (PointerMoved, NothingServes):
        raise _moved(_pointer(name, home)) from None


def _traffic(watch: ChampionWatch, database: Database, home: Path) -> Traffic:
    pointer = _pointer(watch.forecast, home)
    trial, champion = pointer.trial, watch.champion
    tried = champion.tried if champion else None
    found = None
    if trial is not None:
        with database().connect() as connection:
            found = judgement(connection, watch.forecast, trial)
    loaded = tried is not None and trial is not None and tried.trial == trial
    return Traffic(
        forecast=watch.forecast,
        champion=pointer.version,
        generation=pointer.generation,
        trial=_described(trial) if trial else None,
        loaded=loaded,
        trouble=(watch.untried or watch.failure) if trial else None,
        judgement=found,
    )


def _described(trial: Trial) -> TriedVersion:
    return TriedVersion(**{name: getattr(trial, name) for name in TriedVersion.__struct_fields__})


def _pointer(name: str, home: Path, generation: int | None = None) -> Pointer:
    """The pointer of a forecast that was published.

    Args:
        generation: that it has to have; None where any will do.

    Raises:
        Problem: 409 where it is damaged or has another generation, 410 where the forecast was retired, 503 where it was
            never published.
    """
    try:
        pointer = LocalStore(home).pointer(name)
    except BundleError as error:
        raise Problem(409, "damaged-pointer", _without(home, error)) from None
    if pointer is None:
        raise Problem(503, "no-champion", f"no champion of {name} serves yet", headers={"retry-after": "10"})
    if pointer.retired is not None:
        raise Problem(410, "retired", f"{name} was retired: {pointer.retired}")
    if generation is not None and pointer.generation != generation:
        raise _moved(pointer)
    return pointer


def _tried(name: str, home: Path, generation: int | None) -> tuple[Pointer, Trial]:
    """The pointer and its trial.

    Raises:
        Problem: as `_pointer`; 409 where none runs.
    """
    pointer = _pointer(name, home, generation)
    if pointer.trial is None:
        raise Problem(409, "no-trial", f"no version is tried; {_state(pointer)}")
    return pointer, pointer.trial


def _moved(pointer: Pointer) -> Problem:
    return Problem(409, "pointer-moved", f"something else was decided meanwhile; {_state(pointer)}")


def _state(pointer: Pointer) -> str:
    """What a pointer says now, as part of a refusal."""
    trial = pointer.trial
    beside = (
        f"version {trial.version} is tried beside it ({trial.role.value}, {100 * trial.share:.3g} %)"
        if trial
        else ""
    )
    now = f"now version {pointer.version} serves, generation {pointer.generation}"
    return f"{now}, and {beside or 'none is tried beside it'}"


def _digest(name: str, version: int, home: Path) -> str:
    store = LocalStore(home)
    try:
        return store.digest(name, version)
    except BundleError as error:
        kept = store.versions(name)
        if version in kept:
            raise Problem(409, "damaged-version", f"{_without(home, error)}; nothing has changed") from None
        raise Problem(
            404,
            "no-such-version",
            f"version {version} of {name} is not kept here; those that are: {', '.join(map(str, kept)) or 'none'}",
        ) from None


def _without(home: Path, error: Exception) -> str:
    """A reason for callers, who need not know where the home is."""
    return str(error).replace(f"{home}/", "")


def _share(asked: Attempt, recorder: Recorder | None) -> float:
    """The share of a trial.

    Raises:
        Problem: 422 where a split has none, or all; 409 where nothing is recorded that a shadow could be compared by.
    """
    if asked.role is TrialRole.SHADOW:
        if recorder is None:
            detail = "VROOM_RECORD is off: a version in shadow is compared by recorded predictions"
            raise Problem(409, "no-record", detail)
        return 1.0 if asked.share is None else asked.share
    if asked.share is None or asked.share >= 1.0:
        allowed = "above 0 and below 1"
        detail = f"share: of a split it is {allowed}; to let the version answer everything, promote it"
        raise Problem(422, "invalid-input", detail, faults=[Fault("share", detail, allowed)])
    return asked.share


router = PathRouter(
    "/",
    route_handlers=[show_trial, begin_trial, stop_trial, promote_trial],
    dependencies={"commands": Provide(CommandRequest, sync_to_thread=False)},
    exception_handlers=RECORD_HANDLERS,
    tags=["forecasts"],
)
