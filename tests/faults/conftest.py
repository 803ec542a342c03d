"""A disk that fills up in a moment, also for somebody who may not mount one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.flagship import (  # noqa: F401
    empty_instance,
    fast,
    first_champion,
    instance,
    run,
    spec,
    trained,
)
from tests.support.project import ROOT

ANEW = "VROOM_TEST_IN_A_NAMESPACE"  # set where a test runs in a namespace of its own
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 16 MB, or of so many as are asked for; where it cannot be mounted, see `pytest_pyfunc_call`."""
    size = getattr(request, "param", 16)
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode and ANEW in os.environ:
        pytest.fail(f"a small disk cannot be mounted in a namespace: {mounted.stderr}")
    yield folder
    if not mounted.returncode:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test whose disk could not be mounted once more, in a user namespace, where anybody may mount."""
    disk = pyfuncitem.funcargs.get("small_disk")
    if disk is None or disk.is_mount():
        return None
    if shutil.which(NAMESPACE[0]) is None:
        pytest.skip("a small disk is mounted by root or in a Linux user namespace, and here is neither")
    allowed = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"neither root nor a user namespace to mount a small disk: {allowed.stderr.strip()}")
    own = pyfuncitem.funcargs["tmp_path"] / "anew"  # root's, as the namespace sees it, is not ours
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={own}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*NAMESPACE, *test, pyfuncitem.nodeid],
        cwd=ROOT,
        env=environment | {ANEW: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "1 passed" not in done.stdout:
        pytest.fail(f"in a user namespace: {done.stdout[-6000:]}{done.stderr[-2000:]}", pytrace=False)
    return True
