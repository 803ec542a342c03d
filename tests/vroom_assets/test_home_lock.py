"""One system to a home."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.project import ROOT
from vroom_assets import home_lock
from vroom_assets.home_lock import HomeInUse, hold

HOLDER = """
import subprocess, sys
from pathlib import Path
from vroom_assets import home_lock
lock = home_lock.hold(Path(sys.argv[1]), "python -m vroom_assets")
lock.describe({"dagster": "http://127.0.0.1:3001", "api": "http://127.0.0.1:8001"})
wait = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
service = subprocess.Popen(home_lock.sharing(lock.path, "daemon", wait), stdout=subprocess.PIPE)
service.stdout.readline()
print(service.pid, flush=True)
sys.stdin.read()
"""
COMMANDS = ([], ["materialize"])


@contextmanager
def held(folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A process that holds the home, and the process of a service that it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdin
    service = int(process.stdout.readline())
    try:
        yield process, service
    finally:
        process.kill()
        process.wait(20)
        process.stdin.close()  # which the service reads, too
        process.stdout.close()


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "vroom_assets", *arguments],
        cwd=ROOT,
        env=os.environ | {"VROOM_HOME": str(folder), "VROOM_FORECAST": "lap_times"},
        capture_output=True,
        text=True,
    )


def taken(folder: Path) -> str:
    """Why the home cannot be had; nothing where it can."""
    script = "import sys; from pathlib import Path; from vroom_assets.home_lock import hold; hold(Path(sys.argv[1]), 'x')"
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True
    ).stderr


def test_a_second_start_is_refused_and_changes_nothing(home):
    (home / "dagster").mkdir()
    workspace = home / "dagster" / "workspace.yaml"
    workspace.write_text("of the first start")
    with held(home) as (process, _):
        for arguments in COMMANDS:
            done = start(home, *arguments)
            assert done.returncode == 2
            assert (
                f"the home {home} is in use by process {process.pid} (`python -m vroom_assets`" in done.stderr
            )
            assert "dagster http://127.0.0.1:3001, api http://127.0.0.1:8001" in done.stderr
            assert f"`kill {process.pid}`" in done.stderr
            assert "VROOM_HOME=<folder>" in done.stderr
            assert "Traceback" not in done.stderr
        assert "start the job lap_times_retrain on Dagster's page" in done.stderr
    assert workspace.read_text() == "of the first start"
    assert not (home / "mlflow" / "mlflow.db").exists()


def test_what_a_killed_start_left_running_keeps_the_home_and_is_named(home):
    with held(home) as (process, service):
        process.kill()
        process.wait(20)
        assert f"what it started still runs: daemon (process {service})" in (refused := taken(home))
        assert f"`kill {service}`" in refused
        os.kill(service, signal.SIGKILL)
        while taken(home):
            pass


def test_a_child_of_the_holder_takes_part(home):
    lock = hold(home, "python -m vroom_assets")
    try:
        assert taken(home) == ""
    finally:
        os.close(lock.handle)


@pytest.mark.parametrize("left", ["", "4194303\tpython -m vroom_assets\tthen\t\n", "\x00\xff not ours"])
def test_a_file_that_nobody_holds_is_no_obstacle(home, left):
    (home / home_lock.LOCK).write_text(left)
    os.close(hold(home, "python -m vroom_assets").handle)


def test_a_deleted_lock_is_made_anew(home):
    with held(home):
        (home / home_lock.LOCK).unlink()
        os.close(hold(home, "python -m vroom_assets").handle)


def test_of_two_in_one_process_the_second_is_refused(home):
    lock = hold(home, "python -m vroom_assets")
    try:
        with pytest.raises(HomeInUse, match=f"process {os.getpid()}"):
            hold(home, "python -m vroom_assets")
    finally:
        os.close(lock.handle)
