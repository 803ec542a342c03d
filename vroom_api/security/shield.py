"""What stands before every route: hosts, keys, rates, time; and what every answer carries.

The shield is around Litestar's whole application and not one of its middlewares, because those never see a
request that no route takes. Whatever is asked, but for the probes, needs a viewer's key; what needs more has
a guard at its route.
"""

import asyncio
import base64
import binascii
import contextlib
import itertools
import re
import secrets
import time
from collections.abc import Collection
from typing import Any, cast

import msgspec
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from vroom_api.observability.logs import request_id
from vroom_api.observability.metrics import ServiceMetrics
from vroom_api.problems import MEDIA_TYPE, Problem
from vroom_api.security.deadlines import Deadlines, _too_slow
from vroom_api.security.guards import no_key
from vroom_api.security.keys import Grant, Keyring, Role

PROBES = ("/livez", "/readyz")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

_HEADERS_OF_PAGES = (
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # The pages load nothing and run nothing; their style and their empty icon are inside them.
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(6)  # ids of requests differ between processes
_requests = itertools.count(1)


class Shield:
    """An application behind its checks.

    Args:
        keyring: None admits everybody, in development on loopback.
        hosts: names that requests may be addressed to, without ports; `*` is any.
        seconds: that a request may take until its answer begins.
        rate: requests a second of one key, 0 for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Keyring | None,
        hosts: Collection[str],
        seconds: float,
        rate: float,
        metrics: ServiceMetrics,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._hosts = None if "*" in hosts else frozenset(name.lower() for name in hosts)
        self._deadlines = Deadlines(seconds)
        self._rate = rate
        self._metrics = metrics
        self._everybody = Grant("", "anonymous", Role.ADMIN, None)
        self._known_hosts: set[bytes] = set()  # Host headers that were let in, as they were sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} connections are not served")
        scope = cast(HTTPScope, scope)
        started = time.perf_counter()
        identifier = _identifier(scope)
        request_id.set(identifier)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        status, complete = 0, False

        async def take() -> Any:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._deadlines.end(task)
                headers = [*message.get("headers", ()), (b"x-request-id", identifier.encode()), *_HEADERS]
                if (b"content-type", b"application/json") not in headers:
                    headers += _HEADERS_OF_PAGES
                message["headers"] = headers
            await send(message)

        self._deadlines.begin(task)
        try:
            await self._admit(scope)
            await self._app(scope, take, tell)
        except Problem as problem:  # Litestar answers those of its routes
            await _refuse(tell, problem)
        except asyncio.CancelledError:
            if not self._deadlines.passed(task):
                raise
            task.uncancel()
            with contextlib.suppress(OSError):
                await _refuse(tell, _too_slow(self._deadlines.seconds, complete))
        finally:
            self._deadlines.end(task)
            self._metrics.request(scope, status, time.perf_counter() - started)

    async def _admit(self, scope: HTTPScope) -> None:
        """Who asks, put into the scope.

        Raises:
            Problem: 400 for another host, 401 without a good key, 429 above the rate, 503 when keys cannot be
                read.
        """
        host = key = basic = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"authorization":
                scheme, _, given = value.partition(b" ")
                scheme = scheme.lower()
                if scheme == b"bearer":
                    key = given.strip()
                elif scheme == b"basic":
                    basic = given.strip()
            elif name == b"x-api-key":
                key = value
        if host not in self._known_hosts:
            self._check_host(host, scope["path"])
        if self._keyring is None:
            grant: Grant | None = self._everybody
        else:
            if basic is not None and scope["method"] in ("GET", "HEAD"):
                key = _password(basic)
            grant = await self._grant(key, scope) if key is not None else None
        if grant is None:
            # A browser asks whether it may ask before it shows a key.
            if scope["path"] not in PROBES and scope["method"] != "OPTIONS":
                raise no_key("this needs an API key: send it as `Authorization: Bearer vroom_...`", scope)
        else:
            scope["auth"] = grant
            scope["user"] = grant.name
            if self._rate and (wait := grant.take(self._rate)):
                raise Problem(
                    429,
                    "too-many-requests",
                    f"{grant.name!r} may ask {self._rate:g} times a second",
                    headers={"retry-after": str(int(wait) + 1)},
                )

    def _check_host(self, host: bytes | None, path: str) -> None:
        if self._hosts is not None and path not in PROBES:
            name = _host_name(host or b"")
            if name not in self._hosts:
                raise Problem(
                    400,
                    "unknown-host",
                    f"this service does not answer for the host {name[:64]!r}; VROOM_ALLOWED_HOSTS names those it "
                    "answers for",
                )
            if host is not None and len(self._known_hosts) < 100:
                self._known_hosts.add(host)

    async def _grant(self, key: bytes, scope: HTTPScope) -> Grant:
        ring = cast(Keyring, self._keyring)
        given = key.decode("latin-1")
        grant = ring.find(given) or await ring.find_new(given)
        if grant is None:
            if not ring.loaded:
                raise Problem(
                    503,
                    "no-database",
                    "API keys cannot be read now; the serving database does not answer",
                    headers={"retry-after": "5"},
                )
            raise no_key("this API key is not known, has expired or was revoked", scope)
        return grant


def _identifier(scope: HTTPScope) -> str:
    """The id that a proxy gave the request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return f"{_PROCESS}-{next(_requests):x}"


def _host_name(host: bytes) -> str:
    """The name in a Host header, without port; of an IPv6 address without brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _password(basic: bytes) -> bytes:
    try:
        return base64.b64decode(basic, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


async def _refuse(send: Send, problem: Problem) -> None:
    body = msgspec.json.encode(problem.content())
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
    start: Any = {
        "type": "http.response.start",
        "status": problem.status,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
