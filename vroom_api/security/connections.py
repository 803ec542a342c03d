"""What a connection may take before anybody is asked for a key: bytes, time, and its share of all connections.

uvicorn bounds none of it (Kludex/uvicorn#157), and its parser holds whatever a client sends until a head is
complete. So the bounds are here, in a subclass of uvicorn's protocol, where bytes arrive.
"""

import array
import fcntl
import logging
import resource
import termios
import time
from asyncio import get_running_loop
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from vroom_api.problems import MEDIA_TYPE, Problem

log = logging.getLogger(__name__)

MAX_HEAD = 32_768  # bytes of the request line and all headers
MAX_URL = 8_192  # bytes; RFC 9110 section 4.1 asks for 8,000 at least
MAX_HEADERS = 100
MAX_PIPELINED = 32  # requests that wait behind the one that is being answered
KEEP_ALIVE = 75.0  # seconds; longer than clients keep idle connections, so that they close first
TAKEN_WITHIN = 60.0  # seconds until a client takes the next piece of an answer
LINGER = 2.0  # seconds for the other side to read a refusal
DRAIN = 1.0  # seconds after the signal to stop in which idle connections may ask once more
OTHER_FILES = 100  # descriptors that are kept for databases, bundles and the listener

_HEAD, _TAKE, _CLOSE = "head", "take", "close"  # what is waited for


def _nothing() -> None:
    """Where no answer is without an end."""


class Connections:
    """The connections of one server: how many of whom, which are idle, and how long each is waited for.

    Checking all of them once a second costs a request less than timers of its own.

    Args:
        limit: of open connections; fewer where the process may not open as many files. One client may have half
            of them, since behind a proxy all clients are one.
        head_seconds: that a request's head may take, from its first byte to its last.
        draining: called once when the server begins to stop, to end answers that have no end of their own.
    """

    def __init__(self, limit: int, head_seconds: float, draining: Callable[[], None] = _nothing) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = limit if files == resource.RLIM_INFINITY else max(min(limit, files - OTHER_FILES), 10)
        self.head_seconds = head_seconds
        self._when_draining = draining
        self.draining = self._drained = False
        self.idle: dict[BoundedProtocol, float] = {}  # since when; the longest first
        self.waited_for: dict[tuple[BoundedProtocol, str], float] = {}  # until when, and for what
        self._clients: Counter[str | None] = Counter()
        self._open = 0
        self._checking = False

    def admit(self, client: str | None) -> bool:
        """Whether there is room for one more connection; idle ones are closed to make it."""
        if self._clients[client] >= self.limit // 2 and not self._close_idle(client):
            return False
        return self._open < self.limit or self._close_idle()

    def opened(self, connection: "BoundedProtocol", client: str | None) -> None:
        self._open += 1
        self._clients[client] += 1
        self.idle[connection] = time.monotonic()
        if not self._checking:
            self._checking = True
            self._check_again()

    def closed(self, connection: "BoundedProtocol", client: str | None) -> None:
        self._open -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]
        self.idle.pop(connection, None)
        for reason in (_HEAD, _TAKE, _CLOSE):
            self.waited_for.pop((connection, reason), None)

    def wait(self, connection: "BoundedProtocol", reason: str, seconds: float) -> None:
        """Give a connection so long for something; if it is waited for already, that time stays."""
        self.waited_for.setdefault((connection, reason), time.monotonic() + seconds)

    def drain(self) -> None:
        """From now on every answer is the last of its connection.

        An idle connection is closed after a while and not at once: a request may be on its way (as in
        Kludex/uvicorn#3124), and whoever sent it would not know whether it was answered.
        """
        if not self.draining:
            self.draining = True
            self._when_draining()
            get_running_loop().call_later(DRAIN, self._end_drain)

    def _end_drain(self) -> None:
        self._drained = True
        self._check()

    def _close_idle(self, client: str | None = None) -> bool:
        """Close the connection, of a client if one is given, that was idle longest."""
        for connection in self.idle:
            if (client is None or connection.peer == client) and connection.close_idle():
                return True
        return False

    def _check_again(self) -> None:
        if self._checking:
            self._check()
            self._checking = bool(self._open)
            get_running_loop().call_later(min(1.0, self.head_seconds / 4), self._check_again)

    def _check(self) -> None:
        now = time.monotonic()
        oldest = now if self._drained else now - KEEP_ALIVE
        for connection, since in list(self.idle.items()):
            if since > oldest:
                break
            connection.close_idle()
        for (connection, reason), until in list(self.waited_for.items()):
            if until <= now:
                del self.waited_for[connection, reason]
                connection.give_up(reason)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with bounds. An HTTP/1.1 request is all that it serves.

    The parser calls `on_…` while it is fed. It keeps for itself what is not yet a complete header or a piece of a body;
    how much that is, is counted in what came without any of them (`_held`).
    """

    def __init__(self, *arguments: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all = connections
        self.peer: str | None = None
        self._counted = False
        self._refused = False  # nothing more is read
        self._refusal: Problem | None = None  # of what is being parsed
        self._in_head = self._in_body = False
        self._progress = False  # whether the parser passed anything on
        self._held = 0  # bytes
        self._size = 0  # bytes of the URL and headers of one request
        self._offers_upgrade = False
        self._waits_for_head = False

    # --- the connection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else None
        if not self._all.admit(self.peer):
            self._refused = True
            transport.write(self._answer(_TOO_MANY))
            transport.close()
            return
        self._counted = True
        self._all.opened(self, self.peer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self._all.closed(self, self.peer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.wait(self, _TAKE, TAKEN_WITHIN)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.waited_for.pop((self, _TAKE), None)

    def shutdown(self) -> None:
        """The server stops: what is under way is answered, and so is what is on its way."""
        self._all.drain()
        if self._busy() and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def close_idle(self) -> bool:
        """Close the connection if nothing is to be read from it; whether it was closed."""
        if self.transport.is_closing() or _unread(self.transport):
            return False
        self._all.idle.pop(self, None)
        self._close()
        return True

    def give_up(self, reason: str) -> None:
        """What was waited for did not come in time."""
        if reason != _HEAD or self._refused:
            self.transport.abort()
        elif self._busy():  # the head of the next request; this one's answer comes first
            self._all.wait(self, _HEAD, self._all.head_seconds)
        elif self._in_head:
            within = f"{self._all.head_seconds:g} s"
            self._refuse(Problem(408, "timeout", f"the head of the request did not come within {within}"))
        else:  # a body that was refused before, or no request at all: there is nothing to answer
            self._close()

    def _close(self) -> None:
        """Close, and do not wait for ever for what was written to be taken."""
        self.transport.close()
        if self._counted:
            self._all.wait(self, _CLOSE, LINGER)

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # --- what arrives

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._all.idle.pop(self, None)
        self._progress = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or _NO_HTTP)
            return
        if self._progress:
            self._held = 0
        else:
            self._held += len(data)
            if self._held > MAX_HEAD:
                self._refuse(_LONG_HEAD)
                return
        # A head that has begun, or what does not even begin one, such as empty lines.
        if self._in_head or not (self._progress or self._in_body):
            self._wait()

    def _wait(self) -> None:
        self._waits_for_head = True
        self._all.wait(self, _HEAD, self._all.head_seconds)

    def _stop_waiting(self) -> None:
        self._waits_for_head = False
        self._all.waited_for.pop((self, _HEAD), None)

    def _feed(self, data: bytes) -> None:
        """Parse, and ignore every offer of another protocol (RFC 9110 section 7.8).

        httptools stops at such an offer and takes the body for the other protocol (Kludex/uvicorn#2722,
        MagicStack/httptools#124): the request is parsed again without it. WebSockets are not served either.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                head = self._without_offer()
                data = head + data[offer.args[0] :]

    def _without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                kept = [part for part in value.split(b",") if part.strip().lower() not in _OFFER]
                value = b",".join(kept)
            if name not in _OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        self._offers_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body, self._size = True, False, 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._size = len(self.url)
        if self._size > MAX_URL:
            self._refuse_while_parsing(_LONG_URL)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, and counted; not called through, because it is called most."""
        self._size += len(name) + len(value) + 4  # a colon, a space and the end of the line
        if self._size > MAX_HEAD or len(self.headers) >= MAX_HEADERS:
            self._refuse_while_parsing(_LONG_HEAD)
        if self._in_body:  # trailers, where nobody reads headers any more
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._progress = True
        if self._waits_for_head:
            self._stop_waiting()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse_while_parsing(_NO_PROXY)
            self._offers_upgrade = True
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse_while_parsing(_TOO_MANY)
        self._in_head, self._in_body = False, True
        super().on_headers_complete()
        if self._all.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        if self._offers_upgrade:
            return
        self._in_body = False
        super().on_message_complete()
        if self._waits_for_head and self.cycle.response_complete:
            self._stop_waiting()
            self._all.idle[self] = time.monotonic()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for its timer for each connection: whoever is idle too long is found by a check of all."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            if self._counted:
                self._all.wait(self, _CLOSE, TAKEN_WITHIN)
            return
        if self._refused:
            self._close()
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._in_body:  # refused before all of it had come; the rest is read so that the answer is
            self._wait()
        elif not self._waits_for_head:
            self._all.idle[self] = time.monotonic()

    # --- refusals

    def _refuse_while_parsing(self, problem: Problem) -> None:
        """Stop the parser; what it raises comes out where it is fed."""
        self._refusal = problem
        raise problem

    def _refuse(self, problem: Problem) -> None:
        """Answer, read nothing more, and close when the other side had time to read the answer."""
        self._refused = True
        log.info("refused with %d: %s", problem.status, problem.detail)
        self.flow.resume_reading()  # what still comes is dropped
        if self._busy():  # with a request that is being answered: its answer is the last
            self.cycle.keep_alive = False
            self.pipeline.clear()
            if self._in_body:  # it never comes to an end
                self.transport.abort()
            return
        self.transport.write(self._answer(problem))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._all.wait(self, _CLOSE, LINGER)

    def _answer(self, problem: Problem) -> bytes:
        body = msgspec.json.encode(problem.content())
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.encode(), value.encode()) for name, value in problem.headers.items()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body])


def bounded(connections: Connections) -> Any:
    """The protocol class as uvicorn's configuration takes it."""
    return partial(BoundedProtocol, connections=connections)


def _unread(transport: Any) -> bool:
    """Whether bytes have arrived that were not read yet."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    except (OSError, AttributeError):
        return False
    return count[0] > 0


_OFFER = (b"upgrade", b"http2-settings")  # headers, and the names in Connection that make them count
_LONG_URL = Problem(414, "long-url", f"the URL is longer than {MAX_URL} bytes")
_LONG_HEAD = Problem(
    431, "long-head", f"the request line and headers are more than {MAX_HEAD} bytes or {MAX_HEADERS} headers"
)
_NO_HTTP = Problem(400, "no-http", "this is not a valid HTTP/1.1 request")
_NO_PROXY = Problem(501, "no-proxy", "CONNECT is not served: this is not a proxy")
_TOO_MANY = Problem(
    503, "too-many-connections", "too many connections are open; ask again", headers={"retry-after": "1"}
)
