"""Champions of a few nodes: real ONNX sessions and the manifests that go with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from vroom_api.contract import (
    FORMAT,
    Calibration,
    FeatureField,
    InputField,
    Kind,
    Lever,
    Manifest,
    Recipe,
)
from vroom_api.explanation.reasons import Score

Step = tuple[str, str, *tuple[str | float, ...]]  # output, operator, its inputs by name or as constants


def score_of(inputs: Sequence[str], steps: Sequence[Step], features: Sequence[str]) -> Score:
    """A session over named inputs; the last step gives the prediction."""
    return session_of(model_of(inputs, steps, features))


def model_of(inputs: Sequence[str], steps: Sequence[Step], features: Sequence[str]) -> bytes:
    """A graph over named inputs; the last step gives the prediction."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def name_of(operand: str | float) -> str:
        if isinstance(operand, str):
            return operand
        constants.append(numpy_helper.from_array(np.array([[operand]]), f"constant{len(constants)}"))
        return constants[-1].name

    for position, name in enumerate(inputs):
        constants.append(numpy_helper.from_array(np.array([position]), f"place{position}"))
        nodes.append(helper.make_node("Gather", ["inputs", f"place{position}"], [name], axis=1))
    for output, operator, *operands in steps:
        nodes.append(helper.make_node(operator, [name_of(operand) for operand in operands], [output]))
    constants.append(numpy_helper.from_array(np.array([-1]), "flat"))
    nodes.append(helper.make_node("Reshape", [steps[-1][0], "flat"], ["prediction"]))
    nodes.append(helper.make_node("Concat", list(features), ["features"], axis=1))
    return graph_of(nodes, constants, len(inputs), len(features))


def quadratic(linear: np.ndarray, pairs: np.ndarray) -> Score:
    """prediction = x · linear + x · pairs · x, every input its own feature."""
    constants = [
        numpy_helper.from_array(np.asarray(linear, dtype=float)[:, None], "linear"),
        numpy_helper.from_array(np.asarray(pairs, dtype=float), "pairs"),
        numpy_helper.from_array(np.array([1]), "across"),
        numpy_helper.from_array(np.array([-1]), "flat"),
    ]
    nodes = [
        helper.make_node("MatMul", ["inputs", "linear"], ["straight"]),
        helper.make_node("MatMul", ["inputs", "pairs"], ["half"]),
        helper.make_node("Mul", ["half", "inputs"], ["products"]),
        helper.make_node("ReduceSum", ["products", "across"], ["bent"], keepdims=1),
        helper.make_node("Add", ["straight", "bent"], ["total"]),
        helper.make_node("Reshape", ["total", "flat"], ["prediction"]),
        helper.make_node("Identity", ["inputs"], ["features"]),
    ]
    return session_of(graph_of(nodes, constants, len(linear), len(linear)))


def graph_of(nodes: list[Any], constants: list[Any], inputs: int, features: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", inputs])],
        [
            helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["rows"]),
            helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", features]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    built: bytes = model.SerializeToString()
    return built


def session_of(model: bytes) -> Score:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def score(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prediction, computed = session.run(["prediction", "features"], {"inputs": rows})
        return prediction, computed

    return score


def input_field(name: str, low: float, high: float, **given: Any) -> InputField:
    plain: dict[str, Any] = {
        "type": "number",
        "description": "",
        "unit": None,
        "minimum": None,
        "above": None,
        "maximum": None,
        "example": low,
    }
    return InputField(name=name, seen_minimum=low, seen_maximum=high, **plain | given)


def feature_field(
    name: str, expression: str, inputs: list[str], low: float | None = None, high: float | None = None
) -> FeatureField:
    return FeatureField(
        name=name,
        expression=expression,
        edges=[],
        shares=[1.0],
        inputs=inputs,
        seen_minimum=low,
        seen_maximum=high,
    )


def manifest_of(
    inputs: list[InputField], features: list[FeatureField] | None = None, **given: Any
) -> Manifest:
    """A manifest whose champion reads all its features (by default each input as it is)."""
    own = features or [feature_field(field.name, field.name, [field.name]) for field in inputs]
    names = [field.name for field in own]
    calibration = Calibration(
        power=0.5,
        probabilities=[0.005, 0.05, 0.5, 0.95, 0.995],
        quantiles=[-2.0, -1.5, 0.0, 1.5, 2.0],
        integer=True,
        minimum=0.0,
        coverage={},
    )
    plain: dict[str, Any] = {
        "format": FORMAT,
        "forecast": "bookings",
        "title": "Bookings",
        "version": 3,
        "entity": "van",
        "target": "bookings",
        "kind": Kind.COUNT,
        "unit": "bookings",
        "horizon": "a year",
        "inputs": inputs,
        "features": own,
        "recipe": Recipe(name="tiny", family="tiny", features=names, definition={}),
        "calibration": calibration,
        "metrics": {},
        "importances": {},
        "rows": 100,
        "target_mean": 5.0,
        "data_version": "d",
        "data_as_of": "2025-03-01T12:00:00",
        "snapshots": {},
        "code_version": "c",
        "trained_at": "2025-03-02T00:00:00+00:00",
        "mlflow_run_id": "m",
        "dagster_run_id": "r",
        "libraries": {},
        "files": {},
    }
    return Manifest(**plain | given)


VAN_INPUTS = ["price", "usual_price", "photos"]
VAN_STEPS: list[Step] = [
    ("ratio", "Div", "price", "usual_price"),
    ("dearness", "Mul", "ratio", -6.0),
    ("looks", "Mul", "photos", 0.5),
    ("sum", "Add", "dearness", "looks"),
    ("raised", "Add", "sum", 14.0),
    ("worst", "Max", "raised", 0.1),
]


def van() -> tuple[Score, Manifest]:
    """bookings = 14 - 6 · price / usual_price + photos / 2: revenue is best inside the range."""
    manifest = manifest_of(
        [
            input_field("price", 30, 170, description="price per day", unit="USD/day", above=0, maximum=1000),
            input_field("usual_price", 35, 90, description="price of its like", unit="USD/day"),
            input_field(
                "photos", 1, 5, type="integer", unit="photos", levels=[1, 2, 3, 4, 5], minimum=0, maximum=100
            ),
        ],
        [
            feature_field("photos", "photos", ["photos"], 1, 5),
            feature_field("ratio", "price / usual_price", ["price", "usual_price"], 0.8, 2.0),
        ],
        background=[[60.0, 60.0, 3.0], [50.0, 50.0, 1.0], [90.0, 60.0, 5.0]],
        advice={
            "price": Lever(input="price", worth="revenue", unit="USD", description="price × bookings"),
            "photos": Lever(input="photos", worth="pictures", unit="", description="photos × bookings"),
        },
    )
    return score_of(VAN_INPUTS, VAN_STEPS, ["photos", "ratio"]), manifest


def changed(manifest: Manifest, **parts: Any) -> Manifest:
    return msgspec.structs.replace(manifest, **parts)


def named(manifest: Manifest) -> Mapping[str, InputField]:
    return {field.name: field for field in manifest.inputs}
