"""A cell's value: the quick way finds what the exact rules find, whatever is written there."""

from collections.abc import Iterable
from itertools import product

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.sources import column, source
from vroom_assets.sources import NamedFile, SourceRefused, cells, load
from vroom_assets.spec import Column, ColumnType, Format

SIGNS = "015.,e+-_ \t\xa0xinfP%:'"  # of all that a cast or a rule takes for a part of a number
MOMENTS = (
    "2023-07-27", "2023-07-27 14:58:26", "2023-07-27T14:58", "2023-07-27 14:58:26.123456", "0999-12-31 00:00:00",
    "1000-01-01 00:00:00", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00", "10000-01-01", "0044-03-15 (BC)",
    "0044-03-15 (BC) 00:00:00", "infinity", "-infinity", "epoch", "today", "now", "2023-07-27 24:00:00", "2023-02-29",
    "2023-07-27 14:58:26Z", "2023-07-27 14:58:26+02:00", "2023-03-26 02:30:00", "2023-10-29 02:30:00",
    "2023-07-27 14:58:60", "2023/07/27", "2023-7-27", "27.07.2023", "2023-07-27 14:58:26 UTC", "2023-07-27 14:58:26.1",
)  # fmt: skip
AWKWARD = (
    "1_000", "1e3", " 5", "5 ", "0x10", "0b1", "inf", "-Infinity", "nan", "NaN", "5.0", "٣", "５", "+5", "--5", "1,5",
    "", "1e400", "1e-400", "-0", "00005", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "1'234", "1 234", "1.234,5", "1,234.5", "90%", "90 %", "$1", "1:24.500", "PT1H2M", "2 days 03:04:05", "true", "T",
    "yes", " 1", "1 ", "NA", "NA ", " NA", "NA\xa0", "\xa0NA", "\xa0", "é", " é ", "999", " 999", "999 ", "999.0", "-1",
    "0.1", "0.30000000000000004", "1e22", "123456789012345678901234567890", "1\x1d", "\x1d", "5\v", "\f5", "1d", "1f",
)  # fmt: skip
FORMATS = {
    "as it stands": {},
    "decimal comma": {"decimal": ","},
    "both marks": {"decimal": ",", "thousands": "."},
    "thousands by commas": {"thousands": ","},
    "thousands by apostrophes": {"thousands": "'"},
    "thousands by blanks": {"thousands": " "},
    "words for empty cells": {"nulls": ["NA", "999", "-1", "2023-07-27 14:58:26", "2023-07-27", "1"]},
    "a number for empty cells in decimal commas": {"nulls": ["1"], "decimal": ","},
    "trimmed": {"trim": True},
    "trimmed, with words for empty cells": {"trim": True, "nulls": ["NA", "-"]},
    "a zone": {"zone": "Europe/Vienna"},
    "own dates": {"dates": ["%d.%m.%Y", "%Y/%m/%d"]},
}
COLUMNS = [Column(type=type) for type in ColumnType if type is not ColumnType.ROW]


def edited(texts: Iterable[str]) -> set[str]:
    """The texts, and all with one character left out, put in or replaced."""
    found = set(texts)
    for text in texts:
        for at in range(len(text) + 1):
            found.add(text[:at] + text[at + 1 :])
            found.update(text[:at] + sign + text[at + skip :] for sign in SIGNS + "9TZ" for skip in (0, 1))
    return found


@pytest.fixture(scope="module")
def texts() -> Iterable[duckdb.DuckDBPyConnection]:
    """A table of all texts of up to three signs, and of others with all that is one edit away."""
    short = {"".join(one) for length in range(4) for one in product(SIGNS, repeat=length)}
    with duckdb.connect() as connection:
        connection.execute(
            "create table texts as select unnest($texts) as cell",
            {"texts": sorted(short | edited([*MOMENTS, *AWKWARD]))},
        )
        yield connection


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_the_quick_way_finds_the_value_of_the_exact_rules(texts, format):
    declared = Format(**format)
    for each in COLUMNS:
        exact = cells.value(cells.text("cell", each, declared), each, declared)
        for plain in (False, True):
            quick = cells.read("cell", each, declared, plain_blanks=plain)
            where = "where not regexp_matches(cell, '[\\t\\v\\f]')" if plain else ""
            differ = texts.execute(
                f"select cell, quick, exact from (select cell, {quick} as quick, {exact} as exact from texts {where}) "
                "where quick is distinct from exact or quick::varchar is distinct from exact::varchar"
            ).fetchall()
            assert differ == [], each
    assert texts.execute("select count(*) from texts").fetchall()[0][0] > 20_000


PIECES = st.one_of(
    st.sampled_from([*MOMENTS, *AWKWARD]), st.text(alphabet=SIGNS.replace(",", ""), max_size=6)
)
TYPES = ("integer", "number", "text", "timestamp", "flag", "percent", "duration", "date", "currency")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(PIECES, st.sampled_from(TYPES), st.booleans()), min_size=1, max_size=6), st.data())
def test_a_file_is_read_alike_whether_or_not_something_in_it_needs_care(tmp_path, columns, data):
    """The same rows, once as they are and once with a quoted row at the end, through which all are read with care."""
    rows = [[piece for piece, *_ in columns]]
    rows += [[data.draw(PIECES) for _ in columns] for _ in range(data.draw(st.integers(0, 20)))]
    rows = [[cell.replace(",", ";").replace("\x1d", "") for cell in row] for row in rows]
    declared = source(
        0.99,
        **{f"c{n}": column(type, nullable=nullable) for n, (_, type, nullable) in enumerate(columns)},
        n=column(),
    )
    lines = [",".join([*declared.columns]), *(",".join([*row, str(n)]) for n, row in enumerate(rows))]
    last = ",".join(['"\t"'] * len(columns) + ["x"])  # never a good row
    found = []
    for number, content in enumerate((lines, [*lines, last])):
        path = tmp_path / f"{number}.csv"
        path.write_text("\n".join(content) + "\n", newline="")
        with duckdb.connect() as connection:
            try:
                load(connection, "things", declared, [NamedFile(path, "a.csv")])
                good = connection.execute("from things order by n").fetchall()
            except SourceRefused:
                good = []
            quarantined = connection.execute(
                'select line, "column", rule, value, message, raw from quarantine where line between 2 and ? order by all',
                [len(lines)],
            ).fetchall()
            found.append((repr(good), quarantined))
    assert found[0] == found[1]
