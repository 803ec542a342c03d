"""Files as spreadsheets, SAP and instruments export them: declared by `new` and read as they are meant, or refused with what to do."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from vroom_assets import declaration, sources
from vroom_assets.inference import writing
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.spec import ForecastSpec

ROWS = 200
Line = Callable[[int], str]


@pytest.fixture
def new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[ForecastSpec, list[str], list[Any]]]:
    """What `new` declares of a file, what it says, and the second row by what it declared."""
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))

    def declared(content: str | bytes, target: str) -> tuple[ForecastSpec, list[str], list[Any]]:
        file = tmp_path / "given.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        proposal = writing.infer(tmp_path / "defs", "mine", [file], target, None).proposal
        folder = tmp_path / "defs" / "mine"
        spec = declaration.read(folder)
        declaration.check_parameters(folder, spec)
        source = spec.sources["rows"]
        with duckdb.connect() as connection:
            sources.load(connection, "rows", source, [sources.NamedFile(file, "given.csv")])
            columns = ", ".join(f'"{name}"' for name in source.columns if name != "row")
            rows = connection.execute(f"select {columns} from rows").fetchall()
        return spec, list(writing.summary(proposal)), list(rows[1])

    return declared


def lines(header: str, row: Line, *, before: str = "", after: str = "", end: str = "\n") -> str:
    return before + header + end + "".join(row(n) + end for n in range(ROWS)) + after


def amount(n: int) -> int:
    return n * 37 % 101


READ = {
    "a minus behind the number": (
        lines("id,qty,net", lambda n: f"{n},{n % 7},{amount(n)}.50{'-' if amount(n) < 50 else ''}"),
        "net",
        {},
        [1, 1, -37.5],
    ),
    "merged cells above the header": (
        lines("Region,Qty,Price", lambda n: f"{'NSEW'[n % 4]},{n % 7},{amount(n)}.5", before="Sales 2023,,\nConfidential,,\n"),
        "Price",
        {"skip": 2},
        ["S", 1, 37.5],
    ),
    "columns without a name at the end": (
        lines("id,qty,price,,", lambda n: f"{n},{n % 7},{amount(n)},,"),
        "price",
        {"skip": 1, "header": ["id", "qty", "price", "column_4", "column_5"]},
        [1, 1, 37, None, None],
    ),
    "mixed ends of lines": (
        lines("id,qty,price", lambda n: f"{n},{n % 7},{amount(n)}" + "\r" * (n % 2)),
        "price",
        {},
        [1, 1, 37],
    ),
    "errors of a spreadsheet": (
        lines("id,qty,price", lambda n: f"{n},{'#N/A' if n % 9 == 1 else n % 7},{'#DIV/0!' if n % 20 == 0 else amount(n)}"),
        "price",
        {"nulls": ["#DIV/0!", "#N/A"]},
        [1, None, 37],
    ),
    "euros with dots and a byte order mark": (
        lines("\ufeffNr;Menge;Preis", lambda n: f"{n};{n % 7};1.{n + 100}.{100 + amount(n)},89 €"),
        "Preis",
        {"delimiter": ";", "decimal": ","},
        [1, 1, 1_101_137.89],
    ),
    "a clock of twelve hours": (
        lines("when,qty,price", lambda n: f"{n % 12 + 1}/{n // 12 + 1}/2023 {n % 12 + 1}:59 PM,{n % 7},{amount(n)}"),
        "price",
        {"dates": ["%m/%d/%Y %I:%M %p"]},
        [datetime(2023, 2, 1, 14, 59), 1, 37],
    ),
    "months": (
        lines("month,qty,price", lambda n: f"{2005 + n // 12}-{n % 12 + 1:02d},{n % 7},{amount(n)}"),
        "price",
        {"dates": ["%Y-%m"]},
        [datetime(2005, 2, 1), 1, 37],
    ),
    "months by name": (
        lines("month,qty,price", lambda n: f"{['Jan', 'Feb', 'Mar', 'Apr'][n % 4]}-{n // 4 % 23:02d},{n % 7},{amount(n)}"),
        "price",
        {"dates": ["%b-%y"]},
        [datetime(2000, 2, 1), 1, 37],
    ),
    "thousands by apostrophes": (
        lines("id,qty,price", lambda n: f"{n},{n % 7},1'{100 + amount(n)}.50"),
        "price",
        {"thousands": "'"},
        [1, 1, 1137.5],
    ),
    "thousands by blanks": (
        lines("id;qty;price", lambda n: f"{n};{n % 7};1 {100 + amount(n)},50"),
        "price",
        {"delimiter": ";", "decimal": ",", "thousands": " "},
        [1, 1, 1137.5],
    ),
    "thousands by narrow blanks at which no line breaks": (
        lines("id;qty;price", lambda n: f"{n};{n % 7};1\u202f{100 + amount(n)},50"),
        "price",
        {"delimiter": ";", "decimal": ",", "thousands": " "},
        [1, 1, 1137.5],
    ),
    "percentages with a decimal comma": (
        lines("id;share;price", lambda n: f"{n};{n % 90},5 %;{amount(n)}"),
        "price",
        {"delimiter": ";", "decimal": ","},
        [1, 1.5, 37],
    ),
    "an X or nothing": (
        lines("id,vip,price", lambda n: f"{n},{'X' if n % 3 == 0 else ''},{amount(n)}"),
        "price",
        {},
        [1, None, 37],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "target", "format", "second"), READ.values(), ids=READ)
def test_it_is_declared_and_read_as_it_is_meant(new, content, target, format, second):
    spec, _, row = new(content, target)
    assert spec.sources["rows"].format.model_dump(mode="json") == format
    assert row == second


def test_a_mark_or_nothing_is_an_input(new):
    spec, *_ = new(READ["an X or nothing"][0], "price")
    assert spec.inputs == ["vip"]


SAID = {
    "a name that stands twice": (
        lines("id,price,price", lambda n: f"{n},{n % 7},{amount(n)}"),
        "note: price stands 2 times in the header; from left to right they are called price, price_3",
    ),
    "a NUL byte": (
        lines("id,qty,price", lambda n: f"{n},{n % 7},{amount(n)}" + "\0" * (n == 7)),
        "note: 1 of 200 rows cannot be read and are set aside, e.g. given.csv line 9: '7,0,57\\\\x00' holds a NUL byte (0x00)",
    ),
}


@pytest.mark.parametrize(("content", "note"), SAID.values(), ids=SAID)
def test_what_is_odd_is_noted(new, content, note):
    assert note in new(content, "price")[1]


REFUSED = {
    "a sum of all rows": (
        lines(
            "region,qty,price", lambda n: f"{'NSEW'[n % 4]},{n % 7},{amount(n)}", after="Total,600,10100\n"
        ),
        "the last row says 'Total' and sums up the others, as it seems; remove it",
    ),
    "a header of two lines": (
        lines("region,sales,sales", lambda n: f"{'NSEW'[n % 4]},{n % 7},{amount(n)}" if n else ",qty,price"),
        "has no column 'price'; it has region, sales, sales_3. If it stands in a later line, remove the lines before that",
    ),
    "carriage returns alone": (
        lines("id,qty,price", lambda n: f"{n},{n % 7},{amount(n)}", end="\r"),
        "line 1 holds a carriage return that ends no line; end lines with LF or CRLF",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_misread_is_refused_with_what_to_do(new, content, message):
    with pytest.raises(CannotInfer) as refusal:
        new(content, "price")
    assert message in str(refusal.value)


def test_a_row_called_total_among_others_is_a_row(new):
    _, _, row = new(
        lines("region,qty,price", lambda n: f"{('Total', 'N')[n % 2]},{n % 7},{amount(n)}"), "price"
    )
    assert row == ["N", 1, 37]
