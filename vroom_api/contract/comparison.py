"""Two versions of a forecast beside each other, by what their manifests say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from vroom_api.contract.manifest import FeatureField, InputField, Manifest, Recipe


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two versions."""

    version: int
    candidate: str
    family: str
    rows: int  # that it was trained on
    target_mean: float
    trained_at: str
    data_as_of: str
    data_version: str
    code_version: str
    mlflow_run_id: str
    provisional: list[str]  # the gates that it served without having passed


class Change(msgspec.Struct, frozen=True):
    """Something that is not the same, as text; null where one of the two has none."""

    name: str
    before: str | None
    after: str | None


class Figure(msgspec.Struct, frozen=True):
    """A number of both versions; null where one of the two has none, or where it cannot be computed."""

    before: float | None
    after: float | None
    difference: float | None
    relative: float | None  # difference as a share of |before|


class Parts(msgspec.Struct, frozen=True):
    """Features or inputs, by name."""

    added: list[str]
    removed: list[str]
    changed: list[Change]


class VersionComparison(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions. The same training in other words has the same model."""

    forecast: str
    before: Side
    after: Side
    same_training: bool
    same_recipe: bool
    same_data: bool
    recipe: list[Change]
    data: list[Change]  # SHA-256 of the sources
    features: Parts
    inputs: Parts
    metrics: dict[str, Figure]
    importances: dict[str, Figure]  # by feature


def compare(
    before: Manifest,
    after: Manifest,
    *,
    provisional_before: Sequence[str] = (),
    provisional_after: Sequence[str] = (),
) -> VersionComparison:
    """What differs between two versions of one forecast.

    Args:
        provisional_before, provisional_after: the gates that each served without having passed.
    """
    recipe = list(changes(_recipe_fields(before.recipe), _recipe_fields(after.recipe)))
    return VersionComparison(
        forecast=after.forecast,
        before=_side(before, provisional_before),
        after=_side(after, provisional_after),
        same_training=before.mlflow_run_id == after.mlflow_run_id,
        same_recipe=not recipe,
        same_data=before.data_version == after.data_version,
        recipe=recipe,
        data=list(changes(before.snapshots, after.snapshots)),
        features=_parts(
            {one.name: _feature_text(one) for one in before.features},
            {one.name: _feature_text(one) for one in after.features},
        ),
        inputs=_parts(
            {one.name: _input_text(one) for one in before.inputs},
            {one.name: _input_text(one) for one in after.inputs},
        ),
        metrics=_figures(before.metrics, after.metrics),
        importances=_figures(before.importances, after.importances),
    )


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    """What is not the same in two mappings, in the order of the first, then of the second."""
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(name, before.get(name), after.get(name))


def _side(manifest: Manifest, provisional: Sequence[str]) -> Side:
    return Side(
        version=manifest.version,
        candidate=manifest.recipe.name,
        family=manifest.recipe.family,
        rows=manifest.rows,
        target_mean=manifest.target_mean,
        trained_at=manifest.trained_at,
        data_as_of=manifest.data_as_of,
        data_version=manifest.data_version,
        code_version=manifest.code_version,
        mlflow_run_id=manifest.mlflow_run_id,
        provisional=list(provisional),
    )


def _parts(before: Mapping[str, str], after: Mapping[str, str]) -> Parts:
    found = list(changes(before, after))
    return Parts(
        added=[one.name for one in found if one.before is None],
        removed=[one.name for one in found if one.after is None],
        changed=[one for one in found if one.before is not None and one.after is not None],
    )


def _figures(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Figure]:
    return {
        name: _figure(before.get(name), after.get(name))
        for name in dict.fromkeys([*after, *before])
        if "_fold_" not in name
    }


def _figure(before: float | None, after: float | None) -> Figure:
    if before is None or after is None:
        return Figure(before, after, None, None)
    return Figure(before, after, after - before, (after - before) / abs(before) if before else None)


def _recipe_fields(recipe: Recipe) -> dict[str, str]:
    """The recipe and its members, field by field, with the values that were chosen for parameters."""
    found = {"candidate": recipe.name, "family": recipe.family}
    for name, definition in recipe.definition.items():
        prefix = "" if name == recipe.name else f"{name}."
        fields = dict(definition)
        fields |= {"parameters": fields.get("parameters", {}) | recipe.values.get(name, {})}
        for field, value in fields.items():
            if field == "parameters":
                found |= {f"{prefix}parameters.{one}": _text(given) for one, given in value.items()}
            elif value not in (None, [], {}):
                found[f"{prefix}{field}"] = _text(value)
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _feature_text(field: FeatureField) -> str:
    return field.expression


def _input_text(field: InputField) -> str:
    """What a caller may send."""
    limits = [
        f"{sign} {limit:g}"
        for sign, limit in (("from", field.minimum), ("above", field.above), ("to", field.maximum))
        if limit is not None
    ]
    values = f"one of {', '.join(field.values)}" if field.values else ""
    rest = ("may be left out" if field.nullable else "", "or any other text" if field.is_open else "")
    return " ".join(filter(None, [field.type, *limits, field.unit or "", values, *rest]))
