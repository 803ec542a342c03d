"""One request is a batch of one."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.service import timeless
from vroom_api.champion.loading import Champion, load
from vroom_api.predictions.answered import predict_in_steps, predict_many, predict_one
from vroom_api.predictions.asked import ROWS_AT_A_TIME, decode, decode_in_steps, finish
from vroom_api.problems import Problem
from vroom_api.record.prediction import PredictionLog

IMPOSSIBLE: dict[str, Any] = EXAMPLE | {"actual_price": 5e-324, "recommended_price": 10_000}

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": EXAMPLE,
    "with a level": EXAMPLE | {"level": 0.5},
    "out of range": EXAMPLE | {"num_images": 60, "actual_price": 900},
    "with reasons": EXAMPLE | {"explain": True},
}


@pytest.fixture
def champion(state: Path) -> Champion:
    publish(state, 1)
    found = load(FORECAST, state)
    assert found is not None
    return found


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_row_is_answered_alone_as_in_a_batch(champion: Champion, asked: dict[str, Any]) -> None:
    alone = json.loads(timeless(predict_one(champion, json.dumps(asked).encode())))
    body, rows, _ = predict_many(champion, json.dumps([EXAMPLE, asked]).encode(), 2)
    assert rows == {champion.version: 2}
    assert json.loads(timeless(body))[1] == alone


def test_a_row_is_read_alone_as_in_a_batch_but_for_its_number(champion: Champion) -> None:
    asked = decode(champion, json.dumps(EXAMPLE).encode())
    batch = finish(decode_in_steps(champion, json.dumps([EXAMPLE, EXAMPLE]).encode(), 2))
    assert [one.row for one in batch] == [asked.row, asked.row]
    assert [asked.number, *(one.number for one in batch)] == [None, 0, 1]


def test_a_large_batch_rests_and_is_answered_in_its_order(champion: Champion) -> None:
    rows = 3 * ROWS_AT_A_TIME + 1
    body = json.dumps([EXAMPLE | {"num_images": row % 90} for row in range(rows)]).encode()
    log = PredictionLog("shop", time.perf_counter_ns())
    assert sum(1 for _ in predict_in_steps(champion, body, rows, log)) >= 3 * 4  # read, answered and encoded
    answer, count, _ = predict_many(champion, body, rows)
    assert count == {champion.version: rows}
    alone = [json.loads(predict_one(champion, json.dumps(one).encode())) for one in json.loads(body)]
    values = pytest.approx([one["predicted_reservations"] for one in alone], rel=1e-12)
    assert [one["predicted_reservations"] for one in json.loads(answer)] == values
    assert [made.value for made in log.predictions] == values


def test_every_answer_has_the_id_of_its_entry_in_the_log(champion: Champion) -> None:
    log = PredictionLog("shop", time.perf_counter_ns())
    tagged = EXAMPLE | {"entity_id": "7", "tags": {"session": "race"}}
    body = predict_many(champion, json.dumps([EXAMPLE, tagged]).encode(), 2, log).content
    assert [answer["prediction_id"] for answer in json.loads(body)] == [made.id for made in log.predictions]
    assert [(made.entity_id, made.tags) for made in log.predictions] == [
        (None, None),
        ("7", {"session": "race"}),
    ]


def test_nothing_is_logged_of_a_batch_with_a_row_that_has_no_answer(champion: Champion) -> None:
    log = PredictionLog("shop", time.perf_counter_ns())
    with pytest.raises(Problem, match="row 1: ") as refused:
        predict_many(champion, json.dumps([EXAMPLE, IMPOSSIBLE]).encode(), 2, log)
    assert refused.value.cause == "no-finite-prediction"
    assert log.predictions == []
