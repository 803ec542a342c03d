"""The champion's predictions of every entity: what is in them, and when Dagster makes them again."""

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from tests.support.bundles import FORECAST, publish
from tests.support.calibrations import correct
from tests.support.entities import keep
from tests.support.forecasts import definitions
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.champion.fleet import Fleet
from vroom_api.contract import forecast_folder
from vroom_api.predictions import bulk
from vroom_assets.forecast.fleet_assets import Cursor, decide
from vroom_assets.forecast.names import FLEET_PREDICTIONS
from vroom_assets.resources import warehouse_path
from vroom_assets.scoring.fleet import PARQUET

OWN = dg.AssetKey([FORECAST, FLEET_PREDICTIONS])
TARGET = "predicted_reservations"


def vehicles(count: int) -> dict[str, list[object]]:
    return {str(i): [i % 2, 20.0 + i, 25.0 + i * 0.5, i % 21, 0, i * 7] for i in range(1, count + 1)}


def predict(spec, instance: dg.DagsterInstance) -> dg.AssetMaterialization:
    job = definitions(spec).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[OWN])
    assert result.success
    (event,) = result.asset_materializations_for_node(result.get_step_success_events()[0].node_name)
    return event


@pytest.fixture
def fleet(home, spec):
    publish(home, 1)
    keep(home, vehicles(30) | {"31": [1, None, 50.0, 3, 0, 9]})
    return home


def test_every_entity_is_answered_as_the_service_answers_it(fleet, spec, instance):
    made = predict(spec, instance)
    assert made.metadata["dagster/row_count"].value == 31
    assert made.metadata["refused"].value == 1
    assert "actual_price" in made.metadata["first_refusal"].value
    table = pq.read_table(forecast_folder(FORECAST) / PARQUET).to_pylist()
    with TestClient(create_app(settings_of(fleet))) as client:
        for row in table:
            if row["entity_id"] == "31":
                assert (row[TARGET], row["reasons"]) == (None, None)
                continue
            answer = client.post("/predict", json={"entity_id": row["entity_id"], "explain": True}).json()
            assert row[TARGET] == pytest.approx(answer[TARGET], rel=1e-12)
            assert [row["low"], row["high"]] == [answer["interval"]["low"], answer["interval"]["high"]]
            amounts = {one["input"]: one["amount"] for one in answer["reasons"]["reasons"] if one["amount"]}
            assert {one["input"]: one["amount"] for one in row["reasons"]} == pytest.approx(amounts)
    with duckdb.connect(str(warehouse_path(FORECAST)), read_only=True) as connection:
        assert connection.execute("select count(*) from fleet_predictions").fetchall() == [(31,)]


def test_the_service_reads_the_answers_of_one_version(fleet, spec, instance):
    answers = Fleet(FORECAST, fleet)
    assert answers.run() is None
    assert answers.find(["1"]) == {}
    predict(spec, instance)
    run = answers.run()
    assert run is not None
    assert (run.version, run.rows, run.refused, run.level) == (1, 31, 1, 0.9)
    found = answers.find([*map(str, range(1, 32)), "unknown"])
    assert sorted(found) == sorted(map(str, range(1, 31)))
    one = found["1"]
    assert one.low <= one.value <= one.high
    assert one.reasons is not None
    assert run.baseline is not None
    with TestClient(create_app(settings_of(fleet))) as client:
        answer = client.post("/predict", json={"entity_id": "1", "explain": True}).json()
    assert (run.baseline, one.value) == (answer["reasons"]["baseline"], pytest.approx(answer[TARGET]))
    publish(fleet, 2)
    predict(spec, instance)
    assert answers.run().version == 2  # type: ignore[union-attr]


def test_too_many_entities_have_predictions_and_no_reasons(fleet, spec, instance, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_SCORED_FOR_AMOUNTS", 100)
    made = predict(spec, instance)
    assert "ask for them with `explain`" in made.metadata["reasons"].value
    assert Fleet(FORECAST, fleet).find(["1"])["1"].reasons is None


def test_without_entities_the_files_are_empty_and_there(home, spec, instance):
    publish(home, 1)
    keep(home, {})
    assert predict(spec, instance).metadata["dagster/row_count"].value == 0
    assert Fleet(FORECAST, home).run().rows == 0  # type: ignore[union-attr]
    assert pq.read_table(forecast_folder(FORECAST) / PARQUET).num_rows == 0


def test_without_a_champion_it_fails_with_what_to_do(home, spec, instance):
    keep_nothing = definitions(spec).resolve_implicit_global_asset_job_def()
    result = keep_nothing.execute_in_process(instance=instance, asset_selection=[OWN], raise_on_error=False)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "has no champion yet" in failure.step_failure_data.user_failure_data.description
    assert not (forecast_folder(FORECAST) / PARQUET).exists()


def test_a_damaged_file_is_as_none(fleet, spec, instance):
    predict(spec, instance)
    answers = Fleet(FORECAST, fleet)
    path = forecast_folder(FORECAST) / "fleet.db"
    path.unlink()
    path.write_bytes(b"no database" * 100)
    assert answers.run() is None
    assert answers.find(["1"]) == {}


class Sensor:
    """The real sensor, ticked by hand."""

    def __init__(self, spec, instance: dg.DagsterInstance) -> None:
        self.definitions = definitions(spec)
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> str | None:
        """The reason of the run that is asked for; None where none is."""
        sensor = self.definitions.resolve_sensor_def(f"{FORECAST}_fleet")
        with dg.build_sensor_context(self.instance, cursor=self.cursor) as context:
            result = sensor.evaluate_tick(context)
        self.cursor = result.cursor
        if not result.run_requests:
            assert result.skip_message
            return None
        (request,) = result.run_requests
        assert request.asset_selection == [OWN]
        return str(request.tags["vroom/reason"])


def test_another_champion_other_inputs_or_another_calibration_are_predicted_by_themselves(
    home, spec, instance
):
    """Also after a roll-back, which makes no asset, and where Dagster's history is another one."""
    sensor = Sensor(spec, instance)
    assert sensor.tick() is None  # nothing serves
    publish(home, 1)
    assert sensor.tick() is None  # nothing is stored
    keep(home, vehicles(3))
    assert "nothing is predicted of all entities yet" in (sensor.tick() or "")
    assert sensor.tick() is None  # it was asked for
    predict(spec, instance)
    assert sensor.tick() is None
    publish(home, 2)
    assert sensor.tick() == "version 2 serves"
    predict(spec, instance)
    keep(home, vehicles(4))
    assert "other inputs are stored" in (sensor.tick() or "")
    predict(spec, instance)
    correct(home, FORECAST, upper=1.5)
    assert sensor.tick() == "calibration revision 1 is in force"
    predict(spec, instance)
    assert sensor.tick() is None


def test_a_run_that_came_to_nothing_is_asked_for_again_with_pauses(fleet):
    never = lambda: None  # noqa: E731
    cursor, _, runs = decide(Cursor(), "version 2 serves", never, 1_000.0)
    assert runs
    assert decide(cursor, "version 2 serves", never, 1_059.0)[2] is False
    again, _, runs = decide(cursor, "version 2 serves", never, 1_061.0)
    assert (runs, again.requests) == (True, 2)
    assert decide(again, "version 2 serves", never, 1_061.0 + 119.0)[2] is False
    assert decide(again, "version 3 serves", never, 1_062.0)[2] is True
    assert decide(again, "version 3 serves", lambda: "run7", 1_062.0)[1:] == (
        "version 3 serves: waits for run run7",
        False,
    )
    assert decide(again, "", never, 1_062.0)[0] == Cursor()


def test_the_catalog_lists_them(fleet, spec, instance):
    with TestClient(create_app(settings_of(fleet))) as client:
        assert client.get("/vehicles/1").json()["predicted"] is None  # not made yet
        predict(spec, instance)
        rows = client.get("/vehicles").json()["entities"]
        assert {row["id"] for row in rows if row["predicted"] is None} == {"31"}
        one = client.get("/vehicles/1").json()["predicted"]
        answer = client.post("/predict/id", json={"vehicle_id": 1, "explain": True}).json()
    assert one["value"] == pytest.approx(answer[TARGET], rel=1e-12)
    assert (one["low"], one["high"]) == (answer["interval"]["low"], answer["interval"]["high"])
    assert one["model_version"] == 1
    assert one["reasons"] == pytest.approx(
        {why["input"]: why["amount"] for why in answer["reasons"]["reasons"] if why["amount"]}
    )
    assert "reasons" not in rows[0]["predicted"]
