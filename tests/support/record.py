"""A champion of two inputs with its snapshots, and predictions of it in the record."""

import asyncio
import contextlib
import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import onnx
import sqlalchemy as sa
from onnx import TensorProto, helper, numpy_helper

from vroom_api.contract import (
    Calibration,
    FeatureField,
    Golden,
    InputField,
    Kind,
    Manifest,
    Recipe,
    forecast_folder,
    read_pointer,
)
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.contract.tables import open_database
from vroom_api.record.prediction import new_id
from vroom_api.record.recorder import Recorder
from vroom_assets.champion import publication

FORECAST = "reservations"
CSVS = {
    "vehicles": b"vehicle_id,price\n1,50\n2,60\n",
    "reservations": b"vehicle_id,created_at\n1,2026-01-01\n",
}
CALIBRATION = Calibration(
    power=0.75,
    probabilities=[0.05, 0.5, 0.95],
    quantiles=[-1.2, 0.0, 1.6],
    integer=True,
    minimum=0.0,
    coverage={"overall": 0.9},
)


def model(weight: float) -> bytes:
    """inputs (rows, 2) → features: both and their ratio's logarithm → prediction: weight × last feature + 5."""
    constants = {
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "weight": np.array([weight]),
        "base": np.array([5.0]),
        "flat": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["inputs", "first"], ["a"], axis=1),
        helper.make_node("Gather", ["inputs", "second"], ["b"], axis=1),
        helper.make_node("Div", ["a", "b"], ["ratio"]),
        helper.make_node("Log", ["ratio"], ["log_ratio"]),
        helper.make_node("Concat", ["a", "log_ratio"], ["features"], axis=1),
        helper.make_node("Mul", ["log_ratio", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "base"], ["sum"]),
        helper.make_node("Reshape", ["sum", "flat"], ["prediction"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", 2])],
        [
            helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["rows"]),
            helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(built)
    return built.SerializeToString()


def input_field(name: str) -> InputField:
    return InputField(
        name=name,
        type="number",
        description=name,
        unit=None,
        minimum=None,
        above=0.0,
        maximum=None,
        seen_minimum=1.0,
        seen_maximum=100.0,
        example=50.0,
    )


def publish(version: int, weight: float) -> Origin:
    """Publish a champion and its snapshots under the home, as training does."""
    snapshots = {name: hashlib.sha256(content).hexdigest() for name, content in CSVS.items()}
    folder = forecast_folder(FORECAST) / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in snapshots.items():
        (folder / f"{digest}.csv").write_bytes(CSVS[name])
    expected = 5.0 + weight * float(np.log(60 / 50))
    golden = Golden(
        inputs=[[60.0, 50.0]],
        features=[[60.0, float(np.log(60 / 50))]],
        predictions=[expected],
        tolerance=1e-9,
    )
    manifest = Manifest(
        format=1,
        forecast=FORECAST,
        title="Small",
        version=version,
        entity="vehicle",
        target="reservations",
        kind=Kind.COUNT,
        unit="bookings",
        horizon="a year",
        inputs=[input_field("actual"), input_field("recommended")],
        features=[
            FeatureField(name="actual", expression="actual", edges=[], shares=[1.0]),
            FeatureField(name="log_ratio", expression="ln(actual / recommended)", edges=[], shares=[1.0]),
        ],
        recipe=Recipe(name="small", family="poisson_glm", features=["log_ratio"], definition={}),
        calibration=CALIBRATION,
        metrics={},
        importances={},
        rows=2,
        target_mean=5.0,
        data_version="d" * 64,
        data_as_of="2026-01-01T00:00:00",
        snapshots=snapshots,
        code_version="c" * 64,
        trained_at="2026-01-02T00:00:00+00:00",
        mlflow_run_id="run-of-mlflow",
        dagster_run_id="run-of-dagster",
        libraries={"onnx": "1"},
        files={},
    )
    source = forecast_folder(FORECAST) / f"made-{version}"
    digest = publication.write(source, manifest, model(weight), golden)
    pointer = read_pointer(FORECAST)
    generation = pointer.generation if pointer else 0
    published = publication.publish(source, digest, generation=generation)
    return Origin(
        FORECAST,
        version,
        published.generation,
        digest,
        manifest.data_version,
        ("actual", "recommended"),
        ("actual", "log_ratio"),
    )


def predicted(origin: Origin, weight: float, actual: float = 66.0, recommended: float = 50.0) -> Prediction:
    log_ratio = float(np.log(actual / recommended))
    value = 5.0 + weight * log_ratio
    interval = CALIBRATION.interval(value, 0.9)
    return Prediction(
        id=new_id(),
        origin=origin,
        caller="shop",
        entity_id=None,
        inputs=(actual, recommended),
        features=(actual, log_ratio),
        value=value,
        low=interval.low,
        high=interval.high,
        level=0.9,
        latency_us=100,
    )


def store(engine: sa.Engine, *made: Prediction) -> None:
    async def run() -> None:
        async with Recorder(lambda: engine) as recorder:
            await recorder.record(*made)

    asyncio.run(run())


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def stored(path: Path) -> set[str]:
    engine = open_database(f"sqlite:///{path}")
    expand_blocks(engine)  # as every reader does
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {identifier for (identifier,) in connection.execute("SELECT id FROM predictions")}


# A process that records without end and prints the ids that it has acknowledged.
LOAD = """
import asyncio, os, sys
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.record.prediction import new_id
from vroom_api.record.recorder import Recorder
from vroom_api.contract.tables import open_database

origin = Origin("reservations", 3, 7, "a" * 64, "d" * 64, ("price",), ("ratio",))

async def caller(recorder):
    while True:
        one = Prediction(new_id(), origin, "shop", None, (50.0,), (1.0,), 6.4, 0.0, 15.0, 0.9, 180)
        await recorder.record(one)
        os.write(1, one.id.encode() + b"\\n")

async def run():
    async with Recorder(lambda: open_database(sys.argv[1])) as recorder:
        await asyncio.gather(*(caller(recorder) for _ in range(32)))

asyncio.run(run())
"""
