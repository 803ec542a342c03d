"""What each forecast is measured by: on which folds and rows, beside which simple forecasts, against which promises.

None of it takes part in the choice among candidates, and nothing here changes what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.measured import NESTED, Measured
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, Curve, Family, ForecastSpec
from vroom_assets.training.folds import Split
from vroom_assets.training.metrics import Metric, calibration_error

Change = Callable[[ForecastSpec], ForecastSpec]
Predictions = Mapping[str, np.ndarray]
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Yardsticks:
    """How one forecast is measured.

    versus: whom everybody is paired with. candidates: simple forecasts that are fitted beside the declared ones,
    features: SQL of what they read and the declared ones do not. derived: forecasts made of others' predictions
    on the test rows of a split. metrics: beside those of the kind of target. protocols: by title, how the
    declaration's validation is changed. subsets: by title, the SQL of the keys of some rows. remarks: figures
    that are not forecasts. promises: by sentence, from the tables of all protocols and subsets.
    """

    versus: str
    promises: Callable[[Tables, Measured], dict[str, bool]]
    candidates: dict[str, Candidate] = field(default_factory=dict)
    features: str = ""
    derived: dict[str, Callable[[Dataset, Split, Predictions], np.ndarray]] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    protocols: dict[str, Change] = field(default_factory=lambda: {"as declared": lambda spec: spec})
    subsets: dict[str, str] = field(default_factory=dict)
    remarks: Callable[[Measured, Any], list[str]] = lambda found, connection: []
    repeats: int = 2


def validated(**changes: Any) -> Change:
    """The same declaration with another validation."""
    return lambda spec: spec.model_copy(update={"validation": spec.validation.model_copy(update=changes)})


def line(table: pd.DataFrame, name: str) -> dict[str, float]:
    """The figures of one forecast."""
    return {str(column): float(value) for column, value in zip(table.columns, table.loc[name], strict=True)}


# reservations


def reservations_promises(tables: Tables, found: Measured) -> dict[str, bool]:
    vroom = line(next(iter(tables.values())), NESTED)
    gain, mae_p, deviance_p = vroom["gain"], vroom["p, folds"], vroom["p, poisson_deviance"]
    share = abs(vroom["bias"]) / found.data.target.mean()
    return {
        f"mae lower by {gain:.3f} (asked for: 0.08)": gain >= 0.08,
        f"mae: corrected t p = {mae_p:.4f} (asked for: < 0.05)": mae_p < 0.05,
        f"poisson_deviance: corrected t p = {deviance_p:.4f} (asked for: < 0.05)": deviance_p < 0.05,
        f"mean bias {share:.2%} of the mean target (asked for: < 1 %)": share < 0.01,
    }


PLAIN = Candidate(
    family=Family.FOREST,
    features=["technology", "num_images", "street_parked", "description", "price_diff"],
    parameters={"n_estimators": 200, "max_depth": 10},
)

# upcoming_reservations

CONCENTRATION = 3.0  # 1 / variance of the rate between vehicles that are listed alike
WINDOW = 90.0  # days


def gamma_poisson(data: Dataset, split: Split, predictions: Predictions) -> np.ndarray:
    """The listing's forecast, moved towards the vehicle's own rate as far as its days and reservations tell."""
    listing = predictions["listing_only"]
    rows = data.inputs.iloc[split.test]
    expected = listing / WINDOW * rows["days_listed"].to_numpy()
    return listing * (CONCENTRATION + rows["reservations_so_far"].to_numpy()) / (CONCENTRATION + expected)


def poisson_floor(found: Measured, connection: Any) -> list[str]:
    """Mean error of a Poisson count of known rate; the rate is taken from past and future, shrunk to the mean."""
    from scipy.stats import poisson

    rows = found.tested
    days = found.data.inputs["days_listed"].to_numpy()[rows] + WINDOW
    count = found.data.inputs["reservations_so_far"].to_numpy()[rows] + found.data.target[rows]
    mean = WINDOW * count.sum() / days.sum()
    rate = mean * (CONCENTRATION + count) / (CONCENTRATION + mean * days / WINDOW)
    whole = np.floor(rate)
    floor = float(np.mean(2 * rate * poisson.pmf(whole, rate)))  # mean deviation (Crow 1958)
    return [
        f"Poisson floor, with a rate that is taken from the future as well and so is not a forecast: MAE {floor:.3f}"
    ]


def upcoming_promises(tables: Tables, found: Measured) -> dict[str, bool]:
    promises: dict[str, bool] = {}
    for title, one in tables.items():
        vroom, shrunk = line(one, NESTED), line(one, "gamma_poisson")
        mine, theirs, gain, p = vroom["mae"], shrunk["mae"], vroom["gain"], vroom["p"]
        short = title.partition(":")[0]
        promises |= {
            f"{short}: mae lower than by the listing by {gain:.3f}, p = {p:.4f} (asked for: < 0.05)": p
            < 0.05,
            f"{short}: mae {mine:.3f}, at most 1 % above gamma-Poisson's {theirs:.3f}": mine <= 1.01 * theirs,
        }
    return promises


# lap_times

CLEAN = """
    with pace as (select season, circuit, session, median(lap_time) as pace from laps group by all),
    clean as (
        from laps join pace using (season, circuit, session)
        where lap > 1 and pit_in + pit_out + safety_car = 0 and weather = 'dry'
            and compound in ('soft', 'medium', 'hard') and lap_time < 1.07 * pace
    )
"""
CLEAN_TARGET = f"""
    {CLEAN}
    select now.lap_id
    from laps as now
    join clean as next using (season, circuit, session, driver)
    where next.lap = now.lap + 1
"""
CLEAN_LAPS = f"""
    {CLEAN}
    select now.lap_id
    from clean as now
    join clean as before using (season, circuit, session, driver)
    join clean as earlier using (season, circuit, session, driver)
    join clean as next using (season, circuit, session, driver)
    where before.lap = now.lap - 1 and earlier.lap = now.lap - 2 and next.lap = now.lap + 1
"""


def sessions(found: Measured, connection: Any) -> list[str]:
    """Errors of each session, best first."""
    laps = connection.execute("select lap_id, circuit, session from laps").df().set_index("lap_id")
    rows = found.tested
    table = laps.loc[found.data.keys[rows]].assign(
        vroom=found.losses(NESTED)[rows], previous_lap=found.losses("previous_lap")[rows]
    )
    mean = table.groupby(["circuit", "session"])[["vroom", "previous_lap"]].mean().sort_values("vroom")
    size = table.groupby(["circuit", "session"]).size()
    best, middle, worst = (float(mean["vroom"].quantile(share)) for share in (0, 0.5, 1))
    return [
        f"mae per session: best {best:.3f}, median {middle:.3f}, worst {worst:.3f}; below 0.3 s in "
        f"{int((mean['vroom'] < 0.3).sum())} of {len(mean)}; lower than the previous lap's in "
        f"{int((mean['vroom'] < mean['previous_lap']).sum())}",
        *(
            f"  {circuit}, {session}: {row.vroom:.3f} (previous lap {row.previous_lap:.3f}, {size[circuit, session]} laps)"
            for (circuit, session), row in zip(mean.index, mean.itertuples(), strict=True)
        ),
    ]


def lap_promises(tables: Tables, found: Measured) -> dict[str, bool]:
    every, *filtered = (line(one, NESTED) for one in tables.values())
    gain, p, median = every["gain"], every["p"], every["median_error"]
    promises = {
        f"all laps: mae lower than the previous lap's by {gain:.3f}, p = {p:.4f} (asked for: < 0.05)": p
        < 0.05,
        f"all laps: median error {median:.3f} s (asked for: ≤ 0.25)": median <= 0.25,
    }
    for title, clean in zip(("clean target", "four clean laps"), filtered, strict=True):
        mae, share = clean["mae"], clean["gain"] / (clean["gain"] + clean["mae"])
        promises |= {
            f"{title}: mae {mae:.3f} s (asked for: ≤ 0.37)": mae <= 0.37,
            f"{title}: {share:.1%} below the previous lap's (asked for: 14 %)": share >= 0.14,
        }
    return promises


# market_resolution

BOOSTING = {"max_iter": 60, "learning_rate": 0.05, "max_leaf_nodes": 6, "min_samples_leaf": 100}
PRICED = [
    "price",
    "week_odds",
    "urgency",
    "log_volume",
    "spread_to_volatility",
    "share_of_life",
    "politics",
    "sports",
]
UNPRICED = ["urgency", "log_volume", "share_of_life", "politics", "sports"]


def boosting(features: list[str], calibration: Curve | None = None) -> Candidate:
    return Candidate(
        family=Family.BINARY_BOOSTING, features=features, parameters=BOOSTING, calibration=calibration
    )


def by_chance(found: Measured, connection: Any, draws: int = 500) -> list[str]:
    """The calibration error that chance gives a perfect forecast, where a market's weeks have one outcome."""
    rows = found.tested
    prediction = found.mean_prediction(NESTED)[rows]
    groups = found.data.row_structure.groups
    assert groups is not None
    _, market = np.unique(groups[rows], return_inverse=True)
    rng = np.random.default_rng(0)
    errors = [
        calibration_error((rng.random(market.max() + 1)[market] < prediction).astype(float), prediction)
        for _ in range(draws)
    ]
    return [
        f"calibration error of a perfect forecast on these {market.max() + 1} markets: mean {np.mean(errors):.3f}, "
        f"up to {np.quantile(errors, 0.95):.3f} in 95 of 100 draws"
    ]


def market_promises(tables: Tables, found: Measured) -> dict[str, bool]:
    promises: dict[str, bool] = {}
    for title, one in tables.items():
        vroom, market = line(one, NESTED), line(one, "market")
        mine, theirs, calibration = vroom["brier"], market["brier"], vroom["calibration_error"]
        promises |= {
            f"{title}: brier {mine:.4f}, at most 1 % above the market's {theirs:.4f}": mine <= 1.01 * theirs,
            f"{title}: calibration error {calibration:.3f} (asked for: ≤ 0.04)": calibration <= 0.04,
        }
    return promises


YARDSTICKS = {
    "reservations": Yardsticks(
        versus="plain_forest",
        candidates={"plain_forest": PLAIN},
        repeats=4,
        promises=reservations_promises,
    ),
    "upcoming_reservations": Yardsticks(
        versus="listing_only",
        features="90.0 * reservations_so_far / greatest(days_listed, 1.0) as own_rate",
        candidates={"own_rate": Candidate(family=Family.FEATURE, features=["own_rate"])},
        derived={"gamma_poisson": gamma_poisson},
        protocols={
            "as declared: other vehicles, forward in time": lambda spec: spec,
            "any quarter: other vehicles": validated(order=None, folds=5),
        },
        remarks=poisson_floor,
        promises=upcoming_promises,
    ),
    "lap_times": Yardsticks(
        versus="previous_lap",
        metrics={"within_0.3": lambda target, prediction: float((np.abs(target - prediction) < 0.3).mean())},
        protocols={"as declared: circuits held out, all laps that are driven through": lambda spec: spec},
        subsets={
            "FILTERED by the target: the next lap is not the first, dry, on slicks and below 107 % of the "
            "session's median": CLEAN_TARGET,
            "FILTERED by the target and the laps before: this lap, the two before and the next are such": CLEAN_LAPS,
        },
        remarks=sessions,
        promises=lap_promises,
    ),
    "market_resolution": Yardsticks(
        versus="market",
        candidates={
            "boosting_raw": boosting(PRICED),
            "boosting_sigmoid": boosting(PRICED, Curve.SIGMOID),
            "boosting_without_price": boosting(UNPRICED),
        },
        protocols={
            "as declared: other markets, forward in time": lambda spec: spec,
            "other markets, at any time": validated(order=None, folds=5),
        },
        remarks=by_chance,
        repeats=1,
        promises=market_promises,
    ),
}
