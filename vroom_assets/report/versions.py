"""What a version has that the one before it had not: for the page about a forecast and that of its champion in Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vroom_api.contract import (
    Manifest,
    Pointer,
    manifest_of,
)
from vroom_api.contract.comparison import Change, VersionComparison, compare
from vroom_api.contract.store import LocalStore
from vroom_assets.champion.gates import failed_gates
from vroom_assets.monitoring.replay import NothingRecorded, Replay
from vroom_assets.report.rendering import Page, Section
from vroom_assets.spec import Gates

MOST_CHANGES = 20  # lines of a table
REPLAYED = 500  # requests


def former_of(forecast: str, pointer: Pointer) -> tuple[Pointer, Manifest] | None:
    """What served last before a version, of another training; None where there was none.

    Raises:
        BundleError: a manifest cannot be read.
    """
    history = LocalStore().history(forecast)
    own = manifest_of(forecast, pointer.version)
    earlier = [one for one in history if one.generation < pointer.generation and one.retired is None]
    for one in reversed(earlier):
        manifest = manifest_of(forecast, one.version)
        if manifest.mlflow_run_id != own.mlflow_run_id:
            return one, manifest
    return None


def replay_of(forecast: str, version: int) -> Replay | None:
    """The latest recorded requests, answered by a version; None where none are recorded."""
    from vroom_api.contract.tables import serving_database
    from vroom_assets.champion.versions import version_of
    from vroom_assets.monitoring.replay import replay

    try:
        with serving_database() as engine:
            return replay(engine, forecast, version_of(forecast, version), REPLAYED)
    except NothingRecorded:
        return None


def beside_former(forecast: str, pointer: Pointer, gates: Gates | None) -> Page | None:
    """A page on what changed with a version that serves; None where it is the first.

    Raises:
        BundleError, OSError, UnknownVersion: a version cannot be read.
    """
    found = former_of(forecast, pointer)
    if found is None:
        return None
    former, before = found
    after = manifest_of(forecast, pointer.version)
    sections = list(changes(before, after, former.provisional, pointer.provisional, gates))
    if replayed := replay_of(forecast, pointer.version):
        sections.append(replay_section(replayed))
    return Page(f"Version {after.version} beside version {before.version}", [], sections)


def changes(
    before: Manifest,
    after: Manifest,
    provisional_before: Sequence[str] = (),
    provisional_after: Sequence[str] = (),
    gates: Gates | None = None,
) -> Iterator[Section]:
    """What differs, a section each of what anything can be told about.

    Args:
        gates: as declared now; both are measured by them.
    """
    found = compare(before, after, provisional_before=provisional_before, provisional_after=provisional_after)
    names = [f"version {before.version}", f"version {after.version}"]
    yield Section(
        "What changed",
        [_summary(found)],
        ["", *names],
        [
            ["trained", before.trained_at, after.trained_at],
            ["data as of", before.data_as_of, after.data_as_of],
            ["rows", f"{before.rows:,}", f"{after.rows:,}"],
            ["mean target", f"{before.target_mean:.4g}", f"{after.target_mean:.4g}"],
            *(
                [one.name, one.before or "none", one.after or "none"]
                for one in [*found.recipe, *_shortened(found)][:MOST_CHANGES]
            ),
        ],
        list(_items(found)),
    )
    yield Section("Metrics", (), ["metric", *names, "change"], _rows(found, before, after))
    if gates is not None:
        yield Section(
            "Gates as declared now",
            (),
            ["version", "not passed"],
            [
                [
                    f"version {one.version}",
                    "; ".join(failed_gates(one.scores, one.target_mean, gates)) or "none",
                ]
                for one in (before, after)
            ],
        )


def replay_section(found: Replay) -> Section:
    """What the latest recorded requests would have been answered with."""
    lines = [
        f"The latest {found.requests:,} recorded requests, answered by version {found.version}: {_answered(found)}."
    ]
    if found.dropped_inputs:
        lines.append(
            f"It takes {', '.join(found.dropped_inputs)} no more; requests that send one are refused."
        )
    rows = [
        [
            row.prediction_id,
            f"{row.recorded:.4g}",
            f"{row.replayed:.4g}",
            f"{row.replayed - row.recorded:+.3g}",
        ]
        for row in found.worst
    ]
    items = [f"{one.prediction_id}: {one.reason}" for one in found.refusals]
    return Section("Replay", lines, ["largest differences", "recorded", "now", "difference"], rows, items)


def _answered(found: Replay) -> str:
    if not found.answered:
        return f"it would refuse all {found.refused:,}"
    width = "" if found.width_ratio is None else f"; intervals are {found.width_ratio:.2f} times as wide"
    return (
        f"{found.changed:.1%} change, by {found.mean_absolute_difference:.3g} {found.unit} on average and at most "
        f"{found.largest_difference:.3g}; the mean answer goes from {found.mean_recorded:.4g} to {found.mean_replayed:.4g}"
        f"{width}; {found.refused:,} would be refused"
    )


def _summary(found: VersionComparison) -> str:
    if found.same_training:
        return "The same model in other words."
    data = "the same data" if found.same_data else "other data"
    recipe = "the same recipe" if found.same_recipe else "another recipe"
    return f"{recipe.capitalize()} on {data}."


def _shortened(found: VersionComparison) -> Iterator[Change]:
    for one in found.data:
        yield Change(f"source {one.name}", *(text[:12] if text else None for text in (one.before, one.after)))


def _items(found: VersionComparison) -> Iterator[str]:
    for what, parts in (("feature", found.features), ("input", found.inputs)):
        for name in parts.added:
            yield f"new {what}: {name}"
        for name in parts.removed:
            yield f"{what} that is gone: {name}"
        for one in parts.changed:
            yield f"{what} {one.name}: {one.after}, before {one.before}"


def _rows(found: VersionComparison, before: Manifest, after: Manifest) -> list[list[str]]:
    """The figures of both, those that the forecast is judged by first, without those that did not change."""
    judged = {f"nested_{one.scores.error}" for one in (before, after) if one.scores is not None}
    order = sorted(
        found.metrics.items(), key=lambda item: (item[0] not in judged, not item[0].startswith("nested_"))
    )
    return [
        [
            name,
            _number(one.before),
            _number(one.after),
            "" if one.relative is None else f"{one.relative:+.1%}",
        ]
        for name, one in order
        if one.before != one.after or name in judged
    ][:MOST_CHANGES]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
