"""What the values of columns say about the target and about each other: leaks, parts of the target, copies.

All of it is on the table of a file as it was seen. What compares columns with each other reads a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vroom_assets.inference.seen import TABLE, SeenColumn
from vroom_assets.spec import ColumnType
from vroom_assets.sql import identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RANGES = 50  # into which the values of a number are parted
SAMPLE = 20_000  # rows that columns are compared on
SAME = 0.99999  # correlation of two columns that are one but for rounding, as °C and °F
EXACT = 0.9999  # share of the target's variance that its own formula explains
LEAST_OF_EACH = 20  # rows with a yes and with a no, below which an order can be chance
ROWS_OF_A_LEVEL = 10  # on average, from which on levels repeat much
PARTED = 0.9  # share of rows whose levels are in the order of the target, where it is the target rounded
LEAST_PER_VALUE = 5  # rows for each value, below which two columns can agree by chance


@dataclass(frozen=True)
class Formula:
    """The columns that make up the target together."""

    columns: tuple[str, ...]
    words: str  # the formula, as a reader would write it


def is_number(column: SeenColumn) -> bool:
    return column.type.stored in (ColumnType.INTEGER, ColumnType.NUMBER)


def explained(connection: DuckDBPyConnection, one: SeenColumn, target_sql: str) -> float:
    """The share of the differences of the target that a column explains alone, from 0 to 1.

    Its levels explain them, or 50 parts of its range. A missing value is a level too: what is given for one outcome
    alone was written down after it. The target counts by its rank, or a row of totals would decide. Levels of few
    rows explain by chance; each costs one row, as in an adjusted R².
    """
    name = identifier(one.name)
    part = name
    if is_number(one) and one.distinct > RANGES:
        part = f"case when {name} is not null then ntile({RANGES}) over (partition by {name} is null order by {name}) end"
    [(rows, groups, within, total)] = connection.execute(
        f"""
        with given as (select ({target_sql})::double as y, {part} as part from {TABLE}),
        known as (
            select part, rank() over (order by y) + (count(*) over (partition by y) - 1) / 2 as position
            from given where y is not null
        ),
        means as (select coalesce(var_pop(position), 0) * count(*) as square from known group by part)
        select (select count(*) from known), count(*), sum(square),
            (select coalesce(var_pop(position), 0) * count(*) from known)
        from means
        """
    ).fetchall()
    if not total or rows <= groups:
        return 0.0
    return float(1 - (within / (rows - groups)) / (total / (rows - 1)))


def separated(connection: DuckDBPyConnection, one: SeenColumn, target_sql: str) -> float:
    """How well the order of a number separates yes from no: 0.5 is chance, 1 is complete (the area under the ROC
    curve, of the better direction). 0.5 also where there are too few of either, or it is not a number.
    """
    if not is_number(one):
        return 0.5
    name = identifier(one.name)
    [(yes, no, ranks)] = connection.execute(
        f"""
        with known as (
            select ({target_sql})::integer as y, {name} as x from {TABLE} where y is not null and x is not null
        ),
        ranked as (
            select y, rank() over (order by x) + (count(*) over (partition by x) - 1) / 2 as position from known
        )
        select count(*) filter (y = 1), count(*) filter (y = 0), sum(position) filter (y = 1) from ranked
        """
    ).fetchall()
    if min(yes, no) < LEAST_OF_EACH:
        return 0.5
    area = (float(ranks) - yes * (yes + 1) / 2) / (yes * no)
    return max(area, 1 - area)


def repeats_much(column: SeenColumn) -> bool:
    """Whether a column has few levels, each of many rows, as an id of a shop has among sales by the week."""
    return column.rows - column.missing >= ROWS_OF_A_LEVEL * column.distinct


def is_in_order_of(connection: DuckDBPyConnection, one: SeenColumn, target_sql: str) -> bool:
    """Whether the levels of a number part the range of the target: those of a higher level all have more of it (or
    all less), as when it is the target rounded. The levels of shops overlap. The outer 2 % of a level do not count.
    """
    if not is_number(one):
        return False
    name = identifier(one.name)
    [(rows, rising, falling)] = connection.execute(
        f"""
        with levels as (
            select {name} as level, count(*) as rows,
                quantile_disc(({target_sql})::double, 0.02) as low, quantile_disc(({target_sql})::double, 0.98) as high
            from {TABLE} where {name} is not null and ({target_sql}) is not null group by 1
        ),
        beside as (
            select rows, low >= lag(high) over by_level as rising, high <= lag(low) over by_level as falling
            from levels window by_level as (order by level)
        )
        select sum(rows), sum(rows) filter (rising), sum(rows) filter (falling) from beside where rising is not null
        """
    ).fetchall()
    return bool(rows) and max(rising or 0, falling or 0) >= PARTED * rows


def copies(connection: DuckDBPyConnection, columns: Sequence[SeenColumn]) -> dict[str, str]:
    """The columns that repeat an earlier one, by name, each with that one's name.

    Numbers do where they are the same but for their unit, texts or texts and their codes where each value goes with one.
    """
    found: dict[str, str] = {}
    numbers = [one for one in columns if is_number(one)]
    sample = _sample(connection, numbers, "::double")
    missing = {name: np.ma.getmaskarray(values) for name, values in sample.items()}
    scaled = {name: _standardized(values) for name, values in sample.items()}
    for position, one in enumerate(numbers):
        for other in numbers[:position]:
            if other.name in found or one.missing != other.missing:
                continue
            likeness = abs(float(np.mean(scaled[one.name] * scaled[other.name])))
            if likeness >= SAME and np.array_equal(missing[one.name], missing[other.name]):
                found[one.name] = other.name
                break
    encoded = [one for one in columns if one.name not in found and one.rows >= LEAST_PER_VALUE * one.distinct]
    for position, one in enumerate(encoded):
        for other in encoded[:position]:
            if other.name in found or (is_number(one) and is_number(other)):
                continue
            alike = (one.distinct, one.missing) == (other.distinct, other.missing)
            if alike and _pairs(connection, one, other) == one.distinct + (one.missing > 0):
                found[one.name] = other.name
                break
    return found


def formula(connection: DuckDBPyConnection, columns: Sequence[SeenColumn], target_sql: str) -> Formula | None:
    """The columns whose sum, difference, product or quotient is the target, if there are any."""
    whole = [one for one in columns if is_number(one) and not one.missing]
    sample = _sample(connection, whole, "::double", f"({target_sql})::double", f"({target_sql}) is not null")
    target = np.asarray(sample.pop("the target"), dtype=float)
    values = {name: np.asarray(one, dtype=float) for name, one in sample.items()}
    if signs := _combined(values, target):
        return Formula(tuple(signs), _words(signs, "+", "-"))
    if (target > 0).all():
        logs = {name: np.log(one) for name, one in values.items() if (one > 0).all()}
        if signs := _combined(logs, np.log(target)):
            return Formula(tuple(signs), _words(signs, "*", "/"))
    return None


def _combined(values: dict[str, np.ndarray], target: np.ndarray) -> dict[str, int]:
    """The columns that add up to the target, with their signs; none where that takes other factors than 1 or -1."""
    if len(values) < 2 or len(target) < 3 * len(values) or np.ptp(target) == 0:
        return {}
    names = list(values)
    matrix = np.stack([values[name] - values[name].mean() for name in names], axis=1)
    scale = matrix.std(axis=0)
    scale[scale == 0] = 1.0
    centred = target - target.mean()
    factors = np.linalg.lstsq(matrix / scale, centred, rcond=None)[0] / scale
    if ((centred - matrix @ factors) ** 2).sum() > (1 - EXACT) * (centred**2).sum():
        return {}
    signs = {
        name: round(factor)
        for name, factor in zip(names, factors, strict=True)
        if abs(abs(factor) - 1) < 0.01
    }
    return signs if len(signs) > 1 else {}


def _words(signs: dict[str, int], plus: str, minus: str) -> str:
    first, *others = sorted(signs, key=lambda name: -signs[name])
    start = first if signs[first] > 0 else {"-": f"-{first}", "/": f"1 / {first}"}[minus]
    return start + "".join(f" {plus if signs[name] > 0 else minus} {name}" for name in others)


def _sample(
    connection: DuckDBPyConnection,
    columns: Sequence[SeenColumn],
    cast: str,
    target: str | None = None,
    where: str = "true",
) -> dict[str, Any]:
    """Values of columns, by name, of the same rows every time; missing ones are masked."""
    parts = [f"{identifier(one.name)}{cast} as {identifier(one.name)}" for one in columns]
    parts += [f'{target} as "the target"'] if target is not None else []
    if not parts:
        return {}
    rows = f"(from {TABLE} where {where})"
    return connection.execute(
        f"select {', '.join(parts)} from {rows} using sample reservoir({SAMPLE} rows) repeatable (1)"
    ).fetchnumpy()


def _standardized(values: Any) -> np.ndarray:
    """Values with mean 0 and standard deviation 1, 0 where one is missing or all are the same.

    The product of two such columns has their correlation as its mean.
    """
    given = np.ma.masked_invalid(values)
    spread = float(given.std()) if given.count() else 0.0
    if not spread:
        return np.zeros(len(given))
    share = given.count() / len(given)
    return np.asarray(((given - given.mean()) / spread).filled(0.0)) / np.sqrt(share)


def _pairs(connection: DuckDBPyConnection, one: SeenColumn, other: SeenColumn) -> int:
    """How many different pairs of values two columns have."""
    [(count,)] = connection.execute(
        f"select count(*) from (select distinct {identifier(one.name)}, {identifier(other.name)} from {TABLE})"
    ).fetchall()
    return int(count)
