"""A champion whose live rows can be simulated: its manifest with a reference, fresh rows, and the law of their outcomes."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tests.support.project import ROOT
from tests.support.tiny import changed, feature_field, input_field, manifest_of
from vroom_api.contract import FeatureField, Kind, Manifest, Recipe
from vroom_assets.monitoring.reference import of_rows
from vroom_assets.monitoring.summary import Summary, summarize
from vroom_assets.spec import Candidate, Family, Monitoring
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.folds import RowStructure, splits
from vroom_assets.training.intervals import OutOfFold, calibrate
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.summary import reference as distribution

GENERATOR = runpy.run_path(str(ROOT / "data" / "reservations" / "generate.py"))
FEATURES = ["technology", "num_images", "street_parked", "description", "price_diff", "log_price_ratio"]
READ = ["technology", "num_images", "log_price_ratio"]  # by the champion
RECIPES = {
    "glm": Candidate(
        family=Family.POISSON_GLM,
        features=READ,
        terms=[*READ, "log_price_ratio ^ 2", "log_price_ratio ^ 3", "num_images * log_price_ratio"],
        parameters={"alpha": 0.001},
    ),
    "forest": Candidate(
        family=Family.FOREST,
        features=READ,
        parameters={"n_estimators": 40, "min_samples_leaf": 20, "max_features": 0.5},
    ),
}
Rows = dict[str, np.ndarray]
Change = Callable[[Rows, np.random.Generator], Rows]


def features_of(rows: Rows) -> pd.DataFrame:
    """The flagship's features, as features.sql has them."""
    frame = pd.DataFrame({name: np.asarray(values, float) for name, values in rows.items()})
    frame["price_diff"] = frame["actual_price"] - frame["recommended_price"]
    frame["log_price_ratio"] = np.log(frame["actual_price"] / frame["recommended_price"])
    return frame[FEATURES]


def draw(number: int, rng: np.random.Generator, change: Change | None = None, demand: float = 1.0) -> Rows:
    """Listings and their reservations by the law of the shipped data.

    Args:
        change: of the listings; reservations follow the listings as they are then.
    """
    rows = GENERATOR["draw"](number, rng)
    if change is not None:
        rows = change(rows, rng)
    extra = GENERATOR["_may_get_extra"](rows) & (rng.random(number) < GENERATOR["EXTRA_SHARE"])
    caps = GENERATOR["reservation_caps"](rows) + GENERATOR["EXTRA_CAP"] * extra
    counts = demand * np.floor(rng.random(number) * (caps + 1))
    rows["reservations"] = np.floor(counts + rng.random(number))
    return rows


def fields_of(features: pd.DataFrame) -> list[FeatureField]:
    found = []
    for name in features.columns:
        values = features[name].to_numpy(float)
        known = values[~np.isnan(values)]
        field = distribution(name, name, known)
        own = feature_field(name, name, [name], float(known.min()), float(known.max()))
        found.append(changed_field(own, edges=field.edges, shares=field.shares))
    return found


def changed_field(field: FeatureField, **parts: Any) -> FeatureField:
    import msgspec

    return msgspec.structs.replace(field, **parts)


@dataclass(frozen=True)
class Champion:
    """manifest: with a reference. predict: of a frame of features."""

    manifest: Manifest
    predict: Callable[[pd.DataFrame], np.ndarray]

    def served(
        self, features: pd.DataFrame, outcome: np.ndarray, exposure: float = 1.0, **columns: Any
    ) -> pd.DataFrame:
        """Rows as `summarize` takes them, as predicted and as observed."""
        prediction = self.predict(features)
        low, high = self.manifest.calibration.bounds(prediction, 0.9)
        return features.assign(
            prediction=prediction,
            outcome=outcome,
            exposure=exposure,
            low=low,
            high=high,
            level=0.9,
            **columns,
        )


def manifest_with_reference(
    features: pd.DataFrame,
    target: np.ndarray,
    prediction: np.ndarray,
    fold: np.ndarray,
    kind: Kind,
    *,
    groups: np.ndarray | None = None,
    tags: pd.DataFrame | None = None,
    rows: np.ndarray | None = None,
    read: list[str] | None = None,
    group: str = "",
) -> Manifest:
    """The manifest of a champion with these out-of-fold predictions of all rows, or of those numbered."""
    metric_set = METRIC_SETS[kind]
    numbers = np.arange(len(target)) if rows is None else rows
    scored = OutOfFold(target[numbers], prediction, fold)
    calibration = calibrate(*scored, metric_set)
    fields = fields_of(features)
    manifest = manifest_of(
        [input_field(field.name, 0.0, 1.0) for field in fields],
        fields,
        kind=kind,
        calibration=calibration,
        recipe=Recipe(name="m", family="m", features=read or list(features.columns), definition={}),
        rows=len(target),
        target_mean=float(target.mean()),
        tags=[] if tags is None else [str(name) for name in tags.columns],
    )
    reference = of_rows(
        features, groups, numbers, scored, fields, calibration, metric_set, tags=tags, group=group
    )
    return changed(manifest, monitoring=reference)


def trained(
    number: int, rng: np.random.Generator, recipe: str = "glm", tags: pd.DataFrame | None = None
) -> Champion:
    """A champion of the flagship's kind, on so many fresh rows."""
    rows = draw(number, rng)
    return champion_of(features_of(rows), np.asarray(rows["reservations"], float), recipe, tags)


def champion_of(
    features: pd.DataFrame, target: np.ndarray, recipe: str = "glm", tags: pd.DataFrame | None = None
) -> Champion:
    """A champion on given rows: fitted on all of them, its reference from predictions out of fold."""
    candidates = {recipe: RECIPES[recipe]}
    prediction, fold = np.empty(len(target)), np.empty(len(target), dtype=int)
    for split in splits(RowStructure(len(target)), 5, 1, 0):
        model = fit_all(candidates, features.iloc[split.train], target[split.train], 0)[recipe]
        prediction[split.test] = model.predict(features.iloc[split.test])
        fold[split.test] = split.fold
    manifest = manifest_with_reference(features, target, prediction, fold, Kind.COUNT, tags=tags, read=READ)
    return Champion(manifest, fit_all(candidates, features, target, 0)[recipe].predict)


DAY0 = datetime(2026, 1, 1, tzinfo=UTC)


def window(
    manifest: Manifest, rules: Monitoring, day: int, predicted: pd.DataFrame, observed: pd.DataFrame
) -> Summary:
    """The summary of a day."""
    start = DAY0 + timedelta(days=day)
    return summarize(manifest, rules, start, start + timedelta(days=1), predicted, observed)


def windows(
    champion: Champion,
    days: int,
    rows: int,
    rng: np.random.Generator,
    *,
    rules: Monitoring | None = None,
    change: Change | None = None,
    demand: float = 1.0,
    with_outcomes: bool = True,
    first: int = 0,
) -> list[Summary]:
    """Summaries of days with as many fresh rows each, predicted and observed on the same day."""
    found = []
    for day in range(first, first + days):
        live = draw(max(rows, 1), rng, change, demand)
        served = champion.served(features_of(live), np.asarray(live["reservations"], float))
        served = served.iloc[:rows]
        observed = served if with_outcomes else served.iloc[:0]
        found.append(window(champion.manifest, rules or Monitoring(), day, served, observed))
    return found
