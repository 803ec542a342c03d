"""What a connection may take before anybody is asked for a key."""

import asyncio
import contextlib
import json
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import free_port, running
from vroom_api.security import connections
from vroom_api.security.connections import MAX_HEAD, MAX_HEADERS, MAX_URL, Connections, bounded

HOST = b"host: localhost\r\n"
Connect = Callable[[], socket.socket]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """What was asked, and its body; `/refuse` does not wait for the body, `/slow` is slow."""
    if scope["type"] != "http":
        return
    body, more = b"", scope["path"] != "/refuse"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    answer = f"{scope['method']} {scope['path']} {body.decode()}".encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer, "more_body": False})


@contextlib.contextmanager
def server(limit: int = 100, head_seconds: float = 5.0) -> Iterator[tuple[Connect, uvicorn.Server]]:
    """A server in this process, behind the protocol."""
    port = free_port()
    config = uvicorn.Config(
        echo,
        port=port,
        loop="uvloop",
        http=bounded(Connections(limit, head_seconds)),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    started = uvicorn.Server(config)
    thread = threading.Thread(target=started.run)
    thread.start()
    while not started.started:
        time.sleep(0.01)
    with contextlib.ExitStack() as stack:
        yield (
            lambda: stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)),
            started,
        )
        started.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    with server() as (connect, _):
        yield connect


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            answer += piece
    return answer


def answered(connection: socket.socket) -> bytes:
    """One answer of a connection that stays open."""
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < _length(answer):
        piece = connection.recv(65_536)
        assert piece, answer
        answer += piece
    return answer


def _length(answer: bytes) -> int:
    return int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])


def asked(connection: socket.socket, *parts: bytes) -> bytes:
    """What comes back until the end, whether or not all of it was taken."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
    return read(connection)


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (b"GET /%b HTTP/1.1\r\n" % (b"a" * MAX_URL), 414, "URL is longer than 8192 bytes"),
        (b"GET / HTTP/1.1\r\na: %b\r\n" % (b"a" * MAX_HEAD), 431, "more than 32768 bytes or 100 headers"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1), 431, "more than 32768 bytes or 100"),
        (b"GET / HTTP/1.1\r\n%b: b\r\n" % (b"a" * MAX_HEAD), 431, "more than 32768 bytes or 100 headers"),
    ],
)
def test_a_head_that_is_too_long_is_refused_however_it_is_cut(
    connect: Connect, head: bytes, status: int, words: str
) -> None:
    whole = head + HOST + b"\r\n"
    for size in (len(whole), 5_000, 400):
        parts = [whole[start : start + size] for start in range(0, len(whole), size)]
        answer = asked(connect(), *parts)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert problem["status"] == status
        assert words in problem["detail"]


def test_a_header_without_an_end_is_not_collected(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\na: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(1_000):
            connection.sendall(b"a" * 100_000)
    assert read(connection).startswith(b"HTTP/1.1 431 ")


def test_a_head_within_the_limits_is_answered(connect: Connect) -> None:
    connection = connect()
    url = b"/" + b"a" * (MAX_URL - 1)
    for head in (b"GET " + url, b"GET /a HTTP/1.1\r\nlong: " + b"b" * (MAX_HEAD - 200)):
        head = head if b"HTTP" in head else head + b" HTTP/1.1"
        connection.sendall(head + b"\r\n" + HOST + b"\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 200 ")


def test_trailers_are_bounded_and_are_not_headers(connect: Connect) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    connection = connect()
    connection.sendall(head + b"authorization: Bearer x\r\n\r\n")
    assert answered(connection).endswith(b"POST / a")
    assert asked(connect(), head, *[b"a: b\r\n"] * 20_000) == b""
    assert asked(connect(), head, b"a: ", *[b"b" * 10_000] * 20) == b""


def test_many_pipelined_requests_are_not_all_kept(connect: Connect) -> None:
    several = b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n"
    connection = connect()
    connection.sendall(several * 3)
    answers = b""
    while answers.count(b"GET /slow") < 3:
        answers += connection.recv(65_536)
    assert asked(connect(), several * 5_000).count(b"HTTP/1.1 200 ") <= 1


def test_a_head_has_a_deadline_and_a_drip_does_not_put_it_off() -> None:
    with server(head_seconds=0.5) as (connect, _):
        for drip in (b"GET / HTTP/1.1\r\na: ", b"G"):
            dripping, began = connect(), time.monotonic()
            dripping.sendall(drip)
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - began < 5:
                    dripping.sendall(b"E" if drip == b"G" and time.monotonic() - began < 0.1 else b"")
                    time.sleep(0.1)
                    dripping.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        answer = dripping.recv(65_536)
                        assert answer.startswith(b"HTTP/1.1 408 ")
                        assert b"the head of the request did not come within 0.5 s" in answer
                        break
            assert time.monotonic() - began < 4
        empty = connect()
        empty.sendall(b"\r\n")
        assert read(empty) == b""  # nothing was asked, so nothing is answered
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST)
        time.sleep(0.2)
        connection.sendall(b"\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 200 ")
        time.sleep(1)
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")  # idle is not late
        assert answered(connection).startswith(b"HTTP/1.1 200 ")


def test_the_rest_of_a_refused_body_has_a_deadline() -> None:
    with server(head_seconds=0.5) as (connect, _):
        connection = connect()
        connection.sendall(b"POST /refuse HTTP/1.1\r\n" + HOST + b"content-length: 4\r\n\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"aaaaGET /next HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answered(connection).endswith(b"GET /next ")
        connection.sendall(b"POST /refuse HTTP/1.1\r\n" + HOST + b"content-length: 4\r\n\r\n")
        answered(connection)
        assert read(connection) == b""


def test_idle_connections_make_room_and_busy_ones_do_not() -> None:
    with server(limit=20) as (connect, _):
        idle = [connect() for _ in range(9)]
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            answered(connection)
        late = connect()
        late.sendall(b"GET / HTTP/1.1\r\n" + HOST)  # has begun
        time.sleep(0.1)
        more = [connect() for _ in range(3)]
        for connection in more:
            connection.sendall(b"GET /new HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answered(connection).endswith(b"GET /new ")
        assert [read(connection) for connection in idle[:3]] == [b""] * 3  # those that were idle longest
        late.sendall(b"\r\n")
        assert answered(late).endswith(b"GET / ")


def test_beyond_its_share_a_client_is_refused_and_may_come_again() -> None:
    with server(limit=20) as (connect, _):
        busy = [connect() for _ in range(10)]  # half of all
        for connection in busy:
            connection.sendall(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n\r\n")
        time.sleep(0.2)
        refused = read(connect())
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused
        for connection in busy:
            connection.sendall(b"a")
            assert answered(connection).endswith(b"POST / a")
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 200 ")


def test_the_bound_is_below_what_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    assert Connections(5_000, 10).limit == 1_024 - connections.OTHER_FILES
    assert Connections(500, 10).limit == 500


H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: YQ==\r\n"


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET])
@pytest.mark.parametrize("framing", [b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"])  # fmt: skip
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(
    connect: Connect, offer: bytes, framing: bytes
) -> None:
    request = b"POST /a?b HTTP/1.1\r\n" + HOST + offer + framing
    for size in (1, 50, len(request)):
        connection = connect()
        for start in range(0, len(request), size):
            connection.sendall(request[start : start + size])
        assert answered(connection).endswith(b"POST /a abc")
        connection.sendall(b"GET /next HTTP/1.1\r\n" + HOST + offer + b"\r\n")
        assert answered(connection).endswith(b"GET /next ")
    connection = connect()
    connection.sendall(request * 2 + b"GET /last HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
    answers = read(connection)
    assert answers.count(b"POST /a abc") == 2
    assert answers.endswith(b"GET /last ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
    ],
)
def test_what_is_another_protocol_is_refused_at_once(connect: Connect, sent: bytes, status: int) -> None:
    assert asked(connect(), sent).startswith(b"HTTP/1.1 %d " % status)


def test_when_the_server_stops_no_request_that_was_sent_is_lost() -> None:
    """Clients ask one request after the other; each either gets an answer or was told that it is the last."""
    lost: list[str] = []
    with server() as (connect, started):

        def ask() -> None:
            connection, count = connect(), 0
            while True:
                try:
                    connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
                    answer = answered(connection)
                except (OSError, AssertionError) as error:
                    lost.append(f"{type(error).__name__} after {count}")
                    return
                count += 1
                if b"connection: close" in answer:
                    return
                time.sleep(count % 3 / 100)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        started.should_exit = True
        for thread in threads:
            thread.join(20)
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_with_0_idle_or_under_load(tmp_path: Path, number: int) -> None:
    home = tmp_path / "var"
    publish(home, 1)

    async def load(address: str, process: subprocess.Popen[str]) -> None:
        # Not promised: that a connection is served which the server has not accepted when it stops to listen.
        accepted = asyncio.Barrier(13)

        async def one() -> None:
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                assert (await client.get("/livez")).status_code == 200
                await accepted.wait()
                while True:
                    answer = await client.post("/predict", json=EXAMPLE)
                    assert answer.status_code == 200
                    if answer.headers.get("connection") == "close":
                        return

        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(one())
            await accepted.wait()
            await asyncio.sleep(0.5)
            process.send_signal(number)

    with running(home) as (address, process):
        process.send_signal(number)
        assert process.wait(30) == 0
    for _ in range(3):
        with running(home) as (address, process):
            asyncio.run(load(address, process))
            assert process.wait(30) == 0


@pytest.mark.slow
def test_attacks_without_a_key_take_no_memory_and_leave_probes_quick(tmp_path: Path) -> None:
    """Headers, one header, a URL, drips and open connections: as much as somebody cares to send."""
    home = tmp_path / "var"
    publish(home, 1)
    piece = b"a" * 1_000_000

    def flood(port: int, head: bytes, part: bytes, times: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            asked(connection, head, *[part] * times)

    attacks: dict[str, tuple[bytes, bytes, int]] = {
        "300 MB of headers": (b"GET /livez HTTP/1.1\r\n", b"a: " + piece[:8_000] + b"\r\n", 37_500),
        "a header of 100 MB": (b"GET /livez HTTP/1.1\r\na: ", piece, 100),
        "a URL of 200 MB": (b"GET /", piece, 200),
        "100 MB of empty lines": (b"\r\n", b"\r\n" * 500_000, 100),
        "100 MB of pipelined requests": (b"", (b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 20_000, 100),
    }
    with running(home, AUTH="on", HEAD_SECONDS=2) as (address, process):
        port = int(address.rpartition(":")[2])
        before = psutil.Process(process.pid).memory_info().rss
        for name, (head, part, times) in attacks.items():
            thread = threading.Thread(target=flood, args=(port, head, part, times))
            thread.start()
            slowest = 0.0
            while thread.is_alive():
                began = time.monotonic()
                assert httpx.get(f"{address}/livez", timeout=20).status_code == 200
                slowest = max(slowest, time.monotonic() - began)
            grown = (psutil.Process(process.pid).memory_info().rss - before) / 1e6
            print(f"{name}: RSS {grown:+.0f} MB, slowest probe {1000 * slowest:.0f} ms")
            assert grown < 60
            assert slowest < 2  # far more than it takes, for machines that are busy
        with contextlib.ExitStack() as stack:
            dripping = []
            for _ in range(600):
                dripping.append(
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                )
                with contextlib.suppress(ConnectionError):
                    dripping[-1].sendall(b"GET /livez HTTP/1.1\r\na")
            time.sleep(5)
            served = psutil.Process(process.pid).net_connections()
            still = [one for one in served if one.status == "ESTABLISHED"]
            grown = (psutil.Process(process.pid).memory_info().rss - before) / 1e6
            print(f"600 dripping connections: {len(still)} open after 5 s, RSS {grown:+.0f} MB")
            assert still == []
            assert grown < 60
            assert httpx.get(f"{address}/livez", timeout=20).status_code == 200
