"""Examples and features on Spark: the rows of DuckDB, bit by bit, and its refusals."""

import pytest

from tests.support import spark
from tests.support.forecasts import shipped
from vroom_assets.features import examples, table
from vroom_assets.features.examples import ExamplesError

pytestmark = [pytest.mark.slow, spark.needed]

SHIPPED = ("reservations", "upcoming_reservations", "market_resolution", "lap_times")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_feature_table_is_that_of_duckdb_bit_by_bit(name: str, home) -> None:
    spec = shipped(name)
    with spark.warehouse(spec) as connection:
        table.build(connection, spec)
        connection.execute("create table by_duckdb as from features")
        origin = table.origin(connection, "features")
        with spark.on_spark(connection, spec) as engine:
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
