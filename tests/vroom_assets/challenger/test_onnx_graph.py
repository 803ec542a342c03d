"""The served graph says what DuckDB and the fitted model say, for every declared candidate."""

from functools import lru_cache
from typing import NamedTuple

import duckdb
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.forecasts import shipped
from tests.support.project import ROOT
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.challenger.parity import parity
from vroom_assets.features.examples import TARGET_WINDOW
from vroom_assets.features.expressions import Feature, parse, select_sql
from vroom_assets.spec import Candidate, Column, ColumnType, Family, ForecastSpec
from vroom_assets.training.coding import Bins, Rank
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.lightgbm_model import LightGBM, trees_of
from vroom_assets.training.metrics import BASELINES
from vroom_assets.training.models import (
    Calibrated,
    Constant,
    Fitted,
    FromLogarithm,
    PassThrough,
    WithOffset,
    WithTrend,
)

DECLARED = shipped("reservations")
FEATURE_TOLERANCE, PREDICTION_TOLERANCE = 1e-9, 1e-6


class World(NamedTuple):
    """A declared forecast with its shipped data and every candidate fitted to it."""

    spec: ForecastSpec
    features: list[Feature]
    inputs: np.ndarray
    table: pd.DataFrame
    target: np.ndarray
    models: dict[str, Fitted]
    graphs: dict[str, bytes]


def computed(spec: ForecastSpec, features: list[Feature], inputs: np.ndarray) -> pd.DataFrame:
    """Features as DuckDB computes them."""
    connection = duckdb.connect()
    connection.register("given", pd.DataFrame(inputs, columns=spec.inputs))
    table = connection.execute(select_sql(features, "given", [], "feature_")).df()
    return table.rename(columns=lambda name: name.removeprefix("feature_"))


@lru_cache
def world() -> World:
    spec = DECLARED
    data = ROOT / "data"
    entities = pd.read_csv(data / spec.sources[spec.entity.source].path)
    with duckdb.connect() as connection:
        for name, source in spec.sources.items():
            connection.register(
                name,
                pd.read_csv(
                    data / source.path,
                    parse_dates=[
                        c for c, rule in source.columns.items() if rule.type == ColumnType.TIMESTAMP
                    ],
                ),
            )
        connection.execute(
            f"create table {TARGET_WINDOW} as select '-infinity'::timestamp opens, 'infinity'::timestamp closes"
        )
        counts = connection.execute(spec.target_sql).df().set_index(spec.entity.key)[spec.target.name]
    inputs = entities[spec.inputs].to_numpy(dtype=np.float64)
    target = entities[spec.entity.key].map(counts).to_numpy(dtype=np.float64)
    features = parse(spec.features_sql, spec.inputs)
    table = computed(spec, features, inputs)
    models = refitted(table, target)
    graphs = {name: exported(spec, features, model) for name, model in models.items()}
    return World(spec, features, inputs, table, target, models, graphs)


def refitted(table: pd.DataFrame, target: np.ndarray) -> dict[str, Fitted]:
    return fit_all(DECLARED.candidates | BASELINES, table, target, DECLARED.validation.seed)


def exported(spec: ForecastSpec, features: list[Feature], model: Fitted) -> bytes:
    return build(spec.inputs, features, model).SerializeToString(deterministic=True)


CANDIDATES = [*DECLARED.candidates, *BASELINES]


def value_of(column: Column) -> st.SearchStrategy[float]:
    """Any value that the declaration allows, the bounds among them."""
    low = column.minimum if column.minimum is not None else column.above
    assert low is not None
    assert column.maximum is not None
    if column.type is ColumnType.INTEGER:
        return st.integers(int(low), int(column.maximum)).map(float)
    return st.floats(low, column.maximum, exclude_min=column.above is not None)


ROWS = st.lists(
    st.tuples(*(value_of(column) for column in DECLARED.input_columns.values())), min_size=1, max_size=50
)


@lru_cache
def session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def served(graph: bytes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction, features = session(graph).run(["prediction", "features"], {"inputs": rows})
    return prediction, features


# Parity


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_graph_agrees_with_duckdb_and_the_model_on_every_shipped_row(name):
    w = world()
    gap = parity(w.graphs[name], w.inputs, w.table.to_numpy(), w.models[name].predict(w.table))
    assert gap.features <= FEATURE_TOLERANCE
    assert gap.prediction <= PREDICTION_TOLERANCE


@given(rows=ROWS)
@settings(max_examples=50)
def test_the_graph_agrees_with_duckdb_and_the_model_wherever_the_declaration_allows_inputs(rows):
    w = world()
    inputs = np.array(rows)
    table = computed(w.spec, w.features, inputs)
    finite = np.isfinite(table.to_numpy()).all(axis=1)
    for name in CANDIDATES:
        prediction, features = served(w.graphs[name], inputs)
        assert (np.isfinite(features).all(axis=1) == finite).all()
        if not finite.any():
            continue
        assert np.abs(features[finite] - table.to_numpy()[finite]).max() <= FEATURE_TOLERANCE
        expected = w.models[name].predict(table[finite])
        assert (np.abs(prediction[finite] - expected) <= PREDICTION_TOLERANCE * np.abs(expected)).all(), name


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_the_graph_agrees_with_duckdb_and_the_model_on_any_recombination_of_shipped_values(seed):
    w = world()
    inputs = np.random.default_rng(seed).permuted(w.inputs, axis=0)
    table = computed(w.spec, w.features, inputs)
    for name in CANDIDATES:
        gap = parity(w.graphs[name], inputs, table.to_numpy(), w.models[name].predict(table))
        assert gap.features <= FEATURE_TOLERANCE
        assert gap.prediction <= PREDICTION_TOLERANCE, name


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("actual_price - recommended_price", "recommended_price - actual_price"),
        ("actual_price / recommended_price", "recommended_price / actual_price"),
        ("ln(", "log10("),
        ("ln(actual_price", "ln(1.000001 * actual_price"),
        ("    num_images,", "    num_images + 1 as num_images,"),
    ],
)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_mutated_formula_is_found(name, right, wrong):
    w = world()
    mutated = parse(w.spec.features_sql.replace(right, wrong), w.spec.inputs)
    assert mutated != w.features
    graph = exported(w.spec, mutated, w.models[name])
    gap = parity(graph, w.inputs, w.table.to_numpy(), w.models[name].predict(w.table))
    assert gap.features > FEATURE_TOLERANCE


def test_a_graph_of_another_model_is_found():
    w = world()
    others = refitted(w.table, w.target * 1.00001)
    for name in CANDIDATES:
        gap = parity(w.graphs[name], w.inputs, w.table.to_numpy(), others[name].predict(w.table))
        assert gap.prediction > PREDICTION_TOLERANCE, name


def test_what_is_not_finite_on_either_side_differs_infinitely():
    w = world()
    name = CANDIDATES[0]
    features, expected = w.table.to_numpy(), w.models[name].predict(w.table)
    holed = features.copy()
    holed[3, 0] = np.nan
    assert parity(w.graphs[name], w.inputs, holed, expected).features == np.inf
    free = w.inputs.copy()
    free[0, w.spec.inputs.index("actual_price")] = 0.0
    assert parity(w.graphs[name], free, features, expected).features == np.inf


def test_parity_of_a_table_of_another_shape_is_an_error():
    w = world()
    name = CANDIDATES[0]
    with pytest.raises(ValueError, match="values where"):
        parity(w.graphs[name], w.inputs, w.table.to_numpy()[:, :-1], w.models[name].predict(w.table))


# Edges: a value on a threshold or bin edge falls on the same side in the graph

EDGE_INPUTS = ["x", "flag", "steps"]
SMALL_LIGHTGBM = {
    "n_estimators": 40, "num_leaves": 15, "min_child_samples": 3, "min_data_per_group": 5, "cat_smooth": 1.0
}  # fmt: skip
FAMILIES = {
    "forest": Candidate(
        family=Family.FOREST, features=EDGE_INPUTS, parameters={"n_estimators": 20, "min_samples_leaf": 3}
    ),
    "boosting": Candidate(
        family=Family.POISSON_BOOSTING, features=EDGE_INPUTS, parameters={"min_samples_leaf": 3}
    ),
    "glm": Candidate(family=Family.POISSON_GLM, features=EDGE_INPUTS, terms=["x ^ 3", "x * steps", "flag"]),
    "ebm": Candidate(
        family=Family.POISSON_EBM, features=EDGE_INPUTS, parameters={"interactions": 3, "outer_bags": 2}
    ),
    "ebm_of_main_effects": Candidate(
        family=Family.POISSON_EBM, features=EDGE_INPUTS, parameters={"interactions": 0, "outer_bags": 1}
    ),
    "growing_boosting": Candidate(
        family=Family.POISSON_BOOSTING,
        features=["x", "flag"],
        trend="steps",
        parameters={"min_samples_leaf": 3},
    ),
    "poisson_lightgbm": Candidate(
        family=Family.POISSON_LIGHTGBM, features=EDGE_INPUTS, parameters=SMALL_LIGHTGBM
    ),
    "binned_glm": Candidate(family=Family.POISSON_GLM, features=EDGE_INPUTS, bins={"x": 60, "steps": 3}),
    "ranked_glm": Candidate(
        family=Family.POISSON_GLM, features=EDGE_INPUTS, ranks=["x"], terms=["x", "x ^ 2", "x * steps"]
    ),
    "blend": Candidate(family=Family.AVERAGE, members=["forest", "boosting", "glm", "ebm"]),
}
OF_NUMBERS = {
    "boosting_of_numbers": Candidate(
        family=Family.BOOSTING, features=EDGE_INPUTS, parameters={"min_samples_leaf": 3}
    ),
    "linear": Candidate(family=Family.LINEAR, features=EDGE_INPUTS, terms=["x ^ 2", "x * flag", "steps"]),
    "binned_linear": Candidate(
        family=Family.LINEAR, features=EDGE_INPUTS, bins={"x": 60}, ranks=["steps"], transform="log"
    ),
    "binned_gamma_glm": Candidate(
        family=Family.GAMMA_GLM, features=["x", "flag"], bins={"x": 60}, trend="steps"
    ),
    "binned_tweedie_glm": Candidate(
        family=Family.TWEEDIE_GLM, features=EDGE_INPUTS, bins={"x": 60}, terms=["flag * steps"]
    ),
    "feature": Candidate(family=Family.FEATURE, features=["steps"]),
    "shifted_boosting": Candidate(
        family=Family.BOOSTING, features=EDGE_INPUTS, offset="x", parameters={"min_samples_leaf": 3}
    ),
    "shifted_median": Candidate(family=Family.MEDIAN, offset="x"),
    "gamma_glm": Candidate(
        family=Family.GAMMA_GLM, features=EDGE_INPUTS, terms=["x ^ 2", "x * flag", "steps"]
    ),
    "tweedie_glm": Candidate(
        family=Family.TWEEDIE_GLM, features=EDGE_INPUTS, terms=["x", "steps"], parameters={"power": 1.3}
    ),
    "log_linear": Candidate(family=Family.LINEAR, features=EDGE_INPUTS, transform="log"),
    "log_forest": Candidate(
        family=Family.FOREST, features=EDGE_INPUTS, transform="log", parameters={"n_estimators": 20}
    ),
    "log_boosting": Candidate(
        family=Family.BOOSTING, features=EDGE_INPUTS, transform="log", parameters={"min_samples_leaf": 3}
    ),
    "growing_mean": Candidate(family=Family.MEAN, trend="x"),
    "lightgbm": Candidate(family=Family.LIGHTGBM, features=EDGE_INPUTS, parameters=SMALL_LIGHTGBM),
    "quantile_lightgbm": Candidate(
        family=Family.LIGHTGBM,
        features=EDGE_INPUTS,
        parameters=SMALL_LIGHTGBM | {"objective": "quantile", "alpha": 0.8},
    ),
    "gamma_lightgbm": Candidate(
        family=Family.LIGHTGBM, features=EDGE_INPUTS, parameters=SMALL_LIGHTGBM | {"objective": "gamma"}
    ),
    "average_of_numbers": Candidate(
        family=Family.AVERAGE, members=["linear", "shifted_boosting", "feature", "gamma_glm", "log_forest"]
    ),
}
BINARY = Candidate(
    family=Family.BINARY_BOOSTING, features=EDGE_INPUTS, parameters={"min_samples_leaf": 3, "max_iter": 40}
)
OF_CHANCES = {
    "logistic": Candidate(family=Family.LOGISTIC, features=EDGE_INPUTS, terms=["x", "x * flag", "steps"]),
    "binned_logistic": Candidate(
        family=Family.LOGISTIC, features=EDGE_INPUTS, bins={"x": 60}, ranks=["steps"], calibration="sigmoid"
    ),
    "binary_boosting": BINARY,
    "binary_lightgbm": Candidate(
        family=Family.BINARY_LIGHTGBM, features=EDGE_INPUTS, parameters=SMALL_LIGHTGBM
    ),
    "isotonic": BINARY.model_copy(update={"calibration": "isotonic"}),
    "sigmoid": BINARY.model_copy(update={"calibration": "sigmoid"}),
    "average_of_chances": Candidate(family=Family.AVERAGE, members=["logistic", "isotonic"]),
}
EVERYTHING = FAMILIES | OF_NUMBERS | OF_CHANCES
# A curve is steeper than 1 where bins are close, and the trees before it are added up in float32.
STEEP = {"isotonic": 2e-5, "average_of_chances": 2e-5}


@lru_cache
def edge_models(constant_flag: bool = False) -> dict[str, Fitted]:
    """Models of values that are neighbours in float32, so that edges lie between neighbours."""
    rng = np.random.default_rng(1)
    base = np.repeat(rng.uniform(0.5, 2.0, 100).astype(np.float32), 3)
    x = np.where(np.arange(300) % 3 == 0, base, np.nextafter(base, np.float32(9)))
    flag = np.ones(300) if constant_flag else rng.integers(0, 2, 300).astype(float)
    frame = pd.DataFrame({"x": x.astype(float), "flag": flag, "steps": rng.integers(1, 6, 300).astype(float)})
    target = rng.poisson(np.exp(frame["x"] + (np.arange(300) % 3 == 0))).astype(float)
    numbers = np.where(np.arange(300) % 3 == 0, 40.0, 70.0) + frame["x"].to_numpy()
    chances = (rng.uniform(size=300) < np.where(np.arange(300) % 3 == 0, 0.2, 0.7)).astype(float)
    return (
        fit_all(FAMILIES, frame, target, 0)
        | fit_all(OF_NUMBERS, frame, numbers, 0)
        | fit_all(OF_CHANCES, frame, chances, 0)
    )


def edges_of(fitted: Fitted) -> np.ndarray:
    """Every threshold and cut of a model, of whatever feature."""
    if hasattr(fitted, "members"):
        return np.concatenate([edges_of(member) for member in fitted.members])
    if isinstance(fitted, WithOffset):
        return edges_of(fitted.remainder)
    if isinstance(fitted, (Calibrated, FromLogarithm, WithTrend)):
        return edges_of(fitted.base)
    if isinstance(fitted, (PassThrough, Constant)):
        return np.linspace(0, 5, 6)
    learnt = [
        part.edges if isinstance(part, Bins) else part.ranks.x
        for part in fitted.coding.parts
        if isinstance(part, Bins | Rank)
    ]
    if learnt:
        return np.concatenate(learnt)
    model = fitted.estimator
    if hasattr(model, "estimators_"):
        return np.concatenate([tree.tree_.threshold for tree in model.estimators_])
    if hasattr(model, "_predictors"):
        return np.concatenate([tree.nodes["num_threshold"] for stage in model._predictors for tree in stage])
    if isinstance(model, LightGBM):
        return np.concatenate([tree.threshold for tree in trees_of(model)])
    if hasattr(model, "bins_"):
        return np.concatenate([np.ravel(cuts) for levels in model.bins_ for cuts in levels])
    return np.concatenate([model.low, model.high])


GAPS = ["x", "maybe", "few", "many"]  # two numbers, one of them missing at times, and two categories
LEVELS = {"few": 6, "many": 60}


@lru_cache
def rows_with_gaps() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "x": rng.uniform(0, 2, 600),
            "maybe": np.where(rng.uniform(size=600) < 0.2, np.nan, rng.normal(size=600)),
            "few": np.where(
                rng.uniform(size=600) < 0.1, np.nan, rng.integers(0, 5, 600)
            ),  # none of the last level
            "many": rng.integers(0, 60, 600).astype(float),
        }
    )
    return frame.astype(np.float32).astype(np.float64)


def of_gaps(name: str, candidate: Candidate) -> Candidate:
    if candidate.members or not candidate.features:
        return candidate
    changed = {
        "features": GAPS,
        "terms": ["x", "x ^ 2"] if candidate.terms and not candidate.bins else [],
        "bins": {"maybe": 7} if candidate.bins else {},
        "ranks": [name for name in ("x", "maybe") if candidate.ranks and not candidate.bins],
    }
    return candidate.model_copy(update=changed).on_features(LEVELS, frozenset({"maybe", "few"}))


@lru_cache
def gap_models() -> dict[str, Fitted]:
    frame = rows_with_gaps()
    rng = np.random.default_rng(4)
    mean = np.exp(
        0.5 * frame["x"] + 0.3 * (frame["few"] == 2) + 0.4 * (frame["many"] % 7 == 1) + frame["maybe"].isna()
    )
    targets = {
        "count": rng.poisson(mean).astype(float),
        "number": (mean + rng.normal(0, 0.1, 600)).to_numpy(),
        "chance": (rng.uniform(size=600) < mean / 8).to_numpy().astype(float),
    }
    kinds = {"count": FAMILIES, "number": OF_NUMBERS, "chance": OF_CHANCES}
    models = {}
    for kind, candidates in kinds.items():
        fitting = {
            n: of_gaps(n, c)
            for n, c in candidates.items()
            if c.family not in (Family.FEATURE, Family.MEDIAN) and c.trend is None
        }
        fitting = {n: c for n, c in fitting.items() if "feature" not in c.members}
        models |= fit_all(fitting, frame, targets[kind], 0)
    gamma = {"gamma": Candidate(family=Family.BOOSTING, features=GAPS, parameters={"loss": "gamma"})}
    return models | fit_all(
        {name: of_gaps(name, one) for name, one in gamma.items()}, frame, targets["number"] + 5, 0
    )


GAP_MODELS = [
    *(
        name
        for name, one in EVERYTHING.items()
        if name not in ("feature", "shifted_median", "average_of_numbers") and one.trend is None
    ),
    "gamma",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", GAP_MODELS)
def test_missing_values_and_categories_are_in_the_graph_what_they_are_in_the_model(name):
    model = gap_models()[name]
    features = [Feature(column, column) for column in GAPS]
    graph = build(GAPS, features, model).SerializeToString()
    frame = rows_with_gaps()
    everywhere = pd.DataFrame(
        [
            (x, maybe, few, many)
            for x in (0.3, 1.7)
            for maybe in (np.nan, -9.0, 0.1)
            for few in (np.nan, *range(6))
            for many in (np.nan, 0, 1, 8, 59)
        ],
        columns=GAPS,
    )
    for rows in (frame, everywhere.astype(np.float32).astype(np.float64)):
        found = parity(graph, rows.to_numpy(), np.nan_to_num(rows.to_numpy()), model.predict(rows), [])
        assert found.prediction <= STEEP.get(name, PREDICTION_TOLERANCE), name
    assert len(np.unique(model.predict(everywhere).round(9))) > 20


def test_a_declared_direction_is_kept():
    rng = np.random.default_rng(5)
    price, other = rng.uniform(0, 1, 400), rng.uniform(0, 1, 400)
    frame = pd.DataFrame({"price": price, "other": other})
    falling = Candidate(
        family=Family.POISSON_BOOSTING, features=["other", "price"], monotone={"price": "decreasing"}
    )
    model = fit_all({"falling": falling}, frame, rng.poisson(3 - price).astype(float), 0)["falling"]
    curve = model.predict(pd.DataFrame({"price": np.linspace(0, 1, 50), "other": 0.5}))
    assert (np.diff(curve) <= 0).all()
    assert curve[0] - curve[-1] > 0.3


FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
LARGEST = float(np.finfo(np.float32).max)
WITH_GAPS = st.lists(
    FLOAT | st.integers(-2, 2).map(float) | st.sampled_from([np.nan, LARGEST, -LARGEST]),
    min_size=2,
    max_size=40,
)


@given(WITH_GAPS, st.integers(2, 255), st.booleans())
@settings(max_examples=60)
def test_steps_and_ranks_are_in_the_graph_what_they_are_in_the_model_whatever_they_were_learnt_of(
    values, bins, optional
):
    """The target rises from bin to bin, so that a value in another bin would be another prediction."""
    frame = pd.DataFrame({"x": np.array(values)})
    target = frame["x"].rank().fillna(0).to_numpy() + 1
    may_be_missing = frozenset({"x"} if optional or frame["x"].isna().any() else ())
    steps = Candidate(family=Family.LINEAR, features=["x"], bins={"x": bins}, parameters={"alpha": 0.01})
    rank = Candidate(family=Family.LINEAR, features=["x"], ranks=["x"], terms=["x", "x ^ 2"])
    candidates = {"steps": steps, "rank": rank}
    models = fit_all({n: c.on_features({}, may_be_missing) for n, c in candidates.items()}, frame, target, 0)
    for model in models.values():
        edges = edges_of(model).astype(np.float32)
        sides = [np.nextafter(edges, np.float32(LARGEST)), np.nextafter(edges, np.float32(-LARGEST))]
        beyond = [0.0, LARGEST, -LARGEST, *([np.nan] if may_be_missing else [])]
        probed = pd.DataFrame({"x": np.concatenate([values, edges, *sides, beyond]).astype(np.float64)})
        graph = build(["x"], [Feature("x", "x")], model).SerializeToString()
        gap = parity(graph, probed.to_numpy(), probed.to_numpy(), model.predict(probed))
        assert gap.features == 0
        assert gap.prediction <= 1e-9


def test_every_family_is_proved_here():
    proved = {candidate.family for candidate in EVERYTHING.values()} | {Family.MEAN}
    assert proved == set(Family)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYTHING)
def test_a_value_on_an_edge_or_beside_it_falls_where_the_model_puts_it(name):
    model = edge_models()[name]
    edges = np.unique(edges_of(model)).astype(np.float32)
    assert len(edges) >= 5
    values = np.concatenate(
        [edges, np.nextafter(edges, np.float32(-np.inf)), np.nextafter(edges, np.float32(np.inf))]
    ).astype(np.float64)
    frame = pd.DataFrame(
        [(x, flag, steps) for x in values for flag in (0.0, 1.0) for steps in (1.0, 3.0, 5.0)],
        columns=EDGE_INPUTS,
    )
    frame = pd.concat([frame, frame.assign(flag=np.resize(values, len(frame)), x=1.0)])
    features = [Feature(column, column) for column in EDGE_INPUTS]
    graph = build(EDGE_INPUTS, features, model).SerializeToString()
    gap = parity(graph, frame.to_numpy(), frame.to_numpy(), model.predict(frame))
    assert gap.features == 0.0
    assert gap.prediction <= STEEP.get(name, PREDICTION_TOLERANCE)


def test_an_edge_separates_neighbours_in_some_model():
    model = edge_models()["boosting"]
    edges = np.unique(edges_of(model))
    below = edges.astype(np.float32)
    below = np.where(below <= edges, below, np.nextafter(below, np.float32(-np.inf)))
    frame = pd.DataFrame({"x": below.astype(float), "flag": 0.0, "steps": 1.0})
    beside = frame.assign(x=np.nextafter(below, np.float32(np.inf)).astype(float))
    assert (model.predict(frame) != model.predict(beside)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYTHING)
def test_a_feature_that_never_varied_in_training_exports(name):
    model = edge_models(constant_flag=True)[name]
    rows = np.random.default_rng(0).uniform(0, 5, (50, 3)).astype(np.float32).astype(float)
    features = [Feature(column, column) for column in EDGE_INPUTS]
    graph = build(EDGE_INPUTS, features, model).SerializeToString()
    expected = model.predict(pd.DataFrame(rows, columns=EDGE_INPUTS))
    assert parity(graph, rows, rows, expected).prediction <= STEEP.get(name, PREDICTION_TOLERANCE)


# The file


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_graph_has_the_declared_inputs_and_outputs_in_float64(name):
    w = world()
    model = onnx.load_model_from_string(w.graphs[name])
    onnx.checker.check_model(model, full_check=True)
    [given_input] = session(w.graphs[name]).get_inputs()
    outputs = {output.name: output for output in session(w.graphs[name]).get_outputs()}
    assert (given_input.name, given_input.type) == ("inputs", "tensor(double)")
    assert given_input.shape == ["rows", len(w.spec.inputs)]
    assert list(outputs) == ["prediction", "features"]
    assert (outputs["prediction"].type, outputs["prediction"].shape) == ("tensor(double)", ["rows"])
    assert outputs["features"].type == "tensor(double)"
    assert outputs["features"].shape == ["rows", len(w.features)]


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_row_is_scored_the_same_alone_and_among_others(name, rows):
    w = world()
    prediction, features = served(w.graphs[name], w.inputs[:rows])
    assert prediction.shape == (rows,)
    assert features.shape == (rows, len(w.features))
    together, _ = served(w.graphs[name], w.inputs)
    assert np.allclose(prediction, together[:rows], rtol=1e-7, atol=0)


def test_the_same_model_gives_the_same_bytes():
    w = world()
    for name, again in refitted(w.table, w.target).items():
        assert exported(w.spec, w.features, again) == w.graphs[name], name


def test_a_feature_that_is_a_constant_has_a_value_in_every_row():
    features = parse("select 2 * 3 as six, x as x from inputs", ["x"])
    model = fit_all(BASELINES, pd.DataFrame({"x": [1.0]}), np.array([4.0]), 0)["mean"]
    prediction, values = served(build(["x"], features, model).SerializeToString(), np.array([[1.0], [2.5]]))
    assert values.tolist() == [[6.0, 1.0], [6.0, 2.5]]
    assert prediction.tolist() == [4.0, 4.0]


def test_what_is_constant_has_a_value_where_the_first_input_is_missing():
    columns = {name: Column(type="number", nullable=True) for name in ("x", "y")}
    features = parse("select coalesce(x, 0) as x, 2 * 3 as six from inputs", columns)
    model = fit_all(BASELINES, pd.DataFrame({"x": [1.0], "six": [6.0]}), np.array([4.0]), 0)["mean"]
    rows = np.array([[np.nan, 1.0], [2.5, np.nan]])
    prediction, values = served(build(["x", "y"], features, model).SerializeToString(), rows)
    assert values.tolist() == [[0.0, 6.0], [2.5, 6.0]]
    assert prediction.tolist() == [4.0, 4.0]


def test_a_model_that_no_graph_is_written_for_is_refused():
    with pytest.raises(TypeError, match="no graph is written for"):
        build(["x"], [Feature("x", "x")], object())
