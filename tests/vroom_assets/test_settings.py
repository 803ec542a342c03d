"""What training reads from the environment, and hands down to the processes that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment
from vroom_api.contract.environment import BadSetting
from vroom_assets import settings
from vroom_assets.resources import Warehouse


def test_folders_are_read_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {
        "VROOM_DATA": settings.data_folder,
        "VROOM_DEFS": settings.defs_folder,
        "FASTF1_CACHE": settings.fastf1_cache,
    }
    (tmp_path / "file").touch()
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(tmp_path / name))
        assert folder() == tmp_path / name
        monkeypatch.setenv(name, str(tmp_path / "file"))
        with pytest.raises(BadSetting, match=f"^{name}='.+/file': it is a file; use the path of a folder"):
            folder()


def test_without_variables_state_is_in_the_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTF1_CACHE", raising=False)
    assert settings.fastf1_cache() == home / "fastf1"
    assert settings.tracking_uri() == f"sqlite:///{home}/mlflow/mlflow.db"


def test_dagsters_pages_answer_under_further_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VROOM_DAGSTER_HOSTS", "Pages.example, other.example")
    assert settings.dagster_hosts() == {"127.0.0.1", "localhost", "::1", "pages.example", "other.example"}
    monkeypatch.setenv("VROOM_DAGSTER_HOSTS", "pages.example:3000")
    with pytest.raises(
        BadSetting, match=r"^VROOM_DAGSTER_HOSTS: 'pages\.example:3000': use names without ports"
    ):
        settings.dagster_hosts()


@pytest.mark.parametrize(("given", "format_of_logs"), [("", "console"), ("json", "json")])
def test_what_is_handed_down_is_read_by_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, format_of_logs: str
) -> None:
    script = "import os; print(os.environ['DAGSTER_HOME'], os.environ['VROOM_LOG_FORMAT'])"
    monkeypatch.setenv("VROOM_LOG_FORMAT", given)
    settings.hand_down_home(tmp_path)
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == [str(tmp_path / "dagster"), format_of_logs]


def test_what_is_handed_down_in_a_test_ends_with_it(tmp_path: Path) -> None:
    before = dict(os.environ)
    with environment.of_its_own():
        settings.hand_down_home(tmp_path)
        settings.hand_down({"VROOM_DATA": "elsewhere"})
        assert os.environ["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert dict(os.environ) == before


def test_cores_of_a_training_are_a_number_or_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = settings.available_cores()
    for given, expected in {
        "": max(1, cores - 1),
        "0": max(1, cores - 1),
        "3": 3,
        "100%": cores,
        "50%": max(1, cores // 2),
        "1%": 1,
    }.items():
        monkeypatch.setenv("VROOM_TRAINING_CORES", given)
        assert settings.training_cores() == expected
    for given in ("-1", "0%", "101%", "half", "%", "1.5", "50 %", "1025"):
        monkeypatch.setenv("VROOM_TRAINING_CORES", given)
        with pytest.raises(
            BadSetting, match=r"^VROOM_TRAINING_CORES='.+': use a whole number from 0 to 1024, or"
        ):
            settings.training_cores()


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 1), ("1 100000", 1), ("max 100000", None)])
def test_a_container_has_as_many_cores_as_it_is_given_time_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int | None
) -> None:
    monkeypatch.setattr(settings, "CONTAINER_QUOTA", tmp_path / "none")
    bound = settings.available_cores()
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(settings, "CONTAINER_QUOTA", tmp_path / "cpu.max")
    assert settings.available_cores() == (bound if cores is None else cores)


def test_a_scheduler_is_an_address_with_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.dask_scheduler() is None
    for given in ("tcp://10.0.0.7:8786", "tls://scheduler.example:8786", "tcp://[::1]:8786"):
        monkeypatch.setenv("VROOM_DASK", given)
        assert settings.dask_scheduler() == given
    for given in ("10.0.0.7:8786", "tcp://10.0.0.7", "http://10.0.0.7:8786", "tcp://", "tcp://a:1/path"):
        monkeypatch.setenv("VROOM_DASK", given)
        with pytest.raises(BadSetting, match=r"^VROOM_DASK='.+': use an address like tcp://scheduler:8786"):
            settings.dask_scheduler()


def test_the_memory_of_the_warehouse_is_an_amount(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.warehouse_memory() is None
    for text in ("2", "lots", "0GB", "80%"):
        monkeypatch.setenv("VROOM_WAREHOUSE_MEMORY", text)
        with pytest.raises(BadSetting, match=r"use an amount such as 2GB or 500MB"):
            settings.warehouse_memory()
    monkeypatch.setenv("VROOM_WAREHOUSE_MEMORY", "300MiB")
    with Warehouse().connect("vans") as connection:
        [(limit,)] = connection.execute("select current_setting('memory_limit')").fetchall()
    assert limit == "300.0 MiB"
