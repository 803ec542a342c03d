"""`python -m vroom_assets.dagster_server`: Dagster's pages, for their own pages and nobody else's.

Dagster's webserver has no keys, no list of hosts and no eye for where a request comes from, and its GraphQL
changes things even when it is asked by GET. So a page of another site could start, delete and change what it
likes, through the browser of whoever runs it. Its command is started as it is, with a guard around its
application.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from vroom_api.contract.origins import LOOPBACK, is_foreign, parse_authority
from vroom_assets import dagster_daemon
from vroom_assets.settings import dagster_hosts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An application that answers requests to its own names, made by its own pages, programs or people.

    Args:
        hosts: names, without ports, that requests may be addressed to.
    """

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send(
                {"type": "websocket.close", "code": 1008, "reason": refusal}
            )  # before it is accepted: 403
        else:
            body = refusal.encode()
            headers = [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
            ]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> str | None:
        """Why a request is not answered; None where it is."""
        headers = dict(scope["headers"])
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = parse_authority(hosts[0]) if len(hosts) == 1 else None
        if host is None or host.name not in self._hosts:
            return f"These pages are for {', '.join(sorted(self._hosts))}; VROOM_DAGSTER_HOSTS names others."
        if self._is_page(scope, headers):
            return None
        if is_foreign(headers):
            return "A page of another site may not ask here."
        if scope["type"] == "http" and scope["method"] == "GET" and _is_query(scope):
            return "Send GraphQL by POST: here GET would change things, too."
        return None

    @staticmethod
    def _is_page(scope: Scope, headers: dict[bytes, bytes]) -> bool:
        """Whether somebody followed a link to a page; what it shows is for them and not for the site of the link."""
        return (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and headers.get(b"sec-fetch-mode") == b"navigate"
            and not _is_query(scope)
        )


def _is_query(scope: Scope) -> bool:
    """Whether a URL asks GraphQL something, and is not its page for people."""
    return scope["path"].rstrip("/").endswith("/graphql") and bool(scope["query_string"])


def main() -> None:
    from dagster_webserver import cli

    dagster_daemon.settle()
    made = cli.create_app_from_workspace_process_context
    hosts = dagster_hosts()

    def guarded(*arguments: Any, **named: Any) -> Any:
        return Guard(made(*arguments, **named), hosts)

    # Here alone the command makes the application that it hands to uvicorn.
    cli.create_app_from_workspace_process_context = guarded
    with contextlib.suppress(KeyboardInterrupt):
        cli.main()


if __name__ == "__main__":
    main()
