"""JSON that a person opens in a browser: the same document, with line breaks."""

from typing import cast

import msgspec
from litestar.types import HTTPResponseStartEvent, HTTPScope, Message, Send


def is_for_reading(scope: HTTPScope) -> bool:
    """Whether whoever asks reads the answer: a browser names HTML among what it accepts, which programs do not."""
    return scope["method"] in ("GET", "HEAD") and any(
        name == b"accept" and b"text/html" in value for name, value in scope["headers"]
    )


def readable(send: Send) -> Send:
    """Send an answer with its JSON indented, whichever route, or refusal, it is of; any other kind as it is."""
    held: HTTPResponseStartEvent | None = None

    async def send_indented(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start" and is_json(message):
            held = message  # it says how long the body is
            return
        if held is not None:
            start, held = held, None
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                message["body"] = msgspec.json.format(message.get("body", b""), indent=2)
                _set_length(start, len(message["body"]))
            await send(start)
        await send(message)

    return cast(Send, send_indented)


def is_json(start: HTTPResponseStartEvent) -> bool:
    """Whether an answer is JSON, of whatever kind."""
    kinds = [value.partition(b";")[0] for name, value in start["headers"] if name == b"content-type"]
    return any(kind == b"application/json" or kind.endswith(b"+json") for kind in kinds)


def _set_length(start: HTTPResponseStartEvent, length: int) -> None:
    others = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    start["headers"] = [*others, (b"content-length", str(length).encode())]
