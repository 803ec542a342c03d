"""What Vroom keeps is read by its owner alone, unless an operator says otherwise."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import EXAMPLE, publish
from tests.support.markets import publish_markets
from tests.support.service import running
from vroom_api.contract.environment import DEFAULT_UMASK
from vroom_api.contract.permissions import keep_private


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """That of most machines, whatever a test sets."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(home: Path, mask: int = 0o077) -> list[str]:
    return sorted(
        f"{path} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (home, *home.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & mask
    )


def test_an_existing_home_is_closed_to_others_once_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    publish_markets(home)
    for name in ("serving.db", "serving.db-wal", "dagster/runs.db", "mlflow/artifacts/1/model", "admin.key"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    assert len(open_to_others(home)) > 15
    assert keep_private(home, DEFAULT_UMASK) > 15
    assert open_to_others(home) == []
    assert caplog.text.count("were open to other users") == 1
    assert keep_private(home, DEFAULT_UMASK) == 0


def test_what_is_not_ours_in_the_folder_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").touch()
    (tmp_path / "dagster").symlink_to(tmp_path / "thesis")
    keep_private(tmp_path, DEFAULT_UMASK)
    assert stat.S_IMODE((tmp_path / "thesis").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "thesis" / "text").stat().st_mode) == 0o644


def test_a_group_reads_where_an_operator_lets_it(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    keep_private(home, 0o027)
    assert open_to_others(home, 0o027) == []
    assert open_to_others(home, 0o050) != []


def test_nothing_that_a_service_writes_is_open_to_others(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    with running(home, AUTH="on") as (address, _):
        (home / "log").chmod(0o600)  # the test's own
        key = (home / "admin.key").read_text().strip()
        answer = httpx.post(f"{address}/predict", json=EXAMPLE, headers={"x-api-key": key})
        assert answer.status_code == 200
        assert open_to_others(home) == []
