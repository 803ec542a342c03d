"""LightGBM: what it takes, and that its graph gives its numbers. The graph is proved further in test_onnx_graph."""

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vroom_assets.challenger.onnx_graph import build
from vroom_assets.challenger.parity import parity
from vroom_assets.features.expressions import Feature
from vroom_assets.spec import Candidate, Family
from vroom_assets.training.families import check_parameters
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.lightgbm_model import trees_of
from vroom_assets.training.models import CandidateError, Fitted

COLUMNS = ["ties", "gaps", "level"]
LEVELS = {"level": 40}
PARAMETERS = {"n_estimators": 15, "min_child_samples": 2, "min_data_per_group": 2, "cat_smooth": 0.1}


def candidate(family: Family = Family.LIGHTGBM, **parameters: object) -> Candidate:
    return Candidate(family=family, features=COLUMNS, parameters=PARAMETERS | parameters).on_features(
        LEVELS, frozenset({"gaps"})
    )


def fitted(one: Candidate, frame: pd.DataFrame, target: np.ndarray) -> Fitted:
    return fit_all({"one": one}, frame, target, 7)["one"]


def gap(model: Fitted, frame: pd.DataFrame) -> float:
    """The largest difference between the graph and the model."""
    graph = build(COLUMNS, [Feature(name, name) for name in COLUMNS], model).SerializeToString()
    rows = frame.to_numpy()
    return parity(graph, rows, rows, model.predict(frame), []).prediction


def made(seed: int, rows: int, missing: float, scale: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with ties, zeros of both signs, values that are nearly 0, gaps, and levels of which some never come."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "ties": rng.choice([-1.5, -0.0, 0.0, 1e-36, 0.1, 2.5], rows),
            "gaps": np.where(rng.uniform(size=rows) < missing, np.nan, rng.normal(0, 1, rows)),
            "level": np.where(rng.uniform(size=rows) < missing / 2, np.nan, rng.integers(0, 35, rows)),
        }
    )
    frame = frame.astype(np.float32).astype(np.float64)
    target = (
        frame["ties"] + frame["gaps"].fillna(3) + 2 * (frame["level"] % 3 == 1) + rng.normal(0, 0.3, rows)
    )
    return frame, scale * (6 + target.to_numpy())


WANTED = {
    (Family.LIGHTGBM, "l2"): lambda target: target,
    (Family.LIGHTGBM, "l1"): lambda target: target - target.mean(),
    (Family.LIGHTGBM, "quantile"): lambda target: target,
    (Family.LIGHTGBM, "gamma"): lambda target: np.abs(target) + 1,
    (Family.LIGHTGBM, "tweedie"): lambda target: np.maximum(target - target.mean(), 0),
    (Family.POISSON_LIGHTGBM, "poisson"): lambda target: np.floor(np.abs(target)),
    (Family.BINARY_LIGHTGBM, "binary"): lambda target: (target > target.mean()).astype(float),
}


@pytest.mark.parametrize(("family", "objective"), WANTED, ids=lambda one: str(one))
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(30, 300),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    scale=st.sampled_from([1.0, 1e5]),
    learning_rate=st.sampled_from([0.1, 1.0]),
)
@settings(max_examples=8)
def test_the_graph_gives_the_numbers_of_the_model(
    family, objective, seed, rows, missing, scale, learning_rate
):
    frame, target = made(seed, rows, missing, scale)
    target = WANTED[family, objective](target)
    model = fitted(candidate(family, objective=objective, learning_rate=learning_rate), frame, target)
    thresholds = np.concatenate([tree.threshold for tree in trees_of(model.estimator)])
    edges = np.unique(np.concatenate([thresholds, [0.0, -0.0, 1e-36, -1e-36, 1e30]])).astype(np.float32)
    edges = np.concatenate(
        [edges, np.nextafter(edges, np.float32(9e9)), np.nextafter(edges, np.float32(-9e9)), [np.nan]]
    ).astype(float)
    rng = np.random.default_rng(seed)
    new = pd.DataFrame(
        {
            "ties": rng.choice(edges, 400),  # missing here, where training may never have missed it
            "gaps": rng.choice(edges, 400),
            "level": rng.choice(
                [*range(40), 99.0, np.nan], 400
            ),  # levels that training did not have, and beyond
        }
    )
    assert gap(model, frame) <= 1e-6
    assert gap(model, new) <= 1e-6


def test_targets_that_are_all_alike_are_one_leaf_and_large_ones_keep_their_digits():
    frame, _ = made(1, 60, 0.1, 1.0)
    model = fitted(candidate(), frame, np.full(60, 123_456.789))
    assert model.predict(frame) == pytest.approx(123_456.789, rel=1e-9)
    assert gap(model, frame) <= 1e-9
    frame, target = made(1, 300, 0.1, 1.0)
    assert gap(fitted(candidate(), frame, target + 1e7), frame) <= 1e-9


def test_the_same_rows_give_the_same_model():
    frame, target = made(3, 200, 0.1, 1.0)
    one, other = (fitted(candidate(subsample=0.7, subsample_freq=1), frame, target) for _ in range(2))
    assert one.estimator.booster.model_to_string() == other.estimator.booster.model_to_string()


def test_a_declared_direction_is_kept():
    frame, target = made(4, 300, 0.0, 1.0)
    rising = candidate(n_estimators=60).model_copy(update={"monotone": {"gaps": "increasing"}})
    noisy = target - 3 * (np.abs(frame["gaps"]) < 0.3).to_numpy()
    model = fitted(rising, frame, noisy)
    curve = model.predict(pd.DataFrame({"ties": 0.1, "gaps": np.linspace(-2, 2, 80), "level": 3.0}))
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] - curve[0] > 1


@pytest.mark.parametrize(
    ("family", "parameters", "message"),
    [
        (
            Family.LIGHTGBM,
            {"leaves": 7},
            "parameter 'leaves' does not exist; LightGBM takes objective, n_estimators,",
        ),
        (Family.LIGHTGBM, {"zero_as_missing": True}, "parameter 'zero_as_missing' is set by its family"),
        (Family.LIGHTGBM, {"objective": "huber"}, "use one of l2, l1, quantile, gamma, tweedie"),
        (
            Family.BINARY_LIGHTGBM,
            {"objective": "l2"},
            "objective 'l2' is not for binary_lightgbm; use one of binary",
        ),
        (Family.LIGHTGBM, {"num_leaves": 1}, "LightGBM says: "),
        (Family.LIGHTGBM, {"learning_rate": "fast"}, "LightGBM says: "),
        (Family.POISSON_LIGHTGBM, {"num_leaves": [7, 1]}, "LightGBM says: "),
        (Family.LIGHTGBM, {"n_estimators": -5}, "LightGBM says: "),
        (Family.LIGHTGBM, {"n_estimators": "many"}, "LightGBM says: "),
    ],
)
def test_what_it_does_not_take_is_known_before_anything_is_trained(family, parameters, message):
    with pytest.raises(CandidateError) as refusal:
        check_parameters("mine", candidate(family, **parameters))
    assert "candidate mine: " in str(refusal.value)
    assert message in str(refusal.value)


def test_what_it_takes_is_accepted():
    for (family, objective), _ in WANTED.items():
        check_parameters("mine", candidate(family, objective=objective))


def test_without_the_extra_it_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(
        CandidateError, match=r"not installed; run pip install 'vroom\[lightgbm\]', or choose"
    ):
        check_parameters("mine", candidate())
    check_parameters("other", Candidate(family=Family.BOOSTING, features=["ties"]))
