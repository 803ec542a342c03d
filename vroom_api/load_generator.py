"""Asks a service the same again and again over one connection, in a process of its own: it takes no time of the service's.

Its order comes by standard input as JSON, because it may hold a key: host, port, request (head and body), n, seconds.
Its report goes to standard output as JSON: latencies in seconds, statuses, and the sums of what Server-Timing says, in
milliseconds. It imports nothing but the standard library, so that it is ready at once.
"""

import json
import socket
import sys
import time
from typing import Any

SILENCE = 30.0  # seconds without an answer


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Ask `n` times, or as often as there is time for.

    Raises:
        OSError: the service cannot be reached.
    """
    request = order["request"].encode()
    latencies: list[float] = []
    statuses: dict[str, int] = {}
    timings: dict[str, float] = {}
    with socket.create_connection((order["host"], order["port"]), timeout=SILENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        asked = began
        while len(latencies) < order["n"] and asked - began < order["seconds"]:
            asked = time.perf_counter()
            connection.sendall(request)
            head = _answer(connection)
            latencies.append(time.perf_counter() - asked)
            status = head[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b": ")
                if name == b"server-timing":
                    for part in value.decode().split(", "):
                        what, _, milliseconds = part.partition(";dur=")
                        timings[what] = timings.get(what, 0.0) + float(milliseconds)
        seconds = time.perf_counter() - began
    return {"latencies": latencies, "statuses": statuses, "timings": timings, "seconds": seconds}


def _answer(connection: socket.socket) -> bytes:
    """The head of one whole answer.

    Raises:
        ConnectionError: the connection ended before it did.
    """
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(body) >= length:
                return head
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the service closed the connection")
        received += piece


if __name__ == "__main__":
    try:
        print(json.dumps(run(json.load(sys.stdin))))
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
