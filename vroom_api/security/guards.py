"""What a role may do."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from vroom_api.problems import Problem
from vroom_api.security.keys import Grant, Role

_ASK_FOR_A_KEY = 'Bearer realm="vroom"'
_ASK_IN_A_BROWSER = 'Basic realm="vroom: any name, and a key as the password", charset="UTF-8"'


def needs(role: Role) -> Guard:
    """The guard of a route that needs more than a viewer's key."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        grant: Grant | None = connection.scope.get("auth")
        if grant is None:
            raise no_key("this needs an API key", connection.scope)
        if grant.role < role:
            raise Problem(
                403,
                "not-allowed",
                f"this needs the role {role.name.lower()}; {grant.name!r} is {grant.role.name.lower()}",
            )

    return guard


def no_key(detail: str, scope: Any) -> Problem:
    # Browsers send Basic credentials along with requests that another site made, so it is for reading only.
    browser = scope["method"] in ("GET", "HEAD")
    return Problem(
        401, "no-key", detail, headers={"www-authenticate": _ASK_IN_A_BROWSER if browser else _ASK_FOR_A_KEY}
    )
