"""Stored entities over HTTP: saved, found at once everywhere, replaced, deleted, listed and predicted by their ids."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, NAMES, publish
from tests.support.entities import AS_OF, keep
from tests.support.markets import MARKET, MARKETS, publish_markets
from tests.support.service import Serve, bearer, plain, running
from vroom_api.contract.event_log import LoggedEvent, Topic, events_after
from vroom_api.contract.saved_entities import settle
from vroom_api.contract.tables import connect, entities, open_database
from vroom_api.security.keys import Role, create_key

FLEET = {"7": list(EXAMPLE.values()), "8": [0, 90.0, 60.0, 3, 1, 20]}
VAN = EXAMPLE | {"actual_price": 61.0}


url = databases.url


@pytest.fixture
def client(state: Path, serve: Serve, url: str) -> TestClient[Any]:
    """The service with version 1 and two vehicles of the fleet, over either database."""
    publish(state, 1, entity_key="vehicle_id", entity_source="reservations/vehicles.csv")
    keep(state, FLEET, observed={"7": 12.0})
    return serve(database_url=url)


@pytest.fixture
def other(client: TestClient[Any], serve: Serve, url: str) -> TestClient[Any]:
    """A second service of the same home and database."""
    return serve(database_url=url)


def events(url: str) -> list[LoggedEvent]:
    engine = connect(url)
    with engine.connect() as connection:
        found = events_after(connection, 0, 1_000, topics=[Topic.ENTITIES])
    engine.dispose()
    return found


def test_what_is_saved_is_predicted_at_once_in_every_process_and_what_is_deleted_nowhere(client, other):
    saved = client.post("/vehicles", json=VAN | {"vehicle_id": 900})
    assert saved.status_code == 201, saved.text
    row = saved.json()
    assert (row["id"], row["source"], row["status"], row["revision"]) == ("900", "service", "created", 1)
    assert row["inputs"] == VAN
    assert (row["materialized"], row["observed"]) == (False, {"reservations": None})
    for service in (client, other):
        by_id = service.post("/predict/id", json={"vehicle_id": 900})
        assert by_id.status_code == 200, by_id.text
        assert plain(by_id.json()) == plain(service.post("/predict", json=VAN).json())
        assert by_id.json()["stored"]["inputs"] == NAMES
        assert service.post("/predict", json={"entity_id": "900"}).status_code == 200
        assert service.get("/vehicles/900").json() == {
            name: value for name, value in row.items() if name != "status"
        }
    gone = other.delete("/vehicles/900")
    assert gone.status_code == 200, gone.text
    assert (gone.json()["status"], gone.json()["revision"]) == ("deleted", 2)
    for service in (client, other):
        for refused in (
            service.post("/predict/id", json={"vehicle_id": 900}),
            service.post("/predict", json={"entity_id": "900"}),
            service.post("/predict/batch", json=[{"entity_id": "900"}]),
            service.get("/vehicles/900"),
            service.get("/vehicles/900/features"),
            service.delete("/vehicles/900"),
            service.put("/vehicles/900", json=VAN),
        ):
            assert refused.status_code == 404, refused.text
        assert "POST /vehicles saves one" in service.post("/predict/id", json={"vehicle_id": 900}).text
        assert [one["id"] for one in service.get("/vehicles").json()["entities"]] == ["7", "8"]


def test_saved_and_deleted_survive_a_restart(state, serve, client, url):
    client.post("/vehicles", json=VAN | {"vehicle_id": "a"})
    client.post("/vehicles", json=VAN | {"vehicle_id": "b"})
    client.delete("/vehicles/b")
    after = serve(database_url=url)
    assert after.post("/predict/id", json={"vehicle_id": "a"}).status_code == 200
    assert after.post("/predict/id", json={"vehicle_id": "b"}).status_code == 404


def test_the_fleet_is_predicted_by_its_ids_as_well(client):
    by_id = client.post("/predict/id", json={"entity_id": "7", "level": 0.8})
    assert by_id.status_code == 200, by_id.text
    assert plain(by_id.json()) == plain(client.post("/predict", json=EXAMPLE | {"level": 0.8}).json())
    assert by_id.json()["stored"]["as_of"] == AS_OF
    reasons = client.post("/predict/id", json={"vehicle_id": 7, "explain": True}).json()["reasons"]
    assert reasons == client.post("/predict", json=EXAMPLE | {"explain": True}).json()["reasons"]


def test_to_save_the_same_again_changes_nothing(client, url):
    first = client.post("/vehicles", json=VAN | {"vehicle_id": 5})
    again = client.post("/vehicles", json=VAN | {"entity_id": "5", "num_images": 8.0})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() | {"status": "unchanged"}
    other = client.post("/vehicles", json=VAN | {"vehicle_id": 5, "num_images": 9})
    assert (other.status_code, other.json()["type"]) == (409, "urn:vroom:exists")
    assert "PUT /vehicles/5 replaces it" in other.json()["detail"]
    put = client.put("/vehicles/5", json=VAN | {"num_images": 9, "tags": {"city": "Corvara"}})
    assert (put.status_code, put.json()["status"], put.json()["revision"]) == (200, "replaced", 2)
    assert client.put("/vehicles/5", json=VAN | {"num_images": 9, "tags": {"city": "Corvara"}}).json() == {
        **put.json(),
        "status": "unchanged",
    }
    client.delete("/vehicles/5")
    back = client.post("/vehicles", json=VAN | {"vehicle_id": 5})
    assert (back.status_code, back.json()["revision"]) == (201, 4)
    found = [(event.name, event.data["id"], event.data["revision"]) for event in events(url)]
    assert found == [
        ("vehicle-saved", "5", 1),
        ("vehicle-saved", "5", 2),
        ("vehicle-deleted", "5", 3),
        ("vehicle-saved", "5", 4),
    ]


def test_a_repetition_by_its_key_makes_no_second_entity(client):
    key = {"idempotency-key": "order 1"}
    first, again = (client.post("/vehicles", json=VAN, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert client.post("/vehicles", json=VAN).json()["id"] != first.json()["id"]
    refused = client.post("/vehicles", json=VAN | {"num_images": 1}, headers=key)
    assert refused.status_code == 409
    client.delete(f"/vehicles/{first.json()['id']}")
    refused = client.post("/vehicles", json=VAN, headers=key)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:deleted")


def test_callers_at_once_make_one(client, other, url):
    def save(number: int) -> tuple[int, str]:
        given = (client, other)[number % 2].post("/vehicles", json=VAN | {"vehicle_id": "one"})
        return given.status_code, given.json()["status"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(save, range(16)))
    assert sorted(found) == [(200, "unchanged")] * 15 + [(201, "created")]
    assert len(events(url)) == 1


def test_what_the_fleet_has_is_changed_in_its_file(client):
    for refused in (
        client.post("/vehicles", json=VAN | {"vehicle_id": 7}),
        client.put("/vehicles/7", json=VAN),
        client.delete("/vehicles/7"),
    ):
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:from-source")
        assert "reservations/vehicles.csv" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_images": 101}, "num_images: 101 is not within 0..100 photos"),
        ({"level": 0.9}, "level: unknown field"),
        ({"colour": 1}, "colour: unknown field"),
        ({"vehicle_id": True}, "vehicle_id: it is not a whole number"),
        ({"vehicle_id": ""}, "vehicle_id: it is not a whole number"),
        ({"vehicle_id": None}, "vehicle_id: it is not a whole number"),
        ({"vehicle_id": 1, "entity_id": 2}, "they are different"),
        ({"vehicle_id": "a/b"}, "cannot stand in a path"),
        ({"vehicle_id": "features"}, "cannot stand in a path"),
        ({"tags": {"A": "b"}}, "tags: "),
        ({"description": None}, "description: null is not an integer within"),
    ],
)
def test_what_is_wrong_is_refused_as_by_predict(client, change, words):
    refused = client.post("/vehicles", json=VAN | change)
    assert refused.status_code == 422, refused.text
    assert words in refused.json()["detail"]
    assert client.get("/vehicles?source=service").json()["entities"] == []


def test_missing_inputs_are_all_named(client):
    refused = client.post("/vehicles", json={"vehicle_id": 1, "actual_price": 45})
    assert [fault["field"] for fault in refused.json()["errors"]] == [n for n in NAMES if n != "actual_price"]
    assert client.post("/vehicles", content=b"{").status_code == 400
    assert client.post("/vehicles", json=[VAN]).status_code == 422


def test_an_id_alone_is_what_predict_id_takes(client):
    for body, words in (
        ({}, "vehicle_id: missing"),
        ({"vehicle_id": 7, "actual_price": 3}, "/predict takes inputs"),
        ({"vehicle_id": 7, "level": 2}, "level: 2 is not within"),
        ({"vehicle_id": [7]}, "vehicle_id: it is not"),
    ):
        refused = client.post("/predict/id", json=body)
        assert refused.status_code == 422, refused.text
        assert words in refused.json()["detail"]


def test_tags_are_recorded_with_predictions(state, serve, url, client):
    recorded = serve(database_url=url, record=True)
    recorded.post("/vehicles", json=VAN | {"vehicle_id": "t", "tags": {"city": "Corvara"}})
    given = recorded.post("/predict/id", json={"vehicle_id": "t", "tags": {"trip": "1"}})
    assert given.status_code == 200, given.text
    [found] = recorded.get("/predictions").json()["predictions"]
    assert (found["entity_id"], found["tags"]) == ("t", {"city": "Corvara", "trip": "1"})
    [tagged] = recorded.get("/vehicles?tag=city:Corvara").json()["entities"]
    assert tagged["tags"] == {"city": "Corvara"}


def test_features_are_those_of_a_prediction(client):
    client.post("/vehicles", json=VAN | {"vehicle_id": "new"})
    page = client.get("/vehicles/features").json()
    assert [(one["id"], one["source"], one["materialized"]) for one in page["entities"]] == [
        ("7", "csv", True),
        ("8", "csv", True),
        ("new", "service", False),
    ]
    assert page["entities"][1]["features"] == {"num_images": 3.0, "log_price_ratio": pytest.approx(0.405465)}
    assert client.get("/vehicles/new/features").json() == page["entities"][2]
    assert client.get("/vehicles/none/features").status_code == 404


def test_a_vehicle_of_another_declaration_is_listed_and_has_no_features(client, state):
    keep(state, {"7": [-5, *list(EXAMPLE.values())[1:]], "8": FLEET["8"]})
    first, second = client.get("/vehicles/features").json()["entities"]
    assert first["features"] is None
    assert "technology: the stored value -5" in first["trouble"]
    assert second["trouble"] is None


def test_what_is_observed_and_where_it_is_from_is_listed(client):
    client.post("/vehicles", json=VAN | {"vehicle_id": "new"})
    page = client.get("/vehicles").json()
    assert (page["total"], page["next_after"]) == (3, None)
    assert [one["observed"] for one in page["entities"]] == [
        {"reservations": 12.0},
        {"reservations": None},
        {"reservations": None},
    ]
    assert [one["id"] for one in client.get("/vehicles?source=csv").json()["entities"]] == ["7", "8"]
    assert [one["id"] for one in client.get("/vehicles?source=service").json()["entities"]] == ["new"]
    assert [one["id"] for one in client.get("/vehicles?prefix=n").json()["entities"]] == ["new"]
    for where, ids in (
        ("technology:1", ["7", "new"]),
        ("actual_price:50..70", ["new"]),
        ("actual_price:..61", ["7", "new"]),
        ("actual_price:61..,technology:0", ["8"]),
        ("num_images:8,actual_price:45", ["7"]),
    ):
        found = client.get("/vehicles", params={"where": where}).json()
        assert [one["id"] for one in found["entities"]] == ids, where
        assert found["total"] is None


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("colour:1", "'colour' is not an input"),
        ("actual_prise:1", "did you mean actual_price?"),
        ("technology", "'technology' is not a condition"),
        ("technology:x", "'x' is not a integer"),
        ("technology:nan", "'nan' is not a integer"),
        ("technology:..", "neither a integer nor a range"),
        (",".join(["technology:1"] * 9), "9 conditions are not 1 to 8"),
    ],
)
def test_a_search_that_cannot_be_is_refused(client, where, words):
    refused = client.get("/vehicles", params={"where": where})
    assert refused.status_code == 400, refused.text
    assert words in refused.json()["detail"]


def test_once_the_sources_have_it_theirs_counts(client, state, url):
    client.post("/vehicles", json=VAN | {"vehicle_id": "9"})
    keep(state, FLEET | {"9": FLEET["8"]})
    for _ in range(2):
        [found] = client.get("/vehicles?prefix=9").json()["entities"]
        assert (found["source"], found["inputs"]["actual_price"]) == ("csv", 90.0)
        assert client.get("/vehicles/9").json() == found
        assert client.post("/predict/id", json={"vehicle_id": 9}).json()["stored"]["as_of"] == AS_OF
        engine = connect(url)
        with engine.begin() as connection:
            settle(connection, FORECAST, "vehicle", materialized={}, sourced=["9"])
        engine.dispose()


def test_a_deleted_one_stays_deleted_whatever_the_file_has_of_it(client, state):
    client.post("/vehicles", json=VAN | {"vehicle_id": "9"})
    keep(state, FLEET | {"9": FLEET["8"]}, saved=["9"])
    assert client.get("/vehicles/9").json()["source"] == "service"
    assert client.post("/predict/id", json={"vehicle_id": 9}).json()["stored"]["as_of"] != AS_OF
    client.delete("/vehicles/9")
    assert client.post("/predict/id", json={"vehicle_id": 9}).status_code == 404
    assert client.get("/vehicles").json()["total"] == 2


def test_without_a_champion_one_may_read_and_delete_and_not_save(state, serve, url):
    publish(state, 1)
    keep(state, FLEET)
    first = serve(database_url=url)
    first.post("/vehicles", json=VAN | {"vehicle_id": "9"})
    (state / FORECAST / "champion.json").unlink()
    client = serve(database_url=url)
    refused = client.post("/vehicles", json=VAN)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:no-champion")
    assert client.get("/vehicles").json()["entities"][0]["inputs"] == EXAMPLE
    assert client.get("/vehicles/features").status_code == 503
    assert client.delete("/vehicles/9").status_code == 200
    assert client.delete("/vehicles/9").status_code == 404
    assert client.delete("/vehicles/7").status_code == 409


def test_every_forecast_has_its_own_by_its_name(client, state):
    publish_markets(state)
    client.post(f"/forecasts/{MARKETS}/reload")
    saved = client.post(f"/forecasts/{MARKETS}/entities", json=MARKET | {"entity_id": "m 1"})
    assert saved.status_code == 201, saved.text
    path = f"/forecasts/{MARKETS}/entities"
    assert client.get(f"{path}/m 1").json()["inputs"] == MARKET
    given = client.post(f"/forecasts/{MARKETS}/predict/id", json={"entity_id": "m 1"})
    assert given.status_code == 200, given.text
    assert client.get("/vehicles/m 1").status_code == 404
    [found] = client.get(path, params={"where": 'category:"economy",price:0..0.3'}).json()["entities"]
    assert found["id"] == "m 1"
    assert client.get(f"/forecasts/{FORECAST}/entities").json() == client.get("/vehicles").json()
    assert client.delete(f"{path}/m 1").status_code == 200
    missing = client.post(f"/forecasts/{MARKETS}/predict/id", json={"entity_id": "m 1"})
    assert f"GET {path} lists all" in missing.json()["detail"]
    assert client.get("/forecasts/none/entities").status_code == 404


def test_who_may_what(state, serve):
    publish(state, 1)
    keep(state, FLEET)
    client = serve(auth=True)
    admin = bearer((state / "admin.key").read_text().strip())
    assert client.post("/vehicles", json=VAN).status_code == 401
    assert client.post("/vehicles", json=VAN | {"vehicle_id": 1}, headers=admin).status_code == 201
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    viewer = bearer(create_key(engine, "reader", Role.VIEWER))
    operator = bearer(create_key(engine, "clerk", Role.OPERATOR))
    engine.dispose()
    for path in ("/vehicles", "/vehicles/1", "/vehicles/features", "/vehicles/1/features"):
        assert client.get(path, headers=viewer).status_code == 200, path
    assert client.post("/predict/id", json={"vehicle_id": 1}, headers=viewer).status_code == 200
    assert client.post("/vehicles", json=VAN, headers=viewer).status_code == 403
    assert client.put("/vehicles/1", json=VAN, headers=viewer).status_code == 403
    assert client.delete("/vehicles/1", headers=viewer).status_code == 403
    assert client.delete("/vehicles/1", headers=operator).status_code == 200


def test_a_closed_row_says_who_closed_it(client, url):
    client.post("/vehicles", json=VAN | {"vehicle_id": "9"})
    client.delete("/vehicles/9")
    engine = connect(url)
    with engine.connect() as connection:
        [row] = connection.execute(sa.select(entities)).all()
    engine.dispose()
    assert (row.closed_by, row.revision, row.caller) == ("delete", 2, "anonymous")


def test_without_a_database_the_fleet_is_predicted_and_what_may_be_saved_is_refused(state, serve):
    publish(state, 1)
    keep(state, FLEET)
    nowhere = serve(database_url="postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=2")
    assert nowhere.post("/predict/id", json={"vehicle_id": 7}).status_code == 200
    assert nowhere.post("/predict", json=EXAMPLE | {"entity_id": "unknown"}).status_code == 200
    for refused in (
        nowhere.post("/predict/id", json={"vehicle_id": "saved?"}),
        nowhere.post("/vehicles", json=VAN | {"vehicle_id": 1}),
        nowhere.get("/vehicles"),
        nowhere.delete("/vehicles/9"),
    ):
        assert refused.status_code == 503, refused.text
        assert "retry-after" in refused.headers


def test_a_database_that_is_replaced_meanwhile_is_the_one_that_is_asked(state, serve):
    publish(state, 1)
    keep(state, FLEET)
    client = serve()
    client.post("/vehicles", json=VAN | {"vehicle_id": "before"})
    assert client.post("/predict/id", json={"vehicle_id": "before"}).status_code == 200
    for suffix in ("", "-wal", "-shm"):
        (state / f"serving.db{suffix}").rename(state / f"away.db{suffix}")
    assert client.post("/predict/id", json={"vehicle_id": "before"}).status_code == 404
    assert client.post("/vehicles", json=VAN | {"vehicle_id": "after"}).status_code == 201
    assert client.post("/predict/id", json={"vehicle_id": "after"}).status_code == 200
    assert [one["id"] for one in client.get("/vehicles").json()["entities"]] == ["7", "8", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", databases.KINDS)
def test_two_processes_agree_about_each_entity_at_every_moment(state, tmp_path, kind):
    publish(state, 1)
    keep(state, FLEET)
    with (
        databases.empty(kind, tmp_path) as url,
        running(state, DATABASE_URL=url) as (one, _),
        running(state, DATABASE_URL=url) as (two, _),
        httpx.Client(base_url=one) as first,
        httpx.Client(base_url=two) as second,
    ):
        for turn in range(50):
            here, there = (first, second) if turn % 2 else (second, first)
            body = {"vehicle_id": turn % 7 or 7}
            assert here.post("/vehicles", json=VAN | body).status_code == (409 if turn % 7 == 0 else 201)
            if turn % 7 == 0:
                continue
            assert there.post("/predict/id", json=body).status_code == 200
            assert there.put(f"/vehicles/{turn % 7}", json=VAN | {"num_images": turn}).status_code == 200
            assert here.get(f"/vehicles/{turn % 7}").json()["inputs"]["num_images"] == turn
            assert here.delete(f"/vehicles/{turn % 7}").status_code == 200
            assert there.post("/predict/id", json=body).status_code == 404
