"""A cell's value: the quick way finds what the exact rules find, whatever is written there."""

from collections.abc import Iterable

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cells import AWKWARD, FORMATS, MOMENTS, SIGNS
from tests.support.cells import texts as texts_of_cells
from tests.support.sources import column, source
from vroom_assets.sources import NamedFile, SourceRefused, cells, load
from vroom_assets.spec import Column, ColumnType, Format

COLUMNS = [Column(type=type) for type in ColumnType if type is not ColumnType.ROW]


@pytest.fixture(scope="module")
def texts() -> Iterable[duckdb.DuckDBPyConnection]:
    """A table of all texts of up to three signs, and of others with all that is one edit away."""
    with duckdb.connect() as connection:
        connection.execute(
            "create table texts as select unnest($texts) as cell",
            {"texts": texts_of_cells()},
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


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
