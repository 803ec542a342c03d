"""A service over a home of its own, with and without a champion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.bundles import publish
from tests.support.service import Serve, settings_of
from vroom_api.app import create_app
from vroom_api.contract.tables import open_database


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty home without a champion."""
    return tmp_path / "var"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """The database of a record, and VROOM_HOME set to a home beside it."""
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def serve(state: Path) -> Iterator[Serve]:
    """Start the service over the home, with settings to change."""
    started: list[TestClient[Any]] = []

    def start(**given: Any) -> TestClient[Any]:
        client = TestClient(create_app(settings_of(state, **given)), raise_server_exceptions=False)
        started.append(client.__enter__())
        return client

    yield start
    for client in started:
        client.__exit__()


@pytest.fixture
def client(state: Path, serve: Serve) -> TestClient[Any]:
    """The service with version 1."""
    publish(state, 1)
    return serve()
