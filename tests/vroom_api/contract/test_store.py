"""Versions are put once, and of two publishers one wins."""

import threading
from pathlib import Path

import pytest

from tests.support.bundles import FORECAST, publish
from tests.support.trials import trial_of
from vroom_api.contract import (
    MANIFEST,
    POINTER,
    BundleError,
    Pointer,
    TrialRole,
    bundle_folder,
    durable,
    sha256_of,
)
from vroom_api.contract.store import LocalStore, NothingServes, PointerMoved


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A whole bundle."""
    publish(tmp_path / "elsewhere", 1)
    return {
        path.name: path.read_bytes() for path in bundle_folder(FORECAST, 1, tmp_path / "elsewhere").iterdir()
    }


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


def test_an_empty_store_has_nothing(store):
    assert store.versions(FORECAST) == []
    assert store.pointer(FORECAST) is None
    with pytest.raises(BundleError, match="cannot be read"):
        store.read(FORECAST, 1, "0" * 64)


def test_what_is_put_is_read_and_stays_as_it_is(store, files, tmp_path):
    digest = sha256_of(files[MANIFEST])
    store.put(FORECAST, 1, files)
    store.put(FORECAST, 1, {MANIFEST: b"something else"})
    assert store.versions(FORECAST) == [1]
    assert store.read(FORECAST, 1, digest).model == files["model.onnx"]
    with pytest.raises(BundleError, match="SHA-256"):
        store.read(FORECAST, 1, "0" * 64)


def test_a_version_that_could_not_be_written_is_not_there(store, files, monkeypatch):
    written: list[bytes] = []

    def full(path: Path, content: bytes) -> int:
        written.append(content)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("vroom_api.contract.durable.sync", lambda _: None)
    with pytest.raises(OSError, match="No space left"):
        store.put(FORECAST, 1, files)
    assert store.versions(FORECAST) == []


def test_what_a_dead_publisher_left_is_cleared_away(store, files, tmp_path):
    left = tmp_path / "home" / FORECAST / "champions" / ".1-0123"
    left.mkdir(parents=True)
    store.put(FORECAST, 1, files)
    assert not left.exists()


def test_the_pointer_moves_for_who_knows_where_it_is(store):
    first = store.point(FORECAST, 1, "a" * 64, 0)
    assert (first.generation, first.version) == (1, 1)
    with pytest.raises(PointerMoved, match="generation 1, this one was decided against 0"):
        store.point(FORECAST, 2, "b" * 64, 0)
    assert store.pointer(FORECAST) == first
    assert store.point(FORECAST, 1, "a" * 64, 1) == first  # it serves already
    assert store.point(FORECAST, 2, "b" * 64, 1).generation == 2


def test_of_many_publishers_against_one_generation_one_wins(store):
    won: list[Pointer] = []
    lost: list[PointerMoved] = []
    start = threading.Barrier(8)

    def publisher(version: int) -> None:
        start.wait()
        try:
            won.append(store.point(FORECAST, version, f"{version}" * 64, 0))
        except PointerMoved as error:
            lost.append(error)

    threads = [threading.Thread(target=publisher, args=(version,)) for version in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert store.pointer(FORECAST) == won[0]


def test_every_pointer_that_there_was_is_kept(store, files):
    assert store.history(FORECAST) == []
    pointers = [store.point(FORECAST, version, f"{version}" * 64, version - 1) for version in (1, 2)]
    store.put(FORECAST, 3, files)
    with pytest.raises(PointerMoved):
        store.point(FORECAST, 3, "3" * 64, 1)
    pointers.append(store.retire(FORECAST, "no longer asked for"))
    assert store.history(FORECAST) == pointers
    assert store.pointer(FORECAST) == pointers[-1]


def test_the_history_outlives_the_pointer(store, tmp_path):
    pointers = [store.point(FORECAST, version, f"{version}" * 64, version - 1) for version in (1, 2, 3)]
    (tmp_path / "home" / FORECAST / POINTER).unlink()
    again = [store.point(FORECAST, version, f"{version}" * 64, version - 4) for version in (4, 5)]
    assert {pointer.version for pointer in store.history(FORECAST)} == {1, 2, 4, 5}
    assert store.history(FORECAST)[0] == pointers[0]
    assert store.pointer(FORECAST) == again[-1]


def test_a_publisher_that_dies_before_its_pointer_moved_leaves_the_history_true(store, monkeypatch):
    first = store.point(FORECAST, 1, "1" * 64, 0)
    with monkeypatch.context() as dying:
        replace = durable.replace

        def die(path: Path, content: bytes) -> None:
            if path.name == POINTER:
                raise KeyboardInterrupt
            replace(path, content)

        dying.setattr(durable, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            store.point(FORECAST, 2, "2" * 64, 1)
    assert store.history(FORECAST) == [first]


def test_a_retired_forecast_keeps_its_bundles_and_serves_again_when_it_is_published(store, files):
    digest = sha256_of(files[MANIFEST])
    store.put(FORECAST, 1, files)
    store.point(FORECAST, 1, digest, generation=0)
    retired = store.retire(FORECAST, "no longer asked for")
    assert (retired.generation, retired.retired) == (2, "no longer asked for")
    assert store.retire(FORECAST, "again") == retired
    assert store.versions(FORECAST) == [1]
    with pytest.raises(PointerMoved):  # a contest that was under way
        store.point(FORECAST, 1, digest, generation=1)
    again = store.point(FORECAST, 1, digest, generation=2)
    assert (again.generation, again.version, again.retired) == (3, 1, None)


def test_what_was_never_published_cannot_be_retired(store):
    with pytest.raises(NothingServes, match="nothing was ever published"):
        store.retire(FORECAST, "no longer asked for")


def test_a_trial_is_set_changed_and_ended_by_generation(store, files, tmp_path):
    digest = sha256_of(files[MANIFEST])
    with pytest.raises(NothingServes, match="no version serves"):
        store.set_trial(FORECAST, None, 0)
    store.put(FORECAST, 1, files)
    first = store.point(FORECAST, 1, digest, 0)
    trial = trial_of(tmp_path / "home", 1, TrialRole.SPLIT)
    begun = store.set_trial(FORECAST, trial, first.generation)
    assert (begun.generation, begun.trial, begun.published_at) == (2, trial, first.published_at)
    assert store.set_trial(FORECAST, trial, 2) == begun
    with pytest.raises(PointerMoved, match="generation 2, and this was decided against 1"):
        store.set_trial(FORECAST, None, 1)
    assert store.set_trial(FORECAST, None, 2).trial is None


def test_a_publication_ends_a_trial_and_other_gates_of_the_same_version_do_not(store, files, tmp_path):
    digest = sha256_of(files[MANIFEST])
    store.put(FORECAST, 1, files)
    store.point(FORECAST, 1, digest, 0, ["coverage"])
    trial = trial_of(tmp_path / "home", 1, TrialRole.SHADOW, 1.0)
    store.set_trial(FORECAST, trial, 1)
    assert store.point(FORECAST, 1, digest, 2, ["coverage"]).trial == trial
    assert store.point(FORECAST, 1, digest, 2).trial == trial
    assert store.point(FORECAST, 2, digest, 3).trial is None
    store.set_trial(FORECAST, trial, 4)
    assert store.retire(FORECAST, "over").trial is None
    assert [one.trial for one in store.history(FORECAST)] == [None, trial, trial, None, trial, None]


def test_of_two_changes_of_traffic_at_once_one_wins(store, files, tmp_path):
    store.put(FORECAST, 1, files)
    store.point(FORECAST, 1, sha256_of(files[MANIFEST]), 0)
    trials = [trial_of(tmp_path / "home", 1, TrialRole.SPLIT, share) for share in (0.1, 0.2)]
    start, won, lost = threading.Barrier(2), [], []

    def change(trial):
        start.wait()
        try:
            won.append(store.set_trial(FORECAST, trial, 1))
        except PointerMoved as error:
            lost.append(error)

    threads = [threading.Thread(target=change, args=(trial,)) for trial in trials]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 1)
    assert store.pointer(FORECAST) == won[0]


def test_the_digest_of_a_version_is_as_it_served_or_was_put(store, files):
    with pytest.raises(BundleError, match="cannot be read"):
        store.digest(FORECAST, 1)
    store.put(FORECAST, 1, files)
    assert store.digest(FORECAST, 1) == sha256_of(files[MANIFEST])
    store.point(FORECAST, 1, "0" * 64, 0)
    assert store.digest(FORECAST, 1) == "0" * 64
