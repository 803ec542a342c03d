"""Real, small bundles of one forecast, published as training publishes them."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny import feature_field, input_field, manifest_of
from vroom_api.contract import (
    GOLDEN,
    MANIFEST,
    MODEL,
    POINTER,
    Golden,
    InputField,
    Lever,
    Manifest,
    Pointer,
    bundle_folder,
    forecast_folder,
    read_pointer,
    sha256_of,
)

FORECAST = "reservations"
EXAMPLE = {
    "technology": 1,
    "actual_price": 45.0,
    "recommended_price": 50.0,
    "num_images": 8,
    "street_parked": 0,
    "description": 250,
}
NAMES = list(EXAMPLE)


def inputs() -> list[InputField]:
    flag: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 1, "unit": "flag", "levels": [0, 1]}
    price: dict[str, Any] = {"above": 0, "maximum": 10_000, "unit": "USD/day"}
    return [
        input_field("technology", 0, 1, description="1 if the vehicle opens by phone", **flag),
        input_field("actual_price", 20, 300, description="price per day that the host asks", **price),
        input_field("recommended_price", 25, 250, description="price per day recommended", **price),
        input_field(
            "num_images", 1, 20, type="integer", minimum=0, maximum=100, unit="photos", description="photos"
        ),
        input_field("street_parked", 0, 1, description="1 if it is parked on the street", **flag),
        input_field(
            "description",
            0,
            900,
            type="integer",
            minimum=0,
            maximum=100_000,
            description="length of the text",
        ),
    ]


def predicted(row: list[float], scale: float) -> tuple[list[float], float]:
    """Features and prediction of the bundle's graph, computed without it."""
    ratio = float(np.log(row[1] / row[2]))
    return [row[3], ratio], scale * float(np.exp(0.05 * row[3] - 1.5 * ratio + 0.2 * row[0]))


def graph(scale: float) -> bytes:
    """prediction = scale · exp(0.05 · num_images - 1.5 · ln(actual_price / recommended_price) + 0.2 · technology)"""
    constants = [
        numpy_helper.from_array(np.array([position]), f"at{position}") for position in (0, 1, 2, 3)
    ] + [
        numpy_helper.from_array(np.array([0.05, -1.5, 0.2])[:, None], "weights"),
        numpy_helper.from_array(np.array([scale]), "scale"),
        numpy_helper.from_array(np.array([-1]), "flat"),
    ]
    nodes = [
        *(
            helper.make_node("Gather", ["inputs", f"at{position}"], [name], axis=1)
            for position, name in enumerate(("technology", "actual_price", "recommended_price", "num_images"))
        ),
        helper.make_node("Div", ["actual_price", "recommended_price"], ["ratio"]),
        helper.make_node("Log", ["ratio"], ["log_price_ratio"]),
        helper.make_node("Concat", ["num_images", "log_price_ratio"], ["features"], axis=1),
        helper.make_node("Concat", ["num_images", "log_price_ratio", "technology"], ["terms"], axis=1),
        helper.make_node("MatMul", ["terms", "weights"], ["linear"]),
        helper.make_node("Exp", ["linear"], ["raised"]),
        helper.make_node("Mul", ["raised", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["prediction"]),
    ]
    drawn = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", len(NAMES)])],
        [
            helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["rows"]),
            helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", 2]),
        ],
        constants,
    )
    built = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized: bytes = built.SerializeToString()
    return serialized


def golden_of(scale: float) -> Golden:
    rows = np.random.default_rng(7)
    made = [
        [
            float(rows.integers(2)),
            float(rows.uniform(20, 300)),
            float(rows.uniform(25, 250)),
            float(rows.integers(1, 20)),
            float(rows.integers(2)),
            float(rows.integers(900)),
        ]
        for _ in range(20)
    ]
    features, predictions = zip(*(predicted(row, scale) for row in made), strict=True)
    whole: list[list[float | None]] = [[*row] for row in made]
    return Golden(inputs=whole, features=list(features), predictions=list(predictions), tolerance=1e-6)


def manifest(version: int, **given: Any) -> Manifest:
    own = {
        field.name: msgspec.structs.replace(field, example=float(EXAMPLE[field.name])) for field in inputs()
    }
    plain: dict[str, Any] = {
        "forecast": FORECAST,
        "title": "Reservations per listing",
        "version": version,
        "entity": "vehicle",
        "target": "reservations",
        "unit": "reservations",
        "horizon": "one calendar year",
        "data_as_of": "2023-12-31T23:59:00",
        "metrics": {"nested_mae": 3.5},
        "background": golden_of(1.0).inputs[:8],
        "advice": {}
        if "inputs" in given
        else {
            "price": Lever(
                input="actual_price", worth="revenue", unit="USD", description="price × reservations"
            )
        },
    }
    features = [
        feature_field("num_images", "num_images", ["num_images"], 1, 20),
        feature_field(
            "log_price_ratio",
            "ln(actual_price / recommended_price)",
            ["actual_price", "recommended_price"],
            -2,
            2,
        ),
    ]
    fields, features = given.pop("inputs", list(own.values())), given.pop("features", features)
    return manifest_of(fields, features, **plain | given)


def publish(home: Path, version: int, *, scale: float | None = None, **given: Any) -> Pointer:
    """Write a bundle and point at it, as training does.

    Args:
        scale: of the prediction, by default the version, so that an answer tells who gave it.
        given: parts of the manifest, and `model` and `golden` in place of those that belong together.
    """
    factor = float(version) if scale is None else scale
    model = given.pop("model", None) or graph(factor)
    golden = given.pop("golden", None) or golden_of(factor)
    return write(home, FORECAST, manifest(version, **given), model, golden)


def write(home: Path, forecast: str, declared: Manifest, model: bytes, golden: Golden) -> Pointer:
    """Put a bundle under the home and point at it."""
    contents = {MODEL: model, GOLDEN: msgspec.json.encode(golden)}
    files = {name: sha256_of(content) for name, content in contents.items()}
    contents[MANIFEST] = msgspec.json.encode(msgspec.structs.replace(declared, files=files))
    folder = bundle_folder(forecast, declared.version, home)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return point(home, declared.version, sha256_of(contents[MANIFEST]), forecast)


def point(home: Path, version: int, manifest_sha256: str | None = None, forecast: str = FORECAST) -> Pointer:
    """Replace the pointer at once; the generation grows."""
    folder = forecast_folder(forecast, home)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        current = read_pointer(forecast, home)
    except Exception:  # a garbage pointer is replaced as well
        current = None
    if manifest_sha256 is None:
        manifest_sha256 = sha256_of((bundle_folder(forecast, version, home) / MANIFEST).read_bytes())
    pointer = Pointer(
        generation=(current.generation if current else 0) + 1,
        version=version,
        manifest_sha256=manifest_sha256,
        published_at="2025-03-02T00:00:00+00:00",
    )
    beside = folder / ".champion.json-new"
    beside.write_bytes(msgspec.json.encode(pointer))
    os.replace(beside, folder / POINTER)
    return pointer
