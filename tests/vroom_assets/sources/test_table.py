"""A source as a table: checked row by row, the bad rows in quarantine."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.sources import column, source
from vroom_assets.sources import (
    NamedFile,
    SourceRefused,
    load,
    quarantine,
    table,
    write_quarantine,
)


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(connection, loaded, tmp_path):
    declared = source(id=column(), price=column("number"))
    assert loaded(b"price,note,id\n1.5,x,1\n", declared) == [(1, 1.5)]
    report = load(connection, "things", declared, [NamedFile(tmp_path / "content.csv", "data/a.csv")])
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
    load(connection, "things", source(id=column()), [NamedFile(folder / "a.csv", "a.csv")])
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
        load(connection, "things", source(id=column()), [NamedFile(tmp_path / "nowhere.csv", "data/a.csv")])


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
    monkeypatch.setattr(quarantine, "MAX_KEPT", 10)
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
    report = load(connection, "things", declared, [NamedFile(path, "data/a.csv")], past=["at"])
    assert connection.execute("select line, rule from quarantine order by line").fetchall() == [
        (4, "period"),
        (5, "period"),
    ]
    assert "lies ahead of now" in report.findings[0].examples[0]
    load(connection, "things", declared, [NamedFile(path, "data/a.csv")])
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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
@example([b'0,"4', b""], b"\n", True)  # a blank line within quotes that nothing closes
@example([b'0,"4', b'0,"4'], b"\n", False)  # a stray quote, and another in a last line without a line break
@example([b"0,0", b"0.,0"], b"\n", False)  # a whole number with a point
def test_every_row_is_accepted_or_quarantined_and_none_is_altered(tmp_path, rows, line_end, ends):
    """Against a reading of the same lines by Python, one by one."""
    path = tmp_path / "rows.csv"
    path.write_bytes(line_end.join([b"id,price", *rows]) + (line_end if ends else b""))
    declared = source(0.999, id=column(minimum=0), price=column("number", maximum=1000, nullable=True))
    expected, bad = by_hand(path.read_bytes())
    with duckdb.connect() as connection:
        try:
            report = load(connection, "things", declared, [NamedFile(path, "a.csv")])
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
                (number + 1, None)
                for number in range(first, last + 1)
                if number == first or lines[number].strip(b" ")
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
    identity = re.sub(r"(?<=[0-9])\.0*\Z", "", identity)  # 5.0 is a whole number
    if not set(identity) <= set("0123456789+-") or not set(price) <= set("0123456789+-.eE"):
        raise ValueError
    number = float(price) if price else None
    if int(identity) < 0 or (number is not None and number > 1000):
        raise ValueError
    return int(identity), number
