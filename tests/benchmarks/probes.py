"""How long do probes and single predictions wait while many clients send full batches?

    python tests/benchmarks/probes.py [--seconds 10] [--clients 50] [--rows 1000] [--home var]

The service runs as it is deployed, with its record. Every 20 ms a probe comes on a new connection, as a balancer's
does. Memory is that of the service, before and at its largest. Exits with 1 where the 99th percentile of the
probes is above 100 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from load import Measured, ask, request
from serving import LISTING, ROOT, Subject, champion_home, serving

TARGET = 0.1  # seconds


def probe(port: int, stop: threading.Event, taken: list[float]) -> None:
    while not stop.is_set():
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b'{"alive":true}'
        connection.close()
        taken.append(time.perf_counter() - began)
        stop.wait(0.02)


def under_load(
    subject: Subject, clients: int, rows: int, seconds: float
) -> tuple[list[float], Measured, float]:
    """Seconds of the probes, the batches, and the largest memory in MB."""
    stop, taken = threading.Event(), []
    process = next(
        one.pid
        for one in psutil.net_connections()
        if one.laddr and one.laddr.port == subject.port and one.pid
    )
    largest = 0.0

    def watch() -> None:
        nonlocal largest
        while not stop.wait(0.1):
            largest = max(largest, psutil.Process(process).memory_info().rss / 1e6)

    threads = [
        threading.Thread(target=probe, args=(subject.port, stop, taken)),
        threading.Thread(target=watch),
    ]
    for thread in threads:
        thread.start()
    if clients:
        body = json.dumps([LISTING] * rows).encode()
        found = ask(
            subject.port, request(subject.port, "/predict/batch", body), clients=clients, seconds=seconds
        )
    else:
        time.sleep(seconds)
        found = Measured()
    stop.set()
    for thread in threads:
        thread.join()
    return taken, found, largest


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--home", type=Path, default=ROOT / "var")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = champion_home(options.home.absolute(), Path(folder))
        settings = {
            "VROOM_HOME": str(home),
            "VROOM_API_PORT": "{port}",
            "VROOM_DATABASE_URL": f"sqlite:///{folder}/serving.db",
        }
        subject = Subject("Vroom", [sys.executable, "-m", "vroom_api"], settings)
        p99 = 0.0
        with serving(subject):
            for clients in (0, options.clients):
                taken, found, largest = under_load(subject, clients, options.rows, options.seconds)
                p99 = float(np.quantile(taken, 0.99))
                print(
                    f"{clients:3} clients of {options.rows} rows: probes p50 {1000 * np.median(taken):.1f} ms, "
                    f"p99 {1000 * p99:.1f} ms, slowest {1000 * max(taken):.1f} ms; "
                    f"{options.rows * found.rate:,.0f} rows/s, errors {found.errors or 'none'}; RSS {largest:.0f} MB"
                )
    print(f"{'held' if p99 < TARGET else 'MISSED'}: p99 of the probes below {1000 * TARGET:.0f} ms")
    return int(p99 >= TARGET)


if __name__ == "__main__":
    sys.exit(main())
