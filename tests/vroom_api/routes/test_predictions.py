"""POST /predict and POST /predict/batch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, NAMES, inputs, manifest, predicted, publish
from tests.support.tiny import input_field
from vroom_api.predictions.refusals import allowed_of

MALFORMED = {
    "nothing": b"",
    "half an object": b'{"technology": 1',
    "two objects": b"{} {}",
    "NaN": b'{"technology": NaN}',
    "infinity": b'{"technology": -Infinity}',
    "beyond float64": json.dumps(EXAMPLE).replace("45.0", "1e400").encode(),
    "no UTF-8": b'{"technolog\xff": 1}',
    "nested a hundred thousand deep": b'{"technology": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "more digits than Python reads": json.dumps(EXAMPLE).replace("250", "9" * 5_000).encode(),
}

WRONG = [
    ({"num_images": 130}, "num_images: 130 is not within 0..100 photos", "0..100 photos"),
    ({"num_images": -1}, "num_images: -1 is not within 0..100 photos", "0..100 photos"),
    ({"num_images": 3.5}, "num_images: 3.5 is not an integer within 0..100 photos", "0..100 photos"),
    ({"num_images": True}, "num_images: true is not an integer within 0..100 photos", "0..100 photos"),
    ({"num_images": "8"}, 'num_images: "8" is not an integer within 0..100 photos', "0..100 photos"),
    ({"num_images": None}, "num_images: null is not an integer within 0..100 photos", "0..100 photos"),
    ({"num_images": 10**39}, f"num_images: {10**39} is not within 0..100 photos", "0..100 photos"),
    (
        {"actual_price": 0},
        "actual_price: 0 is not within above 0 and at most 10000 USD/day",
        "above 0 and at most 10000 USD/day",
    ),
    (
        {"actual_price": [45]},
        "actual_price: [45] is not a number within above 0 and at most 10000 USD/day",
        "above 0 and at most 10000 USD/day",
    ),
    ({"street_parked": 2}, "street_parked: 2 is not within 0..1", "0..1"),
    ({"level": 1}, "level: 1 is not within 0.5..0.99", "0.5..0.99"),
    ({"level": "0.9"}, 'level: "0.9" is not within 0.5..0.99', "0.5..0.99"),
    (
        {"entity_id": 7},
        'entity_id: 7 is not 1..128 characters without control characters; send it as text: "7"',
        "1..128 characters without control characters",
    ),
    (
        {"tags": {"session": 2024}},
        'tags: expected text, got a number; send it in quotes, e.g. "7"; they are up to 8 names with texts, '
        'e.g. {"session": "2024 race"}',
        'up to 8 names with texts, e.g. {"session": "2024 race"}',
    ),
    (
        {"tags": {"a\n": "b"}},
        "tags: expected the name of a tag: a small letter, then small letters, digits and underscores, 64 at most; "
        'they are up to 8 names with texts, e.g. {"session": "2024 race"}',
        'up to 8 names with texts, e.g. {"session": "2024 race"}',
    ),
    (
        {"colour": 1},
        f"colour: unknown field; the fields are {', '.join(NAMES)}, level, explain, entity_id, tags",
        f"{', '.join(NAMES)}, level, explain, entity_id, tags",
    ),
]


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the ages, which grow from one to the next."""
    return {name: value for name, value in answer.items() if not name.endswith("_age_s")}


def test_a_prediction_is_the_models_and_names_its_version(client: TestClient[Any]) -> None:
    answer = client.post("/predict", json=EXAMPLE)
    assert answer.status_code == 200
    found = answer.json()
    expected = predicted([float(value) for value in EXAMPLE.values()], scale=1.0)[1]
    assert found.pop("predicted_reservations") == pytest.approx(expected, rel=1e-9)
    assert found.pop("interval")["level"] == 0.9
    assert [found.pop(name) > 0 for name in ("data_age_s", "model_age_s")] == [True, True]
    assert found == {
        "in_support": True,
        "outside": [],
        "freshness": "unlimited",
        "model_version": 1,
        "calibration": None,
        "horizon": "one calendar year",
        "data_as_of": "2023-12-31T23:59:00",
    }


def test_an_input_is_read_by_its_name_and_not_by_its_place(client: TestClient[Any]) -> None:
    turned = dict(reversed(EXAMPLE.items()))
    answers = [client.post("/predict", json=body).json() for body in (turned, EXAMPLE)]
    assert timeless(answers[0]) == timeless(answers[1])


def test_a_number_may_be_sent_as_an_integer(client: TestClient[Any]) -> None:
    answers = [client.post("/predict", json=EXAMPLE | {"actual_price": price}).json() for price in (45, 45.0)]
    assert timeless(answers[0]) == timeless(answers[1])


def test_an_integer_may_be_sent_as_a_number_without_a_fraction(client: TestClient[Any]) -> None:
    """As pandas and R write it; to JSON Schema it is an integer."""
    answers = [client.post("/predict", json=EXAMPLE | {"num_images": images}).json() for images in (8, 8.0)]
    assert timeless(answers[0]) == timeless(answers[1])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_the_interval_is_the_calibrations_at_the_level_asked_for(
    client: TestClient[Any], level: float
) -> None:
    found = client.post("/predict", json=EXAMPLE | {"level": level}).json()
    interval = manifest(1).calibration.interval(found["predicted_reservations"], level)
    assert found["interval"] == msgspec.to_builtins(interval)
    assert isinstance(found["interval"]["low"], int)


def test_a_higher_level_gives_a_wider_interval(client: TestClient[Any]) -> None:
    narrow, wide = (
        client.post("/predict", json=EXAMPLE | {"num_images": 60, "level": level}).json()["interval"]
        for level in (0.5, 0.99)
    )
    assert wide["low"] < narrow["low"] <= narrow["high"] < wide["high"]


def test_a_batch_is_answered_in_its_order_each_row_at_its_level(client: TestClient[Any]) -> None:
    rows: list[dict[str, Any]] = [EXAMPLE | {"num_images": images} for images in (3, 1, 2)]
    rows[1]["level"] = 0.5
    alone = [client.post("/predict", json=row).json() for row in rows]
    together = client.post("/predict/batch", json=rows).json()
    assert list(map(timeless, together)) == list(map(timeless, alone))


@pytest.mark.parametrize("size", [1, 1_000])
def test_a_batch_may_have_one_to_a_thousand_rows(client: TestClient[Any], size: int) -> None:
    answer = client.post("/predict/batch", json=[EXAMPLE] * size)
    assert (answer.status_code, len(answer.json())) == (200, size)


@pytest.mark.parametrize("size", [0, 1_001])
def test_a_batch_of_another_size_is_refused(client: TestClient[Any], size: int) -> None:
    answer = client.post("/predict/batch", json=[EXAMPLE] * size)
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"batch: {size} rows are not within 1..1000 rows"


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_json_is_refused_as_such(client: TestClient[Any], path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:vroom:malformed"
    assert answer.json()["detail"].startswith("the body cannot be read as JSON: ")


@pytest.mark.parametrize(("change", "detail", "allowed"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_a_wrong_field_is_named_with_its_range(
    client: TestClient[Any], change: dict[str, Any], detail: str, allowed: str
) -> None:
    answer = client.post("/predict", json=EXAMPLE | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    field = next(iter(change))
    assert answer.json() == {
        "type": "urn:vroom:invalid-input",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": detail,
        "help": "/problems/invalid-input",
        "field": field,
        "allowed": allowed,
        "errors": [{"field": field, "detail": detail, "allowed": allowed}],
    }
    in_a_batch = client.post("/predict/batch", json=[EXAMPLE, EXAMPLE | change])
    assert in_a_batch.status_code == 422
    assert in_a_batch.json()["detail"] == f"row 1: {detail}"
    assert in_a_batch.json()["errors"][0]["row"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_named(client: TestClient[Any], name: str) -> None:
    answer = client.post("/predict", json={key: value for key, value in EXAMPLE.items() if key != name})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{name}: missing; it is ")


def test_all_that_is_wrong_is_told_at_once(client: TestClient[Any]) -> None:
    wrong: dict[str, Any] = EXAMPLE | {"num_images": 130, "colour": 1, "level": 2}
    del wrong["technology"]
    fields = [error["field"] for error in client.post("/predict", json=wrong).json()["errors"]]
    assert fields == ["colour", "technology", "num_images", "level"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {f"field{position}": position for position in range(10_000)}),
        ("/predict/batch", [1] * 100_000),
    ],
)
def test_a_flood_of_mistakes_gets_a_short_answer(client: TestClient[Any], path: str, body: Any) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"text"'])
def test_what_is_no_object_is_refused(client: TestClient[Any], body: bytes) -> None:
    answer = client.post("/predict", content=body)
    assert (answer.status_code, answer.json()["detail"]) == (422, "a JSON object of inputs is expected")


def test_what_is_no_array_is_refused_as_a_batch(client: TestClient[Any]) -> None:
    answer = client.post("/predict/batch", json=EXAMPLE)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "the body is not a JSON array of objects",
    )


def test_of_a_field_that_is_sent_twice_the_last_counts(client: TestClient[Any]) -> None:
    twice = json.dumps(EXAMPLE)[:-1] + ', "num_images": 1}'
    once = client.post("/predict", json=EXAMPLE | {"num_images": 1}).json()
    assert timeless(client.post("/predict", content=twice).json()) == timeless(once)


def test_a_body_over_the_limit_is_refused_whole_and_in_pieces(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1)
    client = serve(largest_body=2_000)
    padded = json.dumps(EXAMPLE).encode().ljust(2_000)
    assert client.post("/predict", content=padded).status_code == 200
    for content in (padded + b" ", iter([padded, b" ", b" " * 10_000])):
        answer = client.post("/predict", content=content)
        assert answer.status_code == 413
        assert answer.json()["detail"] == "the body is larger than 2000 bytes; send fewer rows at a time"


def test_inputs_without_a_finite_prediction_are_named(client: TestClient[Any]) -> None:
    # Within the declared ranges, and yet the logarithm of their ratio has no finite value.
    wrong = EXAMPLE | {"actual_price": 5e-324, "recommended_price": 10_000}
    answer = client.post("/predict", json=wrong)
    assert answer.status_code == 422
    found = answer.json()
    assert found["type"] == "urn:vroom:no-finite-prediction"
    assert found["detail"] == (
        "ln(actual_price / recommended_price) is not a finite number for "
        "actual_price = 4.940656458e-324, recommended_price = 10000"
    )
    assert [error["field"] for error in found["errors"]] == ["actual_price", "recommended_price"]
    in_a_batch = client.post("/predict/batch", json=[EXAMPLE, wrong]).json()
    assert in_a_batch["detail"] == f"row 1: {found['detail']}"


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_predictions_are_asked_for_by_post(client: TestClient[Any], path: str, method: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"] == f"{path} does not take {method}; it takes POST"


def test_without_a_champion_the_answer_says_what_to_run(serve: Callable[..., TestClient[Any]]) -> None:
    client = serve()
    for path, body in (("/predict", EXAMPLE), ("/predict/batch", [EXAMPLE])):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["type"] == "urn:vroom:no-champion"
        assert "`make run FORECAST=reservations` trains one" in answer.json()["detail"]
        assert "reservations/champion in Dagster" in answer.json()["detail"]


def test_inputs_may_have_any_name(state: Path, serve: Callable[..., TestClient[Any]]) -> None:
    names = ["class", "prix d'été", "__init__", "value", "interval", "decode"]
    renamed = [msgspec.structs.replace(field, name=name) for field, name in zip(inputs(), names, strict=True)]
    publish(state, 1, inputs=renamed)
    client = serve()
    answer = client.post("/predict", json=dict(zip(names, EXAMPLE.values(), strict=True)))
    assert answer.status_code == 200
    expected = predicted([float(value) for value in EXAMPLE.values()], scale=1.0)[1]
    assert answer.json()["predicted_reservations"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 100, "unit": "photos"}, "0..100 photos"),
        ({"type": "integer", "above": 0, "maximum": 9}, "1..9"),
        ({"type": "integer"}, f"{1 - 2**53}..{2**53 - 1}"),
        ({"above": 0, "unit": "USD"}, "above 0 USD"),
        ({"minimum": 1.5}, "at least 1.5"),
        ({"minimum": 1, "above": 0, "maximum": 2}, "1..2"),
        ({"minimum": 0, "above": 0, "maximum": 2}, "above 0 and at most 2"),
        ({}, "any number"),
    ],
)
def test_a_range_is_told_in_words(declared: dict[str, Any], words: str) -> None:
    assert allowed_of(input_field("given", 0, 1, **declared)) == words
