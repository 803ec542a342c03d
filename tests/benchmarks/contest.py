"""Does the contest promote what is better and only that?

    python tests/benchmarks/contest.py [--simulations 100] [--vehicles 1000] [--scenarios equal better]

Draws many data sets from the generator beside the shipped data and holds a contest in each. `equal` is an
A/A contest: one recipe, its features in two orders, which are two random forests of one law. `better` has a planted true gain, measured on fresh draws with
known law; it is what the deeper trees overfit, so `better, at any size` has one that more rows do not take away. Beside the declared rule stands the usual one, "lower stored cross-validation error wins",
where the champion's error was stored on an earlier draw. Exits with 1 when equals are promoted in more
than 5 % of the contests or the better one in less than 80 %.
"""

import argparse
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from vroom_api.contract.events import Decision
from vroom_assets.champion.comparison import Entrant, compare, judge
from vroom_assets.spec import Candidate, Contest, Family, Kind, Validation
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.metrics import METRIC_SETS

GENERATOR = runpy.run_path(str(Path(__file__).parents[2] / "data" / "reservations" / "generate.py"))
MEASURE = METRIC_SETS[Kind.COUNT]
LISTED = ["technology", "num_images", "street_parked", "description", "price_diff"]
TELLING = ["technology", "num_images", "log_price_ratio", "price_diff"]


def forest(features: list[str], **parameters: float) -> Candidate:
    return Candidate(family=Family.FOREST, features=features, parameters={"n_estimators": 60, **parameters})


RECIPES = {
    "good": forest(TELLING, min_samples_leaf=15, max_features=0.5),
    "good again": forest(TELLING[::-1], min_samples_leaf=15, max_features=0.5),
    "plain": forest(LISTED, max_depth=10),
    "coarse": forest(TELLING, min_samples_leaf=60, max_features=0.5),
    "without photos": forest(
        [name for name in TELLING if name != "num_images"], min_samples_leaf=60, max_features=0.5
    ),
}
SCENARIOS = {  # champion, challenger, demand of the current data
    "equal": ("good", "good again", 1.0),
    "better": ("plain", "good", 1.0),
    "better, at any size": ("without photos", "good", 1.0),
    "worse": ("good", "plain", 1.0),
    "slightly worse": ("good", "coarse", 1.0),
    "better, demand +15 %": ("plain", "good", 1.15),
    "worse, demand -15 %": ("good", "plain", 0.85),
}


def draw(vehicles: int, rng: np.random.Generator, demand: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and counts of one data set."""
    rows = pd.DataFrame(GENERATOR["draw"](vehicles, rng, demand=demand))
    rows["price_diff"] = rows["actual_price"] - rows["recommended_price"]
    rows["log_price_ratio"] = np.log(rows["actual_price"] / rows["recommended_price"])
    return rows[[*LISTED, "log_price_ratio"]].astype(float), rows["reservations"].to_numpy(float)


def entrant(name: str, frame: pd.DataFrame) -> Entrant:
    return Entrant(name, {name: RECIPES[name]}, frame)


def true_errors(names: set[str], vehicles: int) -> dict[str, float]:
    """Error of recipes on fresh draws, trained on draws of the contest's training size; of many rows two draws say enough."""
    recipes = {name: one for name, one in RECIPES.items() if name in names}
    repeats = 12 if vehicles <= 10_000 else 2
    errors: dict[str, list[float]] = {name: [] for name in recipes}
    for number in range(repeats):
        rng = np.random.default_rng([number, 99])
        train, test = draw(vehicles * 4 // 5, rng), draw(20_000, rng)
        for name, model in fit_all(recipes, *train, seed=number).items():
            errors[name].append(MEASURE.metrics[MEASURE.error](test[1], model.predict(test[0])))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--simulations", type=int, default=100)
    arguments.add_argument("--vehicles", type=int, default=1000)
    arguments.add_argument("--scenarios", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    given = arguments.parse_args()
    began = time.monotonic()
    entrants = {name for scenario in given.scenarios for name in SCENARIOS[scenario][:2]}
    errors = true_errors(entrants, given.vehicles)
    print("true mean absolute error: " + ", ".join(f"{name} {value:.3f}" for name, value in errors.items()))

    rules, validation = Contest(), Validation()
    table = []
    for position, (scenario, (champion, challenger, demand)) in enumerate(SCENARIOS.items()):
        if scenario not in given.scenarios:
            continue
        promoted, naive, corrected = [], [], []
        for number in range(given.simulations):
            rng = np.random.default_rng([number, position])
            frame, target = draw(given.vehicles, rng, demand)
            found = compare(entrant(champion, frame), entrant(challenger, frame), target, validation, MEASURE)
            verdict, _ = judge(found, rules, same_recipe=False, new_data=False)
            promoted.append(verdict is Decision.PROMOTE)
            corrected.append(found.folds_p < 0.05)
            earlier = draw(given.vehicles, rng)
            once = validation.model_copy(update={"repeats": 1})
            stored = compare(
                entrant(champion, earlier[0]), entrant(champion, earlier[0]), earlier[1], once, MEASURE
            )
            naive.append(found.challenger_error < stored.champion_error)
            print(
                f"\r{scenario}: {number + 1} of {given.simulations}   ", end="", file=sys.stderr, flush=True
            )
        table.append(
            {
                "scenario": scenario,
                "true gain": errors[champion] - errors[challenger],
                "promoted": np.mean(promoted),
                "lower stored error": np.mean(naive),
                "corrected t p<.05": np.mean(corrected),
            }
        )
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    print(pd.DataFrame(table).round(3).to_string(index=False))
    print(f"{given.simulations} contests each on {given.vehicles} rows, {time.monotonic() - began:.0f} s")
    shares = {row["scenario"]: row["promoted"] for row in table}
    equals = shares.get("equal", 0.0)
    better = min(shares.get(name, 1.0) for name in ("better", "better, at any size"))
    good = equals <= 0.05 and better >= 0.8
    print(
        f"{'yes' if good else 'NO '}  equals promoted {equals:.0%} (at most 5 %), better ones "
        f"{better:.0%} (at least 80 %)"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
