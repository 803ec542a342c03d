"""The served graph: inputs → features → prediction, one ONNX model in float64.

skl2onnx gives no float64 graph for these estimators and drops the exponential of a Poisson boosting, so
each family is written here, from its own numbers. `parity` proves the result against the model. The same
model always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from vroom_assets.features.expressions import Feature, nodes
from vroom_assets.spec import Family
from vroom_assets.training.coding import Bins, Coding, Level, Number, Rank, Table
from vroom_assets.training.lightgbm_model import LightGBM, Tree, trees_of
from vroom_assets.training.metrics import PROBABILITY_EPSILON
from vroom_assets.training.models import (
    LEAST_LEVEL,
    LOG_LINEAR,
    Average,
    Calibrated,
    Constant,
    Estimator,
    Fitted,
    FromLogarithm,
    Line,
    PassThrough,
    WithOffset,
    WithTrend,
)

OPSET, ML_OPSET, IR_VERSION = 18, 3, 9
CHUNK = 100_000  # rows scored at once


class Graph:
    """Nodes and constants in the making; every value is float64 of shape (rows, 1) unless stated.

    rowwise: the values that have a row per entity; the others are constants, of shape (1, 1).
    """

    def __init__(self) -> None:
        self.rowwise = {"inputs"}
        self.nodes: list[Any] = []
        self.constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self.computed: dict[tuple[Any, ...], str] = {}
        self.initializers: list[Any] = []

    def emit(self, operator: str, *values: str, domain: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output; what is computed already is computed once."""
        known = (operator, values, domain, *attributes.items())
        is_small = all(isinstance(value, int) for value in attributes.values())
        if is_small and known in self.computed:
            return self.computed[known]
        name = f"v{len(self.nodes)}"
        if is_small:
            self.computed[known] = name
        self.nodes.append(helper.make_node(operator, list(values), [name], domain=domain, **attributes))
        if self.rowwise.intersection(values):
            self.rowwise.add(name)
        return name

    def constant(self, value: Any, dtype: type = np.float64) -> str:
        """The name of a constant, stored once."""
        array: np.ndarray = np.asarray(value, dtype=dtype)
        known = (array.dtype.str, array.tobytes(), array.shape)
        if known not in self.constants:
            self.constants[known] = f"c{len(self.constants)}"
            self.initializers.append(numpy_helper.from_array(array, self.constants[known]))
        return self.constants[known]

    def column(self, matrix: str, index: int) -> str:
        return self.emit("Gather", matrix, self.constant([index], np.int64), axis=1)

    def columns(self, matrix: str, indices: Sequence[int]) -> str:
        return self.emit("Gather", matrix, self.constant(list(indices), np.int64), axis=1)


class FallbackModel(NamedTuple):
    """What predicts a row that leaves out any of some inputs."""

    without: Sequence[str]
    fitted: Fitted


def build(
    inputs: Sequence[str],
    features: Sequence[Feature],
    fitted: Fitted,
    fallback_model: FallbackModel | None = None,
) -> ModelProto:
    """One graph from the inputs, (rows, inputs), to `features`, (rows, features), and `prediction`, (rows,)."""
    graph = Graph()
    positions = {name: number for number, name in enumerate(inputs)}
    gathered: dict[str, str] = {}

    def column(name: str) -> str:
        if name not in gathered:
            gathered[name] = graph.column("inputs", positions[name])
        return gathered[name]

    def number(value: float) -> str:
        return graph.constant([[value]])

    def every_row(value: str) -> str:
        """Give a constant as many rows as the inputs have."""
        return value if value in graph.rowwise else graph.emit("Add", value, nothing())

    def nothing() -> str:
        # Not an input times 0, which has no value where the input is missing.
        missing = graph.emit("Cast", graph.emit("IsNaN", column(inputs[0])), to=TensorProto.DOUBLE)
        return graph.emit("Mul", missing, number(0.0))

    values = [every_row(nodes(feature, column, number, graph.emit)) for feature in features]
    exact = graph.emit("Concat", *values, axis=1)
    matrix = graph.emit("Cast", graph.emit("Cast", exact, to=TensorProto.FLOAT), to=TensorProto.DOUBLE)
    order = {feature.name: position for position, feature in enumerate(features)}
    prediction = every_row(_predict(graph, matrix, order, fitted))
    if fallback_model is not None:
        gaps = [column(name) for name in fallback_model.without]
        gap = graph.emit("IsNaN", gaps[0] if len(gaps) == 1 else graph.emit("Sum", *gaps))
        prediction = graph.emit(
            "Where", gap, _predict(graph, matrix, order, fallback_model.fitted), prediction
        )
    graph.nodes.append(helper.make_node("Identity", [matrix], ["features"]))
    graph.nodes.append(
        helper.make_node("Reshape", [prediction, graph.constant([-1], np.int64)], ["prediction"])
    )
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "vroom",
            [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", len(inputs)])],
            [
                helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["rows"]),
                helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", len(features)]),
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="vroom",
    )
    checker.check_model(model)
    return model


def _predict(graph: Graph, matrix: str, order: dict[str, int], fitted: Fitted) -> str:
    """The prediction of a fitted candidate, (rows, 1), or (1, 1) where it is the same for all."""
    if isinstance(fitted, Constant):
        return graph.constant([[fitted.value]])
    if isinstance(fitted, Average):
        members = [_predict(graph, matrix, order, member) for member in fitted.members]
        return graph.emit("Div", graph.emit("Sum", *members), graph.constant([[float(len(members))]]))
    if isinstance(fitted, WithOffset):
        remainder = _predict(graph, matrix, order, fitted.remainder)
        return graph.emit("Add", graph.column(matrix, order[fitted.offset]), remainder)
    if isinstance(fitted, PassThrough):
        return graph.column(matrix, order[fitted.feature])
    if isinstance(fitted, FromLogarithm):
        power = graph.emit("Exp", _predict(graph, matrix, order, fitted.base))
        return graph.emit("Mul", power, graph.constant([[fitted.factor]]))
    if isinstance(fitted, WithTrend):
        level = _level(graph, graph.column(matrix, order[fitted.trend]), fitted.line)
        return graph.emit("Mul", _predict(graph, matrix, order, fitted.base), level)
    if isinstance(fitted, Calibrated):
        return _calibrated(graph, _predict(graph, matrix, order, fitted.base), fitted)
    if not isinstance(fitted, Estimator):
        raise TypeError(f"no graph is written for {type(fitted).__name__}")
    own = graph.columns(matrix, [order[name] for name in fitted.features])
    match fitted.family:
        case Family.LINEAR:
            return _sum_of_terms(graph, own, fitted)
        case Family.LOGISTIC:
            return graph.emit("Sigmoid", _sum_of_terms(graph, own, fitted))
        case family if family in LOG_LINEAR:
            return graph.emit("Exp", _sum_of_terms(graph, own, fitted))
    own = _encoded(graph, own, fitted.coding)
    match fitted.family:
        case Family.FOREST:
            return _forest(graph, own, fitted.estimator)
        case Family.BOOSTING | Family.POISSON_BOOSTING | Family.BINARY_BOOSTING:
            return _boosting(graph, own, fitted.estimator)
        case Family.LIGHTGBM | Family.POISSON_LIGHTGBM | Family.BINARY_LIGHTGBM:
            return _lightgbm(graph, own, fitted.estimator)
        case Family.POISSON_EBM:
            return _explainable_boosting(graph, own, fitted.estimator)
    raise TypeError(f"no graph is written for {fitted.family}")


def _level(graph: Graph, time: str, line: Line) -> str:
    """What `Line.at` makes of a time."""

    def number(value: float) -> str:
        return graph.constant([[value]])

    inside = graph.emit("Min", graph.emit("Max", time, number(line.low)), number(line.high))
    level = graph.emit("Add", graph.emit("Mul", inside, number(line.slope)), number(line.intercept))
    return graph.emit("Max", level, number(LEAST_LEVEL))


def _encoded(graph: Graph, own: str, coding: Coding) -> str:
    """What `coding.encode` makes of the features."""
    if coding.is_plain:
        return own
    parts: list[str] = []
    for position, part in enumerate(coding.parts):
        column = graph.column(own, position)
        match part:
            case Number() | Rank():
                parts += _number(graph, column, part)
            case Level():
                parts.append(column)
            case Table() | Bins():
                parts.append(_looked_up(graph, _index(graph, column, part), part.values))
    return graph.emit("Concat", *parts, axis=1)


def _number(graph: Graph, column: str, part: Number | Rank) -> list[str]:
    """A number without gaps or its rank, and where it is indicated whether it was missing; (rows, 1) each."""
    if isinstance(part, Rank):
        number, *indicator = _number(graph, column, part.number)
        return [_broken_line(graph, number, part.ranks.x, part.ranks.y), *indicator]
    if part.fill is None:
        return [column]
    missing = graph.emit("IsNaN", column)
    filled = graph.emit("Where", missing, graph.constant([[part.fill]]), column)
    return [filled, graph.emit("Cast", missing, to=TensorProto.DOUBLE)] if part.indicated else [filled]


def _index(graph: Graph, column: str, part: Table | Bins) -> str:
    """The index of the level or the bin, missing where the value is; (rows, 1)."""
    if isinstance(part, Table):
        return column
    own = graph.emit("Cast", _at_or_below(graph, column, part.edges), to=TensorProto.DOUBLE)
    return graph.emit("Where", graph.emit("IsNaN", column), column, own)


def _at_or_below(graph: Graph, column: str, edges: np.ndarray) -> str:
    """How many edges are not above a value, (rows, 1) int64."""
    reached = graph.emit("GreaterOrEqual", column, graph.constant(edges[None, :]))
    counted = graph.emit("Cast", reached, to=TensorProto.INT64)
    return graph.emit("ReduceSum", counted, graph.constant([1], np.int64), keepdims=1)


def _looked_up(graph: Graph, level: str, table: np.ndarray) -> str:
    """Rows of a table by the index of a level, (rows, 1); the last is for a missing one. (rows, columns)."""
    last = graph.constant([[float(len(table) - 1)]])
    row = graph.emit("Where", graph.emit("IsNaN", level), last, level)
    row = graph.emit("Squeeze", graph.emit("Cast", row, to=TensorProto.INT64), graph.constant([1], np.int64))
    return graph.emit("Gather", graph.constant(table), row, axis=0)


class Trees(NamedTuple):
    """Nodes of an ensemble, flat: leaves carry `value`, inner nodes go left when x <= threshold, or where x is missing
    and `missing_left`."""

    tree: np.ndarray
    node: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    value: np.ndarray
    missing_left: np.ndarray


def _ensemble(graph: Graph, own: str, trees: Trees) -> str:
    """The sum over trees.

    ONNX Runtime compares in float64 and adds up in float64; the sum leaves the operator as float32, which
    costs up to 6e-8 of it.
    """
    inner = ~trees.leaf
    output = graph.emit(
        "TreeEnsembleRegressor",
        own,
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=trees.tree.tolist(),
        nodes_nodeids=trees.node.tolist(),
        nodes_featureids=np.where(inner, trees.feature, 0).tolist(),
        nodes_values_as_tensor=_doubles("thresholds", np.where(inner, trees.threshold, 0.0)),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_truenodeids=np.where(inner, trees.left, 0).tolist(),
        nodes_falsenodeids=np.where(inner, trees.right, 0).tolist(),
        nodes_missing_value_tracks_true=np.where(inner, trees.missing_left, 0).tolist(),
        target_treeids=trees.tree[trees.leaf].tolist(),
        target_nodeids=trees.node[trees.leaf].tolist(),
        target_ids=np.zeros(int(trees.leaf.sum()), dtype=int).tolist(),
        target_weights_as_tensor=_doubles("weights", trees.value[trees.leaf]),
    )
    return graph.emit("Cast", output, to=TensorProto.DOUBLE)


def _doubles(name: str, values: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float64), name)


def _forest(graph: Graph, own: str, forest: Any) -> str:
    """scikit-learn's forests compare float32(x) with float64 thresholds; features are float32 already."""
    parts = [tree.tree_ for tree in forest.estimators_]
    trees = Trees(
        tree=np.concatenate([np.full(part.node_count, number) for number, part in enumerate(parts)]),
        node=np.concatenate([np.arange(part.node_count) for part in parts]),
        feature=np.concatenate([part.feature for part in parts]),
        threshold=np.concatenate([part.threshold for part in parts]),
        left=np.concatenate([part.children_left for part in parts]),
        right=np.concatenate([part.children_right for part in parts]),
        leaf=np.concatenate([part.children_left == -1 for part in parts]),
        value=np.concatenate([part.value[:, 0, 0] for part in parts]) / len(parts),
        missing_left=np.zeros(sum(part.node_count for part in parts), dtype=int),
    )
    return _ensemble(graph, own, trees)


def _boosting(graph: Graph, own: str, boosting: Any) -> str:
    """Histogram boosting adds its trees to a base score and takes the inverse of its link.

    The base is added here, in float64, so that float32 rounds only the small sum of the trees.
    """
    predictors = [predictor for stage in boosting._predictors for predictor in stage]
    parts = [predictor.nodes for predictor in predictors]
    own, positions = _split_columns(graph, own, boosting, predictors)
    by_level = np.concatenate([part["is_categorical"].astype(bool) for part in parts])
    trees = Trees(
        tree=np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)]),
        node=np.concatenate([np.arange(len(part)) for part in parts]),
        feature=positions,
        threshold=np.where(by_level, 0.5, np.concatenate([part["num_threshold"] for part in parts])),
        left=np.concatenate([part["left"] for part in parts]),
        right=np.concatenate([part["right"] for part in parts]),
        leaf=np.concatenate([part["is_leaf"].astype(bool) for part in parts]),
        value=np.concatenate([part["value"] for part in parts]),
        missing_left=np.concatenate([part["missing_go_to_left"] for part in parts]).astype(int),
    )
    base = graph.constant([[float(boosting._baseline_prediction.item())]])
    total = graph.emit("Add", _ensemble(graph, own, trees), base)
    match type(boosting._loss.link).__name__:
        case "IdentityLink":
            return total
        case "LogLink":
            return graph.emit("Exp", total)
        case "LogitLink":
            return graph.emit("Sigmoid", total)
    raise TypeError(f"no graph is written for a boosting with {type(boosting._loss.link).__name__}")


def _split_columns(
    graph: Graph, own: str, boosting: Any, predictors: Sequence[Any]
) -> tuple[str, np.ndarray]:
    """The columns that nodes compare with their thresholds, and the column of each node.

    A tree of ONNX compares numbers, so for each split of a category by a set of levels there is a column more: 0 for
    the levels that go left and 1 for the others, looked up for the row's level in one table for all splits of it.
    """
    features = np.concatenate([predictor.nodes["feature_idx"] for predictor in predictors])
    encoder = boosting._preprocessor and boosting._preprocessor.named_transformers_["encoder"]
    if not encoder:
        return own, features
    is_category = boosting.is_categorical_
    # Inside, scikit-learn puts the categories first.
    declared = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~is_category)])
    positions = declared[features]
    by_level = np.concatenate([predictor.nodes["is_categorical"].astype(bool) for predictor in predictors])
    columns, width = [own], len(is_category)
    for number, levels in enumerate(encoder.categories_):
        nodes = np.flatnonzero(by_level & (features == number))
        if not len(nodes):
            continue
        table = np.stack([_goes_right(levels, *node) for node in _set_splits(predictors, number)], axis=1)
        columns.append(
            _looked_up(graph, _within(graph, graph.column(own, int(declared[number])), len(table) - 2), table)
        )
        positions[nodes] = width + np.arange(len(nodes))
        width += len(nodes)
    return (graph.emit("Concat", *columns, axis=1) if len(columns) > 1 else own), positions


def _within(graph: Graph, level: str, last: int) -> str:
    return graph.emit("Min", level, graph.constant([[float(last)]]))


def _set_splits(predictors: Sequence[Any], category: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Of each split by a category, tree by tree: the bits of the levels that go left, and whether a missing one does."""
    for predictor in predictors:
        for node in predictor.nodes:
            if node["is_categorical"] and not node["is_leaf"] and node["feature_idx"] == category:
                yield predictor.raw_left_cat_bitsets[node["bitset_idx"]], bool(node["missing_go_to_left"])


def _goes_right(levels: np.ndarray, bits: np.ndarray, missing_left: bool) -> np.ndarray:
    """By level, 1.0 where a split sends it to the right; one that was not among the training rows goes where a missing
    one does. The last is for a missing one, the one before for levels beyond those of training."""
    known = levels[~np.isnan(levels)].astype(int)
    last = int(known.max(initial=-1)) + 1
    right = np.full(last + 2, 0.0 if missing_left else 1.0)
    index = np.arange(len(known))
    right[known] = 1.0 - ((bits[index // 32] >> (index % 32).astype(np.uint32)) & 1)
    return right


def _lightgbm(graph: Graph, own: str, model: LightGBM) -> str:
    """LightGBM adds the start of its boosting to the leaves of the first tree. It is taken out of them and added here, in
    float64, so that float32 rounds only the small sum of the trees."""
    parts = trees_of(model)
    base = float(parts[0].value.mean())
    parts = [replace(parts[0], value=parts[0].value - base), *parts[1:]]
    own, features = _level_columns(graph, own, parts, model)
    inner = [len(part.value) - 1 for part in parts]

    def joined(of_inner: Sequence[np.ndarray], of_leaf: Any = 0) -> np.ndarray:
        """An array with a number for each node, tree by tree."""
        each = (
            np.append(one, np.full(len(part.value), of_leaf))
            for one, part in zip(of_inner, parts, strict=True)
        )
        return np.concatenate(list(each))

    thresholds = [
        np.where([level is not None for level in part.levels], 0.5, part.threshold) for part in parts
    ]
    trees = Trees(
        tree=np.repeat(np.arange(len(parts)), [2 * number + 1 for number in inner]),
        node=np.concatenate([np.arange(2 * number + 1) for number in inner]),
        feature=joined(features).astype(int),
        threshold=joined(thresholds),
        left=joined([part.left for part in parts]).astype(int),
        right=joined([part.right for part in parts]).astype(int),
        leaf=joined([np.zeros(number) for number in inner], 1).astype(bool),
        value=np.concatenate([np.append(np.zeros(len(part.value) - 1), part.value) for part in parts]),
        missing_left=joined([part.missing_left for part in parts]).astype(int),
    )
    total = graph.emit("Add", _ensemble(graph, own, trees), graph.constant([[base]]))
    match model.parameters["objective"]:
        case "l2" | "l1" | "quantile":
            return total
        case "gamma" | "tweedie" | "poisson":
            return graph.emit("Exp", total)
        case "binary":
            return graph.emit("Sigmoid", total)
    raise TypeError(f"no graph is written for a LightGBM with {model.parameters['objective']}")


def _level_columns(
    graph: Graph, own: str, parts: Sequence[Tree], model: LightGBM
) -> tuple[str, list[np.ndarray]]:
    """The columns that nodes compare with their thresholds, and the column of each node: as `_split_columns`.

    A level that no split names goes to the right, and so does a missing one.
    """
    features = [part.feature.copy() for part in parts]
    columns, width = [own], model.booster.num_feature()
    for category in model.categories:
        nodes = [
            (tree, node, levels)
            for tree, part in enumerate(parts)
            for node, levels in enumerate(part.levels)
            if levels is not None and part.feature[node] == category
        ]
        if not nodes:
            continue
        last = max(int(levels.max(initial=0)) for _, _, levels in nodes) + 1
        table = np.ones((last + 2, len(nodes)))
        for number, (tree, node, levels) in enumerate(nodes):
            table[levels, number] = 0.0
            features[tree][node] = width + number
        columns.append(_looked_up(graph, _within(graph, graph.column(own, category), last), table))
        width += len(nodes)
    return (graph.emit("Concat", *columns, axis=1) if len(columns) > 1 else own), features


def _calibrated(graph: Graph, probability: str, curve: Calibrated) -> str:
    """A line of log odds, or a broken line."""

    def number(value: float) -> str:
        return graph.constant([[float(value)]])

    if curve.logits:
        inside = graph.emit(
            "Min",
            graph.emit("Max", probability, number(PROBABILITY_EPSILON)),
            number(1 - PROBABILITY_EPSILON),
        )
        odds = graph.emit("Div", inside, graph.emit("Sub", number(1.0), inside))
        line = graph.emit("Mul", graph.emit("Log", odds), number(curve.y[1]))
        return graph.emit("Sigmoid", graph.emit("Add", line, number(curve.y[0])))
    return _broken_line(graph, probability, curve.x, curve.y)


def _broken_line(graph: Graph, value: str, x: np.ndarray, y: np.ndarray) -> str:
    """The line through some points, level beyond them: the first point, and what each piece adds up to a value; (rows, 1)."""
    first = graph.constant([[float(y[0])]])
    if len(x) == 1:
        return graph.emit("Add", graph.emit("Mul", value, graph.constant([[0.0]])), first)
    lengths = np.diff(x)
    inside = graph.emit("Sub", value, graph.constant(x[None, :-1]))
    inside = graph.emit("Max", inside, graph.constant([[0.0]]))
    inside = graph.emit("Min", inside, graph.constant(lengths[None, :]))
    slopes = graph.constant((np.diff(y) / lengths)[:, None])
    return graph.emit("Add", graph.emit("MatMul", inside, slopes), first)


def _sum_of_terms(graph: Graph, own: str, fitted: Estimator) -> str:
    """intercept + Σ coefficient · (Π x^power - mean) / scale, the scaling folded into the weights.

    Columns of levels and bins are terms of their own. What they add is known for each level and looked up: of many bins
    and rows, the columns would fill the memory.
    """
    glm, coding = fitted.estimator, fitted.coding
    weights = np.ravel(glm.estimator.coef_) / glm.scale
    total = graph.constant([[float(np.ravel(glm.estimator.intercept_)[0]) - float(weights @ glm.mean)]])
    numbers: list[str] = []
    is_number = np.ones(glm.powers.shape[1], dtype=bool)
    for position, (part, columns) in enumerate(zip(coding.parts, coding.columns, strict=True)):
        column = graph.column(own, position)
        if isinstance(part, Table | Bins):
            is_number[columns] = False
            each = np.clip(part.values, glm.low[columns], glm.high[columns]) @ (weights @ glm.powers)[columns]
            total = graph.emit("Add", total, _looked_up(graph, _index(graph, column, part), each[:, None]))
        else:
            assert not isinstance(part, Level)
            numbers += _number(graph, column, part)
    is_product = glm.powers[:, is_number].any(axis=1)
    if not is_product.any():
        return total
    low, high = (graph.constant(bounds[None, is_number]) for bounds in (glm.low, glm.high))
    inside = own if coding.is_plain else graph.emit("Concat", *numbers, axis=1)
    inside = graph.emit("Min", graph.emit("Max", inside, low), high)
    products = _products(graph, inside, glm.powers[np.ix_(is_product, is_number)])
    linear = graph.emit("MatMul", products, graph.constant(weights[is_product, None]))
    return graph.emit("Add", linear, total)


def _products(graph: Graph, inside: str, powers: np.ndarray) -> str:
    """Products of whole powers of columns, (rows, products). powers: shape (products, columns)."""
    products = []
    for row in powers:
        factors = [
            graph.column(inside, number) for number, power in enumerate(row) for _ in range(int(power))
        ]
        products.append(reduce(lambda one, other: graph.emit("Mul", one, other), factors))
    return graph.emit("Concat", *products, axis=1)


def _explainable_boosting(graph: Graph, own: str, ebm: Any) -> str:
    """exp(intercept + Σ of one table entry per term); a value's bin is the number of cuts at or below it."""
    bins: dict[tuple[int, bytes], str] = {}

    def bin_of(feature: int, cuts: np.ndarray) -> str:
        """(rows, 1) int64; bin 0 is for missing values, which do not occur."""
        known = (feature, cuts.tobytes())
        if known not in bins:
            count = _at_or_below(graph, graph.column(own, feature), cuts)
            bins[known] = graph.emit("Add", count, graph.constant([[1]], np.int64))
        return bins[known]

    total = graph.constant([[float(np.ravel(ebm.intercept_)[0])]])
    for features, scores in zip(ebm.term_features_, ebm.term_scores_, strict=True):
        positions = [
            bin_of(feature, np.asarray(ebm.bins_[feature][min(len(ebm.bins_[feature]), len(features)) - 1]))
            for feature in features
        ]
        flat = positions[0]
        for size, position in zip(scores.shape[1:], positions[1:], strict=True):
            flat = graph.emit("Add", graph.emit("Mul", flat, graph.constant([[size]], np.int64)), position)
        total = graph.emit("Add", total, graph.emit("Gather", graph.constant(scores.ravel()), flat, axis=0))
    return graph.emit("Exp", total)
