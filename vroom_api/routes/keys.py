"""API keys over HTTP."""

from typing import Any

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from vroom_api.problems import Problem
from vroom_api.routes.problems import documented
from vroom_api.security.guards import needs
from vroom_api.security.keys import BadKey, Key, Role, list_keys, revoke_key


def key_routes(database: Any) -> list[HTTPRouteHandler]:
    """GET /keys and POST /keys/{id}/revoke, for admins; keys are made by `litestar keys create` alone."""

    @get(
        "/keys",
        summary="All API keys, without their secrets",
        tags=["keys"],
        guards=[needs(Role.ADMIN)],
        sync_to_thread=True,
    )
    def show() -> list[Key]:
        return list_keys(database())

    @post(
        "/keys/{name_or_id:str}/revoke",
        summary="Revoke a key for ever; every process of the service refuses it within seconds",
        tags=["keys"],
        guards=[needs(Role.ADMIN)],
        status_code=200,
        responses={404: documented("no key has that name or id")},
        sync_to_thread=True,
    )
    def revoke(name_or_id: FromPath[str]) -> Key:
        try:
            return revoke_key(database(), name_or_id)
        except BadKey as error:
            raise Problem(404, "unknown-key", str(error)) from None

    return [show, revoke]
