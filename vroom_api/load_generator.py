"""Asks a service the same again and again over one connection, in a process of its own: it takes no time of the service's.

Its order comes by standard input as JSON, because it may hold a key: host, port, request (head and body), n, seconds.
Its report goes to standard output as JSON: latencies in seconds, statuses, and the sums of what Server-Timing says, in
milliseconds. It imports little, so that it is ready at once.
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

SILENCE = 30.0  # seconds without an answer


class _Client(asyncio.Protocol):
    """Asks as soon as it was answered, as the clients of the benchmarks outside do."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._request = order["request"].encode()
        self._n, self._seconds = order["n"], order["seconds"]
        self._received = b""
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}
        self.timings: dict[str, float] = {}
        self.began = self.ended = self._asked = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.began = time.perf_counter()
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        position = head.lower().find(b"content-length:")
        if not end or position < 0 or len(body) < int(head[position + 15 :].split(b"\r\n", 1)[0]):
            return
        self.ended = time.perf_counter()
        self.latencies.append(self.ended - self._asked)
        self._received = b""
        self._count(head)
        if len(self.latencies) < self._n and self.ended - self.began < self._seconds:
            self._ask()
        else:
            self.done.set_result(None)

    def _count(self, head: bytes) -> None:
        status = head[9:12].decode()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"server-timing":
                for part in value.decode().split(", "):
                    what, _, milliseconds = part.partition(";dur=")
                    self.timings[what] = self.timings.get(what, 0.0) + float(milliseconds)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the service closed the connection"))


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """Ask `n` times, or as often as there is time for.

    Raises:
        OSError: the service cannot be reached, or ends the connection, or does not answer.
    """
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: _Client(order), order["host"], order["port"])
    try:
        async with asyncio.timeout(order["seconds"] + SILENCE):
            await client.done
    finally:
        transport.abort()
    return {
        "latencies": client.latencies,
        "statuses": client.statuses,
        "timings": client.timings,
        "seconds": client.ended - client.began,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
