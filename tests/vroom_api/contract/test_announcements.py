"""What happened is announced once, whoever notices it, and no publication fails because nobody can be told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support import databases
from vroom_api.contract import Pointer
from vroom_api.contract.announcements import (
    RunState,
    announce_loaded,
    announce_moved_pointer,
    announce_pointer,
    announce_run,
)
from vroom_api.contract.event_log import events_after
from vroom_api.contract.tables import open_database


@pytest.fixture(params=databases.KINDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sa.Engine]:
    with databases.empty(request.param, tmp_path) as url:
        monkeypatch.setenv("VROOM_DATABASE_URL", url)
        engine = open_database(url)
        yield engine
        engine.dispose()


def pointer(version: int, generation: int, ago: timedelta = timedelta(0), **given: Any) -> Pointer:
    published = (datetime.now(UTC) - ago).isoformat(timespec="seconds")
    return Pointer(
        generation=generation, version=version, manifest_sha256="", published_at=published, **given
    )


def log(engine: sa.Engine) -> list[tuple[str, dict[str, Any]]]:
    with engine.connect() as connection:
        return [(event.name, event.data) for event in events_after(connection, 0, 100)]


def load(engine: sa.Engine, loaded: Pointer, calibration: int | None = None) -> None:
    with engine.begin() as connection:
        announce_loaded(connection, "vans", loaded, calibration, None)


def test_a_version_is_promoted_once_and_loaded_once_however_many_load_it(engine: sa.Engine) -> None:
    first, second = pointer(1, 1), pointer(2, 2)
    announce_moved_pointer("vans", first, None)
    for _ in range(3):
        load(engine, first)
    announce_moved_pointer("vans", second, 1)
    for _ in range(3):
        load(engine, second)
    load(engine, second, calibration=1)
    assert log(engine) == [
        ("model-promoted", {"version": 1, "generation": 1, "previous_version": None}),
        ("model-loaded", {"version": 1, "generation": 1, "calibration": None}),
        ("model-promoted", {"version": 2, "generation": 2, "previous_version": 1}),
        ("model-loaded", {"version": 2, "generation": 2, "calibration": None}),
        ("model-loaded", {"version": 2, "generation": 2, "calibration": 1}),
    ]


def test_a_promotion_that_was_not_announced_is_by_whoever_loads_it(engine: sa.Engine) -> None:
    load(engine, pointer(1, 1))
    load(engine, pointer(1, 2))  # another generation of the same version is no promotion
    assert [name for name, _ in log(engine)] == ["model-promoted", "model-loaded", "model-loaded"]


def test_what_was_published_long_ago_is_no_news(engine: sa.Engine) -> None:
    load(engine, pointer(1, 1, ago=timedelta(days=40)))
    assert [name for name, _ in log(engine)] == ["model-loaded"]


def test_a_retirement_has_its_reason(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        announce_pointer(connection, "vans", pointer(2, 3, retired="the market closed"), 2)
    assert log(engine) == [("model-retired", {"version": 2, "generation": 3, "reason": "the market closed"})]


def test_a_database_that_does_not_answer_undoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    monkeypatch.setenv("VROOM_DATABASE_URL", f"sqlite:///{tmp_path / 'broken.db'}")
    announce_moved_pointer("vans", pointer(1, 1), None)
    assert "could not be announced" in caplog.text


def test_the_end_of_a_run_has_the_link_to_its_page(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VROOM_DAGSTER_URL", "https://dagster.example")
    for state in (RunState.FAILED, RunState.FAILED, RunState.SUCCEEDED):
        with engine.begin() as connection:
            announce_run(connection, forecast="vans", job="vans_retrain", run_id="abc", state=state)
    assert [data["state"] for _, data in log(engine)] == ["failed", "succeeded"]
    assert log(engine)[0][1]["link"] == "https://dagster.example/runs/abc"
