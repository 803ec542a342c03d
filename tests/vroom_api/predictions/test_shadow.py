"""A version in shadow scores what was answered, and whatever happens to it no request hears of it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from onnx import TensorProto, helper, numpy_helper

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, NAMES, golden_of, inputs, publish
from tests.support.service import Serve, metric_set, one, wait_for
from tests.support.trials import listing, put_beside, tried_champion, try_out
from vroom_api.champion.loading import Champion, Tried, load
from vroom_api.contract import TrialRole
from vroom_api.contract.tables import open_database, predictions, shadow_predictions
from vroom_api.predictions.answered import predict_many
from vroom_api.predictions.shadow import Shadow, rows_of, scored
from vroom_api.record.prediction import Prediction, PredictionLog
from vroom_api.record.recorder import Recorder


@pytest.fixture
def champion(tmp_path: Path) -> Champion:
    return tried_champion(tmp_path / "home", TrialRole.SHADOW, 1.0)


def answered(champion: Champion, rows: list[dict[str, Any]]) -> list[Prediction]:
    log = PredictionLog("shop", time.perf_counter_ns())
    predict_many(champion, msgspec.json.encode(rows), len(rows), log)
    return log.predictions


def tried(champion: Champion) -> Tried:
    assert champion.tried is not None
    return champion.tried


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], sa.Engine]]:
    with databases.empty(request.param, tmp_path) as url:
        engine = open_database(url)
        yield lambda: engine
        engine.dispose()


def written(database: Callable[[], sa.Engine]) -> list[Any]:
    with database().connect() as connection:
        return list(connection.execute(shadow_predictions.select().order_by(shadow_predictions.c.id)))


def run(shadow: Shadow, *offers: tuple[Tried, list[Prediction]]) -> None:
    async def offer() -> None:
        async with shadow.running():
            for of, rows in offers:
                shadow.offer(of, rows)

    asyncio.run(offer())


def test_what_was_answered_is_scored_as_the_second_version_would_have(champion, database):
    rows = [
        listing(number, num_images=number % 90, level=0.5 if number % 2 else 0.9) for number in range(700)
    ]
    made = answered(champion, rows)
    shadow = Shadow(database)
    run(shadow, (tried(champion), made), (tried(champion), made[:3]))
    found = written(database)
    alone = answered(replace(tried(champion).second), rows)
    assert [row.id for row in found] == [row.id for row in made]
    for name in ("value", "low", "high"):
        assert [getattr(row, name) for row in found] == [getattr(row, name) for row in alone]
    assert {(row.version, row.forecast) for row in found} == {(2, FORECAST)}
    assert shadow.rows[FORECAST] == {"scored": 703}


def test_a_share_of_the_entities_is_copied(tmp_path, database):
    champion = tried_champion(tmp_path / "home", TrialRole.SHADOW, 0.2)
    made = answered(champion, [listing(number) for number in range(500)])
    run(Shadow(database), (tried(champion), made))
    assert len(written(database)) / 500 == pytest.approx(0.2, abs=0.06)


def test_what_it_cannot_keep_up_with_is_dropped_and_counted(champion, database):
    made = answered(champion, [listing(number) for number in range(30)])
    shadow = Shadow(database, capacity=50)
    run(shadow, (tried(champion), made), (tried(champion), made))
    assert shadow.rows[FORECAST] == {"scored": 30, "dropped": 30}
    shadow.offer(tried(champion), made)  # of a service that has stopped
    assert shadow.rows[FORECAST]["dropped"] == 60


def test_a_split_is_not_copied(tmp_path, database):
    champion = tried_champion(tmp_path / "home", TrialRole.SPLIT, 0.2)
    shadow = Shadow(database)
    run(shadow, (tried(champion), answered(champion, [EXAMPLE])))
    assert (written(database), dict(shadow.rows)) == ([], {})


def test_after_a_failure_it_goes_on(champion, tmp_path):
    url = f"sqlite:///{tmp_path / 'serving.db'}"
    engines: list[sa.Engine] = []

    def database() -> sa.Engine:
        if not engines:
            engines.append(open_database(url))
            raise sa.exc.OperationalError("connect", {}, Exception("the database is away"))
        return engines[0]

    made = answered(champion, [listing(number) for number in range(600)])
    shadow = Shadow(database)
    run(shadow, (tried(champion), made))
    assert shadow.rows[FORECAST] == {"failed": 512, "scored": 88}
    assert shadow.last_failure is None
    assert len(written(database)) == 88
    engines[0].dispose()


def raising() -> bytes:
    """A graph whose features are those of the others, and that fails for more than 50 photos."""
    many = np.zeros(51)
    nodes = [
        helper.make_node("Gather", ["inputs", "at3"], ["num_images"], axis=1),
        helper.make_node("Gather", ["inputs", "at1"], ["actual"], axis=1),
        helper.make_node("Gather", ["inputs", "at2"], ["recommended"], axis=1),
        helper.make_node("Div", ["actual", "recommended"], ["ratio"]),
        helper.make_node("Log", ["ratio"], ["log_ratio"]),
        helper.make_node("Concat", ["num_images", "log_ratio"], ["features"], axis=1),
        helper.make_node("Reshape", ["num_images", "flat"], ["flat_images"]),
        helper.make_node("Cast", ["flat_images"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["prediction"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "raising",
        [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", len(NAMES)])],
        [
            helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["rows"]),
            helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", 2]),
        ],
        [
            *(numpy_helper.from_array(np.array([at]), f"at{at}") for at in (1, 2, 3)),
            numpy_helper.from_array(np.array([-1]), "flat"),
            numpy_helper.from_array(many, "table"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def test_a_version_that_raises_fails_no_request(state: Path, serve: Serve):
    publish(state, 1)
    golden = msgspec.structs.replace(golden_of(1.0), predictions=[0.0] * 20)
    put_beside(state, 2, model=raising(), golden=golden)
    try_out(state, 2, TrialRole.SHADOW, 1.0)
    client = serve(record=True)
    asked = [client.post("/predict", json=listing(number, num_images=number)) for number in (5, 60, 70)]
    assert [one.status_code for one in asked] == [200, 200, 200]
    assert {one.json()["model_version"] for one in asked} == {1}
    wait_for(
        lambda: one(metric_set(client), "vroom_shadow_rows_total", forecast=FORECAST, state="failed") > 0
    )
    batch = client.post("/predict/batch", json=[listing(number) for number in range(5)])
    assert batch.status_code == 200
    wait_for(
        lambda: one(metric_set(client), "vroom_shadow_rows_total", forecast=FORECAST, state="scored") >= 5
    )


def test_rows_without_a_finite_number_are_left_out(champion):
    made = answered(champion, [EXAMPLE])
    broken = msgspec.structs.replace(made[0], inputs=[float("nan")] * len(NAMES))
    assert [row.id for row in scored(tried(champion), [broken, made[0]])] == [made[0].id]


def test_a_text_that_may_be_any_has_the_code_of_the_second_version(tmp_path: Path):
    def texts(values: list[str]) -> list[Any]:
        field = msgspec.structs.replace(
            inputs()[5], type="text", values=values, is_open=True, minimum=None, maximum=None, example=0.0
        )
        return [*inputs()[:5], field]

    publish(tmp_path, 1, inputs=texts(["a", "b", "other"]))
    put_beside(tmp_path, 2, inputs=texts(["b", "c", "other"]))
    try_out(tmp_path, 2, TrialRole.SHADOW, 1.0)
    champion = load(FORECAST, tmp_path)
    made = answered(champion, [listing(text, description=text) for text in ("a", "b", "new")])
    assert rows_of(tried(champion), made)[:, 5].tolist() == [3.0, 0.0, 2.0]


def test_the_record_forgets_what_was_in_shadow_with_the_predictions(champion, tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    old = msgspec.structs.replace(answered(champion, [EXAMPLE])[0], id="01890000-0000-7000-8000-000000000000")
    run(Shadow(lambda: engine), (tried(champion), [old]))

    async def forget() -> None:
        async with Recorder(lambda: engine) as recorder:
            await recorder.record(old)
            assert await recorder.forget(1.0, pause=0.0) == 2

    asyncio.run(forget())
    with engine.connect() as connection:
        for table in (predictions, shadow_predictions):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0
    engine.dispose()
