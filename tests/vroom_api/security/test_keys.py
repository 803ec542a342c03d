"""API keys: made once, kept as digests, revoked for ever."""

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from vroom_api.contract.tables import open_database
from vroom_api.security.keys import (
    BadKey,
    Grant,
    Keyring,
    Role,
    create_first_admin,
    create_key,
    list_keys,
    revoke_key,
)


@pytest.fixture
def database(tmp_path: Path) -> sa.Engine:
    return open_database(f"sqlite:///{tmp_path / 'serving.db'}")


def found(database: sa.Engine, key: str) -> Grant | None:
    async def lookup() -> Grant | None:
        ring = Keyring(lambda: database)
        await ring.refresh()
        return ring.find(key)

    return asyncio.run(lookup())


def test_a_key_is_found_with_its_name_and_role(database: sa.Engine) -> None:
    key = create_key(database, "shop", Role.OPERATOR)
    grant = found(database, key)
    assert grant is not None
    assert (grant.name, grant.role) == ("shop", Role.OPERATOR)
    assert found(database, key[:-1] + ("a" if key[-1] != "a" else "b")) is None
    assert found(database, "") is None


def test_the_database_does_not_hold_the_key(database: sa.Engine, tmp_path: Path) -> None:
    key = create_key(database, "shop", Role.VIEWER)
    database.dispose()
    secret = key.split("_", 2)[2].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_two_keys_never_share_a_name_even_after_revocation(database: sa.Engine) -> None:
    create_key(database, "shop", Role.VIEWER)
    revoke_key(database, "shop")
    with pytest.raises(BadKey, match="a key named 'shop' already"):
        create_key(database, "shop", Role.VIEWER)


@pytest.mark.parametrize("name", ["a/b", "/", ".", ".."])
def test_a_name_that_no_path_can_hold_is_refused(database: sa.Engine, name: str) -> None:
    with pytest.raises(BadKey, match="cannot stand in the path of /keys/<name>/revoke"):
        create_key(database, name, Role.VIEWER)


@pytest.mark.parametrize("name", ["", " shop", "x" * 65, "a\nb"])
def test_a_name_that_is_none_is_refused(database: sa.Engine, name: str) -> None:
    with pytest.raises(BadKey, match="name: use 1 to 64 printable characters"):
        create_key(database, name, Role.VIEWER)


def test_a_revoked_key_is_not_found(database: sa.Engine) -> None:
    key = create_key(database, "shop", Role.VIEWER)
    assert revoke_key(database, "shop").state == "revoked"
    first = revoke_key(database, "shop").revoked_at
    assert [one.revoked_at for one in list_keys(database)] == [first]
    assert found(database, key) is None
    with pytest.raises(BadKey, match="no key has the name or id 'nobody'"):
        revoke_key(database, "nobody")


def test_an_expired_key_is_not_found(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create_key(database, "shop", Role.VIEWER, days=1)
    assert found(database, key) is not None
    later = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: later)
    assert found(database, key) is None
    with pytest.raises(BadKey, match="days: use a number above 0"):
        create_key(database, "other", Role.VIEWER, days=0)


def test_when_a_key_was_used_is_written(database: sa.Engine) -> None:
    key = create_key(database, "shop", Role.VIEWER)

    async def use() -> None:
        ring = Keyring(lambda: database)
        async with ring.kept():
            assert ring.find(key)

    assert list_keys(database)[0].last_used_at is None
    asyncio.run(use())
    assert list_keys(database)[0].last_used_at is not None


def test_known_keys_stay_valid_while_the_database_does_not_answer(database: sa.Engine) -> None:
    key = create_key(database, "shop", Role.VIEWER)
    answers = True

    def answering() -> sa.Engine:
        if not answers:
            raise OSError("no route to host")
        return database

    async def scenario() -> None:
        nonlocal answers
        ring = Keyring(answering)
        await ring.refresh()
        answers = False
        await ring.refresh()
        assert ring.find(key)

    asyncio.run(scenario())


def test_the_first_admins_key_is_in_a_file_of_its_owner_alone(database: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "home" / "admin.key"
    before = os.umask(0)
    try:
        assert create_first_admin(database, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    grant = found(database, path.read_text().strip())
    assert grant is not None
    assert grant.role is Role.ADMIN
    assert not create_first_admin(database, path)
    assert [one.name for one in list_keys(database)] == ["first admin"]
    assert [each.name for each in path.parent.iterdir()] == ["admin.key"]


def test_of_many_that_start_at_once_one_makes_the_key(tmp_path: Path) -> None:
    path, made = tmp_path / "admin.key", []

    def start() -> None:
        made.append(create_first_admin(open_database(f"sqlite:///{tmp_path / 'serving.db'}"), path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert found(open_database(f"sqlite:///{tmp_path / 'serving.db'}"), path.read_text().strip())


def test_a_rate_holds_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    grant = Grant("", "shop", Role.VIEWER, None)
    passed = 0
    for _ in range(1000):
        passed += grant.take(10.0) == 0.0
        now += 0.01
    assert 100 <= passed <= 111  # ten seconds at ten a second, after a full bucket
    slow = Grant("", "slow", Role.VIEWER, None)
    assert slow.take(0.5) == 0.0
    assert slow.take(0.5) == pytest.approx(2.0)


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    def keys_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("litestar")), "keys", *arguments],
            env=os.environ | {"VROOM_HOME": str(tmp_path), "COLUMNS": "200"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert "There are no keys" in keys_command("list").stdout
    made = keys_command("create", "--name", "shop", "--role", "operator", "--days", "30")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("vroom_")
    listed = keys_command("list").stdout
    assert "shop" in listed
    assert "operator" in listed
    assert made.stdout.strip() not in listed
    again = keys_command("create", "--name", "shop")
    assert again.returncode == 1
    assert "a key named 'shop' already" in again.stderr
    assert keys_command("revoke", "shop").returncode == 0
    assert "revoked" in keys_command("list").stdout
    with sqlite3.connect(tmp_path / "serving.db") as connection:
        assert connection.execute("select count(*) from api_keys").fetchone() == (1,)
        connection.execute("update vroom_version set version_num = '9999'")
    refused = keys_command("list")
    assert refused.returncode == 1
    assert "version '9999'" in re.sub(r"[\s│]+", " ", refused.stderr)  # it is wrapped, in a frame
    assert "Traceback" not in refused.stderr
