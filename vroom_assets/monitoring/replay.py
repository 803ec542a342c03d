"""Replay: recorded requests, answered by another version before it gets any traffic, beside what they were answered with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import sqlalchemy as sa

from vroom_assets.champion.versions import Version
from vroom_assets.scoring.recorded import Inputs, Requests, answers_of, latest_requests

SAME = 1e-9  # relative to the recorded value, or absolute below 1: answers that are so near are the same
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORST = 5


class NothingRecorded(Exception):
    """No prediction of the forecast is in the record."""


class Row(msgspec.Struct, frozen=True):
    """One request that another version answers otherwise."""

    prediction_id: str
    answered_by: int  # the version
    recorded: float
    replayed: float
    inputs: dict[str, float | str | None]


class Refusal(msgspec.Struct, frozen=True):
    prediction_id: str
    reason: str


class Replay(msgspec.Struct, frozen=True):
    """How a version answers recorded requests. A difference is its answer minus the recorded one, in the target's unit."""

    forecast: str
    version: int
    unit: str
    requests: int
    answered: int
    answered_by: dict[str, int]  # version -> requests that it answered then
    changed: float  # share of the answered ones
    mean_difference: float | None  # None where nothing was answered
    mean_absolute_difference: float | None
    largest_difference: float | None
    quantiles: dict[str, float]  # of the difference, by probability
    mean_recorded: float | None
    mean_replayed: float | None
    width_ratio: float | None  # mean width of its intervals over that of the recorded ones
    refused: int
    refusals: list[Refusal]  # the first few
    dropped_inputs: list[str]  # recorded requests have them, and it takes them no more: it would refuse them
    worst: list[Row]

    @property
    def numbers(self) -> dict[str, float]:
        """Its figures by name, for metadata and the ledger."""
        found = {name: getattr(self, name) for name in NUMBERS}
        return {name: float(value) for name, value in found.items() if value is not None}


NUMBERS = (
    "requests",
    "answered",
    "refused",
    "changed",
    "mean_difference",
    "mean_absolute_difference",
    "largest_difference",
    "width_ratio",
)


def replay(engine: sa.Engine, forecast: str, version: Version, last: int = 1000) -> Replay:
    """Answer the newest recorded requests by a version.

    Args:
        engine: of the serving database.
        last: how many requests, at most.

    Raises:
        NothingRecorded: there is none.
        BundleError: its model is not the one that was trained.
    """
    requests = latest_requests(engine, forecast, last)
    if not requests.ids:
        raise NothingRecorded(
            f"no prediction of {forecast} is in the record, so there is nothing to replay; ask the service first"
        )
    return compared(forecast, version, requests)


def compared(forecast: str, version: Version, requests: Requests) -> Replay:
    """What a version answers to requests beside what they were answered with."""
    manifest = version.bundle.manifest
    found = answers_of(version.bundle, requests.inputs, requests.level)
    answered = np.isfinite(found.value)
    recorded, replayed = requests.value[answered], found.value[answered]
    difference = replayed - recorded
    changed = np.abs(difference) > SAME * np.maximum(np.abs(recorded), 1.0)
    width, before = (found.high - found.low)[answered], (requests.high - requests.low)[answered]
    any_answered = bool(answered.any())
    order = np.argsort(-np.abs(difference), kind="stable")[:WORST]
    positions = np.flatnonzero(answered)[order[changed[order]]]
    return Replay(
        forecast=forecast,
        version=manifest.version,
        unit=manifest.unit,
        requests=len(requests.ids),
        answered=int(answered.sum()),
        answered_by=_counted(requests.versions),
        changed=float(changed.mean()) if any_answered else 0.0,
        mean_difference=float(difference.mean()) if any_answered else None,
        mean_absolute_difference=float(np.abs(difference).mean()) if any_answered else None,
        largest_difference=float(np.abs(difference).max()) if any_answered else None,
        quantiles={f"{p:g}": float(np.quantile(difference, p)) for p in QUANTILES} if any_answered else {},
        mean_recorded=float(recorded.mean()) if any_answered else None,
        mean_replayed=float(replayed.mean()) if any_answered else None,
        width_ratio=float(width.mean() / before.mean()) if any_answered and before.mean() > 0 else None,
        refused=len(found.refused),
        refusals=[Refusal(requests.ids[at], why) for at, why in list(found.refused.items())[:WORST]],
        dropped_inputs=_dropped(requests.inputs, {field.name for field in manifest.inputs}),
        worst=[
            Row(
                requests.ids[at],
                requests.versions[at],
                float(requests.value[at]),
                float(found.value[at]),
                dict(requests.inputs[at]),
            )
            for at in positions.tolist()
        ],
    )


def _counted(versions: Sequence[int]) -> dict[str, int]:
    numbers, counts = np.unique(np.asarray(versions, dtype=int), return_counts=True)
    return {str(number): int(count) for number, count in zip(numbers, counts, strict=True)}


def _dropped(inputs: Sequence[Inputs], taken: set[str]) -> list[str]:
    """The inputs that requests gave a value for and a version does not take."""
    return sorted(
        {name for one in inputs for name, value in one.items() if name not in taken and value is not None}
    )


def described(found: Replay) -> list[str]:
    """A replay as lines for people."""
    by = ", ".join(f"{count:,} by version {version}" for version, count in found.answered_by.items())
    lines = [
        f"{found.forecast}: the latest {found.requests:,} recorded requests ({by}), answered by version {found.version}"
    ]
    if found.answered:
        unit = found.unit
        lines += [
            f"  changed             {found.changed:.1%} of the {found.answered:,} that it answers",
            f"  mean                {found.mean_recorded:.4g} {unit} recorded, {found.mean_replayed:.4g} now "
            f"({found.mean_difference:+.4g})",
            f"  |difference|        mean {found.mean_absolute_difference:.4g}, largest {found.largest_difference:.4g}",
            "  difference by share "
            + ", ".join(f"{float(p):.0%} {value:+.3g}" for p, value in found.quantiles.items()),
        ]
        if found.width_ratio is not None:
            lines.append(f"  interval width      {found.width_ratio:.3f} times the recorded")
    lines.append(f"  would refuse        {found.refused:,}")
    lines += [f"    {one.prediction_id}: {one.reason}" for one in found.refusals]
    if found.dropped_inputs:
        lines.append(
            f"  takes no more       {', '.join(found.dropped_inputs)}: requests that send one are refused"
        )
    if found.worst:
        lines.append("  largest differences")
    for row in found.worst:
        given = ", ".join(f"{name}={_short(value)}" for name, value in row.inputs.items())
        lines.append(f"    {row.prediction_id}: {row.recorded:.4g} -> {row.replayed:.4g} ({given})")
    return lines


def _short(value: float | str | None) -> str:
    return "none" if value is None else value[:40] if isinstance(value, str) else f"{value:.6g}"
