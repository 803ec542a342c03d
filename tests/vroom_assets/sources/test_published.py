"""Tables that are Parquet files: a view has the source's name, follows its folder, and what it no longer reads is removed."""

from pathlib import Path

import duckdb
import pytest

from tests.support.sources import column, source
from vroom_assets.sources import NamedFile, SourceRefused, load, published


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "it's [a] home"
    folder.mkdir()
    return folder


def files(home: Path, name: str, *ids: int) -> Path:
    folder = home / published.TABLES / "things" / name
    folder.mkdir(parents=True)
    listed = ", ".join(f"({one})" for one in ids)
    duckdb.execute(
        "copy (from (values " + listed + ") as given(id)) to $file (format parquet)",
        {"file": f"{folder}/a.parquet"},
    )
    return folder


def test_a_table_gives_way_to_files_and_files_to_a_table(connection, loaded, home):
    assert loaded(b"id\n1\n", source(id=column())) == [(1,)]
    published.publish(connection, "things", home, files(home, "one", 2))
    assert connection.execute("from things").fetchall() == [(2,)]
    published.publish(connection, "things", home, files(home, "two", 3))
    assert connection.execute("from things").fetchall() == [(3,)]
    assert loaded(b"id\n1\n", source(id=column())) == [(1,)]


def test_others_may_refer_to_files(connection, loaded, home):
    published.publish(connection, "things", home, files(home, "one", 2))
    children = source(0.9, parent=column(references="things.id"))
    assert loaded(b"parent\n1\n2\n", children, "children") == [(2,)]


def test_files_that_no_view_reads_are_removed(connection, home):
    published.publish(connection, "things", home, files(home, "old", 1))
    published.publish(connection, "things", home, files(home, "new", 2))
    killed = home / published.TABLES / ".killed"
    killed.mkdir()
    published.remove_unused(connection, home)
    assert [path.name for path in (home / published.TABLES / "things").iterdir()] == ["new"]
    assert not killed.exists()
    assert connection.execute("from things").fetchall() == [(2,)]


def test_a_view_follows_a_home_that_was_moved(connection, home, tmp_path):
    published.publish(connection, "things", home, files(home, "one", 1))
    moved = home.rename(tmp_path / "elsewhere")
    with pytest.raises(duckdb.IOException):
        connection.execute("from things")
    published.follow(connection, moved)
    assert connection.execute("from things").fetchall() == [(1,)]
    published.remove_unused(connection, moved)
    assert connection.execute("from things").fetchall() == [(1,)]


def test_views_of_others_are_left_as_they_are(connection, home):
    connection.execute("create view own as select 1 as id")
    published.follow(connection, home)
    assert connection.execute("from own").fetchall() == [(1,)]


def test_a_refused_file_leaves_the_files_of_before(connection, home, tmp_path):
    published.publish(connection, "things", home, files(home, "one", 1))
    bad = tmp_path / "bad.csv"
    bad.write_text("id\nx\n")
    with pytest.raises(SourceRefused, match="1 of 1 rows are bad"):
        load(connection, "things", source(id=column()), [NamedFile(bad, "bad.csv")])
    assert connection.execute("from things").fetchall() == [(1,)]
