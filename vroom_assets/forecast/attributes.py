"""What every asset of a forecast carries, put on all of them together: owner, group, kinds, links to its code, freshness.

Dagster's freshness policies measure the time since an asset was made. That is an age of a model for one asset alone,
the challenger, which is made by a training and by nothing else; so it has the limits of ``freshness.model_age``, where
they are declared. Any other policy would be wrong: a champion is made again, and seems young, where a contest keeps the
old one; a table is made again by a run on the same rows; and the age of data is the time since their newest event,
whatever ran since. These are judged by the service, at each answer and as alerts.
"""

from datetime import timedelta
from pathlib import Path

import dagster as dg
from dagster_shared.yaml_utils.source_position import SourcePositionTree

from vroom_assets import settings
from vroom_assets.declaration import FILE
from vroom_assets.forecast.names import CHALLENGER, CHAMPION, FLEET_PREDICTIONS
from vroom_assets.spec import ForecastSpec

KINDS = {
    "features": {"duckdb", "sql", "parquet"},
    "online_features": {"sqlite"},
    "cv_metrics": {"duckdb", "scikitlearn"},
    CHALLENGER: {"mlflow", "onnx", "scikitlearn"},
    "contest": {"scikitlearn", "duckdb"},
    CHAMPION: {"onnx", "mlflow"},
    FLEET_PREDICTIONS: {"onnx", "duckdb", "parquet"},
    **{key: {"duckdb", "sql"} for key in ("predictions", "outcomes", "feedback")},
    **{key: {"duckdb", "pandas"} for key in ("performance", "drift", "health")},
}

SHORTEST_WINDOW = timedelta(minutes=1)  # of Dagster's

# The fields of a declaration that say most of what an asset is; what is made by SQL has its files as well.
FIELDS = {
    "online_features": ["entity"],
    "cv_metrics": ["candidates", "validation"],
    CHALLENGER: ["candidates", "gates"],
    "contest": ["contest", "gates"],
    CHAMPION: ["freshness", "advice"],
    FLEET_PREDICTIONS: ["entity"],
    "outcomes": ["target"],
    **{key: ["monitoring"] for key in ("feedback", "performance", "drift", "health")},
}


def attributed(
    asset: dg.AssetSpec, forecast: ForecastSpec, folder: Path, lines: SourcePositionTree | None
) -> dg.AssetSpec:
    """An asset with what all assets of its forecast carry; what it has of its own stays.

    Args:
        folder: of the declaration.
        lines: where the fields of ``defs.yaml`` stand; None if nobody knows.
    """
    name = asset.key.path[-1]
    references = code_references(forecast, name, folder, lines)
    own_group = asset.group_name not in (None, "default")
    return asset.merge_attributes(
        owners=[] if asset.owners else [forecast.owner],
        kinds=kinds(forecast, name),
        metadata={"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=references)},
    ).replace_attributes(
        group_name=asset.group_name if own_group else forecast.name,
        freshness_policy=asset.freshness_policy or freshness_policy(forecast, name),
    )


def freshness_policy(forecast: ForecastSpec, name: str) -> dg.FreshnessPolicy | None:
    """How long after a training the next one is due; None where no age of the model is declared."""
    limits = forecast.freshness.model_age
    if name != CHALLENGER or limits is None:
        return None
    stale = max(timedelta(days=limits.stale_after_days), SHORTEST_WINDOW)
    expired = max(timedelta(days=limits.expired_after_days), SHORTEST_WINDOW)
    return dg.FreshnessPolicy.time_window(expired, stale if stale < expired else None)


def kinds(forecast: ForecastSpec, name: str) -> set[str]:
    if name in forecast.sources:
        return {"duckdb", "csv"}
    if name.removesuffix("_csv") in forecast.sources:
        return {"csv", "file"}
    return KINDS.get(name, set())


def code_references(
    forecast: ForecastSpec, name: str, folder: Path, lines: SourcePositionTree | None
) -> list[dg.LocalFileCodeReference]:
    """The files, and the lines of ``defs.yaml``, that an asset is defined by; Dagster adds the declaration."""

    def file(path: Path) -> dg.LocalFileCodeReference:
        return dg.LocalFileCodeReference(file_path=str(path), label=path.name)

    def field(*path: str) -> list[dg.LocalFileCodeReference]:
        line = line_of(lines, "attributes", *path)
        if line is None:
            return []
        label = f"{FILE}: {'.'.join(path)}"
        return [dg.LocalFileCodeReference(file_path=str(folder / FILE), line_number=line, label=label)]

    examples = [file(folder / f"{one}.sql") for one in forecast.examples]
    if name in forecast.sources:
        return field("sources", name)
    if name.removesuffix("_csv") in forecast.sources:
        source = name.removesuffix("_csv")
        return [file(settings.data_folder() / forecast.sources[source].path), *field("sources", source)]
    if name == "features":
        return [file(folder / "features.sql"), file(folder / "target.sql"), *examples]
    of_fields = [one for path in FIELDS.get(name, []) for one in field(path)]
    return [*of_fields, *examples] if name == "online_features" else of_fields


def line_of(lines: SourcePositionTree | None, *path: str) -> int | None:
    """The line of a field; None if it is left out."""
    for key in path:
        lines = lines.children.get(key) if lines else None
    return lines.position.start.line if lines else None
