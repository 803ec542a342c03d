"""Receivers of alerts on this machine: one that takes webhooks, and one that takes e-mail."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.service import free_port


@dataclass
class Hook:
    """A webhook: what was posted to it, and what it answers next."""

    port: int
    statuses: list[int] = field(default_factory=list)  # of the next answers, then 200
    taken: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    paths: list[str] = field(default_factory=list)

    def url(self, secret: str = "secret-of-the-hook") -> str:
        return f"http://127.0.0.1:{self.port}/{secret}"

    def titles(self) -> list[str]:
        return [one["title"] for one in self.taken]


@contextmanager
def webhook(port: int | None = None) -> Iterator[Hook]:
    """A local receiver of webhooks, as long as this is open."""
    hook = Hook(port or free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = hook.statuses.pop(0) if hook.statuses else 200
            if status < 300:
                hook.taken.append(body)
                hook.paths.append(self.path)
            else:
                hook.refused += 1
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", hook.port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Post:
    """A mail server: the letters that it took."""

    port: int
    letters: list[Message] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=vroom@example.com&to=ops@example.com"


@contextmanager
def post_office() -> Iterator[Post]:
    """A local SMTP server without TLS and passwords, as long as this is open."""
    post = Post(free_port())

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        letter: list[str] | None = None
        while line := (await reader.readline()).decode():
            if letter is not None:
                if line != ".\r\n":
                    letter.append(line)
                    continue
                post.letters.append(message_from_string("".join(letter)))
                letter = None
                writer.write(b"250 taken\r\n")
            elif line.upper().startswith("DATA"):
                letter = []
                writer.write(b"354 go on\r\n")
            else:
                writer.write(b"250 test\r\n")
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(talk, "127.0.0.1", post.port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield post
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
