"""`python -m vroom_assets`, in the process of the test."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support import environment
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_assets.__main__ import main


def command(*arguments: str) -> int:
    """Run a command, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()


@contextmanager
def trained_and_served(folder: Path, forecast: str, **settings: Any) -> Iterator[TestClient[Any]]:
    """The service over a home in which a forecast was trained, by the folders `defs` and `data` beside it."""
    folders = {f"VROOM_{name.upper()}": str(folder / name) for name in ("home", "defs", "data")}
    with environment.of_its_own(**folders, VROOM_FORECAST=forecast):
        assert command("materialize") == 0
        with TestClient(create_app(settings_of(folder / "home", forecast=forecast, **settings))) as client:
            yield client
