"""Sources on Spark: the same rows, findings and quarantine as by DuckDB, of whatever files."""

import csv
import gzip
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from tests.support import spark
from tests.support.cells import AWKWARD, MOMENTS
from tests.support.forecasts import DEFS, definitions, shipped
from tests.support.foreign import FOREIGN, Foreign
from tests.support.hostile import BAD_LINES, BAD_RESERVATIONS, RESERVATIONS, USELESS, VEHICLES
from tests.support.project import ROOT
from tests.support.sources import column, source
from vroom_assets import declaration
from vroom_assets.inference import writing
from vroom_assets.sources import NamedFile, SourceRefused, SourceReport, load, published
from vroom_assets.spark.session import session as open_session
from vroom_assets.spark.sources import SparkEngine
from vroom_assets.spec import Column, Format, Source

pytestmark = [spark.needed, pytest.mark.slow]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with open_session(spark.LOCAL) as one:
        # Blocks of 64 KB: a file is read by several tasks, as a large one is.
        one.conf.set("spark.sql.files.maxPartitionBytes", 1 << 16)
        one.conf.set("spark.sql.files.openCostInBytes", 0)
        yield one


@dataclass(frozen=True)
class Outcome:
    """What is left of a load."""

    refusal: str | None
    report: SourceReport
    types: list[tuple]
    rows: list[tuple]
    quarantine: list[tuple]


class Both:
    """A warehouse of each engine."""

    def __init__(self, session: Any, home: Path) -> None:
        self.home, self.session = home, session
        self.duckdb, self.spark = (duckdb.connect(home / f"{name}.duckdb") for name in ("duckdb", "spark"))

    def load(
        self, name: str, declared: Source, files: Sequence[NamedFile], past: Sequence[str] = ()
    ) -> Outcome:
        """Load by both engines, which leave the same.

        What is compared of numbers is their text, which tells -0.0 from 0.0 and NaN from NaN not.
        """
        engine = SparkEngine(self.spark, self.session, self.home, "snapshot")
        by_duckdb = outcome(self.duckdb, name, declared, files, past)
        by_spark = outcome(self.spark, name, declared, files, past, engine=engine)
        assert by_spark == by_duckdb
        return by_spark


def outcome(connection: duckdb.DuckDBPyConnection, name: str, *given: Any, **engine: Any) -> Outcome:
    refusal = None
    try:
        report = load(connection, name, *given, **engine)
    except SourceRefused as error:
        refusal, report = str(error), error.report
    there = connection.execute("select 1 from duckdb_columns() where table_name = ?", [name]).fetchall()
    types = connection.execute(f'describe "{name}"').fetchall() if there else []
    rows = (
        connection.execute(f'select columns(*)::varchar from "{name}" order by all').fetchall()
        if there
        else []
    )
    quarantine = connection.execute("from quarantine where source = ? order by all", [name]).fetchall()
    return Outcome(refusal, report, types, rows, quarantine)


@pytest.fixture
def both(session: Any, tmp_path: Path) -> Both:
    home = tmp_path / "it's a [home] äöü"
    home.mkdir()
    return Both(session, home)


def named(path: Path, content: bytes | str) -> list[NamedFile]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [NamedFile(path, f"data/{path.name}")]


@pytest.mark.parametrize(
    "name", sorted(path.name for path in DEFS.iterdir() if (path / "defs.yaml").exists())
)
def test_every_row_of_the_shipped_data_is_the_same(both, name):
    spec = shipped(name)
    for source_name, declared in spec.sources.items():
        path = ROOT / "data" / declared.path
        left = both.load(
            source_name, declared, [NamedFile(path, declared.path)], spec.past_columns(source_name)
        )
        assert (left.refusal, len(left.rows)) == (None, left.report.read)


def test_hostile_lines_are_set_aside_with_the_same_words(both, tmp_path):
    declared = yaml.safe_load((DEFS / "reservations" / "defs.yaml").read_text())["attributes"]["sources"]
    vehicles = Source(**declared["vehicles"] | {"tolerated_bad_share": 0.9})
    bad = sorted(
        (case.content for case in BAD_LINES), key=lambda content: content.endswith(b"\n"), reverse=True
    )
    left = both.load("vehicles", vehicles, named(tmp_path / "v.csv", VEHICLES + b"".join(bad)))
    assert len(left.rows) == 200
    assert len({rule for _, _, _, _, _, rule, *_ in left.quarantine}) > 7
    reservations = Source(**declared["reservations"] | {"tolerated_bad_share": 0.9})
    bad = [case.content.rstrip(b"\n") + b"\n" for case in BAD_RESERVATIONS]
    left = both.load("reservations", reservations, named(tmp_path / "r.csv", RESERVATIONS + b"".join(bad)))
    assert len(left.rows) == 200
    assert {"references", "required", "type"} <= {row[5] for row in left.quarantine}


def test_useless_files_are_refused_with_the_same_words(both, tmp_path):
    declared = yaml.safe_load((DEFS / "reservations" / "defs.yaml").read_text())["attributes"]["sources"]
    assert (
        both.load("vehicles", Source(**declared["vehicles"]), named(tmp_path / "v.csv", VEHICLES)).refusal
        is None
    )
    for case in USELESS:
        left = both.load(
            case.source, Source(**declared[case.source]), named(tmp_path / "bad.csv", case.content)
        )
        assert left.refusal is not None
        assert len(left.rows) == (200 if case.source == "vehicles" else 0)


@pytest.mark.parametrize("file", FOREIGN.values(), ids=FOREIGN)
def test_files_in_the_shape_of_public_ones_are_the_same(both, tmp_path, monkeypatch, file: Foreign):
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    path = tmp_path / "given.csv"
    file.write(path, 2_000)
    writing.infer(tmp_path / "defs", "mine", [path], file.target, file.kind)
    declared = declaration.read(tmp_path / "defs" / "mine").sources["rows"]
    assert len(both.load("rows", declared, [NamedFile(path, "given.csv")]).rows) == 2_000


WRITTEN = {
    "semicolons and line breaks in quotes": ('a;b\n1;"x\ny;"\n2;z\n3;"""q"" a"\n', {"a": "integer", "b": "text"}, {"delimiter": ";"}),
    "bars and single quotes": ("a|b\n1|'x|''y'\n2|y'\n", {"a": "integer", "b": "text"}, {"delimiter": "|", "quote": "'"}),
    "tabs": ("a\tb\r\n1\tx,y\r\n2\t\r\n\r\n3\tz\r\n", {"a": "integer", "b": "text"}, {"delimiter": "\t"}),
    "notes before the header": ('"odd\nnotes\na,r\n1,0\n\nx,1\n', {"row": "row", "a": "integer"}, {"skip": 2}),
    "no header": ("1,x\n2,y\nz,z\n", {"b": "text", "a": "integer"}, {"header": ["a", "b"]}),
    "a byte order mark before no header": ("\ufeff1,x\n2,y\n", {"a": "integer"}, {"header": ["a", "b"]}),
    "another encoding": ("a,b\n1,“x”\ny,ß\n".encode("cp1252"), {"a": "integer", "b": "text"}, {"encoding": "windows-1252"}),
    "UTF-16": ("a,b\r\n1,ß\r\n".encode("utf-16"), {"b": "text"}, {"encoding": "utf-16"}),
    "gzip of two members": (gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\nx,5\n"), {"a": "integer"}, {}),
    "backslashes": (b'a,b\n"a 3\\" nail",1\n"a \\\\ b\\\\",2\n"two\\\nlines, ""one"" cell\\n",3\n\\\\,x\n', {"a": "text", "b": "integer"}, {"escape": "\\"}),
    "mixed ends and bytes that are none": (b"a,b\r\n1,2\n3,4\r\n\xff,5\r\n6\r,7\nx,\x00\n", {"a": "integer"}, {}),
    "dates in columns": ("Year,Month,Day\n2015,July,1\n2016,Feb,29\n2016,2.0,01\n2015,2,29\n", {"at": {"type": "date", "joins": ["year", "month", "day"]}, "month": "text"}, {}),
    "a zone and notations": ("at;n\n1.7.2024 12:00;1,5\n31.3.2024 2:30;1.234,5\n27.10.2024 2:30;x\n30.2.2024 1:00;1\n", {"at": "timestamp", "n": "number"}, {"delimiter": ";", "dates": "%d.%m.%Y %H:%M", "zone": "Europe/Vienna", "decimal": ",", "thousands": "."}),
    "words for empty cells": ("a,b\nNA,1\n-,2\n,3\nx,4\n", {"a": {"type": "number", "nullable": True}, "b": "integer"}, {"nulls": ["NA", "-"]}),
    "names of columns that are anything": ('line,it\'s,"a ""b""",`c`\n1,x,2,3\ny,,,\n', {"line": "integer", "it's": "text", 'a "b"': "integer", "`c`": "integer"}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("content", "columns", "format"), WRITTEN.values(), ids=WRITTEN)
def test_a_file_is_read_however_it_is_written(both, tmp_path, content, columns, format):
    declared = Source(
        path="a.csv",
        description="",
        columns={
            name: Column(**(given if isinstance(given, dict) else {"type": given}))
            for name, given in columns.items()
        },
        format=Format(**format),
        tolerated_bad_share=0.9,
    )
    left = both.load("things", declared, named(tmp_path / "a.csv", content))
    assert left.refusal is None
    assert left.rows


THINGS = source(
    0.999,
    row=column("row"),
    id=column(unique=True, nullable=True, minimum=0),
    price=column("number", maximum=1000, nullable=True),
    kind=column("text", values=["suv", "bus"], nullable=True),
    at=column("timestamp", nullable=True),
    yes=column("flag", nullable=True),
    key=column("number", unique=True, nullable=True),
    parent=column(references="parents.id", nullable=True),
)


def random_lines(seed: int, header: list[str], count: int) -> list[str]:
    """Lines whose cells are awkward, sometimes in quotes, and sometimes in wrong ones."""
    draw = random.Random(seed)
    pieces = [*AWKWARD, *MOMENTS, "suv", "bus", "SUV", "é🚗", "\u00a07", "=1+1", "1", "2", "7.5", "", "", ""]
    quoting: list[Callable[[str], str]] = [
        *(str, lambda one: f'"{one}"', lambda one: f'"{one}""x"', lambda one: f'{one}"'),
    ]

    def cell(name: str) -> str:
        number = draw.randrange(20 * count)
        good = {"id": number, "key": number / 2, "price": 5.5, "kind": "suv", "at": "2024-01-02", "yes": "t"}
        good |= {"parent": draw.randrange(102), "note": "x"}
        text = str(good[name]) if draw.random() < 0.95 else draw.choice(pieces)
        return draw.choices(quoting, [80, 20, 0.2, 0.2])[0](text.replace("\n", "").replace(",", ";"))

    return [
        ",".join([cell(name) for name in header] + ["x"] * draw.choices([0, 1], [200, 1])[0])
        if draw.random() < 0.98
        else draw.choice(["", "  ", "x", '"', '"a\nb"'])
        for _ in range(count)
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_random_lines_in_many_blocks_are_the_same(both, tmp_path, line_end):
    parents = named(tmp_path / "p.csv", "id\n" + "".join(f"{one}\n" for one in range(100)))
    both.load("parents", source(id=column()), parents)
    files = []
    for number, count in enumerate((6_000, 50, 10)):
        header = ["id,price,kind,at,yes,key,parent,note", "note,parent,id,kind,key,at,yes,price"][number % 2]
        lines = line_end.join([header, *random_lines(number, header.split(","), count)])
        files += named(tmp_path / f"{number}.csv", lines + line_end * (number != 1))
    left = both.load("things", THINGS, files)
    assert {"unique", "references", "quotes", "cells", "type", "values", "range"} <= {
        row[5] for row in left.quarantine
    }
    assert len(left.rows) > 1000
    if line_end == "\n":  # none of it needs care
        plain = "id,price,kind,at,yes,key,parent,note\n" + "".join(
            f"{n % 2900},{n},,,,,{n % 101},\n" for n in range(3_000)
        )
        assert len(both.load("things", THINGS, named(tmp_path / "plain.csv", plain)).rows) > 900


def test_a_file_without_a_good_row_refuses_all(both, tmp_path):
    files = [
        *named(tmp_path / "1.csv", "id\n" + "".join(f"{n}\n" for n in range(100))),
        *named(tmp_path / "2.csv", "id\n"),
        *named(tmp_path / "3.csv", "id\nx\n"),
    ]
    left = both.load("things", source(id=column()), files)
    assert (
        left.refusal
        == "data/3.csv: none of its 1 rows is good; data/3.csv line 2, column id: 'x' is not a whole number"
    )
    assert both.load("things", source(id=column()), files[:2]).report.accepted == 100


def test_a_file_that_spark_would_read_otherwise_is_refused_and_the_table_stays(both, tmp_path):
    connection, engine = both.spark, SparkEngine(both.spark, both.session, both.home, "snapshot")
    load(connection, "things", source(id=column()), named(tmp_path / "a.csv", "id\n1\n"), engine=engine)
    duckdb.execute(f"copy (select 2 as id) to '{tmp_path}/b.parquet'")
    other = source(id=column(), at=column("date")).model_copy(update={"format": Format(dates=["%j %Y"])})
    for declared, file, message in (
        (source(id=column()), NamedFile(tmp_path / "b.parquet", "b.parquet"), "b.parquet is Parquet"),
        (other, *named(tmp_path / "c.csv", "id,at\n1,60 2024\n"), "the notation '%j %Y' of `dates`: %j"),
    ):
        with pytest.raises(SourceRefused) as refused:
            load(
                connection, "things", declared, [file] if isinstance(file, NamedFile) else file, engine=engine
            )
        assert message in str(refused.value)
        assert "read it with `VROOM_ENGINE=duckdb`" in str(refused.value)
    assert connection.execute("from things").fetchall() == [(1,)]


def test_each_load_leaves_its_files_and_nothing_else(both, tmp_path):
    connection, engine = both.spark, SparkEngine(both.spark, both.session, both.home, "snapshot")
    for number in (1, 2):
        load(
            connection,
            "things",
            source(id=column()),
            named(tmp_path / "a.csv", f"id\n{number}\nx\n"),
            engine=engine,
        )
    published.remove_unused(connection, both.home)
    [folder] = (both.home / published.TABLES).iterdir()
    [files] = folder.iterdir()
    assert files.name.startswith("snapshot-")
    assert connection.execute("from things").fetchall() == [(2,)]
    tables = connection.execute("select table_name from information_schema.tables order by 1").fetchall()
    assert tables == [("quarantine",), ("things",)]
    shutil.rmtree(files)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped data, a home, and the setting that chooses Spark."""
    shutil.copytree(ROOT / "data" / "reservations", tmp_path / "data" / "reservations")
    (tmp_path / "home").mkdir()
    settings = {
        "VROOM_DATA": "data",
        "VROOM_HOME": "home",
        "VROOM_ENGINE": "spark",
        "VROOM_SPARK": spark.LOCAL,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value if name.startswith(("VROOM_E", "VROOM_S")) else str(tmp_path / value))
    return tmp_path


def tables_by_dagster() -> dict[str, dict[str, Any]]:
    """Make the flagship's tables: the metadata of each, by its name."""
    spec = shipped("reservations")
    whole = definitions(spec)
    made = whole.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        asset_selection=[dg.AssetKey([spec.name, name]) for name in spec.sources],
        raise_on_error=False,
    )
    assert made.success
    assert all(check.passed for check in made.get_asset_check_evaluations())
    return {
        event.asset_key.path[-1]: {name: one.value for name, one in event.materialization.metadata.items()}
        for event in made.all_events
        if event.is_step_materialization and event.asset_key
    }


def test_the_same_assets_and_checks_are_made_on_spark(session, project, monkeypatch):
    path = project / "data" / "reservations" / "vehicles.csv"
    path.write_text(path.read_text() + "x,1,2,3,4,5,6\n")
    before = tables_by_dagster()
    assert {one["engine"] for one in before.values()} == {"spark"}
    after = tables_by_dagster()
    folder = project / "home" / "reservations"
    assert sorted(path.parent.name for path in (folder / published.TABLES).glob("*/*")) == [
        "reservations",
        "vehicles",
    ]
    with open(folder / "quarantine" / "vehicles.csv", newline="") as file:
        assert {row["raw"] for row in csv.DictReader(file)} == {"x,1,2,3,4,5,6"}
    renamed = folder.rename(project / "moved")
    with duckdb.connect(renamed / "warehouse.duckdb") as connection:
        published.follow(connection, renamed)
        on_spark = connection.execute("from reservations order by all").fetchall()
    monkeypatch.setenv("VROOM_ENGINE", "duckdb")
    by_duckdb = tables_by_dagster()
    with duckdb.connect(folder / "warehouse.duckdb") as connection:
        assert connection.execute("from reservations order by all").fetchall() == on_spark
    for name, metadata in by_duckdb.items():
        different = {one for one in metadata if metadata[one] != after[name][one]}
        assert different <= {"engine", "sample"}
