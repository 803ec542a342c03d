"""A quicker graph for many rows: trees that can tell few kinds of rows apart become one table.

A tree compares features with thresholds. The thresholds of all trees of an ensemble cut each feature into bins, and
rows that are in the same bin of every feature, in one cell, take the same way through every tree: their sums are the
same, bit by bit. Where there are few cells, the sum of each is computed once, by the ensemble itself, and looked up
after that: a hundred trees become one small tree for each feature, which finds the bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

ENSEMBLE, DOMAIN = "TreeEnsembleRegressor", "ai.onnx.ml"
MOST_CELLS = 4_000_000  # below 2^24, up to which the float32 that leaves an ensemble counts without gaps
WRITTEN = {"n_targets", "nodes_modes", "nodes_values_as_tensor", "nodes_missing_value_tracks_true"}
CHUNK = 20_000  # cells computed at once
Node = tuple[bool, float, int, int, float]  # is a leaf, threshold, true and false branch, value


class Axis(NamedTuple):
    """A feature as an ensemble cuts it."""

    feature: int
    thresholds: np.ndarray  # ascending; a value is in the bin of the first that is not below it
    has_missing: bool  # whether a missing value has a bin of its own, the last; else it counts as the largest

    @property
    def bins(self) -> int:
        return len(self.thresholds) + 1 + self.has_missing

    @property
    def examples(self) -> np.ndarray:
        """A value in each bin."""
        return np.concatenate([self.thresholds, [np.inf], [np.nan] * self.has_missing])


def cells_of(model: bytes) -> int:
    """How many cells the ensembles have that are worth a table, 0 where none is."""
    return sum(_size(axes) for _, axes in _small_ensembles(ModelProto.FromString(model)))


def tabulated(model: bytes) -> bytes:
    """The same graph with a table instead of each ensemble that has few cells."""
    whole = ModelProto.FromString(model)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in whole.graph.node]
    for node, axes in list(_small_ensembles(whole)):
        position = next(number for number, one in enumerate(nodes) if one.output == node.output)
        nodes[position : position + 1], table = _with_table(whole, node, axes)
        whole.graph.initializer.append(table)
    del whole.graph.node[:]
    whole.graph.node.extend(nodes)
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def _small_ensembles(model: ModelProto) -> Iterator[tuple[NodeProto, list[Axis]]]:
    for node in model.graph.node:
        if node.op_type != ENSEMBLE:
            continue
        axes = _axes(node)
        if axes and _size(axes) <= MOST_CELLS:
            yield node, axes


def _size(axes: list[Axis]) -> int:
    size = 1
    for axis in axes:
        size *= axis.bins
    return size


def _axes(node: NodeProto) -> list[Axis]:
    """The features that an ensemble compares; none where its nodes are not of the kind that is written here."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if not given.keys() >= WRITTEN:
        return []
    modes = np.array(given["nodes_modes"])
    if not np.isin(modes, [b"BRANCH_LEQ", b"LEAF"]).all() or given["n_targets"] != 1:
        return []
    features = np.array(given["nodes_featureids"])
    thresholds = numpy_helper.to_array(given["nodes_values_as_tensor"])
    tracks = np.array(given["nodes_missing_value_tracks_true"], dtype=bool)
    inner = modes != b"LEAF"
    return [
        Axis(
            int(feature),
            np.unique(thresholds[inner & (features == feature)]),
            bool(tracks[inner & (features == feature)].any()),
        )
        for feature in np.unique(features[inner])
    ]


def _with_table(model: ModelProto, node: NodeProto, axes: list[Axis]) -> tuple[list[NodeProto], TensorProto]:
    """Nodes that give what an ensemble gives, and the table that they read."""
    [output] = node.output
    cell, index, table = f"{output}_cell", f"{output}_index", f"{output}_table"
    nodes = [
        _finder(node.input[0], cell, axes),
        helper.make_node("Cast", [cell], [index], to=TensorProto.INT64),
        helper.make_node("Gather", [table, index], [output], axis=0),
    ]
    return nodes, numpy_helper.from_array(_sums(model, node, axes), table)


def _sums(model: ModelProto, node: NodeProto, axes: list[Axis]) -> np.ndarray:
    """What the ensemble gives for each cell, float32 of shape (cells,)."""
    from vroom_api.contract.model import open_model

    width = max(axis.feature for axis in axes) + 1
    alone = helper.make_model(
        helper.make_graph(
            [NodeProto.FromString(node.SerializeToString())],
            "ensemble",
            [helper.make_tensor_value_info(node.input[0], TensorProto.DOUBLE, ["rows", width])],
            [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["rows", 1])],
        ),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    session = open_model(alone.SerializeToString())
    shape = [axis.bins for axis in axes]
    sums = np.empty(_size(axes), dtype=np.float32)
    for start in range(0, len(sums), CHUNK):
        cells = np.arange(start, min(start + CHUNK, len(sums)))
        rows = np.zeros((len(cells), width))
        for axis, bins in zip(axes, np.unravel_index(cells, shape), strict=True):
            rows[:, axis.feature] = axis.examples[bins]
        sums[cells] = session.run(None, {node.input[0]: rows})[0][:, 0]
    return sums


def _finder(matrix: str, output: str, axes: list[Axis]) -> NodeProto:
    """An ensemble of one tree for each axis, whose leaves add up to the index of the cell."""
    strides = np.cumprod([1, *(axis.bins for axis in axes[:0:-1])])[::-1]
    trees = [_bins_as_tree(axis, int(stride)) for axis, stride in zip(axes, strides, strict=True)]
    numbered = [
        (tree, axes[tree].feature, own, node)
        for tree, nodes in enumerate(trees)
        for own, node in enumerate(nodes)
    ]
    leaves = [(tree, own, node[4]) for tree, _, own, node in numbered if node[0]]
    return helper.make_node(
        ENSEMBLE,
        [matrix],
        [output],
        domain=DOMAIN,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=[tree for tree, *_ in numbered],
        nodes_nodeids=[own for _, _, own, _ in numbered],
        nodes_featureids=[0 if node[0] else feature for _, feature, _, node in numbered],
        nodes_values_as_tensor=_doubles("thresholds", [node[1] for *_, node in numbered]),
        nodes_modes=["LEAF" if node[0] else "BRANCH_LEQ" for *_, node in numbered],
        nodes_truenodeids=[node[2] for *_, node in numbered],
        nodes_falsenodeids=[node[3] for *_, node in numbered],
        nodes_missing_value_tracks_true=[0] * len(numbered),
        target_treeids=[tree for tree, *_ in leaves],
        target_nodeids=[own for _, own, _ in leaves],
        target_ids=[0] * len(leaves),
        target_weights_as_tensor=_doubles("weights", [value for *_, value in leaves]),
    )


def _bins_as_tree(axis: Axis, stride: int) -> list[Node]:
    """A balanced tree that gives the bin of a value times a stride; nodes in the order of their numbers."""
    nodes: list[Node] = []

    def grow(first: int, last: int) -> int:
        own = len(nodes)
        if first == last:
            nodes.append((True, 0.0, 0, 0, float(first * stride)))
            return own
        nodes.append((False, 0.0, 0, 0, 0.0))
        middle = (first + last) // 2
        below, above = grow(first, middle), grow(middle + 1, last)
        nodes[own] = (False, float(axis.thresholds[middle]), below, above, 0.0)
        return own

    if not axis.has_missing:
        grow(0, len(axis.thresholds))
        return nodes
    # Every number is at most infinite, and what is missing is not.
    nodes.append((False, 0.0, 0, 0, 0.0))
    numbers = grow(0, len(axis.thresholds))
    nodes[0] = (False, np.inf, numbers, len(nodes), 0.0)
    nodes.append((True, 0.0, 0, 0, float((axis.bins - 1) * stride)))
    return nodes


def _doubles(name: str, values: list[float]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.float64), name)
