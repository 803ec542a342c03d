"""The record of the service, copied into the warehouse: each prediction and each reported outcome exactly once.

Ids ascend with time, but not strictly: what is committed a moment later, or by another service whose clock is behind, may have
a smaller one than what was read already. So each copy begins a while before where the last one ended, and what is there
is left as it is. A copy is made in pieces, each committed together with how far it came; whoever is killed between two
goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from vroom_api.contract.benchmark import is_no_benchmark
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.ids import first_id, time_of
from vroom_api.contract.tables import outcomes, predictions
from vroom_assets.monitoring.warehouse import closed_until, mark, naive, note, prepare
from vroom_assets.sql import transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PIECE = 20_000  # rows in memory at once
OVERLAP = timedelta(minutes=10)  # that a commit may come late, or a clock be behind

_TIME = pa.timestamp("us")
_PREDICTIONS = pa.schema(
    {
        "id": pa.string(), "made_at": _TIME, "version": pa.int32(), "entity_id": pa.string(), "inputs": pa.string(),
        "features": pa.string(), "prediction": pa.float64(), "low": pa.float64(), "high": pa.float64(),
        "level": pa.float64(), "calibration": pa.int32(), "tags": pa.string(),
    }
)  # fmt: skip
_OUTCOMES = pa.schema(
    {
        "id": pa.string(), "received_at": _TIME, "subject": pa.string(), "revision": pa.int32(),
        "prediction_id": pa.string(), "entity_id": pa.string(), "period": pa.string(), "outcome": pa.float64(),
        "observed_at": _TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Copy:
    """From one table into another: the columns in the order of the schema, and the statement that takes a piece."""

    source: sa.Table
    columns: Sequence[sa.ColumnElement[Any]]
    schema: pa.Schema
    into: str
    wanted: Sequence[sa.ColumnElement[bool]] = ()


# JSON stays the text that it is.
_OF_PREDICTIONS = _Copy(
    predictions,
    [
        predictions.c.id, predictions.c.time, predictions.c.version, predictions.c.entity_id,
        sa.cast(predictions.c.inputs, sa.Text), sa.cast(predictions.c.features, sa.Text), predictions.c.value,
        predictions.c.low, predictions.c.high, predictions.c.level, predictions.c.calibration,
        sa.cast(predictions.c.tags, sa.Text),
    ],
    _PREDICTIONS,
    "insert or ignore into monitoring.predictions by name "
    "select *, greatest(least(made_at, $now), $closed) as counted_at from piece",
    [is_no_benchmark()],
)  # fmt: skip
_OF_OUTCOMES = _Copy(
    outcomes,
    [
        outcomes.c.id, outcomes.c.received_at, outcomes.c.subject, outcomes.c.revision, outcomes.c.prediction_id,
        outcomes.c.entity_id, outcomes.c.period, outcomes.c.value, outcomes.c.observed_at,
    ],
    _OUTCOMES,
    "insert or ignore into monitoring.outcomes by name select * from piece",
)  # fmt: skip


def copy_predictions(
    connection: DuckDBPyConnection, database: sa.Engine, forecast: str, now: datetime
) -> int:
    """Copy what was predicted since the last copy; how many predictions are new.

    Args:
        now: the time, which no prediction is counted later than.
    """
    expand_blocks(database)
    return _copy(connection, database, forecast, now, _OF_PREDICTIONS)


def copy_outcomes(connection: DuckDBPyConnection, database: sa.Engine, forecast: str, now: datetime) -> int:
    """Copy the outcomes that were reported since the last copy, every revision of them; how many are new."""
    return _copy(connection, database, forecast, now, _OF_OUTCOMES)


def _copy(
    connection: DuckDBPyConnection, database: sa.Engine, forecast: str, now: datetime, what: _Copy
) -> int:
    prepare(connection)
    reached = mark(connection, what.source.name)
    after = first_id(time_of(reached) - OVERLAP) if reached else ""
    parameters = {"now": naive(now), "closed": closed_until(connection)}
    own = {name: value for name, value in parameters.items() if f"${name}" in what.into}
    new = 0
    while rows := _read(database, forecast, after, what):
        after = rows[-1][0]
        # An id from a clock that is ahead must not hide what comes until then.
        upto = min(after, first_id(naive(now).replace(tzinfo=UTC)))
        with transaction(connection):
            connection.register("piece", _piece(rows, what.schema))
            new += connection.execute(what.into, own).fetchall()[0][0]
            connection.unregister("piece")
            if reached is None or upto > reached:
                note(connection, what.source.name, upto)
                reached = upto
        if len(rows) < PIECE:
            break
    return new


def _read(database: sa.Engine, forecast: str, after: str, what: _Copy) -> Sequence[Sequence[Any]]:
    table = what.source
    query = (
        sa.select(*what.columns)
        .where(table.c.id > after, table.c.forecast == forecast, *what.wanted)
        .order_by(table.c.id)
        .limit(PIECE)
    )
    with database.connect() as connection:
        return connection.execute(query).fetchall()


def _piece(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        if field.type == _TIME:
            values = tuple(map(naive, values))
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)
