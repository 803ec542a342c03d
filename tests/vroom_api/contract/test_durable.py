"""A file is the old one or the new one, and nothing is left beside it."""

from pathlib import Path

import pytest

from tests.support.irregular import IRREGULAR
from vroom_api.contract import durable


def test_a_file_is_made_with_its_folder_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    durable.replace(path, b"old")
    durable.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert [one.name for one in path.parent.iterdir()] == ["b.json"]


def test_who_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.replace(path, b"old")

    def fail() -> None:
        with durable.replaced(path) as beside:
            beside.write_bytes(b"half")
            assert path.read_bytes() == b"old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "versions" / "1"
    assert durable.put_folder(folder, {"a": b"1", "b": b"2"})
    assert not durable.put_folder(folder, {"a": b"other"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"1", "b": b"2"}
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    IRREGULAR[kind](path)
    with pytest.raises(OSError, match=r"not a regular file|levels of symbolic links|No such device"):
        durable.read(path)


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert durable.read(tmp_path / "link") == b"content"
    with pytest.raises(FileNotFoundError):
        durable.read(tmp_path / "nothing")
