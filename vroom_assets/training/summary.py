"""What a search found, as tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vroom_api.contract import FeatureField
from vroom_assets.features.table import Dataset, note_origin
from vroom_assets.training.metrics import Measures
from vroom_assets.training.search import Search

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def write_search(connection: DuckDBPyConnection, found: Search, data: Dataset) -> None:
    """Replace the tables of scores and of out-of-fold predictions, in one transaction."""
    scores = found.fold_metrics
    predictions = found.out_of_fold.assign(
        entity_key=data.keys[found.out_of_fold["row"]], target=data.target[found.out_of_fold["row"]]
    )
    connection.begin()
    try:
        for name, frame in {"cv_metrics": scores, "out_of_fold": predictions}.items():
            connection.register("given", frame)
            connection.execute(f"create or replace table {name} as from given")
            connection.unregister("given")
            note_origin(connection, name, {"data_version": data.data_version, "chosen": found.chosen})
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def error_by(values: pd.Series, found: Search, target: np.ndarray, measures: Measures) -> pd.DataFrame:
    """The nested error in parts of the rows, those with the largest first.

    Args:
        values: shape (rows,), texts; rows of one text are a part.

    Returns:
        columns value, rows and the metric by which errors are told.
    """
    seen = found.predicted
    parts = pd.Series(seen).groupby(values.to_numpy()[seen])
    score = measures.metrics[measures.error]
    rows = [
        {"value": value, "rows": len(part), measures.error: score(target[part], found.nested[part])}
        for value, part in ((value, part.to_numpy()) for value, part in parts)
    ]
    return pd.DataFrame(rows).sort_values(measures.error, ascending=False, ignore_index=True)


def reference(name: str, expression: str, values: np.ndarray, bins: int = 10) -> FeatureField:
    """How a feature was distributed in training: deciles, or one bin per level of a discrete feature."""
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


def summary(
    found: Search, target: np.ndarray, measures: Measures, reference: str | None = None
) -> dict[str, float]:
    """The figures that stand for a training: nested error, skill over the baselines, folds of the chosen.

    Args:
        reference: a candidate; how much larger than its error the nested error is, as a share of it.
    """
    mine = found.fold_metrics.query("candidate == @found.chosen")
    error, select = measures.error, measures.select
    seen = found.predicted
    figures = {
        f"nested_{name}": score(target[seen], found.nested[seen]) for name, score in measures.metrics.items()
    }
    figures |= {
        f"cv_{metric}_{statistic}": float(getattr(mine[metric], statistic)())
        for metric in measures.metrics
        for statistic in ("mean", "std")
    }
    figures |= {
        f"cv_{error}_fold_{number}": float(value) for number, value in enumerate(mine[error].to_numpy())
    }
    if reference is not None:
        allowed = measures.metrics[error](target[seen], found.predictions(reference))
        figures["loss_over_reference"] = figures[f"nested_{error}"] / allowed - 1.0
    for name in measures.baselines:
        theirs = found.fold_metrics.query("candidate == @name and repeat == 0")
        for metric in (error, select):
            figures[f"{name}_{metric}"] = float(theirs[metric].mean())
            figures[f"skill_{metric}_over_{name}"] = (
                1.0 - figures[f"nested_{metric}"] / figures[f"{name}_{metric}"]
            )
    return figures
