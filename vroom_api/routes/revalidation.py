"""Reads that repeat: an answer has an ETag, and whoever has it already is answered 304 without a body.

A client asks again each time (`no-cache`), so it never works with what has changed. This is a middleware of single
routes: predictions and their record go by it, and nothing of them is kept anywhere.
"""

from hashlib import blake2b
from typing import cast

from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from vroom_api.routes.readable import is_json

MAX_BODY = 1_000_000  # bytes; larger answers are sent as they are


def revalidated(app: ASGIApp) -> ASGIApp:
    """A route whose JSON clients may keep, and ask whether it is still the same."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        known = [value for name, value in scope["headers"] if name == b"if-none-match"]
        # What only a key opens is not for caches that others share.
        guarded = any(name in (b"authorization", b"x-api-key") for name, _ in scope["headers"])
        held: HTTPResponseStartEvent | None = None

        async def send_tagged(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and message["status"] == 200 and is_json(message):
                held = message
                return
            if held is not None and message["type"] == "http.response.body":
                start, held = held, None
                body = message.get("body", b"")
                if not message.get("more_body", False) and len(body) <= MAX_BODY:
                    tag = _tag_of(body)
                    start["headers"] = [*start["headers"], *_headers(tag, private=guarded)]
                    if _names(known, tag):
                        start, message["body"] = _not_modified(start), b""
                await send(start)
            await send(message)

        await app(scope, receive, cast(Send, send_tagged))

    return answer


def _tag_of(body: bytes) -> bytes:
    """Weak, because the same content is sent indented to people (RFC 9110 section 8.8.1)."""
    return b'W/"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


def _headers(tag: bytes, *, private: bool) -> list[tuple[bytes, bytes]]:
    control = b"private, no-cache" if private else b"no-cache"
    return [(b"etag", tag), (b"cache-control", control), (b"vary", b"accept, authorization, x-api-key")]


def _names(known: list[bytes], tag: bytes) -> bool:
    """Whether If-None-Match names a tag; weak ones are compared (RFC 9110 section 13.1.2)."""
    names = {name.strip().removeprefix(b"W/") for value in known for name in value.split(b",")}
    return b"*" in names or tag.removeprefix(b"W/") in names


def _not_modified(start: HTTPResponseStartEvent) -> HTTPResponseStartEvent:
    """Without what describes a body, which is not there."""
    kept = [
        (name, value) for name, value in start["headers"] if name not in (b"content-type", b"content-length")
    ]
    return {**start, "status": 304, "headers": kept}
