"""Dagster's daemon dies: the service, which does not depend on it, notices and says so."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import golden_of, graph, manifest, write
from tests.support.project import ROOT
from tests.support.receivers import webhook
from tests.support.service import environment, running
from tests.support.system import wait
from vroom_assets.declaration import scaffold

pytestmark = pytest.mark.slow

FORECAST = "deliveries"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A champion of a forecast whose CSVs are not there yet: its sensor ticks, and starts no run."""
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    scaffold.write(tmp_path / "defs", FORECAST)
    (tmp_path / "data").mkdir(exist_ok=True)
    for file in (tmp_path / "data").rglob("*.csv"):
        file.unlink()
    home = tmp_path / "home"
    write(home, FORECAST, manifest(1, forecast=FORECAST), graph(1.0), golden_of(1.0))
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_bytes((ROOT / "vroom_assets" / "dagster.yaml").read_bytes())
    return home


@pytest.fixture
def daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    variables = environment(home, DEFS=home.parent / "defs", DATA=home.parent / "data", FORECAST=FORECAST)
    with open(home.parent / "daemon.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", "vroom_assets.definitions"],
            env=variables | {"DAGSTER_HOME": str(home / "dagster"), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
        process.wait(60) if how == signal.SIGKILL else None


def test_a_daemon_that_is_killed_is_an_alert_that_reaches_somebody(
    home: Path, daemon: subprocess.Popen[bytes]
) -> None:
    with webhook() as hook, running(home, FORECAST=FORECAST, ALERT_URLS=hook.url()) as (address, _):

        def attended() -> str | None:
            found: str | None = httpx.get(f"{address}/health").json()["attended_at"]
            return found

        wait("a tick", attended, 120)
        assert hook.taken == []
        os.killpg(daemon.pid, signal.SIGKILL)
        seconds = wait("the alert reaches its receiver", lambda: hook.taken, 100)
        print(f"\nfrom the daemon's end to its alert: {seconds:.0f} s")
        (alert,) = httpx.get(f"{address}/alerts").json()["alerts"]
        assert (alert["forecast"], alert["kind"], alert["severity"]) == (FORECAST, "unattended", "critical")
        assert hook.titles() == [f"[critical] {FORECAST}: unattended"]
        assert "Dagster's daemon or code server stands still" in hook.taken[0]["text"]
        assert httpx.get(f"{address}/livez").status_code == 200
