"""How much better than a plain forest, on data the choice has not seen?

    python tests/benchmarks/accuracy.py [forecast] [folder with its CSVs]

Nested, repeated cross-validation (5 folds × 4 repeats): inside each outer fold the candidate is chosen
on inner folds alone. Paired with the recipe of vroom-forecast (RandomForestRegressor, 200 trees of depth
10, on its five features) on the same folds, with the corrected resampled t-test over the folds.
Exits with 1 when the gain is not proved.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from vroom_assets import dataset, sources
from vroom_assets.contest import corrected_t
from vroom_assets.models import fit_all
from vroom_assets.spec import Candidate, Family, ForecastSpec
from vroom_assets.training import BASELINES, MEASURES, Arrangement, choose, inner_choices, one_by_one, splits

ROOT = Path(__file__).parents[2]
PLAIN = Candidate(
    family=Family.FOREST,
    features=["technology", "num_images", "street_parked", "description", "price_diff"],
    parameters={"n_estimators": 200, "max_depth": 10},
)
FOLDS, REPEATS, SEED = 5, 4, 0


def declared(forecast: str) -> ForecastSpec:
    """The declaration as it is shipped."""
    folder = ROOT / "vroom_assets" / "defs" / forecast
    attributes = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    return ForecastSpec(
        **attributes,
        features_sql=(folder / "features.sql").read_text(),
        target_sql=(folder / "target.sql").read_text(),
    )


def read_folder(spec: ForecastSpec, folder: Path) -> dataset.Dataset:
    """The feature table of a folder of CSVs, by the same code that trains."""
    import duckdb

    connection = duckdb.connect()
    for name, source in spec.sources.items():
        path = folder / Path(source.path).name
        sources.load(connection, name, source, path, str(path))
        dataset.note_origin(connection, name, {"snapshot": path.name})
    dataset.build(connection, spec)
    return dataset.read(connection, spec)


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("forecast", nargs="?", default="reservations")
    arguments.add_argument("folder", nargs="?", type=Path)
    given = arguments.parse_args()
    spec = declared(given.forecast)
    data = read_folder(spec, given.folder or ROOT / "data" / given.forecast)
    measures = MEASURES[spec.target.kind]
    everyone = spec.candidates | BASELINES | {"plain_forest": PLAIN}
    began = time.monotonic()

    outer = splits(Arrangement(len(data.target)), FOLDS, REPEATS, SEED)
    choices = inner_choices(data.features, data.target, outer, spec.candidates, spec.validation, measures)
    rows: list[dict] = []
    nested_errors = []

    def score_outer(split):
        return split, fit_all(everyone, data.features.iloc[split.train], data.target[split.train], SEED)

    for choice, (split, models) in zip(choices, one_by_one(score_outer, outer), strict=True):
        seen = data.target[split.test]
        for name, model in {**models, "vroom (nested)": models[choice]}.items():
            prediction = model.predict(data.features.iloc[split.test])
            scores = {metric: score(seen, prediction) for metric, score in measures.metrics.items()}
            rows.append({"candidate": name, "repeat": split.repeat, "fold": split.fold} | scores)
            if name == "vroom (nested)":
                nested_errors.append(prediction - seen)

    scores = pd.DataFrame(rows)
    print(f"{len(data.target)} rows, target mean {data.target.mean():.3f}; {FOLDS} folds x {REPEATS} repeats")
    print(
        f"{time.monotonic() - began:.0f} s; chosen in the outer folds: "
        + ", ".join(
            f"{name} {choices.count(name)}" for name in sorted(set(choices), key=choices.count, reverse=True)
        )
    )
    print(f"chosen on all folds: {choose(scores, list(spec.candidates), measures.select)}\n")
    table = scores.groupby("candidate")[list(measures.metrics)].mean()
    plain = scores[scores.candidate == "plain_forest"]
    proved = True
    for metric in (measures.error, measures.select):
        for name in table.index:
            mine = scores[scores.candidate == name]
            difference = plain[metric].to_numpy() - mine[metric].to_numpy()
            statistic, probability = corrected_t(difference, 1 / (FOLDS - 1))
            table.loc[name, [f"{metric}_gain", f"{metric}_t", f"{metric}_p"]] = (
                difference.mean(),
                statistic,
                probability,
            )
    print(table.sort_values(measures.error).round(4).to_string())

    vroom = table.loc["vroom (nested)"]
    share = abs(float(np.concatenate(nested_errors).mean())) / float(data.target.mean())
    checks = {
        f"{measures.error} lower by {vroom[f'{measures.error}_gain']:.3f} (asked for: 0.08)": vroom[
            f"{measures.error}_gain"
        ]
        >= 0.08,
        f"{measures.error}: corrected t p = {vroom[f'{measures.error}_p']:.4f} (asked for: < 0.05)": vroom[
            f"{measures.error}_p"
        ]
        < 0.05,
        f"{measures.select}: corrected t p = {vroom[f'{measures.select}_p']:.4f} (asked for: < 0.05)": vroom[
            f"{measures.select}_p"
        ]
        < 0.05,
        f"mean bias {share:.2%} of the mean target (asked for: < 1 %)": share < 0.01,
    }
    print()
    for text, passed in checks.items():
        print(f"{'yes' if passed else 'NO '}  {text}")
        proved &= bool(passed)
    return 0 if proved else 1


if __name__ == "__main__":
    sys.exit(main())
