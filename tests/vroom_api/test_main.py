"""The service as a process of its own: what it imports, how it starts, swaps and stops."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.bundles import EXAMPLE, manifest, point, predicted, publish
from tests.support.markets import publish_markets
from tests.support.service import environment, running, whole_log
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer
from vroom_api.contract.tables import open_database
from vroom_api.security.keys import Role, create_key

TRAINING_STACK = (
    "vroom_assets", "dagster", "dagster_mlflow", "mlflow", "sklearn", "scipy", "pandas", "duckdb",
    "interpret", "onnx", "sqlglot", "matplotlib",
)  # fmt: skip


def test_the_service_imports_nothing_of_the_training_stack() -> None:
    script = "import sys, vroom_api.__main__, vroom_api.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "vroom_api.app" in loaded
    assert [name for name in loaded if name.split(".")[0] in TRAINING_STACK] == []


def test_a_wrong_setting_is_a_message_and_not_a_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vroom_api"],
        env=environment(tmp_path, API_PORT="eighty"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == (
        "Vroom's service cannot start: VROOM_API_PORT='eighty': use a whole number from 1 to 65535\n"
    )


async def ask(address: str, clients: int, until: Callable[[], bool]) -> list[httpx.Response]:
    """Predictions from several clients at once, as fast as they are answered, until told to stop."""
    found: list[httpx.Response] = []

    async def one(position: int) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            while not until():
                images = (position + len(found)) % 100
                found.append(await client.post("/predict", json=EXAMPLE | {"num_images": images}))

    await asyncio.gather(*(one(position) for position in range(clients)))
    return found


SWAPS = 50


def test_swaps_under_load_fail_no_request_and_answers_belong_to_the_version_they_name(tmp_path: Path) -> None:
    home = tmp_path / "var"
    versions = (1, 2, 3)
    calibrations = {}
    for version in reversed(versions):
        # Value and interval differ between versions: a mixture would be noticed.
        own = manifest(version).calibration
        quantiles = [quantile * version for quantile in own.quantiles]
        calibrations[version] = type(own)(
            **{field: getattr(own, field) for field in own.__struct_fields__} | {"quantiles": quantiles}
        )
        publish(home, version, calibration=calibrations[version])

    async def scenario(address: str) -> tuple[list[httpx.Response], int]:
        stop = asyncio.Event()

        async def swap() -> int:
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                generation = 0
                for turn in range(1, SWAPS + 1):
                    generation = point(home, versions[turn % len(versions)]).generation
                    while (await client.get("/health")).json()["generation"] != generation:
                        await asyncio.sleep(0.01)
            stop.set()
            return generation

        answers, generation = await asyncio.gather(ask(address, 4, stop.is_set), swap())
        return answers, generation

    with running(home) as (address, _):
        answers, generation = asyncio.run(asyncio.wait_for(scenario(address), 120))
    assert generation == len(versions) + SWAPS
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert {answer.json()["model_version"] for answer in answers} == set(versions)
    assert len(answers) > 10 * SWAPS  # the service was busy all the time
    for answer in answers:
        sent, got = json.loads(answer.request.content), answer.json()
        value = predicted([float(sent[name]) for name in EXAMPLE], scale=got["model_version"])[1]
        assert got["predicted_reservations"] == pytest.approx(value, rel=1e-9)
        interval = calibrations[got["model_version"]].interval(got["predicted_reservations"], 0.9)
        assert got["interval"] == msgspec.to_builtins(interval)


def test_sigterm_finishes_what_is_under_way_and_ends_the_process(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)

    async def scenario(address: str, process: subprocess.Popen[str]) -> int:
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps([EXAMPLE] * 1_000).encode()
        head = f"POST /predict/batch HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:100])
        await writer.drain()
        async with httpx.AsyncClient(base_url=address) as client:
            await client.get("/health")  # the server has seen the first part by now
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        writer.write(body[100:])
        await writer.drain()
        answer = await reader.read(-1)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == 1_000
        return await asyncio.to_thread(process.wait, 30)

    with running(home) as (address, process):
        code = asyncio.run(asyncio.wait_for(scenario(address, process), 60))
        assert code == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{address}/health", timeout=5)


@pytest.mark.slow
@pytest.mark.timeout(900)  # each operation is asked some hundred times
@pytest.mark.parametrize("role", [Role.ADMIN, Role.VIEWER])
def test_fuzzing_finds_no_defect_and_no_lie_in_the_document(tmp_path: Path, role: Role) -> None:
    """All operations of two forecasts, all checks but one, with a key: examples, coverage of the schemas, fuzzing."""
    home = tmp_path / "var"
    publish(home, 1)
    publish(home, 2)
    publish_markets(home)
    beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=5.0), home)
    database = open_database(f"sqlite:///{home / 'serving.db'}")
    try:
        key = create_key(database, role.name, role)
    finally:
        database.dispose()
    with running(home, AUTH="on", LOG_LEVEL="error", COMMAND_SECONDS=3_600) as (address, process):
        fuzzed = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"{address}/schema/openapi.json",
                *("--header", f"Authorization: Bearer {key}"),
                # A ratio of two prices, each in its range, may have no finite logarithm, and ids of
                # predictions and outcomes exist or not, whatever their schema: 404, 409 and 422 are true.
                *("--exclude-checks", "positive_data_acceptance"),
                # Streams have no end of their own; a benchmark makes thousands of requests, and `routes/test_benchmark` has
                # what it answers.
                *("--exclude-path-regex", "events$|/benchmark"),
                *("--phases", "examples,coverage,fuzzing"),
                *("--max-examples", "20", "--seed", "1", "--no-color"),
                *("--generation-database", "none"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert fuzzed.returncode == 0, fuzzed.stdout
        assert httpx.get(f"{address}/readyz").status_code == 200
        unread = httpx.get(f"{address}/schema/openapi.json")
        assert unread.status_code == 401
        logged = whole_log(home, process)
    assert "Operations:       82 selected" in fuzzed.stdout
    assert "ERROR" not in logged


@pytest.mark.slow
def test_fuzzing_finds_no_lie_about_events(tmp_path: Path) -> None:
    """As above, of streams that end at once: every one has `wait=0`."""
    home = tmp_path / "var"
    publish(home, 1)
    with running(home, LOG_LEVEL="error") as (address, process):
        document = httpx.get(f"{address}/schema/openapi.json").json()
        streams = {path: there for path, there in document["paths"].items() if path.endswith("events")}
        for operations in streams.values():
            for parameter in operations["get"]["parameters"]:
                if parameter["name"] == "wait":
                    parameter |= {"required": True, "schema": {"type": "integer", "minimum": 0, "maximum": 0}}
        (tmp_path / "document.json").write_text(json.dumps(document | {"paths": streams}))
        fuzzed = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("run", "document.json", "--url", address),
                *("--mode", "positive"),  # longer waits are possible too
                *("--phases", "examples,coverage,fuzzing"),
                *("--max-examples", "20", "--seed", "1", "--no-color"),
                *("--generation-database", "none"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert fuzzed.returncode == 0, fuzzed.stdout
        logged = whole_log(home, process)
    assert "Operations:       4 selected" in fuzzed.stdout
    assert "ERROR" not in logged


def test_a_server_tells_little_about_itself(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    with running(home) as (address, _):
        answer = httpx.post(f"{address}/predict", json=EXAMPLE)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert "server" not in answer.headers
