"""Features: SQL expressions over the inputs, run in DuckDB for training and in the served graph.

One definition, executed twice: DuckDB evaluates the text, `nodes` walks the same parsed expression onto
ONNX operators. Both compute in float64 by IEEE 754, so ln(0) is -inf and 0 / 0 is NaN on either side;
a row with such a feature is refused in training and by the service. What the language offers is what
`nodes` writes; anything else is refused when the declaration is read.

An input is a finite number, or the index of a text among its levels: `compound = 'soft'` compares indices, and a
category may be a feature as it is. One that may be left out is NULL in DuckDB and NaN in the graph. Arithmetic passes
both on alike, so that such a feature is missing too; conditions, powers, greatest and least treat them differently,
so there it stands only in `is null` or as the first of a `coalesce`.

The two sides agree in the last digit or two, not in every bit: ln, log, exp and power are rounded
differently, and a tree or bin edge that lies exactly on a training value would tell them apart. So a
feature is the result rounded to float32, here and in the graph, which makes the two equal. Inside an
expression there is no such rounding, and a step would turn a last digit into a difference of one. So no
step may depend on those functions: conditions, floor and ceil take arithmetic only, which is exact in
both. NaN is the largest number in DuckDB and incomparable in ONNX, so what can be NaN stays out of
conditions as well.

Some words are others in disguise, and become these when a feature is read: `case x when 1 …` is `case when x = 1 …`, and
`grade like 'lo%'` is `grade in (…)` of the levels that are like it, which are known on both sides. A cast to an integer
rounds halves to even, as DuckDB does, and has no largest number. Words about times are arithmetic of seconds (`times`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, NamedTuple

import sqlglot
from sqlglot import expressions as sql

from vroom_assets.features import times

if TYPE_CHECKING:
    from vroom_assets.spec import Column

DIALECT = "duckdb"
NAME = r"[a-z][a-z0-9_]*"
ARITHMETIC: dict[type, str] = {sql.Add: "Add", sql.Sub: "Sub", sql.Mul: "Mul", sql.Div: "Div"}

EXACT: dict[type, str] = {
    sql.Neg: "Neg",
    sql.Abs: "Abs",
    sql.Sqrt: "Sqrt",  # correctly rounded everywhere, as IEEE 754 asks of it
    sql.Floor: "Floor",
    sql.Ceil: "Ceil",
}

ROUNDED: dict[type, str] = {sql.Ln: "Log", sql.Exp: "Exp"}
EXTREME: dict[type, str] = {sql.Greatest: "Max", sql.Least: "Min"}

COMPARISON: dict[type, str] = {
    sql.LT: "Less",
    sql.LTE: "LessOrEqual",
    sql.GT: "Greater",
    sql.GTE: "GreaterOrEqual",
    sql.EQ: "Equal",
    sql.NEQ: "Equal",
}

WHOLE = (sql.DType.INT, sql.DType.BIGINT)  # that a number is rounded to by a cast
MOST_DECIMALS = 15  # of round; 10^n is exact, and DuckDB's is too

LOGIC: dict[type, str] = {sql.And: "And", sql.Or: "Or"}

OFFERED = (
    "+ - * / %, power, ln, log10, log2, exp, sqrt, abs, floor, ceil, round, ::integer, "
    "::double, greatest, least, coalesce, case when … then … else … end, = <> < <= > >=, between, in, like, ilike, "
    "is null, and, or, not"
)

INSTEAD: dict[type, str] = {
    sql.IntDiv: "write `floor(a / b)`",
    sql.TryCast: "write `::`",
    sql.Trunc: "write `floor(x)`, or `ceil(x)` where x is negative",
    sql.Nullif: "write `case when x = … then … else x end`",
}


class Text(NamedTuple):
    """An input that is a text, and its values; of an open one they are learnt, the last stands for all others."""

    name: str
    values: tuple[str, ...]
    is_open: bool = False


Texts = tuple[Text, ...]


class FeatureError(Exception):
    """A feature that cannot be computed both in DuckDB and in the served graph, and its line if that is known."""

    def __init__(self, message: str, line: int | None = None):
        self.message, self.line = message, line
        super().__init__(f"features.sql, line {line}: {message}" if line else message)


@dataclass(frozen=True)
class Feature:
    """A named expression over the inputs, in DuckDB's SQL, and what stands about it in the comment above.

    Its tree is parsed from the text once, when it is first asked for: nobody may change it.
    """

    name: str
    expression: str
    texts: Texts = ()
    description: str = ""
    times: frozenset[str] = frozenset()  # the inputs that are times

    @cached_property
    def tree(self) -> sql.Expr:
        """The parsed expression, with the index of each text that an input is compared with, and times as seconds.

        Raises:
            FeatureError: a text that is not one of the input's values, or that is not compared with an input; a time
                that is taken for a number.
        """
        return _with_positions(self)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The inputs that the expression reads. Raises as `tree`."""
        return frozenset(column.name for column in self.tree.find_all(sql.Column))

    @cached_property
    def unguarded(self) -> frozenset[str]:
        """The inputs without which it is missing. Raises as `tree`."""
        return frozenset(column.name for column in self.tree.find_all(sql.Column) if not _is_guarded(column))

    @cached_property
    def category(self) -> str | None:
        """The input whose levels it is, None where it is a number. Raises as `tree`."""
        tree = self.tree.unnest()
        is_open = isinstance(tree, sql.Column) and any(
            text.is_open for text in self.texts if text.name == tree.name
        )
        return tree.name if is_open else None


def texts_of(inputs: Mapping[str, Column]) -> Texts:
    """The values of the inputs that are texts."""
    return tuple(
        Text(name, tuple(column.levels), column.is_category)
        for name, column in inputs.items()
        if column.levels or column.is_category
    )


def times_of(inputs: Mapping[str, Column]) -> frozenset[str]:
    """The inputs that are times."""
    return frozenset(name for name, column in inputs.items() if column.is_time)


def parse(text: str, inputs: Sequence[str] | Mapping[str, Column]) -> list[Feature]:
    """Read `select <expression> [as <name>], … from inputs`.

    Args:
        inputs: the declared columns; names alone are numbers that are always given.

    Raises:
        FeatureError: not such a statement, an unknown input, an operation that is not offered, a name that
            is missing, misspelled or given twice; the message says line, feature and what is allowed.
    """
    columns = inputs if isinstance(inputs, Mapping) else {}
    texts, moments = texts_of(columns), times_of(columns)
    optional = {name for name, column in columns.items() if column.nullable}
    found: list[Feature] = []
    for projection in _statement(text).expressions:
        line = _line(projection)
        expression = projection.unalias()
        displayed = expression.sql(DIALECT, comments=False)
        name = projection.alias_or_name
        if isinstance(expression, sql.Star):
            raise FeatureError(f"name each feature instead of {displayed}", line)
        if not name:
            raise FeatureError(f"give {displayed} a name with `as`", line)
        if not re.fullmatch(NAME, name):
            raise FeatureError(
                f"{name!r} is not a valid name for a feature: use lower-case letters, digits and _", line
            )
        if name in [feature.name for feature in found]:
            raise FeatureError(f"feature {name} is defined twice", line)
        read = {column.name for column in expression.find_all(sql.Column)}
        own = tuple(one for one in texts if one.name in read)
        feature = Feature(name, displayed, own, _comment_above(text, line), moments & read)
        try:
            _check(feature, list(inputs), optional)
        except FeatureError as error:
            raise FeatureError(error.message, line) from None
        found.append(feature)
    return found


def _statement(text: str) -> sql.Select:
    rule = "features.sql must be one statement, `select <expression> as <name>, … from inputs`"
    try:
        statements = [part for part in sqlglot.parse(text, dialect=DIALECT) if part is not None]
    except sqlglot.errors.ParseError as error:
        first = error.errors[0]
        raise FeatureError(f"{first['description']} near {first['highlight']!r}", first["line"]) from error
    except sqlglot.errors.SqlglotError as error:
        raise FeatureError(f"features.sql is not SQL: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], sql.Select):
        raise FeatureError(rule)
    statement = statements[0]
    clauses = {name.strip("_") for name, part in statement.args.items() if part} - {"expressions", "from"}
    if clauses:
        raise FeatureError(f"{rule}; {', '.join(sorted(clauses))} is not allowed")
    source = statement.args.get("from_")
    table = source.this if source is not None else None
    read = table.sql(DIALECT, comments=False) if table is not None else "nothing"
    if not isinstance(table, sql.Table) or read != "inputs":
        raise FeatureError(f"{rule}; it reads {read}")
    return statement


def _line(node: sql.Expr) -> int | None:
    return min((part.meta["line"] for part in node.walk() if "line" in part.meta), default=None)


def _comment_above(text: str, line: int | None) -> str:
    """The comment on the lines right above a line, as one text; that above the whole statement is nobody's."""
    words: list[str] = []
    for above in reversed(text.splitlines()[: (line or 1) - 1]):
        if not above.strip().startswith("--"):
            break
        words.insert(0, above.strip().lstrip("-").strip())
    return " ".join(words)


def _check(feature: Feature, inputs: Sequence[str], optional: Set[str]) -> None:
    def column(name: str) -> str:
        if name not in inputs:
            raise FeatureError(
                f"feature {feature.name}: {name} is not an input; the inputs are {', '.join(inputs)}"
            )
        return name

    nodes(feature, column, lambda _: "", lambda *_, **__: "", optional)


def select_sql(features: Sequence[Feature], relation: str, keep: Sequence[str], prefix: str) -> str:
    """The statement that computes the features of a relation whose inputs are doubles, texts by their index, times in seconds.

    Numbers are written as doubles (2 as 2.0e0): DuckDB would compute 0.1 + 0.2 in decimals and
    2147483647 + 1 in 32 bits. A result beyond float32 is NULL, where the graph has an infinity.
    """
    kept = [f'"{name}"' for name in keep]
    computed = [
        f'try_cast({_in_doubles(feature)} as float)::double as "{prefix}{feature.name}"'
        for feature in features
    ]
    return f"select {', '.join(kept + computed)} from {relation}"


def _in_doubles(feature: Feature) -> str:
    def double(node: sql.Expr) -> sql.Expr:
        if node.arg_key == "decimals":
            return node
        if isinstance(node, sql.Mod) and not isinstance(node.expression, sql.Literal):
            # It is a double already; engines other than DuckDB have to know, for x % 0.
            divisor = sql.Cast(this=node.expression.copy(), to=sql.DataType.build("double"))
            return sql.Mod(this=node.this.copy(), expression=divisor)
        if isinstance(node, sql.Cast) and node.to.this in WHOLE:
            # From 2^52 on every number is whole; the cast itself ends at 2^31 or 2^63.
            text = node.this.sql(DIALECT, identify=True)
            return sqlglot.parse_one(
                f"case when abs({text}) < 4503599627370496 then ({text})::bigint::double else {text} end",
                dialect=DIALECT,
            )
        if isinstance(node, sql.Literal):
            text = repr(float(node.this))
            return sql.Literal.number(text if "e" in text else f"{text}e0")
        return node

    return _rewritten(feature.tree, double).sql(DIALECT, identify=True)


def _rewritten(tree: sql.Expr, rule: Callable[[sql.Expr], sql.Expr]) -> sql.Expr:
    """A copy in which a rule has replaced nodes, the inner ones first."""
    holder = sql.Paren(this=tree.copy())
    for node in reversed(list(holder.this.walk())):
        replacement = rule(node)
        if replacement is not node:
            node.replace(replacement)
    return holder.this.pop()


def _with_positions(feature: Feature) -> sql.Expr:
    def refused(node: sql.Expr, why: str) -> FeatureError:
        displayed = node.sql(DIALECT, comments=False)
        return FeatureError(f"feature {feature.name} ({feature.expression}): {displayed}: {why}")

    texts = {text.name: text for text in feature.texts}
    whole = _rewritten(sqlglot.parse_one(feature.expression, dialect=DIALECT), _searched)
    whole = _rewritten(whole, lambda node: _listed(node, texts, refused))
    whole = times.in_seconds(whole, feature.times, _rewritten, refused)
    for column in list(whole.find_all(sql.Column)):
        if column.name not in texts:
            continue
        values, is_open = texts[column.name].values, texts[column.name].is_open
        if is_open and whole.unnest() is column:
            continue
        beside = column.parent
        literals = []
        if isinstance(beside, sql.Coalesce) and beside.this is column:
            literals += beside.expressions
            beside = beside.parent
        if isinstance(beside, sql.In):
            literals += beside.expressions
        elif isinstance(beside, (sql.EQ, sql.NEQ)):
            literals += [side for side in (beside.this, beside.expression) if not side.find(sql.Column)]
        elif not isinstance(beside, sql.Is):
            raise refused(
                column,
                f"it is a text; compare it, as in {column.name} = '{values[0] if values else '…'}' or {column.name} in "
                "(…)" + (", or name it alone" if is_open else ""),
            )
        for literal in literals:
            is_text = isinstance(literal, sql.Literal) and literal.is_string
            if not is_text or not (is_open or literal.this in values):
                raise refused(literal, f"{column.name} is one of {', '.join(values)}")
            # No row has a text that is not a level of the data.
            index = values.index(literal.this) if literal.this in values else NO_LEVEL
            literal.replace(sql.Literal.number(index))
    if lost := next((node for node in whole.find_all(sql.Literal) if node.is_string), None):
        raise refused(lost, "a text can only be compared with a text input")
    return whole


def _searched(node: sql.Expr) -> sql.Expr:
    """`case x when 1 then …` as `case when x = 1 then …`."""
    if not isinstance(node, sql.Case) or node.this is None:
        return node
    branches = [
        sql.If(this=sql.EQ(this=node.this.copy(), expression=one.this), true=one.args["true"])
        for one in node.args["ifs"]
    ]
    return sql.Case(ifs=branches, default=node.args.get("default"))


def _listed(
    node: sql.Expr, texts: Mapping[str, Text], refused: Callable[[sql.Expr, str], FeatureError]
) -> sql.Expr:
    """`grade like 'lo%'` as `grade in (…)` of the levels that are like it; that of all others is like nothing.

    Raises:
        FeatureError: it is not a text input, or not a pattern.
    """
    if not isinstance(node, (sql.Like, sql.ILike)):
        return node
    text, pattern = node.this, node.expression
    column = text.this if isinstance(text, sql.Coalesce) else text
    if not isinstance(column, sql.Column) or column.name not in texts:
        raise refused(node, "`like` is for a text input; compare a number")
    if isinstance(node.parent, sql.Escape) or not (isinstance(pattern, sql.Literal) and pattern.is_string):
        raise refused(node, "`like` takes one text, in which % is any text and _ any character")
    _, values, is_open = texts[column.name]
    expression = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in pattern.this)
    flags = re.DOTALL | (re.IGNORECASE if isinstance(node, sql.ILike) else re.NOFLAG)
    found = [one for one in (values[:-1] if is_open else values) if re.fullmatch(expression, one, flags)]
    if not found and not is_open:
        raise refused(node, f"no value is like it; {column.name} is one of {', '.join(values)}")
    # Where the data have no such level there is no level of this name.
    listed = sql.In(this=text, expressions=[sql.Literal.string(one) for one in found or [pattern.this]])
    return sql.Not(this=listed) if node.args.get("negate") else listed


NO_LEVEL = 1e9  # an index that no level has


def _is_guarded(column: sql.Column) -> bool:
    """Whether an expression has a value where this input has none."""
    beside = column.parent
    return isinstance(beside, (sql.Coalesce, sql.Is)) and beside.this is column


Emit = Callable[..., str]


def nodes(
    feature: Feature,
    column: Callable[[str], str],
    number: Callable[[float], str],
    emit: Emit,
    optional: Set[str] | None = None,
) -> str:
    """Append the ONNX nodes of one feature and return the name of its value, float64 of shape (rows, 1).

    The value of a feature that names no input has shape (1, 1).

    Args:
        column: the value of an input, (rows, 1). number: a constant. emit: appends a node of an operator
            over values and returns its output. optional: the inputs that may be left out,
            None where that was checked before.

    Raises:
        FeatureError: an operation that is not offered, or not offered where it stands.
    """
    return _Writer(feature, column, number, emit, optional).value(feature.tree)


@dataclass(frozen=True)
class _Writer:
    """One walk over one expression."""

    feature: Feature
    column: Callable[[str], str]
    number: Callable[[float], str]
    emit: Emit
    optional: Set[str] | None

    def value(self, node: sql.Expr) -> str:
        """Write a number."""
        kind = type(node)
        if isinstance(node, sql.Paren):
            return self.value(node.this)
        if isinstance(node, sql.Column):
            if node.table:
                raise self.refused(node, f"write {node.name} without {node.table}")
            return self.input(node.name)
        if isinstance(node, sql.Coalesce):
            return self.coalesce(node)
        if isinstance(node, sql.Literal):
            return self.number(self.finite(node))
        if kind in ARITHMETIC:
            return self.emit(ARITHMETIC[kind], self.value(node.this), self.value(node.expression))
        if kind is sql.Pow:
            self.always_given(node)
            return self.emit("Pow", self.value(node.this), self.value(node.expression))
        if kind in (sql.Floor, sql.Ceil):
            self.needs(
                node, _exact, "floor and ceil jump, so they take exact arithmetic only: + - * / abs sqrt"
            )
        if kind is sql.Mod:
            self.needs(node, _exact, "% jumps, so it takes exact arithmetic only: + - * / abs sqrt")
            return self.emit("Mod", self.value(node.this), self.value(node.expression), fmod=1)
        if isinstance(node, sql.Round):
            return self.rounded(node)
        if isinstance(node, sql.Cast) and not isinstance(node, sql.TryCast):
            return self.cast(node)
        if kind in EXACT or kind in ROUNDED:
            return self.emit((EXACT | ROUNDED)[kind], self.value(node.this))
        if isinstance(node, sql.Log):
            return self.logarithm(node)
        if kind in EXTREME:
            return self.extreme(node)
        if isinstance(node, sql.If):
            return self.choice([node], node.args.get("false"), node)
        if isinstance(node, sql.Case):
            return self.choice(node.args["ifs"], node.args.get("default"), node)
        if kind in COMPARISON or kind in LOGIC or isinstance(node, (sql.Not, sql.Between, sql.In, sql.Is)):
            raise self.refused(node, "a condition is not a number, write `case when … then 1 else 0 end`")
        raise self.refused(node, INSTEAD.get(kind, f"use {OFFERED}; of times {times.OFFERED}"))

    def input(self, name: str) -> str:
        """Write an input; what training did not see of an open text is its last level."""
        value = self.column(name)
        for text in self.feature.texts:
            if text.name == name and text.is_open and text.values:
                return self.emit("Min", value, self.number(float(len(text.values) - 1)))
        return value

    def always_given(self, node: sql.Expr) -> None:
        """Refuse what may be missing, where DuckDB and the graph would not agree on it."""
        for column in node.find_all(sql.Column):
            if self.optional and column.name in self.optional and not _is_guarded(column):
                raise self.refused(
                    column, f"it may be left out; write `coalesce({column.name}, …)` or `is null`"
                )

    def condition(self, node: sql.Expr) -> str:
        """Write a truth value."""
        kind = type(node)
        if isinstance(node, sql.Paren):
            return self.condition(node.this)
        if kind in LOGIC:
            return self.emit(LOGIC[kind], self.condition(node.this), self.condition(node.expression))
        if isinstance(node, sql.Not):
            return self.emit("Not", self.condition(node.this))
        if isinstance(node, sql.Between) and not node.args.get("symmetric"):
            middle = self.compared(node.this)
            low = self.emit("GreaterOrEqual", middle, self.compared(node.args["low"]))
            return self.emit("And", low, self.emit("LessOrEqual", middle, self.compared(node.args["high"])))
        if isinstance(node, sql.Is) and isinstance(node.expression, sql.Null):
            return self.emit("IsNaN", self.given(node.this, "is null"))
        if isinstance(node, sql.In) and node.expressions:
            known = self.compared(node.this)
            answers = [self.emit("Equal", known, self.compared(one)) for one in node.expressions]
            return reduce(lambda one, other: self.emit("Or", one, other), answers)
        if kind in COMPARISON:
            answer = self.emit(COMPARISON[kind], self.compared(node.this), self.compared(node.expression))
            return self.emit("Not", answer) if kind is sql.NEQ else answer
        raise self.refused(
            node, "a condition is a comparison (= <> < <= > >= between, in, is null) or and, or, not"
        )

    def given(self, node: sql.Expr, where: str) -> str:
        """Write an input that may be NaN."""
        if not isinstance(node, sql.Column) or node.table:
            raise self.refused(node, f"`{where}` takes an input alone: nothing else can be missing")
        if self.optional is not None and node.name not in self.optional:
            raise self.refused(
                node, f"`{where}` is for inputs that may be left out; declare it `nullable: true`"
            )
        return self.input(node.name)

    def coalesce(self, node: sql.Coalesce) -> str:
        first = self.given(node.this, "coalesce")
        if len(node.expressions) != 1:
            raise self.refused(node, "`coalesce` takes an input and what stands for it when it is left out")
        return self.emit("Where", self.emit("IsNaN", first), self.value(node.expressions[0]), first)

    def compared(self, node: sql.Expr) -> str:
        self.always_given(node)
        self.needs(
            node,
            _total,
            "a condition jumps, so it compares exact arithmetic only: + - * abs floor ceil and / % by a number; "
            "write `a > 1.2 * b` for `a / b > 1.2` and `a > 2.718` for `ln(a) > 1`",
        )
        return self.value(node)

    def choice(self, branches: list[sql.If], default: sql.Expr | None, node: sql.Expr) -> str:
        if default is None:
            raise self.refused(node, "without `else` it is NULL where nothing matches")
        value = self.value(default)
        for branch in reversed(branches):
            value = self.emit("Where", self.condition(branch.this), self.value(branch.args["true"]), value)
        return value

    def rounded(self, node: sql.Round) -> str:
        """round(x, n) as DuckDB has it: halves away from zero, of x · 10^n."""
        decimals = node.args.get("decimals") or sql.Literal.number(0)
        digits = decimals.this if isinstance(decimals, sql.Literal) and not decimals.is_string else ""
        if not digits.isdecimal() or int(digits) > MOST_DECIMALS or node.args.get("truncate"):
            raise self.refused(
                node,
                f"round takes a number of decimals from 0 to {MOST_DECIMALS}; write `round(x / 100) * 100`",
            )
        self.needs(node, _exact, "round jumps, so it takes exact arithmetic only: + - * / abs sqrt")
        value, scale = self.value(node.this), self.number(10.0 ** int(digits))
        scaled = self.emit("Mul", value, scale)
        size = self.emit("Abs", scaled)
        below = self.emit("Floor", size)
        up = self.emit("GreaterOrEqual", self.emit("Sub", size, below), self.number(0.5))
        # Not floor(size + 0.5), which is 1 for the number just below 0.5.
        nearest = self.emit("Where", up, self.emit("Add", below, self.number(1.0)), below)
        is_negative = self.emit("Less", scaled, self.number(0.0))
        signed = self.emit("Where", is_negative, self.emit("Neg", nearest), nearest)
        return self.emit("Where", self.emit("IsInf", scaled), value, self.emit("Div", signed, scale))

    def cast(self, node: sql.Cast) -> str:
        type = node.to.this
        if type is sql.DType.DOUBLE:
            return self.value(node.this)
        if type not in WHOLE:
            raise self.refused(
                node, "a number is cast to `integer`, `bigint` or `double`; floor, ceil and round round it"
            )
        self.needs(
            node, _exact, "a cast to an integer jumps, so it takes exact arithmetic only: + - * / abs sqrt"
        )
        return self.emit("Round", self.value(node.this))

    def logarithm(self, node: sql.Log) -> str:
        """log10 and log2; sqlglot reads log(x), as DuckDB means it, as one argument and log10(x) as two."""
        base, argument = (10.0, node.this) if node.expression is None else (node.this, node.expression)
        if isinstance(base, sql.Literal):
            base = self.finite(base)
        if base not in (2.0, 10.0):
            raise self.refused(node, "logarithms are ln, log2 and log10")
        return self.emit("Div", self.emit("Log", self.value(argument)), self.number(math.log(base)))

    def extreme(self, node: sql.Expr) -> str:
        """greatest and least; DuckDB takes NaN for the largest number, ONNX passes it on from either."""
        self.always_given(node)
        parts = [node.this, *node.expressions]
        values = [self.value(part) for part in parts]
        if isinstance(node, sql.Greatest) or all(_total(inner) for part in parts for inner in part.walk()):
            return self.emit(EXTREME[type(node)], *values)
        least = values[0]
        for other in values[1:]:
            both = self.emit("Min", least, other)
            known = self.emit("Where", self.emit("IsNaN", other), least, both)
            least = self.emit("Where", self.emit("IsNaN", least), other, known)
        return least

    def finite(self, node: sql.Literal) -> float:
        try:
            value = math.nan if node.is_string else float(node.this)
        except ValueError:  # sqlglot reads 1e3+5 as one number
            raise self.refused(node, "put spaces around + and - after a number with an exponent") from None
        if not math.isfinite(value):
            raise self.refused(node, "it is not a finite number")
        return value

    def needs(self, node: sql.Expr, rule: Callable[[sql.Expr], bool], why: str) -> None:
        for part in node.walk():
            if not rule(part):
                raise self.refused(part, why)

    def refused(self, node: sql.Expr, why: str) -> FeatureError:
        return FeatureError(
            f"feature {self.feature.name} ({self.feature.expression}): "
            f"{node.sql(DIALECT, comments=False)} is not offered here; {why}"
        )


def _exact(node: sql.Expr) -> bool:
    """Whether the operation at this node gives the same bits in DuckDB and ONNX."""
    return not isinstance(node, (*ROUNDED, sql.Log, sql.Pow))


def _total(node: sql.Expr) -> bool:
    """Whether, moreover, it gives a number for all numbers."""
    if isinstance(node, (sql.Div, sql.Mod)):
        divisor = node.expression
        return isinstance(divisor, sql.Literal) and not divisor.is_string and float(divisor.this) != 0
    return _exact(node) and not isinstance(node, sql.Sqrt)
