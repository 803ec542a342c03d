"""In shadow: after a promotion the version before answers the same recorded requests, unseen: those of the declared days,
whenever their outcomes come.

Nothing of the traffic is copied: the requests are in the record, and their outcomes decide. For each request the loss of the
new version minus that of the one before is bet on (`betting`), so that the test may be looked up after every window: the
probability that a version which is not worse is ever rolled back is at most the declared one (Ville 1939; Waudby-Smith & Ramdas
2024, doi:10.1093/jrsssb/qkad009).

How large a difference can be is known before the outcome is: absolute errors of two predictions differ at most by as much as
the predictions do, squared errors of two probabilities at most by the difference of their squares. So nothing is clipped.
Where two versions differ by more than they do anywhere on typical rows, the difference counts as if it was as large as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import pandas as pd

from vroom_api.contract import (
    Bundle,
    BundleError,
    Kind,
    Manifest,
    Pointer,
)
from vroom_api.contract.store import LocalStore
from vroom_assets.champion.publication import training_of
from vroom_assets.monitoring.betting import log_evidence
from vroom_assets.scoring.recorded import Inputs, answers_of
from vroom_assets.spec import ForecastSpec

COLUMNS = ("version", "time", "entity_id", "prediction", "outcome", "exposure", "outcome_at")
INPUT, TAG = "input_", "tag_"  # begin the names of columns
Estimate = Callable[[Manifest, np.ndarray], np.ndarray]  # expected loss of predictions, shape (n,)


class State(StrEnum):
    """What is known of a new champion beside the version before it."""

    NONE = "nothing to compare"
    OPEN = "not shown to be worse"
    WORSE = "worse"
    OVER = "the comparison is over"


@dataclass(frozen=True)
class Succession:
    """A promotion. pointer: as it is now. since: when the first version of its training was published.

    successors: the versions of that training, which differ in their texts alone. replaced: the version that served before.
    """

    pointer: Pointer
    since: datetime
    successors: frozenset[int]
    successor: Bundle
    replaced: Pointer
    predecessor: Bundle


@dataclass(frozen=True)
class SuccessorVerdict:
    """What the outcomes say.

    sentence: as a host understands it. generation: of the pointer that this is about. numbers: by name, for
    metadata and the ledger; losses are means over the same requests, in the measure that contests are decided by.
    """

    state: State
    sentence: str
    successor: int = 0
    predecessor: int = 0
    generation: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_worse(self) -> bool:
        return self.state is State.WORSE


Rows = Callable[[Succession], pd.DataFrame]  # what was predicted since a promotion, as `feedback.read` has it


class NoSuccession(Exception):
    """No version is to be compared with the one before it; the message says why."""


def succession(forecast: str) -> Succession:
    """The promotion of what serves.

    What an operator went back or forward to is not compared: somebody has decided that it serves.

    Raises:
        NoSuccession: nothing serves, there was none before it, or it serves again.
        BundleError: a bundle is damaged.
    """
    store = LocalStore()
    pointer = store.pointer(forecast)
    if pointer is None or pointer.retired is not None:
        raise NoSuccession("no version serves")
    own = training_of(forecast, pointer.version)
    first, versions, replaced = pointer, {pointer.version}, None
    for one in reversed([past for past in store.history(forecast) if past.retired is None]):
        same = one.version in versions or training_of(forecast, one.version) == own
        if replaced is None and same:
            first, versions = one, versions | {one.version}
        elif replaced is None:
            replaced = one
        elif same:
            raise NoSuccession(f"version {pointer.version} serves again, because somebody went back to it")
    if replaced is None:
        raise NoSuccession(f"no other version served before {pointer.version}")
    successor, predecessor = (
        store.read(forecast, one.version, one.manifest_sha256) for one in (pointer, replaced)
    )
    since = _aware(datetime.fromisoformat(first.published_at))
    return Succession(pointer, since, frozenset(versions), successor, replaced, predecessor)


def watch_successor(
    spec: ForecastSpec,
    rows_of: Rows,
    *,
    now: datetime | None = None,
    estimate: Estimate | None = None,
) -> SuccessorVerdict:
    """Whether what serves is worse than the version before it, on the requests that it has answered.

    Args:
        rows_of: is asked for the predictions since a promotion, only where one is to be compared: columns `version`, `time`
            (of the prediction), `entity_id` (None where it was not given), `input_<name>` for each input of the predecessor,
            `prediction`, `outcome`, `exposure` (1 where the whole outcome is known) and `outcome_at` (when it arrived); of any
            version, in any order. Where the validation has a group that is a tag, its column `tag_<name>`: rows of one
            group count as one.
        now: with a zone; None for the clock.
        estimate: instead of outcomes, the expected loss of each prediction; rows without an outcome count then, in the
            order in which they were predicted.

    Raises:
        ValueError: a column is missing.
    """
    now = _aware(now or datetime.now(UTC))
    if not spec.monitoring.shadow_days:
        return SuccessorVerdict(State.NONE, f"{spec.name}: monitoring.shadow_days is 0")
    try:
        found = succession(spec.name)
        if (end := end_of(spec, found)) is not None and now > end:
            return SuccessorVerdict(
                State.OVER,
                f"version {found.pointer.version} was not shown to be worse than version {found.replaced.version} by the "
                f"requests of its first {spec.monitoring.shadow_days:g} days",
                *_numbers_of(found),
            )
        return compared(spec, found, rows_of(found), estimate)
    except NoSuccession as why:
        return SuccessorVerdict(State.NONE, f"{spec.name}: {why}")
    except BundleError as error:
        return SuccessorVerdict(
            State.NONE, f"{spec.name}: a version cannot be compared, because it is damaged: {error}"
        )


def asked_until(spec: ForecastSpec, found: Succession) -> datetime:
    """Requests that are made later do not count."""
    return found.since + timedelta(days=spec.monitoring.shadow_days)


def end_of(spec: ForecastSpec, found: Succession) -> datetime | None:
    """When the outcomes of all requests that count should be known; None where an input says when."""
    if spec.target.due_input is not None:
        return None
    return asked_until(spec, found) + timedelta(days=spec.target.due_after_days or 0.0)


def compared(
    spec: ForecastSpec, found: Succession, rows: pd.DataFrame, estimate: Estimate | None = None
) -> SuccessorVerdict:
    """The two versions of a promotion on the rows that the new one has answered since.

    Raises:
        ValueError: a column is missing.
    """
    if missing := [name for name in COLUMNS if name not in rows.columns]:
        raise ValueError(f"{spec.name}: the rows have no column {', '.join(missing)}")
    pairs = paired(spec, found, rows, estimate)
    numbers = _numbers_of(found)
    names = f"version {found.pointer.version} beside version {found.replaced.version}, which it replaced"
    if not pairs.rows:
        why = (
            f"version {found.replaced.version} could answer none of {pairs.refused:,} requests"
            if pairs.refused
            else "no outcome of a request since then is known yet"
        )
        return SuccessorVerdict(State.OPEN, f"{names}: {why}", *numbers, {"rows": 0.0})
    needed = math.log(1 / spec.monitoring.false_alarms)
    evidence = float(log_evidence(pairs.windows, 0.5).max())
    loss, before = pairs.loss, pairs.predecessor_loss
    figures = {
        "rows": float(pairs.rows),
        "refused": float(pairs.refused),
        "loss": loss,
        "predecessor_loss": before,
        "relative_loss": (loss - before) / before if before > 0 else 0.0,
        "tolerated": pairs.tolerated,
        "log_evidence": evidence,
        "log_evidence_needed": needed,
    }
    worse = evidence >= needed and loss - before > pairs.tolerated
    sentence = (
        f"{names}: mean loss {loss:.4g} against {before:.4g} ({figures['relative_loss']:+.1%}) on the same {pairs.rows:,} "
        f"requests whose outcomes are known; the evidence that it is worse is {evidence:.2f}, and {needed:.2f} is needed"
    )
    return SuccessorVerdict(State.WORSE if worse else State.OPEN, sentence, *numbers, figures)


@dataclass(frozen=True)
class Pairs:
    """Losses of both versions on the same requests.

    windows: what is bet on, by window since the promotion: above 1/2 where the new version is worse by more than is tolerated.
    tolerated: the difference of losses that a refresh may have. refused: requests that the version before cannot answer.
    """

    windows: Sequence[np.ndarray]
    rows: int
    refused: int
    loss: float
    predecessor_loss: float
    tolerated: float


def paired(
    spec: ForecastSpec, found: Succession, rows: pd.DataFrame, estimate: Estimate | None = None
) -> Pairs:
    """Both versions' losses on the requests that count, in the order in which their outcomes arrived."""
    from vroom_assets.training.metrics import METRIC_SETS

    kind = found.successor.manifest.kind
    metric_set = METRIC_SETS[kind]
    kept = counted(found, rows, asked_until(spec, found), with_outcome=estimate is None)
    answers = answers_of(found.predecessor, inputs_of(kept)).value
    answered = np.isfinite(answers)
    kept, before = kept[answered], answers[answered]
    after = kept["prediction"].to_numpy(float)
    tolerated = spec.contest.margin * reference_loss(found.predecessor.manifest, metric_set.error)
    if estimate is None:
        outcome = kept["outcome"].to_numpy(float)
        loss, former = metric_set.row_loss(outcome, after), metric_set.row_loss(outcome, before)
        reach = largest_gain(kind, after, before)
    else:
        loss = estimate(found.successor.manifest, after)
        former = estimate(found.predecessor.manifest, before)
        reach = np.abs(loss - former)
    values = bet_on(loss - former, reach, typical_gain(found), tolerated)
    return Pairs(
        windows=by_window(spec, found, kept, values),
        rows=len(kept),
        refused=int((~answered).sum()),
        loss=float(loss.mean()) if len(kept) else 0.0,
        predecessor_loss=float(former.mean()) if len(kept) else 0.0,
        tolerated=tolerated,
    )


def bet_on(difference: np.ndarray, reach: np.ndarray, typical: float, tolerated: float) -> np.ndarray:
    """Differences of losses as values in [0, 1], whose mean is at most 1/2 unless the new version is worse than is tolerated.

    Args:
        difference: of the losses, new minus old, shape (n,). reach: how large each can be at most, shape (n,).
        typical: how large they can be on typical rows; what can be larger is scaled down to it.
    """
    scale = np.maximum(reach, typical) + max(tolerated, 1e-12)
    return np.clip(0.5 + (difference - tolerated) / (2 * scale), 0.0, 1.0)


def counted(
    found: Succession, rows: pd.DataFrame, until: datetime | None, *, with_outcome: bool = True
) -> pd.DataFrame:
    """The rows that count, in the order in which they became known.

    What was predicted of one entity before its outcome was known would say the same twice: such predictions are left out
    after the first. Its column `known_at` says when a row became known.

    Args:
        until: requests that are made later do not count; None where all do.
    """
    kept = rows[rows["version"].isin(found.successors)]
    kept = kept.assign(time=_times(kept["time"]))
    if until is not None:
        kept = kept[kept["time"] <= until]
    if with_outcome:
        kept = kept[(kept["exposure"] >= 1.0) & np.isfinite(kept["outcome"].to_numpy(float))]
    known_at = _times(kept["outcome_at"]) if with_outcome else kept["time"]
    kept = kept.assign(known_at=known_at)
    kept = kept[np.isfinite(kept["prediction"].to_numpy(float)) & (kept["known_at"] >= found.since)]
    kept = kept.sort_values("time", kind="stable")
    open_until: dict[object, pd.Timestamp] = {}
    chosen = []
    for entity, time, known in zip(kept["entity_id"], kept["time"], kept["known_at"], strict=True):
        named = entity is not None and entity == entity  # NaN is not named
        free = not named or entity not in open_until or time >= open_until[entity]
        if named and free:
            open_until[entity] = known
        chosen.append(free)
    return kept[np.array(chosen, dtype=bool)].sort_values("known_at", kind="stable")


def inputs_of(rows: pd.DataFrame) -> list[Inputs]:
    """What was sent, row by row; what is missing was left out."""
    columns = {
        name.removeprefix(INPUT): [None if value != value else value for value in rows[name].tolist()]
        for name in rows.columns
        if name.startswith(INPUT)
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def largest_gain(kind: Kind, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The largest absolute difference that the losses of two predictions can have, whatever the outcome, shape (n,)."""
    if kind.is_probability:
        return np.maximum(np.abs(one**2 - other**2), np.abs((1 - one) ** 2 - (1 - other) ** 2))
    return np.abs(one - other)


def typical_gain(found: Succession) -> float:
    """The largest difference that losses can have on the typical rows of the new version's training."""
    manifest = found.successor.manifest
    rows = manifest.background or found.successor.golden.inputs
    inputs: list[Inputs] = [
        {
            field.name: field.decoded(math.nan if value is None else value)
            for field, value in zip(manifest.inputs, row, strict=True)
        }
        for row in rows
    ]
    answers = [answers_of(bundle, inputs).value for bundle in (found.successor, found.predecessor)]
    gains = largest_gain(manifest.kind, *answers)
    return float(np.nan_to_num(gains).max(initial=0.0))


def reference_loss(manifest: Manifest, error: str) -> float:
    """The loss of a version on rows that its training had not seen; 0 where it is not known."""
    scores = manifest.scores
    return scores.nested.get(error, 0.0) if scores is not None else 0.0


def by_window(
    spec: ForecastSpec, found: Succession, kept: pd.DataFrame, values: np.ndarray
) -> list[np.ndarray]:
    """The values window by window since the promotion, those of one group in a window as their mean.

    Args:
        kept: as `counted` gives them. values: shape (n,).
    """
    length = spec.monitoring.window_minutes * 60.0
    numbers = ((kept["known_at"] - found.since).dt.total_seconds() // length).to_numpy(int)
    column = f"{TAG}{spec.validation.group}"
    groups = kept[column].to_numpy() if column in kept.columns else np.arange(len(kept))
    # In the order in which they became known; windows without any are left out, as nobody bets in them.
    means = pd.Series(values).groupby([numbers, groups], sort=False).mean()
    by_number = means.groupby(level=0, sort=False)
    return [part.to_numpy() for _, part in by_number]


def _numbers_of(found: Succession) -> tuple[int, int, int]:
    return found.pointer.version, found.replaced.version, found.pointer.generation


def _times(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values, utc=True)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
