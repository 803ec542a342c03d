"""API keys over HTTP, for admins; keys are made by `litestar keys create` alone."""

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from vroom_api.contract.tables import Database
from vroom_api.problems import Problem
from vroom_api.routes.problems import documented
from vroom_api.security.guards import needs
from vroom_api.security.keys import BadKey, Key, Role, list_keys, revoke_key


@get("/keys", summary="All API keys, without their secrets", sync_to_thread=True)
def show(database: NamedDependency[Database]) -> list[Key]:
    return list_keys(database())


@post(
    "/keys/{name_or_id:str}/revoke",
    summary="Revoke a key for ever; every process of the service refuses it within seconds",
    status_code=200,
    responses={404: documented("no key has that name or id")},
    sync_to_thread=True,
)
def revoke(name_or_id: FromPath[str], database: NamedDependency[Database]) -> Key:
    try:
        return revoke_key(database(), name_or_id)
    except BadKey as error:
        raise Problem(404, "unknown-key", str(error)) from None


router = Router("/", route_handlers=[show, revoke], tags=["keys"], guards=[needs(Role.ADMIN)])
