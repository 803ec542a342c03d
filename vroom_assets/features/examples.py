"""Examples: what was known of each entity at each of several times, and the proof that it was known then.

A statement over history is right about the past only if it reads nothing that happened later, and nothing
in SQL keeps it from that. So each is executed twice: on the sources as they are, and on the sources as they
were at the time of its examples. The rows have to be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from vroom_assets.features.engine import StatementError, Tables
from vroom_assets.spec import Column, Examples, ForecastSpec
from vroom_assets.sql import as_text, broken_rules, identifier

AS_OF = "as_of"
TARGET_WINDOW = "target_window"  # of one row: what a declared target counts lies in (opens, closes]
MAX_TIMES = 5  # at which the proof is made: the first, the last, and some between


class ExamplesError(Exception):
    """Examples that cannot be used; the message names table, column, rule and rows."""


@contextmanager
def tables(connection: Tables, spec: ForecastSpec) -> Iterator[None]:
    """For the length of a block: a temporary table for each declared table of examples.

    Raises:
        ExamplesError: there are none, a column breaks its declaration, or one knows what happened later.
    """
    try:
        for name, examples in spec.examples.items():
            _derive(connection, name, spec.examples_sql[name], _times(connection, name, examples))
            _check_columns(connection, name, examples.columns)
            _prove(connection, spec, name)
        if spec.target.window_days is not None:
            _derive_window(connection, spec, spec.target.window_days)
        yield
    finally:
        for name in (AS_OF, TARGET_WINDOW, *spec.examples):
            connection.execute(f'drop table if exists temp."{name}"')


@contextmanager
def latest(connection: Tables, spec: ForecastSpec, name: str) -> Iterator[None]:
    """For the length of a block: the declared table as it is now, at the latest of its events.

    Without periods the statement takes its own times, and the table has all of them.

    Raises:
        ExamplesError: there are none, or a column breaks its declaration.
    """
    rule = spec.examples[name].as_of
    source, _, column = rule.events.partition(".")
    [(now,)] = connection.execute(
        f'select max("{column}")::timestamp::varchar from main."{source}"'
    ).fetchall()
    try:
        _derive(connection, name, spec.examples_sql[name], [now] if rule.every is not None else [])
        _check_columns(connection, name, spec.examples[name].columns)
        yield
    finally:
        for table in (AS_OF, name):
            connection.execute(f'drop table if exists temp."{table}"')


def _times(connection: Tables, name: str, examples: Examples) -> list[str]:
    """The starts of periods that have their history behind them and their window closed; none without periods."""
    rule = examples.as_of
    if rule.every is None:
        return []
    source, _, column = rule.events.partition(".")
    rows = connection.execute(
        f"""
        with bounds as (select min("{column}") as first, max("{column}") as last from main."{source}"),
        starts as (
            select unnest(generate_series(
                date_trunc('{rule.every}', first), last, interval 1 {rule.every}
            )) as as_of, first, last
            from bounds
        )
        select as_of::timestamp::varchar from starts
        where as_of >= first + to_seconds({rule.history_days * 86_400})
        and as_of <= last - to_seconds({rule.horizon_days * 86_400})
        order by as_of
        """
    ).fetchall()
    if not rows:
        raise ExamplesError(
            f"examples {name}: no {rule.every} starts {rule.history_days:g} days after the first of "
            f"{rule.events} and {rule.horizon_days:g} days before the last; there is too little history"
        )
    return [time for (time,) in rows]


def _derive(connection: Tables, name: str, sql: str, times: list[str]) -> None:
    listed = ", ".join(f"(timestamp '{time}')" for time in times) or "(null::timestamp)"
    connection.execute(f'create or replace temp table "{AS_OF}" as from (values {listed}) as given({AS_OF})')
    try:
        connection.execute(f'create or replace temp table "{name}" as ({sql.strip().rstrip(";")}\n)')
    except (duckdb.Error, StatementError) as error:
        raise ExamplesError(f"examples {name}: {name}.sql cannot be executed: {error}") from error


def _derive_window(connection: Tables, spec: ForecastSpec, days: float) -> None:
    """The window ends with the data, so that more history makes no larger target."""
    assert spec.target.as_of is not None  # a declaration without it has no window
    source, _, column = spec.target.as_of.partition(".")
    connection.execute(
        f"""
        create or replace temp table {TARGET_WINDOW} as
        select max("{column}") - to_seconds({days * 86_400!r}) as opens, max("{column}") as closes from "{source}"
        """
    )


def _check_columns(connection: Tables, name: str, columns: dict[str, Column]) -> None:
    if not connection.execute(f'select 1 from temp."{name}" limit 1').fetchall():
        raise ExamplesError(f"examples {name}: {name}.sql gives no row")
    made = {row[0] for row in connection.execute(f'describe temp."{name}"').fetchall()}
    if missing := [column for column in columns if column not in made]:
        raise ExamplesError(
            f"examples {name}: {name}.sql has no column {', '.join(missing)}; it has {', '.join(sorted(made))}"
        )
    for column, rule in columns.items():
        broken = {"is empty": "false" if rule.nullable else f'"{column}" is null'}
        broken |= {message: condition for _, message, condition in broken_rules(rule, identifier(column))}
        for message, condition in broken.items():
            [(rows, example)] = connection.execute(
                f'select count(*), min("{column}") from temp."{name}" where {condition}'
            ).fetchall()
            if rows:
                raise ExamplesError(
                    f"examples {name}, column {column}: {as_text(example) or 'a value'} {message}, in {rows} rows"
                )
        if rule.unique:
            twice = connection.execute(
                f'select "{column}" from temp."{name}" group by "{column}" having count(*) > 1 order by 1 limit 1'
            ).fetchall()
            if twice:
                raise ExamplesError(f"examples {name}, column {column}: {as_text(twice[0][0])} occurs twice")


def _prove(connection: Tables, spec: ForecastSpec, name: str) -> None:
    """Derive the rows of some times again, from the sources without what happened after each."""
    dated = {
        source: moments
        for source, one in spec.sources.items()
        if (moments := [column for column in (one.event_time, one.load_time) if column])
    }
    times = [
        time
        for (time,) in connection.execute(
            f'select distinct {AS_OF}::varchar from temp."{name}" order by 1'
        ).fetchall()
    ]
    chosen = sorted({times[number * (len(times) - 1) // (MAX_TIMES - 1)] for number in range(MAX_TIMES)})
    columns = ", ".join(f'"{column}"' for column in spec.examples[name].columns)
    [(database,)] = connection.execute("select current_database()").fetchall()
    connection.execute(f'create or replace temp table "the examples" as from temp."{name}"')
    try:
        for time in chosen:
            for source, moments in dated.items():
                known = " and ".join(f"\"{moment}\" <= timestamp '{time}'" for moment in moments)
                connection.execute(
                    f'create or replace temp table "{source}" as from "{database}".main."{source}" where {known}'
                )
            _derive(connection, name, spec.examples_sql[name], [time])
            then, now = (
                f"select {columns} from temp.\"{name}\" where {AS_OF} = timestamp '{time}'",
                (f"select {columns} from temp.\"the examples\" where {AS_OF} = timestamp '{time}'"),
            )
            different = (
                connection.execute(
                    f"from (({now}) except all ({then})) order by {columns} limit 1"
                ).fetchall()
                or connection.execute(
                    f"from (({then}) except all ({now})) order by {columns} limit 1"
                ).fetchall()
            )
            if different:
                raise ExamplesError(
                    f"examples {name}: {name}.sql looks ahead. At {time} the row {different[0]} is another one "
                    f"than with what had happened until then; compare "
                    f"{', '.join(f'{source}.{column}' for source in dated for column in dated[source])} with {AS_OF}"
                )
    finally:
        for source in dated:
            connection.execute(f'drop table if exists temp."{source}"')
        connection.execute(f'create or replace temp table "{name}" as from temp."the examples"')
        connection.execute('drop table if exists temp."the examples"')
