"""A damaged serving database is found at the start of the service, and of the system."""

import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.support.bundles import EXAMPLE, publish
from tests.support.service import environment, free_port, running
from vroom_api.contract.damage import LARGEST_AT_START, DamagedDatabase, check_serving_database, damage_of
from vroom_api.contract.tables import open_database, predictions

PAGE = 4096


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A serving database with so many predictions that they fill pages of their own."""
    path = tmp_path / "serving.db"
    engine = open_database(f"sqlite:///{path}")
    row = {
        column.name: "x" * 40 if isinstance(column.type, sa.String | sa.Text) else 1
        for column in predictions.columns
    }
    moment = sa.func.current_timestamp()
    given = {"inputs": {"price": 1.0}, "features": {"price": 1.0}, "tags": None}
    with engine.begin() as connection:
        for number in range(400):
            values = row | given | {"id": f"{number:036}", "time": moment}
            connection.execute(predictions.insert().values(values))
    engine.dispose()
    path.chmod(0o600)
    return path


def overwrite_a_page(path: Path) -> None:
    """What a bad block does, to a page of the predictions, which nothing reads at a start."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    row = path.read_bytes().index(b'{"price": 1.0}', 100_000)  # the pages before may be roots
    with open(path, "r+b") as file:
        file.seek(row // PAGE * PAGE)
        file.write(b"\xff" * PAGE)


def start(module: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(module)],
        env=environment(home, API_PORT=free_port()),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_damaged_page_in_the_middle_ends_the_start_with_how_to_go_on(recorded: Path) -> None:
    assert damage_of(recorded) is None
    overwrite_a_page(recorded)
    for module, name in (
        ("vroom_api", "Vroom's service"),
        ("vroom_assets", "Vroom"),
        ("vroom_assets materialize", "Vroom"),
    ):
        done = start(module, recorded.parent)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        line = done.stderr
        assert line.startswith(f"{name} cannot start: {recorded} is damaged (")
        assert "It holds the record of predictions, outcomes, the ledger and the digests of API keys." in line
        assert "put it back from a backup (as `python -m vroom_api backup <file>` makes them)" in line
        assert f"`mv {recorded} {recorded}.damaged`, and so its -wal and -shm" in line


def test_the_service_goes_on_without_the_one_that_was_moved_away(recorded: Path) -> None:
    overwrite_a_page(recorded)
    publish(recorded.parent, 1)
    for path in recorded.parent.glob("serving.db*"):
        path.rename(path.with_name(path.name.replace("serving.db", "serving.db.damaged")))
    with running(recorded.parent) as (address, _):
        assert httpx.post(f"{address}/predict", json=EXAMPLE).status_code == 200


def test_a_large_one_is_read_beside_the_service_which_says_so_in_its_log(recorded: Path) -> None:
    with closing(sqlite3.connect(recorded)) as connection:
        connection.execute("create table filler (content blob)")
        many = [(LARGEST_AT_START // 60,)] * 61
        connection.executemany("insert into filler values (zeroblob(?))", many)
        connection.commit()
    overwrite_a_page(recorded)
    publish(recorded.parent, 1)
    with running(recorded.parent) as (address, _):
        assert httpx.post(f"{address}/predict", json=EXAMPLE).status_code == 200
        until = time.monotonic() + 60
        while f"{recorded} is damaged (" not in (log := (recorded.parent / "log").read_text()):
            assert time.monotonic() < until, log
            time.sleep(0.1)
        assert "put it back from a backup" in log


def test_what_is_locked_or_not_there_is_not_damaged(recorded: Path, tmp_path: Path) -> None:
    check_serving_database(f"sqlite:///{tmp_path / 'none.db'}")
    check_serving_database("sqlite://")
    with closing(sqlite3.connect(recorded)) as connection:
        connection.execute("begin exclusive")
        check_serving_database(f"sqlite:///{recorded}")


def test_a_pipe_in_its_place_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "serving.db")
    with pytest.raises(DamagedDatabase, match="it is not a regular file"):
        check_serving_database(f"sqlite:///{tmp_path / 'serving.db'}")


def test_a_server_looks_after_itself() -> None:
    check_serving_database("postgresql+psycopg://nobody@127.0.0.1:1/none")
