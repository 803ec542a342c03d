"""DuckDB's SQL as Spark's, with the same rows as its result.

sqlglot knows how words are spelled in Spark, and not that `1 / 0` is an infinity here and an error there, or that a
cast to an integer rounds here and truncates there. So every word that a statement may have is listed: those that mean
the same in both, those with a rule that makes them the same, and all others are refused by name. Where the type of a
value decides, and the text does not show it, Spark itself asks for it (`typeof`), when it analyzes the query.

What can differ still: ln, log, exp and power in their last digit, because Java computes them by other means than C, and
the mean of decimals; and sum, mean or deviation of doubles without `order by` inside, as between two runs of DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlglot
from sqlglot import expressions as sql

DIALECT, SPARK = "duckdb", "spark"
INFINITY = "double('infinity')"
FLOATS = "'double', 'float'"

# Words for which Spark has nothing that is equal; a session needs them before it executes what `to_spark` writes.
FUNCTIONS = {
    # IEEE 754: Spark stops at a division by zero. Only the text of a zero has its sign.
    "vroom_divide(a double, b double)": f"""
        case when b <> 0 then a / b when a is null or b is null then null
            when a = 0 or isnan(a) then double('NaN')
            when (a > 0) = (cast(b as string) not like '-%') then {INFINITY} else -{INFINITY} end""",
    "vroom_remainder(a double, b double)": """
        case when b <> 0 then a % b when a is null or b is null then null else double('NaN') end""",
    # Spark's floor ends at 2^63 and makes 0 of a NaN; rint does neither, and knows -0.
    "vroom_floor(x double)": "if(rint(x) > x, rint(x) - 1, rint(x))",
    "vroom_ceil(x double)": "-if(rint(-x) > -x, rint(-x) - 1, rint(-x))",
    # Halves of x * 10^n away from zero; Spark's are those of the shortest text of x.
    "vroom_round(x double, scale double)": f"""
        case when x = 0 or not abs(x * scale) < {INFINITY} then x
            else (if(x < 0, -1, 1) * (
                if(rint(abs(x * scale)) > abs(x * scale), rint(abs(x * scale)) - 1, rint(abs(x * scale)))
                + if(abs(x * scale) - if(rint(abs(x * scale)) > abs(x * scale), rint(abs(x * scale)) - 1,
                    rint(abs(x * scale))) >= 0.5, 1, 0)
            )) / scale end""",
    **{
        f"vroom_{log}(x double)": f"""
        case when x > 0 then {log}(x) when x = 0 then -{INFINITY} when x < 0 then double('NaN') end"""
        for log in ("ln", "log10", "log2")
    },
    # C has 1 where Java has NaN.
    "vroom_power(a double, b double)": f"""
        case when a is null or b is null then null when a = 1 or (a = -1 and abs(b) = {INFINITY}) then 1
            else power(a, b) end""",
    "vroom_is_finite(x double)": f"abs(x) < {INFINITY}",  # NaN is larger
    # The nearest float32 as a double, null where there is none.
    "vroom_float(x double)": f"""
        if(abs(x) < {INFINITY} and abs(cast(x as float)) = float('infinity'), null, cast(cast(x as float) as double))""",
}
RETURNS = {"vroom_is_finite(x double)": "boolean"}
FUNCTION_STATEMENTS = tuple(
    f"create or replace temporary function {head} returns {RETURNS.get(head, 'double')} return {body}"
    for head, body in FUNCTIONS.items()
)

EQUAL = (  # what means the same in both, and whose spelling sqlglot knows
    *(sql.Select, sql.From, sql.Join, sql.Where, sql.Group, sql.Having, sql.Order, sql.Ordered, sql.Limit),
    *(sql.With, sql.CTE, sql.Subquery, sql.Table, sql.TableAlias, sql.Identifier, sql.Alias, sql.Column),
    *(sql.Star, sql.Literal, sql.Null, sql.Boolean, sql.Paren, sql.Tuple, sql.Values, sql.Union, sql.Except),
    *(sql.Intersect, sql.Qualify, sql.Window, sql.WindowSpec, sql.Filter, sql.Distinct, sql.Var, sql.Case),
    *(sql.If, sql.And, sql.Or, sql.Not, sql.Is, sql.In, sql.Between, sql.Exists, sql.EQ, sql.NEQ, sql.LT),
    *(sql.LTE, sql.GT, sql.GTE, sql.NullSafeEQ, sql.NullSafeNEQ, sql.Add, sql.Sub, sql.Mul, sql.Neg),
    *(sql.IntDiv, sql.Coalesce, sql.Nullif, sql.Greatest, sql.Least, sql.Abs, sql.Sqrt, sql.Exp),
    *(sql.Count, sql.Sum, sql.Min, sql.Max, sql.AnyValue, sql.IgnoreNulls, sql.RowNumber, sql.Rank),
    *(
        sql.DenseRank,
        sql.Lag,
        sql.Lead,
        sql.Length,
        sql.Year,
        sql.Quarter,
        sql.Month,
        sql.Day,
        sql.DayOfMonth,
    ),
    *(sql.DayOfYear, sql.Hour, sql.Minute, sql.Second, sql.DataType, sql.DataTypeParam),
)
TRUTHS = (
    sql.EQ,
    sql.NEQ,
    sql.LT,
    sql.LTE,
    sql.GT,
    sql.GTE,
    sql.And,
    sql.Or,
    sql.Not,
    sql.Is,
    sql.In,
    sql.Between,
)
ARITHMETIC = (
    sql.Add,
    sql.Sub,
    sql.Mul,
    sql.Div,
    sql.Neg,
    sql.Floor,
    sql.Ceil,
    sql.Abs,
    sql.Sqrt,
    sql.Ln,
    sql.Exp,
)
FORMATS = {"%Y": "yyyy", "%m": "MM", "%d": "dd", "%H": "HH", "%M": "mm", "%S": "ss"}
MICROSECONDS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}
MONTHS = {"month": 1, "quarter": 3, "year": 12}


class NotEqual(Exception):
    """SQL that has no equal in Spark; the message names the word, and what to write instead."""


Names = Callable[[str, str], str | None]  # schema ("" where there is none) and name of a table, to a view's


def to_spark(statement: str | sql.Expr, names: Names = lambda _, name: name) -> str:
    """A query in Spark's SQL; it needs FUNCTION_STATEMENTS.

    Args:
        names: of the views that stand for tables, None for one that is not there.

    Raises:
        NotEqual: a word that is not offered, or a table that is not there.
    """
    tree = sqlglot.parse_one(statement, dialect=DIALECT) if isinstance(statement, str) else statement.copy()
    _rename(tree, names)
    return _written(tree)


def _written(tree: sql.Expr) -> str:
    return _rewritten(tree).sql(SPARK, identify=True, comments=False)


def _rename(tree: sql.Expr, names: Names) -> None:
    given = {one.alias.lower() for one in tree.find_all(sql.CTE)}
    for table in tree.find_all(sql.Table):
        if not isinstance(table.this, sql.Identifier):
            raise NotEqual(f"{table.sql(DIALECT)} is not offered on Spark; read declared tables")
        if not table.db and table.name.lower() in given:
            continue
        view = names(table.db.lower(), table.name)
        if view is None:
            raise NotEqual(f"Table with name {table.name} does not exist")
        if not table.alias:
            table.set("alias", sql.TableAlias(this=sql.to_identifier(table.name, quoted=True)))
        table.set("this", sql.to_identifier(view, quoted=True))
        table.set("db", None)
        table.set("catalog", None)


def _rewritten(tree: sql.Expr) -> sql.Expr:
    """The tree with Spark's words for DuckDB's, the outer ones first: what a rule writes of inner ones is rewritten before."""
    rule = RULES.get(type(tree))
    if rule is not None:
        return rule(tree)
    if isinstance(tree, sql.Anonymous):
        named = CALLS.get(str(tree.this).lower())
        if named is None:
            raise _refused(tree, "it is not known to be equal there")
        return named(tree)
    if type(tree) not in EQUAL:
        raise _refused(tree, "it is not known to be equal there")
    for child in list(tree.iter_expressions()):
        replacement = _rewritten(child)
        if replacement is not child:
            child.replace(replacement)
    return tree


def _refused(node: sql.Expr, why: str) -> NotEqual:
    text = node.sql(DIALECT, comments=False)
    return NotEqual(f"{text if len(text) < 100 else text[:97] + '...'} is not offered on Spark; {why}")


def _spark(text: str) -> sql.Expr:
    """Text in Spark's SQL as it is: sqlglot need not understand it."""
    return sql.Var(this=text)


def _text(node: sql.Expr) -> str:
    return _written(node.copy())


def _call(name: str) -> Callable[[sql.Expr], sql.Expr]:
    """A word of one argument."""
    return lambda node: _spark(f"{name}({_text(node.this)})")


def _divided(node: sql.Expr) -> sql.Expr:
    return _spark(f"vroom_divide({_text(node.this)}, {_text(node.expression)})")


def _remainder(node: sql.Expr) -> sql.Expr:
    """Of whole numbers by zero it is an error in both; of doubles, whose divisor is written `::double`, it is NaN here."""
    divisor = node.expression.unnest()
    if _is_double(divisor):
        return _spark(f"vroom_remainder({_text(node.this)}, {_text(divisor)})")
    return _spark(f"({_text(node.this)} % {_text(divisor)})")


def _is_double(node: sql.Expr) -> bool:
    is_cast = isinstance(node, sql.Cast) and node.to.this is sql.DType.DOUBLE
    return is_cast or (isinstance(node, sql.Literal) and not node.is_string and "e" in node.name.lower())


def _power(node: sql.Expr) -> sql.Expr:
    return _spark(f"vroom_power({_text(node.this)}, {_text(node.expression)})")


def _logarithm(node: sql.Expr) -> sql.Expr:
    """As in `features.expressions`: sqlglot reads log(x) as one argument and log10(x) as two."""
    if node.expression is None:
        return _spark(f"vroom_log10({_text(node.this)})")
    base = float(node.this.name) if isinstance(node.this, sql.Literal) else 0
    if base not in (2, 10):
        raise _refused(node, "logarithms are ln, log2 and log10")
    return _spark(f"vroom_log{base:g}({_text(node.expression)})")


def _rounded(node: sql.Expr) -> sql.Expr:
    decimals = node.args.get("decimals") or sql.Literal.number(0)
    if not (isinstance(decimals, sql.Literal) and decimals.name.isdecimal()) or node.args.get("truncate"):
        raise _refused(node, "round takes a number of decimals")
    value = _text(node.this)
    double = f"vroom_round(try_cast({value} as double), {10.0 ** int(decimals.name)!r}e0)"
    return _of_doubles(value, double, "round takes a double: write round(x::double, n)")


def _of_doubles(value: str, then: str, refusal: str) -> sql.Expr:
    return _spark(f"case when typeof({value}) in ({FLOATS}) then {then} else raise_error('{refusal}') end")


def _cast(node: sql.Expr) -> sql.Expr:
    kind, inner = node.args["to"].this, node.this
    if kind is sql.DType.DOUBLE:
        if isinstance(inner, sql.TryCast) and inner.to.this is sql.DType.FLOAT:
            return _spark(f"vroom_float({_text(inner.this)})")
        return _spark(_not_of_texts(inner, "double"))
    if kind in (sql.DType.INT, sql.DType.BIGINT):
        return _spark(_whole(inner, "int" if kind is sql.DType.INT else "bigint"))
    if kind in (sql.DType.TEXT, sql.DType.VARCHAR):
        return _spark(_as_text(inner))
    if kind in (sql.DType.TIMESTAMPNTZ, sql.DType.TIMESTAMP):
        return _spark(_not_of_texts(inner, "timestamp_ntz"))
    if kind is sql.DType.DATE:
        return _spark(_not_of_texts(inner, "date"))
    raise _refused(node, "casts are to double, integer, bigint, varchar, timestamp and date")


def _not_of_texts(node: sql.Expr, type: str) -> str:
    """A cast that is equal unless it reads a text, of which Spark takes more and others."""
    value = _text(node)
    if isinstance(
        node.unnest(), (sql.Literal, sql.Null, sql.Case, *TRUTHS, *ARITHMETIC, sql.TryCast, sql.Cast)
    ):
        return f"cast({value} as {type})"
    why = f"a cast of a text to {type} is not offered on Spark"
    return f"case when typeof({value}) = 'string' then raise_error('{why}') else cast({value} as {type}) end"


def _whole(node: sql.Expr, type: str) -> str:
    """A cast to an integer: DuckDB rounds doubles half to even and decimals half away from zero, Spark truncates both."""
    value = _text(node)
    if isinstance(node.unnest(), (*TRUTHS, sql.Null)):
        return f"cast({value} as {type})"
    why = f"a cast of a text to {type} is not offered on Spark"
    return (
        f"case when typeof({value}) = 'string' then raise_error('{why}') "
        f"when typeof({value}) in ({FLOATS}) then cast(rint(try_cast({value} as double)) as {type}) "
        f"when typeof({value}) like 'decimal%' then cast(round(try_cast({value} as decimal(38, 10))) as {type}) "
        f"else cast({value} as {type}) end"
    )


def _as_text(node: sql.Expr) -> str:
    """A value as text; the texts of a double differ (1e+20, 1.0E20)."""
    value = _text(node)
    if isinstance(node.unnest(), sql.Literal) and node.unnest().is_string:
        return value
    if isinstance(node.unnest(), sql.DPipe):
        return value
    why = "a double as text is not offered on Spark: write ::bigint::varchar, or ::decimal"
    types = f"typeof({value}) in ({FLOATS}) or typeof({value}) like 'interval%'"
    return f"case when {types} then raise_error('{why}') else cast({value} as string) end"


def _joined(node: sql.Expr) -> sql.Expr:
    return _spark(f"({_as_text(node.this)} || {_as_text(node.expression)})")


def _equal(node: sql.Expr) -> sql.Expr:
    """`(a, b) = (c, d)`, in which NULL equals NULL, by its parts, so that Spark can join by them."""
    left, right = node.this.unnest(), node.expression.unnest()
    if not (isinstance(left, sql.Tuple) and isinstance(right, sql.Tuple)):
        for side in (node.this, node.expression):
            side.replace(_rewritten(side))
        return node
    pairs = zip(left.expressions, right.expressions, strict=True)
    return _spark("(" + " and ".join(f"{_text(one)} <=> {_text(other)}" for one, other in pairs) + ")")


def _like(node: sql.Expr) -> sql.Expr:
    pattern = node.expression
    if not (isinstance(pattern, sql.Literal) and pattern.is_string) or "\\" in pattern.name:
        raise _refused(node, "a pattern is a text without \\")
    negation = "not " if node.args.get("negate") else ""
    return _spark(f"{_text(node.this)} {negation}like {_text(pattern)}")


def _filtered(node: sql.Expr) -> sql.Expr:
    """`<aggregate> filter (<condition>)`."""
    aggregate, condition = node.this, _text(node.expression.this)
    if type(aggregate) in AGGREGATES:
        return _spark(AGGREGATES[type(aggregate)](aggregate, condition))
    return _spark(f"{_text(aggregate)} filter (where {condition})")


def _aggregated(node: sql.Expr) -> sql.Expr:
    return _spark(AGGREGATES[type(node)](node, "true"))


def _plain(name: str, value: str, condition: str) -> str:
    return f"{name}({value})" + (f" filter (where {condition})" if condition != "true" else "")


def _in_order(node: sql.Expr, condition: str) -> str | None:
    """The values of an aggregate as a sorted array of `value`, nulls left out; None without an order.

    Ties follow the value, because nothing else says which is first.
    """
    order = node.this
    if not isinstance(order, sql.Order):
        return None
    value = _text(order.this)
    fields = [f"'value', cast({value} as double)"]
    for number, key in enumerate(order.expressions):
        if key.args.get("desc"):
            raise _refused(node, "an order inside of an aggregate is ascending")
        fields.insert(-1, f"'empty_{number}', ({_text(key.this)}) is null, 'key_{number}', {_text(key.this)}")
    given = f"({value}) is not null" + (f" and ({condition})" if condition != "true" else "")
    return f"array_sort(collect_list(named_struct({', '.join(fields)})) filter (where {given}))"


def _sum(node: sql.Expr, condition: str) -> str:
    if (values := _in_order(node, condition)) is None:
        return _plain("sum", _text(node.this), condition)
    return _folded(values, "state.total + one.value", "state.total")


def _mean(node: sql.Expr, condition: str) -> str:
    if (values := _in_order(node, condition)) is not None:
        return _folded(values, "state.total + one.value", "state.total / state.number")
    value = _text(node.this)
    if isinstance(node.find_ancestor(sql.Window, sql.Select), sql.Window):
        return _plain("avg", f"cast({value} as double)", condition)
    # Whole numbers and decimals are summed exactly.
    return f"(cast({_plain('sum', value, condition)} as double) / nullif({_plain('count', value, condition)}, 0))"


def _folded(values: str, total: str, result: str) -> str:
    return (
        f"aggregate({values}, named_struct('total', 0D, 'number', 0D), "
        f"(state, one) -> named_struct('total', {total}, 'number', state.number + 1D), "
        f"state -> if(state.number = 0, null, {result}))"
    )


def _deviation(node: sql.Expr, condition: str) -> str:
    """By Welford's method, as DuckDB does."""
    if (values := _in_order(node, condition)) is None:
        return _plain("stddev_pop", f"cast({_text(node.this)} as double)", condition)
    mean = "(state.mean + (one.value - state.mean) / (state.number + 1D))"
    return (
        f"aggregate({values}, named_struct('mean', 0D, 'squares', 0D, 'number', 0D), "
        f"(state, one) -> named_struct('mean', {mean}, "
        f"'squares', state.squares + (one.value - {mean}) * (one.value - state.mean), 'number', state.number + 1D), "
        "state -> if(state.number = 0, null, if(state.number > 1, sqrt(state.squares / state.number), 0D)))"
    )


def _median(node: sql.Expr, condition: str) -> str:
    values = _plain("collect_list", f"cast({_text(node.this)} as double)", condition)
    low, high = "a[(size(a) - 1) div 2]", "a[size(a) div 2]"
    return (
        f"element_at(transform(array(array_sort({values})), "
        f"a -> if(size(a) = 0, null, if(size(a) % 2 = 1, {low}, {low} * 0.5D + {high} * 0.5D))), 1)"
    )


def _first(node: sql.Expr, condition: str) -> str:
    order = node.this
    if not isinstance(order, sql.Order):
        raise _refused(node, "an order decides what is first: first(x order by y)")
    downwards = {bool(key.args.get("desc")) for key in order.expressions}
    if len(downwards) > 1:
        raise _refused(node, "all keys of an order inside of an aggregate go one way")
    # NULL is the last either way.
    word, empty = ("max_by", "is not null") if downwards == {True} else ("min_by", "is null")
    keys = ", ".join(f"({_text(key.this)}) {empty}, {_text(key.this)}" for key in order.expressions)
    return _plain(word, f"{_text(order.this)}, struct({keys})", condition)


def _extreme_by(word: str) -> Callable[[sql.Expr, str], str]:
    """arg_max and arg_min leave rows out whose value is NULL."""

    def written(node: sql.Expr, condition: str) -> str:
        value = _text(node.this)
        given = f"({value}) is not null" + (f" and ({condition})" if condition != "true" else "")
        return _plain(word, f"{value}, {_text(node.expression)}", given)

    return written


def _micros(node: sql.Expr) -> str:
    return f"unix_micros(cast({_text(node)} as timestamp_ltz))"  # in UTC, as every session is


def _difference(node: sql.Expr) -> sql.Expr:
    """How many beginnings of a unit lie between two times; Spark's own counts whole units."""
    unit = str(node.args["unit"].name).lower()
    if unit in MONTHS:
        counted = [
            f"((year({_text(one)}) * 12 + month({_text(one)}) - 1) div {MONTHS[unit]})" for one in _both(node)
        ]
    elif unit in MICROSECONDS and unit != "week":
        counted = [_floored(_micros(one), MICROSECONDS[unit]) for one in _both(node)]
    else:
        units = ", ".join(unit for unit in (*MICROSECONDS, *MONTHS) if unit != "week")
        raise _refused(node, f"date_diff counts {units}; a week is 7 days")
    return _spark(f"({counted[0]} - {counted[1]})")


def _floored(micros: str, size: int) -> str:
    return f"(({micros} - pmod({micros}, {size})) div {size})"


def _both(node: sql.Expr) -> tuple[sql.Expr, sql.Expr]:
    return node.this, node.expression


def _truncated(node: sql.Expr) -> sql.Expr:
    return _spark(f"cast(date_trunc('{node.args['unit'].name}', {_text(node.this)}) as timestamp_ntz)")


def _formatted(node: sql.Expr) -> sql.Expr:
    format = node.args["format"]
    rest = format.name if isinstance(format, sql.Literal) else "%"
    for word in FORMATS:
        rest = rest.replace(word, "")
    if "%" in rest or any(one.isalpha() or one in "'[]{}#\\" for one in rest):
        raise _refused(node, f"a format is made of {', '.join(FORMATS)} and signs between them")
    written = format.name
    for word, pattern in FORMATS.items():
        written = written.replace(word, pattern)
    return _spark(f"date_format({_text(node.this)}, '{written}')")


def _interval(node: sql.Expr) -> sql.Expr:
    number, unit = node.this, str(node.args["unit"].name).lower().removesuffix("s")
    if not isinstance(number, sql.Literal) or not number.name.lstrip("-").isdecimal():
        raise _refused(node, "an interval is of a whole number, or made by to_days(n), to_seconds(n)")
    if unit in MONTHS:
        return _spark(f"interval '{int(number.name) * MONTHS[unit]}' month")
    if unit in MICROSECONDS:
        return _spark(f"({int(number.name) * MICROSECONDS[unit]} * interval '0.000001' second)")
    raise _refused(node, f"intervals are of {', '.join([*MICROSECONDS, *MONTHS])}")


def _of_units(interval: str) -> Callable[[sql.Expr], sql.Expr]:
    return lambda node: _spark(f"(({_text(node.expressions[0])}) * interval {interval})")


def _series(node: sql.Expr) -> sql.Expr:
    """`unnest(generate_series(…))` of times, which has no row where it ends before it starts."""
    series = node.this
    if not isinstance(series, sql.GenerateSeries) or not isinstance(series.args.get("step"), sql.Interval):
        raise _refused(node, "unnest takes a generate_series of times")
    start, end, step = (_text(series.args[part]) for part in ("start", "end", "step"))
    return _spark(f"explode(if({start} <= {end}, sequence({start}, {end}, {step}), array()))")


def _position(node: sql.Expr) -> sql.Expr:
    """The index of a text in a list of them; NULL where it is not there."""
    listed, value = node.expressions
    texts = listed.this if isinstance(listed, sql.Cast) else listed
    if not isinstance(texts, sql.Array) or not all(isinstance(one, sql.Literal) for one in texts.expressions):
        raise _refused(node, "list_position takes a list of texts")
    written = ", ".join(_text(one) for one in texts.expressions)
    return _spark(f"nullif(array_position(cast(array({written}) as array<string>), {_text(value)}), 0)")


RULES: dict[type, Callable[[sql.Expr], sql.Expr]] = {
    sql.Div: _divided,
    sql.Mod: _remainder,
    sql.Pow: _power,
    sql.Floor: _call("vroom_floor"),
    sql.Ceil: _call("vroom_ceil"),
    sql.Ln: _call("vroom_ln"),
    sql.Log: _logarithm,
    sql.Round: _rounded,
    sql.Cast: _cast,
    sql.DPipe: _joined,
    sql.EQ: _equal,
    sql.Like: _like,
    sql.Filter: _filtered,
    sql.DateDiff: _difference,
    sql.TimestampTrunc: _truncated,
    sql.DateTrunc: _truncated,
    sql.TimeToStr: _formatted,
    sql.Interval: _interval,
    sql.Explode: _series,
    sql.TimeToUnix: lambda node: _spark(f"(cast({_micros(node.this)} as double) / 1000000D)"),
    sql.ToDays: lambda node: _spark(f"(({_text(node.this)}) * interval '1' day)"),
    sql.DayOfWeekIso: lambda node: _spark(f"(weekday({_text(node.this)}) + 1)"),
    **dict.fromkeys(
        (sql.Sum, sql.Avg, sql.StddevPop, sql.Median, sql.First, sql.ArgMax, sql.ArgMin), _aggregated
    ),
}
AGGREGATES: dict[type, Callable[[sql.Expr, str], str]] = {
    sql.Sum: _sum,
    sql.Avg: _mean,
    sql.StddevPop: _deviation,
    sql.Median: _median,
    sql.First: _first,
    sql.ArgMax: _extreme_by("max_by"),
    sql.ArgMin: _extreme_by("min_by"),
}
CALLS: dict[str, Callable[[sql.Expr], sql.Expr]] = {
    "isfinite": lambda node: _spark(f"vroom_is_finite({_text(node.expressions[0])})"),
    "list_position": _position,
    "to_hours": _of_units("'1' hour"),
    "to_minutes": _of_units("'1' minute"),
    "to_seconds": _of_units("'1' second"),
    "to_milliseconds": _of_units("'0.001' second"),
}
