"""Bodies that are not JSON say what they are, at every door the same."""

import gzip
import json
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE

PLAIN = json.dumps(EXAMPLE).encode()
DOORS = ["/predict", "/predict/batch", "/advise/price", "/outcomes"]
NOT_JSON = {
    b"": "it is empty",
    b" \n": "it is empty",
    gzip.compress(PLAIN): "it is compressed with gzip; send it plain",
    PLAIN.decode().encode("utf-16"): "it is UTF-16 or UTF-32; send UTF-8",
    PLAIN.decode().encode("utf-16-le"): "it is UTF-16 or UTF-32; send UTF-8",
    b'{"a": "\xfc"}': "byte 7 (0xfc) is not UTF-8; send UTF-8",
    b'{"a": NaN}': "NaN is not JSON; leave the input out or send null",
    b'[{"a": -Infinity}]': "-Infinity is not JSON; leave the input out or send null",
    b"technology=1&num_images=8": 'it is a form; send a JSON object, e.g. {"name": 1}, as application/json',
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--': "it is a form; send a JSON object",
    b'{"entity_id": "\\ud800"}': "\\ud800 is one half of a character; send both halves",
    b'{"\\udfff\\ud800": 1}': "\\udfff is one half of a character; send both halves",
    b'{"technology": 1': "it ends too early",
    b'{"technology": 1,}': "trailing comma in object (byte 17), near '{\"technology\": 1,}'",
    b"[" * 100_000: "it is nested too deeply",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_not_json_says_why(client: TestClient[Any], door: str) -> None:
    for body, reason in NOT_JSON.items():
        answer = client.post(door, content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:vroom:malformed"), body[:40]
        detail: str = answer.json()["detail"]
        assert detail.startswith(f"the body cannot be read as JSON: {reason}"), detail


def test_a_byte_order_mark_is_passed_over(client: TestClient[Any]) -> None:
    mark = b"\xef\xbb\xbf"
    for door, body in (
        ("/predict", PLAIN),
        ("/predict/batch", b"[" + PLAIN + b"]"),
        ("/advise/price", PLAIN),
    ):
        assert client.post(door, content=mark + body).status_code == 200, door
    assert client.post("/outcomes", content=mark + b"[]").status_code == 422


def test_a_name_that_is_sent_twice_and_wrong_is_named(client: TestClient[Any]) -> None:
    twice = PLAIN.replace(b'"num_images": 8', b'"num_images": 130, "num_images": 8')
    for door, body in (("/predict", twice), ("/predict/batch", b"[" + twice + b"]")):
        answer = client.post(door, content=body).json()
        assert (answer["status"], answer["field"]) == (422, "num_images"), door
        assert answer["detail"] == "num_images: sent twice; send it once"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("actual_prise", "actual_price"),
        ("ActualPrice", "actual_price"),
        ("price", "actual_price or recommended_price"),
        ("images", "num_images"),
        ("entity", "entity_id"),
        ("confidence_level", None),
        ("x", None),
        ("x" * 500_000, None),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(
    client: TestClient[Any], sent: str, meant: str | None
) -> None:
    body = {name: value for name, value in EXAMPLE.items() if not meant or name not in meant} | {sent: 1}
    for door, content in (("/predict", body), ("/predict/batch", [body]), ("/advise/price", body)):
        answer = client.post(door, json=content)
        assert (answer.status_code, answer.json()["field"]) == (422, sent[:64]), door
        hint = f" (did you mean {meant}?)" if meant else ""
        assert f"{sent[:64]}: unknown field{hint}; the fields are technology, " in answer.json()["detail"], (
            door
        )


def test_what_is_given_already_is_not_what_was_meant(client: TestClient[Any]) -> None:
    refused = client.post("/predict", json=EXAMPLE | {"technolgy": 1}).json()
    assert refused["detail"].startswith("technolgy: unknown field; the fields are technology, ")


def test_unknown_fields_of_other_bodies_have_their_nearest_too(client: TestClient[Any]) -> None:
    refused = client.post("/advise/price", json=EXAMPLE | {"point": 5}).json()
    assert refused["detail"].startswith(
        "point: unknown field (did you mean points?); the fields are technology, "
    )
    assert refused["allowed"].endswith(", tags, points, between, extrapolate")
    outcome = {"forecast": "reservations", "entity_id": "7", "period": "2026", "value": 1}
    refused = client.post("/outcomes", json=outcome | {"corection": True}).json()
    assert refused["detail"].startswith(
        "corection: unknown field (did you mean correction?); the fields are value, "
    )
    refused = client.post("/outcomes", json=[outcome, outcome | {"observed": True}]).json()
    assert refused["detail"].startswith("row 1: observed: unknown field (did you mean observed_at?); ")
