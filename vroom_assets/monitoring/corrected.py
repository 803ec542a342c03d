"""A champion whose calibration was corrected is judged as it is now.

Outcomes of a year arrive for a year after a correction, of predictions that were answered before it. What has to be known is
whether the calibration in force holds, so such outcomes are judged by it too, and what was found before it was made says
nothing about it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import Manifest
from vroom_api.contract.calibrations import (
    CalibrationError,
    CalibrationRevision,
    read_in_force,
    revision_of,
    revisions,
)
from vroom_assets.monitoring.recalibration import of_the_model
from vroom_assets.monitoring.summary import Summary

log = logging.getLogger(__name__)

OF_INTERVALS = frozenset({"misses", "pit"})  # streams of a summary that a correction of intervals changes
OF_PROBABILITIES = frozenset({"reliability", "loss", "residual", "scored"})


def judged_as_corrected(
    forecast: str, manifest: Manifest, observed: pd.DataFrame
) -> tuple[Manifest, pd.DataFrame]:
    """`as_in_force` by the revisions of a forecast; where what is in force cannot be read, rows are as they were answered."""
    try:
        return as_in_force(manifest, observed, revision_of(manifest, forecast), revisions(forecast))
    except CalibrationError as error:
        log.warning("outcomes are judged by the intervals that were answered: %s", error)
        return manifest, observed


def judged_since(forecast: str, manifest: Manifest, summaries: Sequence[Summary]) -> list[Summary]:
    """`since_made` by what is in force of a forecast."""
    try:
        pointer = read_in_force(forecast)
        mine = pointer is not None and (pointer.number is None or revision_of(manifest, forecast) is not None)
    except CalibrationError:  # the service says so
        return list(summaries)
    return since_made(manifest, summaries, pointer.since if pointer is not None and mine else None)


def as_in_force(
    manifest: Manifest,
    observed: pd.DataFrame,
    in_force: CalibrationRevision | None,
    known: Mapping[int, CalibrationRevision],
) -> tuple[Manifest, pd.DataFrame]:
    """The manifest and outcomes as if what is in force now had answered, for `summarize`.

    Args:
        manifest: of the bundle, not corrected.
        observed: columns `prediction`, `low`, `high`, `level`, `calibration`; others are kept.
        in_force: None for the bundle's own.
        known: by number, those that may have answered.
    """
    if in_force is None and not observed["calibration"].notna().any():
        return manifest, observed
    prediction = observed["prediction"].to_numpy(float)
    if manifest.kind.is_probability:
        prediction = of_the_model(prediction, observed, known)
        prediction = prediction if in_force is None else in_force.probabilities(prediction)
    corrected = manifest if in_force is None else in_force.manifest(manifest)
    low, high = observed["low"].to_numpy(float).copy(), observed["high"].to_numpy(float).copy()
    levels = observed["level"].to_numpy(float)
    for level in np.unique(levels[~np.isnan(levels)]).tolist():
        mine = levels == level
        low[mine], high[mine] = corrected.calibration.bounds(prediction[mine], level)
    return corrected, observed.assign(prediction=prediction, low=low, high=high, calibration=None)


def since_made(manifest: Manifest, summaries: Sequence[Summary], in_force_since: str | None) -> list[Summary]:
    """Summaries of which those before a correction say nothing about what it has corrected.

    Args:
        in_force_since: ISO 8601, since when what corrects the champion does, or the bundle's own is in force again; None
            where nothing ever corrected it.
    """
    if in_force_since is None:
        return list(summaries)
    moment = datetime.fromisoformat(in_force_since)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    changed = OF_INTERVALS | (OF_PROBABILITIES if manifest.kind.is_probability else frozenset())
    return [one if one.start >= moment else _without(one, changed) for one in summaries]


def _without(summary: Summary, streams: frozenset[str]) -> Summary:
    counts = {name: cells for name, cells in summary.counts.items() if name not in streams}
    return msgspec.structs.replace(summary, counts=counts)
