"""Live performance: recorded predictions beside what really happened, as outcomes say."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.tables import outcomes, predictions
from vroom_api.record.prediction import first_id

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


class Performance(msgspec.Struct, frozen=True):
    """How good predictions were. Of a probability `rmse` is the root of the Brier score."""

    forecast: str
    predictions: int  # recorded in that time, with or without an outcome
    all: Score
    by: str | None
    groups: list[Score]  # by the tag, those with the latest predictions first


def performance(
    engine: sa.Engine,
    forecast: str,
    *,
    by: str | None = None,
    version: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Performance:
    """Errors of the predictions of a forecast, all together and for each value of a tag.

    Outcomes that were reported of an entity and a period belong to no single prediction and do not count here.
    """
    asked = [predictions.c.forecast == forecast]
    if version is not None:
        asked.append(predictions.c.version == version)
    if start is not None:
        asked.append(predictions.c.id >= first_id(start))
    if end is not None:
        asked.append(predictions.c.id < first_id(end))
    latest = _latest_outcomes(forecast)
    with_outcome = predictions.join(
        latest, sa.and_(latest.c.prediction_id == predictions.c.id, latest.c.rank == 1)
    )
    error = predictions.c.value - latest.c.value
    covered = latest.c.value.between(predictions.c.low, predictions.c.high)
    figures = (
        sa.func.count().label("outcomes"),
        sa.func.avg(sa.func.abs(error)).label("mae"),
        sa.func.avg(error * error).label("mse"),
        sa.func.avg(error).label("bias"),
        sa.func.avg(sa.case((covered, 1.0), else_=0.0)).label("covered"),
        sa.func.min(predictions.c.time).label("first"),
        sa.func.max(predictions.c.time).label("last"),
    )
    with engine.connect() as connection:
        count = connection.execute(
            sa.select(sa.func.count()).select_from(predictions).where(*asked)
        ).scalar_one()
        whole = connection.execute(sa.select(*figures).select_from(with_outcome).where(*asked)).one()
        rows: list[Any] = []
        if by is not None:
            value = predictions.c.tags[by].as_string().label("tag")
            rows = list(
                connection.execute(
                    sa.select(value, *figures)
                    .select_from(with_outcome)
                    .where(*asked)
                    .group_by(value)
                    .order_by(sa.func.max(predictions.c.id).desc())
                    .limit(MAX_GROUPS)
                ).all()
            )
    return Performance(forecast, count, _score(whole), by, [_score(row, value=row.tag) for row in rows])


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
    return Score(
        value=value,
        outcomes=row.outcomes,
        mae=row.mae,
        rmse=None if row.mse is None else row.mse**0.5,
        bias=row.bias,
        covered=row.covered,
        first=row.first,
        last=row.last,
    )
