"""Forecasts from history: what was known at several times, and nothing that happened later."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.forecasts import contradictions_of, definitions, shipped
from tests.support.project import ROOT
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets.champion.publication import prove
from vroom_assets.features import examples
from vroom_assets.features.examples import ExamplesError
from vroom_assets.features.table import DatasetError, build, note_origin, read
from vroom_assets.spec import ColumnType, ForecastSpec
from vroom_assets.training.folds import RowStructure, splits
from vroom_assets.training.metrics import standard_error

START = datetime(2023, 1, 1)
RESERVATIONS = "create table reservations (vehicle_id bigint, created_at timestamp, loaded_at timestamp)"

declared = partial(shipped, "upcoming_reservations")


def with_sql(sql: str) -> ForecastSpec:
    return declared().model_copy(update={"examples_sql": {"histories": sql}})


SQL = declared().examples_sql["histories"]


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """Thirty vehicles and a year of their reservations."""
    with duckdb.connect() as connection:
        connection.execute(
            "create table vehicles as select i as vehicle_id, i % 2 as technology, 60.0 + i as actual_price, "
            "50.0 as recommended_price, 1 + i % 5 as num_images, timestamp '2022-12-31' as listed_at "
            "from range(1, 31) as rows(i)"
        )
        connection.execute(RESERVATIONS)
        draw = np.random.default_rng(3)
        add(connection, [(int(draw.integers(1, 31)), float(draw.uniform(0, 365))) for _ in range(300)])
        add(connection, [(1, 0.0), (1, 364.9)])  # the year is known from end to end
        for name in ("vehicles", "reservations"):
            note_origin(connection, name, {"snapshot": name})
        yield connection


def add(connection: duckdb.DuckDBPyConnection, rows: list[tuple[int, float]], late: float = 0.0) -> None:
    """Reservations by vehicle and day of the year, known `late` days afterwards."""
    connection.executemany(
        "insert into reservations values (?, ?, ?)",
        [(vehicle, START + timedelta(days=day), START + timedelta(days=day + late)) for vehicle, day in rows],
    )


def rows_of(connection: duckdb.DuckDBPyConnection, spec: ForecastSpec) -> dict[str, tuple]:
    with examples.tables(connection, spec):
        found = connection.execute("select * from histories").fetchall()
    return {row[0]: row for row in found}


def test_examples_stand_where_history_is_behind_and_the_window_closed(warehouse):
    times = {row[2] for row in rows_of(warehouse, declared()).values()}
    assert times == {datetime(2023, 4, 1), datetime(2023, 7, 1), datetime(2023, 10, 1)}


def test_a_vehicle_is_an_example_from_the_day_it_is_listed(warehouse):
    warehouse.execute("update vehicles set listed_at = timestamp '2023-05-01' where vehicle_id = 9")
    found = rows_of(warehouse, declared())
    assert "9@2023-04-01" not in found
    assert found["9@2023-07-01"][-3] == 61


def test_a_reservation_counts_from_the_day_it_is_known(warehouse):
    before = rows_of(warehouse, declared())
    add(warehouse, [(9, 10.0)], late=100.0)  # made in January, known in April
    after = rows_of(warehouse, declared())
    assert after["9@2023-04-01"] == before["9@2023-04-01"]
    assert after["9@2023-07-01"][-2] == before["9@2023-07-01"][-2] + 1


def test_a_vehicle_without_a_reservation_is_an_example_too(warehouse):
    warehouse.execute("delete from reservations where vehicle_id = 7")
    assert rows_of(warehouse, declared())["7@2023-07-01"][-2:] == (0, 0)


def test_the_history_is_counted_up_to_the_time_and_the_target_after_it(warehouse):
    build(warehouse, declared())
    [(so_far, last, target)] = warehouse.execute(
        "select input_reservations_so_far, input_reservations_last_90, target from features "
        "where entity_key = '5@2023-07-01'"
    ).fetchall()
    days = [
        (moment - datetime(2023, 7, 1)).total_seconds() / 86_400
        for (moment,) in warehouse.execute(
            "select created_at from reservations where vehicle_id = 5"
        ).fetchall()
    ]
    assert so_far == sum(day <= 0 for day in days)
    assert last == sum(-90 < day <= 0 for day in days)
    assert target == sum(0 < day <= 90 for day in days)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 30), st.floats(0.001, 364.8)), min_size=1, max_size=20),
    st.floats(0, 200),
)
@settings(max_examples=25)
def test_what_happens_or_is_loaded_later_never_changes_an_example(later, late):
    with duckdb.connect() as connection:
        connection.execute(
            "create table vehicles as select i as vehicle_id, 0 as technology, 60.0 as actual_price, "
            "50.0 as recommended_price, 3 as num_images, timestamp '2022-12-31' as listed_at "
            "from range(1, 31) as rows(i)"
        )
        connection.execute(RESERVATIONS)
        add(connection, [(1, 0.0), (1, 364.9)])
        before = rows_of(connection, declared())
        add(connection, later, late)
        after = rows_of(connection, declared())
    first = START + timedelta(days=min(day for _, day in later) + late)
    for key, row in before.items():
        if row[2] < first:
            assert after[key] == row
    assert after.keys() == before.keys()


def test_the_cars_around_a_lap_are_found_by_when_they_cross_the_line():
    """Each car by the number of its first lap, when that ended, and how long all of its laps take, in seconds."""
    cars = {
        "driver": (1, 100, 100),
        "ahead": (1, 95, 100),
        "second ahead": (1, 88, 100),
        "behind": (1, 102, 100),
        "leader": (2, 135, 90),
        "passed": (1, 81, 109),
    }
    with duckdb.connect() as connection:
        connection.execute(
            "create table laps (driver varchar, lap bigint, lap_time double, finished_at timestamp, loaded_at timestamp)"
        )
        for driver, (first, ended, seconds) in cars.items():
            for number in range(5):
                at = START + timedelta(seconds=ended + number * seconds)
                connection.execute(
                    "insert into laps values (?, ?, ?, ?, ?)", [driver, first + number, seconds, at, at]
                )
        connection.execute(
            "create or replace table laps as select *, row_number() over (order by finished_at) as lap_id, "
            "2023 as season, 'here' as circuit, 'race' as session, 1 as stint, 'hard' as compound, lap as tyre_age, "
            "0 as pit_in, 0 as pit_out, 0 as safety_car, 'dry' as weather, 30.0 as track_temperature from laps"
        )
        with examples.tables(connection, shipped("lap_times")):
            fourth, fifth = connection.execute(
                "select gap_ahead, gap_second, gap_behind, lap_behind, gap_lapping, passed from driven_laps "
                "where driver = 'driver' and lap >= 4 order by lap"
            ).fetchall()
    # The one that was passed last ended a lap at 299 s, before this lap began, and is due at 408.
    assert fourth == (5, 12, 2, 100, 5, 1)
    assert fifth[4] is None  # the leader has gone by


@pytest.mark.slow
@pytest.mark.parametrize("name", ["upcoming_reservations", "lap_times", "market_resolution"])
@given(position=st.floats(0.1, 0.9), kept=st.floats(0, 1), delay=st.integers(0, 60))
@settings(max_examples=6)
def test_whatever_becomes_of_what_is_known_later_no_shipped_example_changes(name, position, kept, delay):
    """Rows that are known after a time are halved in their numbers, thinned out and delayed."""
    spec = shipped(name)
    data = ROOT / "data"

    def rows(connection: duckdb.DuckDBPyConnection, until: str) -> list[tuple]:
        with examples.tables(connection, spec):
            [table] = spec.examples
            columns = ", ".join(f'"{column}"' for column in spec.examples[table].columns)
            return connection.execute(
                f"select {columns} from {table} where as_of <= timestamp '{until}' order by all"
            ).fetchall()

    with duckdb.connect() as connection:
        for source, one in spec.sources.items():
            connection.execute(f"create table {source} as from read_csv('{data / one.path}')")
        with examples.tables(connection, spec):
            [table] = spec.examples
            [(until,)] = connection.execute(
                f"select quantile_disc(as_of, {position})::varchar from {table}"
            ).fetchall()
        before = rows(connection, until)
        assert before
        for source, one in spec.sources.items():
            moments = [column for column in (one.event_time, one.load_time) if column]
            known = f"greatest({', '.join(moments)}) > timestamp '{until}'"
            halved = [
                f'"{column}" = "{column}" / 2'
                for column, rule in one.columns.items()
                if rule.type is ColumnType.NUMBER
            ]
            delayed = f"{moments[-1]} = {moments[-1]} + interval {delay} day"
            connection.execute(f"update {source} set {', '.join([*halved, delayed])} where {known}")
            if one.event_time and not any(column.unique for column in one.columns.values()):
                connection.execute(
                    f"delete from {source} where {known} and {one.event_time} < (select max({one.event_time}) "
                    f"from {source}) and hash({', '.join(one.columns)}) % 1000 >= {1000 * kept}"
                )
        assert rows(connection, until) == before


@pytest.mark.parametrize(
    ("leak", "changes"),
    [
        ("counts all that ever happened", [("and reservations.created_at <= as_of.as_of\n", "\n"), ("and reservations.loaded_at <= as_of.as_of\n", "\n")]),
        ("counts what was not known yet", [("and reservations.loaded_at <= as_of.as_of\n", "\n")]),
        ("counts the window itself", [("_at <= as_of.as_of\n", "_at <= as_of.as_of + interval 90 day\n")]),
        ("counts days to the end of the data", [("as_of.as_of) / 86400", "(select max(created_at) from reservations)) / 86400")]),
    ],
)  # fmt: skip
def test_a_leak_is_found_and_named(warehouse, leak, changes):
    add(warehouse, [(3, 60.0)], late=100.0)
    leaking = SQL
    for change in changes:
        leaking = leaking.replace(*change)
    assert leaking != SQL, leak
    with pytest.raises(
        DatasetError, match=r"histories\.sql looks ahead\. At 2023-.*reservations\.loaded_at with as_of"
    ):
        build(warehouse, with_sql(leaking))
    assert not warehouse.execute("select 1 from duckdb_tables() where table_name = 'features'").fetchall()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("as days_listed", "as days_seen"), "has no column days_listed"),
        (("vehicles.num_images,", "vehicles.num_images + 100 as num_images,"), "column num_images: 10. is not ≥ 0 and ≤ 100"),
        (("vehicles.vehicle_id || '@' || ", ""), "column example_id: 2023-.* occurs twice"),
        (("from vehicles", "from vehicle"), r"histories\.sql cannot be executed: .*vehicle"),
    ],
)  # fmt: skip
def test_examples_keep_what_their_declaration_says(warehouse, wrong, message):
    with (
        pytest.raises(ExamplesError, match=message),
        examples.tables(warehouse, with_sql(SQL.replace(*wrong))),
    ):
        pass
    assert not warehouse.execute("select 1 from duckdb_tables() where table_name = 'histories'").fetchall()


def test_too_little_history_is_said(warehouse):
    warehouse.execute("delete from reservations where created_at > timestamp '2023-03-01'")
    with pytest.raises(
        ExamplesError, match=r"no quarter starts 89 days after .* there is too little history"
    ):
        rows_of(warehouse, declared())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": {"group": "vehicle"}}, "validation.group: 'vehicle' is not declared; use one of example_id"),
        ({"entity": {"name": "v", "source": "history", "key": "example_id"}}, "entity.source: 'history' is not declared"),
        ({"inputs": ["colour"]}, "inputs: 'colour' is not declared; use one of example_id"),
    ],
)  # fmt: skip
def test_a_declaration_that_refers_to_nothing_is_refused(changes, message):
    assert message in contradictions_of(declared(**changes))


def test_rows_of_a_group_are_never_in_two_folds():
    groups = np.repeat(np.arange(40), 3)
    folds = splits(RowStructure(120, groups), 5, 2, 0)
    assert len(folds) == 10
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert len(fold.train) + len(fold.test) == 120
    assert {tuple(f.test) for f in folds[:5]} != {tuple(f.test) for f in folds[5:]}


def test_equal_rows_of_a_group_count_once():
    draw = np.random.default_rng(0)
    once = draw.normal(size=500)
    groups = np.repeat(np.arange(500), 4)
    alone = standard_error(once, None)
    assert standard_error(once, np.arange(500)) == pytest.approx(alone, rel=1e-9)
    assert standard_error(np.repeat(once, 4), groups) == pytest.approx(alone, rel=1e-9)
    assert standard_error(np.repeat(once, 4), None) < 0.51 * alone


def test_the_table_is_read_in_the_order_of_its_keys_however_it_was_written(warehouse):
    spec = declared()
    build(warehouse, spec)
    as_written = read(warehouse, spec)
    assert (np.sort(as_written.keys) == as_written.keys).all()
    warehouse.execute("create or replace table features as from features order by hash(entity_key)")
    sorted_again = read(warehouse, spec)
    assert (sorted_again.keys == as_written.keys).all()
    assert (sorted_again.target == as_written.target).all()
    assert sorted_again.features.equals(as_written.features)
    assert sorted_again.inputs.equals(as_written.inputs)


@pytest.mark.slow
def test_it_is_trained_contested_and_published_without_any_python(home, instance):
    spec = declared()
    quick = {
        "history": spec.candidates["history"],
        "listing_only": spec.candidates["listing_only"],
    }
    fast = spec.model_copy(
        update={
            "candidates": quick,
            "validation": spec.validation.model_copy(update={"folds": 3, "repeats": 1, "inner_folds": 2}),
        }
    )
    job = definitions(fast).resolve_job_def("upcoming_reservations_retrain")
    assert job.execute_in_process(instance=instance, raise_on_error=False).success
    pointer = read_pointer("upcoming_reservations")
    assert pointer is not None
    bundle = read_bundle(bundle_folder("upcoming_reservations", pointer.version), pointer.manifest_sha256)
    prove(bundle)
    manifest = bundle.manifest
    assert 1_500 < manifest.rows < 2_400  # 600 vehicles, listed one after the other
    assert manifest.recipe.name == "history"
    assert [field.name for field in manifest.inputs][-1] == "reservations_last_90"
    assert manifest.metrics["nested_mae"] < 0.9 * manifest.metrics["mean_mae"]
