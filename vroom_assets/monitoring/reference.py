"""What live rows are compared with, from the features of training and the out-of-fold predictions of the chosen recipe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vroom_api.contract import (
    Calibration,
    FeatureField,
    FeatureReference,
    MonitoringReference,
    PredictionReference,
    SegmentReference,
)
from vroom_assets.features.table import Dataset
from vroom_assets.monitoring import streams
from vroom_assets.monitoring.cells import Cells, binned, divided, units_of, whole
from vroom_assets.training.intervals import INTERVAL_LEVEL, OutOfFold, across_folds
from vroom_assets.training.metrics import MetricSet
from vroom_assets.training.search import Search

PARTS, LEAST_ROWS = 15, 20  # bins of the prediction, and rows of each
LEVELS = 10  # a feature with at most so many values has a bin of each
REACH = 1.5  # times the 99 % quantile of losses: where they are clipped
MOST_VALUES = 5  # of a tag: the most frequent ones have a reference
DIGITS = 4  # of units: fewer bytes, and nothing is lost by them


def out_of_fold(found: Search, target: np.ndarray) -> tuple[np.ndarray, OutOfFold]:
    """Row numbers, ascending, and predictions that the chosen recipe made of them without having seen them."""
    mine = found.out_of_fold
    mine = mine[(mine["candidate"] == found.chosen) & (mine["repeat"] == 0)]
    mine = mine[np.isfinite(mine["prediction"])].sort_values("row")
    rows = mine["row"].to_numpy()
    return rows, OutOfFold(target[rows], mine["prediction"].to_numpy(float), mine["fold"].to_numpy())


def reference_of(
    data: Dataset,
    found: Search,
    fields: Sequence[FeatureField],
    calibration: Calibration,
    metric_set: MetricSet,
    *,
    categories: frozenset[str] = frozenset(),
    group: str = "",
) -> MonitoringReference | None:
    """How training rows and the errors of out-of-fold predictions are distributed.

    Args:
        fields: of the features, as the manifest has them.
        calibration: of the intervals; those of each fold's rows are made by the other folds.
        categories: features whose order means nothing.
        group: the column that `data.row_structure.groups` is.

    Returns:
        None where nothing was predicted out of fold.
    """
    rows, scored = out_of_fold(found, data.target)
    if not len(rows):
        return None
    groups = data.row_structure.groups
    return of_rows(
        data.features,
        groups,
        rows,
        scored,
        fields,
        calibration,
        metric_set,
        tags=data.tags,
        categories=categories,
        group=group if groups is not None else "",
    )


def of_rows(
    features: pd.DataFrame,
    groups: np.ndarray | None,
    rows: np.ndarray,
    scored: OutOfFold,
    fields: Sequence[FeatureField],
    calibration: Calibration,
    metric_set: MetricSet,
    *,
    tags: pd.DataFrame | None = None,
    categories: frozenset[str] = frozenset(),
    group: str = "",
) -> MonitoringReference:
    """The reference of a frame of features and of the predictions of some of its rows.

    Args:
        groups: shape (all rows,), or None where they are independent. rows: numbers of the scored rows.
    """
    units = units_of(groups, len(features))
    scored_units = units_of(None if groups is None else groups[rows], len(rows))
    loss = metric_set.row_loss(scored.target, scored.prediction)
    bound = 1.0 if metric_set.kind.is_probability else REACH * float(np.quantile(loss, 0.99))
    bound = bound or max(1.0, float(np.abs(scored.target).max()))  # where everything was predicted exactly
    clipped = np.minimum(loss, bound)
    residual = scored.target - scored.prediction
    return MonitoringReference(
        units=float(units.sum()),
        scored=float(scored_units.sum()),
        metric=metric_set.error,
        error=float(np.average(loss, weights=scored_units)),
        bound=bound,
        loss=_counted(divided(clipped, 0.0, bound), scored_units),
        residual=_counted(divided(residual, -bound, bound), scored_units),
        features=[
            _feature(field, features[field.name].to_numpy(float), groups, units, rows, clipped, categories)
            for field in fields
        ],
        prediction=_prediction(scored.prediction, clipped, scored_units),
        level=INTERVAL_LEVEL,
        group=group,
        segments=_segments(tags, rows, divided(clipped, 0.0, bound), scored_units),
        **_calibrated(scored, calibration, metric_set, scored_units),
    )


def _counted(cells: Cells, units: np.ndarray) -> list[float]:
    return np.round(cells.counts(units), DIGITS).tolist()


def _feature(
    field: FeatureField,
    values: np.ndarray,
    groups: np.ndarray | None,
    units: np.ndarray,
    rows: np.ndarray,
    losses: np.ndarray,
    categories: frozenset[str],
) -> FeatureReference:
    bins = len(field.edges) + 1
    known = values[~np.isnan(values)]
    levels = np.unique(known)
    levels = levels if len(levels) <= LEVELS else levels[:0]
    position = np.where(np.isnan(values), bins, binned(values, field.edges))
    counts = np.bincount(position, units, bins + 1)
    unseen = left_out_units(field, values, groups, units, levels)
    scored = position[rows]
    with_value = scored < bins
    sums = np.bincount(scored[with_value], losses[with_value], bins)
    number = np.bincount(scored[with_value], minlength=bins)
    mean = np.where(number > 0, sums / np.maximum(number, 1), losses.mean())
    return FeatureReference(
        name=field.name,
        units=np.round([*counts, unseen], DIGITS).tolist(),
        levels=levels.tolist(),
        ordered=field.name not in categories,
        losses=mean.tolist(),
    )


def left_out_units(
    field: FeatureField,
    values: np.ndarray,
    groups: np.ndarray | None,
    units: np.ndarray,
    levels: np.ndarray,
) -> float:
    """Units whose value all others together would not have seen: what share of new ones is not seen either.

    Of a range they are those that hold an end of it alone, of levels those of one unit.
    """
    known = ~np.isnan(values)
    if not known.any():
        return 0.0
    member = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(levels):
        owned = [np.unique(member[values == level]) for level in levels]
        alone = [level for level, owners in zip(levels, owned, strict=True) if len(owners) == 1]
        return float(units[np.isin(values, alone)].sum())
    low, high = np.nanmin(values), np.nanmax(values)
    if field.seen_maximum is not None and field.seen_maximum > high:
        high = np.inf  # of a trend, which goes on
    left_out = np.zeros(len(values), dtype=bool)
    for end in (low, high):
        owners = np.unique(member[values == end])
        if len(owners) != 1:
            continue
        mine = member == owners[0]
        others = values[known & ~mine]
        if len(others):
            left_out |= mine & known & ((values < others.min()) if end == low else (values > others.max()))
    return float(units[left_out].sum())


def _prediction(prediction: np.ndarray, losses: np.ndarray, units: np.ndarray) -> PredictionReference:
    parts = max(1, min(PARTS, len(prediction) // LEAST_ROWS))
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, parts + 1)[1:-1]))
    position = binned(prediction, edges)
    number = np.bincount(position, minlength=len(edges) + 1)
    sums = np.bincount(position, losses, len(edges) + 1)
    squares = np.bincount(position, losses**2, len(edges) + 1)
    mean = np.where(number > 0, sums / np.maximum(number, 1), losses.mean())
    variance = np.maximum(squares - number * mean**2, 0.0) / np.maximum(number - 1, 1)
    return PredictionReference(
        edges=edges.tolist(),
        units=_counted(whole(position, len(edges) + 1), units),
        loss_mean=mean.tolist(),
        loss_sd=np.where(number > 1, np.sqrt(variance), losses.std()).tolist(),
    )


def _calibrated(
    scored: OutOfFold, calibration: Calibration, metric_set: MetricSet, units: np.ndarray
) -> dict[str, list]:
    if calibration.reliability is not None:
        edges = calibration.reliability.edges
        cells = streams.reliability_cells(edges, scored.target, scored.prediction)
        return {"reliability": np.round(cells.counts(units), DIGITS).reshape(len(edges) + 1, -1).tolist()}
    misses, pit = np.zeros(3), np.zeros(streams.TENTHS)
    with_spread = calibration.spread is not None
    for mine, others in across_folds(scored, metric_set, with_spread):
        target, prediction = scored.target[mine], scored.prediction[mine]
        low, high = others.bounds(prediction, INTERVAL_LEVEL)
        frame = pd.DataFrame({"low": low, "high": high, "level": INTERVAL_LEVEL, "outcome": target})
        misses += streams.miss_cells(INTERVAL_LEVEL, frame).counts(units[mine])
        rng = np.random.default_rng(int(scored.fold[mine][0]))
        pit += streams.pit_cells(others, target, prediction, rng).counts(units[mine])
    return {"misses": np.round(misses, DIGITS).tolist(), "pit": np.round(pit, DIGITS).tolist()}


def _segments(
    tags: pd.DataFrame | None, rows: np.ndarray, losses: Cells, units: np.ndarray
) -> list[SegmentReference]:
    """Of each tag the values with most rows."""
    found: list[SegmentReference] = []
    if tags is None:
        return found
    for tag in tags.columns:
        values = tags[tag].to_numpy()[rows].astype(str)
        names, number = np.unique(values, return_counts=True)
        for value in names[np.argsort(-number, kind="stable")][:MOST_VALUES]:
            found.append(
                SegmentReference(
                    tag=str(tag), value=str(value), loss=_counted(losses.only(values == value), units)
                )
            )
    return found
