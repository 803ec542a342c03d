"""Hostile CSVs: each says what is wrong and where, and the good table of before is not touched.

A file that breaks its contract as a whole is refused; single bad lines are set aside, up to the declared
share. Either way the quarantine can be read, as a table and as a CSV.
"""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import yaml

from tests.support.hostile import (
    BAD_LINES,
    BAD_RESERVATIONS,
    HEADER,
    RESERVATIONS,
    USELESS,
    VEHICLES,
    Hostile,
)
from tests.support.project import ROOT
from vroom_assets.sources import NamedFile, SourceRefused, load, write_quarantine
from vroom_assets.spec import Source

DECLARATION = ROOT / "vroom_assets" / "defs" / "reservations" / "defs.yaml"
FILES = {"vehicles": "data/reservations/vehicles.csv", "reservations": "data/reservations/reservations.csv"}


@pytest.fixture(scope="module")
def declared() -> dict[str, Source]:
    """The flagship's sources as they are shipped."""
    sources = yaml.safe_load(DECLARATION.read_text())["attributes"]["sources"]
    return {name: Source(**source) for name, source in sources.items()}


@pytest.fixture(scope="module")
def good_tables(tmp_path_factory: pytest.TempPathFactory, declared: dict[str, Source]) -> Path:
    """The file of a warehouse that holds good tables of both sources; tests take copies of it."""
    folder = tmp_path_factory.mktemp("good")
    with duckdb.connect(folder / "warehouse.duckdb") as one:
        for name, content in {"vehicles": VEHICLES, "reservations": RESERVATIONS}.items():
            path = folder / f"good_{name}.csv"
            path.write_bytes(content)
            load(one, name, declared[name], [NamedFile(path, FILES[name])])
    return folder / "warehouse.duckdb"


@pytest.fixture
def connection(tmp_path: Path, good_tables: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse of the test's own that holds good tables of both sources."""
    shutil.copyfile(good_tables, tmp_path / "warehouse.duckdb")
    with duckdb.connect(tmp_path / "warehouse.duckdb") as one:
        yield one


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple]:
    return connection.execute(f"select * from {table} order by all").fetchall()


def by_name(cases: list[Hostile]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@by_name(USELESS)
def test_a_useless_file_is_refused_and_the_table_stays(connection, declared, tmp_path, case):
    before = {name: rows(connection, name) for name in declared}
    path = tmp_path / "bad.csv"
    path.write_bytes(case.content)

    with pytest.raises(SourceRefused) as refused:
        load(connection, case.source, declared[case.source], [NamedFile(path, FILES[case.source])])

    assert case.message in str(refused.value)
    assert str(refused.value).startswith(FILES[case.source])
    assert {name: rows(connection, name) for name in declared} == before
    write_quarantine(connection, case.source, tmp_path / "quarantine.csv")
    kept = connection.execute("select message from quarantine where source = ?", [case.source]).fetchall()
    if kept:
        with open(tmp_path / "quarantine.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(kept)
    else:
        assert case.content.strip() == HEADER.strip()


@by_name(BAD_LINES)
def test_a_bad_vehicle_is_set_aside_and_the_others_are_taken(connection, declared, tmp_path, case):
    path = tmp_path / "mixed.csv"
    path.write_bytes(VEHICLES + case.content)

    report = load(connection, "vehicles", declared["vehicles"], [NamedFile(path, FILES["vehicles"])])

    assert [report.read, report.accepted, report.quarantined] == [201, 200, 1]
    assert set_aside(connection, "vehicles", case.message, report) == [202]
    assert [row[0] for row in rows(connection, "vehicles")] == list(range(1, 201))


def test_a_line_of_100_mb_is_set_aside_like_any_other(connection, declared, tmp_path):
    path = tmp_path / "mixed.csv"
    with open(path, "wb") as file:
        file.write(VEHICLES)
        for _ in range(100):
            file.write(b"9" * 1_000_000)
        file.write(b"\n")

    report = load(connection, "vehicles", declared["vehicles"], [NamedFile(path, FILES["vehicles"])])

    assert [report.read, report.quarantined] == [201, 1]
    assert set_aside(connection, "vehicles", "is longer than 65536 bytes", report) == [202]
    assert [len(raw) for (raw,) in rows(connection, "(select raw from quarantine)")] == [61]


@by_name(BAD_RESERVATIONS)
def test_a_bad_reservation_is_set_aside_and_the_others_are_taken(connection, declared, tmp_path, case):
    path = tmp_path / "mixed.csv"
    path.write_bytes(RESERVATIONS + case.content)

    report = load(
        connection, "reservations", declared["reservations"], [NamedFile(path, FILES["reservations"])]
    )

    assert [report.read, report.accepted, report.quarantined] == [201, 200, 1]
    assert set_aside(connection, "reservations", case.message, report) == [202]


@by_name(BAD_LINES)
def test_where_none_is_tolerated_one_bad_line_refuses_the_file(connection, declared, tmp_path, case):
    before = rows(connection, "vehicles")
    strict = declared["vehicles"].model_copy(update={"tolerated_bad_share": 0.0})
    path = tmp_path / "mixed.csv"
    path.write_bytes(VEHICLES + case.content)

    with pytest.raises(SourceRefused, match="1 of 201 rows are bad") as refused:
        load(connection, "vehicles", strict, [NamedFile(path, FILES["vehicles"])])

    assert case.message in str(refused.value)
    assert set_aside(connection, "vehicles", case.message, refused.value.report) == [202]
    assert rows(connection, "vehicles") == before


def set_aside(connection: duckdb.DuckDBPyConnection, source: str, message: str, report: object) -> list[int]:
    """The lines in quarantine, whose findings say `message` with file and line."""
    examples = [example for finding in report.findings for example in finding.examples]  # type: ignore[attr-defined]
    assert [one for one in examples if message in one and one.startswith(f"{FILES[source]} line 202")]
    kept = connection.execute(
        'select distinct line, rule, "column" from quarantine where source = ?', [source]
    ).fetchall()
    return sorted({line for line, *_ in kept})
