"""How fast is the service, beside an empty endpoint and beside other ways to serve the same forecast?

    python tests/benchmarks/serving.py [--seconds 4] [--rounds 3] [--home var] [--peers-python PATH]

All over HTTP on loopback, in one run, round by round, so that noise of the machine hits all alike: median,
99th percentile and requests a second at 1 and at 32 clients, errors counted. Vroom runs as it is deployed
(`python -m vroom_api`, one worker) without and with its durable record, and with API keys and record; every
peer runs under the same uvicorn settings. Without a champion in --home one is trained for the run. Peers are
measured where their packages are found: in this environment, or in that of --peers-python, e.g. made by

    python -m venv peers && peers/bin/pip install fastapi 'uvicorn[standard]' pandas scikit-learn onnxruntime \
        mlflow flask 'ray[serve]'

With --while COMMAND Vroom is asked 200 times a second idle, beside the command, and beside the command at
low priority; requests that a stall kept from being sent count as having waited for it. Exits with 1 when a
target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from load import Measured, ask, request

from vroom_api.contract import bundle_folder, read_pointer

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
FORECAST = "reservations"
LISTING = {
    "technology": 1,
    "actual_price": 67.85,
    "recommended_price": 59,
    "num_images": 5,
    "street_parked": 0,
    "description": 7,
}
FEATURES = {"technology": 1, "num_images": 5, "street_parked": 0, "description": 7, "price_diff": 8.85}
MANY = 32
WORKERS = "Vroom, 2 workers"
PATIENCE = 20  # seconds after which the load generator gives up on an answer
PEER_NAMES = ("FastAPI + ONNX", "FastAPI + sklearn", "mlflow models serve", "Ray Serve design")
UVICORN = (
    *("-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"),
    # As the service has it: a layer that only the others run would count in the service's favour.
    *("--no-access-log", "--no-proxy-headers", "--no-server-header", "--log-level", "warning"),
)


@dataclass
class Subject:
    """One way to serve; `command` has {port} in it."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/predict"
    body: bytes = json.dumps(LISTING).encode()
    needs: str = ""  # modules
    slow: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    port: int = 0
    measured: dict[int, Measured] = field(default_factory=dict)

    def ask(self, clients: int, seconds: float, **options: float) -> Measured:
        """Measured answers; callers that were never answered are an error and not merely fewer answers."""
        content = request(self.port, self.path, self.body, self.headers)
        found = ask(self.port, content, clients=clients, seconds=seconds, **options)
        if found.seconds >= seconds + PATIENCE:
            found.fail("no answer")
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(subject: Subject) -> Iterator[Subject]:
    """A subject that answers."""
    subject.port = free_port()
    port = str(subject.port)
    command = [part.replace("{port}", port) for part in subject.command]
    settings = {name: value.replace("{port}", port) for name, value in subject.environment.items()}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=PEERS,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(subject, process)
            yield subject
        except RuntimeError:
            log.seek(0)
            print(log.read().decode(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(subject: Subject, process: subprocess.Popen, seconds: float = 120) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if process.poll() is not None:
            break
        asked = urllib.request.Request(
            f"http://127.0.0.1:{subject.port}{subject.path}",
            subject.body,
            {"content-type": "application/json"} | subject.headers,
        )
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{subject.name} does not answer")


def found(python: str, modules: str) -> bool:
    script = f"import importlib.util, sys; sys.exit(any(importlib.util.find_spec(m) is None for m in {modules.split()!r}))"
    return subprocess.run([python, "-c", script], check=False).returncode == 0


def subjects(home: Path, keyed: Path, peers: str, scratch: Path) -> list[Subject]:
    pointer = read_pointer(FORECAST, home)
    assert pointer is not None
    bundle = str(bundle_folder(FORECAST, pointer.version, home))
    here = {"PYTHONPATH": str(PEERS), "BUNDLE": bundle, "DATA": str(ROOT / "data" / FORECAST)}
    vroom = [sys.executable, "-m", "vroom_api"]

    def settings(record: str, state: Path, auth: str = "off", database: str = "one") -> dict[str, str]:
        return {
            "VROOM_HOME": str(state),
            "VROOM_API_PORT": "{port}",
            "VROOM_RECORD": record,
            "VROOM_AUTH": auth,
            "VROOM_DATABASE_URL": f"sqlite:///{state / f'{record}-{auth}-{database}.db'}",
        }

    key = subprocess.run(
        [str(Path(sys.executable).with_name("litestar")), "keys", "create", "--name", "benchmark"],
        env=os.environ | settings("on", keyed, "on") | {"VROOM_API_PORT": "8000"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    model = str(scratch / "forest")
    records = json.dumps({"dataframe_records": [FEATURES]}).encode()
    return [
        Subject("bare Litestar", [sys.executable, *UVICORN, "bare:app"], here),
        Subject("Vroom, no record", vroom, settings("off", keyed)),
        Subject("Vroom", vroom, settings("on", keyed)),
        Subject(
            "Vroom, by name",
            vroom,
            settings("on", keyed, database="name"),
            path=f"/forecasts/{FORECAST}/predict",
        ),
        Subject(WORKERS, vroom, settings("on", keyed, database="workers") | {"VROOM_WORKERS": "2"}),
        Subject(f"{WORKERS}, no record", vroom, settings("off", keyed) | {"VROOM_WORKERS": "2"}),
        Subject(
            "Vroom, with keys", vroom, settings("on", keyed, "on"), headers={"authorization": f"Bearer {key}"}
        ),
        Subject("FastAPI + ONNX", [peers, *UVICORN, "fastapi_onnx:app"], here, needs="fastapi onnxruntime"),
        Subject(
            "FastAPI + sklearn",
            [peers, *UVICORN, "fastapi_sklearn:app"],
            here,
            needs="fastapi sklearn pandas",
            slow=True,
        ),
        Subject(
            "mlflow models serve",
            [
                "sh",
                "-c",
                f"[ -d {model} ] || {peers} mlflow_model.py {model}; "
                f"exec {peers} -m mlflow models serve -m {model} --env-manager local -h 127.0.0.1 -p {{port}}",
            ],
            here | {"PATH": f"{Path(peers).parent}:{os.environ['PATH']}"},
            path="/invocations",
            body=records,
            needs="mlflow sklearn flask",
            slow=True,
        ),
        Subject(
            "Ray Serve design",
            [peers, "ray_design.py", "{port}"],
            here,
            needs="ray fastapi sklearn",
            slow=True,
        ),
    ]


def fsync_seconds(folder: Path, times: int = 200) -> float:
    """The median time of a small write that reaches the disk."""
    taken = []
    with open(folder / "fsync", "wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    (folder / "fsync").unlink()
    return sorted(taken)[times // 2]


def measure(every: list[Subject], rounds: int, seconds: float) -> None:
    """Every subject once in every round.

    The quick ones run throughout. A slow one is started anew for its turn, because idle workers of MLflow
    and Ray take processor time from the others.
    """

    def turn(subject: Subject) -> None:
        for clients in (1, MANY):
            before = subject.measured.get(clients, Measured())
            subject.measured[clients] = before + subject.ask(clients, seconds)

    with contextlib.ExitStack() as stack:
        for subject in every:
            if not subject.slow:
                stack.enter_context(serving(subject))
                subject.ask(MANY, 0.5)  # warm
        for number in range(rounds):
            for subject in every:
                if subject.slow:
                    with serving(subject):
                        subject.ask(MANY, 0.5)
                        turn(subject)
                else:
                    turn(subject)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)


def batch_rate(subject: Subject, seconds: float) -> float:
    """Rows a second of batches of 1,000, one after the other."""
    subject = Subject(
        subject.name,
        subject.command,
        subject.environment,
        "/predict/batch",
        json.dumps([LISTING] * 1000).encode(),
    )
    with serving(subject):
        subject.ask(1, 0.5)
        return 1000 * subject.ask(1, seconds).rate


def show(measured: list[Subject]) -> None:
    print(f"\n{'':22}{'1 client':>30}{'32 clients':>34}")
    print(f"{'':22}" + f"{'p50 ms':>10}{'p99 ms':>10}{'1/s':>10}{'':4}" * 2 + "errors")
    for subject in measured:
        cells = "".join(
            f"{1000 * one.p50:10.2f}{1000 * one.p99:10.2f}{one.rate:10.0f}{'':4}"
            for one in (subject.measured[1], subject.measured[MANY])
        )
        errors = subject.measured[1].errors | subject.measured[MANY].errors
        print(f"{subject.name:22}{cells}{errors or 'none'}")


def targets(
    by_name: dict[str, Subject], fsync: float, rows: float, kept_rows: float
) -> list[tuple[str, float, float, bool]]:
    """What was promised: what, the figure, the limit, and whether a smaller figure is the better one."""
    bare, free, kept = (by_name[name].measured for name in ("bare Litestar", "Vroom, no record", "Vroom"))
    found = [
        ("no record, p50 at 1 client ÷ bare", free[1].p50 / bare[1].p50, 1.3, True),
        ("no record, 1/s at 32 clients ÷ bare", free[MANY].rate / bare[MANY].rate, 0.9, False),
        ("no record, p99 at 32 clients ÷ bare", free[MANY].p99 / bare[MANY].p99, 1.5, True),
        ("record, 1/s at 32 clients ÷ bare", kept[MANY].rate / bare[MANY].rate, 0.85, False),
        (
            "by name, 1/s at 32 clients ÷ short route",
            by_name["Vroom, by name"].measured[MANY].rate / kept[MANY].rate,
            0.95,
            False,
        ),
        ("record, p50 at 1 client (ms)", 1000 * kept[1].p50, 1000 * (bare[1].p50 + 2 * fsync), True),
        ("rows/s of 1,000-row batches, no record", rows, 100_000, False),
        ("rows/s of 1,000-row batches, record", kept_rows, 100_000, False),
    ]
    for name in ("mlflow models serve", "Ray Serve design"):
        if name in by_name:
            # A peer that answered nothing was not measured: nan holds no target.
            ratio = free[MANY].rate / (by_name[name].measured[MANY].rate or float("nan"))
            found.append((f"1/s at 32 clients ÷ {name}", ratio, 100, False))
    errors = sum(sum(one.errors.values()) for measured in (bare, free, kept) for one in measured.values())
    return [*found, ("errors of bare and Vroom", errors, 0, True)]


def on_schedule(latencies: list[float], pause: float) -> list[float]:
    """Latencies as callers on schedule see them.

    A caller that waits longer than its pause sends less; what it did not send would have waited as well,
    each a pause less than the one before. Without them a stall hides itself.
    """
    return [late for latency in latencies for late in (latency, *np.arange(latency - pause, 0, -pause))]


def beside(subject: Subject, command: str, seconds: float, clients: int = 8, rate: float = 200) -> None:
    """p50 and p99 at 200 requests a second: idle, beside a command, and beside it at low priority."""
    with serving(subject):
        subject.ask(clients, 1, rate=rate)
        for what, prefix in (("idle", None), ("beside it", ""), ("beside it, nice 19", "nice -n 19 ")):
            process = None
            if prefix is not None:
                process = subprocess.Popen(shlex.split(prefix + command), cwd=ROOT, start_new_session=True,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
                time.sleep(12)  # imports first, work then
            one = subject.ask(clients, seconds, rate=rate)
            ended = "" if process is None or process.poll() is None else " (the command had ended)"
            waits = on_schedule(one.latencies, clients / rate)
            print(
                f"200/s {what:20} p50 {1000 * np.median(waits):7.2f} ms  "
                f"p99 {1000 * np.quantile(waits, 0.99):7.2f} ms  answered {one.rate:4.0f}/s  "
                f"errors {one.errors or 'none'}{ended}"
            )
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def champion_home(given: Path, scratch: Path) -> Path:
    """The given home if it has a champion, else one under `scratch` in which a champion is trained."""
    if read_pointer(FORECAST, given) is not None:
        return given
    print(f"{given} has no champion: one is trained, which takes a minute", file=sys.stderr)
    home = scratch / "trained"
    command = [sys.executable, "-m", "vroom_assets", "materialize"]
    made = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"VROOM_HOME": str(home)}, capture_output=True, check=False
    )
    if made.returncode:
        raise SystemExit(f"no champion was trained:\n{made.stderr.decode(errors='replace')[-2000:]}")
    return home


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", type=Path, default=ROOT / "var")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--while", dest="command", default="")
    options = parser.parse_args()
    given = options.home.absolute()
    with tempfile.TemporaryDirectory(dir=given if given.is_dir() else None) as folder:
        scratch = Path(folder)
        home = champion_home(given, scratch)
        keyed = scratch / "home"  # the champion, with databases of its own
        keyed.mkdir()
        (keyed / FORECAST).symlink_to(home / FORECAST)
        every = [
            subject
            for subject in subjects(home, keyed, options.peers_python, scratch)
            if not subject.needs or found(options.peers_python, subject.needs)
        ]
        fsync = fsync_seconds(scratch)
        measure(every, options.rounds, options.seconds)
        show(every)
        by_name = {subject.name: subject for subject in every}
        rows = batch_rate(by_name["Vroom, no record"], options.seconds)
        with_record = batch_rate(by_name["Vroom"], options.seconds)
        print(f"\nfsync of 4 kB, median: {1000 * fsync:.2f} ms")
        for name, one in ((WORKERS, "Vroom"), (f"{WORKERS}, no record", "Vroom, no record")):
            factor = by_name[name].measured[MANY].rate / by_name[one].measured[MANY].rate
            print(f"{name}: {factor:.2f} times the requests/s of one at 32 clients")
        print(f"1,000-row batches: {rows:,.0f} rows/s without record, {with_record:,.0f} with\n")
        missed = 0
        for what, figure, limit, smaller in targets(by_name, fsync, rows, with_record):
            held = figure <= limit if smaller else figure >= limit
            missed += not held
            print(
                f"{'yes' if held else 'NO ':4}{what:45}{figure:12,.2f}  {'≤' if smaller else '≥'} {limit:,.2f}"
            )
        for name in PEER_NAMES:
            if name not in by_name:
                print(f"--  {name}: not installed: skipped")
        if options.command:
            beside(by_name["Vroom"], options.command, 15)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
