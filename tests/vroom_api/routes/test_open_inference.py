"""The Open Inference Protocol: a public client works unchanged, and its answers are those of /predict."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, NAMES, publish
from tests.support.docs import python_of
from tests.support.entities import keep
from tests.support.markets import MARKET, MARKETS, publish_markets
from tests.support.project import ROOT
from tests.support.service import Serve, bearer, metric_set, one, running, wait_for

INFER = "/v2/models/reservations/infer"
ROWS = [EXAMPLE | {"num_images": images} for images in (1, 8, 20)]


def tensors(rows: list[dict[str, Any]], shape: list[int] | None = None) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": [len(rows)] if shape is None else shape,
            "datatype": "FP64",
            "data": [row[name] for row in rows],
        }
        for name in rows[0]
    ]


def outputs(answer: httpx.Response) -> dict[str, list[Any]]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def refused(answer: httpx.Response, status: int) -> str:
    """The reason, where clients of the protocol expect it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["error"] == body["detail"]
    return str(body["error"])


@pytest.fixture
def both(state: Path, serve: Serve) -> TestClient[Any]:
    """Two forecasts, recorded."""
    publish(state, 1)
    publish_markets(state)
    client = serve(record=True)
    wait_for(lambda: client.get("/readyz").status_code == 200)
    return client


def test_answers_are_those_of_predict_batch(both: TestClient[Any]) -> None:
    wanted = both.post("/predict/batch", json=[row | {"level": 0.8} for row in ROWS]).json()
    answer = both.post(INFER, json={"id": "a", "inputs": tensors(ROWS), "parameters": {"level": 0.8}})
    found = outputs(answer)
    assert found["predicted_reservations"] == [one["predicted_reservations"] for one in wanted]
    assert found["low"] == [one["interval"]["low"] for one in wanted]
    assert found["high"] == [one["interval"]["high"] for one in wanted]
    assert found["in_support"] == [one["in_support"] for one in wanted]
    body = answer.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("a", "reservations", "1")
    for identifier in found["prediction_id"]:
        recorded = both.get(f"/predictions/{identifier}").json()
        assert recorded["prediction"]["forecast"] == "reservations"
    answered = one(metric_set(both), "vroom_predictions_total", forecast="reservations", version="1")
    assert answered == 2 * len(ROWS)


def test_a_matrix_has_its_columns_in_the_order_of_the_metadata(both: TestClient[Any]) -> None:
    """As MLServer's `np` sends it: one tensor, whatever its name."""
    names = [tensor["name"] for tensor in both.get("/v2/models/reservations").json()["inputs"][:-1]]
    assert names == NAMES
    matrix = {
        "name": "predict",
        "shape": [3, 6],
        "datatype": "FP32",
        "data": [[row[name] for name in names] for row in ROWS],
        "parameters": {"content_type": "np"},
    }
    found = outputs(both.post(INFER, json={"inputs": [matrix]}))
    assert found["low"] == outputs(both.post(INFER, json={"inputs": tensors(ROWS)}))["low"]
    narrow = matrix | {"shape": [3, 5]}
    assert "there is no such input" in refused(both.post(INFER, json={"inputs": [narrow]}), 422)


def test_texts_and_gaps_as_mlserver_sends_a_data_frame(both: TestClient[Any]) -> None:
    text = {"content_type": "str"}
    frame = {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": "category", "shape": [3, 1], "datatype": "BYTES", "parameters": text,
             "data": ["economy", "sports", "politics"]},
            {"name": "price", "shape": [3, 1], "datatype": "FP32", "data": [0.25, 0.5, 0.75]},
            {"name": "volume", "shape": [3, 1], "datatype": "FP64", "data": [400, None, 5]},
            {"name": "mood", "shape": [3, 1], "datatype": "BYTES", "parameters": text,
             "data": ["calm", "", None]},
        ],
    }  # fmt: skip
    found = outputs(both.post(f"/v2/models/{MARKETS}/infer", json=frame))
    rows = [
        MARKET,
        {"category": "sports", "price": 0.5},
        {"category": "politics", "price": 0.75, "volume": 5},
    ]
    wanted = both.post(f"/forecasts/{MARKETS}/predict/batch", json=rows).json()
    assert found["predicted_resolved_yes"] == [one["predicted_resolved_yes"] for one in wanted]


def test_what_is_stored_fills_what_is_left_out(state: Path, both: TestClient[Any]) -> None:
    keep(state, {"7": list(EXAMPLE.values())})
    price = {"name": "actual_price", "shape": [2], "datatype": "FP64", "data": [None, 60.0]}
    entity = {"name": "entity_id", "shape": [2], "datatype": "BYTES", "data": ["7", "7"]}
    found = outputs(both.post(INFER, json={"inputs": [entity, price]}))
    wanted = both.post(
        "/predict/batch", json=[{"entity_id": "7"}, {"entity_id": "7", "actual_price": 60}]
    ).json()
    assert found["predicted_reservations"] == [one["predicted_reservations"] for one in wanted]
    unknown = {"name": "entity_id", "shape": [1], "datatype": "BYTES", "data": ["8"]}
    assert "nothing is stored for vehicle '8'" in refused(both.post(INFER, json={"inputs": [unknown]}), 404)


def test_only_the_version_that_serves_answers(both: TestClient[Any]) -> None:
    body = {"inputs": tensors(ROWS)}
    assert both.post("/v2/models/reservations/versions/1/infer", json=body).status_code == 200
    for path in ("", "/ready", "/infer"):
        other = f"/v2/models/reservations/versions/2{path}"
        answer = both.post(other, json=body) if path == "/infer" else both.get(other)
        assert "version 1 does" in refused(answer, 404)
    assert "the forecasts are" in refused(both.get("/v2/models/nothing"), 404)


def test_the_index_lists_every_forecast(state: Path, serve: Serve) -> None:
    publish_markets(state)
    client = serve()
    listed = {one["name"]: one["state"] for one in client.post("/v2/repository/index").json()}
    assert listed == {"reservations": "UNAVAILABLE", MARKETS: "READY"}
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert [one["name"] for one in ready] == [MARKETS]
    assert "true or false" in refused(client.post("/v2/repository/index", json={"ready": 1}), 400)


def test_without_a_champion_nothing_is_ready(serve: Serve) -> None:
    client = serve()
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/reservations", "/v2/models/reservations/ready"):
        assert "champion" in refused(client.get(path), 503)
    assert "champion" in refused(client.post(INFER, json={"inputs": tensors(ROWS)}), 503)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"inputs": []}, 400, "inputs"),
        ({"inputs": tensors(ROWS)[1:]}, 422, "row 0: technology: missing"),
        ({"inputs": tensors([EXAMPLE | {"num_images": 101}])}, 422, "row 0: num_images: 101 is not"),
        ({"inputs": tensors([EXAMPLE | {"number_images": 5}])}, 422, "did you mean num_images?"),
        ({"inputs": tensors(ROWS)[:1] * 2}, 400, "technology: sent twice"),
        ({"inputs": [*tensors(ROWS)[1:], *tensors(ROWS[:1])[:1]]}, 400, "different numbers of rows"),
        ({"inputs": tensors(ROWS, [1, 3])}, 400, "neither [n] nor [n, 1]"),
        ({"inputs": tensors([EXAMPLE] * 1001)}, 422, "1001 rows are not within 1..1000"),
        ({"inputs": tensors(ROWS), "outputs": [{"name": "lo"}]}, 422, "did you mean low?"),
        ({"inputs": tensors(ROWS), "parameters": {"level": 1}}, 422, "parameters.level: 1 is not within"),
        ({"inputs": tensors(ROWS), "parameters": {"level": "0.9"}}, 422, "parameters.level"),
        ({"inputs": [{"name": "technology", "datatype": "INT64"}]}, 400, "shape"),
        ({"inputs": [tensors(ROWS)[0] | {"parameters": {"binary_data_size": 8}}]}, 400, "8 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: TestClient[Any], change: Any, status: int, reason: str) -> None:
    assert reason in refused(client.post(INFER, json=change), status)


def test_only_this_route_takes_bytes(client: TestClient[Any]) -> None:
    binary = {"content-type": "application/octet-stream"}
    body = json.dumps({"inputs": tensors(ROWS)}).encode()
    assert client.post(INFER, content=body, headers=binary).status_code == 200
    assert "send application/json" in refused(
        client.post(INFER, content=body, headers={"content-type": "text/plain"}), 415
    )
    for path in ("/predict", "/predict/batch", "/v2/repository/index"):
        assert client.post(path, content=body, headers=binary).status_code == 415
    for length in ("0", "-1", "x", str(len(body) + 1)):
        answer = client.post(INFER, content=body, headers={"inference-header-content-length": length})
        assert "Inference-Header-Content-Length" in refused(answer, 400)


def test_bytes_behind_the_json_are_read_and_answered(client: TestClient[Any]) -> None:
    images = {"name": "num_images", "shape": [3], "datatype": "INT32", "parameters": {"binary_data_size": 12}}
    others = [tensor for tensor in tensors(ROWS) if tensor["name"] != "num_images"]
    wanted = [{"name": "high", "parameters": {"binary_data": True}}, {"name": "low"}]
    header = json.dumps({"inputs": [*others, images], "outputs": wanted}).encode()
    answer = client.post(
        INFER,
        content=header + struct.pack("<3i", 1, 8, 20),
        headers={"inference-header-content-length": str(len(header))},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    found = json.loads(answer.content[:length])["outputs"]
    plain = outputs(client.post(INFER, json={"inputs": tensors(ROWS)}))
    assert list(struct.unpack("<3d", answer.content[length:])) == plain["high"]
    assert [output["name"] for output in found] == ["high", "low"]
    assert found[1]["data"] == plain["low"]


def test_refusals_before_any_route_have_the_protocols_shape_too(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve(auth=True)
    assert "API key" in refused(client.get("/v2/models/reservations"), 401)
    assert client.get("/v2/health/live").status_code == 200
    key = bearer((state / "admin.key").read_text().strip())
    assert "there is nothing here" in refused(client.get("/v2/models/reservations/stats", headers=key), 404)
    assert "error" not in client.get("/nothing", headers=key).json()


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Triton's own client, of a service with a record."""
    library = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    home = tmp_path_factory.mktemp("triton") / "var"
    publish(home, 1)
    publish_markets(home)
    keep(home, {entity: list(EXAMPLE.values()) for entity in ("7", "8")})
    with running(home) as (address, _), library.InferenceServerClient(address.partition("//")[2]) as client:
        wait_for(client.is_server_ready)
        client.address = address
        yield client


def test_the_example_of_the_docs_runs(triton: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = triton.address.partition("//")[2]
    example = python_of(ROOT / "docs" / "clients.md")[0]
    assert "127.0.0.1:8000" in example
    exec(example.replace("127.0.0.1:8000", address), {})
    prices = [EXAMPLE | {"actual_price": price, "level": 0.8} for price in (55, EXAMPLE["actual_price"])]
    answers = httpx.post(f"{triton.address}/predict/batch", json=prices).json()
    wanted = np.array([one["predicted_reservations"] for one in answers])
    assert capsys.readouterr().out.startswith(str(wanted))


def asked(library: Any, columns: dict[str, np.ndarray], *, binary: bool = True) -> list[Any]:
    found = []
    for name, values in columns.items():
        datatype = "BYTES" if values.dtype == object else library.utils.np_to_triton_dtype(values.dtype)
        tensor = library.http.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        found.append(tensor)
    return found


def test_tritons_client_finds_its_way(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_model_ready("reservations")
    assert triton.is_model_ready("reservations", "1")
    assert not triton.is_model_ready("reservations", "2")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    assert {model["name"] for model in triton.get_model_repository_index()} == {"reservations", MARKETS}
    metadata = triton.get_model_metadata(MARKETS)
    assert metadata["versions"] == ["1"]
    assert {one["name"]: one["datatype"] for one in metadata["inputs"]} == {
        "category": "BYTES",
        "price": "FP64",
        "volume": "FP64",
        "mood": "BYTES",
        "entity_id": "BYTES",
    }


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_predicts_unchanged(triton: Any, binary: bool) -> None:
    """As it comes, with binary tensors both ways, and with JSON."""
    import tritonclient

    kinds = {"actual_price": np.float64, "recommended_price": np.float32, "street_parked": np.bool_}
    columns = {
        name: np.array([row[name] for row in ROWS], kinds.get(name, np.int64)).reshape(-1, 1)
        for name in NAMES
    }
    wanted = httpx.post(f"{triton.address}/predict/batch", json=ROWS).json()
    result = triton.infer(
        "reservations", asked(tritonclient, columns, binary=binary), request_id="5", parameters={"level": 0.9}
    )
    assert result.get_response()["id"] == "5"
    assert result.as_numpy("predicted_reservations").tolist() == [
        one["predicted_reservations"] for one in wanted
    ]
    assert result.as_numpy("high").dtype == np.float64
    assert result.as_numpy("in_support").tolist() == [one["in_support"] for one in wanted]
    identifier = result.as_numpy("prediction_id")[0].decode()
    assert httpx.get(f"{triton.address}/predictions/{identifier}").status_code == 200


def test_tritons_client_sends_texts_and_gaps(triton: Any) -> None:
    import tritonclient

    columns = {
        "category": np.array(["economy", "sports"], object),
        "price": np.array([0.25, 0.5]),
        "volume": np.array([400.0, np.nan]),
        "mood": np.array(["calm", ""], object),
    }
    only = [tritonclient.http.InferRequestedOutput("predicted_resolved_yes", binary_data=False)]
    result = triton.infer(MARKETS, asked(tritonclient, columns), model_version="1", outputs=only)
    rows = [MARKET, {"category": "sports", "price": 0.5}]
    wanted = httpx.post(f"{triton.address}/forecasts/{MARKETS}/predict/batch", json=rows).json()
    found = result.as_numpy("predicted_resolved_yes").tolist()
    assert found == [one["predicted_resolved_yes"] for one in wanted]
    assert result.as_numpy("low") is None


def test_tritons_client_reports_what_is_wrong(triton: Any) -> None:
    import tritonclient

    columns = {name: np.array([EXAMPLE[name]], np.float64) for name in NAMES} | {
        "num_images": np.array([101])
    }
    with pytest.raises(tritonclient.utils.InferenceServerException, match="num_images: 101 is not") as caught:
        triton.infer("reservations", asked(tritonclient, columns))
    assert caught.value.status() == "422"
