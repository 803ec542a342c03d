"""What a service leaves behind in its process once it has ended."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.entities import keep
from tests.support.service import settings_of
from vroom_api.app import create_app

READ = ["/", "/predictions?limit=1", "/vehicles?limit=2", "/vehicles/900", "/alerts", "/stores", "/metrics"]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is given back here is given back by whoever used it."""
    gc.disable()
    yield
    gc.enable()


def run_once(home: Path) -> weakref.ref[object]:
    """A service from its start to its end, with the record, entities of both sources, and a look at everything."""
    app = create_app(settings_of(home, record=True))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/predict", json=EXAMPLE).status_code == 200
        assert client.post("/vehicles", json=EXAMPLE | {"vehicle_id": 900}).status_code in (200, 201)
        assert client.post("/predict/id", json={"vehicle_id": "b1"}).status_code == 200
        assert {path: client.get(path).status_code for path in READ} == dict.fromkeys(READ, 200)
    return weakref.ref(app.state["predictor"])


def open_files(home: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(home))]


@pytest.mark.usefixtures("uncollected")
def test_a_service_that_has_ended_holds_no_file(state: Path) -> None:
    publish(state, 1)
    keep(state, {"b1": list(EXAMPLE.values())}, list(EXAMPLE))
    run_once(state)
    assert open_files(state) == []


def test_nothing_remembers_a_service_that_has_ended(state: Path) -> None:
    publish(state, 1)
    keep(state, {"b1": list(EXAMPLE.values())}, list(EXAMPLE))
    ended = [run_once(state) for _ in range(3)]
    gc.collect()
    alive = sum(app() is not None for app in ended)
    assert alive <= 1  # the routers know the one that they were last registered with
