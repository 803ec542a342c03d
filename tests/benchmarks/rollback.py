"""Is a new champion that is worse rolled back, and only such a one?

    python tests/benchmarks/rollback.py [--successors 200] [--days 14] [--rows 200]

Draws data from the generator beside the shipped ones. `equal` is an A/A promotion: one recipe, fitted on two draws of 1,000
vehicles. A worse successor is the same model with what makes its error larger by a share that is measured on 20,000 fresh
rows: `high` forecasts too much of everything, `blunt` tells less apart, `noisy` adds noise. The live rows of each day are drawn
afresh, and both versions answer them. Beside our rule, which is looked up after every day, stand the usual ones on the same
streams: a paired t-test with p < .05 on any day, and the larger error after all days. Exits with 1 when more than 5 % of
equals are rolled back.
"""

import argparse
import math
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from vroom_assets.monitoring.betting import log_evidence
from vroom_assets.monitoring.shadow import bet_on, largest_gain
from vroom_assets.spec import Candidate, Contest, Family, Kind, Monitoring
from vroom_assets.training.fitting import fit_one
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.models import Fitted

GENERATOR = runpy.run_path(str(Path(__file__).parents[2] / "data" / "reservations" / "generate.py"))
FEATURES = ["technology", "num_images", "log_price_ratio", "price_diff"]
RECIPE = Candidate(
    family=Family.FOREST,
    features=FEATURES,
    parameters={"n_estimators": 60, "min_samples_leaf": 15, "max_features": 0.5},
)
LOSS = METRIC_SETS[Kind.COUNT].row_loss
VEHICLES, FRESH, TYPICAL = 1000, 20_000, 64
Distortion = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def draw(vehicles: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    rows = pd.DataFrame(GENERATOR["draw"](vehicles, rng))
    rows["price_diff"] = rows["actual_price"] - rows["recommended_price"]
    rows["log_price_ratio"] = np.log(rows["actual_price"] / rows["recommended_price"])
    return rows[FEATURES].astype(float), rows["reservations"].to_numpy(float)


def high(prediction: np.ndarray, size: float, _: np.random.Generator) -> np.ndarray:
    return prediction * (1 + size)


def blunt(prediction: np.ndarray, size: float, _: np.random.Generator) -> np.ndarray:
    return prediction + min(size, 1.0) * (prediction.mean() - prediction)


def noisy(prediction: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    return np.maximum(prediction * (1 + size * rng.standard_normal(len(prediction))), 0.0)


@dataclass(frozen=True)
class Pair:
    """A version and the one after it, and how much larger the latter's error truly is, as a share."""

    predecessor: Fitted
    successor: Callable[[pd.DataFrame], np.ndarray]
    truly: float
    reference_loss: float


@dataclass(frozen=True)
class Result:
    """day: of the roll-back by our rule, None where there is none."""

    day: int | None
    any_t: bool
    larger: bool
    truly: float


@dataclass(frozen=True)
class Trainings:
    """Two of one recipe, and fresh rows with the first one's predictions of them."""

    number: int
    before: Fitted
    after: Fitted
    frame: pd.DataFrame
    target: np.ndarray
    first: np.ndarray

    def error_of(self, prediction: np.ndarray) -> float:
        return float(LOSS(self.target, prediction).mean())


def trainings(number: int) -> Trainings:
    rng = np.random.default_rng([number, 1])
    before, after = (fit_one("forest", RECIPE, *draw(VEHICLES, rng), seed=number + k) for k in (0, 1))
    frame, target = draw(FRESH, rng)
    return Trainings(number, before, after, frame, target, before.predict(frame))


def pair(one: Trainings, worse: float, distortion: Distortion | None) -> Pair:
    reference = one.error_of(one.first)
    if distortion is None:
        error = one.error_of(one.after.predict(one.frame))
        return Pair(one.before, one.after.predict, error / reference - 1, reference)

    def truly(size: float) -> float:
        return one.error_of(distortion(one.first, size, np.random.default_rng(one.number))) / reference - 1

    # How much the predecessor's own predictions are distorted, found on the fresh rows.
    low, high_ = 0.0, 1.0 if distortion is blunt else 2.0
    for _ in range(20):
        middle = (low + high_) / 2
        low, high_ = (middle, high_) if truly(middle) < worse else (low, middle)
    size = (low + high_) / 2

    def successor(rows: pd.DataFrame) -> np.ndarray:
        return distortion(one.before.predict(rows), size, np.random.default_rng([one.number, len(rows)]))

    return Pair(one.before, successor, truly(size), reference)


def live(one: Pair, number: int, days: int, rows: int, rules: Monitoring, contest: Contest) -> Result:
    """What becomes of a promotion."""
    rng = np.random.default_rng([number, 2])
    frame, target = draw(days * rows, rng)
    before, after = one.predecessor.predict(frame), one.successor(frame)
    difference = LOSS(target, after) - LOSS(target, before)
    typical_rows, _ = draw(TYPICAL, rng)
    typical = largest_gain(
        Kind.COUNT, one.successor(typical_rows), one.predecessor.predict(typical_rows)
    ).max()
    tolerated = contest.margin * one.reference_loss
    values = bet_on(difference, largest_gain(Kind.COUNT, after, before), float(typical), tolerated)
    evidence = np.maximum.accumulate(log_evidence(np.split(values, days), 0.5))
    counts = np.arange(1, days + 1) * rows
    means = np.cumsum(difference)[counts - 1] / counts
    worse = (evidence >= math.log(1 / rules.false_alarms)) & (means > tolerated)
    deviations = np.array([difference[:count].std(ddof=1) / math.sqrt(count) for count in counts])
    return Result(
        day=int(np.argmax(worse)) + 1 if worse.any() else None,
        any_t=bool((means / deviations > norm.ppf(0.95)).any()),
        larger=bool(means[-1] > 0),
        truly=one.truly,
    )


def line(name: str, found: list[Result], contest: Contest) -> dict[str, str]:
    days = [one.day for one in found if one.day is not None]
    wrongly = [one for one in found if one.day is not None and one.truly <= contest.margin]
    return {
        "successor": name,
        "truly": f"{np.mean([one.truly for one in found]):+.1%}",
        "rolled back": f"{len(days) / len(found):.1%}",
        "wrongly": f"{len(wrongly) / len(found):.1%}",
        "median day": f"{np.median(days):.0f}" if days else "",
        "90 % by day": f"{np.quantile(days, 0.9):.0f}" if days else "",
        "t-test on any day": f"{np.mean([one.any_t for one in found]):.1%}",
        "larger after all": f"{np.mean([one.larger for one in found]):.1%}",
    }


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--successors", type=int, default=200, help="equal ones; of worse ones a quarter each"
    )
    arguments.add_argument("--days", type=int, default=14)
    arguments.add_argument("--rows", type=int, default=200)
    given = arguments.parse_args()
    began = time.monotonic()
    rules, contest = Monitoring(), Contest()
    scenarios: list[tuple[str, float, Distortion | None]] = [("equal", 0.0, None)]
    scenarios += [
        (f"{kind.__name__}, {worse:.0%} worse", worse, kind)
        for worse in (0.01, 0.05, 0.10, 0.20)
        for kind in (high, blunt, noisy)
    ]
    fewer = max(given.successors // 4, 1)
    found: dict[str, list[Result]] = {name: [] for name, _, _ in scenarios}
    for number in range(given.successors):
        one = trainings(number)
        for name, worse, distortion in scenarios:
            if distortion is None or number < fewer:
                made = pair(one, worse, distortion)
                found[name].append(live(made, number, given.days, given.rows, rules, contest))
        print(f"\r{number + 1} of {given.successors}   ", end="", file=sys.stderr, flush=True)
    table = [line(name, results, contest) for name, results in found.items()]
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    print(pd.DataFrame(table).to_string(index=False))
    print(
        f"{given.successors} equal successors, {fewer} of each other, {given.days} days of "
        f"{given.rows} rows, {contest.margin:.0%} tolerated, {time.monotonic() - began:.0f} s"
    )
    equal = float(np.mean([one.day is not None for one in found["equal"]]))
    good = equal <= rules.false_alarms
    print(f"{'yes' if good else 'NO '}  equals rolled back {equal:.1%} (at most {rules.false_alarms:.0%})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
