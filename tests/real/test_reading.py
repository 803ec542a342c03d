"""Cells and files as people write them: read as what they mean, or refused with the word that would read them."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vroom_assets import sources
from vroom_assets.sources import SourceRefused, cells
from vroom_assets.spec import Column, Format, Source

Read = Callable[..., list[tuple[Any, ...]]]


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The rows of a file, by the columns that it is declared with."""

    def load(content: bytes | str, columns: dict[str, Any], **format: Any) -> list[tuple[Any, ...]]:
        path = tmp_path / "file.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        declared = {
            name: Column(**(given if isinstance(given, dict) else {"type": given}))
            for name, given in columns.items()
        }
        source = Source(
            path="file.csv", description="", columns=declared, format=Format(**format), tolerated_bad_share=0
        )
        with duckdb.connect() as connection:
            sources.load(connection, "rows", source, [sources.NamedFile(path, "data/file.csv")])
            return connection.execute("from rows").fetchall()

    return load


DOUBLE = {"type": "number", "nullable": True}


@pytest.mark.parametrize(
    ("type", "text", "format", "value"),
    [
        ("integer", "5", {}, 5),
        ("integer", "30.0", {}, 30),
        ("integer", "-7.", {}, -7),
        ("integer", "1.234.567", {"decimal": ",", "thousands": "."}, 1_234_567),
        ("integer", "12'000", {"thousands": "'"}, 12_000),
        ("number", "1,5", {"decimal": ",", "delimiter": ";"}, 1.5),
        ("number", "1.234,5", {"decimal": ",", "thousands": ".", "delimiter": ";"}, 1234.5),
        ("number", "1 234.5", {"thousands": " "}, 1234.5),
        ("number", "1234.5", {"thousands": " "}, 1234.5),
        ("number", "1.46E+2", {}, 146.0),
        ("number", ".5", {}, 0.5),
        ("flag", "t", {}, 1),
        ("flag", "False", {}, 0),
        ("flag", "YES", {}, 1),
        ("flag", "n", {}, 0),
        ("flag", "1", {}, 1),
        ("percent", "98%", {}, 98.0),
        ("percent", "12.5 %", {}, 12.5),
        ("percent", "7", {}, 7.0),
        ("percent", "-0,5%", {"decimal": ",", "delimiter": ";"}, -0.5),
        ("currency", "$1234.00", {}, 1234.0),
        ("currency", '"$1,234.00"', {}, 1234.0),
        ("currency", "-$12.50", {}, -12.5),
        ("currency", "$-12.50", {}, -12.5),
        ("currency", "(12.50)", {}, -12.5),
        ("currency", "EUR 99", {}, 99.0),
        ("currency", "1.234,50 €", {"decimal": ",", "delimiter": ";"}, 1234.5),
        ("duration", "1:24.500", {}, 84.5),
        ("duration", "01:02:03", {}, 3723.0),
        ("duration", "2 days 03:04:05", {}, 2 * 86_400 + 3 * 3_600 + 4 * 60 + 5.0),
        ("duration", "PT1H2M", {}, 3720.0),
        ("duration", "P1DT0.5S", {}, 86_400.5),
        ("duration", "84.5", {}, 84.5),
        ("date", "2024-02-29", {}, datetime(2024, 2, 29)),
        ("date", "29.02.2024", {"dates": "%d.%m.%Y"}, datetime(2024, 2, 29)),
        ("timestamp", "2024-01-02 03:04", {}, datetime(2024, 1, 2, 3, 4)),
        ("timestamp", "2024-01-02", {}, datetime(2024, 1, 2)),
        ("timestamp", "2024-01-02T03:04:05Z", {}, datetime(2024, 1, 2, 3, 4, 5)),
        ("timestamp", "2024-01-02T03:04:05+02:00", {}, datetime(2024, 1, 2, 1, 4, 5)),
        ("timestamp", "2024-01-02 03:04:05-0530", {}, datetime(2024, 1, 2, 8, 34, 5)),
        ("timestamp", "05-02-2010", {"dates": ["%d-%m-%Y"]}, datetime(2010, 2, 5)),
        (
            "timestamp",
            "7/1/2015 4:05 PM",
            {"dates": ["%m/%d/%Y", "%m/%d/%Y %I:%M %p"]},
            datetime(2015, 7, 1, 16, 5),
        ),
        ("timestamp", "2024-07-01 12:00", {"zone": "Europe/Vienna"}, datetime(2024, 7, 1, 10)),
        ("timestamp", "2024-03-31 02:30", {"zone": "Europe/Vienna"}, datetime(2024, 3, 31, 1, 30)),
        ("timestamp", "2024-10-27 02:30", {"zone": "Europe/Vienna"}, datetime(2024, 10, 27, 1, 30)),
        ("timestamp", "2024-07-01T12:00:00+00:00", {"zone": "Europe/Vienna"}, datetime(2024, 7, 1, 12)),
        ("text", "  kept as it is ", {}, "  kept as it is "),
        ("category", "Kärnten", {}, "Kärnten"),
    ],
)
def test_a_cell_is_read_as_what_it_means(read, type, text, format, value):
    mark = format.get("delimiter", ",")
    assert read(f"a{mark}b\n{text}{mark}1\n", {"a": type, "b": "integer"}, **format) == [(value, 1)]


@pytest.mark.parametrize(
    ("type", "text", "message"),
    [
        ("number", '"1,234.00"', "is not a finite number; `format: {thousands: ','}` reads it"),
        ("number", '"1,5"', "`format: {decimal: ','}` reads it"),
        ("number", '"1.234,5"', "`format: {decimal: ',', thousands: '.'}` reads it"),
        ("number", "$12.50", "`type: currency` reads it"),
        ("number", "12 €", "`type: currency` reads it"),
        ("number", "90%", "`type: percent` reads it"),
        ("number", "1:24.5", "`type: duration` reads it"),
        ("number", "NA", "`format: {nulls: [NA]}` with this word reads it as empty"),
        ("number", "?", "with this word reads it as empty"),
        ("integer", "t", "`type: flag` reads it"),
        ("integer", "5.5", "is not a whole number; `type: number` reads it"),
        ("integer", "1.46E+18", "it was rounded where the file was written"),
        ("integer", "2024-01-02", "`type: timestamp` reads it"),
        ("integer", "seven", "'seven' is not a whole number"),
        ("flag", "maybe", "is not a flag (yes or no, true or false, t or f, 1 or 0)"),
        ("percent", "half", "is not a percentage (90%)"),
        ("currency", '"$1,23,4"', "is not an amount of money"),
        ("duration", "PT", "is not a duration"),
        ("duration", "9" * 400 + ":00", "is not a duration"),
        ("currency", "$" + "9" * 400, "is not an amount of money"),
        ("duration", "soon", "is not a duration (1:24.500, 2 days 03:04:05, PT1H2M or seconds)"),
        ("timestamp", "05-02-2010", "say how, e.g. `format: {dates: '%d.%m.%Y'}`, or '%m/%d/%Y'"),
        ("timestamp", "5/2/2010 7:30", "say how, e.g. `format: {dates: '%d.%m.%Y %H:%M'}`"),
        ("timestamp", "2024-02-30", "is not a date and time"),
        ("date", "2024-01-02T03:04:05Z", "is not a date (2023-07-27); `type: timestamp` reads it"),
        ("date", "2024-01-02 03:04", "is not a date"),
    ],
)
def test_what_is_not_read_is_refused_with_the_word_that_would_read_it(read, type, text, message):
    with pytest.raises(SourceRefused) as refusal:
        read(f"a,b\n{text},1\n", {"a": type, "b": "integer"})
    assert "data/file.csv line 2, column a: " in str(refusal.value)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "columns", "format", "rows"),
    [
        ("a;b\n1;2\n", {"a": "integer", "b": "integer"}, {"delimiter": ";"}, [(1, 2)]),
        ("a\tb\n1\tx,y\n", {"a": "integer", "b": "text"}, {"delimiter": "\t"}, [(1, "x,y")]),
        ("a|b\n1|'x|''y'\n", {"a": "integer", "b": "text"}, {"delimiter": "|", "quote": "'"}, [(1, "x|'y")]),
        (
            'a;b\n1;"x\ny;"\n2;z\n',
            {"a": "integer", "b": "text"},
            {"delimiter": ";"},
            [(1, "x\ny;"), (2, "z")],
        ),
        ("sep=;\na;b\n1;2\n", {"a": "integer", "b": "integer"}, {"delimiter": ";", "skip": 1}, [(1, 2)]),
        ('"odd\nnotes\na\n1\n', {"a": "integer"}, {"skip": 2}, [(1,)]),
        ("1,x\n2,y\n", {"b": "text", "a": "integer"}, {"header": ["a", "b"]}, [("x", 1), ("y", 2)]),
        ("made by\n1,x\n", {"b": "text"}, {"header": ["a", "b"], "skip": 1}, [("x",)]),
        ("größe\n1\n".encode("latin-1"), {"größe": "integer"}, {"encoding": "latin-1"}, [(1,)]),
        ("a,b\n1,“x”\n".encode("cp1252"), {"b": "text"}, {"encoding": "windows-1252"}, [("“x”",)]),
        ("a,b\r\n1,ß\r\n".encode("utf-16"), {"b": "text"}, {"encoding": "utf-16"}, [("ß",)]),
        ("\ufeffa,b\n1,2\n", {"a": "integer"}, {}, [(1,)]),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), {"b": "integer"}, {}, [(2,)]),
        (
            gzip.compress("a\nß\n".encode("latin-1"), mtime=0),
            {"a": "text"},
            {"encoding": "latin-1"},
            [("ß",)],
        ),
        (
            "Year,Month,Day\n2015,July,1\n2016,Feb,29\n2016,2.0,01\n",
            {"at": {"type": "date", "joins": ["year", "month", "day"]}, "month": "text"},
            {},
            [
                (datetime(2015, 7, 1), "July"),
                (datetime(2016, 2, 29), "Feb"),
                (datetime(2016, 2, 1), "2.0"),
            ],
        ),
        (
            "y;m;d;h\n2015;7;1;5\n2015;7;26;2\n",
            {"at": {"type": "timestamp", "joins": ["y", "m", "d", "h"]}},
            {"delimiter": ";", "dates": "%d.%m.%Y", "zone": "Europe/Vienna"},
            [(datetime(2015, 7, 1, 3),), (datetime(2015, 7, 26),)],
        ),
        (
            '"y","m"\n"2015","7"\n"","7"\n',
            {"at": {"type": "date", "joins": ["y", "m"], "nullable": True}},
            {},
            [(datetime(2015, 7, 1),), (None,)],
        ),
        (zstd(b"a,b\n1,2\n"), {"b": "integer"}, {}, [(2,)]),
        (zstd(b"a,b\n1,2\n") + zstd(b"3,4\n"), {"b": "integer"}, {}, [(2,), (4,)]),
        (
            b'a,b\n"a 3\\" nail",1\n"a \\\\ and more\\\\",2\n"two\\\nlines, ""one"" cell\\n",3\n\\\\,4\n',
            {"a": "text", "b": "integer"},
            {"escape": "\\"},
            [('a 3" nail', 1), ("a \\ and more\\", 2), ('two\nlines, "one" cell\\n', 3), ("\\", 4)],
        ),
        (
            "a,b\nNA,1\n-,2\n,3\n",
            {"a": DOUBLE, "b": "integer"},
            {"nulls": ["NA", "-"]},
            [(None, 1), (None, 2), (None, 3)],
        ),
        ("a\nNA\nNAB\n", {"a": {"type": "text", "nullable": True}}, {"nulls": "NA"}, [(None,), ("NAB",)]),
        (
            "Price (USD),Host ID\n5,7\n",
            {"price": {"type": "integer", "header": "Price (USD)"}, "host_id": "integer"},
            {},
            [(5, 7)],
        ),
        ("VEHICLE_ID,ActualPrice\n1,2\n", {"vehicle_id": "integer", "actual_price": "integer"}, {}, [(1, 2)]),
        ("a\nx\n\ny\n", {"row": "row", "a": "text"}, {}, [(1, "x"), (3, "y")]),
        ("note\nx\ny\n", {"row": "row", "a": "text"}, {"header": ["a"], "skip": 1}, [(1, "x"), (2, "y")]),
    ],
)
def test_a_file_is_read_as_it_is_written(read, content, columns, format, rows):
    assert read(content, columns, **format) == rows


@pytest.mark.parametrize(
    ("content", "columns", "format", "message"),
    [
        ("a;b\n1;2\n", {"b": "integer"}, {}, "declare `format: {delimiter: ';'}`"),
        ("a\tb\n1\t2\n", {"b": "integer"}, {}, 'declare `format: {delimiter: "\\t"}`'),
        ("sep=;\na;b\n1;2\n", {"b": "integer"}, {}, "declare `format: {skip: 1, delimiter: ';'}`"),
        (
            "größe\n1\n".encode("latin-1"),
            {"größe": "integer"},
            {},
            "declare `format: {encoding: …}`, e.g. windows-1252",
        ),
        ("a\n1\n".encode("utf-16"), {"a": "integer"}, {}, "declare `format: {encoding: utf-16}`"),
        ("a\nß\n", {"a": "text"}, {"encoding": "ascii"}, "it is not ascii: "),
        (
            gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9],
            {"b": "integer"},
            {},
            ": it is not a whole gzip file: ",
        ),
        (zstd(b"a,b\n1,2\n" * 99)[:-9], {"b": "integer"}, {}, ": it is not a whole zstd file: "),
        (b"\x28\xb5\x2f\xfd....", {"a": "text"}, {}, ": it is not a whole zstd file: "),
        (
            "y,m,d\n2015,2,29\n",
            {"at": {"type": "date", "joins": ["y", "m", "d"]}},
            {},
            "line 2, column at: '2015-02-29' is not a date of y, m, d",
        ),
        (
            "y,m\n2015,7.5\n",
            {"at": {"type": "date", "joins": ["y", "m"]}},
            {},
            "line 2, column at: '2015-7.5-01' is not a date of y, m",
        ),
        (
            "at\nepoch\n",
            {"at": "timestamp"},
            {"dates": "%d.%m.%Y"},
            "line 2, column at: 'epoch' is not a date and time",
        ),
        (
            "y,m\n2015,13\n",
            {"at": {"type": "date", "joins": ["y", "m", "d"]}},
            {},
            "column d (for at) is missing; the header is y, m",
        ),
        (
            "y,m\n2015,\n",
            {"at": {"type": "date", "joins": ["y", "m"]}},
            {},
            "line 2, column at: is empty",
        ),
        (b'a,b\n"x\\"y",1\n', {"a": "text"}, {}, "declare `format: {escape: "),
        (
            "Price,price\n1,2\n",
            {"PRICE": "integer"},
            {},
            "column PRICE is missing; the header is Price, price; or declare",
        ),
        ("note\nx;1\n", {"b": "integer"}, {"skip": 1, "delimiter": ";"}, " line 2: column b is missing"),
        ("a,b\n1\n", {"a": "integer"}, {}, "line 2: has 1 cells, the header has 2"),
        ("1,x\n2\n", {"a": "integer"}, {"header": ["a", "b"]}, "line 2: has 1 cells, the header has 2"),
    ],
)
def test_a_file_that_is_written_otherwise_is_refused_with_what_to_declare(
    read, content, columns, format, message
):
    with pytest.raises(SourceRefused) as refusal:
        read(content, columns, **format)
    assert str(refusal.value).startswith("data/file.csv")
    assert message in str(refusal.value)


def test_findings_count_lines_of_the_file_whatever_stands_before(read):
    with pytest.raises(SourceRefused, match=r"data/file.csv line 6, column a: 'x' is not a whole number"):
        read('made by\nsomebody\na;b\n1;"two\nlines"\nx;2\n', {"a": "integer"}, delimiter=";", skip=2)


CONNECTION = duckdb.connect()


def meaning(text: str, type: str, **format: Any) -> Any:
    sql = cells.value("$text", Column(type=type), Format(**format))
    [(value,)] = CONNECTION.execute(f"select {sql}", {"text": text}).fetchall()
    return value


@given(
    st.decimals(-(10**12), 10**12, places=2),
    st.sampled_from([(".", ","), (",", "."), (".", " "), (",", "'")]),
)
def test_a_number_means_the_same_in_every_notation(number, marks):
    decimal, thousands = marks
    text = f"{number:,.2f}".replace(",", "#").replace(".", decimal).replace("#", thousands)
    assert meaning(text, "number", decimal=decimal, thousands=thousands) == float(number)
    if thousands != decimal and thousands in ".,":
        negative = f"({text.removeprefix('-')} €)" if number < 0 else f"€ {text}"
        assert meaning(negative, "currency", decimal=decimal) == float(number)


@given(st.integers(0, 10**9), st.integers(0, 999))
def test_a_duration_means_the_same_in_every_notation(whole, milli):
    seconds = whole + milli / 1000
    days, rest = divmod(whole, 86_400)
    hours, minutes, last = rest // 3600, rest % 3600 // 60, rest % 60
    fraction = f".{milli:03}"
    for text in (
        f"{days} days {hours:02}:{minutes:02}:{last:02}{fraction}",
        f"{days * 24 + hours}:{minutes:02}:{last:02}{fraction}",
        f"P{days}DT{hours}H{minutes}M{last}{fraction}S",
        f"{whole}{fraction}",
    ):
        assert meaning(text, "duration") == pytest.approx(seconds, abs=1e-6)


ZONES = ["Europe/Vienna", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]


@given(st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)), st.sampled_from(ZONES))
def test_a_local_time_means_the_moment_at_which_clocks_show_it(local, zone):
    local = local.replace(microsecond=0)
    there = local.replace(tzinfo=ZoneInfo(zone), fold=1)
    assume(there.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local)  # clocks skip it
    found = meaning(f"{local}", "timestamp", zone=zone)
    assert found == there.astimezone(UTC).replace(tzinfo=None)
    assert meaning(f"{there.replace(fold=0).isoformat()}", "timestamp") in (
        found,
        found - timedelta(hours=1),
        found - timedelta(minutes=30),
    )


@pytest.mark.parametrize(
    ("dates", "text", "at"),
    [
        ("%s", "0", datetime(1970, 1, 1)),
        ("%s", "1709164800", datetime(2024, 2, 29)),
        ("%s", "1709164800.5", datetime(2024, 2, 29, 0, 0, 0, 500000)),
        ("%Q", "1709164800123", datetime(2024, 2, 29, 0, 0, 0, 123000)),
        (["%Q", "%s"], "1709164800", datetime(2024, 2, 29)),
        (["%Q", "%s"], "1709164800000", datetime(2024, 2, 29)),
        (["%Y%m%d", "%s"], "20240229", datetime(2024, 2, 29)),
        (["%d.%m.%Y", "%s"], "29.02.2024", datetime(2024, 2, 29)),
    ],
)
def test_seconds_and_milliseconds_since_1970_are_times_in_utc(read, dates, text, at):
    columns = {"at": "timestamp", "b": "integer"}
    assert read(f"at,b\n{text},1\n", columns, dates=dates) == [(at, 1)]


@pytest.mark.parametrize("text", ["-1709164800", "soon", "17091648001709164800", "1e9"])
def test_what_counts_no_seconds_is_refused(read, text):
    with pytest.raises(SourceRefused, match=f"column at: '{text}' is not a date and time"):
        read(f"at,b\n{text},1\n", {"at": "timestamp", "b": "integer"}, dates="%s")
