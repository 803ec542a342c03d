"""A column of a file as a series: what it will be some steps ahead, from what it was before.

Each row of the file becomes an example: the value that was just known, those before it, their mean, and the value a season
before the one that is forecast. All of it is of the same series and of then or before, which every training proves again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from vroom_api.contract import Kind
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.inference.proposal import SOURCE, Proposal, boosting
from vroom_assets.inference.seen import TABLE, SeenColumn
from vroom_assets.spec import ColumnType
from vroom_assets.sql import as_written, identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAME = "so_far"  # of the examples
MOST_APART = 2  # columns that tell series apart together
REGULAR = 0.8  # share of steps that are alike, from which on a series is regular


@dataclass(frozen=True)
class Step:
    """From one row of a series to the next."""

    count: int
    unit: str  # of an interval in SQL
    season: int  # steps, after which it is like before; 0 where nothing is known
    window: int  # steps that a mean is taken of
    words: tuple[str, ...]  # of the time that is forecast, by which it is like others

    def times(self, number: int) -> str:
        return f"interval {number * self.count} {self.unit}"

    def in_words(self, number: int) -> str:
        """So many steps in words."""
        total = number * self.count
        return f"{total} {self.unit}{'s' if total > 1 else ''}"


DAY = 86_400
STEPS = {  # seconds of the longest that is such a unit, and of one
    "minute": (3_600, 60, 1440, 60, ("month", "isodow", "hour")),
    "hour": (DAY, 3_600, 24, 24, ("month", "isodow", "hour")),
    "day": (7 * DAY, DAY, 7, 7, ("month", "isodow")),
    "week": (28 * DAY, 7 * DAY, 52, 4, ("month",)),
    "month": (365 * DAY, 28 * DAY, 12, 3, ("month",)),
    "year": (10**10, 365 * DAY, 0, 3, ()),
}


@dataclass(frozen=True)
class Series:
    """What was found out about the series of a file, and what is forecast of them."""

    proposal: Proposal
    time: str
    by: tuple[SeenColumn, ...]  # the columns that tell series apart; none where it is one
    count: int
    step: Step
    ahead: int

    @property
    def season(self) -> int:
        """Steps from the value of a season before to the one that is forecast: whole seasons, at least `ahead`."""
        season = self.step.season
        return -(-self.ahead // season) * season if season else 0

    @property
    def summary(self) -> str:
        parts = f"{self.count:,} series, by {', '.join(one.header for one in self.by)}" if self.by else "one"
        return f"series: {parts}; a row each {self.step.in_words(1)}; forecast {self.step.in_words(self.ahead)} ahead"


def series_of(connection: DuckDBPyConnection, proposal: Proposal, ahead: int) -> Series:
    """The series that a target makes in time.

    Raises:
        CannotInfer: no column dates the rows, no columns tell series apart, or steps are not regular.
    """
    if proposal.time is None:
        raise CannotInfer(f"--ahead is of a series in time, and {proposal.time_why}; leave it out")
    if proposal.kind is Kind.BINARY:
        raise CannotInfer(
            f"--ahead is of a number, and {proposal.target.header} is a yes or no; leave it out"
        )
    time = identifier(proposal.time)
    by = _identifying(connection, proposal, time)
    names = ", ".join(identifier(one.name) for one in by)
    partition = f"partition by {names} " if by else ""
    [(usual, share, count)] = connection.execute(
        f"""
        with steps as (
            select date_diff('second', lag({time}) over ({partition}order by {time}), {time}) as step from {TABLE}
        )
        select mode(step), avg((step between 0.8 * (select mode(step) from steps)
            and 1.2 * (select mode(step) from steps))::integer),
            {f"(select count(*) from (select distinct {names} from {TABLE}))" if by else "1"}
        from steps where step is not null
        """
    ).fetchall()
    if not usual or share < REGULAR:
        raise CannotInfer(
            f"--ahead is of a regular series, and in {proposal.file.name} steps of {proposal.time} differ; leave it out"
        )
    return Series(proposal, proposal.time, by, count, _step(usual), ahead)


def _identifying(connection: DuckDBPyConnection, proposal: Proposal, time: str) -> tuple[SeenColumn, ...]:
    """The columns of which each value has one row at each time; none where there is one row at each time."""
    able = [
        one
        for one in proposal.file.columns
        if one.expression is None
        and one.type in (ColumnType.TEXT, ColumnType.INTEGER)
        and one is not proposal.target
        and one.name != proposal.key
        and not one.missing
        and 1 < one.distinct <= one.rows / 4
    ]
    for number in range(MOST_APART + 1):
        for columns in combinations(able, number):
            names = ", ".join([*(identifier(one.name) for one in columns), time])
            [(rows,)] = connection.execute(
                f"select count(*) from (select distinct {names} from {TABLE})"
            ).fetchall()
            if rows == proposal.file.rows:
                return columns
    raise CannotInfer(
        f"--ahead is of a series with one row at each time, and in {proposal.file.name} no {MOST_APART} columns tell rows of "
        "one time apart; leave it out"
    )


def _step(seconds: int) -> Step:
    for unit, (longest, one, season, window, words) in STEPS.items():
        if seconds < longest:
            count = max(1, round(seconds / (30.4 * DAY if unit == "month" else one)))
            is_whole = season % count == 0
            return Step(count, unit, season // count if is_whole else 0, max(2, window // count), words)
    raise CannotInfer("--ahead is of a series whose steps are shorter than centuries")


def examples_sql(series: Series) -> str:
    """The statement that makes an example of each row."""
    y, time = as_written(series.proposal.target.name), as_written(series.time)
    partition = f"partition by {', '.join(as_written(one.name) for one in series.by)} " if series.by else ""
    lags = {"before": 1, "before_that": 2}
    if (back := series.season - series.ahead) > 0:
        lags["season_before"] = back
    columns = [
        f"{_id(series, 'now')} || ' ' || strftime(now.{time}, '%Y-%m-%dT%H:%M:%S') as example_id",
        f"{_id(series, 'now')} as series",
        *(f"now.{as_written(one.name)}::varchar as {as_written(one.name)}" for one in series.by),
        f"now.{time} as as_of",
        f"now.{time} + {series.step.times(series.ahead)} as forecast_for",
        f"now.{y} as last",
        *(f"{name}.{y} as {name}" for name in lags),
        "now.mean_so_far",
    ]
    joins = "".join(
        f"\nleft join {SOURCE} as {name} on {_same(series, name, 'now')}{_apart(series, name, 'now', steps)}"
        for name, steps in lags.items()
    )
    window = f"{partition}order by {time} rows between {series.step.window - 1} preceding and current row"
    return (
        f"-- Each {series.step.in_words(1)} of each series as soon as its value is known, with those before it. What else will be\n"
        f"-- known of {series.step.in_words(series.ahead)} later, such as holidays, can be joined from a source without an event_time.\n"
        f"with known as (\n    select *, avg({y}) over ({window}) as mean_so_far\n    from {SOURCE} where {y} is not null\n)\n"
        f"select\n    {(',' + chr(10) + '    ').join(columns)}\nfrom known as now{joins}\n"
    )


def target_sql(series: Series) -> str:
    y, time = as_written(series.proposal.target.name), as_written(series.time)
    by = "".join(
        f"later.{as_written(one.name)}::varchar = {NAME}.{as_written(one.name)} and " for one in series.by
    )
    later = f"date_diff('{series.step.unit}', {NAME}.forecast_for, later.{time}) = 0"
    return (
        f"-- The value {series.step.in_words(series.ahead)} later.\n"
        f"select {NAME}.example_id, later.{y}, later.{time} as known_at\n"
        f"from {NAME}\njoin {SOURCE} as later on {by}{later}\nwhere later.{y} is not null\n"
    )


def features_sql(series: Series) -> str:
    own = [as_written(one.name) for one in series.by]
    season = ["season_before"] if series.season > series.ahead else []
    words = [f"{word}(forecast_for) as {word}" for word in series.step.words]
    listed = [
        *own,
        *("last", "before", "before_that", *season, "mean_so_far"),
        "last - mean_so_far as last_to_mean",
        *words,
    ]
    text = ",\n    ".join(listed)
    return (
        "-- What the models see: the values so far, and of the time that is forecast what repeats.\n"
        f"select\n    {text}\nfrom inputs\n"
    )


def lines(series: Series) -> list[str]:
    """The declaration after its sources."""
    target, step = series.proposal.target, series.step
    least = ", minimum: 0" if target.lowest >= 0 else ""
    kind = "integer" if target.type.stored is ColumnType.INTEGER else "number"
    value = f"{{type: {kind}{least}"
    season = series.season > series.ahead
    inputs = [*(one.name for one in series.by), "forecast_for", "last", "before", "before_that"]
    inputs += ["season_before"] if season else []
    return [
        "",
        "  examples:",
        f"    {NAME}:",
        f"      description: Each {step.in_words(1)} of each series, with what came before it.",
        f"      as_of: {{events: {SOURCE}.{series.time}}}",
        "      columns:",
        "        example_id: {type: text, unique: true}",
        "        series: {type: text}",
        *(f"        {one.name}: {{type: category}}  # {one.as_words}" for one in series.by),
        "        as_of: {type: timestamp}",
        f"        forecast_for: {{type: timestamp, description: {step.in_words(series.ahead)} after the last value}}",
        f"        last: {value}, description: the last value}}",
        f"        before: {value}, nullable: true, description: the value before it}}",
        f"        before_that: {value}, nullable: true, description: the value before that}}",
        *(
            [
                f"        season_before: {value}, nullable: true, description: {step.in_words(series.season)} before the forecast}}"
            ]
            if season
            else []
        ),
        f"        mean_so_far: {{type: number{least}, description: mean of the last {step.window}}}",
        "",
        f"  entity: {{name: series, source: {NAME}, key: example_id, id: series}}",
        f"  inputs: [{', '.join([*inputs, 'mean_so_far'])}]",
        "",
        "  target:",
        f"    name: {target.name}",
        f"    kind: {series.proposal.kind}  # {series.proposal.target_why}",
        f"    unit: {target.header.replace('_', ' ')!r}",
        f"    horizon: {step.in_words(series.ahead)} ahead",
        f"    as_of: {SOURCE}.{series.time}",
        "    known_at: known_at",
        "",
        "  validation: {order: as_of, blocks: 4, inner_folds: 3}",
    ]


def candidates(series: Series) -> dict[str, dict[str, Any]]:
    """The last value as it is, a boosting and a forest, their average; of amounts also the change as what is forecast."""
    kind, rows = series.proposal.kind, series.proposal.file.rows
    numbers = ["last", "before", "before_that", "mean_so_far", "last_to_mean", *series.step.words]
    numbers += ["season_before"] if series.season > series.ahead else []
    everything = [*(one.name for one in series.by), *numbers]
    found: dict[str, dict[str, Any]] = {
        "as_before": {"family": "feature", "features": ["last"]},
        "boosting": boosting(kind, everything, rows),
        "forest": {
            "family": "forest",
            "features": everything,
            "parameters": {"n_estimators": 60, "min_samples_leaf": max(3, rows // 2000), "max_features": 0.4},
        },
        "boosting_and_forest": {"family": "average", "members": ["boosting", "forest"]},
    }
    if kind is Kind.REGRESSION:
        found["linear"] = {"family": "linear", "features": everything, "parameters": {"alpha": 1.0}}
        found["boosting_of_changes"] = boosting(kind, everything, rows) | {"offset": "last"}
    return found


def _id(series: Series, table: str) -> str:
    names = [f"{table}.{as_written(one.name)}" for one in series.by]
    if not names:
        return "'all'"
    return f"{names[0]}::varchar" if len(names) == 1 else f"concat_ws(' ', {', '.join(names)})"


def _same(series: Series, one: str, other: str) -> str:
    return "".join(
        f"{one}.{as_written(column.name)} = {other}.{as_written(column.name)} and " for column in series.by
    )


def _apart(series: Series, earlier: str, later: str, steps: int) -> str:
    """That one row stands so many steps before another; months are of different lengths."""
    time, step = as_written(series.time), series.step
    if step.unit in ("month", "year"):
        return f"date_diff('{step.unit}', {earlier}.{time}, {later}.{time}) = {steps * step.count}"
    return f"{earlier}.{time} = {later}.{time} - {step.times(steps)}"


def names_taken(columns: Sequence[SeenColumn]) -> list[str]:
    """The columns that would be called as one of the examples is."""
    own = {"example_id", "series", "as_of", "forecast_for", "last", "before", "before_that", "season_before"}
    return sorted({one.name for one in columns} & (own | {"mean_so_far", "known_at"}))
