"""Words about times in features: what DuckDB makes of a timestamp, the arithmetic and the served graph make too."""

from datetime import datetime, timedelta

import duckdb
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vroom_api.contract.times import seconds_since
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import Feature, FeatureError, parse, select_sql
from vroom_assets.features.times import COUNTED
from vroom_assets.features.times import WORDS as WORDS_OFFERED
from vroom_assets.spec import Column
from vroom_assets.training.models import Constant

INPUTS = {
    "t": Column(type="timestamp"),
    "u": Column(type="timestamp"),
    "day": Column(type="date"),
    "maybe": Column(type="timestamp", nullable=True),
    "a": Column(type="number"),
}
WORDS = ("year", "quarter", "month", "day", "dayofmonth", "dayofyear", "isodow", "hour", "minute", "second")
UNITS = ("year", "quarter", "month", "day", "hour", "minute", "second")
EXPRESSIONS = [
    *(f"{word}(t)" for word in WORDS),
    *(f"date_diff('{unit}', t, u)" for unit in UNITS),
    "epoch(t) - epoch(u)",
    "case when t > u then 1 else 0 end",
    "case when t >= timestamp '2024-02-29 12:00' then 1 else 0 end",
    "case when t < date '2024-03-31' then 1 else 0 end",
    "case when t between '1999-12-31' and u then 1 else 0 end",
    "date_diff('day', timestamp '2000-01-01', t)",
    "case when hour(t) >= 22 or month(t) in (6, 7) then 1 else 0 end",
]
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda time: time.replace(microsecond=0)
)
near = st.datetimes(datetime(1960, 1, 1), datetime(2040, 1, 1)).map(lambda time: time.replace(microsecond=0))
times = near | moments


def read(expressions: list[str]) -> list[Feature]:
    columns = ", ".join(f"{expression} as f{number}" for number, expression in enumerate(expressions))
    return parse(f"select {columns} from inputs", INPUTS)


FEATURES = read(EXPRESSIONS)
GRAPH = onnxruntime.InferenceSession(
    build(list(INPUTS), FEATURES, Constant(1.0, [])).SerializeToString(), providers=["CPUExecutionProvider"]
)


def row(t: datetime, u: datetime) -> np.ndarray:
    return np.array([[seconds_since(t), seconds_since(u), 0.0, np.nan, 0.0]])


EDGES = [
    datetime(year, month, day) + timedelta(seconds=offset)
    for year in (1, 4, 100, 1600, 1900, 1969, 1970, 2000, 2023, 2024, 2100, 9998)
    for month, day in ((1, 1), (3, 1), (12, 31), (2, 28))
    # Seconds as a float64 know microseconds within 270 years of 1970.
    for offset in (0, 86_399, 86_400, 86_399.999999 if 1700 < year < 2240 else 86_399.99)
]


# Many rows at once: planning so much SQL takes DuckDB a third of a second.
@pytest.mark.slow
@settings(max_examples=6)
@given(st.lists(st.tuples(times, times), min_size=50, max_size=100))
@example([(one, other) for one, other in zip(EDGES, reversed(EDGES), strict=True)])
@example([(datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(2024, 3, 1))])
def test_what_duckdb_makes_of_timestamps_sql_of_seconds_and_the_graph_make_too(pairs):
    moments = pd.DataFrame(pairs, columns=["t", "u"]).astype("datetime64[us]")
    own = ", ".join(
        f"({expression})::double::float::double as f{n}" for n, expression in enumerate(EXPRESSIONS)
    )
    rows = np.concatenate([row(t, u) for t, u in pairs])
    given = pd.DataFrame(rows, columns=list(INPUTS))
    with duckdb.connect() as connection:
        connection.register("moments", moments)
        connection.register("given", given)
        wanted = connection.execute(f"select {own} from moments").df()
        computed = connection.execute(select_sql(FEATURES, "given", keep=[], prefix="")).df()
    served = pd.DataFrame(GRAPH.run(["features"], {"inputs": rows})[0], columns=wanted.columns)
    for name, expression in zip(wanted, EXPRESSIONS, strict=True):
        differ = (computed[name] != wanted[name]) | (served[name] != wanted[name])
        assert not differ.any(), (expression, moments[differ])


def test_a_missing_time_makes_a_missing_number_on_both_sides():
    features = read(
        ["month(maybe)", "date_diff('day', maybe, t)", "hour(coalesce(maybe, timestamp '2024-05-01 07:00'))"]
    )
    graph = onnxruntime.InferenceSession(build(list(INPUTS), features, Constant(1.0, [])).SerializeToString())
    served = graph.run(["features"], {"inputs": row(datetime(2024, 1, 1), datetime(2024, 1, 1))})[0]
    assert np.isnan(served[0, :2]).all()
    assert served[0, 2] == 7
    nothing = "select null::double as maybe, 0.0::double as t"
    computed = duckdb.execute(select_sql(features, f"({nothing})", keep=[], prefix="")).fetchall()
    assert computed == [(None, None, 7.0)]
    assert [sorted(feature.unguarded) for feature in features] == [["maybe"], ["maybe", "t"], []]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("t", "it is a time; take a number from it: year(…), quarter(…), month(…)"),
        ("t - u", "it is a time; write `date_diff('day', …, …)`"),
        ("t + 1", "it is a time"),
        ("coalesce(maybe, t)", "it is a time"),
        ("hour(a)", "a is not a time; the inputs that are one: "),
        ("hour(3)", "3 is not a time"),
        ("date_diff('day', t, a)", "a is not a time"),
        ("date_diff('century', t, u)", "date_diff counts year, quarter, month, day"),
        ("case when t > a then 1 else 0 end", "a is not a time"),
        ("case when t > 5 then 1 else 0 end", "5 is not a time"),
        ("case when t > timestamp '2023-02-29' then 1 else 0 end", "day is out of range"),
        (
            "case when t > 'yesterday' then 1 else 0 end",
            "'yesterday' is not a time such as 2023-07-27T14:58:26",
        ),
        ("case when maybe > t then 1 else 0 end", "it may be left out; write `coalesce(maybe, …)`"),
        ("extract(hour from t)", "write `hour(…)`, `month(…)`"),
        ("date_trunc('day', t)", "write `date_diff('day', …, …)`"),
        ("dayofweek(t)", "write `isodow(…)`"),
        ("week(t)", "write `floor((dayofyear(…) - 1) / 7)`"),
        ("month(grade)", "grade is not"),
    ],
)
def test_a_time_that_is_taken_for_a_number_is_refused(expression, message):
    with pytest.raises(FeatureError) as refusal:
        read([expression])
    assert message in str(refusal.value)


def test_a_word_is_computed_once_in_the_graph_however_often_it_is_needed():
    once = build(list(INPUTS), read(["month(t)"]), Constant(1.0, []))
    twice = build(list(INPUTS), read(["month(t)", "month(t) * 2", "day(t) + year(t)"]), Constant(1.0, []))
    assert len(once.graph.node) < 50
    assert len(twice.graph.node) < 80


def test_every_word_is_proved_here():
    assert {one for one in WORDS_OFFERED.values() if f"{one}(t)" not in " ".join(EXPRESSIONS)} == set()
    assert set(COUNTED) == set(UNITS)
