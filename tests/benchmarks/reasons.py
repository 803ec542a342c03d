"""How long reasons take, and how precise they are, by the number of inputs.

    python tests/benchmarks/reasons.py [--inputs 10 65 100 200] [--times 20] [--trees 300]

A boosting and a forest are fitted on made rows, exported as they are served, and asked for the reasons of rows that they
have not seen. The error is the root mean square of the standard errors of the amounts, and the largest, as a share of the largest
amount.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.tiny import input_field, manifest_of
from vroom_api.contract.model import open_model, score
from vroom_api.explanation.reasons import explain
from vroom_assets.challenger.manifest import BACKGROUND_ROWS
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import parse
from vroom_assets.spec import Candidate, Family
from vroom_assets.training.fitting import fit_all

ROWS = 5_000


def candidates(trees: int) -> dict[str, Candidate]:
    return {
        "boosting": Candidate(family=Family.BOOSTING, parameters={"max_iter": trees, "learning_rate": 0.05}),
        "forest": Candidate(family=Family.FOREST, parameters={"n_estimators": trees, "min_samples_leaf": 10}),
    }


def made(inputs: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of which each input counts, fewer and fewer, and neighbours count together."""
    rng = np.random.default_rng(inputs)
    values = rng.normal(size=(ROWS, inputs))
    weights = 0.95 ** np.arange(inputs)
    mean = values @ weights + (values[:, :-1] * values[:, 1:]) @ weights[:-1]
    frame = pd.DataFrame(values, columns=[f"x{number}" for number in range(inputs)])
    return frame, mean + rng.normal(size=ROWS)


def measure(inputs: int, times: int, trees: int) -> None:
    frame, target = made(inputs)
    names = list(frame.columns)
    features = parse(f"select {', '.join(f'{name} as {name}' for name in names)} from inputs", names)
    seen = frame.iloc[times:]
    declared = {name: one.model_copy(update={"features": names}) for name, one in candidates(trees).items()}
    for name, fitted in fit_all(declared, seen, target[times:], 7).items():
        session = open_model(build(names, features, fitted).SerializeToString())
        order = np.argsort(fitted.predict(seen), kind="stable")
        rows = order[(np.arange(BACKGROUND_ROWS) + 0.5).astype(int) * len(order) // BACKGROUND_ROWS]
        fields = [input_field(one, -5, 5) for one in names]
        manifest = manifest_of(fields, background=seen.to_numpy()[rows].tolist())
        taken, typical, largest, orders = [], [], [], 0
        for row in frame.to_numpy()[:times]:
            began = time.perf_counter()
            found = explain(partial(score, session), manifest, row)
            taken.append(1_000 * (time.perf_counter() - began))
            errors = np.array([reason.error for reason in found.reasons])
            most = abs(found.reasons[0].amount)
            typical.append(np.sqrt(np.mean(errors**2)) / most)
            largest.append(errors.max() / most)
            if found.approximation is not msgspec.UNSET:
                orders = found.approximation.orders
        print(
            f"| {inputs} | {name} | {np.median(taken):.0f} | {np.quantile(taken, 0.99):.0f} | {orders or 'all'} | "
            f"{np.mean(typical):.2%} | {np.mean(largest):.2%} |",
            flush=True,
        )


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--inputs", type=int, nargs="+", default=[10, 65, 100, 200])
    arguments.add_argument("--times", type=int, default=20)
    arguments.add_argument("--trees", type=int, default=300)
    given = arguments.parse_args()
    print("| inputs | model | p50 ms | p99 ms | orders | error | largest |")
    print("|---|---|---|---|---|---|---|")
    for inputs in given.inputs:
        measure(inputs, given.times, given.trees)
    return 0


if __name__ == "__main__":
    sys.exit(main())
