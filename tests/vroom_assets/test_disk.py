"""Room on the disk of the home, asked for before a run begins."""

import re
from pathlib import Path

import pytest

from vroom_assets import disk


@pytest.fixture
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free", lambda: 3 * disk.MEGABYTE)


def test_a_run_that_finds_room_begins(home: Path, data: Path):
    disk.require_room([data / "vehicles.csv"])


def test_a_run_without_room_is_refused_with_what_it_needs(home: Path, data: Path, nearly_full):
    with pytest.raises(disk.NoRoom, match=re.escape(str(home))) as refused:
        disk.require_room([data / "vehicles.csv"])
    assert "may need 64 MB" in str(refused.value)
    assert "3 MB are free; free some more, or move the home and set VROOM_HOME" in str(refused.value)


def test_room_grows_with_the_sources(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(100 * disk.MEGABYTE)
    monkeypatch.setattr(disk, "free", lambda: 363 * disk.MEGABYTE)
    with pytest.raises(disk.NoRoom, match="a run over 100 MB of sources may need 364 MB"):
        disk.require_room([large])
    monkeypatch.setattr(disk, "free", lambda: 364 * disk.MEGABYTE)
    disk.require_room([large, tmp_path / "not there"])


def test_only_a_full_disk_explains_an_end_without_a_word(home: Path, nearly_full):
    assert "as the disk of" in str(disk.why_full())


def test_a_disk_with_room_explains_nothing(home: Path):
    assert disk.why_full() is None
