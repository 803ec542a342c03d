"""Entities that were saved are stored with the others soon, by a run that trains nothing, and once."""

from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from tests.support.entities import SAVED_AT, save
from tests.support.forecasts import definitions, shipped
from vroom_api.contract.saved_entities import Behind, behind
from vroom_api.contract.tables import entities, serving_database
from vroom_assets.forecast import Forecast
from vroom_assets.forecast.saved_sensor import why_not

NAME = "reservations"


def found() -> Behind:
    with serving_database() as engine, engine.connect() as connection:
        return behind(connection, NAME)


def test_what_is_behind_is_what_is_open_and_not_stored_as_it_is(home: Path) -> None:
    assert found() == Behind(0, "")
    save("new")
    first = found()
    assert first.count == 1
    save("stored", materialized_revision=1)
    save("deleted", closed_at=SAVED_AT, closed_by="delete")
    save("other", forecast="lap_times")
    assert found() == first
    save("changed", revision=2, materialized_revision=1)
    assert found().count == 2
    assert found().digest != first.digest
    with serving_database() as engine, engine.begin() as connection:
        connection.execute(sa.update(entities).where(entities.c.id == "changed").values(revision=3))
    assert found().count == 2
    assert len({first.digest, found().digest}) == 2


def test_a_run_is_asked_for_once_the_others_are_stored_and_none_is_under_way(trained: Path) -> None:
    assert "stored as it is now" in str(why_not(NAME, Behind(0, ""), None))
    assert "first materialization" in str(why_not("nobody", Behind(1, "a"), None))
    assert "run abc is under way" in str(why_not(NAME, Behind(1, "a"), "abc"))
    assert why_not(NAME, Behind(1, "a"), None) is None


def test_the_sensor_makes_the_stored_inputs_alone_and_once(
    trained: Path, instance: dg.DagsterInstance, fast: Forecast
) -> None:
    sensor = definitions(fast).resolve_sensor_def(f"{NAME}_saved")

    def tick() -> dg.SensorResult:
        with dg.build_sensor_context(instance=instance, definitions=definitions(fast)) as context:
            return sensor.evaluate_tick(context)  # type: ignore[return-value]

    assert "stored as it is now" in str(tick().skip_message)
    save("new")
    (request,) = tick().run_requests or []
    (again,) = tick().run_requests or []
    assert request.run_key == again.run_key  # Dagster starts one run of a key
    assert request.asset_selection == [dg.AssetKey([NAME, "online_features"])]
    job = definitions(fast).resolve_job_def(f"{NAME}_materialize")
    done = job.execute_in_process(instance=instance, asset_selection=request.asset_selection)
    assert [event.asset_key for event in done.get_asset_materialization_events()] == request.asset_selection
    assert "stored as it is now" in str(tick().skip_message)


def test_of_examples_there_is_no_such_sensor() -> None:
    names = {sensor.name for sensor in definitions(shipped("lap_times")).sensors or []}
    assert "lap_times_saved" not in names
    assert "lap_times_sources" in names
