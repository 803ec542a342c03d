"""What a search found, as tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vroom_api.contract import FeatureField, Scores
from vroom_assets.features.table import Dataset, note_origin
from vroom_assets.sql import transaction
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.search import Search

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def write_search(connection: DuckDBPyConnection, found: Search, data: Dataset) -> None:
    """Replace the tables of scores and of out-of-fold predictions, in one transaction."""
    scores = found.fold_metrics
    predictions = found.out_of_fold.assign(
        entity_key=data.keys[found.out_of_fold["row"]], target=data.target[found.out_of_fold["row"]]
    )
    with transaction(connection):
        for name, frame in {"cv_metrics": scores, "out_of_fold": predictions}.items():
            connection.register("given", frame)
            connection.execute(f"create or replace table {name} as from given")
            connection.unregister("given")
            note_origin(connection, name, {"data_version": data.data_version, "chosen": found.chosen})


def error_by(values: pd.Series, found: Search, target: np.ndarray, metric_set: MetricSet) -> pd.DataFrame:
    """The nested error in parts of the rows, those with the largest first.

    Args:
        values: shape (rows,), texts; rows of one text are a part.

    Returns:
        columns value, rows and the metric by which errors are reported.
    """
    seen = found.predicted
    parts = pd.Series(seen).groupby(values.to_numpy()[seen])
    score = metric_set.metrics[metric_set.error]
    rows = [
        {"value": value, "rows": len(part), metric_set.error: score(target[part], found.nested[part])}
        for value, part in ((value, part.to_numpy()) for value, part in parts)
    ]
    return pd.DataFrame(rows).sort_values(metric_set.error, ascending=False, ignore_index=True)


def reference(name: str, expression: str, values: np.ndarray, bins: int = 10) -> FeatureField:
    """How a feature was distributed in training where it was not missing: deciles, or one bin per level of a discrete
    feature."""
    values = values[~np.isnan(values)]
    levels = np.unique(values)
    edges = (
        (levels[1:] + levels[:-1]) / 2
        if len(levels) <= bins
        else np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    )
    edges = np.unique(edges)
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return FeatureField(
        name=name, expression=expression, edges=edges.tolist(), shares=(counts / len(values)).tolist()
    )


def scores(
    found: Search,
    target: np.ndarray,
    metric_set: MetricSet,
    reference: str | None = None,
    coverage: dict[str, float] | None = None,
) -> Scores:
    """The figures that stand for a search.

    Args:
        reference: a candidate; how much larger than its error the nested error is, as a share of it.
        coverage: of the calibration, at the 0.9 level.
    """
    mine = found.fold_metrics.query("candidate == @found.chosen")
    error, select = metric_set.error, metric_set.select
    seen = found.predicted
    nested = {name: score(target[seen], found.nested[seen]) for name, score in metric_set.metrics.items()}
    loss = None
    if reference is not None:
        loss = nested[error] / metric_set.metrics[error](target[seen], found.predictions(reference)) - 1.0
    theirs = {
        name: found.fold_metrics.query("candidate == @name and repeat == 0") for name in metric_set.baselines
    }
    return Scores(
        error=error,
        select=select,
        nested=nested,
        cv_mean={metric: float(mine[metric].mean()) for metric in metric_set.metrics},
        cv_std={metric: float(mine[metric].std()) for metric in metric_set.metrics},
        folds=mine[error].tolist(),
        baselines={
            name: {metric: float(folds[metric].mean()) for metric in (error, select)}
            for name, folds in theirs.items()
        },
        coverage=coverage or {},
        loss_over_reference=loss,
        why=found.choice.why,
    )
