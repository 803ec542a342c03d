"""Inputs that a request leaves out: taken from what is stored of the entity, or answered by the fallback."""

import math
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, NAMES, inputs, publish
from tests.support.entities import AS_OF, keep
from tests.support.service import Serve, plain
from vroom_api.champion.stored_inputs import Entities
from vroom_api.contract import Calibration, Fallback, Golden, Recipe, forecast_folder
from vroom_assets.challenger.onnx_graph import FallbackModel, build
from vroom_assets.features.expressions import Feature
from vroom_assets.training.models import PassThrough

PRICES = {"actual_price": 45.0, "recommended_price": 50.0}


@pytest.fixture
def client(state: Path, serve: Serve) -> TestClient[Any]:
    """The service with version 1, and two vehicles that are stored."""
    publish(state, 1, background=[[0.0, 60.0, 60.0, 4.0, 0.0, 100.0]])
    keep(state, {"7": list(EXAMPLE.values()), "8": [0, 90.0, 60.0, 3, 1, 20]})
    return serve()


def test_an_entity_is_answered_by_its_id_as_by_its_inputs(client):
    by_id = client.post("/predict", json={"entity_id": "7"})
    assert by_id.status_code == 200, by_id.text
    assert plain(by_id.json()) == plain(client.post("/predict", json=EXAMPLE).json())
    assert by_id.json()["stored"] == {"as_of": AS_OF, "inputs": NAMES}


def test_what_is_sent_overrides_what_is_stored_and_the_answer_tells_which_is_which(client):
    given = client.post("/predict", json={"entity_id": "8", "actual_price": 70.0}).json()
    whole = dict(zip(NAMES, [0, 70.0, 60.0, 3, 1, 20], strict=True))
    assert plain(given) == plain(client.post("/predict", json=whole).json())
    assert given["stored"]["inputs"] == [name for name in NAMES if name != "actual_price"]


def test_whole_inputs_need_no_store_and_say_nothing_of_it(client):
    given = client.post("/predict", json=EXAMPLE | {"entity_id": "nobody knows it"})
    assert given.status_code == 200
    assert "stored" not in given.json()


def test_a_batch_may_mix_both(client):
    rows = [EXAMPLE, {"entity_id": "8"}, {"entity_id": "7", "num_images": 1}]
    given = client.post("/predict/batch", json=rows).json()
    alone = [client.post("/predict", json=row).json() for row in rows]
    assert [plain(answer) for answer in given] == [plain(answer) for answer in alone]
    assert ["stored" in answer for answer in given] == [False, True, True]


def test_reasons_and_advice_take_an_id_as_well(client):
    reasons = client.post("/predict", json={"entity_id": "7", "explain": True}).json()["reasons"]
    assert reasons == client.post("/predict", json=EXAMPLE | {"explain": True}).json()["reasons"]
    curve = client.post("/advise/price", json={"entity_id": "7"})
    assert curve.status_code == 200, curve.text
    assert curve.json()["curve"] == client.post("/advise/price", json=EXAMPLE).json()["curve"]


def test_an_unknown_entity_is_refused_with_what_to_send(client):
    refused = client.post("/predict", json={"entity_id": "9", **PRICES})
    assert refused.status_code == 404
    problem = refused.json()
    assert problem["type"] == "urn:vroom:unknown-entity"
    assert "nothing is stored for vehicle '9'" in problem["detail"]
    assert [fault["field"] for fault in problem["errors"]] == [n for n in NAMES if n not in PRICES]
    refused = client.post("/predict/batch", json=[EXAMPLE, {"entity_id": "9"}])
    assert refused.status_code == 404
    assert refused.json()["detail"].startswith("row 1: ")


def test_without_an_id_every_missing_input_is_named(client):
    refused = client.post("/predict", json=PRICES)
    assert refused.status_code == 422
    assert [fault["field"] for fault in refused.json()["errors"]] == [n for n in NAMES if n not in PRICES]


def test_before_anything_is_stored_the_answer_says_what_to_materialize(state, serve):
    publish(state, 1)
    refused = serve().post("/predict", json={"entity_id": "7"})
    assert refused.status_code == 404
    assert "materialize reservations/online_features" in refused.json()["detail"]


def test_a_new_file_is_read_at_once_and_a_damaged_one_is_told(client, state):
    before = client.post("/predict", json={"entity_id": "7"}).json()
    path = keep(state, {"7": [0, 90.0, 60.0, 3, 1, 20]})
    after = client.post("/predict", json={"entity_id": "7"}).json()
    assert after["predicted_reservations"] != before["predicted_reservations"]
    damaged = path.with_name("damaged")
    damaged.write_bytes(b"no database at all" * 100)
    os.replace(damaged, path)
    refused = client.post("/predict", json={"entity_id": "7"})
    assert refused.status_code == 503
    assert "materialize online_features" in refused.json()["detail"]
    assert client.post("/predict", json=EXAMPLE).status_code == 200
    keep(state, {"7": list(EXAMPLE.values())})
    assert client.post("/predict", json={"entity_id": "7"}).json()["stored"]["as_of"] == AS_OF


def test_what_is_stored_under_another_declaration_is_not_used(client, state):
    keep(state, {"7": [-5, *list(EXAMPLE.values())[1:]]})  # technology is 0 or 1
    refused = client.post("/predict", json={"entity_id": "7"})
    assert refused.status_code == 422
    assert "technology: the stored value -5 is not within 0..1" in refused.json()["detail"]
    keep(state, {"7": [45.0, 50.0]}, ["actual_price", "recommended_price"])
    refused = client.post("/predict", json={"entity_id": "7"})
    assert refused.status_code == 404
    assert "num_images" in refused.json()["detail"]


def test_a_lookup_in_threads_finds_each_its_own(state):
    from concurrent.futures import ThreadPoolExecutor

    forecast_folder(FORECAST, state).mkdir(parents=True)
    keep(state, {str(number): [number] * len(NAMES) for number in range(200)})
    entities = Entities(FORECAST, state)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: entities.find(str(number)), range(200)))
    assert [stored.values["technology"] for stored in found if stored] == list(range(200))


# The fallback

NEW = "no photos are known"


def wide(spread: float) -> Calibration:
    return Calibration(
        power=0.0,
        probabilities=[0.0, 1.0],
        quantiles=[-spread, spread],
        integer=False,
        minimum=None,
        coverage={},
    )


@pytest.fixture
def falling(state: Path, serve: Serve) -> TestClient[Any]:
    """A champion that gives the number of photos, and the price ratio where that is left out."""
    features = [
        Feature("num_images", "num_images"),
        Feature("log_price_ratio", "ln(actual_price / recommended_price)"),
    ]
    other = FallbackModel(["num_images"], PassThrough("log_price_ratio"))
    model = build(NAMES, features, PassThrough("num_images"), other).SerializeToString()
    row: list[float | None] = [float(value) for value in EXAMPLE.values()]
    ratio = math.log(45 / 50)
    golden = Golden(
        inputs=[
            row,
            [None if name == "num_images" else value for name, value in zip(NAMES, row, strict=True)],
        ],
        features=[[8.0, ratio], [None, ratio]],
        predictions=[8.0, ratio],
        tolerance=1e-6,
    )
    fields = [
        msgspec.structs.replace(
            field, example=float(EXAMPLE[field.name]), nullable=nullable, seen_missing=nullable
        )
        for field in inputs()
        for nullable in [field.name == "num_images"]
    ]
    publish(
        state,
        1,
        model=model,
        golden=golden,
        inputs=fields,
        background=[row],
        calibration=wide(1.0),
        fallback=Fallback(
            without=["num_images"],
            description=NEW,
            recipe=Recipe(name="ratio", family="feature", features=["log_price_ratio"], definition={}),
            calibration=wide(5.0),
            error=1.0,
        ),
    )
    return serve(record=True)


WITHOUT = {name: value for name, value in EXAMPLE.items() if name != "num_images"}


def test_what_lacks_an_input_of_the_champion_is_answered_by_the_fallback_and_says_so(falling):
    usual = falling.post("/predict", json=EXAMPLE).json()
    assert usual["predicted_reservations"] == 8
    assert "fallback" not in usual
    given = falling.post("/predict", json=WITHOUT)
    assert given.status_code == 200, given.text
    found = given.json()
    assert found["predicted_reservations"] == pytest.approx(math.log(0.9), abs=1e-7)
    assert found["fallback"] == NEW
    assert found["in_support"] is True
    width = found["interval"]["high"] - found["interval"]["low"]
    assert width == pytest.approx(9.0)  # 90 % of its ten; the usual one would have 1.8


def test_a_batch_falls_back_row_by_row(falling):
    rows = [EXAMPLE, WITHOUT, {**EXAMPLE, "num_images": None}]
    given = falling.post("/predict/batch", json=rows).json()
    assert ["fallback" in answer for answer in given] == [False, True, True]
    alone = falling.post("/predict", json=WITHOUT).json()
    for answer in given[1:]:
        assert answer["interval"] == alone["interval"]
        assert answer["predicted_reservations"] == alone["predicted_reservations"]


def test_the_reasons_of_a_fallback_add_up(falling):
    given = falling.post("/predict", json=WITHOUT | {"explain": True}).json()["reasons"]
    amounts = sum(reason["amount"] for reason in given["reasons"])
    assert given["baseline"] + amounts == pytest.approx(given["prediction"], abs=1e-9)
    assert given["prediction"] == pytest.approx(math.log(0.9), abs=1e-7)


def test_a_fallback_is_recorded_and_verified_like_any_other(falling):
    identifier = falling.post("/predict", json=WITHOUT).json()["prediction_id"]
    found = falling.get(f"/predictions/{identifier}").json()
    assert found["prediction"]["inputs"]["num_images"] is None
    [step] = [step for step in found["chain"] if step["step"] == "prediction"]
    assert step["verified"] is True, step
