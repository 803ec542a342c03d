"""Outcomes that follow from new rows of the sources: `target.sql` is run again for what was predicted.

Predictions stand where the examples stood, in one of three ways, by what is declared:

- a target with `window_days` counts what lies in `target_window`: it is run for each day on which something was predicted, with
  the window that began then;
- examples at the starts of periods: a table of predictions has the name of the examples, its key their ids, `as_of` their
  times;
- examples at each event: a prediction is about the latest example of its entity at its time, and has its target.

An outcome counts once the data reach as far as it is known: until then a count is a partial one, and anything else is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from vroom_assets.features import examples
from vroom_assets.features.examples import AS_OF, TARGET_WINDOW
from vroom_assets.features.table import DatasetError, origin
from vroom_assets.monitoring.closing import latest_end
from vroom_assets.monitoring.feedback import DAY
from vroom_assets.monitoring.warehouse import closed_until, mark, naive, note, prepare
from vroom_assets.spec import ColumnType, ForecastSpec
from vroom_assets.sql import identifier, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DERIVED = "derived"  # the mark: what the outcomes were derived from
LEAST_EXPOSURE = 1e-3  # of a horizon, from which on a partial count says anything
TYPES = {
    ColumnType.INTEGER: "bigint", ColumnType.NUMBER: "double", ColumnType.TEXT: "varchar",
    ColumnType.TIMESTAMP: "timestamp",
}  # fmt: skip


@dataclass(frozen=True)
class Derived:
    """What became of it. outcomes: of how many predictions something is known now, as a whole or in part. why_not: if nothing
    could be derived, the reason; "" where it could."""

    outcomes: int = 0
    why_not: str = ""


def derive(connection: DuckDBPyConnection, spec: ForecastSpec, now: datetime) -> Derived:
    """Derive the outcomes of all predictions of an entity that have no whole one yet, as far as the data reach.

    Nothing is done where nothing has changed since the last time.
    """
    prepare(connection)
    way = _way(spec)
    if isinstance(way, str):
        return Derived(why_not=way)
    try:
        snapshots = {name: origin(connection, name)["snapshot"] for name in spec.sources}
    except DatasetError:
        return Derived(why_not="the sources are not loaded yet")
    reach = _reach(connection, spec)
    if reach is None:
        return Derived(why_not="the sources say of no time how far they reach")
    open_predictions = _choose_open(connection, spec, reach)
    target = [spec.target.model_dump(mode="json"), spec.target_sql]
    state = json.dumps([snapshots, open_predictions, target], sort_keys=True)
    if open_predictions is None or mark(connection, DERIVED) == state:
        return Derived(why_not="nothing is new: the sources are the same, and so are the predictions")
    try:
        connection.execute(
            "create or replace temp table found (prediction_id varchar, outcome double, exposure double)"
        )
        way(connection, spec, reach)
    except (duckdb.Error, examples.ExamplesError) as error:
        reason = str(error).strip().splitlines()[0]
        return Derived(
            why_not=f"target.sql gives no outcomes of predictions: {reason}; report them to /outcomes"
        )
    with transaction(connection):
        [(outcomes,)] = connection.execute(
            f"""
            insert or replace into monitoring.derived
            select prediction_id, any_value(outcome), any_value(exposure), ? from found
            where outcome is not null and isfinite(outcome) and exposure >= {LEAST_EXPOSURE}
            group by prediction_id
            """,
            [_arrival(connection, spec, now)],
        ).fetchall()
        note(connection, DERIVED, state)
    connection.execute("drop table found; drop table open_predictions")
    return Derived(outcomes)


def _arrival(connection: DuckDBPyConnection, spec: ForecastSpec, now: datetime) -> datetime:
    """When what is found now counts as known: in the window that has closed and is to be summarized, if there is one.

    The sources were loaded in it, and nobody has searched them since.
    """
    end = latest_end(spec.monitoring.window_minutes, now)
    return end - timedelta(microseconds=1) if end > closed_until(connection) else naive(now)


_Way = Callable[["DuckDBPyConnection", ForecastSpec, datetime], None]


def _way(spec: ForecastSpec) -> _Way | str:
    """How outcomes are derived, or why they are not."""
    if spec.entity_id is None:
        return "a prediction says of no entity what it is about; report outcomes to /outcomes"
    if spec.target.window_days is not None:
        return _by_window
    if spec.entity.source not in spec.examples:
        if spec.target.known_at is None:
            return "the declaration does not say when a target is known (`target.known_at`, `window_days`)"
        return _by_entity
    if spec.examples[spec.entity.source].as_of.every is None:
        return _by_latest_example
    return _as_examples


def _reach(connection: DuckDBPyConnection, spec: ForecastSpec) -> datetime | None:
    """Up to which time the data are there: the latest event, or the newest file where no column says it."""
    if spec.target.as_of is None:
        newest = max(str(origin(connection, name)["modified"]) for name in spec.sources)
        return naive(datetime.fromisoformat(newest))
    source, _, column = spec.target.as_of.partition(".")
    [(latest,)] = connection.execute(
        f"select max({identifier(column)})::timestamp from {identifier(source)}"
    ).fetchall()
    return None if latest is None else naive(latest)


def _choose_open(connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime) -> list[Any] | None:
    """Table of the predictions of an entity that may have an outcome by now and have no whole one.

    Returns:
        how many they are and the latest of them, by which a change of them is noticed; None where there are none.
    """
    key, rows = "entity_id", ""
    if spec.entity.source in spec.sources and spec.entity_id != spec.entity.key:
        assert spec.entity_id is not None
        key = f"entity.{identifier(spec.entity.key)}::varchar"
        rows = f"join {identifier(spec.entity.source)} as entity on entity.{identifier(spec.entity_id)}::varchar = entity_id"
    connection.execute(
        f"""
        create or replace temp table open_predictions as
        select id, {key} as entity_id, made_at, inputs from monitoring.predictions
        left join monitoring.results on results.prediction_id = predictions.id
        {rows}
        where entity_id is not null and made_at < $reach and coalesce(exposure, 0) < 1
        """,
        {"reach": reach},
    )
    [(number, latest)] = connection.execute("select count(*), max(id) from open_predictions").fetchall()
    return [number, latest] if number else None


def _statement(spec: ForecastSpec) -> str:
    """SQL of `key` as text, `value` and, if it is declared, `known_at` of each row of target.sql."""
    target = spec.target
    known = f"{identifier(target.known_at)}::timestamp" if target.known_at else "null::timestamp"
    return f"""(
        select {identifier(spec.entity.key)}::varchar as key, {identifier(target.name)}::double as value,
            {known} as known_at
        from ({spec.target_sql.strip().rstrip(";")}
        )
    )"""


def _exposure(spec: ForecastSpec, known_at: str) -> str:
    """SQL of the share of the horizon up to `known_at` that has passed; of anything but a count it is 0 until all has."""
    passed = f"(epoch($reach::timestamp) - epoch(made_at)) / (epoch({known_at}) - epoch(made_at))"
    partial = f"least({passed}, 0.999999)" if spec.target.kind.is_integer else "0.0"
    return f"case when {known_at} <= $reach then 1.0 else {partial} end"


def _known_at(spec: ForecastSpec) -> str:
    """SQL of the time at which a target is known: what target.sql says, else by the declared horizon."""
    if spec.target.known_at is not None:
        return "known_at"
    days = spec.target.due_after_days
    # Without any of them a row is there once its target is known.
    return "$reach::timestamp" if days is None else f"(made_at + to_seconds({days * DAY!r}))"


def _by_window(connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime) -> None:
    assert spec.target.window_days is not None
    length = timedelta(days=spec.target.window_days)
    days = connection.execute(
        "select distinct date_trunc('day', made_at)::timestamp from open_predictions order by 1"
    ).fetchall()
    due = f"(made_at + to_seconds({length.total_seconds()!r}))"
    try:
        for (day,) in days:
            connection.execute(
                f"create or replace temp table {TARGET_WINDOW} as select $opens as opens, $closes as closes",
                {"opens": day, "closes": min(day + length, reach)},
            )
            connection.execute(
                f"""
                insert into found
                select id, value, {_exposure(spec, due)} from open_predictions
                join {_statement(spec)} as target on target.key = entity_id
                where made_at >= $day and made_at < $day + interval 1 day
                """,
                {"day": day, "reach": reach},
            )
    finally:
        connection.execute(f"drop table if exists temp.{TARGET_WINDOW}")


def _by_entity(connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime) -> None:
    """The entity is a row of a source, whose target becomes known some day."""
    _insert(connection, spec, reach, "open_predictions", "target.key = entity_id")


def _as_examples(connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime) -> None:
    name, own = spec.entity.source, {spec.entity.key: "id", spec.entity_id: "entity_id", AS_OF: "made_at"}
    columns = []
    for column, declared in spec.entity_columns.items():
        path = "'$.\"" + column.replace("'", "''") + "\"'"
        value = own.get(column, f"json_extract_string(inputs, {path})")
        columns.append(f"try_cast({value} as {TYPES[declared.type.stored]}) as {identifier(column)}")
    try:
        connection.execute(
            f"create or replace temp table {identifier(name)} as select {', '.join(columns)} from open_predictions"
        )
        _insert(connection, spec, reach, "open_predictions", "target.key = id")
    finally:
        connection.execute(f"drop table if exists temp.{identifier(name)}")


def _by_latest_example(connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime) -> None:
    name, key, entity = spec.entity.source, spec.entity.key, spec.entity_id
    assert entity is not None
    with examples.latest(connection, spec, name):
        about = f"""(
            select id, made_at, latest.key as example from open_predictions
            asof join (
                select {identifier(entity)}::varchar as entity, {AS_OF}::timestamp as known,
                    arg_max({identifier(key)}::varchar, {identifier(key)}) as key
                from temp.{identifier(name)} group by all
            ) as latest on latest.entity = entity_id and latest.known <= made_at
        )"""
        _insert(connection, spec, reach, about, "target.key = example")


def _insert(
    connection: DuckDBPyConnection, spec: ForecastSpec, reach: datetime, predictions: str, condition: str
) -> None:
    """Args:
    predictions: SQL of a relation of `id` and `made_at`, and what the condition needs.
    condition: when a row of target.sql is that of a prediction.
    """
    known_at = _known_at(spec)
    connection.execute(
        f"""
        insert into found
        select id, value, {_exposure(spec, known_at)} from {predictions}
        join {_statement(spec)} as target on {condition}
        where {known_at} > made_at
        """,
        {"reach": reach},
    )
