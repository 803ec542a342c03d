"""The serving database is the file that has its name, also when that becomes another while the service runs."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.record import stored
from tests.support.service import running, wait_for
from vroom_api.contract.tables import UnusableDatabase, open_database
from vroom_api.record.database import FollowedDatabase, connect

Serve = Callable[..., TestClient[Any]]
FILES = ("serving.db", "serving.db-wal", "serving.db-shm")


def delete(home: Path) -> None:
    for name in FILES:
        (home / name).unlink()


def delete_only_the_database(home: Path) -> None:
    (home / "serving.db").unlink()


def move(home: Path) -> None:
    (home / "serving.db").rename(home / "moved.db")


def replace(home: Path) -> None:
    open_database(f"sqlite:///{home / 'other.db'}").dispose()
    (home / "other.db").rename(home / "serving.db")


def delete_the_log(home: Path) -> None:
    (home / "serving.db-wal").unlink()


def delete_the_log_and_its_index(home: Path) -> None:
    (home / "serving.db-wal").unlink()
    (home / "serving.db-shm").unlink()


FAULTS = [
    delete,
    delete_only_the_database,
    move,
    replace,
    delete_the_log,
    delete_the_log_and_its_index,
]
KEEPS = (delete_the_log, delete_the_log_and_its_index)  # what was recorded before


def in_the_file(path: Path) -> set[str]:
    """What somebody finds who opens the file by its name: a process of its own would."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        copy.with_name(copy.name + suffix).write_bytes(source.read_bytes() if source.exists() else b"")
    found = stored(copy)
    for name in (copy.name, f"{copy.name}-wal", f"{copy.name}-shm"):
        copy.with_name(name).unlink(missing_ok=True)
    return found


def predicted(client: TestClient[Any], count: int) -> set[str]:
    answers = [client.post("/predict", json=EXAMPLE) for _ in range(count)]
    assert {answer.status_code for answer in answers} <= {200, 503}
    return {answer.json()["prediction_id"] for answer in answers if answer.status_code == 200}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_acknowledged_is_in_the_file_that_has_the_name(
    state: Path, serve: Serve, fault: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    publish(state, 1)
    client = serve(record=True)
    before = predicted(client, 20)  # also by the event loop's own connection
    # A start writes too, that a version is loaded: whoever writes at that moment keeps the log from being emptied.
    wait_for(lambda: "model-loaded" in client.get("/events?after=0&wait=0").text)
    fault(state)
    after = predicted(client, 20)
    assert len(after) >= 19
    assert after <= in_the_file(state / "serving.db")
    if fault in KEEPS:
        assert before <= in_the_file(state / "serving.db")
    if fault is move:
        assert before <= in_the_file(state / "moved.db")
    assert "stop the service before you touch its files" in caplog.text
    assert caplog.text.count("was deleted, moved or replaced") == 1
    assert client.get(f"/predictions/{after.pop()}").status_code in (200, 409)
    assert client.get("/ledger").status_code == 200


def test_what_a_thread_gives_back_late_keeps_no_deleted_index_in_use(state: Path) -> None:
    """Whatever connections of their own others make meanwhile."""
    database = FollowedDatabase(f"sqlite:///{state / 'serving.db'}")
    pool = database().pool  # another thread may hold it longer than the engine does
    late = database().connect()
    late.exec_driver_sql("select count(*) from ledger").fetchall()
    own, _ = connect(database())
    own.close()
    late.close()
    delete_the_log_and_its_index(state)
    with database().connect() as connection:
        assert connection.exec_driver_sql("select count(*) from ledger").scalar() == 0
    assert pool.checkedin() == 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_under_load_nothing_acknowledged_after_a_deletion_is_missing(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    acknowledged: list[tuple[float, str]] = []
    statuses: set[int] = set()
    stopped = threading.Event()

    def ask(address: str) -> None:
        with httpx.Client(base_url=address) as client:
            while not stopped.is_set():
                asked = time.monotonic()
                answer = client.post("/predict", json=EXAMPLE)
                statuses.add(answer.status_code)
                if answer.status_code == 200:
                    acknowledged.append((asked, answer.json()["prediction_id"]))

    with running(home) as (address, _), ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(ask, address) for _ in range(4)]
        while len(acknowledged) < 200:
            time.sleep(0.01)
        delete(home)
        deleted = time.monotonic()
        while sum(asked > deleted for asked, _ in acknowledged) < 200:
            time.sleep(0.01)
        stopped.set()
        for client in clients:
            client.result()
        # Killed: what is not in the files is nowhere.
    assert statuses <= {200, 503}
    assert {one for asked, one in acknowledged if asked > deleted} <= in_the_file(home / "serving.db")


def test_a_name_that_holds_no_database_is_a_503_until_it_does(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(record=True)
    predicted(client, 1)
    delete(state)
    (state / "serving.db").mkdir()
    refused = client.post("/predict", json=EXAMPLE)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "log says why" in refused.json()["detail"]
    assert client.get("/readyz").status_code == 503
    (state / "serving.db").rmdir()
    answered = predicted(client, 3)
    assert len(answered) == 3
    assert answered <= in_the_file(state / "serving.db")


@pytest.mark.parametrize("content", [b"not a database", b"x" * 8192])
def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "serving.db"
    path.write_bytes(content)
    with pytest.raises(UnusableDatabase, match="replace it by a backup"):
        open_database(f"sqlite:///{path}")


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "serving.db")
    with pytest.raises(UnusableDatabase, match="not a regular file"):
        open_database(f"sqlite:///{tmp_path / 'serving.db'}")


def test_the_engine_stays_as_long_as_its_file(tmp_path: Path) -> None:
    database = FollowedDatabase(f"sqlite:///{tmp_path / 'serving.db'}")
    first = database()
    assert database() is first
    delete(tmp_path)
    second = database()
    assert second is not first
    assert database() is second
    second.dispose()


def test_threads_that_open_it_at_once_share_one_engine(tmp_path: Path) -> None:
    database = FollowedDatabase(f"sqlite:///{tmp_path / 'serving.db'}")
    with ThreadPoolExecutor(8) as threads:
        assert len({id(engine) for engine in threads.map(lambda _: database(), range(8))}) == 1
    database().dispose()


def test_a_deleted_database_makes_a_first_admin_again(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(record=True, auth=True)
    old = (state / "admin.key").read_text().strip()
    delete(state)

    def status(key: str) -> int:
        return client.post("/predict", json=EXAMPLE, headers={"x-api-key": key}).status_code

    end = time.monotonic() + 30
    while (new := (state / "admin.key").read_text().strip()) == old:
        assert time.monotonic() < end
        time.sleep(0.1)
    while status(new) != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert status(old) == 401
