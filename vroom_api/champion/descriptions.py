"""Forecasts and their champions, described for callers."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.freshness import Verdict, ages
from vroom_api.champion.loading import Champion
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import FeatureField, InputField, Recipe, TrialRole
from vroom_api.contract.calibrations import CalibrationRevision

Status = Literal["ok", "loading", "no_champion", "degraded", "retired"]


class TriedVersion(msgspec.Struct, frozen=True):
    """A second version that is tried beside the champion."""

    version: int
    role: TrialRole
    share: float  # of the requests: that it answers or, in shadow, gets a copy of
    since: str
    by: str
    manifest_sha256: str


class Model(msgspec.Struct, frozen=True):
    """The version that serves: what it is, what it takes, how good it is and where it comes from."""

    forecast: str
    title: str
    version: int
    generation: int
    provisional: tuple[str, ...]  # the gates that it serves without having passed; empty where it passed all
    published_at: str
    loaded_at: str
    entity: str
    target: str
    unit: str
    horizon: str
    inputs: list[InputField]
    features: list[FeatureField]
    recipe: Recipe
    metrics: dict[str, float]
    selection_metric: str | None  # candidates were chosen by it; null where the bundle is older than its name
    error_metric: str | None  # errors are reported by it, and importances are in its unit; null as above
    importances: dict[str, float]
    coverage: dict[str, float]
    rows: int
    target_mean: float
    trained_at: str
    data_as_of: str
    data_version: str
    snapshots: dict[str, str]
    code_version: str
    mlflow_run_id: str
    dagster_run_id: str
    libraries: dict[str, str]
    manifest_sha256: str
    calibration: (
        CalibrationRevision | None
    )  # what corrects its intervals or probabilities; null where nothing does
    trial: TriedVersion | None  # the version that is loaded beside it; null where none is


class Health(msgspec.Struct, frozen=True):
    """Whether predictions are answered, and by what."""

    status: Status
    forecast: str
    model_version: int | None
    generation: int | None
    last_error: str | None
    last_error_at: str | None
    checked_s: float | None  # seconds since the pointer was checked; None before the first time
    attended_at: str | None  # when its sensor last checked its sources; None where none ever did
    unattended_since: str | None  # the same, where the next check is overdue
    trial: TriedVersion | None  # the version that is loaded beside the champion; null where none is


class Listed(msgspec.Struct, frozen=True):
    """A forecast: what it says, how it is and where to ask it. What its champion tells is null without one."""

    name: str
    flagship: bool  # whether the short routes are about it
    status: Status
    title: str | None
    kind: Literal["count", "regression", "binary"] | None
    entity: str | None
    target: str | None
    unit: str | None
    horizon: str | None
    model_version: int | None
    data_as_of: str | None
    freshness: Verdict | None
    unattended_since: str | None  # when its sources were last checked, where the next check is overdue
    last_error: str | None
    links: dict[str, str]  # paths, by what they are for


class Forecast(Listed, frozen=True):
    """A forecast with what it takes, an example of it, and the version that serves."""

    inputs: list[InputField]
    example: dict[str, float | str | None]  # a body of its /predict
    champion: Model | None


def parts_of(forecasts: Forecasts, watch: ChampionWatch) -> dict[str, Any]:
    """The fields of `Listed`."""
    champion, path = watch.champion, f"/forecasts/{watch.forecast}"
    manifest = champion.manifest if champion else None
    declared = ("title", "kind", "entity", "target", "unit", "horizon", "data_as_of")
    return {
        "name": watch.forecast,
        "flagship": watch is forecasts.flagship,
        "status": health_of(watch).status,
        **{name: getattr(manifest, name, None) for name in declared},
        "model_version": manifest.version if manifest else None,
        "freshness": ages(manifest, datetime.now(UTC)).freshness if manifest else None,
        "unattended_since": watch.attendance.unattended_since,
        "last_error": watch.retired or watch.trouble,
        "links": {
            "self": path,
            "health": f"{path}/health",
            "predict": f"{path}/predict",
            "predict_batch": f"{path}/predict/batch",
            **{f"advise_{name}": f"{path}/advise/{name}" for name in (manifest.advice if manifest else {})},
        },
    }


def forecast_of(forecasts: Forecasts, watch: ChampionWatch) -> Forecast:
    champion = watch.champion
    return Forecast(
        **parts_of(forecasts, watch),
        inputs=champion.manifest.inputs if champion else [],
        example=champion.manifest.example if champion else {},
        champion=model_of(champion) if champion else None,
    )


def model_of(champion: Champion) -> Model:
    manifest = champion.manifest
    names = [
        name for name in Model.__struct_fields__ if name not in ("calibration", "trial")
    ]  # a manifest has other ones
    shared = {name: getattr(manifest, name) for name in names if hasattr(manifest, name)}
    return Model(
        **shared,
        generation=champion.generation,
        provisional=champion.provisional,
        published_at=champion.published_at,
        loaded_at=champion.loaded_at,
        coverage=manifest.calibration.coverage,
        selection_metric=manifest.scores.select if manifest.scores else None,
        error_metric=manifest.scores.error if manifest.scores else None,
        manifest_sha256=champion.manifest_sha256,
        calibration=champion.revision,
        trial=tried_of(champion),
    )


def health_of(watch: ChampionWatch) -> Health:
    champion, trouble = watch.champion, watch.trouble
    status: Status
    if watch.retired is not None:
        status = "retired"
    elif champion is None:
        status = "loading" if watch.loading else "no_champion"
    else:
        status = "degraded" if trouble else "ok"
    checked = watch.checked_seconds
    return Health(
        status=status,
        forecast=watch.forecast,
        model_version=champion.version if champion else None,
        generation=champion.generation if champion else None,
        last_error=watch.retired or trouble,
        last_error_at=watch.failed_at,
        checked_s=None if checked is None else round(checked, 1),
        attended_at=watch.attendance.attended_at,
        unattended_since=watch.attendance.unattended_since,
        trial=tried_of(champion) if champion else None,
    )


def tried_of(champion: Champion) -> TriedVersion | None:
    """What is tried beside a champion."""
    if champion.tried is None:
        return None
    trial = champion.tried.trial
    return TriedVersion(**{name: getattr(trial, name) for name in TriedVersion.__struct_fields__})
