"""What is needed of one closed window: rows by cell of everything that is watched.

A summary knows of no threshold, so that a changed one holds for windows of the past too, and summaries of several windows
add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import Manifest, MonitoringReference
from vroom_api.contract.struct import ContractStruct
from vroom_assets.monitoring import streams
from vroom_assets.monitoring.cells import Cells, binned, divided, units_of
from vroom_assets.spec import Monitoring

DIGITS = 4


class Summary(ContractStruct, frozen=True):
    """One window of one version, as it goes to JSON and back.

    predicted: predictions made. observed: predictions whose whole outcome arrived. partial: those of which a part of the
    horizon has passed.
    counts: units by cell, by stream: `feature:<name>`, `prediction`, `covered`, `expected:<name>`, `loss`, `residual`,
        `misses`, `pit`, `reliability`, `scored`, `segment:<tag>=<value>`.
    sums: what adds up, by name.
    """

    start: datetime
    end: datetime
    predicted: int = 0
    observed: int = 0
    partial: int = 0
    counts: dict[str, list[float]] = msgspec.field(default_factory=dict)
    sums: dict[str, float] = msgspec.field(default_factory=dict)


def summarize(
    manifest: Manifest,
    rules: Monitoring,
    start: datetime,
    end: datetime,
    predicted: pd.DataFrame,
    observed: pd.DataFrame,
) -> Summary:
    """Summarize one closed window of the version that a manifest describes.

    What was predicted of one entity in a window is not independent: give the latest prediction of each, and none that has the
    same inputs as one of an earlier window. Rows that belong together otherwise, e.g. of one race, count as one where they have the same value in a column `group` (or, if there is no
    such column, in the tag by which training grouped its rows).

    Args:
        start, end: of the window; `end` does not belong to it.
        predicted: predictions made in the window; columns `prediction`, each feature by its name (NaN where it is
            missing), and `group` if rows belong together.
        observed: predictions whose outcome arrived in the window, each once in the life of a version with its whole outcome
            (`exposure` 1). Columns `prediction`, `outcome`, `exposure` (share of the horizon that has passed), `low`,
            `high`, `level` (NaN where there is no interval), each feature by name, `tag_<name>` for each tag, and, if it
            applies, `group` and `calibration` (the number of a revision that answered instead of the manifest's calibration;
            such rows are left out of the check of all levels, `pit`, and their intervals judged as they were served).
            Rows with a smaller exposure are of counts: their outcome so far is compared with prediction × exposure, in the
            window alone, because what has passed of one prediction today is a part of what has passed tomorrow.

    Returns:
        a summary without counts where the manifest has no reference.

    Raises:
        ValueError: a column is missing; the message names it.
    """
    _require(manifest, predicted, ["prediction"])
    _require(manifest, observed, ["prediction", "outcome", "exposure", "low", "high", "level"])
    predicted, observed = _finite(predicted, ["prediction"]), _finite(observed, ["prediction", "outcome"])
    is_whole = observed["exposure"].to_numpy(float) >= 1.0
    whole_rows, partial_rows = observed[is_whole], observed[~is_whole]
    counts, sums = {}, _sums(manifest, whole_rows, partial_rows)
    reference = manifest.monitoring
    if reference is not None:
        by_model = whole_rows[~streams.is_by_fallback(manifest, whole_rows)]
        rng = np.random.default_rng(int(start.timestamp()))
        counts = predicted_counts(manifest, reference, predicted)
        counts |= observed_counts(manifest, reference, by_model, rules, rng)
        sums["scored_loss"] = _clipped_of_covered(manifest, reference, by_model)
    return Summary(
        start=start,
        end=end,
        predicted=len(predicted),
        observed=len(whole_rows),
        partial=len(partial_rows),
        counts={name: np.round(one, DIGITS).tolist() for name, one in counts.items()},
        sums=sums,
    )


def _finite(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The rows that have a number in each column."""
    return frame[np.isfinite(frame[columns].to_numpy(float)).all(axis=1)]


def _require(manifest: Manifest, frame: pd.DataFrame, columns: list[str]) -> None:
    wanted = [*columns, *(field.name for field in manifest.features)]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise ValueError(
            f"{manifest.forecast} version {manifest.version}: the window has no column {', '.join(missing)}"
        )


def units_in(reference: MonitoringReference, frame: pd.DataFrame) -> np.ndarray:
    """How much each row of a window counts, shape (rows,)."""
    for name in ("group", f"tag_{reference.group}"):
        if name in frame.columns:
            return units_of(frame[name].astype(str).to_numpy(), len(frame))
    return units_of(None, len(frame))


def predicted_counts(
    manifest: Manifest, reference: MonitoringReference, frame: pd.DataFrame
) -> dict[str, np.ndarray]:
    units = units_in(reference, frame)
    cells = streams.prediction_cells(manifest, reference, frame)
    counts = {name: one.counts(units) for name, one in cells.items()}
    prediction = frame["prediction"].to_numpy(float)
    expected = np.asarray(reference.prediction.loss_mean)[binned(prediction, reference.prediction.edges)]
    for field, _ in streams.fields_of(manifest, reference):
        counts[f"expected:{field.name}"] = cells[streams.feature_stream(field.name)].counts(units * expected)
    return counts


def observed_counts(
    manifest: Manifest,
    reference: MonitoringReference,
    frame: pd.DataFrame,
    rules: Monitoring,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    units = units_in(reference, frame)
    cells = streams.outcome_cells(manifest, reference, frame, rng)
    return {
        name: one.counts(units) for name, one in (cells | _segments(cells, reference, frame, rules)).items()
    }


def _segments(
    cells: Mapping[str, Cells], reference: MonitoringReference, frame: pd.DataFrame, rules: Monitoring
) -> dict[str, Cells]:
    """The losses of the rows of each segment that is watched and has a reference."""
    return {
        streams.segment_stream(one.tag, one.value): cells["loss"].only(
            frame[f"tag_{one.tag}"].astype(str).to_numpy() == one.value
        )
        for one in reference.segments
        if one.tag in rules.segments and f"tag_{one.tag}" in frame.columns
    }


def _clipped_of_covered(manifest: Manifest, reference: MonitoringReference, frame: pd.DataFrame) -> float:
    """The sum of the clipped losses of the rows that the label-free estimate covers."""
    units = units_in(reference, frame)
    covered = streams.is_covered(manifest, reference, frame)
    cells = divided(streams.losses(manifest, frame), 0.0, reference.bound).only(covered)
    share = np.linspace(0.0, reference.bound, cells.number)
    return round(float(cells.counts(units) @ share), DIGITS)


def _sums(manifest: Manifest, whole_rows: pd.DataFrame, partial_rows: pd.DataFrame) -> dict[str, float]:
    """Sums over rows: of losses, residuals, and of what has come so far beside what was to be expected of it."""
    early = partial_rows["outcome"].to_numpy(float) - partial_rows["prediction"].to_numpy(
        float
    ) * partial_rows["exposure"].to_numpy(float)
    return {
        "loss": float(streams.losses(manifest, whole_rows).sum()),
        "residual": float((whole_rows["outcome"] - whole_rows["prediction"]).sum()),
        "outcome": float(whole_rows["outcome"].sum()),
        "partial_residual": float(early.sum()),
        "partial_square": float((early**2).sum()),
    }
