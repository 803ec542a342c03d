"""Damaged databases of a home are found before anything starts."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.support import environment
from tests.support.project import ROOT
from vroom_api.contract.damage import DamagedDatabase
from vroom_assets.damage import DATABASES, check_databases, is_damage, read_through, set_aside
from vroom_assets.supervisor import prepare_home
from vroom_assets.tracking import connect


@pytest.fixture(scope="module")
def worked_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which Dagster and MLflow have worked; tests take copies of it."""
    folder = tmp_path_factory.mktemp("worked") / "home"
    with environment.of_its_own(VROOM_HOME=str(folder)):
        prepare_home()
        with dg.DagsterInstance.get() as instance:
            instance.add_run(dg.DagsterRun("a_job", "1"))
            instance.all_instigator_state()
            instance.get_latest_materialization_event(dg.AssetKey("an_asset"))
        connect().search_registered_models()
    return folder


@pytest.fixture
def used(home: Path, worked_in: Path) -> Path:
    """A home in which Dagster and MLflow have worked."""
    shutil.copytree(worked_in, home, dirs_exist_ok=True)
    prepare_home()
    return home


def damage(path: Path) -> None:
    """Overwrite the second page of a SQLite file, as a bad block of the disk does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def test_whole_databases_and_missing_ones_are_passed(used):
    assert [database.path for database in DATABASES if not (used / database.path).is_file()] == []
    check_databases(used)
    check_databases(used / "nothing here")


def test_a_damaged_one_is_named_with_what_it_holds_and_how_to_go_on(used):
    for database in DATABASES:
        path = used / database.path
        whole = path.read_bytes()
        for broken in (b"not a database" * 1000, None):
            damage(path) if broken is None else path.write_bytes(broken)
            with pytest.raises(DamagedDatabase) as raised:
                check_databases(used)
            assert len(str(raised.value).splitlines()) == 1
            for part in (str(path), database.holds, f"mv {path} {path}.damaged", database.without):
                assert part in str(raised.value)
            path.write_bytes(whole)
    check_databases(used)


def test_the_system_goes_on_without_the_one_that_was_moved_away(used):
    for database in DATABASES:
        for path in (used / database.path).parent.glob(f"{Path(database.path).name}*"):
            path.rename(path.with_name(f"damaged-{path.name}"))
        with dg.DagsterInstance.get() as instance:
            instance.get_runs()
            instance.all_instigator_state()
            instance.get_latest_materialization_event(dg.AssetKey("an_asset"))
        assert connect().search_registered_models() == []


def test_a_start_ends_with_one_message(used):
    path = used / "mlflow" / "mlflow.db"
    path.write_bytes(b"not a database" * 1000)
    for arguments in ([], ["materialize"]):
        done = subprocess.run(
            [sys.executable, "-m", "vroom_assets", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"Vroom cannot start: {path} is damaged (file is not a database)")
        assert len(done.stderr.splitlines()) == 1


def test_a_damaged_warehouse_is_told_from_one_that_is_in_use(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with closing(duckdb.connect(path)) as connection:
        connection.execute("create table vans as select range as van, hash(range) as code from range(200000)")
    with closing(duckdb.connect(path)) as connection:
        read_through(connection)
        other = "import duckdb, sys\ntry: duckdb.connect(sys.argv[1])\nexcept duckdb.Error as e: print(e)"
        in_use = subprocess.run([sys.executable, "-c", other, path], capture_output=True, text=True).stdout
    assert "lock" in in_use
    assert not is_damage(duckdb.IOException(in_use))
    whole = path.read_bytes()
    for broken in (
        b"",
        b"not a database",
        whole[:5000],
        whole[: len(whole) // 2],
        whole[:300_000] + bytes(9999) + whole[309_999:],
    ):
        path.write_bytes(broken)
        with pytest.raises(duckdb.Error) as raised, closing(duckdb.connect(path)) as connection:
            read_through(connection)
        assert is_damage(raised.value)


def test_what_is_set_aside_takes_its_log_along(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(b"1")
    Path(f"{path}.wal").write_bytes(b"2")
    aside = set_aside(path)
    assert sorted(tmp_path.iterdir()) == [aside, Path(f"{aside}.wal")]
    assert aside.read_bytes() == b"1"
