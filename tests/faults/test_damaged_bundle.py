"""Damage to a bundle or a pointer, wherever it strikes: refused, reported, and the last good champion keeps serving."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, point, predicted, publish
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import GOLDEN, MANIFEST, MODEL, POINTER, bundle_folder, forecast_folder

FILES = (MANIFEST, MODEL, GOLDEN)
OFFSETS = 40
ROW = [float(value) for value in EXAMPLE.values()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which version 1 serves and version 2 is published, whole, but not pointed at yet."""
    folder = tmp_path / "var"
    publish(folder, 2)
    publish(folder, 1)
    return folder


@pytest.fixture
def client(home: Path) -> Iterator[TestClient[Any]]:
    """The service over it, which reads the pointer only when it is asked to."""
    with TestClient(create_app(settings_of(home, watch_seconds=3_600))) as client:
        yield client


def assert_refused(client: TestClient[Any], *reasons: str) -> None:
    """A reload fails for one of the reasons, /health says so, and version 1 answers as before."""
    answer = client.post("/reload").json()
    assert (answer["status"], answer["current_version"]) == ("failed", 1)
    health = client.get("/health").json()
    assert (health["status"], health["model_version"]) == ("degraded", 1)
    assert any(reason in health["last_error"] for reason in reasons), health["last_error"]
    found = client.post("/predict", json=EXAMPLE).json()
    assert found["model_version"] == 1
    assert found["predicted_reservations"] == pytest.approx(predicted(ROW, 1.0)[1], rel=1e-9)


def assert_accepted(client: TestClient[Any]) -> None:
    """The same bundle undamaged serves, so it was the damage that was refused."""
    assert client.post("/reload").json()["status"] == "reloaded"
    assert client.get("/health").json()["status"] == "ok"
    assert client.post("/predict", json=EXAMPLE).json()["model_version"] == 2


def spread(folder: Path, count: int) -> list[tuple[str, int]]:
    """Offsets spread evenly over all bytes of all files, first and last byte of each among them."""
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    share = count // len(FILES)
    positions = [
        (name, round(step * (size - 1) / share)) for name, size in sizes.items() for step in range(share)
    ]
    return [*positions, *((name, size - 1) for name, size in sizes.items())][:count]


@pytest.mark.parametrize("position", range(OFFSETS))
def test_a_flipped_byte_is_refused(home: Path, client: TestClient[Any], position: int) -> None:
    folder = bundle_folder(FORECAST, 2, home)
    name, offset = spread(folder, OFFSETS)[position]
    point(home, 2)
    whole = (folder / name).read_bytes()
    damaged = bytearray(whole)
    damaged[offset] ^= 1 << (position % 8)
    (folder / name).write_bytes(damaged)
    assert_refused(client, f"{name}: its SHA-256 is not the published one")
    (folder / name).write_bytes(whole)
    assert_accepted(client)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(home: Path, client: TestClient[Any], name: str, share: float) -> None:
    path = bundle_folder(FORECAST, 2, home) / name
    point(home, 2)
    os.truncate(path, int(path.stat().st_size * share))
    assert_refused(client, f"{name}: its SHA-256 is not the published one")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(home: Path, client: TestClient[Any], name: str) -> None:
    point(home, 2)
    (bundle_folder(FORECAST, 2, home) / name).unlink()
    assert_refused(client, f"{name}: cannot be read: No such file or directory")


def test_a_file_that_is_a_folder_is_refused(home: Path, client: TestClient[Any]) -> None:
    path = bundle_folder(FORECAST, 2, home) / MODEL
    point(home, 2)
    path.unlink()
    path.mkdir()
    assert_refused(client, f"{MODEL}: cannot be read: not a regular file")


def test_a_half_copied_folder_is_refused_until_it_is_whole(home: Path, client: TestClient[Any]) -> None:
    folder = bundle_folder(FORECAST, 2, home)
    whole = folder.with_name("whole")
    point(home, 2)
    os.rename(folder, whole)
    folder.mkdir()
    assert_refused(client, f"{MANIFEST}: cannot be read")
    shutil.copy(whole / MANIFEST, folder)
    assert_refused(client, f"{MODEL}: cannot be read")
    (folder / MODEL).write_bytes((whole / MODEL).read_bytes()[:100])
    assert_refused(client, f"{MODEL}: its SHA-256 is not the published one")
    shutil.copy(whole / MODEL, folder)
    assert_refused(client, f"{GOLDEN}: cannot be read")
    shutil.copy(whole / GOLDEN, folder)
    assert_accepted(client)


def test_files_of_another_version_are_refused(home: Path, client: TestClient[Any]) -> None:
    folder = bundle_folder(FORECAST, 2, home)
    point(home, 2)
    shutil.copy(bundle_folder(FORECAST, 1, home) / MODEL, folder)
    assert_refused(client, f"{MODEL}: its SHA-256 is not the published one")


def test_a_whole_bundle_under_another_number_is_refused(home: Path, client: TestClient[Any]) -> None:
    shutil.copytree(bundle_folder(FORECAST, 2, home), bundle_folder(FORECAST, 3, home))
    point(home, 3)
    assert_refused(client, "holds version 2 of reservations, the pointer names version 3")


def test_a_pointer_to_a_version_that_is_not_there_is_refused(home: Path, client: TestClient[Any]) -> None:
    point(home, 99, "0" * 64)
    assert_refused(client, f"{MANIFEST}: cannot be read: No such file or directory")
    point(home, 2)
    assert_accepted(client)


GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "half of it": b'{"generation":2,"version":2,"manifest_sha',
    "another document": b'{"version": 2}',
    "a text for a version": json.dumps(
        {"generation": 2, "version": "2", "manifest_sha256": "", "published_at": ""}
    ).encode(),
    "a path for a version": json.dumps(
        {"generation": 2, "version": "../2", "manifest_sha256": "", "published_at": ""}
    ).encode(),
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_garbage_pointer_is_refused(home: Path, client: TestClient[Any], content: bytes) -> None:
    (forecast_folder(FORECAST, home) / POINTER).write_bytes(content)
    assert_refused(client, f"{POINTER}: not a pointer")
    point(home, 2)
    assert_accepted(client)


def test_a_pointer_that_cannot_be_read_is_refused(home: Path, client: TestClient[Any]) -> None:
    pointer = forecast_folder(FORECAST, home) / POINTER
    pointer.unlink()
    pointer.mkdir()
    assert_refused(client, f"{POINTER}: not a pointer")


def test_a_service_that_starts_on_damage_waits_for_a_whole_bundle(home: Path) -> None:
    model = bundle_folder(FORECAST, 1, home) / MODEL
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with TestClient(create_app(settings_of(home, watch_seconds=3_600))) as client:
        health = client.get("/health").json()
        assert (health["status"], health["model_version"]) == ("no_champion", None)
        assert f"{MODEL}: its SHA-256" in health["last_error"]
        answer = client.post("/predict", json=EXAMPLE)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:vroom:no-champion")
        assert f"{MODEL}: its SHA-256" in answer.json()["detail"]
        model.write_bytes(whole)
        assert client.post("/reload").json()["status"] == "reloaded"
        assert client.post("/predict", json=EXAMPLE).json()["model_version"] == 1
