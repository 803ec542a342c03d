"""Dagster's SQLite storage as the shipped settings configure it."""

import os
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from vroom_assets import storage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_bytes(Path("vroom_assets/dagster.yaml").read_bytes())
    return tmp_path


@dg.asset
def one() -> None: ...


def test_a_second_instance_asks_alembic_for_nothing(folder, monkeypatch):
    with dg.DagsterInstance.get() as instance:
        assert not instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    from alembic.script import ScriptDirectory

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("all revisions are imported once more")

    monkeypatch.setattr(ScriptDirectory, "from_config", asked)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
        assert not instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records


def test_the_revisions_are_those_that_dagster_finds(folder):
    with dg.DagsterInstance.get() as instance:
        ours = instance.event_log_storage.alembic_version()
    from dagster._core.storage.sql import check_alembic_revision

    with dg.DagsterInstance.get() as instance:
        logs = instance.event_log_storage
        with logs.index_connection() as connection:
            config = sqlite_event_log.get_alembic_config(sqlite_event_log.__file__)
            assert check_alembic_revision(config, connection) == ours


def test_the_log_of_a_run_is_written_to_its_file_event_by_event(folder):
    """Dagster's page watches the file, not SQLite's log beside it."""
    with dg.DagsterInstance.get() as instance:
        result = dg.materialize([one], instance=instance)
        assert result.success
        file = Path(instance.event_log_storage.path_for_shard(result.run_id))
        assert not os.path.exists(f"{file}-wal")
        before = file.stat().st_mtime_ns
        time.sleep(0.01)
        instance.report_engine_event("one more", instance.get_run_by_id(result.run_id))
        assert file.stat().st_mtime_ns > before
        assert instance.all_logs(result.run_id)[-1].message == "one more"
        assert instance.get_latest_materialization_event(dg.AssetKey("one")) is not None


def test_logs_of_many_runs_keep_no_more_than_the_latest_open(folder):
    with dg.DagsterInstance.get() as instance:
        runs = [dg.materialize([one], instance=instance).run_id for _ in range(4)]
        assert len(instance.event_log_storage._connect.__self__._engines) <= storage.OPEN_LOGS
        assert all(instance.all_logs(run) for run in runs)


def test_old_ticks_are_removed_once_a_minute(folder, monkeypatch):
    with dg.DagsterInstance.get() as instance:
        now = time.time()
        for age in (100, 50):
            instance.create_tick(
                TickData(
                    "origin", "sensor", InstigatorType.SENSOR, TickStatus.SKIPPED, now - age, selector_id="s"
                )
            )

        def left(before: float) -> int:
            instance.purge_ticks("origin", "s", before, [TickStatus.SKIPPED])
            return len(instance.get_ticks("origin", "s"))

        assert left(now - 70) == 1
        assert left(now) == 1
        monkeypatch.setattr(storage, "PURGE_EVERY_SECONDS", 0.0)
        assert left(now) == 0
