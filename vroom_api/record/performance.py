"""Live performance: recorded predictions beside what really happened, as outcomes say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract import Manifest
from vroom_api.contract.benchmark import is_no_benchmark
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import outcomes, predictions

MAX_GROUPS = 200


class Score(msgspec.Struct, frozen=True):
    """Predictions whose outcomes are known."""

    value: str | None  # of the tag; null for all together, and for predictions without it
    outcomes: int
    mae: float | None
    rmse: float | None
    bias: float | None  # mean of prediction - outcome
    covered: float | None  # share of the outcomes inside the interval; of probabilities it says nothing
    first: datetime | None
    last: datetime | None
    # Of a probability; null for other kinds, and where no champion serves that says what the kind is.
    base_rate: float | None  # share of yes among the outcomes
    brier: float | None  # mean squared distance from 0 or 1 (Brier 1950)
    brier_of_base_rate: float | None  # of always answering the base rate; null where all outcomes are alike
    auc: (
        float | None
    )  # probability that a yes had a higher prediction than a no; 0.5 is chance; null as above


class Performance(msgspec.Struct, frozen=True):
    """How good predictions were."""

    forecast: str
    predictions: int  # recorded in that time, with or without an outcome
    # Of them those without a reported outcome whose horizon is over; null where nobody declared when it is.
    overdue: int | None
    all: Score
    by: str | None
    groups: list[Score]  # by the tag, those with the latest predictions first


def performance(
    engine: sa.Engine,
    forecast: str,
    *,
    champion: Manifest | None = None,
    by: str | None = None,
    version: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Performance:
    """Errors of the predictions of a forecast, all together and for each value of a tag.

    Outcomes that were reported of an entity and a period belong to no single prediction and do not count here.

    Args:
        champion: it says what kind the target is, and when a prediction falls due.
        now: the time by which predictions are due; that of the clock where it is not given.
    """
    asked = [predictions.c.forecast == forecast, is_no_benchmark()]
    if version is not None:
        asked.append(predictions.c.version == version)
    if start is not None:
        asked.append(predictions.c.id >= first_id(start))
    if end is not None:
        asked.append(predictions.c.id < first_id(end))
    is_probability = champion is not None and champion.kind.is_probability
    due = None if champion is None else _due(champion, now or datetime.now(UTC))
    expand_blocks(engine)
    with engine.connect() as connection:
        count = connection.execute(
            sa.select(sa.func.count()).select_from(predictions).where(*asked)
        ).scalar_one()
        overdue = None if due is None else connection.execute(_overdue([*asked, due])).scalar_one()
        joined = _joined(forecast, asked, None, ranked=is_probability)
        whole = connection.execute(sa.select(*_figures(joined))).one()
        rows: list[Any] = []
        if by is not None:
            joined = _joined(forecast, asked, by, ranked=is_probability)
            rows = list(
                connection.execute(
                    sa.select(joined.c.tag, *_figures(joined))
                    .group_by(joined.c.tag)
                    .order_by(sa.func.max(joined.c.id).desc())
                    .limit(MAX_GROUPS)
                ).all()
            )
    groups = [_score(row, value=row.tag) for row in rows]
    return Performance(forecast, count, overdue, _score(whole), by, groups)


def _due(champion: Manifest, now: datetime) -> sa.ColumnElement[bool] | None:
    """Whether the target of a prediction is to be known by now; None where nobody declared when it is."""
    if champion.due_input is not None:
        days = predictions.c.inputs[champion.due_input].as_float()
        return sa.extract("epoch", predictions.c.time) + days * 86_400 <= now.timestamp()
    if champion.due_s is not None:
        return predictions.c.id < first_id(now - timedelta(seconds=champion.due_s))
    return None


def _overdue(due: list[sa.ColumnElement[bool]]) -> sa.Select[int]:
    """How many of the predictions that are due have no outcome of their own."""
    reported = sa.exists().where(outcomes.c.prediction_id == predictions.c.id)
    return sa.select(sa.func.count()).select_from(predictions).where(*due, ~reported)


def _joined(
    forecast: str, asked: list[sa.ColumnElement[bool]], by: str | None, *, ranked: bool
) -> sa.Subquery:
    """Predictions with their outcomes, their tag, and among those of the same tag the rank of each.

    Args:
        ranked: whether the rank is asked for, which takes a sort; else it is null.
    """
    latest = _latest_outcomes(forecast)
    tag = (sa.literal(None, sa.String) if by is None else predictions.c.tags[by].as_string()).label("tag")
    joined = (
        sa.select(
            tag,
            predictions.c.id,
            predictions.c.time,
            predictions.c.value,
            predictions.c.low,
            predictions.c.high,
            latest.c.value.label("outcome"),
        )
        .select_from(
            predictions.join(latest, sa.and_(latest.c.prediction_id == predictions.c.id, latest.c.rank == 1))
        )
        .where(*asked)
        .subquery()
    )
    if not ranked:
        return sa.select(joined, sa.cast(sa.null(), sa.Double).label("rank")).subquery()
    # Of equal predictions each has the middle of their ranks.
    first = sa.func.rank().over(partition_by=joined.c.tag, order_by=joined.c.value)
    alike = sa.func.count().over(partition_by=[joined.c.tag, joined.c.value])
    return sa.select(joined, sa.cast(first + (alike - 1) / 2.0, sa.Double).label("rank")).subquery()


def _figures(joined: sa.Subquery) -> list[sa.Label[Any]]:
    error = joined.c.value - joined.c.outcome
    covered = joined.c.outcome.between(joined.c.low, joined.c.high)
    yes = joined.c.outcome == 1
    return [
        sa.func.count().label("outcomes"),
        sa.func.avg(sa.func.abs(error)).label("mae"),
        sa.func.avg(error * error).label("mse"),
        sa.func.avg(error).label("bias"),
        sa.func.avg(sa.case((covered, 1.0), else_=0.0)).label("covered"),
        sa.func.min(joined.c.time).label("first"),
        sa.func.max(joined.c.time).label("last"),
        sa.func.sum(sa.case((yes, 1), else_=0)).label("yes"),
        sa.func.sum(sa.case((joined.c.outcome == 0, 1), else_=0)).label("no"),
        sa.func.sum(sa.case((yes, joined.c.rank))).label("ranks_of_yes"),
        sa.func.max(joined.c.rank).label("highest_rank"),
    ]


def _latest_outcomes(forecast: str) -> sa.Subquery:
    """The outcomes of single predictions; the highest revision of each has rank 1."""
    return (
        sa.select(
            outcomes.c.prediction_id,
            outcomes.c.value,
            sa.func.row_number()
            .over(partition_by=outcomes.c.subject, order_by=outcomes.c.revision.desc())
            .label("rank"),
        )
        .where(outcomes.c.forecast == forecast, outcomes.c.prediction_id.is_not(None))
        .subquery()
    )


def _score(row: sa.Row[Any], value: str | None = None) -> Score:
    # Ranks were asked for of a probability; its outcomes may be others where they came while no champion served.
    has_classes = row.highest_rank is not None and row.yes + row.no == row.outcomes
    has_both = has_classes and row.yes > 0 and row.no > 0
    rate = row.yes / row.outcomes if has_classes else 0.0
    return Score(
        value=value,
        outcomes=row.outcomes,
        mae=row.mae,
        rmse=None if row.mse is None else row.mse**0.5,
        bias=row.bias,
        covered=row.covered,
        first=row.first,
        last=row.last,
        base_rate=rate if has_classes else None,
        brier=row.mse if has_classes else None,
        brier_of_base_rate=rate * (1 - rate) if has_both else None,
        # Mann & Whitney 1947: how many pairs of a yes and a no are in order, from the ranks of the yes.
        auc=(row.ranks_of_yes - row.yes * (row.yes + 1) / 2) / (row.yes * row.no) if has_both else None,
    )
