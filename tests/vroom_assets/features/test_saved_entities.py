"""Entities that were saved over HTTP, in the next materialization: with the others, as no row of any training."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.entities import SAVED_AT, save
from tests.support.flagship import Run
from tests.support.forecasts import shipped
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.event_log import Topic, events_after
from vroom_api.contract.saved_entities import MANY, SavedEntity, open_entities
from vroom_api.contract.tables import entities, open_database, serving_database
from vroom_assets.features import saved_entities
from vroom_assets.features.table import build, note_origin, read

VEHICLES = 60


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    """Sixty vehicles and their reservations, of which the first has two and the last none."""
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    with duckdb.connect() as connection:
        connection.execute(
            "create table vehicles as select i as vehicle_id, i % 2 as technology, 60.0 + i as actual_price, "
            "50.0 + i % 7 as recommended_price, 1 + i % 5 as num_images, i % 2 as street_parked, 10 * i as description "
            f"from range(1, {VEHICLES + 1}) as rows(i)"
        )
        connection.execute(
            "create table reservations as select 1 + i % 59 as vehicle_id, timestamp '2023-12-31' - interval 1 day * i "
            "as created_at from range(60) as rows(i)"
        )
        for name in ("vehicles", "reservations"):
            note_origin(connection, name, {"snapshot": name})
        build(connection, shipped(FORECAST))
        yield connection


def change(identifier: str, **values: Any) -> None:
    with serving_database() as engine, engine.begin() as connection:
        connection.execute(entities.update().where(entities.c.id == identifier).values(values))


def table() -> dict[tuple[str, str], Any]:
    with serving_database() as engine, engine.connect() as connection:
        return {(row.id, row.source): row for row in connection.execute(sa.select(entities))}


def events() -> list[tuple[str, dict[str, Any]]]:
    with serving_database() as engine, engine.connect() as connection:
        return [
            (event.name, event.data) for event in events_after(connection, 0, 1_000, topics=[Topic.ENTITIES])
        ]


def file(column: str = "source") -> dict[str, Any]:
    with closing(sqlite3.connect(forecast_folder(FORECAST) / ENTITIES)) as connection:
        return dict(connection.execute(f"select id, {column} from entity").fetchall())


def test_saved_ones_are_stored_beside_the_fleet_and_train_nothing(warehouse):
    save("900")
    save("van ä")
    done = saved_entities.materialize(warehouse, shipped(FORECAST))
    assert (done.count, done.saved, done.new, done.closed, done.refused) == (VEHICLES + 2, 2, 2, 0, {})
    origins = file()
    assert (origins["1"], origins["900"], origins["van ä"]) == ("csv", "service", "service")
    assert len(read(warehouse, shipped(FORECAST)).target) == VEHICLES
    observed = file("observed")
    assert (observed["1"], observed["60"], observed["900"]) == (2, 0, None)
    row = table()["900", "service"]
    assert (row.materialized_revision, row.closed_at) == (1, None)
    assert events() == [
        ("vehicle-materialized", {"id": one, "source": "service"}) for one in ("900", "van ä")
    ]


def test_what_is_materialized_already_is_no_news_and_what_changed_is(warehouse):
    save("900")
    spec = shipped(FORECAST)
    first = saved_entities.materialize(warehouse, spec)
    again = saved_entities.materialize(warehouse, spec)
    assert (first.new, again.new, again.saved) == (1, 0, 1)
    assert first.digest == again.digest != ""
    assert len(events()) == 1
    change("900", revision=2, inputs=EXAMPLE | {"num_images": 1})
    changed = saved_entities.materialize(warehouse, spec)
    assert (changed.new, len(events())) == (1, 2)
    assert changed.digest != first.digest


def test_one_that_changes_meanwhile_stays_behind(warehouse, monkeypatch):
    save("900")
    from vroom_assets.features import online

    stored = online.store

    def later(*given: Any) -> Any:
        found = stored(*given)
        change("900", revision=2)
        return found

    monkeypatch.setattr(online, "store", later)
    assert saved_entities.materialize(warehouse, shipped(FORECAST)).new == 0
    assert table()["900", "service"].materialized_revision is None


def test_what_a_crash_left_undone_is_entered_by_the_next(warehouse, monkeypatch):
    save("900")
    save("7")

    def crash(*_: Any, **__: Any) -> int:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(saved_entities, "settle", crash)
        with pytest.raises(RuntimeError, match="killed"):
            saved_entities.materialize(warehouse, shipped(FORECAST))
    assert (file()["900"], file()["7"]) == ("service", "csv")  # the file was there already
    assert table()["900", "service"].materialized_at is None
    done = saved_entities.materialize(warehouse, shipped(FORECAST))
    assert (done.new, done.closed) == (1, 1)
    assert sorted(data["id"] for _, data in events()) == ["7", "900"]


def test_what_the_sources_have_by_now_is_theirs_and_the_saved_row_is_closed(warehouse):
    save("7", revision=3)
    done = saved_entities.materialize(warehouse, shipped(FORECAST))
    assert (done.count, done.saved, done.closed) == (VEHICLES, 0, 1)
    row = table()["7", "service"]
    assert (row.closed_by, row.revision) == ("csv", 3)
    assert file()["7"] == "csv"
    assert events() == [("vehicle-materialized", {"id": "7", "source": "csv"})]
    assert saved_entities.materialize(warehouse, shipped(FORECAST)).closed == 0


def test_a_deleted_one_is_not_stored_again(warehouse):
    save("900")
    saved_entities.materialize(warehouse, shipped(FORECAST))
    change("900", revision=2, closed_at=SAVED_AT, closed_by="delete")
    done = saved_entities.materialize(warehouse, shipped(FORECAST))
    assert (done.count, done.digest) == (VEHICLES, "")
    assert "900" not in file()
    assert table()["900", "service"].closed_by == "delete"


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (EXAMPLE | {"num_images": 101}, "num_images: is not ≥ 0 and ≤ 100 photos"),
        (EXAMPLE | {"num_images": 1.5}, "num_images: is not a integer"),
        (EXAMPLE | {"technology": "yes"}, "technology: is not a integer"),
        (EXAMPLE | {"actual_price": 0}, "actual_price: is not > 0 and ≤ 10000 USD/day"),
        (
            {name: value for name, value in EXAMPLE.items() if name != "description"},
            "description: is not there",
        ),
    ],
)
def test_what_breaks_the_declaration_of_now_is_left_out_with_its_reason(warehouse, inputs, why):
    save("900", inputs=inputs)
    save("901")
    done = saved_entities.materialize(warehouse, shipped(FORECAST))
    assert done.refused == {"900": why}
    assert (done.saved, done.count) == (1, VEHICLES + 1)
    assert "save them again" in done.note
    assert table()["900", "service"].materialized_at is None


def test_many_at_once_are_one_event_each_transaction(warehouse):
    for number in range(MANY + 1):
        save(f"n{number}")
    saved_entities.materialize(warehouse, shipped(FORECAST))
    assert events() == [("vehicle-materialized", {"count": MANY + 1})]


@pytest.mark.parametrize("kind", databases.KINDS)
def test_the_database_has_the_fleet_where_replicas_share_no_disk(warehouse, tmp_path, monkeypatch, kind):
    with databases.empty(kind, tmp_path) as url:
        monkeypatch.setenv("VROOM_DATABASE_URL", url)
        monkeypatch.setenv("VROOM_STORED_INPUTS", "database")
        save("900")
        spec = shipped(FORECAST)
        saved_entities.materialize(warehouse, spec)
        found = table()
        assert len(found) == VEHICLES + 1
        assert found["1", "csv"].inputs == {
            "technology": 1,
            "actual_price": 61.0,
            "recommended_price": 51.0,
            "num_images": 2,
            "street_parked": 1,
            "description": 10,
        }
        assert (found["1", "csv"].observed, found["60", "csv"].observed) == (2, 0)
        saved_entities.materialize(warehouse, spec)
        assert {row.revision for row in table().values()} == {1}
        warehouse.execute("delete from vehicles where vehicle_id = 60")
        warehouse.execute("update vehicles set num_images = 9 where vehicle_id = 1")
        warehouse.execute(
            "insert into vehicles values (61, 1, 45.0, 50.0, 8, 0, 250), (900, 1, 45.0, 50.0, 8, 0, 250)"
        )
        saved_entities.materialize(warehouse, spec)
        after = table()
        assert ("60", "csv") not in after
        assert (after["1", "csv"].revision, after["1", "csv"].inputs["num_images"]) == (2, 9)
        assert after["61", "csv"].inputs == EXAMPLE
        assert after["900", "service"].closed_by == "csv"
        # A replica that has no file.
        replica = tmp_path / "replica"
        publish(replica, 1)
        settings = settings_of(replica, database_url=url, stored_in_database=True)
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            assert client.post("/predict/id", json={"vehicle_id": 61}).status_code == 200
            assert client.post("/predict/id", json={"vehicle_id": 60}).status_code == 404
            assert client.post("/predict/batch", json=[{"entity_id": "61"}]).status_code == 200
            assert len(client.get("/vehicles?limit=1000").json()["entities"]) == VEHICLES + 1
            assert client.get("/vehicles/900").json()["source"] == "csv"
            assert client.delete("/vehicles/61").status_code == 409
            assert client.post("/vehicles", json=EXAMPLE | {"vehicle_id": 61}).status_code == 409
            assert client.post("/vehicles", json=EXAMPLE | {"vehicle_id": "x"}).status_code == 201
            assert (
                client.get("/vehicles", params={"where": "num_images:9"}).json()["entities"][0]["id"] == "1"
            )


def test_of_examples_saved_ones_are_predicted_and_not_stored_with_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    spec = shipped("market_resolution")
    with serving_database() as engine, duckdb.connect() as connection:
        from tests.support.project import ROOT

        for name in spec.sources:
            csv = ROOT / "data" / "market_resolution" / f"{name}.csv"
            connection.execute(f"create table {name} as from read_csv('{csv}', all_varchar=false)")
            note_origin(connection, name, {"snapshot": name})
        build(connection, spec)
        save("m", forecast=spec.name)
        done = saved_entities.materialize(connection, spec)
        assert (done.count, done.saved) == (100, 0)
        assert "1 saved" in done.note
        with engine.connect() as reading:
            assert [one.id for one in open_entities(reading, spec.name)] == ["m"]


def test_save_and_delete_hold_through_a_restart_and_the_next_materialization(home: Path, run: Run):
    """By the real job and the real service, over the shipped data."""
    publish(home, 1)

    def service() -> TestClient[Any]:
        return TestClient(create_app(settings_of(home)), raise_server_exceptions=False)

    assert run("materialize").success
    with service() as client:
        assert client.get("/vehicles/1").json()["source"] == "csv"
        for name in ("kept", "gone"):
            assert client.post("/vehicles", json=EXAMPLE | {"vehicle_id": name}).status_code == 201
        assert client.delete("/vehicles/gone").status_code == 200
    with service() as client:  # after a restart
        before = client.get("/vehicles/kept").json()
        assert client.get("/vehicles/gone").status_code == 404
        assert run("materialize").success
        after = client.get("/vehicles/kept").json()
        assert (before["materialized"], after["materialized"]) == (False, True)
        assert after["inputs"] == before["inputs"] == EXAMPLE
        assert client.post("/predict/id", json={"vehicle_id": "kept"}).status_code == 200
        assert client.post("/predict/id", json={"vehicle_id": "gone"}).status_code == 404
        assert client.delete("/vehicles/kept").status_code == 200
        assert file()["kept"] == "service"
        assert client.post("/predict/id", json={"vehicle_id": "kept"}).status_code == 404
        assert run("materialize").success
        assert client.get("/vehicles/kept").status_code == 404
    assert "kept" not in file()
    names = [name for name, _ in events()]
    assert names == [
        f"vehicle-{change}" for change in ("saved", "saved", "deleted", "materialized", "deleted")
    ]


def test_a_saved_entity_knows_whether_it_is_materialized():
    plain = dict.fromkeys(SavedEntity.__struct_fields__) | {"id": "a", "source": "service"}
    assert not SavedEntity(**plain | {"revision": 1}).is_materialized
    assert not SavedEntity(**plain | {"revision": 2, "materialized_revision": 1}).is_materialized
    assert SavedEntity(**plain | {"revision": 2, "materialized_revision": 2}).is_materialized


def test_an_empty_table_is_none_to_check(tmp_path):
    with databases.empty("sqlite", tmp_path) as url:
        engine = open_database(url)
        with engine.connect() as connection:
            assert open_entities(connection, FORECAST) == []
        engine.dispose()
