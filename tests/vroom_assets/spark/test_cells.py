"""Cells on Spark: of every text the value that DuckDB finds, whatever is written there."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.support import spark
from tests.support.cells import FORMATS, texts
from vroom_assets.sources import cells
from vroom_assets.spark.cells import NotOnSpark, pattern, to_spark
from vroom_assets.spark.session import session as open_session
from vroom_assets.spec import Column, ColumnType, Format

NOTATIONS = (
    "%d.%m.%Y", "%m/%d/%Y", "%d-%m-%y", "%Y%m%d", "%Y-%m", "%b-%y", "%B %Y", "%b %d, %Y", "%d %b %Y", "%Y%m%dT%H%M%S",
    "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M:%S", "%Y-%m-%d %I:%M:%S %p", "%s", "%Q",
)  # fmt: skip
OF_DATES = [
    *(
        "1.2.2020",
        " 1.2.2020 ",
        "01.02.20",
        "01.02.20201",
        "29.02.2023",
        "29.02.2024",
        "32.1.2020",
        "0.1.2020",
        "1.13.2020",
    ),
    *(
        "7/1/2015 4:05 PM",
        "7/1/2015  4:05 pm",
        "7/1/2015 0:05 pm",
        "7/1/2015 12:05 am",
        "7/1/2015 12:05 PM",
        "07/01/2015",
    ),
    *(
        "jan-05",
        "Jan-69",
        "JAN-68",
        "Sept-05",
        "MAY 2020",
        "May2020",
        "june\t2020",
        "ſep-05",
        "20200203",
        "2020023",
        "1-2-3",
    ),
    *(
        "60 2020",
        "2020-5",
        "2020-13",
        "Jan 5, 2020",
        "5 Jan 2020",
        "20240101T235959",
        "20240101T245959",
        "1.1.0000",
        "epoch",
    ),
    *(
        "1.1.2020 1:2:3",
        "1.1.2020 1:2:60",
        "1696039419",
        "1696039419.5",
        "1696039419123",
        "0.0000005",
        "0.0000015",
        "infinity",
    ),
    *(
        "1.1.1",
        "1.1.12",
        "1.1.123",
        "١.١.2020",
        "1.1.2020\n",
        "\v1.1.2020\f",
        "",
        " ",
        "2020-01-01 13:00:00 PM",
    ),
]
ZONES = (
    "Europe/Vienna",
    "America/St_Johns",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "UTC",
    "Pacific/Apia",
    "Africa/Casablanca",
)
IN_ZONES = [
    f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:00"
    for year in (1583, 1900, 1970, 1996, 2007, 2011, 2024)
    for month in (1, 3, 4, 9, 10, 11, 12)
    for day in (1, 3, 4, 7, 25, 26, 27, 28, 29, 30)
    for hour in (0, 1, 2, 3, 23)
    for minute in (0, 1, 30)
]
OFFSETS = [f"2024-03-01 12:30{seconds}{offset}" for seconds in ("", ":59", ":59.5") for offset in ("Z", "+02", "-0530", "+23:59", "-23:59", "+24", "+5", "z", "+02:60")]  # fmt: skip
UNICODE = ["٣", "５", "é", "1\u20285", "1\u0085", "\u1680 5", "\u200b5", "🚗", "e\u0301", "K", "İ", "5\u3000", "1,5€", "$1,234.50", "(5)", "5-", "€ 1.234,5-", "USD 5", "5USD", "usd 5"]  # fmt: skip
pytestmark = [spark.needed, pytest.mark.slow]


@pytest.fixture(scope="module")
def session() -> Iterator[object]:
    with open_session(spark.LOCAL) as one:
        yield one


def differing(
    session: object, folder: Path, given: list[str], rules: dict[str, str]
) -> list[tuple[str, ...]]:
    """Of each rule, SQL over `cell`, the texts for which the two engines find different values."""
    with duckdb.connect() as connection:
        connection.execute(
            "create table texts as select unnest($given) as cell", {"given": sorted(set(given))}
        )
        connection.execute(f"copy texts to '{folder}/texts.parquet'")
        named = {f"value_{number}": rule for number, rule in enumerate(rules.values())}
        found = session.read.parquet(f"{folder}/texts.parquet").selectExpr(
            "cell", *(f"{to_spark(rule)} as {name}" for name, rule in named.items())
        )
        found.write.parquet(f"{folder}/spark")
        differ = []
        for (title, rule), name in zip(rules.items(), named, strict=True):
            differ += connection.execute(
                f"""
                select '{title}', cell, duck::varchar, spark::varchar from (
                    select cell, {rule} as duck, found.{name} as spark
                    from texts join read_parquet('{folder}/spark/*.parquet') as found using (cell)
                ) where duck is distinct from spark or duck::varchar is distinct from spark::varchar limit 5
                """
            ).fetchall()
        [(rows,)] = connection.execute(f"select count(*) from '{folder}/spark/*.parquet'").fetchall()
        assert rows == len(set(given))
    return differ


def rules_of(formats: dict[str, Format], types: tuple[ColumnType, ...] = tuple(ColumnType)) -> dict[str, str]:
    """The exact rules of each type in each format, and what a cell's text is."""
    rules = {}
    for name, format in formats.items():
        for type in types:
            if type is not ColumnType.ROW:
                column = Column(type=type)
                text = cells.text("cell", column, format)
                rules[f"{name}, {type}"] = cells.value(text, column, format)
                rules[f"{name}, text of {type}"] = text
    return rules


def test_every_text_has_the_same_value_in_every_format(session, tmp_path):
    given = [*texts(), *UNICODE, *OFFSETS]
    assert (
        differing(session, tmp_path, given, rules_of({name: Format(**one) for name, one in FORMATS.items()}))
        == []
    )


def test_a_time_by_a_notation_is_the_same(session, tmp_path):
    formats = {way: Format(dates=way) for way in NOTATIONS} | {
        "several": Format(dates=["%d.%m.%Y", "%m/%d/%Y %I:%M %p", "%s"])
    }
    rules = rules_of(formats, (ColumnType.TIMESTAMP, ColumnType.DATE))
    assert differing(session, tmp_path, OF_DATES, rules) == []


def test_a_local_time_is_the_same_in_utc_whatever_clocks_do(session, tmp_path):
    rules = rules_of({zone: Format(zone=zone) for zone in ZONES}, (ColumnType.TIMESTAMP,))
    assert differing(session, tmp_path, IN_ZONES, rules) == []


def test_a_time_of_several_columns_is_the_same(session, tmp_path):
    months = ["7", "07", "7.0", "July", "AUG", "jul ", "AprİL", "13", "7.5", "", "\t7"]
    pieces = [f"split_part(cell, ';', {number})" for number in (1, 2, 3)]
    joined = cells.joined([cells.text(piece, Column(type="date"), Format()) for piece in pieces])
    rules = {
        "text": joined,
        "value": cells.value(joined, Column(type="date", joins=["y", "m", "d"]), Format()),
    }
    given = [
        f"{year};{month};{day}"
        for year in ("2015", "2015.0", "")
        for month in months
        for day in ("1", "01", "31", "x")
    ]
    assert differing(session, tmp_path, given, rules) == []


@pytest.mark.parametrize(
    "sql", ["list_sort(a)", "regexp_full_match(a, 'x$')", "regexp_full_match(a, '\\w')", "try_strptime(a, ['%j %Y'])", "try_cast(a as json)"]
)  # fmt: skip
def test_a_word_that_may_mean_something_else_is_refused(sql):
    with pytest.raises(NotOnSpark):
        to_spark(sql)


@pytest.mark.parametrize("written", ["a.b", "a++", "(?i)a", "[a&&b]", r"\bx", "x^"])
def test_a_pattern_that_has_two_meanings_is_refused(written):
    with pytest.raises(NotOnSpark):
        pattern(written)
