"""Closed windows: each is summarized once for each version that has rows in it.

A prediction counts in the window in which it was made, an outcome in that in which it arrived. What arrives after its window was
closed counts in the one that is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pandas as pd

from vroom_api.contract import Manifest
from vroom_api.contract.decoding import decode
from vroom_assets.monitoring.corrected import judged_as_corrected
from vroom_assets.monitoring.feedback import DAY, read
from vroom_assets.monitoring.summary import Summary, summarize
from vroom_assets.monitoring.warehouse import (
    CLOSED_UNTIL,
    closed_until,
    naive,
    note,
    prepare,
)
from vroom_assets.spec import ForecastSpec
from vroom_assets.sql import transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GRACE = timedelta(seconds=5)  # after a window's end, for what was answered in it to be committed
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Window:
    """From its start to before its end, in UTC without a zone."""

    start: datetime
    end: datetime


def latest_end(minutes: float, now: datetime) -> datetime:
    """The end of the latest closed window, in UTC without a zone; windows are counted from 1970 on."""
    length = timedelta(minutes=minutes)
    return EPOCH + (naive(now) - GRACE - EPOCH) // length * length


def summarize_closed(
    connection: DuckDBPyConnection, spec: ForecastSpec, manifests: Mapping[int, Manifest], now: datetime
) -> list[Window]:
    """Summarize each window that has closed and was not summarized yet; those that have rows.

    Args:
        manifests: by version; rows of versions that are not among them count in no window.
    """
    prepare(connection)
    until, end = closed_until(connection), latest_end(spec.monitoring.window_minutes, now)
    if end <= until:
        return []
    _count_rows(connection, spec, until, end)
    windows = _windows_with_rows(connection, spec, until)
    for window in windows:
        with transaction(connection):
            for version in _versions_in(connection, window):
                if (manifest := manifests.get(version)) is not None:
                    _store(connection, version, _summary(connection, spec, manifest, version, window))
            note(connection, CLOSED_UNTIL, window.end.isoformat())
    with transaction(connection):
        note(connection, CLOSED_UNTIL, end.isoformat())
    connection.execute("drop table counted")
    return windows


def summaries(connection: DuckDBPyConnection, versions: list[int]) -> list[Summary]:
    """Those of some versions, in the order of time."""
    prepare(connection)
    rows = connection.execute(
        "select summary from monitoring.summaries where version in (select unnest(?)) order by window_end, version",
        [versions],
    ).fetchall()
    return [decode(text, Summary) for (text,) in rows]


def _store(connection: DuckDBPyConnection, version: int, summary: Summary) -> None:
    connection.execute(
        "insert or replace into monitoring.summaries values (?, ?, ?, ?)",
        [version, naive(summary.start), naive(summary.end), msgspec.json.encode(summary).decode()],
    )


def _same_horizon(spec: ForecastSpec) -> str:
    """SQL of what predictions of one entity have in common whose horizons are about the same, and so their outcomes."""
    if spec.target.due_input is not None:
        return f"round(epoch(due_at) / {DAY})"
    days = spec.target.due_after_days
    return "0" if days is None else f"floor(epoch(made_at) / {days * DAY!r})"


def _count_rows(connection: DuckDBPyConnection, spec: ForecastSpec, until: datetime, end: datetime) -> None:
    """Table of the rows that count in the windows: id, version, whether it is an outcome, and at which time.

    What was predicted of one entity more than once has one outcome as long as its horizon is the same: one of them counts in
    the life of a version, that whose outcome came first. Of a window's predictions of one entity the latest counts, and none with
    the inputs that the entity had before: who asks every day about the same learns nothing new.
    """
    connection.execute(
        f"""
        create or replace temp table counted as
        with feedback as (
            select id, version, entity_id, made_at, counted_at, coalesce(outcome_at, partial_at) as known,
                {_same_horizon(spec)} as horizon,
                floor(epoch(counted_at) / $length) as made_in,
                entity_id is null or row_number() over (
                    partition by version, entity_id, hash(inputs) order by counted_at, id
                ) = 1 as is_news
            from monitoring.feedback
        ),
        made as (
            select id, version, false as is_outcome, counted_at as moment from feedback
            where counted_at >= $until and counted_at < $end and is_news
            qualify entity_id is null or row_number() over (
                partition by version, entity_id, made_in, case when $length > {_horizon_seconds(spec)} then horizon end
                order by made_at desc, id desc
            ) = 1
        ),
        known as (
            select id, version, true as is_outcome, known as moment from feedback where known is not null
            qualify entity_id is null or row_number() over (
                partition by version, entity_id, horizon order by known, id
            ) = 1
        )
        from made union all by name from known where moment >= $until and moment < $end
        """,
        {"until": until, "end": end, "length": spec.monitoring.window_minutes * 60},
    )


def _horizon_seconds(spec: ForecastSpec) -> float:
    days = spec.target.due_after_days
    return 1e18 if days is None or spec.target.due_input is not None else days * DAY


def _windows_with_rows(connection: DuckDBPyConnection, spec: ForecastSpec, until: datetime) -> list[Window]:
    length = timedelta(minutes=spec.monitoring.window_minutes)
    numbers = connection.execute(
        "select distinct floor(epoch(moment) / $length)::bigint from counted order by 1",
        {"length": length.total_seconds()},
    ).fetchall()
    starts = [EPOCH + number * length for (number,) in numbers]
    return [Window(max(start, until), start + length) for start in starts]


def _versions_in(connection: DuckDBPyConnection, window: Window) -> list[int]:
    rows = connection.execute(
        "select distinct version from counted where moment >= ? and moment < ? order by 1",
        [window.start, window.end],
    ).fetchall()
    return [version for (version,) in rows]


def _summary(
    connection: DuckDBPyConnection, spec: ForecastSpec, manifest: Manifest, version: int, window: Window
) -> Summary:
    predicted, observed = (
        frame_of(
            manifest,
            read(connection, manifest, ids=_ids(connection, version, window, outcomes=outcomes)),
        )
        for outcomes in (False, True)
    )
    start, end = (moment.replace(tzinfo=UTC) for moment in (window.start, window.end))
    corrected, observed = judged_as_corrected(spec.name, manifest, observed)
    return summarize(corrected, spec.monitoring, start, end, predicted, observed)


def _ids(connection: DuckDBPyConnection, version: int, window: Window, *, outcomes: bool) -> list[str]:
    rows = connection.execute(
        "select id from counted where version = ? and is_outcome = ? and moment >= ? and moment < ? order by moment, id",
        [version, outcomes, window.start, window.end],
    ).fetchall()
    return [identifier for (identifier,) in rows]


def frame_of(manifest: Manifest, rows: pd.DataFrame) -> pd.DataFrame:
    """Feedback as the statistics take it: features by their names, without inputs."""
    features = {f"feature_{field.name}": field.name for field in manifest.features}
    tags = [f"tag_{name}" for name in manifest.tags]
    kept = ["prediction", "low", "high", "level", "outcome", "exposure", "calibration", *tags, *features]
    return rows[kept].rename(columns=features)


def ids_with_outcomes(
    connection: DuckDBPyConnection, spec: ForecastSpec, versions: list[int], newest: int
) -> list[str]:
    """The predictions of some versions whose whole outcome is known, in the order in which these arrived.

    Of one entity and horizon one of them counts, that whose outcome came first, as in the windows.
    """
    rows = connection.execute(
        f"""
        with counting as (
            select id, entity_id, outcome_at, {_same_horizon(spec)} as horizon from monitoring.feedback
            where outcome_at is not null and version in (select unnest(?))
            qualify entity_id is null or row_number() over (
                partition by entity_id, horizon order by outcome_at, id
            ) = 1
        ),
        latest as (from counting order by outcome_at desc, id desc limit {newest:d})
        select id from latest order by outcome_at, id
        """,
        [versions],
    ).fetchall()
    return [identifier for (identifier,) in rows]
