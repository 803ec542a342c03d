"""GET /stores: every store as it is at this moment, and no address or password of any."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, NAMES, publish
from tests.support.entities import keep
from tests.support.service import Serve
from vroom_api.contract import forecast_folder
from vroom_api.contract.tables import entities, open_database

PASSWORD = "not-to-be-seen"


def stores_of(client: TestClient[Any], path: str = "/stores") -> dict[str, dict[str, Any]]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return {store["name"]: store for store in answer.json()["stores"]}


def write_features(home: Path, version: str, rows: int) -> Path:
    path = forecast_folder(FORECAST, home) / "features" / f"{version}.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"price": list(range(rows))}), path)
    return path


def test_each_store_is_described_as_it_is_now(state: Path, serve: Serve) -> None:
    publish(state, 1)
    publish(state, 2)
    client = serve(record=True)
    assert client.post("/predict", json=EXAMPLE).status_code == 200
    before = stores_of(client)
    assert {name: store["available"] for name, store in before.items()} == {
        "offline": False,
        "warehouse": False,
        "online": False,
        "bundles": True,
        "record": True,
        "serving": True,
    }
    first = write_features(state, "first", 3)
    os.utime(first, (1, 1))
    table = write_features(state, "second", 5)
    (forecast_folder(FORECAST, state) / "warehouse.duckdb").write_bytes(b"x" * 100)
    keep(state, {"7": [EXAMPLE[name] for name in NAMES], "8": [EXAMPLE[name] for name in NAMES]})
    found = stores_of(client)
    assert (found["offline"]["path"], found["offline"]["rows"]) == (f"{FORECAST}/features/second.parquet", 5)
    assert found["offline"]["bytes"] == table.stat().st_size
    assert (found["warehouse"]["kind"], found["warehouse"]["bytes"]) == ("duckdb", 100)
    assert (found["online"]["rows"], found["online"]["path"]) == (2, f"{FORECAST}/entities.db")
    assert (found["bundles"]["rows"], found["bundles"]["path"]) == (2, f"{FORECAST}/champions")
    assert (found["record"]["kind"], found["record"]["pending"]) == ("sqlite", 0)
    assert (found["serving"]["path"], found["serving"]["kind"]) == ("serving.db", "sqlite")
    made = datetime.fromisoformat(found["record"]["last_modified"])
    assert datetime.now(UTC) - made < timedelta(minutes=5)
    keep(state, {"7": [EXAMPLE[name] for name in NAMES]})
    assert stores_of(client)["online"]["rows"] == 1
    table.unlink()
    assert stores_of(client)["offline"]["rows"] == 3
    assert stores_of(client, f"/forecasts/{FORECAST}/stores")["offline"]["rows"] == 3
    assert client.get("/forecasts/nowhere/stores").status_code == 404


def test_the_features_are_named_with_what_they_are_of(client: TestClient[Any]) -> None:
    view = client.get("/stores").json()["feature_view"]
    assert (view["name"], view["entity"], view["key"]) == ("reservations_features", "vehicle", "entity_id")
    assert (view["inputs"], view["features"]) == (NAMES, ["num_images", "log_price_ratio"])
    assert (view["target"], view["horizon"]) == ("reservations", "one calendar year")
    assert view["freshness"] == {"model": None, "data": None, "expired": "flag"}


def test_what_was_saved_and_not_materialized_is_pending(client: TestClient[Any], state: Path) -> None:
    now = datetime.now(UTC)
    row = {"forecast": FORECAST, "inputs": {}, "tags": {}, "as_of": "", "revision": 1, "caller": "", "created_at": now, "updated_at": now}  # fmt: skip
    states = [
        ("waits", "service", None, None),
        ("deleted", "service", None, now),
        ("materialized", "service", 1, None),
        ("from a file", "csv", None, None),
    ]
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    with engine.begin() as connection:
        for identifier, source, materialized, deleted in states:
            connection.execute(
                entities.insert().values(
                    **row, id=identifier, source=source, materialized_revision=materialized, closed_at=deleted
                )
            )
    engine.dispose()
    assert stores_of(client)["online"]["pending"] == 1


def test_without_anything_nothing_is_there(serve: Serve) -> None:
    client = serve()
    answer = client.get("/stores").json()
    assert answer["feature_view"] is None
    assert [store["name"] for store in answer["stores"] if store["available"]] == ["serving"]


def test_what_is_damaged_is_not_available(state: Path, serve: Serve) -> None:
    publish(state, 1)
    (state / "serving.db").write_bytes(b"not a database" * 100)
    write_features(state, "first", 3).write_bytes(b"no parquet")
    found = stores_of(serve())
    assert (found["serving"]["available"], found["record"]["available"]) == (False, False)
    assert (found["offline"]["available"], found["offline"]["rows"]) == (True, None)
    assert found["online"]["pending"] is None


def test_what_lies_elsewhere_has_no_path(state: Path, serve: Serve, tmp_path: Path) -> None:
    publish(state, 1)
    found = stores_of(serve(database_url=f"sqlite:///{tmp_path / 'elsewhere.db'}"))
    assert (found["serving"]["available"], found["serving"]["path"]) == (True, None)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The URL of a Postgres database with a password in it; the server may not ask for one."""
    with databases.empty("postgres", tmp_path) as address:
        url = sa.make_url(address).set(password=PASSWORD)
        yield url.render_as_string(hide_password=False)


def test_no_address_and_no_password_is_given(state: Path, serve: Serve, guarded: str) -> None:
    publish(state, 1)
    client = serve(database_url=guarded)
    text = client.get("/stores").text
    found = stores_of(client)
    assert (found["serving"]["kind"], found["serving"]["path"]) == ("postgresql", None)
    assert found["serving"]["bytes"] > 0
    url = sa.make_url(guarded)
    for secret in (PASSWORD, url.host, url.database, url.username, "://", str(state)):
        assert f'"{secret}"' not in text
    assert PASSWORD not in text
    assert str(state) not in text
    assert "://" not in text
    client.__exit__()


def test_a_server_that_does_not_answer_gives_its_address_away_neither(state: Path, serve: Serve) -> None:
    publish(state, 1)
    url = f"postgresql+psycopg://vroom:{PASSWORD}@127.0.0.1:1/vroom"
    answer = serve(database_url=url).get("/stores")
    assert answer.status_code == 200
    assert not {store["name"]: store for store in answer.json()["stores"]}["serving"]["available"]
    assert PASSWORD not in answer.text
    assert "127.0.0.1" not in answer.text
