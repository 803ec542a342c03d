"""A backup holds all that was acknowledged before it began, and is whole or not there."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.record import LOAD, stored
from vroom_api.__main__ import main
from vroom_api.contract.tables import open_database
from vroom_api.record.backup import CannotBackUp, back_up

Serve = Callable[..., TestClient[Any]]


@pytest.mark.slow
def test_all_that_was_acknowledged_before_it_began_is_in_a_backup_taken_under_load(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    load = subprocess.Popen([sys.executable, "-c", LOAD, f"sqlite:///{path}"], stdout=subprocess.PIPE)
    assert load.stdout is not None
    acknowledged: set[str] = set()
    try:
        for attempt in range(3):
            acknowledged |= {load.stdout.readline().decode().strip() for _ in range(500)}
            backup = back_up(f"sqlite:///{path}", tmp_path / f"{attempt}.db")
            assert acknowledged <= stored(backup.path)
            assert backup.rows["predictions"] == len(stored(backup.path))
    finally:
        load.kill()
        load.communicate()


def test_a_backup_has_what_stands_in_the_log_and_the_service_starts_from_it(
    state: Path, serve: Serve, tmp_path: Path
) -> None:
    publish(state, 1)
    client = serve(record=True)
    made = {client.post("/predict", json=EXAMPLE).json()["prediction_id"] for _ in range(20)}
    backup = back_up(f"sqlite:///{state / 'serving.db'}", tmp_path / "kept" / "serving.db")
    assert [one.name for one in backup.path.parent.iterdir()] == ["serving.db"]  # one file, without a log
    assert stored(backup.path) == made
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(backup.path, again / "serving.db")
    engine = open_database(f"sqlite:///{again / 'serving.db'}")
    assert stored(again / "serving.db") == made
    engine.dispose()


def test_a_backup_waits_for_no_writer_and_no_writer_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    open_database(f"sqlite:///{path}").dispose()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        back_up(f"sqlite:///{path}", tmp_path / "backup.db")
        writer.execute("COMMIT")


def test_the_command_says_what_it_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    open_database(f"sqlite:///{tmp_path / 'serving.db'}").dispose()
    target = tmp_path / "backup.db"
    target.write_text("of yesterday")
    monkeypatch.setattr(sys, "argv", ["vroom_api", "backup", str(target)])
    mask = os.umask(0o022)
    try:
        assert main() == 0
    finally:
        os.umask(mask)
    message = capsys.readouterr().out
    assert "0 predictions, 0 outcomes, 0 ledger, 0 api_keys; read back and whole" in message
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    monkeypatch.setattr(sys, "argv", ["vroom_api", "restore"])
    assert main() == 2
    assert "`backup <file>`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "name", "reason"),
    [
        (
            "postgresql+psycopg://vroom:secret@db/vroom",
            "b",
            r"pg_dump --format=custom --file=\S+b \S+://vroom:\*\*\*@db",
        ),
        ("sqlite:///{home}/nothing.db", "b", "is not there"),
        ("sqlite:///{home}/serving.db", "serving.db", "is the serving database itself"),
        ("sqlite:///{home}/serving.db", "link", "is the serving database itself"),
        ("sqlite:///{home}/serving.db", "serving.db-wal", "is the serving database itself"),
        ("sqlite:///{home}/serving.db", "folder", "is a folder"),
        ("sqlite:///{home}/serving.db", "file/b", "cannot be copied"),
        ("sqlite:///{home}/damaged.db", "kept", "cannot be copied"),
    ],
)
def test_what_cannot_be_backed_up_is_refused_with_what_to_do(
    tmp_path: Path, url: str, name: str, reason: str
) -> None:
    open_database(f"sqlite:///{tmp_path / 'serving.db'}").dispose()
    (tmp_path / "damaged.db").write_bytes(b"x" * 9000)
    (tmp_path / "link").symlink_to(tmp_path / "serving.db")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "kept").write_text("of yesterday")
    with pytest.raises(CannotBackUp, match=reason) as refusal:
        back_up(url.format(home=tmp_path), tmp_path / name)
    assert "secret" not in str(refusal.value)
    assert (tmp_path / "kept").read_text() == "of yesterday"
    assert [one for one in tmp_path.iterdir() if one.name.startswith(".")] == []
