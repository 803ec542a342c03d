"""A graph with tables gives what the graph with trees gives, bit by bit."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from vroom_api.contract.model import open_model, score
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import parse
from vroom_assets.scoring.ensembles import cells_of, tabulated
from vroom_assets.spec import Candidate, Family
from vroom_assets.training.fitting import fit_all

NAMES = ["age", "price", "flag"]
GAPS = ["boosting", "both"]  # candidates that take missing values
CANDIDATES = {
    "boosting": Candidate(family=Family.POISSON_BOOSTING, features=NAMES, parameters={"max_iter": 15}),
    "forest": Candidate(
        family=Family.FOREST, features=NAMES, parameters={"n_estimators": 10, "max_leaf_nodes": 12}
    ),
    "deep": Candidate(family=Family.FOREST, features=NAMES, parameters={"n_estimators": 200}),
    "glm": Candidate(family=Family.POISSON_GLM, features=NAMES),
    "both": Candidate(family=Family.AVERAGE, members=["boosting", "forest"]),
}


def drawn(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.uniform(0, 20, rows), rng.lognormal(3, 1, rows), rng.integers(0, 2, rows)]
    ).astype(float)


@cache
def graphs() -> dict[str, bytes]:
    rows = drawn(3000, 0).astype(np.float32).astype(float)
    target = np.random.default_rng(1).poisson(1 + rows[:, 0] / 5 + rows[:, 2])
    fitted = fit_all(CANDIDATES, pd.DataFrame(rows, columns=NAMES), target.astype(float), 0)
    features = parse("select age, price, flag from inputs", NAMES)
    return {name: build(NAMES, features, model).SerializeToString() for name, model in fitted.items()}


def outputs(model: bytes, rows: np.ndarray) -> list[bytes]:
    return [one.tobytes() for one in score(open_model(model), rows)]


@pytest.mark.parametrize("name", ["boosting", "forest", "both"])
@given(data=st.data())
def test_every_row_has_the_same_prediction(name, data):
    model = graphs()[name]
    value = st.floats(-1, 1e6) | st.sampled_from(thresholds_of(model))
    value = value | st.just(np.nan) if name in GAPS else value
    rows = data.draw(st.lists(st.tuples(value, value, value), min_size=1, max_size=50))
    assert outputs(model, np.array(rows)) == outputs(quick()[name], np.array(rows))


@cache
def quick() -> dict[str, bytes]:
    return {name: tabulated(graphs()[name]) for name in ("boosting", "forest", "both")}


@cache
def thresholds_of(model: bytes) -> list[float]:
    tensors = [
        one.t
        for node in ModelProto.FromString(model).graph.node
        for one in node.attribute
        if one.name == "nodes_values_as_tensor"
    ]
    return sorted({value for one in tensors for value in np.frombuffer(one.raw_data).tolist()})


@pytest.mark.parametrize("name", ["boosting", "forest", "both"])
def test_the_trees_are_gone(name):
    def nodes(model: bytes) -> int:
        return sum(
            len(one.ints)
            for node in ModelProto.FromString(model).graph.node
            for one in node.attribute
            if one.name == "nodes_treeids"
        )

    assert 0 < cells_of(graphs()[name]) < 4_000_000
    assert nodes(tabulated(graphs()[name])) < nodes(graphs()[name])


@pytest.mark.parametrize("name", ["deep", "glm"])
def test_what_has_too_many_cells_or_no_trees_stays_as_it_is(name):
    rows = drawn(500, 2)
    assert cells_of(graphs()[name]) == 0
    assert outputs(tabulated(graphs()[name]), rows) == outputs(graphs()[name], rows)
