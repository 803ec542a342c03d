"""Feedback: each prediction beside what really happened, as far as that is known.

An outcome that was reported by a prediction's id counts before one that was reported for its entity and a period, and both
before one that follows from new rows of the sources. A late one is joined whenever it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from vroom_api.contract import Manifest
from vroom_assets.monitoring.periods import read_period
from vroom_assets.monitoring.warehouse import closed_until, naive, prepare
from vroom_assets.spec import ForecastSpec
from vroom_assets.sql import identifier, literal, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAY = 86_400
SAME_SPAN = 0.9  # of the longer of period and horizon that both have in common


@dataclass(frozen=True)
class Joined:
    """How far the feedback is. Numbers of predictions, but for `unjoined`.

    overdue: due without an outcome. partial: of whose horizon a part has passed and is known. unjoined: outcomes of an entity and
    a period that no prediction belongs to, or whose period cannot be read.
    """

    predictions: int
    due: int
    outcomes: int
    partial: int
    overdue: int
    unjoined: int
    by_origin: dict[str, int]

    @property
    def sentence(self) -> str:
        """Whether what is due has its outcome, and what to do where it has not."""
        if self.overdue and self.outcomes:
            return (
                f"{self.overdue:,} of {self.due:,} predictions that are due have no outcome: report it to /outcomes, or "
                "bring the sources up to date"
            )
        return f"{self.outcomes:,} outcomes; {self.due:,} predictions are due, {self.overdue:,} of them without one"


def join(connection: DuckDBPyConnection, spec: ForecastSpec, now: datetime) -> Joined:
    """Bring each prediction's outcome up to date, and replace the view `monitoring.feedback`.

    Whoever restarts it changes nothing: a prediction's outcome arrives once, at `outcome_at`, whatever corrects it later.
    """
    prepare(connection)
    connection.execute(
        f"""
        create or replace view monitoring.feedback as
        select predictions.*, {_due_at(spec)} as due_at, results.outcome, results.exposure, results.origin,
            results.outcome_at, results.partial_at
        from monitoring.predictions
        left join monitoring.results on results.prediction_id = predictions.id
        """
    )
    _read_periods(connection)
    with transaction(connection):
        connection.execute(
            _UPDATE.format(covers=_covers(spec)),
            {"now": naive(now), "closed": closed_until(connection), "same": SAME_SPAN},
        )
    return _count(connection, spec, now)


def _due_at(spec: ForecastSpec) -> str:
    """SQL of the time at which a prediction's target is known; null where nobody declared it."""
    if (name := spec.target.due_input) is not None:
        return f"made_at + to_seconds({DAY} * {_number('inputs', name)})"
    days = spec.target.due_after_days
    return "null::timestamp" if days is None else f"made_at + to_seconds({days * DAY!r})"


def _number(column: str, name: str) -> str:
    return f"try_cast({_text(column, name)} as double)"


def _text(column: str, name: str) -> str:
    path = '$."' + name.replace('"', '\\"') + '"'
    return f"json_extract_string({column}, {literal(path)})"


def _read_periods(connection: DuckDBPyConnection) -> None:
    """A temporary table of the periods that can be read, with start and end."""
    texts = connection.execute(
        "select distinct period from monitoring.outcomes where period is not null"
    ).fetchall()
    spans = [(text, found.start, found.end) for (text,) in texts if (found := read_period(text))]
    frame = pd.DataFrame(spans, columns=["period", "starts", "ends"])
    frame = frame.astype({"period": "str", "starts": "datetime64[us]", "ends": "datetime64[us]"})
    connection.register("read_spans", frame)
    connection.execute("create or replace temp table spans as from read_spans")
    connection.unregister("read_spans")


def _covers(spec: ForecastSpec) -> str:
    """SQL of whether a period is that of a prediction: about the same span or, where nothing is counted, one around it."""
    if spec.target.kind.is_integer:
        return "false"
    return "starts <= made_at and due_at <= ends"


_UPDATE = """
insert into monitoring.results
with reported as (
    select subject, any_value(prediction_id) as prediction_id, any_value(entity_id) as entity_id,
        any_value(period) as period, arg_max(outcome, revision) as outcome, min(received_at) as learnt_at
    from monitoring.outcomes group by subject
),
of_periods as (
    select feedback.id as prediction_id, reported.*,
        epoch(least(due_at, ends)) - epoch(greatest(made_at, starts)) as common,
        greatest(epoch(due_at) - epoch(made_at), epoch(ends) - epoch(starts)) as longer
    from reported
    join spans using (period)
    join monitoring.feedback on feedback.entity_id = reported.entity_id
        and feedback.made_at < spans.ends and feedback.due_at >= spans.starts
    where common >= $same * longer or ({covers})
    qualify row_number() over (partition by feedback.id order by common / longer desc, subject) = 1
),
found as (
    select prediction_id, outcome, 1.0::double as exposure, 'reported' as origin, 1 as rank, learnt_at
    from reported join monitoring.predictions on predictions.id = reported.prediction_id
    union all by name
    select prediction_id, outcome, 1.0::double as exposure, 'period' as origin, 2 as rank, learnt_at from of_periods
    union all by name
    select prediction_id, outcome, exposure, 'source' as origin, 3 as rank, derived_at as learnt_at
    from monitoring.derived
),
best as (
    from found qualify row_number() over (partition by prediction_id order by rank) = 1
)
select best.prediction_id, best.outcome, best.exposure, best.origin,
    case when best.exposure >= 1 then greatest(least(best.learnt_at, $now), $closed) end as outcome_at,
    case when best.exposure < 1 then greatest(least(best.learnt_at, $now), $closed) end as partial_at
from best
left join monitoring.results as before using (prediction_id)
where (best.outcome, best.exposure, best.origin) is distinct from (before.outcome, before.exposure, before.origin)
    or (best.exposure < 1 and best.learnt_at > before.partial_at)
on conflict (prediction_id) do update set
    outcome = excluded.outcome, exposure = excluded.exposure, origin = excluded.origin,
    outcome_at = coalesce(results.outcome_at, excluded.outcome_at), partial_at = excluded.partial_at
"""


def _count(connection: DuckDBPyConnection, spec: ForecastSpec, now: datetime) -> Joined:
    predictions, due, whole, partial, overdue = connection.execute(
        """
        select count(*), count(*) filter (due_at <= $now), count(*) filter (exposure >= 1),
            count(*) filter (exposure < 1), count(*) filter (due_at <= $now and coalesce(exposure, 0) < 1)
        from monitoring.feedback
        """,
        {"now": naive(now)},
    ).fetchall()[0]
    origins = connection.execute("select origin, count(*) from monitoring.results group by 1 order by 1")
    by_origin = dict(origins.fetchall())
    [(unjoined,)] = connection.execute(
        f"""
        with reported as (
            select distinct entity_id, period from monitoring.outcomes where prediction_id is null
        )
        select count(*) from reported
        left join spans using (period)
        where not exists (
            from monitoring.feedback
            where feedback.entity_id = reported.entity_id and starts is not null
            and (
                epoch(least(due_at, ends)) - epoch(greatest(made_at, starts))
                    >= $same * greatest(epoch(due_at) - epoch(made_at), epoch(ends) - epoch(starts))
                or ({_covers(spec)})
            )
        )
        """,
        {"same": SAME_SPAN},
    ).fetchall()
    return Joined(predictions, due, whole, partial, overdue, unjoined, by_origin)


def read(
    connection: DuckDBPyConnection,
    manifest: Manifest,
    *,
    versions: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    with_outcome: bool = False,
    newest: int | None = None,
) -> pd.DataFrame:
    """Predictions with their outcomes, oldest first.

    Args:
        manifest: it names inputs, features and tags; what a prediction does not have is missing.
        versions: of the champions that made them; all where it is not given.
        ids: of the predictions that are wanted.
        with_outcome: only those whose whole outcome is known, in the order in which it arrived.
        newest: only so many, the latest.

    Returns:
        columns `id`, `time` (UTC, without a zone), `version`, `calibration`, `prediction`, `low`, `high`, `level`, `entity_id`,
        `due_at`, `outcome`, `exposure` (share of the horizon that has passed; NaN without an outcome), `origin` of the
        outcome (reported, period, source), `outcome_at`, and `input_<name>`, `feature_<name>`, `tag_<name>`. Inputs are as
        they were sent: numbers, texts, times as texts.
    """
    texts = {one.name for one in manifest.inputs if one.values or one.type == "time"}
    columns = [
        "id", "made_at as time", "version", "calibration", "prediction", "low", "high", "level", "entity_id", "due_at",
        "outcome", "exposure", "origin", "outcome_at",
        *(
            f"{(_text if one.name in texts else _number)('inputs', one.name)} as {identifier(f'input_{one.name}')}"
            for one in manifest.inputs
        ),
        *(f"{_number('features', one.name)} as {identifier(f'feature_{one.name}')}" for one in manifest.features),
        *(f"{_text('tags', name)} as {identifier(f'tag_{name}')}" for name in manifest.tags),
    ]  # fmt: skip
    order = "outcome_at, id" if with_outcome else "id"
    conditions = ["true"]
    parameters: dict[str, object] = {}
    if versions is not None:
        conditions.append("version in (select unnest($versions))")
        parameters["versions"] = list(versions)
    if ids is not None:
        conditions.append("id in (select unnest($ids))")
        parameters["ids"] = list(ids)
    if with_outcome:
        conditions.append("exposure >= 1")
    limit = "" if newest is None else f"order by {order.replace(',', ' desc,')} desc limit {newest:d}"
    rows = f"(select * from monitoring.feedback where {' and '.join(conditions)} {limit})"
    found = connection.execute(f"select {', '.join(columns)} from {rows} order by {order}", parameters).df()
    texts_of_all = ["entity_id", "origin", *(f"input_{name}" for name in texts)]
    texts_of_all += [f"tag_{name}" for name in manifest.tags]
    return found.astype(dict.fromkeys(texts_of_all, object))
