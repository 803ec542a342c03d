"""A source as a file: observed by content, copied once per content."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from vroom_assets.sources import (
    Observation,
    SourceChanged,
    SourceError,
    files,
    keep,
    kept,
    observe,
    snapshot,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.csv"
    file.write_bytes(b"id\n1\n")
    return file


def written_long_ago(path: Path, observed: Observation) -> Observation:
    """The same observation, as if hashed when the file had been at rest for a while."""
    return msgspec.structs.replace(observed, looked_at=path.stat().st_ctime + 60)


# observe


def test_a_file_is_known_by_its_content_and_not_by_its_time(path):
    first = observe(path, None)
    os.utime(path, (1, 1))
    touched = observe(path, written_long_ago(path, first))
    assert touched.sha256 == first.sha256
    assert not touched.same_file_as(first)
    path.write_bytes(b"id\n2\n")
    assert observe(path, touched).sha256 != first.sha256


def test_an_observation_is_kept_for_whoever_observes_next(path, tmp_path):
    file = tmp_path / "observations" / "a.json"
    assert kept(file) is None
    for observed in (observe(path, None), observe(tmp_path / "nowhere.csv", None)):
        keep(observed, file)
        assert kept(file) == observed
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b"{", b'{"path": 3}', b"\xff"])
def test_a_kept_observation_that_nobody_can_read_is_none(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert kept(tmp_path / "a.json") is None


def test_a_file_at_rest_is_not_hashed_again(path, monkeypatch):
    observed = written_long_ago(path, observe(path, None))
    monkeypatch.setattr(files, "_sha256", lambda _: pytest.fail("hashed again"))
    assert observe(path, observed) == observed


def test_a_file_changed_just_before_the_last_look_is_hashed_again(path):
    """Size, times and inode may be the same although the content is not: the clock of a disk is coarse."""
    observed = msgspec.structs.replace(observe(path, None), sha256="of what was there before")
    assert observe(path, observed).sha256 == observe(path, None).sha256


def test_a_change_that_restores_size_and_time_is_seen(path):
    before = path.stat()
    observed = written_long_ago(path, observe(path, None))
    time.sleep(0.02)
    path.write_bytes(b"id\n7\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert observe(path, observed).sha256 != observed.sha256


def test_another_path_is_never_taken_for_the_one_before(path, tmp_path):
    observed = written_long_ago(path, observe(path, None))
    os.link(path, tmp_path / "b.csv")
    assert observe(tmp_path / "b.csv", observed).path == str(tmp_path / "b.csv")


def test_a_file_that_changes_while_it_is_hashed_is_not_settled(path, monkeypatch):
    honest = files._sha256

    def slow(one: Path) -> str:
        digest = honest(one)
        with open(one, "ab") as file:
            file.write(b"2\n")
        return digest

    assert observe(path, None).settled
    monkeypatch.setattr(files, "_sha256", slow)
    assert not observe(path, None).settled


def test_what_is_not_there_is_missing(tmp_path, path):
    assert observe(tmp_path / "nowhere.csv", None).missing
    assert observe(path / "inside_a_file.csv", None).missing
    assert not observe(path, None).missing


def test_what_is_no_file_is_an_error_that_says_so(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for one in (tmp_path, tmp_path / "pipe.csv"):
        with pytest.raises(SourceError, match="is not a regular file"):
            observe(one, None)
        with pytest.raises(SourceError, match="is not a regular file"):
            snapshot(one, tmp_path / "snapshots")


# snapshot


def test_a_snapshot_is_named_by_its_content_and_read_only(path, tmp_path):
    taken = snapshot(path, tmp_path / "snapshots")
    assert taken.path == tmp_path / "snapshots" / f"{observe(path, None).sha256}.csv"
    assert taken.path.read_bytes() == path.read_bytes()
    assert taken.size == 5
    assert taken.path.stat().st_mode & 0o222 == 0  # who reads it is a matter of the umask
    assert list(taken.path.parent.iterdir()) == [taken.path]


def test_one_content_is_kept_once(path, tmp_path):
    first = snapshot(path, tmp_path / "snapshots")
    os.utime(path)
    assert snapshot(path, tmp_path / "snapshots") == first
    assert list(first.path.parent.iterdir()) == [first.path]


def test_a_file_at_rest_is_not_copied_again(path, tmp_path, monkeypatch):
    observed = written_long_ago(path, observe(path, None))
    first = snapshot(path, tmp_path / "snapshots", observed)
    monkeypatch.setattr(files, "_copy", lambda *_: pytest.fail("copied again"))
    assert snapshot(path, tmp_path / "snapshots", observed) == first


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_damaged_snapshot_is_replaced(path, tmp_path, at_rest):
    observed = written_long_ago(path, observe(path, None)) if at_rest else None
    taken = snapshot(path, tmp_path / "snapshots", observed)
    taken.path.chmod(0o644)
    taken.path.write_bytes(b"id\n9\n")
    assert snapshot(path, tmp_path / "snapshots", observed).path.read_bytes() == b"id\n1\n"


def test_a_snapshot_is_of_the_file_as_it_is_and_not_as_it_was_observed(path, tmp_path):
    observed = written_long_ago(path, observe(path, None))
    snapshot(path, tmp_path / "snapshots", observed)
    path.write_bytes(b"id\n22\n")
    assert snapshot(path, tmp_path / "snapshots", observed).path.read_bytes() == b"id\n22\n"


def test_a_file_written_while_it_is_copied_leaves_no_snapshot(path, tmp_path, monkeypatch):
    honest = files._copy

    def slow(one: Path, target: Path) -> str:
        digest = honest(one, target)
        with open(one, "ab") as file:
            file.write(b"2\n")
        return digest

    monkeypatch.setattr(files, "_copy", slow)
    with pytest.raises(SourceChanged, match="was written while it was copied"):
        snapshot(path, tmp_path / "snapshots")
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_snapshot_of_nothing_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere\.csv cannot be copied .*: No such file"):
        snapshot(tmp_path / "nowhere.csv", tmp_path / "snapshots")


def test_what_a_killed_copy_left_is_removed_after_a_day(path, tmp_path):
    folder = tmp_path / "snapshots"
    folder.mkdir()
    old, young = folder / ".old.copy", folder / ".young.copy"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    snapshot(path, folder)
    assert not old.exists()
    assert young.exists()


def test_a_source_is_at_rest_as_long_as_its_latest_part(tmp_path):
    began = time.time()
    (tmp_path / "a.csv").write_text("a\n")
    time.sleep(0.2)
    (tmp_path / "b.csv").write_text("b\n")
    one, all_parts = (observe(tmp_path / name, None) for name in ("a.csv", "*.csv"))
    assert 0.1 < one.at_rest_s < time.time() - began + 0.1
    assert all_parts.at_rest_s < one.at_rest_s


# blocks that are shared


def test_a_copy_shares_the_blocks_of_its_file_where_the_file_system_can(tmp_path):
    file = tmp_path / "large.csv"
    file.write_bytes(os.urandom(30_000_000))
    os.sync()
    before = os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize
    probe = tmp_path / "probe"
    with file.open("rb") as source, probe.open("x+b") as target:
        can = files._shares_blocks(source.fileno(), target.fileno())
    probe.unlink()
    if not can:
        pytest.skip(f"the file system of {tmp_path} cannot share blocks; --basetemp names one that can")
    found = snapshot(file, tmp_path / "snapshots")
    os.sync()
    assert before - os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize < 10_000_000
    assert found.path.read_bytes() == file.read_bytes()
    content = found.path.read_bytes()
    file.write_bytes(b"id\n2\n")
    assert found.path.read_bytes() == content
