"""The OpenAPI document is true: of the champion that serves, and of every answer."""

import html
import itertools
import json
import re
import shlex
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from litestar.testing import TestClient

from tests.support import docs
from tests.support.bundles import EXAMPLE, NAMES, inputs, point, publish
from tests.support.documented import documented, lively
from tests.support.entities import keep
from tests.support.project import ROOT
from tests.support.service import bearer, wait_for
from vroom_api.contract import Lever
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer
from vroom_api.predictions.asked import decode
from vroom_api.problems import Problem

ADVICE = {"image": Lever(input="pictures", worth="shown", unit="", description="photos × reservations")}


def document_of(client: TestClient[Any]) -> dict[str, Any]:
    answer = client.get("/schema/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def validator(document: dict[str, Any], name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def test_a_request_is_described_as_the_champion_declares_it(client: TestClient[Any]) -> None:
    document = document_of(client)
    request = document["components"]["schemas"]["Request"]
    assert request["anyOf"] == [
        {"required": NAMES},
        {"required": ["entity_id"], "properties": {"entity_id": {"type": "string"}}},
    ]
    assert request["additionalProperties"] is False
    assert request["examples"] == [EXAMPLE]
    assert request["properties"]["num_images"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "description": "photos, in photos",
        "examples": [8],
    }
    assert request["properties"]["actual_price"]["exclusiveMinimum"] == 0
    assert request["properties"]["level"]["default"] == 0.9


def test_every_response_is_described_in_words_of_ours(client: TestClient[Any]) -> None:
    """Not in those of `http.HTTPStatus`, which the interpreter changes."""
    words = {status.description for status in HTTPStatus} | {status.phrase for status in HTTPStatus} | {""}
    for path, operations in document_of(client)["paths"].items():
        for operation in operations.values():
            described = {response["description"] for response in operation["responses"].values()}
            assert described.isdisjoint(words), path


def test_answers_are_as_described(client: TestClient[Any]) -> None:
    document = document_of(client)
    answer = validator(document, "Answer")
    for options in ({}, {"level": 0.5}, {"num_images": 90}):
        found = client.post("/predict", json=EXAMPLE | options).json()
        assert list(answer.iter_errors(found)) == []
        unknown = {name: value for name, value in found.items() if name != "predicted_reservations"}
        assert not answer.is_valid(unknown)
    problem = validator(document, "Problem")
    for refused in (
        client.post("/predict", json={}),
        client.post("/predict", content=b"{"),
        client.get("/ledger?limit=0"),
        client.get("/nothing"),
    ):
        assert refused.headers["content-type"] == "application/problem+json"
        assert list(problem.iter_errors(refused.json())) == []


@pytest.mark.parametrize("path", ["/model", "/health", "/ledger"])
def test_pages_for_programs_are_as_described(client: TestClient[Any], path: str) -> None:
    document = document_of(client)
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rsplit("/", 1)[-1]
    assert list(validator(document, name).iter_errors(client.get(path).json())) == []


def test_what_the_document_allows_is_taken_and_what_it_forbids_is_refused(client: TestClient[Any]) -> None:
    request = validator(document_of(client), "Request")
    changes: list[dict[str, Any]] = [
        {},
        *({name: value} for name in NAMES for value in (-1, 0, 1, 0.5, 100, 101, 10_000, 10_001, "1", None)),
        *({"level": level} for level in (0.49, 0.5, 0.99, 1, "0.9")),
        {"explain": False},
        {"explain": 0},
        {"colour": 1},
    ]
    for change in changes:
        body = EXAMPLE | change
        answer = client.post("/predict", json=body)
        assert (answer.status_code == 200) == request.is_valid(body), (change, answer.text)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 130),
    st.floats(-1, 11_000, allow_nan=False),
    st.integers(-1, 120).map(float),
    st.integers(10**15, 10**17),
    st.sampled_from(
        ["", "7", "a\n", "\U0001f697", "x" * 129, {"a": "b"}, {"a\n": "b"}, {"A": "b"}, {"a": None}, [1]]
    ),
)
BODIES = st.tuples(
    st.dictionaries(
        st.sampled_from([*NAMES, "level", "explain", "entity_id", "tags", "colour"]), VALUES, max_size=4
    ),
    st.one_of(st.just([]), st.just(NAMES), st.lists(st.sampled_from(NAMES), max_size=3)),
)


def test_the_document_and_the_service_agree_about_any_body(client: TestClient[Any]) -> None:
    request = validator(document_of(client), "Request")
    champion = client.app.state["predictor"].forecasts.flagship.champion

    @settings(max_examples=200, derandomize=True, database=None)
    @given(BODIES)
    def agree(change: tuple[dict[str, Any], list[str]]) -> None:
        changed, left_out = change
        body = {name: value for name, value in EXAMPLE.items() if name not in left_out} | changed
        try:
            decode(champion, json.dumps(body).encode())
            taken = True
        except Problem as problem:
            taken = problem.cause == "unknown-entity"  # it could have been stored
        assert taken == request.is_valid(body), body

    agree()


def test_the_document_follows_the_champion(state: Path, client: TestClient[Any]) -> None:
    before = document_of(client)["components"]["schemas"]["Request"]["properties"]
    renamed = [
        msgspec.structs.replace(field, name="pictures", maximum=50) if field.name == "num_images" else field
        for field in inputs()
    ]
    publish(state, 2, inputs=renamed, advice=ADVICE)
    assert client.post("/reload").json()["current_version"] == 2
    document = document_of(client)
    after = document["components"]["schemas"]["Request"]["properties"]
    assert (after.keys() - before.keys(), before.keys() - after.keys()) == ({"pictures"}, {"num_images"})
    assert after["pictures"]["maximum"] == 50
    assert "/advise/image" in document["paths"]
    assert "/advise/price" not in document["paths"]
    point(state, 1)
    client.post("/reload")
    assert document_of(client)["components"]["schemas"]["Request"]["properties"] == before


def test_without_a_champion_the_document_is_generic(serve: Callable[..., TestClient[Any]]) -> None:
    document = document_of(serve())
    assert document["components"]["schemas"]["Request"]["type"] == "object"
    assert "/predict" in document["paths"]


def test_every_reference_leads_somewhere(client: TestClient[Any]) -> None:
    document = document_of(client)
    text = client.get("/schema/openapi.json").text
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references
    assert references <= document["components"]["schemas"].keys()


def test_refusals_are_documented_as_problems_everywhere(client: TestClient[Any]) -> None:
    for path, operations in document_of(client)["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (path, status)


def test_the_page_shows_the_inputs_and_loads_nothing_from_elsewhere(client: TestClient[Any]) -> None:
    answer = client.get("/schema")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.index("POST /predict/batch") < answer.text.index("GET /health")
    assert "above 0, at most 10000" in answer.text
    assert "price per day that the host asks" in answer.text
    assert "curl -s http://testserver.local/predict" in answer.text
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", answer.text)


def test_the_page_marks_what_is_required_and_types_what_is_inside(client: TestClient[Any]) -> None:
    page = html.unescape(client.get("/schema").text)
    assert "<td>num_images *</td><td>integer</td>" in page
    assert "<td>level</td><td>number</td>" in page
    assert "<td>interval *</td><td>{level: number, low: number, high: number}</td>" in page
    assert '<a href="#performance">GET /performance</a>' in page


def test_answers_have_samples_as_the_champion_gives_them(client: TestClient[Any]) -> None:
    answer = client.get("/schema/openapi.json").json()["components"]["schemas"]["Answer"]
    (sample,) = answer["examples"]
    given = client.post("/predict", json=EXAMPLE).json()
    moving = ("data_age_s", "model_age_s")
    assert {**sample, **dict.fromkeys(moving, 0)} == {**given, **dict.fromkeys(moving, 0)}
    Draft202012Validator(
        {"$ref": "#/components/schemas/Answer", **client.get("/schema/openapi.json").json()}
    ).validate(sample)
    samples = re.findall(r'<pre class="sample">(.*?)</pre>', client.get("/schema").text, re.DOTALL)
    assert json.loads(html.unescape(samples[0]))["interval"] == sample["interval"]
    assert isinstance(json.loads(html.unescape(samples[-1])), list | dict)
    # predict, batch and by id, by the short path and by the forecast's own
    assert sum('"outside"' in html.unescape(one) for one in samples) == 6


def examples_of(client: TestClient[Any], key: str = "") -> list[str]:
    page = client.get("/schema", headers=bearer(key)).text
    return [html.unescape(one) for one in re.findall(r"<pre>(.*?)</pre>", page)]


def execute(client: TestClient[Any], example: str, key: str = "") -> httpx.Response:
    """Ask what a line of curl asks."""
    words = shlex.split(example)
    url = next(word for word in words if word.startswith("http"))
    assert "{" not in url
    body = words[words.index("-d") + 1] if "-d" in words else None
    headers = [
        word.replace("$KEY", key).split(": ") for before, word in itertools.pairwise(words) if before == "-H"
    ]
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
    return client.request(method, url, content=body, headers=dict(headers))


@pytest.mark.parametrize("auth", [False, True])
def test_every_example_of_the_page_can_be_asked(
    state: Path, serve: Callable[..., TestClient[Any]], auth: bool
) -> None:
    publish(state, 1)
    publish(state, 2)
    beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=5.0), state)
    keep(state, {"7": list(EXAMPLE.values())})
    client = serve(record=True, auth=auth)
    key = (state / "admin.key").read_text().strip() if auth else ""
    asked = client.post("/predict", json=EXAMPLE, headers=bearer(key)).json()
    assert client.get(f"/predictions/{asked['prediction_id']}", headers=bearer(key)).status_code == 200
    examples = examples_of(client, key)
    assert any(asked["prediction_id"] in example for example in examples)
    assert any(
        example.endswith("/vehicles/7/features") or "/vehicles/7/features " in example for example in examples
    )
    assert any("-X DELETE" in example for example in examples)
    assert len(examples) > 15
    for example in examples:
        if "/benchmark" in example:  # a service in this process has no address at which it could ask itself
            continue
        answer = execute(client, example, key)
        # What moves the pointer depends on what was asked before: the second of two finds the command of the first one open.
        moves = "/rollback" in example or "/trial" in example
        expected = {200, 202, 409} if moves else {200, 201, 202}
        assert answer.status_code in expected, (example, answer.text[:300])


def test_every_operation_has_examples_that_hold(state: Path, serve: Callable[..., TestClient[Any]]) -> None:
    """Of each parameter and body that it needs, and of its answer; they are asked, and the answers are as described."""
    service = lively(state, serve)
    document = service.document
    # What the examples of an answer name need not exist; these do.
    existing: dict[str, dict[str, Any]] = {
        "lineage": {"identifier": service.prediction},
        "acknowledge": {"identifier": service.alert},
        "command": {"command": service.command},
    }
    operations = documented(document)
    begin = next(one for one in operations if one.identifier == "tryVersion")
    for one in operations:
        service.finish_commands()
        if one.identifier == "promoteTrial":  # after the one that stops it
            begin.ask(service)
        assert None not in one.parameters().values(), f"{one.method} {one.path}: no example of a parameter"
        assert "requestBody" not in one.operation or one.body() is not None, f"{one.path}: no example body"
        asked = one.ask(service, **existing.get(one.identifier, {}))
        if asked.status_code == 503 and "/benchmark" in one.path:
            assert asked.json()["type"] == "urn:vroom:not-measured"  # this service has no address
            continue
        assert asked.status_code < 300, (one.method, one.path, asked.text)
        for kind, example, schema in one.answers():
            assert example is not None, f"{one.method} {one.path}: no example of an answer"
            if kind == "application/json":
                described = Draft202012Validator(schema | {"components": document["components"]})
                for answer in (example, asked.json()):
                    assert list(described.iter_errors(answer)) == [], (one.method, one.path)


COLLECTION = ROOT / "docs" / "vroom.http"


def test_every_request_of_the_collection_is_answered(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    service = lively(state, serve)
    variables, requests = docs.read(COLLECTION)
    own = {
        "host": "http://testserver.local",
        "key": service.key,
        "prediction": service.prediction,
        "alert": str(service.alert),
        "spare_key": service.spare_key,
        "command": service.command,
        "version": "2",
        "former": "1",
    }
    assert own.keys() <= variables.keys()
    variables |= own
    for request in requests:
        service.finish_commands()
        answer = service.client.request(
            request.method,
            docs.filled(request.url, variables),
            headers={name: docs.filled(value, variables) for name, value in request.headers.items()},
            content=docs.filled(request.body, variables) or None,
        )
        if "/benchmark" not in request.url:  # this service has no address
            assert answer.status_code < 300, (request.title, answer.text)
        assert answer.content, request.title


def test_every_operation_has_a_request_in_the_collection(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    """Paths are compared without the names of their parameters, and those of each forecast with its name."""
    _, requests = docs.read(COLLECTION)
    there = {
        (one.method, re.sub(r"{{(\w+)}}", "{}", one.url.removeprefix("{{host}}").partition("?")[0]))
        for one in requests
    }
    there |= {(method, path.replace("/problems/invalid-input", "/problems/{}")) for method, path in there}
    without = [
        f"{one.method} {one.path}"
        for one in documented(lively(state, serve).document)
        if (
            one.method,
            re.sub(r"{(\w+)}", "{}", one.path.replace("/forecasts/reservations/", "/forecasts/{}/")),
        )
        not in there
    ]
    assert without == []


def test_what_nothing_is_known_to_be_asked_for_has_no_example(
    serve: Callable[..., TestClient[Any]], state: Path
) -> None:
    publish(state, 1)
    client = serve(record=True)
    without = "There is no example here: no identifier to ask for is known yet."
    before = client.get("/schema").text.count(without)
    assert not any("/predictions/" in one for one in examples_of(client) if "export" not in one)
    asked = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
    assert client.get("/schema").text.count(without) == before - 1
    example = f"curl -s http://testserver.local/predictions/{asked}"
    assert example in examples_of(client)
    started_later = serve(record=True)
    wait_for(lambda: example in examples_of(started_later))


def test_descriptions_cannot_break_out_of_the_page(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    nasty = "<script>alert(1)</script>{{ 7 * 7 }}"
    publish(
        state,
        1,
        title=nasty,
        inputs=[msgspec.structs.replace(field, description=nasty, unit=nasty) for field in inputs()],
    )
    client = serve()
    for path in ("/", "/schema"):
        page = client.get(path).text
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "{{ 7 * 7 }}" in page
