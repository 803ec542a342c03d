"""Features: SQL expressions over the inputs, run in DuckDB for training and in the served graph.

One definition, executed twice: DuckDB evaluates the text, `nodes` walks the same parsed expression onto
ONNX operators. Both compute in float64. What the language offers is what `nodes` knows; anything else is
refused when the declaration is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import sqlglot
from sqlglot import expressions as sql

DIALECT = "duckdb"

BINARY: dict[type, str] = {
    sql.Add: "Add",
    sql.Sub: "Sub",
    sql.Mul: "Mul",
    sql.Div: "Div",
    sql.Pow: "Pow",
}
UNARY: dict[type, str] = {
    sql.Neg: "Neg",
    sql.Ln: "Log",
    sql.Exp: "Exp",
    sql.Sqrt: "Sqrt",
    sql.Abs: "Abs",
    sql.Floor: "Floor",
    sql.Ceil: "Ceil",
}
EXTREME: dict[type, str] = {sql.Greatest: "Max", sql.Least: "Min"}
COMPARISON: dict[type, str] = {
    sql.LT: "Less",
    sql.LTE: "LessOrEqual",
    sql.GT: "Greater",
    sql.GTE: "GreaterOrEqual",
    sql.EQ: "Equal",
}
LOGIC: dict[type, str] = {sql.And: "And", sql.Or: "Or"}
OFFERED = (
    "+ - * /, power, ln, exp, sqrt, abs, floor, ceil, greatest, least, case when, = < <= > >=, and, or, not"
)


class FeatureError(Exception):
    """A feature that cannot be computed both in DuckDB and in the served graph."""


class Feature(NamedTuple):
    """A named expression over the inputs, in DuckDB's SQL."""

    name: str
    expression: str


def parse(text: str, inputs: Sequence[str]) -> list[Feature]:
    """Read `select <expression> [as <name>], … from inputs`.

    Raises:
        FeatureError: not such a statement, an unknown input, an operation that is not offered, or a name twice.
    """
    try:
        statement = sqlglot.parse_one(text, dialect=DIALECT)
    except sqlglot.errors.ParseError as error:
        raise FeatureError(f"features.sql is not SQL: {error}") from error
    source = statement.find(sql.Table) if isinstance(statement, sql.Select) else None
    clauses = {name for name, part in statement.args.items() if part} - {
        "expressions",
        "from",
        "from_",
        "kind",
    }
    if source is None or source.name != "inputs" or clauses:
        extra = f" ({', '.join(sorted(clauses))} is not allowed)" if clauses else ""
        raise FeatureError(f"features.sql must be one `select … from inputs`{extra}")
    found: list[Feature] = []
    for projection in statement.expressions:
        name = projection.alias_or_name
        if not name:
            raise FeatureError(f"features.sql: give {projection.sql(DIALECT)} a name with `as`")
        if name in [feature.name for feature in found]:
            raise FeatureError(f"features.sql: {name} is defined twice")
        expression = projection.unalias()
        _check(name, expression, inputs)
        found.append(Feature(name, expression.sql(DIALECT)))
    return found


def _check(name: str, expression: sql.Expression, inputs: Sequence[str]) -> None:
    known = (*BINARY, *UNARY, *EXTREME, *COMPARISON, *LOGIC, sql.Not, sql.Paren, sql.Case, sql.If)
    for node in expression.walk():
        if isinstance(node, sql.Column):
            if node.name not in inputs or node.table:
                raise FeatureError(
                    f"feature {name}: {node.sql(DIALECT)} is no input; the inputs are {', '.join(inputs)}"
                )
        elif isinstance(node, sql.Literal):
            if node.is_string:
                raise FeatureError(f"feature {name}: text {node.sql(DIALECT)} has no number")
        elif not isinstance(node, (*known, sql.Identifier)):
            raise FeatureError(f"feature {name}: {node.sql(DIALECT)} is not offered; use {OFFERED}")
    for case in expression.find_all(sql.Case):
        if case.this is not None or case.args.get("default") is None:
            raise FeatureError(f"feature {name}: write case as `case when <condition> then … else … end`")


def select_sql(features: Sequence[Feature], relation: str, keep: Sequence[str], prefix: str) -> str:
    """The statement that computes the features of a relation whose inputs are doubles."""
    kept = ", ".join(f'"{name}"' for name in keep)
    computed = ", ".join(
        f'({feature.expression})::double as "{prefix}{feature.name}"' for feature in features
    )
    return f"select {kept}, {computed} from {relation}"


Emit = Callable[..., str]


def nodes(feature: Feature, column: Callable[[str], str], number: Callable[[float], str], emit: Emit) -> str:
    """Append the ONNX nodes of one feature and return the name of its value, float64 of shape (rows, 1).

    Args:
        column: the value of an input, (rows, 1). number: a constant. emit: appends a node of an operator
            over values and returns its output.
    """

    def walk(node: sql.Expression) -> str:
        kind = type(node)
        if isinstance(node, sql.Paren):
            return walk(node.this)
        if isinstance(node, sql.Column):
            return column(node.name)
        if isinstance(node, sql.Literal):
            return number(float(node.this))
        if kind in BINARY:
            return emit(BINARY[kind], walk(node.this), walk(node.expression))
        if kind in UNARY:
            return emit(UNARY[kind], walk(node.this))
        if kind in EXTREME:
            return emit(EXTREME[kind], *(walk(part) for part in (node.this, *node.expressions)))
        if kind in COMPARISON or kind in LOGIC:
            return emit((COMPARISON | LOGIC)[kind], walk(node.this), walk(node.expression))
        if isinstance(node, sql.Not):
            return emit("Not", walk(node.this))
        if isinstance(node, sql.Case):
            value = walk(node.args["default"])
            for branch in reversed(node.args["ifs"]):
                value = emit("Where", walk(branch.this), walk(branch.args["true"]), value)
            return value
        raise FeatureError(f"feature {feature.name}: {node.sql(DIALECT)} is not offered; use {OFFERED}")

    return walk(sqlglot.parse_one(feature.expression, dialect=DIALECT))
