"""What to make of a file: its key, time, inputs and target, how it is validated and what competes.

No guess is silent: each part of a proposal carries why, which becomes a comment in the declaration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vroom_api.contract import Kind
from vroom_assets.inference import relations
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.inference.seen import AFTERWARDS, TABLE, SeenColumn, SeenFile
from vroom_assets.sources.cells import NO, YES
from vroom_assets.spec import ONE_CLASS, ColumnType
from vroom_assets.sql import as_written, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SOURCE = "rows"  # of a declaration that is made of a file
MOST_LEVELS = 2000  # of a category
LONG_TEXT = 60  # mean characters of what people wrote, and not chose
TELLS_ALL = 0.97  # share of a yes or no's variance that one column cannot honestly explain
TELLS_ALL_AMOUNT = 0.99  # the same of an amount
SEPARATES_ALL = 0.99  # how well one number cannot honestly order yes and no
DOUBTFUL, DOUBTFUL_ORDER = 0.8, 0.95  # from which on it is worth a question
MONEY = re.compile(r"price|rent|cost|salary|income|amount|revenue|value|fare|fee|sales", re.IGNORECASE)
IDENTIFIES = re.compile(r"(^|_)((p|u|gu|uu)?id|key|code|no|number|nr)$")
POSITIVE = ("yes", "true", "1", "y", "t", "positive", "churned", "won", "success")
MANY_ROWS = 5_000
SKEWED = 1.0  # skewness of amounts from which on one candidate forecasts their logarithm
STOPPING_ROWS = 10_000  # from which on boosting can spare some to see when to stop
OFTEN = 10  # rows for each value of an id, from which on it says something about those to come
LISTED = 10  # values of a target that an error names
BIRTH = re.compile(r"(^|_)(birth|born|dob|built|since|founded|established|hired?)", re.IGNORECASE)
MOST_DAYS = 400  # that a row typically goes on for
LEAST_DAYS = 30  # different times, from which on rows are ordered by them


@dataclass(frozen=True)
class Proposed:
    """A column of the declaration, and whether it is an input."""

    column: SeenColumn
    type: ColumnType
    is_input: bool
    why: str
    doubt: str = ""  # of an input: why it may be known too late
    repeats: str = ""  # the input that it says the same as

    @property
    def is_time(self) -> bool:
        return self.type.stored is ColumnType.TIMESTAMP


@dataclass(frozen=True)
class Trend:
    """A feature that counts the days since the first row, for a candidate that goes on with their trend."""

    name: str
    expression: str
    time: str


@dataclass(frozen=True)
class Proposal:
    """A forecast that could be declared of a file."""

    file: SeenFile
    target: SeenColumn
    target_words: str
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
    skewness: float | None  # of amounts that are all above 0, where it is high
    trend: Trend | None

    @property
    def has_logarithms(self) -> bool:
        """Whether a candidate forecasts the logarithm of the target, so that none of it may be 0."""
        return self.skewness is not None

    @property
    def inputs(self) -> list[Proposed]:
        """What a caller sends."""
        return [one for one in self.columns if one.is_input and one.column.expression is None]

    @property
    def features(self) -> list[Proposed]:
        """What the models see: inputs as they are, and what is made of times."""
        return [one for one in self.columns if one.is_input and not one.is_time]

    @property
    def left_out(self) -> list[Proposed]:
        return [one for one in self.columns if not one.is_input]


def propose(connection: DuckDBPyConnection, file: SeenFile, target: str, kind: Kind | None) -> Proposal:
    """What to declare for a target: a column, or `status=paid`, one value of it against the others.

    Raises:
        CannotInfer: the target cannot be forecast, or nothing is left to forecast it from.
    """
    column, value = _named(file, target)
    if value is None:
        found, sql, why = _target(connection, column, kind)
    else:
        found, sql, why = _one_class(connection, column, value, kind)
    key, key_why = _key(file, column)
    time, time_why = _time(connection, file, column)
    about = _About(connection, column, found, sql)
    comes_again = time is not None and file.column(time).distinct >= LEAST_DAYS
    columns = _related(
        about, [_proposed(about, one, key, comes_again) for one in file.columns if one is not column]
    )
    features = [one.column for one in columns if one.is_input]
    trend = _trend(file, time, column, found) if comes_again else None
    columns = [_as_origin(one, features, trend) for one in columns]
    if not features:
        reasons = "; ".join(f"{one.column.title}: {one.why}" for one in columns)
        raise CannotInfer(
            f"nothing is left to forecast {column.header} from: {reasons or 'there is no other column'}"
        )
    skewness = _skewness(about)
    return Proposal(
        file=file,
        target=column,
        target_words=f"{column.header.replace('_', ' ')}{'' if value is None else f' = {value}'}",
        kind=found,
        target_sql=sql,
        target_why=why,
        key=key,
        key_why=key_why,
        time=time,
        time_why=time_why,
        group=_group(file, key, column),
        columns=columns,
        candidates=_candidates(found, features, file.rows, with_logarithms=skewness is not None)
        | _with_trend(found, columns, file.rows, trend),
        skewness=skewness,
        trend=trend,
    )


def _target(connection: DuckDBPyConnection, column: SeenColumn, kind: Kind | None) -> tuple[Kind, str, str]:
    """Kind of the target, the SQL of its value, and why."""
    name = identifier(column.name)
    if column.type is ColumnType.TEXT:
        if column.distinct != 2:
            raise CannotInfer(
                f"{column.header} is a text of {column.distinct} values, and a forecast is of a number; {ONE_CLASS}: "
                f"write --target '{column.header}=…' with one of {_listed(connection, column)}"
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
    elif whole and column.distinct == 2 and kind in (None, Kind.BINARY):
        sql = f"case {name} when {high:.0f} then 1 when {low:.0f} then 0 end"
        return Kind.BINARY, sql, f"one of two numbers: {high:.0f} counts as yes"
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


def _named(file: SeenFile, target: str) -> tuple[SeenColumn, str | None]:
    """The column of a target, and of `status=paid` the value that counts as yes.

    Raises:
        CannotInfer: there is no such column.
    """
    name, sign, value = target.partition("=")
    is_whole = any(target in (one.header, one.name) for one in file.columns)
    return (file.column(name), value) if sign and not is_whole else (file.column(target), None)


def _one_class(
    connection: DuckDBPyConnection, column: SeenColumn, value: str, kind: Kind | None
) -> tuple[Kind, str, str]:
    """Kind of a target that is one value against the others, the SQL of its value, and why."""
    if kind not in (None, Kind.BINARY):
        raise CannotInfer(f"{column.header}={value} is a yes or no; leave --kind out")
    if column.type.stored not in (ColumnType.TEXT, ColumnType.INTEGER) or column.times:
        raise CannotInfer(
            f"{column.header} is of type {column.type}; only of texts and whole numbers is one value a target, write "
            f"--target {column.header}"
        )
    given = value
    if column.type is ColumnType.FLAG and value.lower() in (*YES, *NO):
        given = "1" if value.lower() in YES else "0"
    name = identifier(column.name)
    [(yes, rows)] = connection.execute(
        f"select count(*) filter ({name}::varchar = ?), count({name}) from {TABLE}", [given]
    ).fetchall()
    if yes in (0, rows):
        raise CannotInfer(
            f"{column.header} is {value} in {'every' if yes else 'no'} row; write --target '{column.header}=…' with one of "
            f"{_listed(connection, column)}"
        )
    right = literal(given) if column.type is ColumnType.TEXT else given
    why = f"{value!r} counts as yes, in {yes:,} of {rows:,} rows, every other value as no"
    return Kind.BINARY, f"({name} = {right})::integer", why


def _listed(connection: DuckDBPyConnection, column: SeenColumn) -> str:
    """The values of a column, the most frequent first."""
    name = identifier(column.name)
    rows = connection.execute(
        f"select {name}::varchar from {TABLE} where {name} is not null group by 1 order by count(*) desc, 1 limit {LISTED}"
    ).fetchall()
    more = ["…"] if column.distinct > LISTED else []
    return ", ".join(
        [value if len(value) <= LONG_TEXT else f"{value[:LONG_TEXT]}…" for (value,) in rows] + more
    )


def _key(file: SeenFile, target: SeenColumn) -> tuple[str, str]:
    """The column that tells rows apart, or `row`."""
    fitting = [
        one
        for one in file.columns
        if one is not target
        and one.is_unique
        and one.type in (ColumnType.INTEGER, ColumnType.TEXT)
        and one.mean_length <= LONG_TEXT
        and (IDENTIFIES.search(one.name) or (one is file.columns[0] and not _is_measure(one)))
    ]
    if not fitting:
        return "row", "no column tells rows apart: the number of the row does"
    best = min(fitting, key=lambda one: not IDENTIFIES.search(one.name))
    return best.name, f"{best.distinct:,} different in {best.rows:,} rows"


def _trend(file: SeenFile, time: str | None, target: SeenColumn, kind: Kind) -> Trend | None:
    """Days since the first row, where what is forecast is never below 0 and the time is known beforehand."""
    if time is None or kind is Kind.BINARY or not target.lowest >= 0 or AFTERWARDS.search(time):
        return None
    name = "days"
    while any(name == one.name for one in file.columns):
        name += "_so_far"
    first = f"{file.column(time).lowest:%Y-%m-%d}"
    return Trend(name, f"date_diff('day', timestamp '{first}', {as_written(time)})", time)


def _as_origin(one: Proposed, features: Sequence[SeenColumn], trend: Trend | None) -> Proposed:
    """A time as an input, where a feature is made of it."""
    made = [feature.name for feature in features if one.column.name in feature.times]
    made += [trend.name] if trend is not None and trend.time == one.column.name else []
    if not made or not one.is_time:
        return one
    return replace(one, is_input=True, why=f"{one.column.as_words}; seen as {', '.join(made)}")


def _is_measure(one: SeenColumn) -> bool:
    """Whether whole numbers that are all different measure something, and do not count the rows."""
    return one.type is ColumnType.INTEGER and one.highest - one.lowest > 2 * one.rows


def _time(connection: DuckDBPyConnection, file: SeenFile, target: SeenColumn) -> tuple[str | None, str]:
    """The column that dates rows, where one does in all of them: when each of them began."""
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
    best = max(dated, key=lambda one: (not _is_beside(one), one.distinct))
    for one in dated:
        if one is not best and one.distinct >= LEAST_DAYS and _comes_before(connection, one, best):
            best = one
    return best.name, f"{best.distinct:,} different times, {best.lowest} to {best.highest}"


def _is_beside(one: SeenColumn) -> bool:
    """Whether a time by its name is of before the row, or was written down when all was over."""
    return bool(AFTERWARDS.search(one.name) or BIRTH.search(one.name))


def _comes_before(connection: DuckDBPyConnection, one: SeenColumn, other: SeenColumn) -> bool:
    """Whether one time is when a row began that goes on until the other: an order, and not the year a house was built."""
    if _is_beside(one):
        return False
    first, last = identifier(one.name), identifier(other.name)
    [(never_after, before, days)] = connection.execute(
        f"""
        select avg(({first}::date <= {last}::date)::integer), avg(({first}::date < {last}::date)::integer),
            median(date_diff('day', {first}, {last}))
        from {TABLE}
        """
    ).fetchall()
    return never_after >= 0.99 and before >= 0.05 and days <= MOST_DAYS


def is_ordered(proposal: Proposal) -> bool:
    """Whether rows are validated forward in time."""
    if proposal.time is None:
        return False
    return proposal.file.column(proposal.time).distinct >= LEAST_DAYS


def _least_groups(rows: int) -> float:
    """Values from which on an id tells one from another, where fewer values all come again."""
    return max(20, rows / 50)


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
        and _least_groups(file.rows) <= one.distinct < file.rows
    ]
    return max(repeated, key=lambda one: one.distinct).name if repeated else None


@dataclass(frozen=True)
class _About:
    """The target that columns are judged by, and where their values are."""

    connection: DuckDBPyConnection
    target: SeenColumn
    kind: Kind
    sql: str


def _proposed(about: _About, one: SeenColumn, key: str, comes_again: bool) -> Proposed:
    """Whether a column is an input, and why or why not.

    Args:
        comes_again: whether what an id names is met again: rows are validated forward in time, and not by what is new.
    """
    type = one.type

    def left_out(why: str) -> Proposed:
        return Proposed(one, type, False, f"no input: {why}")

    if one.name == key:
        return left_out("it is the key")
    if type.stored is ColumnType.TIMESTAMP:
        return left_out("no number is made of this time")
    is_mark = one.is_constant and 0 < one.missing < one.rows  # such as X, or nothing
    if one.is_constant and not is_mark:
        return left_out("it is the same in every row")
    if type is ColumnType.TEXT:
        if one.mean_length > LONG_TEXT:
            return left_out("it is free text")
        if one.distinct > min(MOST_LEVELS, one.rows / 4):
            return left_out(f"its {one.distinct:,} different texts repeat too seldom to learn from")
        type = ColumnType.CATEGORY
    if IDENTIFIES.search(one.name) and one.distinct >= _least_groups(one.rows):
        often = one.distinct <= min(MOST_LEVELS, one.rows / OFTEN)
        if comes_again and often and one.type in (ColumnType.INTEGER, ColumnType.TEXT):
            again = Proposed(one, ColumnType.CATEGORY, True, f"{one.as_words}; each is met again later")
            return _unless_leaking(about, again)
        return left_out("it identifies something, and says nothing about what is new")
    if one.is_unique and one.type is ColumnType.INTEGER and one.highest - one.lowest == one.rows - 1:
        return left_out("it counts the rows")
    if one.missing > 0.995 * one.rows:
        return left_out("it is missing in almost every row")
    return _unless_leaking(about, Proposed(one, type, True, one.as_words))


PUT_BACK = "If it is known before, add it to `inputs`, `features.sql` and the candidates"


def _unless_leaking(about: _About, proposed: Proposed) -> Proposed:
    """An input as it is, with a doubt, or left out, by how much it alone says of the target."""
    one, target = proposed.column, about.target.header
    explained = relations.explained(about.connection, one, about.sql)
    order = relations.separated(about.connection, one, about.sql) if about.kind is Kind.BINARY else 0.5
    words = f"it alone explains {explained:.1%} of {target}"
    if order > max(DOUBTFUL_ORDER, explained):
        words = f"its order alone separates yes and no of {target} to {order:.1%}"
    if order > SEPARATES_ALL or explained > (
        TELLS_ALL if about.kind is Kind.BINARY else _honest_limit(about, one)
    ):
        return _out(proposed, f"LEAK? {words}: most likely it is known only afterwards. {PUT_BACK}")
    if explained > DOUBTFUL or order > DOUBTFUL_ORDER:
        return replace(proposed, doubt=f"{words}: is it known before?")
    return proposed


def _honest_limit(about: _About, one: SeenColumn) -> float:
    """The share of an amount's differences that a column may explain and still be known before.

    In a panel of shops and weeks, a shop explains nearly all: how much it sells is its own, and no leak.
    """
    if not relations.repeats_much(one) or relations.is_in_order_of(about.connection, one, about.sql):
        return TELLS_ALL_AMOUNT
    return relations.EXACT


def _out(proposed: Proposed, why: str) -> Proposed:
    return replace(proposed, is_input=False, why=f"no input: {why}", doubt="")


def _related(about: _About, columns: list[Proposed]) -> list[Proposed]:
    """The same without copies of other inputs, and without those that make up the target together."""
    inputs = [one.column for one in columns if one.is_input]
    copies = relations.copies(about.connection, inputs)
    columns = [
        replace(_out(one, f"it repeats {copies[one.column.name]}"), repeats=copies[one.column.name])
        if one.column.name in copies
        else one
        for one in columns
    ]
    remaining = [one for one in inputs if one.name not in copies]
    formula = relations.formula(about.connection, remaining, about.sql)
    if formula is None:
        return columns
    why = (
        f"LEAK? {about.target.header} is {formula.words}: most likely it is known only afterwards. {PUT_BACK}"
    )
    return [_out(one, why) if one.column.name in formula.columns else one for one in columns]


def _skewness(about: _About) -> float | None:
    """How much longer the upper end of amounts is than the lower; None where that is little, or one is not above 0."""
    if about.kind is not Kind.REGRESSION or not about.target.lowest > 0:
        return None
    [(found,)] = about.connection.execute(f"select skewness(({about.sql})::double) from {TABLE}").fetchall()
    return found if found is not None and found > SKEWED else None


FAMILIES = {
    Kind.BINARY: ("binary_boosting", "logistic"),
    Kind.COUNT: ("poisson_boosting", "poisson_glm"),
    Kind.REGRESSION: ("boosting", "linear"),
}


def _with_trend(
    kind: Kind, columns: Sequence[Proposed], rows: int, trend: Trend | None
) -> dict[str, dict[str, Any]]:
    """A boosting that goes on with the trend, and does not know the month: of few years both say the same."""
    if trend is None:
        return {}
    months = {one.column.name for one in columns if (one.column.expression or "").startswith("month(")}
    months |= {one.repeats for one in columns if one.column.name in months}
    features = [
        one.column.name
        for one in columns
        if one.is_input and not one.is_time and one.column.name not in months
    ]
    if not features:
        return {}
    return {"boosting_with_trend": boosting(kind, features, rows) | {"trend": trend.name}}


def boosting(kind: Kind, features: Sequence[str], rows: int) -> dict[str, Any]:
    """A candidate whose size follows the rows."""
    large = rows >= MANY_ROWS
    return {
        "family": FAMILIES[kind][0],
        "features": list(features),
        "parameters": {
            "max_iter": 100,
            "learning_rate": 0.1 if large else 0.06,
            "max_leaf_nodes": 31 if large else 15,
            "min_samples_leaf": 20,
            **({"early_stopping": True} if rows >= STOPPING_ROWS else {}),
        },
    }


def _candidates(
    kind: Kind, seen: Sequence[SeenColumn], rows: int, *, with_logarithms: bool
) -> dict[str, dict[str, Any]]:
    """A boosting and a forest that grow with the rows, their average, and a linear model, also of the logarithm.

    Where there are parts of times, the boosting competes without them too: of a short history they tell chance.
    """
    linear = FAMILIES[kind][1]
    large = rows >= MANY_ROWS
    features = [one.name for one in seen]
    timeless = [one.name for one in seen if not one.times]
    candidates: dict[str, dict[str, Any]] = {
        "boosting": boosting(kind, features, rows),
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
        **(
            {
                "log_linear": {
                    "family": linear,
                    "transform": "log",
                    "features": features,
                    "parameters": {"alpha": 1.0},
                }
            }
            if with_logarithms
            else {}
        ),
        "boosting_and_forest": {"family": "average", "members": ["boosting", "forest"]},
    }
    if 0 < len(timeless) < len(features):
        candidates["boosting_without_times"] = candidates["boosting"] | {"features": timeless}
    return candidates
