"""Words about times in features, as arithmetic of seconds since 1970: what DuckDB and the served graph compute alike.

`month(booked_at)` becomes divisions and floors of the column's seconds. The calendar is the proleptic Gregorian one, as
DuckDB's; the days of a year are counted from March on, so that the leap day is the last (method of Howard Hinnant,
"chrono-Compatible Low-Level Date Algorithms"). There are no conditions in it, so that a missing time makes a missing
number.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import expressions as sql

from vroom_api.contract import times

if TYPE_CHECKING:
    from vroom_assets.features.expressions import FeatureError

DIALECT = "duckdb"
WORDS: dict[type, str] = {
    sql.Year: "year",
    sql.Quarter: "quarter",
    sql.Month: "month",
    sql.Day: "day",
    sql.DayOfMonth: "day",
    sql.DayOfYear: "dayofyear",
    sql.DayOfWeekIso: "isodow",
    sql.Hour: "hour",
    sql.Minute: "minute",
    sql.Second: "second",
    sql.TimeToUnix: "epoch",
}
OFFERED = (
    f"{', '.join(f'{word}(…)' for word in dict.fromkeys(WORDS.values()))}, date_diff('day', …, …), "
    "or a comparison with timestamp '2024-01-01'"
)
INSTEAD: dict[type, str] = {
    sql.Extract: "write `hour(…)`, `month(…)` and so on",
    sql.TimestampTrunc: "write `date_diff('day', …, …)`, or compare with timestamp '2024-01-01'",
    sql.DayOfWeek: "write `isodow(…)`, in which 1 is Monday and 7 Sunday",
    sql.Week: "write `floor((dayofyear(…) - 1) / 7)`",
    sql.Sub: "write `date_diff('day', …, …)`, or `epoch(…) - epoch(…)` for seconds",
}
COUNTED = {  # by date_diff: the beginnings of a unit
    "year": "year",
    "quarter": "all_quarters",
    "month": "all_months",
    "day": "days",
    "hour": "hours",
    "minute": "minutes",
    "second": "seconds",
}
COMPARED = (sql.EQ, sql.NEQ, sql.LT, sql.LTE, sql.GT, sql.GTE)
READ = "seconds"  # marks a column whose seconds are meant

# Of t, the seconds. Each may use those above it.
_FORMULAS = {
    "epoch": "t",
    "days": "floor(t / 86400)",
    "isodow": "[days] + 3 - 7 * floor(([days] + 3) / 7) + 1",  # 1970 began on a Thursday; 1 is Monday
    "hours": "floor(t / 3600)",
    "minutes": "floor(t / 60)",
    "seconds": "floor(t)",
    "hour": "[hours] - 24 * [days]",
    "minute": "[minutes] - 60 * [hours]",
    "second": "[seconds] - 60 * [minutes]",
    "shifted": "[days] + 719468",  # days since the first of March of the year 0
    "era": "floor([shifted] / 146097)",  # of 400 years
    "day_of_era": "[shifted] - 146097 * [era]",
    "year_of_era": (
        "floor(([day_of_era] - floor([day_of_era] / 1460) + floor([day_of_era] / 36524) - floor([day_of_era] / 146096))"
        " / 365)"
    ),
    "day_of_year": "[day_of_era] - (365 * [year_of_era] + floor([year_of_era] / 4) - floor([year_of_era] / 100))",
    "months": "floor((5 * [day_of_year] + 2) / 153)",  # since March
    "day": "[day_of_year] - floor((153 * [months] + 2) / 5) + 1",
    "turn": "floor([months] / 10)",  # 1 in January and February
    "month": "[months] + 3 - 12 * [turn]",
    "year": "[year_of_era] + 400 * [era] + [turn]",
    "quarter": "floor(([month] + 2) / 3)",
    "dayofyear": (
        "[days] + 719163 - (365 * ([year] - 1) + floor(([year] - 1) / 4) - floor(([year] - 1) / 100) "
        "+ floor(([year] - 1) / 400))"
    ),
    "all_months": "12 * [year] + [month]",
    "all_quarters": "4 * [year] + [quarter]",
}
Refused = Callable[[sql.Expr, str], "FeatureError"]


@cache
def _formula(name: str) -> sql.Expr:
    """The arithmetic of a word; nobody may change it."""
    return sqlglot.parse_one(_text(name), dialect=DIALECT)


@cache
def _text(name: str) -> str:
    text = _FORMULAS[name]
    for other in _FORMULAS:
        if f"[{other}]" in text:
            text = text.replace(f"[{other}]", f"({_text(other)})")
    return text


def in_seconds(
    tree: sql.Expr, names: Set[str], rewritten: Callable[..., sql.Expr], refused: Refused
) -> sql.Expr:
    """A copy of an expression in which the words about times are arithmetic of seconds.

    Args:
        names: of the inputs that are times.
        rewritten: applies a rule to each node of a copy, the inner ones first.

    Raises:
        FeatureError: by `refused`, a time where there is no word for it.
    """
    if not names and not any(_is_word(node) for node in tree.walk()):
        return tree
    whole = rewritten(tree, _Rewriter(names, refused).rewritten)
    for column in whole.find_all(sql.Column):
        if column.name in names and not column.meta.get(READ) and not isinstance(column.parent, sql.Is):
            instead = INSTEAD.get(type(column.parent), f"take a number from it: {OFFERED}")
            raise refused(column, f"it is a time; {instead}")
    return whole


@dataclass(frozen=True)
class _Rewriter:
    """The words of one expression, in which these names are times."""

    names: Set[str]
    refused: Refused

    def rewritten(self, node: sql.Expr) -> sql.Expr:
        """A node as arithmetic, where it is a word about times or a comparison of them."""
        if word := WORDS.get(type(node)):
            return _computed(word, self.seconds(node.this, node))
        if isinstance(node, sql.DateDiff):
            return self.difference(node)
        if isinstance(node, COMPARED) and (self.is_time(node.this) or self.is_time(node.expression)):
            left, right = (self.seconds(side, node) for side in (node.this, node.expression))
            return type(node)(this=left, expression=right)
        if isinstance(node, sql.Between) and self.is_time(node.this):
            low, high = (self.seconds(node.args[end], node) for end in ("low", "high"))
            return sql.Between(this=self.seconds(node.this, node), low=low, high=high)
        return node

    def is_time(self, node: sql.Expr) -> bool:
        inner = node.unnest()
        if isinstance(inner, sql.Coalesce):
            inner = inner.this
        return isinstance(inner, sql.Column) and inner.name in self.names

    def difference(self, node: sql.DateDiff) -> sql.Expr:
        """How many beginnings of a unit lie between two times."""
        unit = str(node.args["unit"].name).lower()
        if unit not in COUNTED:
            raise self.refused(node, f"date_diff counts {', '.join(COUNTED)}; a week is 7 days")
        later, earlier = (
            _computed(COUNTED[unit], self.seconds(side, node)) for side in (node.this, node.expression)
        )
        return sql.Paren(this=sql.Sub(this=later, expression=earlier))

    def seconds(self, node: sql.Expr, word: sql.Expr) -> sql.Expr:
        """What a word takes: an input that is a time, a time as text, or `coalesce` of both."""
        inner = node.unnest()
        if isinstance(inner, sql.Column) and inner.name in self.names:
            found = inner.copy()
            found.meta[READ] = True
            return found
        if isinstance(inner, sql.Coalesce) and len(inner.expressions) == 1:
            other = self.seconds(inner.expressions[0], word)
            return sql.Coalesce(this=self.seconds(inner.this, word), expressions=[other])
        if isinstance(inner, sql.Cast) and inner.to.this in (sql.DType.TIMESTAMPNTZ, sql.DType.DATE):
            inner = inner.this
        if isinstance(inner, sql.Literal) and inner.is_string:
            try:
                return _number(times.seconds_of(inner.this))
            except ValueError as error:
                raise self.refused(word, str(error)) from None
        given = node.sql(DIALECT, comments=False)
        listed = ", ".join(sorted(self.names)) or "none"
        raise self.refused(word, f"{given} is not a time; the inputs that are one: {listed}")


def _is_word(node: sql.Expr) -> bool:
    return type(node) in WORDS or isinstance(node, sql.DateDiff)


def _computed(name: str, seconds: sql.Expr) -> sql.Expr:
    """A formula of these seconds."""
    formula = _formula(name).copy()
    if isinstance(formula, sql.Column):
        return seconds
    for column in list(formula.find_all(sql.Column)):
        column.replace(seconds.copy())
    return sql.Paren(this=formula)


def _number(value: float) -> sql.Expr:
    number = sql.Literal.number(repr(abs(value)))
    return sql.Paren(this=sql.Neg(this=number)) if value < 0 else number
