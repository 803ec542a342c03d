"""A CSV as bytes: rows of several lines, unreadable lines, and the numbers of lines behind them."""

import pytest

from tests.support.sources import column, source
from vroom_assets.sources import (
    lines,
)


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
