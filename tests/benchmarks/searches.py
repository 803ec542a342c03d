"""The race beside what a user would take instead, on the same rows and one core: error, and what finding it cost.

    python tests/benchmarks/searches.py [--rows 100000] [--seconds 60 300] [--limit 3600]

Draws rows from the generator beside the shipped data. `race` is the product's own search with the model of all rows and its
nested error; scikit-learn's GridSearchCV and HalvingGridSearchCV have the same candidates, folds and metric, and fit the
winner on all rows; FLAML, where it is installed (`pip install "flaml[automl]"`), has its own candidates and so many seconds. MAE and
Poisson deviance are of 50,000 fresh rows. Each runs in a process of its own; what has not ended after `--limit` seconds is stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold
from threadpoolctl import threadpool_limits

from tests.benchmarks.accuracy import declared
from tests.benchmarks.contest import draw
from vroom_assets.spec import Candidate
from vroom_assets.training.fitting import fit_all, with_members
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.search import search

SPEC = declared("reservations")
METRICS = METRIC_SETS[SPEC.target.kind]
FRESH_ROWS = 50_000
Predict = Callable[[pd.DataFrame], np.ndarray]


class AsEstimator(RegressorMixin, BaseEstimator):
    """A candidate of the declaration, as scikit-learn's searches take it."""

    def __init__(self, candidate: str = "glm") -> None:
        self.candidate = candidate

    def fit(self, frame: pd.DataFrame, target: np.ndarray) -> AsEstimator:
        parts = with_members({self.candidate}, SPEC.candidates)
        self.fitted_ = fit_all(parts, frame, np.asarray(target), SPEC.validation.seed)[self.candidate]
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.maximum(self.fitted_.predict(frame), 1e-9)


def race(frame: pd.DataFrame, target: np.ndarray) -> tuple[str, Predict]:
    found = search(frame, target, SPEC.candidates, SPEC.validation, METRICS)
    parts: dict[str, Candidate] = with_members({found.chosen}, SPEC.candidates)
    if found.fitted is not None:
        frame, target = frame.iloc[found.fitted], target[found.fitted]
    return found.chosen, fit_all(parts, frame, target, SPEC.validation.seed)[found.chosen].predict


def by_scikit_learn(
    kind: type, **options: object
) -> Callable[[pd.DataFrame, np.ndarray], tuple[str, Predict]]:
    def run(frame: pd.DataFrame, target: np.ndarray) -> tuple[str, Predict]:
        folds = KFold(SPEC.validation.folds, shuffle=True, random_state=SPEC.validation.seed)
        one = kind(
            AsEstimator(),
            {"candidate": list(SPEC.candidates)},
            cv=folds,
            scoring="neg_mean_poisson_deviance",
            n_jobs=1,
            **options,
        ).fit(frame, target)
        return one.best_params_["candidate"], one.predict

    return run


def flaml(seconds: float) -> Callable[[pd.DataFrame, np.ndarray], tuple[str, Predict]]:
    def run(frame: pd.DataFrame, target: np.ndarray) -> tuple[str, Predict]:
        from flaml.automl.automl import AutoML

        one = AutoML()
        one.fit(
            frame, target, task="regression", metric="mse", time_budget=seconds, n_jobs=1, verbose=0, seed=1
        )
        return str(one.best_estimator), one.predict

    return run


def contenders(seconds: list[float]) -> dict[str, Callable[[pd.DataFrame, np.ndarray], tuple[str, Predict]]]:
    found: dict[str, Callable[[pd.DataFrame, np.ndarray], tuple[str, Predict]]] = {
        "race": race,
        "HalvingGridSearchCV": by_scikit_learn(HalvingGridSearchCV, random_state=1),
        "GridSearchCV": by_scikit_learn(GridSearchCV),
    }
    if importlib.util.find_spec("flaml") is None:
        print("FLAML is not installed: left out", file=sys.stderr)
        return found
    return found | {f"FLAML, {budget:g} s": flaml(budget) for budget in seconds}


def measured(name: str, rows: int, seconds: list[float]) -> dict[str, object]:
    """One line: what a contender chose, its errors on fresh rows, and what finding it cost."""
    frame, target = draw(rows, np.random.default_rng(7))
    fresh, observed = draw(FRESH_ROWS, np.random.default_rng(8))
    began, used = time.monotonic(), time.process_time()
    with threadpool_limits(1):
        chosen, predict = contenders(seconds)[name](frame, target)
    took = {"s": time.monotonic() - began, "cpu s": time.process_time() - used}
    predicted = np.maximum(predict(fresh), 1e-9)
    errors = {
        metric: METRICS.metrics[metric](observed, predicted) for metric in ("mae", "poisson_deviance", "rmse")
    }
    return {"": name, "chosen": chosen} | errors | took


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--seconds", type=float, nargs="*", default=[60, 300])
    arguments.add_argument("--limit", type=float, default=3_600)
    given = arguments.parse_args()
    lines = []
    for name in contenders(given.seconds):
        pool = multiprocessing.get_context("spawn").Pool(1)
        try:
            lines.append(pool.apply_async(measured, (name, given.rows, given.seconds)).get(given.limit))
        except multiprocessing.TimeoutError:
            lines.append({"": name, "chosen": f"stopped after {given.limit:g} s"})
        finally:
            pool.terminate()
        print(lines[-1], file=sys.stderr, flush=True)
    print(pd.DataFrame(lines).to_markdown(index=False, floatfmt=".4g"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
