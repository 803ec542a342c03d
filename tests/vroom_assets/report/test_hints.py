"""What to try next, from figures."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import changed, feature_field, input_field, manifest_of
from tests.support.vans import bookings
from vroom_api.contract import Manifest, Pointer, Recipe, Scores
from vroom_assets.report.facts import Facts
from vroom_assets.report.hints import FINE, hints

GOOD: dict[str, Any] = {
    "error": "mae",
    "select": "poisson_deviance",
    "nested": {"mae": 3.0, "poisson_deviance": 2.0, "bias": 0.01},
    "cv_mean": {"mae": 3.0},
    "cv_std": {"mae": 0.1},
    "folds": [3.0, 3.0],
    "baselines": {"mean": {"mae": 6.0, "poisson_deviance": 4.0}},
    "train": {"mae": 2.8},
    "coverage": {"overall": 0.91, "lower_tercile": 0.9},
}


def manifest(**scores: Any) -> Manifest:
    fields = [input_field(name, 0, 1) for name in ("a", "b", "c")]
    return manifest_of(
        fields,
        [feature_field(name, name, [name]) for name in ("a", "b", "c")],
        recipe=Recipe(name="forest", family="forest", features=["a", "b"], definition={}),
        importances={"a": 0.5, "b": 0.4, "c": 0.0},
        scores=Scores(**GOOD | scores),
    )


def hint_of(declared: Manifest, **facts: Any) -> str:
    (found,) = hints(Facts("bookings", **{"spec": bookings({"price": {"type": "number"}})} | facts), declared)
    return found


def test_where_nothing_stands_out_it_says_so():
    assert hint_of(manifest()) == FINE


def test_without_a_declaration_no_gate_is_near():
    assert hint_of(manifest(coverage={"overall": 0.885}), spec=None) == FINE


def test_gates_that_were_not_passed_come_first():
    pointer = Pointer(
        generation=1, version=3, manifest_sha256="", published_at="", provisional=("bias is 9 %; more rows",)
    )
    assert hint_of(manifest(), pointer=pointer) == "A gate is not passed: bias is 9 %; more rows."


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"coverage": {"overall": 0.885}}, "The 90 % interval covers 0.885, near the end of what is allowed"),
        ({"coverage": {"overall": 0.91, "upper_tercile": 0.845}}, "Coverage in the upper tercile is 0.845"),
        ({"nested": GOOD["nested"] | {"bias": -0.225}}, "The mean error is 4.5% of the mean target; 5% is"),
        ({"nested": GOOD["nested"] | {"calibration_error": 0.036}}, "The calibration error is 0.036; 0.04"),
        ({"baselines": {"mean": {"mae": 3.03}}}, "Only 1.0% of the error of the mean is saved"),
        ({"train": {"mae": 1.2}}, "mae is 1.2 on the rows of the training and 3 on others"),
    ],
)
def test_figures_that_are_near_a_limit(scores, words):
    assert hint_of(manifest(**scores)).startswith(words)


def test_features_that_are_worth_nothing_and_one_that_is_worth_all():
    idle = changed(manifest(), importances={"a": 0.5, "b": 0.001, "c": 0.0})
    little, most = hints(Facts("bookings"), idle)
    assert little.startswith("Without these features the error would hardly be larger: b.")  # c is not read
    assert most.startswith("Nearly all that is known comes from a: is it known at the time")


def test_a_target_that_moved():
    before = changed(manifest(), target_mean=4.0, version=2, mlflow_run_id="other")
    words = "The mean target went from 4 in the data of version 2 to 5, by +25%."
    assert hint_of(manifest(), former=[before]).startswith(words)
    assert hint_of(manifest(), former=[changed(before, target_mean=4.9)]) == FINE


def folds(gap: float) -> pd.DataFrame:
    noise = np.random.default_rng(0).normal(0, 0.1, 10)
    rows = [
        {"candidate": name, "repeat": number // 5, "fold": number % 5, "poisson_deviance": value}
        for number in range(10)
        for name, value in {
            "forest": 2.0,
            "boosting": 2.0 + gap + noise[number],
            "glm": 3.0,
            "mean": 1.0,
        }.items()
    ]
    return pd.DataFrame(rows)


def test_another_candidate_within_noise():
    found = hint_of(manifest(), folds=folds(0.02))
    assert found.startswith("boosting is within noise of forest (poisson_deviance 2.0")
    assert hint_of(manifest(), folds=folds(0.5)) == FINE


def test_groups_whose_errors_are_large():
    parts = pd.DataFrame({"value": ["tiny", "far", "near"], "rows": [3, 40, 500], "mae": [30.0, 5.0, 2.9]})
    found = hint_of(manifest(), errors_by={"region": parts})
    assert found.startswith("Errors are largest where region is far: mae 5, 3 over all.")
