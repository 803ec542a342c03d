"""The record over HTTP."""

import csv
import io
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE
from tests.support.bundles import publish as publish_bundle
from tests.support.calibrations import correct, go_back
from tests.support.record import CSVS, FORECAST, flip, predicted, publish, store
from tests.support.service import Serve, settings_of
from vroom_api.app import create_app
from vroom_api.contract import Kind, forecast_folder
from vroom_api.contract.calibrations import revision_file
from vroom_api.contract.ids import time_of
from vroom_api.contract.tables import VERSION, open_database
from vroom_api.record.prediction import new_id


@pytest.fixture
def client(engine: sa.Engine, tmp_path: Path) -> Iterator[TestClient[Any]]:
    address = engine.url.render_as_string(hide_password=False)
    with TestClient(create_app(settings_of(tmp_path / "home", database_url=address))) as client:
        yield client


def test_a_prediction_is_told_with_its_verified_chain(engine: sa.Engine, client: TestClient[Any]) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    response = client.get(f"/predictions/{one.id}")
    assert response.status_code == 200
    found = response.json()
    assert found["verified"] is True
    assert found["prediction"]["value"] == one.value
    assert [step["step"] for step in found["chain"]][:4] == [
        "prediction",
        "champion",
        "mlflow_run",
        "dagster_run",
    ]


def test_one_changed_byte_is_a_status_that_a_script_notices(
    engine: sa.Engine, client: TestClient[Any]
) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    (snapshot, *_) = (forecast_folder(FORECAST) / "snapshots").iterdir()
    flip(snapshot, 3)
    response = client.get(f"/predictions/{one.id}")
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == "urn:vroom:not-verified"
    assert found["verified"] is False
    assert len(found["failed"]) == 1
    assert sum(step["verified"] is False for step in found["chain"]) == 1
    assert len(found["chain"]) == 5 + len(CSVS)


def test_a_prediction_beyond_64_bits_is_recorded(state: Path, serve: Serve) -> None:
    """Its interval is one of counts, integers that no column holds as such; also as tensors it is answered."""
    publish_bundle(state, 1)
    client = serve(record=True)
    extreme = EXAMPLE | {"actual_price": 1e-136}
    answer = client.post("/predict", json=extreme)
    assert answer.status_code == 200
    found = client.get(f"/predictions/{answer.json()['prediction_id']}")
    assert found.json()["prediction"]["high"] == answer.json()["interval"]["high"] > 2**64
    tensors = [{"name": name, "shape": [1], "datatype": "FP64", "data": [extreme[name]]} for name in extreme]
    body = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    assert client.post("/v2/models/reservations/infer", json=body).status_code == 200


def test_unknown_and_malformed_ids_are_404(client: TestClient[Any]) -> None:
    unknown = client.get(f"/predictions/{new_id()}")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:vroom:unknown-prediction")
    assert client.get("/predictions/12").status_code == 404


def test_pages_follow_one_another(engine: sa.Engine, client: TestClient[Any]) -> None:
    origin = publish(1, -3.0)
    made = [predicted(origin, -3.0) for _ in range(5)]
    store(engine, *made)
    first = client.get("/predictions", params={"limit": 3}).json()
    second = client.get("/predictions", params={"limit": 3, "before": first["next"]}).json()
    seen = [one["id"] for one in first["predictions"] + second["predictions"]]
    assert seen == [one.id for one in reversed(made)]
    assert second["next"] is None


def test_predictions_are_found_by_time(engine: sa.Engine, client: TestClient[Any]) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    moment = time_of(one.id)

    def count(**wanted: str) -> int:
        return len(client.get("/predictions", params=wanted).raise_for_status().json()["predictions"])

    assert count(since=(moment - timedelta(seconds=1)).isoformat()) == 1
    assert count(since=(moment + timedelta(seconds=1)).replace(tzinfo=None).isoformat()) == 0
    assert count(until=(moment + timedelta(seconds=1)).isoformat(), forecast=FORECAST, version="1") == 1
    assert count(version="2") == 0


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": "0"},
        {"limit": "501"},
        {"version": "0"},
        {"version": "99999999999"},
        {"since": "yesterday"},
        {"until": "0.5"},
        {"before": "first"},
        {"caller": "a\x00"},
        {"entity_id": "x" * 129},
    ],
)
def test_a_filter_outside_its_bounds_is_refused(client: TestClient[Any], wanted: dict[str, str]) -> None:
    response = client.get("/predictions", params=wanted)
    assert response.status_code == 400
    (name,) = wanted
    assert name in response.json()["detail"]


def test_the_export_is_a_csv_file(engine: sa.Engine, client: TestClient[Any]) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    response = client.get("/predictions/export", params={"forecast": FORECAST})
    assert response.headers["content-type"].startswith("text/csv")
    assert 'filename="predictions.csv"' in response.headers["content-disposition"]
    (row,) = csv.DictReader(io.StringIO(response.text))
    assert (row["id"], float(row["value"])) == (one.id, one.value)


def test_the_export_is_parquet_where_its_library_is(engine: sa.Engine, client: TestClient[Any]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    response = client.get("/predictions/export", params={"format": "parquet"})
    assert parquet.read_table(io.BytesIO(response.content)).column("id").to_pylist() == [one.id]


def test_the_export_says_that_parquet_is_missing(
    client: TestClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    response = client.get("/predictions/export", params={"format": "parquet"})
    assert (response.status_code, response.json()["type"]) == (501, "urn:vroom:parquet-unavailable")


def test_a_database_that_does_not_answer_is_503(engine: sa.Engine, client: TestClient[Any]) -> None:
    assert client.get("/predictions").status_code == 200
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE predictions")
        connection.exec_driver_sql("DROP TABLE outcomes")
    reported = {"forecast": FORECAST, "entity_id": "7", "period": "2026", "value": 1}
    for response in (
        client.get("/predictions"),
        client.get(f"/predictions/{new_id()}"),
        client.post("/outcomes", json=reported),
    ):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1


# The service as a whole


def service(home: Path, **given: Any) -> TestClient[Any]:
    return TestClient(create_app(settings_of(home, record=True, **given)))


def test_an_answer_names_its_record_which_verifies(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 3)
    with service(tmp_path) as client:
        answer = client.post("/predict", json=EXAMPLE | {"entity_id": "vehicle 7", "level": 0.8}).json()
        response = client.get(f"/predictions/{answer['prediction_id']}")
    assert response.status_code == 200, response.text
    recorded = response.json()["prediction"]
    assert recorded["value"] == answer["predicted_reservations"]
    assert {"level": recorded["level"], "low": recorded["low"], "high": recorded["high"]} == answer[
        "interval"
    ]
    assert recorded["inputs"] == EXAMPLE
    assert (recorded["entity_id"], recorded["version"], recorded["caller"]) == ("vehicle 7", 3, "anonymous")


def test_every_row_of_a_batch_is_recorded(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    with service(tmp_path) as client:
        rows = [EXAMPLE | {"num_images": images} for images in range(50)]
        answers = client.post("/predict/batch", json=rows).json()
        page = client.get("/predictions", params={"limit": 50}).json()["predictions"]
        checks = {client.get(f"/predictions/{answer['prediction_id']}").status_code for answer in answers[:5]}
    assert [one["id"] for one in reversed(page)] == [answer["prediction_id"] for answer in answers]
    assert [one["inputs"]["num_images"] for one in reversed(page)] == list(range(50))
    assert checks == {200}


def test_what_is_refused_is_not_recorded(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    with service(tmp_path) as client:
        for wrong in ({"num_images": -1}, {"entity_id": "a\nb"}, {"entity_id": "a\n"}, {"entity_id": ""}):
            assert client.post("/predict", json=EXAMPLE | wrong).status_code == 422
        assert client.get("/predictions").json() == {"predictions": [], "next": None}


def test_what_cannot_be_recorded_is_not_answered(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    (tmp_path / "folder.db").mkdir()
    with service(tmp_path, database_url=f"sqlite:///{tmp_path / 'folder.db'}") as client:
        refused = client.post("/predict", json=EXAMPLE)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:not-recorded")
        assert int(refused.headers["retry-after"]) >= 1
        assert str(tmp_path) not in refused.text
        (tmp_path / "folder.db").rmdir()
        assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_tables_of_a_newer_version_stop_what_needs_them_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_bundle(tmp_path, 1)
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE vroom_version SET version_num = '9999'")
    with service(tmp_path, auth=True) as client:
        assert client.get("/livez").status_code == 200
    assert "keys: the table cannot be read: the tables of" in caplog.text
    caplog.clear()
    with service(tmp_path) as client:
        for method, path in (("POST", "/predict"), ("GET", "/predictions"), ("GET", "/ledger")):
            answer = client.request(method, path, json=EXAMPLE if method == "POST" else None)
            assert answer.status_code == 503
            assert "9999" not in answer.text
            assert "version '9999'" in caplog.text
            caplog.clear()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE vroom_version SET version_num = '{VERSION}'")
        assert client.post("/predict", json=EXAMPLE).status_code == 200
    engine.dispose()


def test_a_batch_beyond_the_queue_is_taken_all_the_same(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    with service(tmp_path, record_waiting=1, largest_batch=20) as client:
        assert client.post("/predict/batch", json=[EXAMPLE] * 20).status_code == 200


def test_without_a_record_there_is_no_id(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    with TestClient(create_app(settings_of(tmp_path, record=False))) as client:
        assert "prediction_id" not in client.post("/predict", json=EXAMPLE).json()
        assert client.get("/predictions").json()["predictions"] == []


def test_a_service_that_starts_again_records_again(tmp_path: Path) -> None:
    publish_bundle(tmp_path, 1)
    app = create_app(settings_of(tmp_path, record=True, record_days=30.0))
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/predict", json=EXAMPLE).status_code == 200


@pytest.mark.parametrize("kind", [Kind.COUNT, Kind.BINARY])
def test_a_corrected_prediction_verifies_by_the_revision_that_corrected_it(
    tmp_path: Path, kind: Kind
) -> None:
    home = tmp_path / "home"
    publish_bundle(home, 1, scale=0.05 if kind is Kind.BINARY else 1.0, kind=kind)
    made = correct(home, FORECAST, lower=0.7, upper=1.6, intercept=0.3, slope=0.9)
    with TestClient(create_app(settings_of(home, record=True))) as client:
        answer = client.post("/predict", json=EXAMPLE).json()
        assert answer["calibration"] == made.number
        go_back(home, FORECAST, None)
        assert client.post("/reload").json()["status"] in ("reloaded", "unchanged")  # the watch may be first
        assert client.post("/predict", json=EXAMPLE).json()["calibration"] is None
        path = f"/predictions/{answer['prediction_id']}"
        found = client.get(path).json()
        # Of this bundle nothing was trained, so it has no snapshots; all that there is holds.
        assert found["verified"], found["failed"]
        assert found["prediction"]["calibration"] == made.number
        assert ("calibration", True) in [(step["step"], step["verified"]) for step in found["chain"]]
        plain = client.post("/predict", json=EXAMPLE).json()
        assert (
            client.get(f"/predictions/{plain['prediction_id']}").json()["prediction"]["calibration"] is None
        )
        file = revision_file(FORECAST, 1, made.number, home)
        file.write_bytes(file.read_bytes().replace(b"1.6", b"1.9").replace(b"0.3", b"0.4"))
        refused = client.get(path)
        assert refused.status_code == 409
        assert "was recorded as" in refused.json()["detail"]
        file.unlink()
        refused = client.get(path)
        assert refused.status_code == 409
        assert f"there is no calibration revision {made.number}" in refused.json()["detail"]
        assert str(home) not in refused.text
        assert client.get(f"/predictions/{plain['prediction_id']}").json()["verified"]
        exported = client.get("/predictions/export").text.splitlines()
        assert exported[0].endswith(",calibration")
