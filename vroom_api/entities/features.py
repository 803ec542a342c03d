"""The features of stored entities, as the champion computes them for a prediction."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vroom_api.champion.loading import Champion, score
from vroom_api.entities.rows import EntityFeatures, EntityRow
from vroom_api.predictions.refusals import wrong


def features_of(champion: Champion, rows: Sequence[EntityRow]) -> list[EntityFeatures]:
    """The features of each, in their order; none of one whose stored inputs the champion does not take."""
    troubles = [_trouble(champion, row) for row in rows]
    fit = [row for row, trouble in zip(rows, troubles, strict=True) if trouble is None]
    computed: list[list[float]] = []
    if fit:
        encoded = [champion.encoder.encode(_values(champion, row)) for row in fit]
        _, features = score(champion, np.array(encoded, dtype=np.float64))
        computed = features.tolist()
    names = [field.name for field in champion.manifest.features]
    left = iter(computed)
    return [
        EntityFeatures(
            id=row.id,
            source=row.source,
            as_of=row.as_of,
            materialized=row.materialized,
            model_version=champion.version,
            features=dict(zip(names, map(_finite, next(left)), strict=True)) if trouble is None else None,
            trouble=trouble,
        )
        for row, trouble in zip(rows, troubles, strict=True)
    ]


def _values(champion: Champion, row: EntityRow) -> list[Any]:
    return [row.inputs.get(field.name) for field in champion.manifest.inputs]


def _trouble(champion: Champion, row: EntityRow) -> str | None:
    """Why the champion does not take the inputs that are stored."""
    for field, value in zip(champion.manifest.inputs, _values(champion, row), strict=True):
        if value is None and not field.nullable:
            return f"{field.name}: nothing is stored of it; save the entity again, or materialize online_features"
        if why := wrong(value, field):
            return f"{field.name}: the stored value {value!r} {why} what the champion takes"
    return None


def _finite(value: float) -> float | None:
    """JSON has no number for what is not one."""
    return value if math.isfinite(value) else None
