"""A light load generator: keep-alive connections that ask the same, each as soon as it was answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import uvloop


@dataclass
class Measured:
    """Latencies in seconds of answers with status 200, the statuses of all others, and the time it took."""

    latencies: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def fail(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def __add__(self, other: Measured) -> Measured:
        errors = {
            key: self.errors.get(key, 0) + other.errors.get(key, 0) for key in self.errors | other.errors
        }
        return Measured(self.latencies + other.latencies, errors, self.seconds + other.seconds)

    @property
    def p50(self) -> float:
        return float(np.median(self.latencies)) if self.latencies else float("nan")

    @property
    def p99(self) -> float:
        return float(np.quantile(self.latencies, 0.99)) if self.latencies else float("nan")

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else float("nan")


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, measured: Measured, pause: float) -> None:
        self._request, self._until, self._measured, self._pause = request, until, measured, pause
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        position = head.lower().find(b"content-length:")
        if position < 0 or len(body) < int(head[position + 15 :].split(b"\r\n", 1)[0]):
            return
        now = time.perf_counter()
        status = head[9:12].decode()
        if status == "200":
            self._measured.latencies.append(now - self._asked)
        else:
            self._measured.fail(status)
        self._buffer = b""
        if now >= self._until:
            self._transport.close()
        elif self._pause:
            wait = max(self._asked + self._pause - now, 0)
            asyncio.get_running_loop().call_later(wait, self._ask)
        else:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self._buffer or time.perf_counter() < self._until:
            self._measured.fail("connection lost")
        if not self.done.done():
            self.done.set_result(None)


def request(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    given = {"host": "127.0.0.1", "content-type": "application/json", "content-length": len(body)}
    lines = [
        f"POST {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in (given | (headers or {})).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def ask(port: int, content: bytes, *, clients: int, seconds: float, rate: float = 0.0) -> Measured:
    """Ask for so many seconds.

    Args:
        rate: requests a second of all clients together; 0: as fast as they are answered.
    """
    measured = Measured()

    async def run() -> None:
        until = time.perf_counter() + seconds
        loop = asyncio.get_running_loop()
        pause = clients / rate if rate else 0.0
        made = []
        for _ in range(clients):
            made.append(
                await loop.create_connection(
                    lambda: _Client(content, until, measured, pause), "127.0.0.1", port
                )
            )
            await asyncio.sleep(pause / clients)  # one after the other, not all at once
        await asyncio.wait([client.done for _, client in made], timeout=seconds + 20)

    began = time.perf_counter()
    uvloop.run(run())
    measured.seconds = time.perf_counter() - began
    return measured
