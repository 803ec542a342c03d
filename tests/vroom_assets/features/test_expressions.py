"""Feature SQL: what is accepted, what is refused, and that DuckDB and the graph compute the same."""

from collections.abc import Sequence
from functools import lru_cache

import duckdb
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import OFFERED, Feature, FeatureError, parse, select_sql
from vroom_assets.spec import Column
from vroom_assets.training.models import Constant

COLUMN = Column(type="number")
INPUTS = {
    "a": COLUMN,
    "b": COLUMN,
    "order": COLUMN,
    "maybe": Column(type="number", nullable=True),
    "grade": Column(type="text", values=["low", "it's", "high"]),
    "maybe_grade": Column(type="text", values=["low", "high"], nullable=True),
    "colour": Column(type="category", nullable=True).with_levels(["blue", "red", "other"]),
}
NUMBER = st.floats(-1e6, 1e6, allow_subnormal=False)
SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 10.0, 1e6, -1e6, 2.5, 1e-6])
MISSING = st.just(float("nan"))
ROWS = st.lists(
    st.tuples(
        *[NUMBER | SPECIAL] * 3,
        NUMBER | SPECIAL | MISSING,
        st.sampled_from([0.0, 1.0, 2.0]),
        st.sampled_from([0.0, 1.0]) | MISSING,
        st.sampled_from([0.0, 1.0, 2.0]) | MISSING,
    ),
    min_size=1,
    max_size=12,
)
CONNECTION = duckdb.connect()


def read(expressions: Sequence[str]) -> list[Feature]:
    listed = ", ".join(f"{expression} as f{number}" for number, expression in enumerate(expressions))
    return parse(f"select {listed} from inputs", INPUTS)


def in_duckdb(features: Sequence[Feature], rows: np.ndarray) -> np.ndarray:
    """Features as training computes them, (rows, features); NULL as NaN."""
    CONNECTION.register("given", pd.DataFrame(rows, columns=list(INPUTS)))
    columns = CONNECTION.execute(select_sql(features, "given", [], "feature_")).fetchnumpy()
    return np.column_stack([np.ma.filled(columns[f"feature_{feature.name}"], np.nan) for feature in features])


@lru_cache
def session(features: tuple[Feature, ...]) -> onnxruntime.InferenceSession:
    model = build(list(INPUTS), features, Constant(1.0, [])).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def in_graph(features: Sequence[Feature], rows: np.ndarray) -> np.ndarray:
    """Features as the service computes them, (rows, features)."""
    return session(tuple(features)).run(["features"], {"inputs": rows})[0]


def both(expressions: Sequence[str], rows: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    features = read(expressions)
    matrix = np.array([row + (0.0,) * (len(INPUTS) - len(row)) for row in rows], dtype=np.float64)
    return in_duckdb(features, matrix), in_graph(features, matrix)


def equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where both are the same finite number, or both are none."""
    return (one == other) | ~(np.isfinite(one) | np.isfinite(other))


def test_a_level_that_training_did_not_see_is_the_last_one():
    features = read(["colour", "case when coalesce(colour, 'red') = 'other' then 1 else 0 end"])
    rows = np.zeros((4, len(INPUTS)))
    rows[:, -1] = [1, 2, 3, np.nan]
    served = in_graph(features, rows)
    assert served[:3].tolist() == [[1, 0], [2, 1], [2, 1]]
    assert np.isnan(served[3, 0])


def test_what_is_missing_without_an_input_and_what_is_a_category_is_known():
    one, other, category = read(["maybe / a + coalesce(maybe, 1)", "coalesce(maybe, a)", "colour"])
    assert (one.unguarded, other.unguarded) == ({"maybe", "a"}, {"a"})
    assert (one.category, other.category, category.category) == (None, None, "colour")


# Accepted and refused


def test_features_are_read_in_order_with_their_expressions():
    text = """
        select a, -- an input as it is
               a - b as difference,
               ln(a / b) as log_ratio
        from inputs
    """
    assert parse(text, INPUTS) == [
        Feature("a", "a"),
        Feature("difference", "a - b"),
        Feature("log_ratio", "LN(a / b)"),
    ]


def test_an_expression_that_was_read_reads_as_itself_again():
    features = parse("select -a ^ 2 as p, if(a > 1, log10(a), 0) as q, log(b) as r from inputs", INPUTS)
    text = ", ".join(f"{feature.expression} as {feature.name}" for feature in features)
    assert parse(f"select {text} from inputs", INPUTS) == features


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be one statement"),
        ("drop table inputs", "must be one statement"),
        ("select a from inputs; select b from inputs", "must be one statement"),
        ("select a", "it reads nothing"),
        ("select a from other", "it reads other"),
        ("select a from elsewhere.inputs", "it reads elsewhere.inputs"),
        ("select a from inputs as i", "it reads inputs AS i"),
        ("select a from (select 1 as a) as inputs", "it reads"),
        ("select a from inputs tablesample 10%", "it reads"),
        ("select a from inputs where a > 1", "where is not allowed"),
        ("select a from inputs join other using (a)", "joins is not allowed"),
        ("select a from inputs, other", "joins is not allowed"),
        ("select a from inputs limit 3", "limit is not allowed"),
        ("select a from inputs order by a", "order is not allowed"),
        ("select distinct a from inputs", "distinct is not allowed"),
        ("select a from inputs group by a", "group is not allowed"),
        ("with w as (select 1) select a from inputs", "with is not allowed"),
        ("select (a from inputs", "line 1: Expecting"),
        ("select\n a,\n (b + from inputs", "line 3: "),
        ("select 'a from inputs", "is not SQL"),
        ("from inputs", "name each feature instead of *"),
        ("select * from inputs", "name each feature instead of *"),
        ("select a + b from inputs", "give a + b a name"),
        ("select a as A1 from inputs", "'A1' is not a valid name for a feature"),
        ('select a as "x y" from inputs', "'x y' is not a valid name for a feature"),
        ("select a as x, b as x from inputs", "feature x is defined twice"),
    ],
)
def test_a_statement_that_is_not_a_plain_select_is_refused(text, message):
    with pytest.raises(FeatureError) as refusal:
        parse(text, INPUTS)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("c", "c is not an input; the inputs are a, b, order, maybe, grade"),
        ("inputs.a", "write a without inputs"),
        ("foo(a)", "FOO(a) is not offered here; use + - * /"),
        ("ln(a) % 2", "% jumps, so it takes exact arithmetic only"),
        ("case when a % b > 1 then 1 else 0 end", "a condition jumps"),
        ("case when a % 0 > 1 then 1 else 0 end", "a condition jumps"),
        ("a // 2", "a // 2 is not offered here; write `floor(a / b)`"),
        ("trunc(a)", "TRUNC(a) is not offered here; write `floor(x)`"),
        ("round(ln(a), 2)", "round jumps, so it takes exact arithmetic only"),
        ("round(a, -2)", "round takes a number of decimals from 0 to 15; write `round(x / 100) * 100`"),
        ("round(a, b)", "round takes a number of decimals from 0 to 15"),
        ("round(a, 1.5)", "round takes a number of decimals from 0 to 15"),
        ("round(a, 16)", "round takes a number of decimals from 0 to 15"),
        ("grade like a", "`like` takes one text, in which % is any text"),
        (
            "case when grade like 'x%' then 1 else 0 end",
            "no value is like it; grade is one of low, it's, high",
        ),
        ("case when grade like 'l$%%' escape '$' then 1 else 0 end", "`like` takes one text"),
        ("case when a like '1%' then 1 else 0 end", "`like` is for a text input; compare a number"),
        (
            "case when maybe_grade like 'l%' then 1 else 0 end",
            "it may be left out; write `coalesce(maybe_grade, …)`",
        ),
        ("case maybe when 1 then 1 else 0 end", "it may be left out"),
        ("case grade when 'medium' then 1 else 0 end", "'medium': grade is one of low, it's, high"),
        ("starts_with(grade, 'l')", "it is a text; compare it, as in grade = 'low'"),
        ("grade like 'l%'", "a condition is not a number"),
        ("random()", "RANDOM() is not offered here"),
        ("coalesce(a, 1)", "declare it `nullable: true`"),
        ("coalesce(maybe, a, 1)", "`coalesce` takes an input and what stands for it"),
        ("coalesce(maybe + 1, 1)", "`coalesce` takes an input alone"),
        ("colour + 1", "it is a text; compare it, as in colour = 'blue' or colour in (…), or name it alone"),
        ("case when colour = 1 then 1 else 0 end", "1: colour is one of blue, red, other"),
        ("case when colour = 'red' then 1 else 0 end", "it may be left out"),
        ("power(maybe, 0)", "it may be left out; write `coalesce(maybe, …)`"),
        ("greatest(1 + maybe, a)", "it may be left out"),
        ("least(maybe, 1)", "it may be left out"),
        ("floor(case when maybe + 1 < 2 then 1 else 0 end)", "it may be left out"),
        ("case when maybe > 1 then 1 else 0 end", "it may be left out"),
        ("case when maybe_grade = 'low' then 1 else 0 end", "it may be left out"),
        ("case when a is null then 1 else 0 end", "declare it `nullable: true`"),
        ("case when a + 1 is null then 1 else 0 end", "`is null` takes an input alone"),
        ("maybe is null", "a condition is not a number"),
        ("grade", "it is a text; compare it, as in grade = 'low'"),
        ("grade + 1", "it is a text"),
        ("case when grade > 'low' then 1 else 0 end", "it is a text"),
        ("case when grade = 'medium' then 1 else 0 end", "'medium': grade is one of low, it's, high"),
        ("case when grade in ('low', 1) then 1 else 0 end", "1: grade is one of low"),
        ("case when grade = 1 then 1 else 0 end", "1: grade is one of low"),
        ("case when a = 'low' then 1 else 0 end", "a text can only be compared with a text input"),
        ("nullif(a, 0)", "is not offered here"),
        ("null", "NULL is not offered here"),
        ("true", "TRUE is not offered here"),
        ("'text'", "a text can only be compared with a text input"),
        ("1e999", "it is not a finite number"),
        ("a * 1e3+5", "put spaces around"),
        (
            "a::text",
            "CAST(a AS TEXT) is not offered here; a number is cast to `integer`, `bigint` or `double`",
        ),
        ("a::float", "a number is cast to `integer`, `bigint` or `double`"),
        (
            "a::decimal(10, 2)",
            "a number is cast to `integer`, `bigint` or `double`; floor, ceil and round round it",
        ),
        ("try_cast(a as integer)", "is not offered here; write `::`"),
        ("exp(a)::integer", "a cast to an integer jumps"),
        ("(a > b)::integer", "a condition is not a number, write `case when"),
        ("sum(a)", "SUM(a) is not offered here"),
        ("lag(a) over ()", "is not offered here"),
        ("(select 1)", "is not offered here"),
        ("a > b", "a condition is not a number, write `case when"),
        ("a > b and b > a", "a condition is not a number"),
        ("not a > b", "a condition is not a number"),
        ("case when a then 1 else 0 end", "a condition is a comparison"),
        ("case when a in (select 1) then 1 else 0 end", "a condition is a comparison"),
        ("case a when 1 then 2 end", "without `else` it is NULL"),
        ("case ln(a) when 1 then 2 else 3 end", "a condition jumps"),
        ("case when a > 1 then 2 end", "without `else` it is NULL"),
        ("if(a > 1, 2)", "without `else` it is NULL"),
        ("log(3, a)", "logarithms are ln, log2 and log10"),
        ("log(b, a)", "logarithms are ln, log2 and log10"),
        ("floor(ln(a))", "floor and ceil jump"),
        ("ceil(1 + exp(a))", "floor and ceil jump"),
        ("floor(a, 2)", "is not offered here"),
        ("case when ln(a) > 1 then 1 else 0 end", "a condition jumps"),
        ("case when a / b > 1 then 1 else 0 end", "write `a > 1.2 * b` for `a / b > 1.2`"),
        ("case when a / 0 > 1 then 1 else 0 end", "a condition jumps"),
        ("case when a between 0 and sqrt(b) then 1 else 0 end", "a condition jumps"),
    ],
)
def test_an_expression_that_cannot_run_on_both_sides_is_refused_with_what_can(expression, message):
    with pytest.raises(FeatureError) as refusal:
        parse(f"select\n    b,\n    {expression} as f\nfrom inputs", INPUTS)
    assert message in str(refusal.value)
    assert "features.sql, line 3: feature f" in str(refusal.value)


# The same on both sides

EXACT = [
    "a",
    '"order"',
    "a + b",
    "a - b",
    "a * b",
    "a / b",
    "-a",
    "- (a - b)",
    "a - (b - a)",
    "a / (b / a)",
    "sqrt(a)",
    "abs(a)",
    "floor(a)",
    "ceil(a)",
    "floor(a / b)",
    "ceil(sqrt(a))",
    "greatest(a, b)",
    "least(a, b)",
    'greatest(a, b, "order", 3)',
    'least(a, b, "order", 3)',
    "least(a / b, b / a, sqrt(b))",
    "greatest(a / b, sqrt(b))",
    "1 / least(a / b, sqrt(b))",
    "case when a > b then 1 else 0 end",
    "case when a >= b then a when a < 0 then b else a / b end",
    "case when a <= 0.5 or b < 1 and not a = b then a else b end",
    "case when a <> b then a - b else 7 end",
    "case when a between -1 and b then 1 else 2 end",
    "case when not (a between b and 10) then 1 else 2 end",
    "case when (a + 1) * 2 > abs(b) / 3 then floor(b) else least(a, 4) end",
    "if(a > 1, a / b, -1)",
    "0.1 + 0.2",
    "a * (0.1 + 0.2)",
    "2147483647 * 2147483647 + a",
    "1 / 3",
    "5",
    "a * 1e3 + 5",
    "a * 1.23456789012345678901234567890",
    "coalesce(maybe, 0)",
    "coalesce(maybe, a / b) - 1",
    "case when maybe is null then a else b end",
    "case when maybe is not null and a > 0 then coalesce(maybe, 3) else b end",
    "case when coalesce(maybe, 0) > a then 1 else 0 end",
    "maybe",
    "-(maybe)",
    "(maybe + a) / b - maybe * 2",
    "sqrt(abs(maybe))",
    "floor(maybe / 3)",
    "case when a > b then maybe else a end",
    "coalesce(maybe, maybe + 1)",
    "colour",
    "case when coalesce(colour, 'red') = 'red' then maybe else 0 end",
    "case when coalesce(colour, 'other') in ('green', 'blue') then 1 else 0 end",
    "case when colour is null then 1 else 0 end",
    "case when a in (1, 2.5, 10) then b else 0 end",
    "case when a not in (0, b) then 1 else 0 end",
    "case when grade = 'low' then 1 when grade = 'it''s' then 2 else 0 end",
    "case when grade <> 'high' then a else b end",
    "case when 'high' = grade then a else b end",
    "case when grade in ('low', 'high') then 1 else 0 end",
    "case when coalesce(maybe_grade, 'high') = 'high' then 1 else 0 end",
    "case when coalesce(maybe_grade, 'low') in ('low') then 1 else 0 end",
    "case when maybe_grade is null then 1 else 0 end",
    "a % 2",
    "a % b",
    "mod(a - b, 0.7)",
    "maybe % a",
    "a % 0",
    "1 / (a % b)",
    "case when a % 3 = 1 then 1 else b % -7 end",
    "round(a)",
    "round(a, 2)",
    "round(a, 15)",
    "round(a / b, 3)",
    "round(maybe + 0.1, 1)",
    "round(a * 1e300, 9) / 1e300",
    "round(a / 100, 0) * 100",
    "case when round(a * 0.1, 1) > b then 1 else 0 end",
    "a::integer",
    "(a / 3 + 0.1)::bigint",
    "cast(a * 1e30 as bigint) / 1e30",
    "cast(-b / 2 as integer) % 4",
    "(0.1 + 0.2 + a::integer)::integer",
    '("order")::integer',
    "maybe::integer",
    "maybe::double / a::double",
    "case when (a / 2)::integer = 1 then b else a end",
    "case a when 1 then 10 when 0 then b else a end",
    "case a + 1 when 2 then case b when 1 then 5 else 6 end when b then 3 else 0 end",
    "case coalesce(maybe, 0) when a then 1 else 0 end",
    "case grade when 'low' then 1 when 'it''s' then 2 else 0 end",
    "case coalesce(maybe_grade, 'low') when 'low' then 1 else 0 end",
    "case coalesce(colour, 'other') when 'red' then 1 when 'green' then 2 else 0 end",
    "case when grade like '%i%' then 1 else 0 end",
    "case when grade not like 'l_w' and a > b then 1 else 0 end",
    "case when grade like any ('l%', '%''%') then 1 else 0 end",
    "case when not grade ilike 'H%' then 1 else 0 end",
    "case when coalesce(maybe_grade, 'high') like 'l%' then a else b end",
    "case when coalesce(colour, 'blue') like 'b%' then 1 when coalesce(colour, 'blue') like '%' then 2 else 0 end",
    "case when coalesce(colour, 'red') like 'green%' then 1 else 0 end",
]


@pytest.mark.slow
@given(rows=ROWS)
@settings(max_examples=60)
def test_arithmetic_and_steps_are_the_same_number_on_both_sides(rows):
    agree = equal(*both(EXACT, rows)).all(axis=0)
    assert agree.all(), [expression for expression, fine in zip(EXACT, agree, strict=True) if not fine]


ROUNDED = [
    "ln(abs(maybe) + 1)",
    "ln(a)",
    "log(a)",
    "log10(a)",
    "log2(a)",
    "ln(a / b)",
    "ln(a) * ln(b)",
    "greatest(ln(a), 0)",
    "least(ln(a), 1)",
    "a ^ 2",
    "a ** 3",
    "-a ^ 2",
    "a ^ -2",
    "power(a, 0.5)",
    "power(abs(b), a / 1e5)",
    "exp(a / 1e5)",
    "exp(-abs(a))",
    "exp(ln(a))",
    "1 / ln(a)",
    "case when a > 0 then ln(a) else 0 end",
]


@given(rows=ROWS)
@settings(max_examples=60)
def test_rounded_functions_agree_to_the_last_digit_of_float32(rows):
    trained, served = both(ROUNDED, rows)
    finite = np.isfinite(trained) & np.isfinite(served)
    gap = np.abs(np.where(finite, trained, 0.0) - np.where(finite, served, 0.0))
    # some 1e-16 of the value apart before rounding, so at most neighbours after it
    digit = np.spacing(np.abs(np.where(finite, trained, 0.0)).astype(np.float32))
    agree = ((gap <= digit) & (np.isfinite(trained) == np.isfinite(served))).all(axis=0)
    assert agree.all(), [expression for expression, fine in zip(ROUNDED, agree, strict=True) if not fine]


def test_every_offered_operation_is_proved_here():
    proved = " ".join(EXACT + ROUNDED)
    words = [word.strip(",") for word in OFFERED.replace("when … then … else … end", "").split()]
    assert [word for word in words if word not in proved] == []


NAMES = st.sampled_from(["a", "b", '"order"', "0.1", "3", "2.5", "-1"])


def nested(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["<", "<=", ">", ">=", "=", "<>"])
    comparison = st.builds("{} {} {}".format, NAMES, signs, NAMES)
    joints = st.sampled_from(["and", "or"])
    condition = comparison | st.builds("({} {} not {})".format, comparison, joints, comparison)
    functions = st.sampled_from(["abs", "floor", "ceil", "sqrt", "-", "0.7 *", "round"])
    return (
        st.builds("({} {} {})".format, children, st.sampled_from("+-*/%"), children)
        | st.builds("({})::integer".format, children)
        | st.builds("round({}, {})".format, children, st.integers(0, 5))
        | st.builds("{}({})".format, functions, children)
        | st.builds("{}({}, {})".format, st.sampled_from(["greatest", "least"]), children, children)
        | st.builds("case when {} then {} else {} end".format, condition, children, children)
    )


@given(st.lists(st.recursive(NAMES, nested, max_leaves=12), min_size=1, max_size=5), ROWS)
@settings(max_examples=50)
def test_any_nesting_of_exact_operations_is_the_same_number_on_both_sides(expressions, rows):
    assert equal(*both(expressions, rows)).all()


def test_where_a_function_has_no_value_neither_side_has_one():
    rows = [(0.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (1e6, 0.0, 0.0)]
    nowhere = ["ln(a * 0)", "1 / b", "b / b", "sqrt(-1 - abs(a))", "exp(abs(a) + 1000)", "1e300 + b"]
    for values in both(nowhere, rows):
        assert not np.isfinite(values).any()


def test_numbers_are_doubles_and_neither_decimals_nor_32_bits():
    assert CONNECTION.execute("select 0.1 + 0.2 = 0.3").fetchall() == [(True,)]
    for values in both(["(0.1 + 0.2 - 0.3) * 1e16", "2147483647 + 1"], [(1.0, 1.0, 1.0)]):
        assert values.tolist() == [[pytest.approx(0.555, abs=1e-3), 2147483648.0]]


EDGES = [
    0.49999999999999994,
    0.5,
    1.5,
    2.5,
    -0.5,
    -2.5,
    1.005,
    2.675,
    -1.45,
    0.285,
    1e15 + 0.5,
    2**52 + 1,
    2**53 + 2,
    1e300,
]


def test_halves_and_large_numbers_are_rounded_alike_on_both_sides():
    expressions = [
        "round(a)",
        "round(a, 1)",
        "round(a, 2)",
        "a::integer",
        "floor(a)",
        "(a % 1) * 1e9",
        "a % 0.1",
    ]
    trained, served = both(expressions, [(edge, 0.0, 0.0) for edge in EDGES])
    assert equal(trained, served).all()
    assert trained[:6, 0].tolist() == [0, 1, 2, 3, -1, -3]
    assert trained[:6, 3].tolist() == [0, 0, 2, 2, 0, -2]


def test_like_is_what_duckdb_says_of_the_levels():
    levels = ["abc", "aBc", "a%c", "a.c", "ab\nc", "", "xabcx", "other"]
    columns = {"a": COLUMN, "kind": Column(type="category").with_levels(levels)}
    rows = np.array([[0.0, index] for index in range(len(levels))])
    for pattern in ["abc", "a%", "%c", "a_c", "a%c", "%", "a.c", "", "%B%", "_____", "oth%"]:
        for word in ("like", "not like", "ilike"):
            [feature] = parse(
                f"select case when kind {word} '{pattern}' then 1 else 0 end as f from inputs", columns
            )
            expected = [
                CONNECTION.execute(f"select ?::varchar {word} ?", [level, pattern]).fetchall()[0][0]
                for level in levels[:-1]
            ] + [word == "not like"]
            CONNECTION.register("given", pd.DataFrame(rows, columns=list(columns)))
            [answers] = CONNECTION.execute(select_sql([feature], "given", [], "")).fetchnumpy().values()
            assert answers.tolist() == expected, (word, pattern)


def test_the_comment_above_a_feature_describes_it():
    text = """-- about the whole
select
    -- how dear it is,
    --   beside its like
    price / usual as ratio,
    usual, -- not above
    -- of photos
    case when photos > 5
        then 1 else 0 end as many
from inputs"""
    found = {feature.name: feature.description for feature in parse(text, ["price", "usual", "photos"])}
    assert found == {"ratio": "how dear it is, beside its like", "usual": "", "many": "of photos"}
