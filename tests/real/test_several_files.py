"""Several files as one source: months, seasons or shops, each a file, in CSV or Parquet."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from litestar.testing import TestClient

from tests.support.automation import Sensor
from tests.support.forecasts import definitions
from tests.support.service import settings_of
from tests.support.sources import column
from vroom_api.app import create_app
from vroom_api.contract import bundle_folder, forecast_folder, read_bundle, read_pointer
from vroom_assets import declaration, sources
from vroom_assets.__main__ import main
from vroom_assets.forecast import Forecast
from vroom_assets.sources import NamedFile, SourceError, SourceRefused, SourceReport, observe, snapshot
from vroom_assets.spec import Source

DECLARED = Source(
    path="trips/*.csv",
    description="Trips of every month.",
    columns={
        "row": column("row"),
        "trip": column(unique=True),
        "km": column("number", minimum=0, nullable=True),
        "driver": column("text", nullable=True),
    },
    tolerated_bad_share=0.45,
)
JANUARY = "trip,km,driver\n1,1.5,ada\n2,2.5,ben\n"
FEBRUARY = "Driver,Trip,Km\ncyd,3,0.5\nada,4,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder, with two months."""
    trips = tmp_path / "trips"
    trips.mkdir()
    (trips / "2024-01.csv").write_text(JANUARY)
    (trips / "2024-02.csv").write_text(FEBRUARY)
    return tmp_path


def files(folder: Path) -> list[NamedFile]:
    return [NamedFile(path, path.name) for path in sources.files_like(folder / DECLARED.path)]


def load(connection: duckdb.DuckDBPyConnection, folder: Path, declared: Source = DECLARED) -> SourceReport:
    return sources.load(connection, "trips", declared, files(folder))


# reading


def test_files_follow_each_other_by_name_and_each_has_its_own_header(folder):
    with duckdb.connect() as connection:
        report = load(connection, folder)
        rows = connection.execute("from trips").fetchall()
    assert rows == [(1, 1, 1.5, "ada"), (2, 2, 2.5, "ben"), (3, 3, 0.5, "cyd"), (4, 4, None, "ada")]
    assert (report.file, report.read, report.accepted) == ("trips/*.csv (2 files)", 4, 4)


def test_a_finding_names_its_file_and_the_line_in_it(folder):
    (folder / "trips" / "2024-02.csv").write_text(
        'driver,trip,km\ncyd,3,far\nada,1,1\n"be"n,5,1\n\neva,6,2\nfay,7,3\n'
    )
    with duckdb.connect() as connection:
        report = load(connection, folder)
        listed = connection.execute("select file, line, rule, raw from quarantine order by all").fetchall()
        assert connection.execute("select trip from trips").fetchall() == [(1,), (2,), (6,), (7,)]
    assert [one.examples[0] for one in report.findings] == [
        "2024-02.csv line 4: has a quote that is not closed, or that stands inside a cell; double it there, "
        'or declare `format: {escape: "\\\\"}` where a backslash stands before it',
        "2024-02.csv line 3, column trip: '1' is in line 2 of 2024-01.csv already",
        "2024-02.csv line 2, column km: 'far' is not a finite number",
    ]
    assert listed == [
        ("2024-02.csv", 2, "type", "cyd,3,far"),
        ("2024-02.csv", 3, "unique", "ada,1,1"),
        ("2024-02.csv", 4, "quotes", '"be"n,5,1'),
    ]


def test_a_file_without_a_good_row_refuses_the_source_however_many_rows_others_have(folder):
    (folder / "trips" / "2024-03.csv").write_text("trip,km,driver\n5,-1,ada\n")
    with duckdb.connect() as connection:
        with pytest.raises(SourceRefused) as refused:
            load(connection, folder)
        assert connection.execute("select file, line from quarantine").fetchall() == [("2024-03.csv", 2)]
    assert str(refused.value) == (
        "2024-03.csv: none of its 1 rows is good; 2024-03.csv line 2, column km: -1 is not ≥ 0"
    )


def test_a_file_with_a_header_and_no_rows_yet_is_none_to_complain_of(folder):
    (folder / "trips" / "2024-03.csv").write_text("trip,km,driver\n")
    with duckdb.connect() as connection:
        assert load(connection, folder).accepted == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("trip,km\n5,1\n", "2024-03.csv line 1: column driver is missing; the header is trip, km"),
        ("", "2024-03.csv: the file is empty"),
        ("PAR1 is not all that it takes", "2024-03.csv: it is not a whole Parquet file: "),
    ],
)
def test_a_file_that_cannot_be_read_refuses_the_source_and_is_named(folder, content, message):
    (folder / "trips" / "2024-03.csv").write_text(content)
    with duckdb.connect() as connection, pytest.raises(SourceRefused) as refused:
        load(connection, folder)
    assert str(refused.value).startswith(message)


def test_no_file_like_a_pattern_is_a_message_that_names_it(folder):
    shutil.rmtree(folder / "trips")
    with duckdb.connect() as connection, pytest.raises(SourceRefused) as refused:
        load(connection, folder)
    assert str(refused.value) == "trips/*.csv: no file has such a name"
    assert observe(folder / DECLARED.path, None).missing
    with pytest.raises(SourceError, match="no file has such a name"):
        snapshot(folder / DECLARED.path, folder / "snapshots")


def test_parquet_is_read_by_the_same_rules_beside_csv(folder):
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            copy (
                select 3::utinyint as trip, null::decimal(5, 2) as km, 'cyd, "c"' as driver
                union all select 4, 7.25, '' union all select 5, -1, 'eva'
            ) to '{folder}/trips/2024-02.csv' (format parquet)
            """
        )
        report = load(connection, folder)
        assert connection.execute("from trips").fetchall() == [
            *((1, 1, 1.5, "ada"), (2, 2, 2.5, "ben")),
            *((3, 3, None, 'cyd, "c"'), (4, 4, 7.25, None)),
        ]
        [(file, line, raw)] = connection.execute("select file, line, raw from quarantine").fetchall()
    assert (file, line, json.loads(raw)) == ("2024-02.csv", 3, {"trip": 5, "km": -1.0, "driver": "eva"})
    assert report.findings[0].examples == ["2024-02.csv line 3, column km: -1.00 is not ≥ 0"]


def test_types_of_parquet_are_those_of_the_declaration(tmp_path):
    declared = Source(
        path="one.parquet",
        description="",
        columns={
            name: column(kind, nullable=True)
            for name, kind in {
                "yes": "flag",
                "day": "date",
                "at": "timestamp",
                "zoned": "timestamp",
                "n": "integer",
            }.items()
        },
    )
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'America/New_York'")
        connection.execute(
            f"""
            copy (
                select true as yes, date '2024-02-29' as day, timestamp_ns '2024-02-29 01:02:03.123456' as at,
                    timestamptz '2024-02-29 01:02:03+02' as zoned, 5.0::double as n
            ) to '{tmp_path}/one.parquet' (format parquet)
            """
        )
        sources.load(connection, "one", declared, [NamedFile(tmp_path / "one.parquet", "one.parquet")])
        (row,) = connection.execute(
            'select yes, day::varchar, "at"::varchar, zoned::varchar, n from one'
        ).fetchall()
    assert row == (1, "2024-02-29 00:00:00", "2024-02-29 01:02:03.123456", "2024-02-28 23:02:03", 5)


# observing and copying


def test_a_file_more_one_less_another_content_or_another_name_is_a_change_and_a_copy_in_its_place_is_none(
    folder,
):
    pattern, trips = folder / DECLARED.path, folder / "trips"
    first = observe(pattern, None)
    assert (first.size, len(first.parts)) == (len(JANUARY) + len(FEBRUARY), 2)
    (trips / ".hidden.csv").write_text("none of them")
    (trips / "notes.txt").write_text("none of them")
    (trips / "2024-02.csv").replace(trips / "kept")
    shutil.copy(trips / "kept", trips / "2024-02.csv")
    same = observe(pattern, first)
    assert same.sha256 == first.sha256
    assert not same.same_file_as(first)
    seen = {first.sha256}
    for change in (
        lambda: (trips / "2024-03.csv").write_text("trip,km,driver\n5,1,eva\n"),
        lambda: (trips / "2024-03.csv").rename(trips / "2024-04.csv"),
        lambda: (trips / "2024-04.csv").write_text("trip,km,driver\n5,2,eva\n"),
        lambda: (trips / "2024-01.csv").unlink(),
    ):
        change()
        seen.add(observe(pattern, same).sha256)
    assert len(seen) == 5


def test_each_file_is_copied_once_for_each_content_and_the_list_has_the_observed_digest(folder):
    copies, pattern = folder / "snapshots", folder / DECLARED.path
    observed = observe(pattern, None)
    taken = snapshot(pattern, copies, observed)
    assert taken.sha256 == observed.sha256
    assert [one.path.read_text() for one in taken.copies] == [JANUARY, FEBRUARY]
    assert [line.split("  ")[1] for line in taken.path.read_text().splitlines()] == [
        "2024-01.csv",
        "2024-02.csv",
    ]
    before = {one.name for one in copies.iterdir()}
    (folder / "trips" / "2024-03.csv").write_text("trip,km,driver\n")
    snapshot(pattern, copies, observe(pattern, observed))
    assert len({one.name for one in copies.iterdir()} - before) == 2  # the new one, and the new list


def test_a_name_with_marks_of_a_pattern_that_is_a_file_s_means_the_file(tmp_path):
    (tmp_path / "trips [old].csv").write_text(JANUARY)
    (tmp_path / "trips o.csv").write_text(FEBRUARY)
    assert sources.files_like(tmp_path / "trips [old].csv") == [tmp_path / "trips [old].csv"]


# from the files to the answer


@pytest.fixture
def in_parts(fast: Forecast, data: Path) -> Forecast:
    """The flagship, whose reservations come in a file for each part of their vehicles."""
    header, *lines = (data / "reservations.csv").read_text().splitlines(keepends=True)
    parts = data / "parts"
    parts.mkdir()
    for number in range(3):
        (parts / f"{number}.csv").write_text("".join([header, *lines[number::3]]))
    declared = fast.sources["reservations"].model_copy(update={"path": "reservations/parts/*.csv"})
    return fast.model_copy(update={"sources": fast.sources | {"reservations": declared}})


def test_a_new_file_is_a_change_that_trains_and_lineage_checks_every_copy(
    instance, run, in_parts, home, data
):
    late = data / "parts" / "2.csv"
    text = late.read_text()
    late.unlink()
    assert run(spec=in_parts).success
    sensor = Sensor(instance, in_parts)
    assert "run" not in sensor.settle()
    late.write_text(text)
    assert sensor.settle().count("run") == 1
    assert run(spec=in_parts).success
    pointer = read_pointer(in_parts.name, home)
    manifest = read_bundle(bundle_folder(in_parts.name, pointer.version), pointer.manifest_sha256).manifest
    [(rows,)] = (
        duckdb.connect(str(home / in_parts.name / "warehouse.duckdb"), read_only=True)
        .execute("select count(*) from reservations")
        .fetchall()
    )
    assert rows == len((data / "reservations.csv").read_text().splitlines()) - 1
    with TestClient(create_app(settings_of(home, forecast=in_parts.name, record=True))) as client:
        made = client.post(
            "/predict", json=client.get(f"/forecasts/{in_parts.name}").json()["example"]
        ).json()
        address = f"/predictions/{made['prediction_id']}"
        assert client.get(address).json()["verified"] is True
        copies = forecast_folder(in_parts.name, home) / "snapshots"
        listed = (copies / f"{manifest.snapshots['reservations']}.sha256").read_text().split()
        damaged = copies / f"{listed[2]}.csv"
        damaged.chmod(0o600)
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert client.get(address).json()["failed"] == [
            f"snapshot of reservations, {in_parts.name}/snapshots/{damaged.name}: its bytes are not those that were trained on"
        ]


def test_the_graph_names_the_pattern(in_parts):
    (raw,) = (
        spec
        for spec in definitions(in_parts).resolve_all_asset_specs()
        if spec.key.path[-1] == "reservations_csv"
    )
    assert raw.metadata["path"] == "reservations/parts/*.csv"


# from files that nobody described


@pytest.fixture
def months(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three months of trips beside an empty project."""
    for name in ("defs", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"VROOM_{name.upper()}", str(tmp_path / name))
    for month in range(1, 4):
        rows = [
            f"{100 * month + n};{n % 7}.5;{'ada' if n % 3 else 'ben'};{n % 7 * 60 + n % 5}" for n in range(60)
        ]
        (tmp_path / f"2024-0{month}.csv").write_text("\n".join(["trip;km;driver;seconds", *rows]) + "\n")
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["vroom_assets", *arguments])
    return main()


def test_several_files_are_declared_as_one_source(months, monkeypatch, capsys):
    files = [str(months / f"2024-0{month}.csv") for month in (2, 1, 3)]
    assert command(monkeypatch, "new", "trips", "--from", *files, "--target", "seconds") == 0
    assert "*.csv: 180 rows, 4 columns, written with delimiter ';'" in capsys.readouterr().out
    spec = declaration.read(months / "defs" / "trips")
    assert spec.sources["rows"].path == "trips/*.csv"
    assert sorted(one.name for one in (months / "data" / "trips").iterdir()) == [
        f"2024-0{n}.csv" for n in (1, 2, 3)
    ]
    assert command(monkeypatch, "check", "trips", "--data") == 0
    assert "180 of 180 rows accepted" in capsys.readouterr().out


def test_parquet_is_declared_as_a_csv_is(months, monkeypatch, capsys):
    with duckdb.connect() as connection:
        connection.execute(f"copy (from '{months}/2024-01.csv') to '{months}/trips.parquet' (format parquet)")
    assert (
        command(monkeypatch, "new", "trips", "--from", str(months / "trips.parquet"), "--target", "seconds")
        == 0
    )
    assert command(monkeypatch, "check", "trips", "--data") == 0
    assert "data/trips/trips.parquet: 60 of 60 rows accepted" in capsys.readouterr().out
    columns = declaration.read(months / "defs" / "trips").sources["rows"].columns
    assert [columns[one].type for one in ("trip", "km", "driver")] == ["integer", "number", "category"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["elsewhere/2024-01.csv"], "two files are called 2024-01.csv; in the data folder they would be one"),
        (["nowhere.csv"], "nowhere.csv is not a file; name a CSV or a Parquet file, or several of one kind"),
        (["other.csv"], "other.csv line 1: column trip, km, driver, seconds is missing; the header is a, b"),
    ],
)
def test_files_that_are_not_one_source_are_refused_and_nothing_is_written(
    months, monkeypatch, capsys, others, message
):
    (months / "elsewhere").mkdir()
    shutil.copy(months / "2024-01.csv", months / "elsewhere")
    (months / "other.csv").write_text("a;b\n1;2\n")
    files = [str(months / one) for one in ("2024-01.csv", *others)]
    assert command(monkeypatch, "new", "trips", "--from", *files, "--target", "seconds") == 2
    assert message in capsys.readouterr().err
    assert list((months / "defs").iterdir()) == list((months / "data").iterdir()) == []


def test_a_file_that_lies_with_them_and_is_not_named_is_refused(months, monkeypatch, capsys):
    own = months / "data" / "trips"
    own.mkdir()
    for file in months.glob("*.csv"):
        file.rename(own / file.name)
    files = [str(own / f"2024-0{month}.csv") for month in (1, 2)]
    assert command(monkeypatch, "new", "trips", "--from", *files, "--target", "seconds") == 2
    assert f"2024-03.csv in {own} is like the files that are named" in capsys.readouterr().err
