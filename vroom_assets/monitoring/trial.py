"""A second version beside the champion: which of the two is better on the same requests, while it is tried.

Whoever has answered a request, the other version's answer to it is known too: from the record of what was in shadow, else it
is scored again. So each request whose outcome is known gives a pair of losses, and two bets are made on their differences: one
that the second version is worse by more than is tolerated, one that it is better. Each may be looked up after every window;
each has half of the declared probability of an error, so a verdict of either kind is wrong with at most that probability,
however long the trial lasts (`shadow`, whose pairs and bets these are).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vroom_api.contract import Bundle, Pointer
from vroom_api.contract.calibrations import CalibrationError, CalibrationRevision, revision_of
from vroom_api.contract.checks import Check, Status
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import shadow_predictions
from vroom_api.contract.trials import TRIAL_CHECK, TrialVerdict
from vroom_assets.monitoring.betting import log_evidence
from vroom_assets.monitoring.shadow import (
    Succession,
    bet_on,
    by_window,
    counted,
    inputs_of,
    largest_gain,
    reference_loss,
    typical_gain,
)
from vroom_assets.scoring.recorded import answers_of
from vroom_assets.spec import Contest, ForecastSpec, Monitoring

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STATUSES = {
    TrialVerdict.BETTER: Status.OK,
    TrialVerdict.WORSE: Status.ALARM,
    TrialVerdict.OPEN: Status.UNKNOWN,
}
_AT_ONCE = 1_000  # ids of one query


@dataclass(frozen=True)
class TrialFinding:
    """What the outcomes say of a trial. numbers: by name, for metadata and the ledger; losses are means over the same requests."""

    verdict: TrialVerdict
    sentence: str
    rows: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """Losses of both versions on the same requests, shape (n,), and how much they could differ.

    reach: the largest absolute difference that each could have. typical: the largest on typical rows. tolerated: the difference
    by which the second version may be worse.
    """

    champion: np.ndarray
    second: np.ndarray
    reach: np.ndarray
    typical: float
    tolerated: float


def pair_of(forecast: str, pointer: Pointer) -> Succession:
    """The two versions of a pointer's trial, as if the second one had followed the champion when the trial began.

    Raises:
        BundleError: a bundle is damaged.
        ValueError: none is tried.
    """
    trial = pointer.trial
    if trial is None:
        raise ValueError(f"{forecast}: no version is tried")
    store = LocalStore()
    since = datetime.fromisoformat(trial.since)
    return Succession(
        pointer=pointer,
        since=since if since.tzinfo else since.replace(tzinfo=UTC),
        successors=frozenset({pointer.version, trial.version}),
        successor=store.read(forecast, trial.version, trial.manifest_sha256),
        replaced=pointer,
        predecessor=store.read(forecast, pointer.version, pointer.manifest_sha256),
    )


def rows_of(connection: DuckDBPyConnection, found: Succession) -> pd.DataFrame:
    """What the two versions have answered and what came of it, from the warehouse's feedback."""
    from vroom_assets.monitoring import feedback

    manifest = found.predecessor.manifest
    return feedback.read(connection, manifest, versions=sorted(found.successors), with_outcome=True)


def judge(
    spec: ForecastSpec, found: Succession, rows: pd.DataFrame, in_shadow: Mapping[str, float] | None = None
) -> TrialFinding:
    """The verdict on a trial by all outcomes that are known.

    Args:
        rows: predictions of both versions with their outcomes, columns as `shadow.watch_successor` takes them, and `id`.
        in_shadow: what the second version would have answered, by the id of the prediction; the rest is scored again.
    """
    kept = counted(found, rows[pd.to_datetime(rows["time"], utc=True) >= found.since], None)
    champion, second = (
        _values(kept, bundle, known)
        for bundle, known in ((found.predecessor, {}), (found.successor, in_shadow or {}))
    )
    both = np.isfinite(champion) & np.isfinite(second)
    kept, champion, second = kept[both], champion[both], second[both]
    one, other = found.pointer.version, found.successor.manifest.version
    names = f"version {other} beside version {one}"
    if not len(kept):
        refused = int((~both).sum())
        why = (
            f"none of {refused:,} requests could be answered by both"
            if refused
            else "no outcome is known yet"
        )
        return TrialFinding(TrialVerdict.OPEN, f"{names}: {why}", 0, {"rows": 0.0})
    losses = losses_of(spec, found, kept["outcome"].to_numpy(float), champion, second)
    worse, better = (by_window(spec, found, kept, values) for values in bets(losses))
    return verdict_on(names, losses, worse, better, spec.monitoring)


def losses_of(
    spec: ForecastSpec, found: Succession, outcome: np.ndarray, champion: np.ndarray, second: np.ndarray
) -> Losses:
    """Losses of answers in the measure that contests are decided by; all of shape (n,)."""
    from vroom_assets.training.metrics import METRIC_SETS

    manifest = found.predecessor.manifest
    metric_set = METRIC_SETS[manifest.kind]
    return Losses(
        metric_set.row_loss(outcome, champion),
        metric_set.row_loss(outcome, second),
        largest_gain(manifest.kind, second, champion),
        typical_gain(found),
        tolerated_loss(spec.contest, reference_loss(manifest, metric_set.error)),
    )


def tolerated_loss(rules: Contest, reference: float) -> float:
    """By how much a second version may be worse: as a refresh may."""
    return rules.margin * reference


def bets(losses: Losses) -> tuple[np.ndarray, np.ndarray]:
    """What is bet on, shapes (n,): above 1/2 on average where the second version is worse than is tolerated, or better."""
    difference = losses.second - losses.champion
    worse = bet_on(difference, losses.reach, losses.typical, losses.tolerated)
    return worse, bet_on(-difference, losses.reach, losses.typical, 0.0)


def verdict_on(
    names: str, losses: Losses, worse: Sequence[np.ndarray], better: Sequence[np.ndarray], rules: Monitoring
) -> TrialFinding:
    """The verdict by two bets.

    Args:
        names: the two versions, as a sentence begins.
        worse, better: of `bets`, by window.
    """
    needed = math.log(2 / rules.false_alarms)  # of two verdicts, each half
    evidence = {"worse": _most(worse), "better": _most(better)}
    champion, second = float(losses.champion.mean()), float(losses.second.mean())
    relative = (second - champion) / champion if champion > 0 else 0.0
    verdict = TrialVerdict.OPEN
    if evidence["worse"] >= needed and second - champion > losses.tolerated:
        verdict = TrialVerdict.WORSE
    elif evidence["better"] >= needed and second < champion:
        verdict = TrialVerdict.BETTER
    rows = len(losses.champion)
    sentence = (
        f"{names}: {verdict.value}; mean loss {second:.4g} against {champion:.4g} ({relative:+.1%}) on the same {rows:,} "
        f"requests whose outcomes are known; evidence {evidence['worse']:.2f} that it is worse, {evidence['better']:.2f} "
        f"that it is better, {needed:.2f} is needed"
    )
    numbers = {
        "rows": float(rows),
        "loss": second,
        "champion_loss": champion,
        "relative_loss": relative,
        "tolerated": losses.tolerated,
        "worse_evidence": evidence["worse"],
        "better_evidence": evidence["better"],
        "evidence_needed": needed,
    }
    return TrialFinding(verdict, sentence, rows, numbers)


def check_of(forecast: str, found: Succession, finding: TrialFinding, until: datetime) -> Check:
    """A finding as the serving database keeps it.

    Args:
        until: the end of the latest closed window, with a zone.
    """
    return Check(
        forecast=forecast,
        version=found.successor.manifest.version,
        name=TRIAL_CHECK,
        window_start=found.since,
        window_end=until,
        rows=finding.rows,
        status=STATUSES[finding.verdict],
        values=dict(finding.numbers),
        message=finding.sentence,
    )


def shadow_values(engine: sa.Engine, version: int, ids: Sequence[str]) -> dict[str, float]:
    """What a version has answered in shadow, by the ids of predictions; those that it has not are missing."""
    table = shadow_predictions
    values: dict[str, float] = {}
    with engine.connect() as connection:
        for start in range(0, len(ids), _AT_ONCE):
            query = sa.select(table.c.id, table.c.value).where(
                table.c.version == version, table.c.id.in_(ids[start : start + _AT_ONCE])
            )
            values |= {row.id: row.value for row in connection.execute(query)}
    return values


def _most(windows: Sequence[np.ndarray]) -> float:
    return float(log_evidence(windows, 0.5).max())


def _values(kept: pd.DataFrame, bundle: Bundle, known: Mapping[str, float]) -> np.ndarray:
    """What a version has answered, or would have, shape (n,); NaN where it refuses."""
    version = bundle.manifest.version
    values = np.where(kept["version"] == version, kept["prediction"].to_numpy(float), np.nan)
    if known:
        others = kept["id"].map(known).to_numpy(float)
        values = np.where(np.isnan(values), others, values)
    missing = np.isnan(values)
    if missing.any():
        again = answers_of(bundle, inputs_of(kept[missing]), revision=_revision(bundle))
        values[missing] = again.value
    return values


def _revision(bundle: Bundle) -> CalibrationRevision | None:
    """What corrects a version now; of intervals nothing is asked here, of probabilities it is part of the answer."""
    try:
        return revision_of(bundle.manifest, bundle.manifest.forecast)
    except CalibrationError:  # the service says so
        return None
