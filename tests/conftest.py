"""What most tests stand on: a home of their own and the shipped data in it."""

import resource
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import environment, project

# A property is not a benchmark: on a busy machine any of its examples may take long.
hypothesis.settings.register_profile("untimed", parent=hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")


WHOLE_SYSTEM = ("end_to_end", "faults", "real")  # folders whose tests train, or drive what is started


OPEN_FILES = 1024  # what most systems let a process have at once


def pytest_configure() -> None:
    """No more than elsewhere, so that what is not given back is noticed here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parts[len(project.ROOT.parts) + 1] in WHOLE_SYSTEM:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def environment_of_its_own() -> Iterator[None]:
    with environment.of_its_own():
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty VROOM_HOME, and a VROOM_DATA with a copy of the shipped CSVs."""
    folder = tmp_path / "home"
    folder.mkdir()
    project.copy(tmp_path, "data")
    monkeypatch.setenv("VROOM_HOME", str(folder))
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return folder


@pytest.fixture
def data(home: Path) -> Path:
    """The folder of the flagship's CSVs, free to be changed."""
    return home.parent / "data" / "reservations"
