"""Recorded requests, and the answers that another version would give to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from vroom_api.champion.loading import Champion, prepare
from vroom_api.contract import Bundle, Pointer
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.calibrations import CalibrationRevision
from vroom_api.contract.intervals import DEFAULT_LEVEL
from vroom_api.contract.tables import predictions
from vroom_api.predictions import bulk

Inputs = Mapping[str, float | str | None]  # by name, as a caller sends them


@dataclass(frozen=True)
class Requests:
    """What was asked and answered, oldest first.

    inputs: of each, as it was recorded. value, low, high, level: what it was answered with, shapes (n,).
    """

    ids: Sequence[str]
    versions: Sequence[int]
    inputs: Sequence[Inputs]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: np.ndarray


def latest_requests(engine: sa.Engine, forecast: str, count: int) -> Requests:
    """The newest recorded requests of a forecast, at most so many."""
    columns = [predictions.c[name] for name in ("id", "version", "inputs", "value", "low", "high", "level")]
    newest_first = (
        sa.select(*columns)
        .where(predictions.c.forecast == forecast)
        .order_by(predictions.c.id.desc())
        .limit(count)
    )
    expand_blocks(engine)
    with engine.connect() as connection:
        rows = list(reversed(connection.execute(newest_first).fetchall()))
    numbers = np.array([row[3:] for row in rows], dtype=float).reshape(-1, 4)
    return Requests(
        ids=[row.id for row in rows],
        versions=[row.version for row in rows],
        inputs=[row.inputs for row in rows],
        value=numbers[:, 0],
        low=numbers[:, 1],
        high=numbers[:, 2],
        level=numbers[:, 3],
    )


@dataclass(frozen=True)
class Answers:
    """What a version answers, shapes (n,); NaN where it refuses, and why by position."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    refused: dict[int, str]


def answers_of(
    bundle: Bundle,
    inputs: Sequence[Inputs],
    levels: np.ndarray | None = None,
    revision: CalibrationRevision | None = None,
) -> Answers:
    """The answers of a version that need not serve, by the rules that the service answers with.

    Args:
        levels: of the intervals, shape (n,); the default one where it is not given.
        revision: what corrects it.

    Raises:
        BundleError: its model is not the one that was trained.
    """
    return _answers(_loaded(bundle, revision), inputs, levels)


def _loaded(bundle: Bundle, revision: CalibrationRevision | None) -> Champion:
    pointer = Pointer(
        generation=0,
        version=bundle.manifest.version,
        manifest_sha256="",
        published_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return prepare(bundle, pointer, revision=revision)


def _answers(champion: Champion, inputs: Sequence[Inputs], levels: np.ndarray | None) -> Answers:
    count = len(inputs)
    value, low, high = (np.full(count, np.nan) for _ in range(3))
    refused: dict[int, str] = {}
    wanted = np.full(count, DEFAULT_LEVEL) if levels is None else levels
    for level in np.unique(wanted):
        rows = np.flatnonzero(wanted == level).tolist()
        columns: dict[str, Sequence[Any]] = {
            field.name: [inputs[row].get(field.name) for row in rows] for field in champion.manifest.inputs
        }
        found = bulk.answer(champion, columns, len(rows), float(level))
        value[rows], low[rows], high[rows] = found.predictions, found.low, found.high
        refused |= {rows[at]: why for at, why in found.refused.items()}
    return Answers(value, low, high, dict(sorted(refused.items())))
