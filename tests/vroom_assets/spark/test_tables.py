"""Examples and features on Spark: the rows of DuckDB, bit by bit, and its refusals."""

import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.support import spark
from tests.support.forecasts import definitions, shipped
from tests.support.project import ROOT
from vroom_assets.features import examples, table
from vroom_assets.features.examples import ExamplesError
from vroom_assets.features.table import DatasetError
from vroom_assets.resources import warehouse_path
from vroom_assets.spark.tables import EXCHANGE

pytestmark = [pytest.mark.slow, spark.needed]

SHIPPED = ("reservations", "upcoming_reservations", "market_resolution", "lap_times")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("address", [spark.LOCAL, "local-cluster[2,1,1024]"])
def test_the_feature_table_is_that_of_duckdb_bit_by_bit(address: str, name: str, home: Path) -> None:
    spec = shipped(name)
    with spark.warehouse(spec) as connection:
        table.build(connection, spec)
        connection.execute("create table by_duckdb as from features")
        origin = table.origin(connection, "features")
        with spark.on_spark(connection, spec, address) as engine:
            table.build(connection, spec, engine)
        assert table.origin(connection, "features") == origin
        assert spark.bits(connection, "features") == spark.bits(connection, "by_duckdb")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    and reservations.created_at <= as_of.as_of\n    and reservations.loaded_at <= as_of.as_of\n",
            "",
            r"^examples histories: histories\.sql looks ahead\. At 2023-07-01 00:00:00 the row \(",
        ),
        ("vehicles.vehicle_id || '@' || ", "", r"column example_id: 20.* occurs twice$"),
        (
            "vehicles.actual_price,",
            "-vehicles.actual_price as actual_price,",
            r"actual_price: -\d+(\.\d+)? is not",
        ),
        ("vehicles.technology,", "", r"has no column technology; it has actual_price, as_of, days_listed"),
        ("from vehicles\n", "from vehicles_of_others as vehicles\n", r"vehicles_of_others does not exist"),
    ],
)
def test_what_duckdb_refuses_spark_refuses_by_the_same_message(
    old: str, new: str, message: str, home
) -> None:
    spec = shipped("upcoming_reservations")
    changed = spec.examples_sql["histories"].replace(old, new)
    assert changed != spec.examples_sql["histories"]
    spec = spec.model_copy(update={"examples_sql": {"histories": changed}})
    found = []
    with spark.warehouse(spec) as connection, spark.on_spark(connection, spec) as engine:
        for tables in (connection, engine):
            with pytest.raises(ExamplesError, match=message) as refused, examples.tables(tables, spec):
                pass
            # What an engine itself has to say follows the sentence.
            found.append(str(refused.value).partition("cannot be executed:")[0])
    assert found[0] == found[1]


@pytest.mark.parametrize("checked_by", ["duckdb", "spark"])
def test_the_assets_checks_and_versions_are_those_of_duckdb(
    checked_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder whose name Spark and DuckDB would take for a pattern."""
    folder = tmp_path / "a [b] {ä}*"
    shutil.copytree(ROOT / "data" / "reservations", folder / "data" / "reservations")
    monkeypatch.setenv("VROOM_DATA", str(folder / "data"))
    monkeypatch.setenv("VROOM_SPARK", spark.LOCAL)
    monkeypatch.setenv("VROOM_HOME", str(folder / "duckdb"))
    for home in ("duckdb", "spark"):
        (folder / home).mkdir()
    expected, rows = made_by("duckdb", "duckdb", monkeypatch)
    monkeypatch.setenv("VROOM_HOME", str(folder / "spark"))
    found, same_rows = made_by(checked_by, "spark", monkeypatch)
    assert (expected.pop("engine"), found.pop("engine")) == ("duckdb", "spark")
    assert found.pop("parquet") != expected.pop("parquet")
    assert same_rows == rows
    assert found == expected
    handed_over = [path.name for path in (folder / "spark" / "reservations" / EXCHANGE).iterdir()]
    assert len(handed_over) == (
        2 if checked_by == "duckdb" else 0
    )  # of two sources, and none of the features


def made_by(
    checked: str, computed: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, object], list[tuple]]:
    """Make sources and features by Dagster: the metadata of the features, and their rows."""
    spec = shipped("reservations")
    job = definitions(spec).resolve_implicit_global_asset_job_def()
    for engine, names in ((checked, list(spec.sources)), (computed, ["features"])):
        monkeypatch.setenv("VROOM_ENGINE", engine)
        made = job.execute_in_process(
            instance=dg.DagsterInstance.ephemeral(),
            asset_selection=[dg.AssetKey([spec.name, name]) for name in names],
        )
        assert made.success
    [event] = made.get_asset_materialization_events()
    with duckdb.connect(warehouse_path(spec.name), read_only=True) as connection:
        rows = spark.bits(connection, "features")
    return {name: one.value for name, one in event.materialization.metadata.items()}, rows


def test_a_target_that_is_none_is_refused_by_the_same_message(home: Path) -> None:
    spec = shipped("reservations")
    broken = {
        "vehicles.vehicle_id, 1 / (vehicles.vehicle_id - 7) as reservations from vehicles": "no finite target for vehicle 7",
        "vehicle_id, 1 as reservations from reservations": "several rows for one vehicle",
        "vehicle_id, 1 as reservations from vehicles where vehicle_id > 2": "gives no row for vehicle 1, 2; give it one",
    }
    with spark.warehouse(spec) as connection, spark.on_spark(connection, spec) as engine:
        for sql, message in broken.items():
            changed = spec.model_copy(update={"target_sql": f"select {sql}"})
            found = []
            for chosen in (None, engine):
                with pytest.raises(DatasetError, match=message) as refused:
                    table.build(connection, changed, chosen)
                found.append(str(refused.value))
            assert found[0] == found[1]
        assert (
            connection.execute("select 1 from duckdb_tables() where table_name = 'features'").fetchall() == []
        )


def test_a_text_that_is_not_a_number_is_a_refusal_and_not_a_failure(home: Path) -> None:
    spec = shipped("reservations")
    changed = spec.model_copy(update={"target_sql": "select vehicle_id, 'two' as reservations from vehicles"})
    with (
        spark.warehouse(spec) as connection,
        spark.on_spark(connection, spec) as engine,
        pytest.raises(
            DatasetError,
            match=r"^target\.sql or features\.sql cannot be computed: a cast of a text to double is not offered on Spark; a ",
        ),
    ):
        table.build(connection, changed, engine)


def test_nothing_is_kept_of_what_was_computed(home: Path) -> None:
    spec = shipped("upcoming_reservations")
    with spark.warehouse(spec) as connection, spark.on_spark(connection, spec) as engine:
        context = engine.session.sparkContext
        before = len(context._jsc.getPersistentRDDs())
        table.build(connection, spec, engine)
        assert len(context._jsc.getPersistentRDDs()) == before
        assert {found.name for found in engine.session.catalog.listTables()} == {"vroom_1", "vroom_2"}
