"""DuckDB's SQL as Spark's: every word that is offered computes the same, and every other is refused by name."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.support import spark
from vroom_assets.features.expressions import parse, select_sql
from vroom_assets.spark.dialect import NotEqual, to_spark
from vroom_assets.spark.session import session
from vroom_assets.spark.tables import SparkTables
from vroom_assets.spec import Column

DOUBLES = [
    *(
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        0.1,
        0.3,
        2.675,
        5e-324,
        1e-310,
        1e16,
        4503599627370495.5,
    ),
    *(9007199254740993.0, 1e19, -1e19, 3.4028235677973366e38, 3.5e38, 1e300, -1e300, 1.7976931348623157e308),
    *(math.inf, -math.inf, math.nan, None),
]
TEXTS = [None, "", "a", "b", "ä", "🤦🏼", "it's", "a\\b", "%", "A", "a b", " 1"]
WHOLE = [None, 0, 1, -1, 7, -7, 2**31, -(2**40), 2**53 + 1]
TIMES = [
    *(None, datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1600, 3, 1)),
    *(
        datetime(2024, 2, 29, 23, 59, 59, 999_999),
        datetime(2100, 12, 31, 12),
        datetime(2021, 1, 3, 10, 11, 12),
    ),
]
# n and g number rows and groups; j is small and not zero, z is finite.
SCALAR = """
    x / y; i / j; x % y::double; x % 3e0; i % j; i // j; x + y; x - y; x * y; -x; i + 1; i * 3; z / 3.0; 1 / 0;
    sqrt(x); abs(x); floor(x); ceil(x); round(x); round(x, 2); round(x, 15); round(z, 3); greatest(x, y); least(x, y);
    greatest(x, 0); coalesce(x, y); coalesce(x, 0); coalesce(i, 0.5); nullif(i, 1); isfinite(x);
    90.0 * (i % 1000 + 3.0) / (j + 180.5); 0.1 + 0.2 = 0.3; 1e0 + z; '1e3'::double; 'inf'::double;
    z::bigint; z::int; (i * 0.5)::bigint; b::int; (x > y)::bigint; try_cast(x as float)::double; i::varchar; t::varchar;
    x = y; x <> y; x < y; x >= y; x between y and 1; x in (0, 1, 2.5); x is null; x is distinct from y; (x, i) = (y, j);
    b and x > 0; b or x > 0; not b; case when x > y then i when b then j else 0 end; case when x > 0 then 1 end;
    case s when 'a' then 1 when 'ä' then 2 end; s || '-' || i; b::varchar || s; s = 'a'; s < 'b'; s in ('a', 'a\\b', 'it''s');
    length(s); s like 'a%'; s like '_'; s not like '%b'; s is null; list_position(['a', 'ä']::varchar[], s);
    epoch(t); year(t); quarter(t); month(t); day(t); dayofyear(t); isodow(t); hour(t); minute(t); second(t); t < u; t::date;
    t + interval 90 day; t - interval 1 month; t + interval 2 quarter; t - interval 3 week; t - interval 7 millisecond;
    t + to_seconds(i % 100000); t + to_seconds(1.5); t - to_milliseconds(j); t + to_days(2); '2024-01-01'::timestamp;
    t > timestamp '2000-01-01'; strftime(t, '%Y-%m-%d %H:%M:%S'); date_diff('microsecond', t, u);
    date_diff('millisecond', t, u); date_diff('second', t, u); date_diff('minute', t, u); date_diff('hour', t, u);
    date_diff('day', t, u); date_diff('month', t, u); date_diff('quarter', t, u); date_diff('year', t, u);
    date_trunc('second', t); date_trunc('minute', t); date_trunc('hour', t); date_trunc('day', t); date_trunc('week', t);
    date_trunc('month', t); date_trunc('quarter', t); date_trunc('year', t);
    row_number() over (partition by g order by z desc, n); row_number() over (order by x desc, n); rank() over (order by g);
    row_number() over (order by t, n); dense_rank() over (order by s); lag(z) over (partition by g order by n);
    lead(s, 2) over (order by n); sum(j) over (partition by g order by n); max(x) over (partition by g);
    count(*) over (partition by g order by n rows between 2 preceding and current row)
"""
AGGREGATES = """
    count(*); count(x); count(distinct j); sum(i % 1000); avg(i % 1000); sum(j * 0.5); sum(z order by n); avg(z order by n);
    stddev_pop(z order by n); avg(z order by n) filter (b); sum(z order by n) filter (z > 1e9);
    stddev_pop(z order by n) filter (n = 3); median(z); median(x); median(i); min(x); max(x); min(s); max(t); any_value(g);
    first(z order by n); first(x order by t, n); first(z order by n desc); arg_max(x, n); arg_min(s, n);
    arg_max(z, n) filter (z > 0); count(*) filter (where x > y); min(i) filter (b); max(b::int)
"""
# What Java computes by other means than C: by how many units in the last of 53 bits they differ at most.
ROUNDED = {"ln(x)": 1, "log10(x)": 2, "log2(x)": 2, "exp(x)": 1, "power(x, y)": 1, "x ^ 2": 1}
FEATURES = """
    a + b, a - b, a * b, a / b, a % b, a % 3, -a, power(a, b), ln(a), log10(a), log2(a), exp(a), sqrt(a), abs(a), floor(a),
    ceil(a), round(a), round(a, 2), a::integer, a::bigint, a::double, greatest(a, b), least(a, b), coalesce(maybe, 3),
    case when a > b then 1 when a = 1 or not b <= 0 then 2 else a end, case when maybe is null then 1 else 0 end,
    case when a between -1 and 1 then b else 0 end, case when grade = 'low' then a else b end,
    case when grade in ('low', 'it''s') then 1 else 0 end, case when grade like 'h%' then 1 else 0 end, category,
    year(at), quarter(at), month(at), day(at), dayofyear(at), isodow(at), hour(at), minute(at), second(at), epoch(at),
    date_diff('day', at, coalesce(until, timestamp '2024-01-01')), case when coalesce(at, timestamp '1990-01-01') > timestamp '2000-01-01' then 1 else 0 end,
    a * maybe + 0.1, 1 / (1 + a), ln((a + 0.002) / (1.002 - a))
"""


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "regexp_matches(name, 'a+')",
            r"^REGEXP_MATCHES\(name, 'a\+'\) is not offered on Spark; it is not known",
        ),
        ("strptime(name, '%Y')", "STRPTIME.* is not offered on Spark"),
        ("upper(name)", "UPPER.* is not offered on Spark"),
        ("random()", r"RANDOM\(\) is not offered on Spark"),
        ("try_cast(name as bigint)", "TRY_CAST.* is not offered on Spark"),
        ("first(x)", r"first\(x order by y\)"),
        ("name like '10\\%'", r"a pattern is a text without \\"),
        ("sum(x order by y desc)", "an order inside of an aggregate is ascending"),
        ("strftime(at, '%j')", "a format is made of %Y, %m, %d, %H, %M, %S"),
        ("date_diff('week', at, at)", "date_diff counts microsecond, millisecond, second"),
        ("x::decimal(9, 2)", "casts are to double, integer, bigint, varchar, timestamp and date"),
        ("log(3, x)", "logarithms are ln, log2 and log10"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(NotEqual, match=f"(?i){message}"):
        to_spark(f"select {word} from rows")


def test_a_table_that_is_not_there_is_named() -> None:
    with pytest.raises(NotEqual, match=r"^Table with name vans does not exist$"):
        to_spark("with given as (select 1 as x) select * from given, vans", lambda schema, name: None)


def test_a_table_goes_by_the_name_of_its_view_and_its_columns_by_its_own() -> None:
    written = to_spark(
        "select vans.x from main.vans join temp.other as o using (x)", lambda schema, name: f"{schema}_{name}"
    )
    assert written == "SELECT `vans`.`x` FROM `main_vans` AS `vans` JOIN `temp_other` AS `o` USING (`x`)"


def bits(value: object) -> object:
    """What two values share if they are the same, and the same zero."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    return value.normalize() if isinstance(value, Decimal) else value


def units(one: object, other: object) -> float:
    """How many doubles lie between two; infinitely many where they are none of one sign."""
    both = [np.float64(number) for number in (one, other) if isinstance(number, float)]
    if bits(one) == bits(other):
        return 0
    if len(both) < 2 or not np.isfinite(both).all() or np.signbit(both[0]) != np.signbit(both[1]):
        return math.inf
    return float(abs(int(both[0].view(np.int64)) - int(both[1].view(np.int64))))


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """All pairs of special doubles and two thousand drawn ones, beside other values of all kinds."""
    draw = np.random.default_rng(0)
    sizes = 10.0 ** draw.integers(-3, 6, size=(2_000, 2))
    pairs = [(one, other) for one in DOUBLES for other in DOUBLES] + (
        draw.normal(size=(2_000, 2)) * sizes
    ).tolist()
    count = len(pairs)
    offsets = draw.uniform(-3e9, 3e9, count).tolist()
    times = [*TIMES * 40, *(datetime(1970, 1, 1) + timedelta(seconds=offset) for offset in offsets)][:count]
    return pa.table(
        {
            "n": range(count),
            "g": [number % 97 for number in range(count)],
            "x": pa.array([one for one, _ in pairs], pa.float64(), from_pandas=False),
            "y": pa.array([other for _, other in pairs], pa.float64(), from_pandas=False),
            "z": draw.normal(size=count) * 100,
            "i": pa.array([WHOLE[one] for one in draw.integers(len(WHOLE), size=count)], pa.int64()),
            "j": [(1, 2, 3, -3, 7)[one] for one in draw.integers(5, size=count)],
            "s": [TEXTS[one] for one in draw.integers(len(TEXTS), size=count)],
            "t": pa.array(times, pa.timestamp("us")),
            "u": pa.array([times[one] for one in draw.permutation(count)], pa.timestamp("us")),
            "b": [(None, True, False)[one] for one in draw.integers(3, size=count)],
        }
    )


@pytest.fixture
def engines(rows: pa.Table, tmp_path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, SparkTables]]:
    """DuckDB and Spark with the same table `words`."""
    with duckdb.connect() as connection, session(spark.LOCAL) as found:
        connection.register("rows_of_words", rows)
        connection.execute("create table words as from rows_of_words")
        connection.execute(f"copy words to '{tmp_path}/words.parquet' (format parquet)")
        yield connection, SparkTables(found, {"words": tmp_path / "words.parquet"}, tmp_path)


@pytest.mark.slow
@spark.needed
@pytest.mark.parametrize(
    ("words", "key", "tail"),
    [
        (SCALAR.split(";") + list(ROUNDED), "n", "from words order by n"),
        (AGGREGATES.split(";"), "g", "from words group by g order by g"),
    ],
    ids=["scalar", "aggregates"],
)
def test_every_word_means_the_same_in_both(engines, words: list[str], key: str, tail: str) -> None:
    words = [word.strip() for word in words]
    query = f"select {key}, {', '.join(f'{word} as c{number}' for number, word in enumerate(words))} {tail}"
    by_duckdb, by_spark = (engine.execute(query).fetchall() for engine in engines)
    assert len(by_duckdb) == len(by_spark) > 90
    different = {}
    for number, word in enumerate(words, 1):
        apart = [units(one[number], other[number]) for one, other in zip(by_duckdb, by_spark, strict=True)]
        if max(apart) > ROUNDED.get(word, 0):
            worst = apart.index(max(apart))
            different[word] = (by_duckdb[worst][number], by_spark[worst][number])
    assert different == {}


@pytest.mark.slow
@spark.needed
def test_every_word_of_features_means_the_same_in_both(engines) -> None:
    number, moment = Column(type="number"), Column(type="timestamp", nullable=True)
    inputs = {
        "a": number,
        "b": number,
        "maybe": Column(type="number", nullable=True),
        "grade": Column(type="text", values=["low", "it's", "high"]),
        "category": Column(type="category").with_levels(["blue", "red", "other"]),
        "at": moment,
        "until": moment,
    }
    listed = [one.strip() for one in _split(FEATURES)]
    text = ", ".join(f"{one} as f{number}" for number, one in enumerate(listed))
    features = parse(f"select {text} from inputs", inputs)
    encoded = (
        "(select n, x as a, y as b, x as maybe, (n % 3)::double as grade, (n % 3)::double as category, "
        "epoch(t) as at, epoch(u) as until from words) as inputs"
    )
    query = select_sql(features, encoded, keep=["n"], prefix="") + " order by n"
    by_duckdb, by_spark = (engine.execute(query).fetchall() for engine in engines)
    # A feature is rounded to 24 bits, so that the last of 53 decides about the last of these next to never.
    different = {
        listed[position - 1]
        for one, other in zip(by_duckdb, by_spark, strict=True)
        for position in range(1, len(one))
        if bits(one[position]) != bits(other[position])
    }
    assert different == set()


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for one in text:
        depth += (one == "(") - (one == ")")
        if one == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += one
    return parts
