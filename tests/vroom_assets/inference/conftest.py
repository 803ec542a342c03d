"""Declarations and data of nothing yet, to write new ones into."""

from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with declarations and data of nothing yet."""
    for name in ("defs", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"VROOM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    return tmp_path
