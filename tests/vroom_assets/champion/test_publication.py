"""A bundle is published whole and proved, or what served before serves on."""

import threading
from pathlib import Path

import pytest

from tests.support.bundles import FORECAST, golden_of, graph, manifest
from vroom_api.contract import MODEL, BundleError, bundle_folder, forecast_folder, read_bundle, read_pointer
from vroom_api.contract.events import Decision, Published
from vroom_api.contract.store import FORMER, LocalStore
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets.champion import publication
from vroom_assets.champion.publication import NotPublished

DIGESTS: dict[int, str] = {}


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))
    return tmp_path / "made"


def written(folder: Path, version: int, *, scale: float = 1.0, training: str = "") -> Path:
    """A bundle that is not published; its model says `scale` times what its golden rows say."""
    source = folder / str(version)
    described = manifest(version, mlflow_run_id=training or f"training {version}")
    DIGESTS[version] = publication.write(source, described, graph(scale), golden_of(1.0))
    return source


def publish(folder: Path, version: int, generation: int, **given: str) -> None:
    publication.publish(written(folder, version, **given), DIGESTS[version], generation=generation)


def served() -> int:
    pointer = read_pointer(FORECAST)
    return pointer.version if pointer else 0


def test_what_is_published_serves_and_is_whole(made):
    pointer = publication.publish(written(made, 1), digest := DIGESTS[1], generation=0)
    assert (pointer.version, pointer.generation, pointer.manifest_sha256) == (1, 1, digest)
    assert read_pointer(FORECAST) == pointer
    assert read_bundle(bundle_folder(FORECAST, 1), digest).manifest.version == 1


def test_a_damaged_source_is_not_published(made):
    publish(made, 1, 0)
    source = written(made, 2)
    (source / MODEL).write_bytes(b"another")
    with pytest.raises(BundleError, match="SHA-256"):
        publication.publish(source, DIGESTS[2], generation=1)
    assert served() == 1
    assert not bundle_folder(FORECAST, 2).exists()


def test_a_bundle_whose_manifest_is_not_the_registered_one_is_not_published(made):
    publish(made, 1, 0)
    source = written(made, 2)
    with pytest.raises(BundleError, match="SHA-256"):
        publication.publish(source, DIGESTS[1], generation=1)
    assert served() == 1
    assert not bundle_folder(FORECAST, 2).exists()


def test_what_is_kept_does_not_serve_and_may_be_tried(made):
    publish(made, 1, 0)
    kept = publication.keep(written(made, 2), DIGESTS[2])
    assert (kept.manifest.version, served()) == (2, 1)
    assert LocalStore().digest(FORECAST, 2) == DIGESTS[2]
    with pytest.raises(NotPublished, match="never published"):
        publication.restore(FORECAST, 2, DIGESTS.__getitem__)


def test_a_model_of_other_numbers_is_not_published(made):
    publish(made, 1, 0)
    with pytest.raises(NotPublished, match="version 2: the model's predictions differ"):
        publication.publish(written(made, 2, scale=1.1), DIGESTS[2], generation=1)
    assert served() == 1
    assert not bundle_folder(FORECAST, 2).exists()


def test_of_two_publishers_the_one_with_the_older_generation_changes_nothing(made):
    publish(made, 1, 0)
    with pytest.raises(NotPublished):
        publish(made, 2, 0)
    assert served() == 1


def test_of_two_publishers_at_once_one_wins_and_the_other_is_never_gone_back_to(made):
    publish(made, 1, 0)
    for version in (2, 3):
        written(made, version)
    lost: list[int] = []
    start = threading.Barrier(2)

    def publisher(version: int) -> None:
        start.wait()
        try:
            publication.publish(made / str(version), DIGESTS[version], generation=1)
        except NotPublished:
            lost.append(version)

    threads = [threading.Thread(target=publisher, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = served()
    assert [winner, *lost] in ([2, 3], [3, 2])
    publish(made, 4, 2)
    with pytest.raises(
        NotPublished, match=f"version {lost[0]} was never published; choose one of 1, {winner}, 4"
    ):
        publication.restore(FORECAST, lost[0], DIGESTS.__getitem__)
    assert publication.restore(FORECAST, None, DIGESTS.__getitem__)[1].version == winner
    assert publication.restore(FORECAST, None, DIGESTS.__getitem__)[1].version == 1


def test_what_was_published_before_pointers_were_kept_is_known_by_the_ledger(made):
    for version in (1, 2, 3):
        publish(made, version, version - 1)
    for former in (forecast_folder(FORECAST) / FORMER).iterdir():
        former.unlink()
    evidence = Published(version=1, generation=1, verdict=Decision.PROMOTE)
    with serving_database() as engine:
        enter_ledger(
            engine, forecast=FORECAST, actor="job", decision=Decision.PUBLISHED, reason="", evidence=evidence
        )
    assert publication.restore(FORECAST, None, DIGESTS.__getitem__)[1].version == 1
    assert publication.restore(FORECAST, 3, DIGESTS.__getitem__)[1].version == 3


def test_a_published_version_is_restored_without_what_was_registered(made):
    publish(made, 1, 0)
    publish(made, 2, 1)
    assert publication.restore(FORECAST, None, {}.__getitem__)[1].version == 1


def test_the_version_before_is_restored(made):
    publish(made, 1, 0)
    publish(made, 2, 1)
    before, after = publication.restore(FORECAST, None, DIGESTS.__getitem__)
    assert (before.version, after.version, after.generation) == (2, 1, 3)
    assert served() == 1


def test_other_words_of_the_same_training_are_no_version_before(made):
    publish(made, 1, 0, training="first")
    publish(made, 2, 1, training="second")
    publish(made, 3, 2, training="second")
    assert publication.restore(FORECAST, None, DIGESTS.__getitem__)[1].version == 1
    publish(made, 4, 4, training="first")
    with pytest.raises(NotPublished, match="no version before 4 was published"):
        publication.restore(FORECAST, None, DIGESTS.__getitem__)
    assert served() == 4


def test_of_the_same_training_the_latest_words_are_restored(made):
    for version, training in ((1, "first"), (2, "first"), (3, "second")):
        publish(made, version, version - 1, training=training)
    assert publication.restore(FORECAST, None, DIGESTS.__getitem__)[1].version == 2


def test_what_cannot_be_restored_is_refused_with_its_reason(made):
    with pytest.raises(NotPublished, match="no champion serves, so there is nothing to roll back"):
        publication.restore(FORECAST, None, DIGESTS.__getitem__)
    publish(made, 1, 0)
    with pytest.raises(NotPublished, match="no version before 1 was published"):
        publication.restore(FORECAST, None, DIGESTS.__getitem__)
    with pytest.raises(NotPublished, match="version 7 was never published; choose one of 1"):
        publication.restore(FORECAST, 7, DIGESTS.__getitem__)
    publish(made, 2, 1)
    (bundle_folder(FORECAST, 1) / MODEL).write_bytes(b"another")
    with pytest.raises(BundleError, match="SHA-256"):
        publication.restore(FORECAST, 1, DIGESTS.__getitem__)
    assert served() == 2
