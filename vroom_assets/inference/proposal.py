"""What to make of a file: its key, time, inputs and target, how it is validated and what competes.

No guess is silent: each part of a proposal carries why, which becomes a comment in the declaration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vroom_api.contract import Kind
from vroom_assets.inference.seen import TABLE, CannotInfer, SeenColumn, SeenFile
from vroom_assets.spec import ColumnType
from vroom_assets.sql import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_LEVELS = 2000  # of a category
LONG_TEXT = 60  # mean characters of what people wrote, and not chose
TELLS_ALL = 0.97  # share of the target's variance that one column cannot honestly explain
MONEY = re.compile(r"price|rent|cost|salary|income|amount|revenue|value|fare|fee|sales", re.IGNORECASE)
IDENTIFIES = re.compile(r"(^|_)((p|u|gu|uu)?id|key|code|no|number|nr)$")
POSITIVE = ("yes", "true", "1", "y", "t", "positive", "churned", "won", "success")
MANY_ROWS = 5_000
STOPPING_ROWS = 10_000  # from which on boosting can spare some to see when to stop
LEAST_DAYS = 30  # different times, from which on rows are ordered by them


@dataclass(frozen=True)
class Proposed:
    """A column of the declaration, and whether it is an input."""

    column: SeenColumn
    type: ColumnType
    is_input: bool
    why: str


@dataclass(frozen=True)
class Proposal:
    """A forecast that could be declared of a file."""

    file: SeenFile
    target: SeenColumn
    kind: Kind
    target_sql: str  # of its value
    target_why: str
    key: str
    key_why: str
    time: str | None  # the column that dates the rows
    time_why: str
    group: str | None
    columns: list[Proposed]
    candidates: dict[str, dict[str, Any]]

    @property
    def inputs(self) -> list[Proposed]:
        return [one for one in self.columns if one.is_input]

    @property
    def left_out(self) -> list[Proposed]:
        return [one for one in self.columns if not one.is_input]


def propose(connection: DuckDBPyConnection, file: SeenFile, target: str, kind: Kind | None) -> Proposal:
    """What to declare for a target.

    Raises:
        CannotInfer: the target cannot be forecast, or nothing is left to forecast it from.
    """
    column = file.column(target)
    found, sql, why = _target(connection, column, kind)
    key, key_why = _key(file, column)
    time, time_why = _time(file, column)
    columns = [_proposed(connection, one, sql, key, column) for one in file.columns if one is not column]
    inputs = [one for one in columns if one.is_input]
    if not inputs:
        reasons = "; ".join(f"{one.column.header}: {one.why}" for one in columns)
        raise CannotInfer(
            f"nothing is left to forecast {column.header} from: {reasons or 'there is no other column'}"
        )
    return Proposal(
        file=file,
        target=column,
        kind=found,
        target_sql=sql,
        target_why=why,
        key=key,
        key_why=key_why,
        time=time,
        time_why=time_why,
        group=_group(file, key, column),
        columns=columns,
        candidates=_candidates(found, [one.column.name for one in inputs], file.rows),
    )


def _target(connection: DuckDBPyConnection, column: SeenColumn, kind: Kind | None) -> tuple[Kind, str, str]:
    """Kind of the target, the SQL of its value, and why."""
    name = identifier(column.name)
    if column.type is ColumnType.TEXT:
        if column.distinct != 2:
            raise CannotInfer(
                f"{column.header} is a text of {column.distinct} values; a forecast is of a number, or of one of two "
                "texts. Name another --target, or make a column of 0 and 1 for one of its values"
            )
        rows = connection.execute(
            f"select {name} from {TABLE} where {name} is not null group by 1 order by count(*), 1"
        ).fetchall()
        texts = [text for (text,) in rows]
        yes = next((text for text in texts if text.strip().lower() in POSITIVE), texts[0])
        no = next(text for text in texts if text != yes)
        sql = f"case {name} when {literal(yes)} then 1 when {literal(no)} then 0 end"
        return Kind.BINARY, sql, f"one of two texts: {yes!r} counts as yes"
    if column.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
        raise CannotInfer(f"{column.header} is a time; a forecast is of a number. Name another --target")
    low, high = float(column.lowest or 0), float(column.highest or 0)
    if column.is_constant:
        raise CannotInfer(f"{column.header} is {column.lowest} in every row; there is nothing to forecast")
    whole = column.type.stored is ColumnType.INTEGER
    if column.type is ColumnType.FLAG or (whole and column.distinct == 2 and (low, high) == (0, 1)):
        natural, why = Kind.BINARY, "0 or 1 in every row"
    elif whole and 0 <= low <= 5 and high >= 2 and not MONEY.search(column.name):
        natural, why = Kind.COUNT, f"whole numbers from {low:g} to {high:g}"
    else:
        natural, why = Kind.REGRESSION, f"numbers from {low:g} to {high:g}"
    fits = {
        Kind.BINARY: natural is Kind.BINARY,
        Kind.COUNT: whole and low >= 0,
        Kind.REGRESSION: True,
    }
    if kind is not None and not fits[kind]:
        raise CannotInfer(
            f"{column.header} holds {why}, which is not a valid {kind} target; leave --kind out, or name another"
        )
    return kind or natural, name, why


def _key(file: SeenFile, target: SeenColumn) -> tuple[str, str]:
    """The column that tells rows apart, or `row`."""
    fitting = [
        one
        for one in file.columns
        if one is not target
        and one.is_unique
        and one.type in (ColumnType.INTEGER, ColumnType.TEXT)
        and one.mean_length <= LONG_TEXT
        and (IDENTIFIES.search(one.name) or one is file.columns[0])
    ]
    if not fitting:
        return "row", "no column tells rows apart: the number of the row does"
    best = min(fitting, key=lambda one: not IDENTIFIES.search(one.name))
    return best.name, f"{best.distinct:,} different in {best.rows:,} rows"


def _time(file: SeenFile, target: SeenColumn) -> tuple[str | None, str]:
    """The column that dates rows, where one does in all of them."""
    dated = [
        one
        for one in file.columns
        if one is not target
        and one.type.stored is ColumnType.TIMESTAMP
        and one.missing == 0
        and one.highest <= datetime.now()  # what is planned dates nothing that was seen
    ]
    if not dated:
        return None, "no column dates every row: the data are as old as their file"
    best = max(dated, key=lambda one: one.distinct)
    return best.name, f"{best.distinct:,} different times, {best.lowest} to {best.highest}"


def is_ordered(proposal: Proposal) -> bool:
    """Whether rows are validated forward in time."""
    if proposal.time is None:
        return False
    return proposal.file.column(proposal.time).distinct >= LEAST_DAYS


def _group(file: SeenFile, key: str, target: SeenColumn) -> str | None:
    """A column by whose values rows belong together: an id that repeats."""
    repeated = [
        one
        for one in file.columns
        if one is not target
        and one.name != key
        and IDENTIFIES.search(one.name)
        and one.type in (ColumnType.INTEGER, ColumnType.TEXT)
        and one.missing == 0
        and file.rows / 50 <= one.distinct < file.rows
    ]
    return max(repeated, key=lambda one: one.distinct).name if repeated else None


def _proposed(
    connection: DuckDBPyConnection, one: SeenColumn, target_sql: str, key: str, target: SeenColumn
) -> Proposed:
    """Whether a column is an input, and why or why not."""
    type = one.type

    def left_out(why: str) -> Proposed:
        return Proposed(one, type, False, f"no input: {why}")

    if one.name == key:
        return left_out("it is the key")
    if type.stored is ColumnType.TIMESTAMP:
        return left_out("a time is not an input")
    if one.is_constant:
        return left_out("it is the same in every row")
    if type is ColumnType.TEXT:
        if one.mean_length > LONG_TEXT:
            return left_out("it is free text")
        if one.distinct > min(MOST_LEVELS, one.rows / 4):
            return left_out(f"its {one.distinct:,} different texts repeat too seldom to learn from")
        type = ColumnType.CATEGORY
    if IDENTIFIES.search(one.name) and one.distinct > one.rows / 50:
        return left_out("it identifies something, and says nothing about what is new")
    if one.is_unique and one.type is ColumnType.INTEGER and one.highest - one.lowest == one.rows - 1:
        return left_out("it counts the rows")
    if one.missing > 0.995 * one.rows:
        return left_out("it is missing in almost every row")
    explained = _explained(connection, one, target_sql)
    if explained > TELLS_ALL:
        return left_out(
            f"LEAK? it alone explains {explained:.1%} of {target.header}: most likely it is known only afterwards. If it is known "
            "before, add it to `inputs`, `features.sql` and the candidates"
        )
    return Proposed(one, type, True, one.as_words)


def _explained(connection: DuckDBPyConnection, one: SeenColumn, target_sql: str) -> float:
    """The share of the target's variance between the levels of a column, or between 50 parts of its range.

    Levels of few rows explain by chance; each costs one row, as in an adjusted R².
    """
    name = identifier(one.name)
    parts = (
        name
        if one.type.stored is ColumnType.TEXT or one.distinct <= 50
        else f"ntile(50) over (order by {name})"
    )
    [(rows, groups, within, total)] = connection.execute(
        f"""
        with given as (select ({target_sql})::double as y, {parts} as part from {TABLE} where {name} is not null),
        known as (from given where y is not null),
        means as (select part, count(*) as n, coalesce(var_pop(y), 0) * count(*) as square from known group by part)
        select (select count(*) from known), count(*), sum(square), (select coalesce(var_pop(y), 0) * count(*) from known) from means
        """
    ).fetchall()
    if not total or not rows or rows <= groups:
        return 0.0
    return float(1 - (within / (rows - groups)) / (total / max(rows - 1, 1)))


FAMILIES = {
    Kind.BINARY: ("binary_boosting", "logistic"),
    Kind.COUNT: ("poisson_boosting", "poisson_glm"),
    Kind.REGRESSION: ("boosting", "linear"),
}


def _candidates(kind: Kind, features: list[str], rows: int) -> dict[str, dict[str, Any]]:
    """A boosting and a forest that grow with the rows, their average, and a linear model."""
    boosting, linear = FAMILIES[kind]
    large = rows >= MANY_ROWS
    return {
        "boosting": {
            "family": boosting,
            "features": features,
            "parameters": {
                "max_iter": 100,
                "learning_rate": 0.1 if large else 0.06,
                "max_leaf_nodes": 31 if large else 15,
                "min_samples_leaf": 20,
                **({"early_stopping": True} if rows >= STOPPING_ROWS else {}),
            },
        },
        "forest": {
            "family": "forest",
            "features": features,
            "parameters": {
                "n_estimators": 60 if large else 100,
                "min_samples_leaf": max(3, rows // 2000),
                "max_features": 0.4,
            },
        },
        "linear": {
            "family": linear,
            "features": features,
            "parameters": {"C": 1.0}
            if linear == "logistic"
            else {"alpha": 1.0 if linear == "linear" else 0.01},
        },
        "boosting_and_forest": {"family": "average", "members": ["boosting", "forest"]},
    }
