"""The page about a forecast: what its sections say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from vroom_api.contract import Manifest, Reliability, Scores
from vroom_assets.champion.gates import failed_gates
from vroom_assets.report.effects import effects
from vroom_assets.report.facts import Facts
from vroom_assets.report.hints import hints
from vroom_assets.report.rendering import Page, Section
from vroom_assets.report.versions import changes
from vroom_assets.spec import Gates

MOST_FEATURES, MOST_CANDIDATES, MOST_PARTS, MOST_SOURCES = 12, 8, 5, 20


def page_of(found: Facts) -> Page:
    """What was learnt, or why there is nothing yet and what to do."""
    title = found.bundle.manifest.title if found.bundle else found.spec.title if found.spec else found.name
    if found.bundle is None:
        return Page(f"{title} ({found.name})", without_champion(found), list(unread(found)))
    manifest, pointer = found.bundle.manifest, found.pointer
    intro = [
        f"What version {manifest.version} of {found.name} has learnt, from what is stored of it; "
        "nothing was trained for this page."
    ]
    if pointer is not None and pointer.retired is not None:
        intro.append(f"It serves no more, since {pointer.published_at}: {pointer.retired}")
    sections = [
        data(found, manifest),
        target(found, manifest),
        champion(found, manifest),
        factors(found, manifest),
        *error(manifest.scores),
        *intervals(manifest),
        *weak_parts(found, manifest),
        gates(found, manifest),
        *beside_former(found, manifest),
        Section("What to try next", items=hints(found, manifest)),
        *unread(found),
    ]
    return Page(f"{title} ({found.name})", intro, sections)


def without_champion(found: Facts) -> list[str]:
    """Why there is nothing to describe, and what to do."""
    if found.pointer is not None:
        return [
            f"Version {found.pointer.version} of {found.name} cannot be read; what is wrong stands below. "
            "Restore the home from a backup, or train again "
            f"with VROOM_FORECAST={found.name} python -m vroom_assets materialize."
        ]
    lines = [f"{found.name} has no champion yet, so nothing was learnt that could be described."]
    if found.contest is not None:
        lines.append(f"The verdict of the latest contest is {found.contest.verdict}: {found.contest.reason}.")
        lines += [f"A gate is not passed: {gate}." for gate in found.contest.failed_gates]
    lines.append(
        f"What to do: python -m vroom_assets check {found.name} --data says whether declaration and data are in order; "
        f"VROOM_FORECAST={found.name} python -m vroom_assets materialize trains."
    )
    return lines


def unread(found: Facts) -> Iterator[Section]:
    if found.unread:
        yield Section("What could not be read", items=found.unread)


def data(found: Facts, manifest: Manifest) -> Section:
    files = {name: source.path for name, source in found.spec.sources.items()} if found.spec else {}
    return Section(
        "Data",
        [
            f"{manifest.rows:,} rows, each about a {manifest.entity}, as of {manifest.data_as_of}; "
            f"{len(manifest.inputs)} inputs, {len(manifest.features)} features. Data version {manifest.data_version[:12]}."
        ],
        ["source", "file", "SHA-256"],
        [
            [name, files.get(name, ""), digest[:12]]
            for name, digest in list(manifest.snapshots.items())[:MOST_SOURCES]
        ],
    )


def target(found: Facts, manifest: Manifest) -> Section:
    lines = [f"{manifest.target}: {manifest.kind}, in {manifest.unit}; horizon: {manifest.horizon}."]
    if manifest.kind.is_probability:
        lines.append(f"{manifest.target_mean:.1%} of the rows are a yes.")
        return Section("Target", lines)
    if found.target is None or not len(found.target):
        return Section("Target", [*lines, f"Its mean is {manifest.target_mean:.4g}."])
    shares = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
    names = ["least", "10 %", "25 %", "median", "75 %", "90 %", "largest", "mean", "deviation", "share of 0"]
    figures = [*np.quantile(found.target, shares), found.target.mean(), found.target.std()]
    row = [*(f"{value:.4g}" for value in figures), f"{(found.target == 0).mean():.1%}"]
    return Section("Target", lines, names, [row])


def champion(found: Facts, manifest: Manifest) -> Section:
    recipe, pointer = manifest.recipe, found.pointer
    members = ", ".join(name for name in recipe.definition if name != recipe.name)
    family = f"{recipe.family} of {members}" if members else recipe.family
    lines = [
        f"Version {manifest.version} is {recipe.name} ({family}), trained {manifest.trained_at}; "
        f"it serves since {found.served_since or 'a time that is not known'}."
    ]
    if pointer is not None and pointer.provisional:
        lines.append("It is provisional: it serves without having passed every gate.")
    else:
        lines.append("It is not provisional: it passed all gates.")
    if found.contest is not None:
        lines.append(
            f"The verdict of the latest contest, of version {found.contest.challenger}, is {found.contest.verdict}: "
            f"{found.contest.reason}."
        )
    if manifest.fallback is not None:
        lines.append(
            f"Rows without {', '.join(manifest.fallback.without)} are answered by {manifest.fallback.recipe.name}: "
            f"{manifest.fallback.description}."
        )
    if found.folds is None or manifest.scores is None:
        return Section("Champion", lines)
    select = manifest.scores.select
    metrics = list(dict.fromkeys([select, manifest.scores.error]))  # may be one and the same
    means = found.folds.groupby("candidate")[metrics].mean().sort_values(select)
    for name, values in recipe.values.items():
        chosen = "; ".join(
            f"{parameter} {value} (of {', '.join(map(str, recipe.definition[name]['parameters'][parameter]))})"
            for parameter, value in values.items()
        )
        lines.append(f"Chosen for {name} on inner folds of all rows: {chosen}.")
    if manifest.scores.why:
        lines.append(f"Why this one: {manifest.scores.why}.")
    lines.append(f"Candidates on the same folds, chosen by {select}:")
    rows = [
        [
            f"{name} (chosen)" if name == recipe.name else str(name),
            *(f"{row[metric]:.4g}" for metric in metrics),
        ]
        for name, row in means.head(MOST_CANDIDATES).iterrows()
    ]
    return Section("Champion", lines, ["candidate", *metrics], rows)


def beside_former(found: Facts, manifest: Manifest) -> Iterator[Section]:
    """What changed since the training that served before."""
    if found.former:
        before = found.former[-1]
        for section in changes(before, manifest):
            yield replace(section, heading=f"{section.heading} since version {before.version}")


def factors(found: Facts, manifest: Manifest) -> Section:
    """The features of the champion, those first without which the error would be largest."""
    assert found.bundle is not None
    scores = manifest.scores
    used = [field for field in manifest.features if field.name in manifest.recipe.features]
    used.sort(key=lambda field: -manifest.importances.get(field.name, 0.0))
    listed = used[:MOST_FEATURES]
    texts = effects(found.bundle, [field.name for field in listed])
    error = scores.nested[scores.error] if scores else 0.0
    rows = []
    for field in listed:
        importance = manifest.importances.get(field.name, 0.0)
        share = f" ({importance / error:.1%})" if error else ""
        name = field.name if field.expression == field.name else f"{field.name} = {field.expression}"
        rows.append([name, f"{importance:+.3g}{share}", texts.get(field.name, ""), field.description])
    metric = scores.error if scores else "the error"
    lines = [
        f"Importance: by how much {metric} grows, out of fold, when the feature's values are shuffled. "
        "Effect: the mean forecast where the feature has other values and all else stays.",
    ]
    if len(used) > len(listed):
        lines.append(f"{len(used) - len(listed)} features of less importance are left out here.")
    return Section("Factors", lines, ["feature", "importance", "effect on the forecast", "meaning"], rows)


def error(scores: Scores | None) -> Iterator[Section]:
    if scores is None:
        return
    lines = [
        "Nested: on rows that neither the champion nor its choice had seen. "
        f"{scores.error} is what errors are reported by; over the {len(scores.folds)} folds it is "
        f"{scores.cv_mean[scores.error]:.4g} ± {scores.cv_std[scores.error]:.2g}."
    ]
    names = list(scores.baselines)
    rows = []
    for metric, value in scores.nested.items():
        row = [metric, f"{value:.4g}", f"{scores.train[metric]:.4g}" if metric in scores.train else ""]
        for name in names:
            other = scores.baselines[name].get(metric)
            row.append("" if other is None else f"{other:.4g} ({scores.skill(name)[metric]:+.1%} saved)")
        rows.append(row)
    yield Section(
        "Error",
        lines,
        [
            "metric",
            "nested",
            "on training rows",
            *(f"always the {name}" for name in names),
        ],
        rows,
    )


def intervals(manifest: Manifest) -> Iterator[Section]:
    reliability = manifest.calibration.reliability
    if reliability is not None:
        yield Section(
            "Intervals",
            ["How often a yes came, by what was predicted out of fold."],
            ["rows", "mean prediction", "share of yes"],
            list(_reliability_rows(reliability)),
        )
    elif coverage := manifest.calibration.coverage:
        yield Section(
            "Intervals",
            ["Share of outcomes inside the 90 % interval, out of fold; terciles are of the prediction."],
            ["rows", "covered"],
            [[name.replace("_", " "), f"{value:.1%}"] for name, value in coverage.items()],
        )


def _reliability_rows(found: Reliability) -> Iterator[list[str]]:
    for rows, yes, predicted in zip(found.rows, found.yes, found.predicted, strict=True):
        if rows:
            yield [f"{rows:,}", f"{predicted:.3f}", f"{yes / rows:.3f}"]


def weak_parts(found: Facts, manifest: Manifest) -> Iterator[Section]:
    """Where it errs most: by tag, by size of the prediction."""
    lines, rows = [], []
    for tag, parts in found.errors_by.items():
        metric = parts.columns[-1]
        worst = parts.sort_values(metric, ascending=False).head(MOST_PARTS)
        rows += [
            [tag, str(row["value"]), f"{row['rows']:,}", f"{row[metric]:.4g}"] for _, row in worst.iterrows()
        ]
    spread = manifest.calibration.spread
    if spread is not None:
        lines.append(
            f"The mean error is {spread.sizes[0]:.4g} where {spread.predictions[0]:.4g} is predicted and "
            f"{spread.sizes[-1]:.4g} where it is {spread.predictions[-1]:.4g}."
        )
    terciles: Mapping[str, float] = {
        name: value for name, value in manifest.calibration.coverage.items() if name.endswith("tercile")
    }
    if terciles:
        least = min(terciles, key=lambda name: terciles[name])
        lines.append(
            f"Intervals hold least often in the {least.replace('_', ' ')} of the predictions: {terciles[least]:.1%}."
        )
    if manifest.scores and "calibration_error" in manifest.scores.nested:
        lines.append(
            f"Probabilities are off by {manifest.scores.nested['calibration_error']:.3f} in the mean over ten bins."
        )
    if not rows:
        lines.append(
            "Errors by group are not known: the entity declares no tags, or MLflow does not have them."
        )
    yield Section("Where it fails", lines, ["tag", "value", "rows", "error"], rows)


def gates(found: Facts, manifest: Manifest) -> Section:
    scores = manifest.scores
    if found.spec is None or scores is None:
        return Section(
            "Gates", ["The declaration or the figures cannot be read, so the gates are not known."]
        )
    failed = failed_gates(scores, manifest.target_mean, found.spec.gates)
    verdict = (
        "Not passed, by the declaration as it is now:"
        if failed
        else "All are passed, by the declaration as it is now."
    )
    rows = list(_gate_rows(scores, manifest.target_mean, found.spec.gates))
    return Section("Gates", [verdict], ["gate", "allowed", "measured"], rows, failed)


def _gate_rows(scores: Scores, target_mean: float, allowed: Gates) -> Iterator[list[str]]:
    low, high = allowed.coverage
    if "overall" in scores.coverage:
        yield ["coverage", f"{low:g} to {high:g}", f"{scores.coverage['overall']:.3f}"]
    terciles = [value for name, value in scores.coverage.items() if name.endswith("tercile")]
    if terciles:
        yield ["tercile_coverage", f"at least {allowed.tercile_coverage:g}", f"{min(terciles):.3f}"]
    if target_mean:
        yield ["bias", f"at most {allowed.bias:.1%}", f"{abs(scores.nested['bias']) / abs(target_mean):.1%}"]
    if "calibration_error" in scores.nested:
        yield [
            "calibration_error",
            f"at most {allowed.calibration_error:g}",
            f"{scores.nested['calibration_error']:.3f}",
        ]
    if scores.loss_over_reference is not None:
        limit = f"at most {allowed.reference_margin:.1%} worse than {allowed.reference}"
        yield ["reference", limit, f"{scores.loss_over_reference:+.1%}"]
    for name in scores.baselines:
        least = min(scores.skill(name).values())
        yield [f"better than the {name}", "above 0 %", f"{least:+.1%}"]
