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
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import msgspec
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from vroom_api.contract.origins import is_foreign, parse_authority
from vroom_api.observability.logs import request_id
from vroom_api.observability.metrics import ServiceMetrics
from vroom_api.problems import MEDIA_TYPE, Problem
from vroom_api.routes.readable import is_for_reading, readable
from vroom_api.security.bodies import check_body
from vroom_api.security.deadlines import Deadlines, _too_slow
from vroom_api.security.guards import no_key
from vroom_api.security.keys import Grant, Keyring, Role

PROBES = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
_READING = ("GET", "HEAD", "OPTIONS")
# What decides something is sent once: of two, a proxy may believe the one and this service the other.
_SENT_ONCE = (
    b"host", b"origin", b"sec-fetch-site", b"authorization", b"x-api-key", b"content-type", b"content-encoding",
    b"inference-header-content-length",
)  # fmt: skip
_HEADERS = ((b"x-content-type-options", b"nosniff"),)
_NO_STORE = (b"cache-control", b"no-store")

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

_TENSORS = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")  # what may have more than JSON in its body
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(6)  # ids of requests differ between processes
_requests = itertools.count(1)


class Shield:
    """An application behind its checks.

    Args:
        keyring: None admits everybody, in development on loopback.
        hosts: names that requests may be addressed to, without ports; `*` is any.
        origins: whose pages may ask from a browser, besides the service's own; `*` is any.
        seconds: that a request may take until its answer begins.
        rate: requests and rows of batches a second of one key, 0 for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Keyring | None,
        hosts: Collection[str],
        origins: Collection[str] = (),
        seconds: float,
        rate: float,
        metrics: ServiceMetrics,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._hosts = None if "*" in hosts else frozenset(name.lower() for name in hosts)
        self._origins = frozenset(origin.encode() for origin in origins)
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
        status, complete, ended = 0, False, False
        # What GET answers, without the body (RFC 9110 section 9.3.2); of the routes none knows HEAD.
        head = scope["method"] == "HEAD"
        asked = cast(HTTPScope, {**scope, "method": "GET"}) if head else scope

        async def take() -> Any:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def tell(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                self._deadlines.end(task)
                headers = [*message.get("headers", ()), (b"x-request-id", identifier.encode()), *_HEADERS]
                if (b"content-type", b"application/json") not in headers and status != 304:
                    headers += _HEADERS_OF_PAGES
                if asked["method"] != "GET" or not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)  # unless a route that is read again and again says otherwise
                message["headers"] = headers
            elif head:
                if ended:  # of a stream the first piece ended the answer
                    return
                ended = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        answer = readable(tell) if is_for_reading(scope) else tell
        self._deadlines.begin(task)
        try:
            await self._admit(asked)
            await self._app(asked, take, answer)
        except Problem as problem:  # Litestar answers those of its routes
            await _refuse(answer, problem, scope["path"])
        except asyncio.CancelledError:
            if not self._deadlines.passed(task):
                raise
            task.uncancel()
            with contextlib.suppress(OSError):
                await _refuse(tell, _too_slow(self._deadlines.seconds, complete), scope["path"])
        finally:
            self._deadlines.end(task)
            asked["method"] = scope["method"]
            self._metrics.request(asked, status, time.perf_counter() - started)

    async def _admit(self, scope: HTTPScope) -> None:
        """Who asks, put into the scope.

        Raises:
            Problem: 400 for another host, 401 without a good key, 403 for a page of another site, 415 for a body
                that is not JSON, 429 above the rate, 503 when keys cannot be read.
        """
        sent = cast("list[tuple[bytes, bytes]]", scope["headers"])
        headers = dict(sent)
        if len(headers) != len(sent):
            _refuse_repeated(sent)
        host = headers.get(b"host")
        if host not in self._known_hosts:
            self._check_host(host, scope["path"])
        if self._keyring is None:
            grant: Grant | None = self._everybody
        else:
            key = _key_of(headers, scope["method"])
            grant = await self._grant(key, scope) if key is not None else None
        if grant is None:
            if scope["path"] not in PROBES and not self._is_preflight(scope, headers):
                raise no_key("this needs an API key: send it as `Authorization: Bearer vroom_...`", scope)
        else:
            scope["auth"] = grant
            scope["user"] = grant.name
            if self._rate and (wait := grant.take(self._rate)):
                raise Problem(
                    429,
                    "too-many-requests",
                    f"{grant.name!r} may ask for {self._rate:g} predictions or pages a second; a batch counts its rows",
                    headers={"retry-after": str(int(wait) + 1)},
                )
        if scope["method"] not in _READING:
            if b"origin" in headers or b"sec-fetch-site" in headers:
                self._check_site(headers)
            check_body(headers, may_be_binary=_TENSORS.fullmatch(scope["path"]) is not None)

    def _is_preflight(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser asks if it may ask, before it shows a key; the answer is the same for every path."""
        return (
            scope["method"] == "OPTIONS"
            and bool(self._origins)
            and b"origin" in headers
            and b"access-control-request-method" in headers
        )

    def _check_site(self, headers: Mapping[bytes, bytes]) -> None:
        if b"*" not in self._origins and is_foreign(headers, self._origins):
            origin = headers.get(b"origin", b"another site").decode("latin-1")[:100]
            raise Problem(
                403,
                "foreign-origin",
                f"a page of {origin} may not ask here from a browser; VROOM_CORS_ORIGINS names whose pages may",
            )

    def _check_host(self, host: bytes | None, path: str) -> None:
        """Probes come by whatever address, and from balancers without any."""
        if host is None and path in PROBES:
            return
        found = parse_authority(host or b"")
        if host and found is None:
            raise Problem(
                400, "bad-host", "the header Host is not a name or an address with an optional port"
            )
        if self._hosts is None or path in PROBES:
            return
        if found is None or found.name not in self._hosts:
            name = found.name[:64] if found else ""
            raise Problem(
                400,
                "unknown-host",
                f"this service does not answer for the host {name!r}; VROOM_ALLOWED_HOSTS names those it answers for",
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


def _refuse_repeated(headers: Iterable[tuple[bytes, bytes]]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in _SENT_ONCE:
            raise Problem(400, "repeated-header", f"the header {name.decode()} was sent twice; send it once")
        seen.add(name)


def _key_of(headers: Mapping[bytes, bytes], method: str) -> bytes | None:
    """The key that a request shows; as a password of Basic only where it reads."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return given.strip()
    if scheme == b"basic" and method in _READING:
        return _password(given.strip())
    return headers.get(b"x-api-key")


def _password(basic: bytes) -> bytes:
    try:
        return base64.b64decode(basic, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


async def _refuse(send: Send, problem: Problem, path: str) -> None:
    body = msgspec.json.encode(problem.content(path))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
    start: Any = {
        "type": "http.response.start",
        "status": problem.status,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
