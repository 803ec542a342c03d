"""Sources: observed by content, copied once per content, checked row by row."""

import csv
import io
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vroom_assets.sources import (
    Observation,
    SourceChanged,
    SourceError,
    SourceRefused,
    files,
    lines,
    load,
    observe,
    snapshot,
    table,
    write_quarantine,
)
from vroom_assets.spec import Column, ColumnType, Source


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


def test_an_observation_survives_json(path):
    observed = observe(path, None)
    assert msgspec.json.decode(msgspec.json.encode(observed), type=Observation) == observed


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
    inode = first.path.stat().st_ino
    os.utime(path)
    assert snapshot(path, tmp_path / "snapshots") == first
    assert first.path.stat().st_ino == inode


def test_a_damaged_snapshot_is_replaced(path, tmp_path):
    taken = snapshot(path, tmp_path / "snapshots")
    taken.path.chmod(0o644)
    taken.path.write_bytes(b"id\n9\n")
    assert snapshot(path, tmp_path / "snapshots").path.read_bytes() == b"id\n1\n"


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


# load


def column(kind: str = "integer", **rules: object) -> Column:
    return Column(type=ColumnType(kind), **rules)  # type: ignore[arg-type]


def source(tolerated: float = 0.5, **columns: Column) -> Source:
    return Source(path="a.csv", description="", columns=columns, tolerated_bad_share=tolerated)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as one:
        yield one


Loaded = Callable[..., list[tuple]]


@pytest.fixture
def loaded(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Loaded:
    """The rows of a table loaded from bytes."""

    def take(content: bytes, declared: Source, name: str = "things") -> list[tuple]:
        path = tmp_path / "content.csv"
        path.write_bytes(content)
        load(connection, name, declared, path, "data/a.csv")
        return connection.execute(f'from "{name}"').fetchall()

    return take


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(connection, loaded, tmp_path):
    declared = source(id=column(), price=column("number"))
    assert loaded(b"price,note,id\n1.5,x,1\n", declared) == [(1, 1.5)]
    report = load(connection, "things", declared, tmp_path / "content.csv", "data/a.csv")
    assert report.warnings == ["column note is ignored"]
    assert "Note: column note is ignored." in report.as_markdown()


def test_a_table_has_the_declared_types_and_the_order_of_the_file(connection, loaded):
    declared = source(a=column(), b=column("number"), c=column("text"), d=column("timestamp"))
    loaded(b"a,b,c,d\n3,1,x,2023-01-01\n1,.5,y,2023-01-01T10:00\n2,1e3,z,2023-01-01 10:00:00.5\n", declared)
    types = connection.execute("select column_type from (describe things)").fetchall()
    assert types == [("BIGINT",), ("DOUBLE",), ("VARCHAR",), ("TIMESTAMP",)]
    assert connection.execute("select a, b from things").fetchall() == [(3, 1.0), (1, 0.5), (2, 1000.0)]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y\r\n",
        b"a,b\r\n1,x\n2,y\r\n",
        b"a,b\n1,x\r\n2,y",
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b'"a","b"\n"1","x"\n2,"y"\n',
        b"a , b\n 1,x\n2 ,y\n",
        b"a,b\n\n1,x\n   \n2,y\n\n\n",
    ],
    ids=[
        "LF", "CRLF", "mixed", "no last line break", "byte order mark", "quotes", "blanks", "blank lines"
    ],
)  # fmt: skip
def test_the_usual_ways_to_write_a_csv_are_one(loaded, content):
    assert loaded(content, source(a=column(), b=column("text"))) == [(1, "x"), (2, "y")]


def test_text_is_kept_as_it_is_written(loaded):
    declared = source(a=column("text", nullable=True))
    content = b'a,b\n" a, ""b"" ",\n =1+1,\nNULL,\n"",\n\xc3\xa9\xf0\x9f\x9a\x97,\n'
    assert loaded(content, declared) == [(' a, "b" ',), (" =1+1",), ("NULL",), (None,), ("é🚗",)]


def test_an_empty_cell_is_null_where_that_is_declared(loaded):
    declared = source(id=column(), price=column("number", nullable=True, above=0))
    assert loaded(b"id,price\n1,\n2,3\n", declared) == [(1, None), (2, 3.0)]


def test_names_of_columns_may_be_anything(loaded):
    declared = source(**{"line": column(), "it's": column("text"), 'a "b"': column(), "good": column()})
    assert loaded(b'line,it\'s,"a ""b""",good\n1,x,2,3\n', declared) == [(1, "x", 2, 3)]


def test_a_path_with_signs_of_patterns_means_itself(connection, tmp_path):
    folder = tmp_path / "it's [x]*?=1"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"id\n1\n")
    load(connection, "things", source(id=column()), folder / "a.csv", "a.csv")
    write_quarantine(connection, "things", folder / "quarantine.csv")
    assert connection.execute("from things").fetchall() == [(1,)]


def test_the_first_good_row_of_a_key_stays(connection, loaded):
    declared = source(0.9, id=column(unique=True), price=column("number", above=0))
    assert loaded(b"id,price\n1,-5\n1,10\n1,10\n2,1\n1,x\n", declared) == [(1, 10.0), (2, 1.0)]
    kept = connection.execute('select line, rule, "column", value from quarantine order by line').fetchall()
    assert kept == [
        (2, "range", "price", "-5"),
        (4, "unique", "id", "1"),
        (6, "type", "price", "x"),
    ]


def test_a_reference_is_held_against_the_good_rows_of_the_other_table(connection, loaded):
    loaded(
        b"id,price\n1,5\n2,-5\n,3\n",
        source(0.9, id=column(nullable=True), price=column(minimum=0)),
        "parents",
    )
    children = source(0.9, parent=column(references="parents.id", nullable=True))
    assert loaded(b"parent,x\n1,\n2,\n,\n", children, "children") == [(1,), (None,)]
    assert connection.execute("select line, rule from quarantine where source = 'children'").fetchall() == [
        (3, "references")
    ]


def test_a_reference_to_a_table_that_is_not_there_names_what_to_load(loaded):
    with pytest.raises(
        SourceRefused, match=r"parent refers to parents\.id, which is not there; load parents first"
    ):
        loaded(b"parent\n1\n", source(parent=column(references="parents.id")), "children")


def test_a_snapshot_that_is_not_there_is_refused_by_name(connection, tmp_path):
    with pytest.raises(SourceRefused, match=r"^data/a\.csv cannot be read: No such file"):
        load(connection, "things", source(id=column()), tmp_path / "nowhere.csv", "data/a.csv")


def test_the_share_decides_between_quarantine_and_refusal(connection, loaded):
    tolerant, strict = source(0.25, id=column()), source(0.24, id=column())
    content = b"id\n1\n2\n3\nx\n"
    assert loaded(content, tolerant) == [(1,), (2,), (3,)]
    with pytest.raises(SourceRefused, match=r"1 of 4 rows are bad \(25.000%; at most 24.000% is tolerated\)"):
        loaded(content, strict)


def test_a_good_file_empties_the_quarantine_of_its_source_and_of_no_other(connection, loaded, tmp_path):
    declared = source(id=column())
    for name in ("one", "other"):
        loaded(b"id\n1\nx\n", declared, name)
        write_quarantine(connection, name, tmp_path / f"{name}.csv")
    loaded(b"id\n1\n", declared, "one")
    write_quarantine(connection, "one", tmp_path / "one.csv")
    assert connection.execute("select source from quarantine").fetchall() == [("other",)]
    assert not (tmp_path / "one.csv").exists()
    assert (tmp_path / "other.csv").exists()


def test_the_quarantine_has_each_line_as_it_stands_in_the_file(connection, loaded, tmp_path):
    content = b'id,note\n1,\n\n2,"a, ""b""",3\nx,y\n4,\xff\n5,\n'
    loaded(content, source(0.9, id=column(), note=column("text", nullable=True)))
    write_quarantine(connection, "things", tmp_path / "quarantine.csv")
    with open(tmp_path / "quarantine.csv", newline="", encoding="utf-8") as file:
        kept = [(row["file"], row["line"], row["rule"], row["raw"]) for row in csv.DictReader(file)]
    assert kept == [
        ("data/a.csv", "4", "cells", '2,"a, ""b""",3'),
        ("data/a.csv", "5", "type", "x,y"),
        ("data/a.csv", "6", "encoding", "4,\\xff"),
    ]


def test_a_formula_in_quarantine_is_text_to_a_spreadsheet(connection, loaded, tmp_path):
    loaded(b"id\n1\n=1+1\n-3\n@x\n", source(0.9, id=column(minimum=0)))
    write_quarantine(connection, "things", tmp_path / "quarantine.csv")
    with open(tmp_path / "quarantine.csv", newline="") as file:
        assert [row["value"] for row in csv.DictReader(file)] == ["'=1+1", "-3", "'@x"]


def test_quarantine_of_a_refused_file_is_bounded_and_its_report_is_not(connection, loaded, monkeypatch):
    monkeypatch.setattr(table, "MAX_KEPT", 10)
    with pytest.raises(SourceRefused) as refused:
        loaded(b"id\n" + b"x\n" * 1000, source(id=column()))
    [finding] = refused.value.report.findings
    assert (finding.rows, len(finding.examples)) == (1000, 3)
    assert connection.execute("select line from quarantine").fetchall() == [(line,) for line in range(2, 12)]


def test_a_report_is_a_table_in_which_nothing_is_markup(loaded, connection, tmp_path):
    with pytest.raises(SourceRefused) as refused:
        loaded(b"id\n<script>|\n", source(id=column()))
    assert refused.value.report.as_markdown().splitlines() == [
        "data/a.csv: 1 rows read, 0 accepted, 1 quarantined.",
        "",
        "| column | rule | rows | examples |",
        "|---|---|---|---|",
        "| id | type | 1 | data/a.csv line 2, column id: '&lt;script>\\|' is not a whole number |",
    ]


def test_an_error_in_the_middle_leaves_table_and_quarantine_as_they_were(connection, loaded, monkeypatch):
    declared = source(id=column())
    loaded(b"id\n1\nx\n", declared)
    monkeypatch.setattr(table, "_replace_table", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        loaded(b"id\n2\n3\ny\n", declared)
    assert connection.execute("from things").fetchall() == [(1,)]
    assert connection.execute("select value from quarantine").fetchall() == [("x",)]


def test_a_source_leaves_nothing_else_in_the_warehouse(connection, loaded):
    loaded(b"id\n1\nx\n", source(id=column()))
    with pytest.raises(SourceRefused):
        loaded(b"id\nx\n", source(id=column()))
    tables = connection.execute("select table_name from information_schema.tables order by 1").fetchall()
    assert tables == [("quarantine",), ("things",)]


def test_a_mended_copy_is_gone_afterwards_and_the_file_is_untouched(loaded, tmp_path):
    content = b"id\r\n1\n\xff\n2\n"
    assert loaded(content, source(id=column())) == [(1,), (2,)]
    assert (tmp_path / "content.csv").read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["content.csv"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_lines_are_numbered_right_in_a_file_of_many_blocks(connection, loaded, line_end):
    """300,000 lines are more than DuckDB reads in one piece and by one thread."""
    wrong = {5: b"x", 70_001: b"1,2", 150_000: b"", 150_001: b'1"', 299_999: b"y"}
    content = line_end.join([b"id", *(wrong.get(line, b"%d" % line) for line in range(2, 300_001)), b""])
    taken = loaded(content, source(id=column()))
    assert [row[0] for row in taken] == [line for line in range(2, 300_001) if line not in wrong]
    kept = connection.execute("select line, rule, raw from quarantine order by line").fetchall()
    assert kept == [
        (5, "type", "x"),
        (70_001, "cells", "1,2"),
        (150_001, "quotes", '1"'),
        (299_999, "type", "y"),
    ]


def test_lines_are_numbered_right_behind_an_over_long_line(connection, loaded, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 1000)
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    content = b"id\n" + b"1\n" * 400 + b"2" * 5000 + b"\n3\n" + b"4" * 101 + b"\nx\n" + b"5" * 100 + b"\n6\n"
    assert loaded(content, source(id=column())) == [(1,)] * 400 + [(3,), (6,)]
    kept = connection.execute("select line, rule from quarantine order by line").fetchall()
    assert kept == [(402, "length"), (404, "length"), (405, "type"), (406, "type")]


# Rows of several lines

REVIEWS = source(0.01, id=column(unique=True), price=column("number"), comment=column("text"))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_line_break_inside_quotes_is_part_of_the_text(connection, loaded, line_end):
    """RFC 4180, 2.6: or whoever may write a comment may write rows to train on."""
    content = line_end.join(
        [b"id,price,comment", b'1,10,"nice', b"900,99999,cheap", b'and ""clean"""', b"2,20,fine", b""]
    )
    text = 'nice\n900,99999,cheap\nand "clean"'
    assert loaded(content, REVIEWS) == [(1, 10.0, text), (2, 20.0, "fine")]


def test_rows_of_several_lines_keep_their_line_in_the_file(connection, loaded, tmp_path):
    content = b'id,price,comment\n1,1,"a\n\nb"\nx,1,"c\nd"\n3,1,e\n4,1,"f\n\xff"\n5,1,"g\x00\nh"\n'
    declared = REVIEWS.model_copy(update={"tolerated_bad_share": 0.9})
    assert [row[0] for row in loaded(content, declared)] == [1, 3]
    kept = connection.execute("select line, rule, raw from quarantine order by line").fetchall()
    assert kept == [(5, "type", 'x,1,"c\nd"'), (8, "encoding", '4,1,"f'), (10, "bytes", '5,1,"g\\x00')]


def test_a_quote_that_nothing_closes_makes_no_row_of_what_stands_behind_it(connection, loaded):
    """The file may have been cut off inside a comment."""
    content = b'id,price,comment\n1,1,a\n2,2,"b\n900,99999,c'
    declared = REVIEWS.model_copy(update={"tolerated_bad_share": 0.9})
    assert loaded(content, declared) == [(1, 1.0, "a")]
    assert connection.execute("select line, rule, message from quarantine order by line").fetchall() == [
        (3, "quotes", "has a quote that is not closed"),
        (4, "quotes", "stands in the quotes that line 3 opens"),
    ]


def test_a_comment_that_is_too_long_makes_no_rows(connection, loaded, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    monkeypatch.setattr(lines, "CHUNK", 40)
    comment = b"x" * 60 + b"\n" + b"y" * 60 + b"\n900,99999,z\n901,1,z"
    content = b"id,price,comment\n" + b'1,1,"%b"\n2,2,b\n' % comment
    declared = REVIEWS.model_copy(update={"tolerated_bad_share": 0.9})
    assert loaded(content, declared) == [(2, 2.0, "b")]
    [(first,), *_] = connection.execute("select message from quarantine order by line").fetchall()
    assert first == "has a quote that is not closed within 100 bytes"


def test_a_stray_quote_that_another_one_shows_to_be_stray_costs_its_row_alone(connection, loaded):
    content = b'id,price,comment\n1,1,"5 inch\n2,2,b\n3,3,"c, d"\n'
    declared = REVIEWS.model_copy(update={"tolerated_bad_share": 0.9})
    assert [row[0] for row in loaded(content, declared)] == [2, 3]
    assert connection.execute("select line, rule from quarantine").fetchall() == [(2, "quotes")]


# Values and times


def test_a_text_is_one_of_its_values_or_its_row_is_set_aside(connection, loaded):
    """As the service refuses it: other cases and blanks around it are other texts."""
    declared = source(0.9, id=column(), kind=column("text", values=["suv", "it's"], nullable=True))
    content = b"id,kind\n1,suv\n2,SUV\n3, suv\n4,it's\n5,bus\n6,\n"
    assert loaded(content, declared) == [(1, "suv"), (4, "it's"), (6, None)]
    kept = connection.execute("select line, rule, value, message from quarantine order by line").fetchall()
    assert kept == [
        (line, "values", value, "is not one of suv, it's")
        for line, value in ((3, "SUV"), (4, " suv"), (6, "bus"))
    ]


def test_a_time_lies_within_its_period(connection, loaded):
    when = column("timestamp", earliest=datetime(2020, 1, 1), latest=datetime(2024, 1, 1))
    content = b"id,at\n1,2019-12-31\n2,2020-01-01\n3,2024-01-01\n4,2024-01-01 00:00:01\n"
    assert [row[0] for row in loaded(content, source(0.9, id=column(), at=when))] == [2, 3]
    kept = connection.execute("select line, rule, message from quarantine order by line").fetchall()
    words = "is not at or after 2020-01-01 00:00:00 and at or before 2024-01-01 00:00:00"
    assert kept == [(2, "period", words), (5, "period", words)]


def test_what_has_happened_does_not_lie_ahead_of_now(connection, tmp_path):
    now = datetime.now(UTC).replace(tzinfo=None)
    path = tmp_path / "a.csv"
    times = [
        now - timedelta(days=1),
        now + timedelta(hours=13),
        now + timedelta(hours=15),
        datetime(2204, 1, 1),
    ]
    path.write_text("at\n" + "".join(f"{time}\n" for time in times))
    declared = source(0.9, at=column("timestamp"))
    report = load(connection, "things", declared, path, "data/a.csv", past=["at"])
    assert connection.execute("select line, rule from quarantine order by line").fetchall() == [
        (4, "period"),
        (5, "period"),
    ]
    assert "lies ahead of now" in report.findings[0].examples[0]
    load(connection, "things", declared, path, "data/a.csv")
    assert connection.execute("select count(*) from things").fetchall() == [(4,)]


# The spaces of all scripts, but neither tabs nor control characters.
BLANKS = "".join(chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Zs")
CELLS = st.one_of(
    st.integers(-3, 12).map(str),
    st.sampled_from(
        ["", " ", "x", "1.5", "-0", "1e3", "nan", '"4"', '"4', '5"', '""', "=1+1", "\u00a07", "é"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=4),
)
LINES = st.one_of(
    st.tuples(CELLS, CELLS).map(lambda cells: ",".join(cells).encode()),
    st.lists(CELLS, max_size=4).map(lambda cells: ",".join(cells).encode()),
    st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_every_row_is_accepted_or_quarantined_and_none_is_altered(tmp_path, rows, line_end, ends):
    """Against a reading of the same lines by Python, one by one."""
    path = tmp_path / "rows.csv"
    path.write_bytes(line_end.join([b"id,price", *rows]) + (line_end if ends else b""))
    declared = source(0.999, id=column(minimum=0), price=column("number", maximum=1000, nullable=True))
    expected, bad = by_hand(path.read_bytes())
    with duckdb.connect() as connection:
        try:
            report = load(connection, "things", declared, path, "a.csv")
            assert connection.execute("from things").fetchall() == expected
        except SourceRefused as refused:
            report = refused.report
            assert expected == []
        assert report.accepted + report.quarantined == report.read
        assert report.accepted == len(expected)
        kept = connection.execute("select distinct line from quarantine order by line").fetchall()
        assert [line for (line,) in kept] == bad


def rows_by_hand(lines: list[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Each row with the number of its first line; None for a line within quotes that nothing closes."""
    first = 1
    while first < len(lines):
        last = first
        while (ends := ending_by_hand(b"\n".join(lines[first : last + 1]))) == "open" and last + 1 < len(
            lines
        ):
            last += 1
        if ends == "open":
            yield from (
                (number + 1, None) for number in range(first, last + 1) if number == first or lines[number]
            )
            return
        if ends == "broken":
            last = first
        yield first + 1, b"\n".join(lines[first : last + 1])
        first = last + 1


def ending_by_hand(row: bytes) -> str:
    state = "start of a cell"
    for byte in row.decode("latin-1"):
        if state == "quoted":
            state = "quote in quotes" if byte == '"' else "quoted"
        elif byte == ",":
            state = "start of a cell"
        elif byte == '"' and state in ("start of a cell", "quote in quotes"):
            state = "quoted"
        elif byte == '"' or state == "quote in quotes":
            return "broken"
        else:
            state = "bare"
    return "open" if state == "quoted" else "closed"


def by_hand(content: bytes) -> tuple[list[tuple], list[int]]:
    """The good rows, and the lines of the bad ones."""
    good, bad = [], []
    for number, line in rows_by_hand(content.replace(b"\r\n", b"\n").split(b"\n")):
        if line is None:
            bad.append(number)
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            bad.append(number)
            continue
        if not text.strip(BLANKS):
            continue
        try:
            good.append(row_by_hand(text))
        except ValueError:
            bad.append(number)
    return good, bad


def row_by_hand(text: str) -> tuple[int, float | None]:
    if set(text) & set("\0\x1e\x1f\r"):
        raise ValueError
    try:
        cells = next(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise ValueError from error
    quoted_inside = any('"' in cell for cell in cells) and '""' not in text
    if len(cells) != 2 or quoted_inside:
        raise ValueError
    identity, price = (cell.strip(BLANKS) for cell in cells)
    if not set(identity) <= set("0123456789+-") or not set(price) <= set("0123456789+-.eE"):
        raise ValueError
    number = float(price) if price else None
    if int(identity) < 0 or (number is not None and number > 1000):
        raise ValueError
    return int(identity), number
