"""Commands over HTTP: one of each lane at a time, decided against what serves, and never without whoever does it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import FORECAST, manifest, point, publish
from tests.support.service import Serve, bearer
from vroom_api.contract import MANIFEST, sha256_of
from vroom_api.contract.commands import Kind, State, note, open_commands
from vroom_api.contract.heartbeat import Heartbeat, beat, beat_of_consumer
from vroom_api.contract.pages import Pages
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import ledger
from vroom_api.record.commands import ask
from vroom_api.security.keys import Role, create_key

BACK = {"reason": "errors grew"}


url, engine = databases.url, databases.engine


@pytest.fixture
def client(state: Path, url: str, serve: Serve) -> Iterator[TestClient[Any]]:
    """The service with version 2, of which somebody consumes the commands."""
    publish(state, 1)
    publish(state, 2)
    attend(state)
    client = serve(database_url=url, pages=Pages(dagster="https://dagster.example"))
    yield client
    client.__exit__()  # before the database is gone


def attend(home: Path, ago: float = 0.0) -> None:
    beat_of_consumer(Heartbeat(checked_at=time.time() - ago, every_s=5.0), home)


def finish(engine: sa.Engine, state: State = State.SUCCEEDED, message: str = "done") -> None:
    with engine.begin() as connection:
        for command in open_commands(connection):
            note(connection, command, state, message, "run-1")


def test_a_pipeline_is_asked_for_and_followed(client: TestClient[Any], engine: sa.Engine) -> None:
    asked = client.post("/train")
    assert asked.status_code == 202
    command = asked.json()
    assert asked.headers["location"] == f"/commands/{command['id']}"
    assert (command["forecast"], command["kind"], command["state"]) == (FORECAST, "train", "waiting")
    assert (command["message"], command["run_id"], command["run_url"]) == (
        "nobody has taken it yet",
        None,
        None,
    )
    finish(engine, message="version 3 serves")
    done = client.get(asked.headers["location"]).json()
    assert (done["state"], done["message"]) == ("succeeded", "version 3 serves")
    assert done["run_url"] == "https://dagster.example/runs/run-1"
    assert done["finished_at"] >= done["requested_at"]
    with engine.connect() as connection:
        (entry,) = connection.execute(sa.select(ledger).where(ledger.c.event == "command")).all()
    assert (entry.actor, entry.decision, entry.evidence["command"]) == (
        "anonymous",
        "requested",
        command["id"],
    )


def test_the_same_pipeline_is_never_open_twice(client: TestClient[Any], engine: sa.Engine) -> None:
    first, again = client.post("/train"), client.post(f"/forecasts/{FORECAST}/train")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert client.post("/materialize").status_code == 202  # another pipeline
    finish(engine)
    assert client.post("/train").status_code == 202


def test_without_whoever_does_it_nothing_is_accepted(client: TestClient[Any], state: Path) -> None:
    waiting = client.post("/train").json()
    attend(state, ago=61)
    for path, body in (("/train", None), ("/materialize", None), ("/rollback", BACK)):
        refused = client.post(path, json=body) if body else client.post(path)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:no-consumer")
        assert "start Dagster's daemon" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "30"
    seen = client.get(f"/commands/{waiting['id']}").json()
    assert seen["message"].startswith("nobody takes it: nothing has consumed commands since")
    attend(state)
    assert client.get(f"/commands/{waiting['id']}").json() == waiting


def test_a_roll_back_is_decided_against_what_serves(client: TestClient[Any], engine: sa.Engine) -> None:
    asked = client.post("/rollback", json=BACK)
    assert asked.status_code == 202
    assert asked.json()["arguments"] == {"version": None, "reason": "errors grew", "generation": 2}
    finish(engine)
    seen_long_ago = client.post("/rollback", json=BACK | {"version": 1, "generation": 1})
    assert (seen_long_ago.status_code, seen_long_ago.json()["type"]) == (409, "urn:vroom:pointer-moved")
    assert seen_long_ago.json()["current"] == {"version": 2, "generation": 2, "command": None}
    assert client.post("/rollback", json=BACK | {"version": 1, "generation": 2}).status_code == 202


def test_what_cannot_be_gone_back_to_is_refused(
    client: TestClient[Any], serve: Serve, tmp_path: Path
) -> None:
    unknown = client.post("/rollback", json=BACK | {"version": 7})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:vroom:never-published")
    assert "choose one of 1, 2" in unknown.json()["detail"]
    serving = client.post("/rollback", json=BACK | {"version": 2})
    assert (serving.status_code, serving.json()["type"]) == (409, "urn:vroom:serves-already")
    assert client.post("/forecasts/nowhere/rollback", json=BACK).status_code == 404
    assert client.post("/rollback", json={"reason": "why", "versoin": 1}).status_code == 422
    assert client.post("/train", json={"forecast": "lap_times"}).status_code == 400
    assert client.get("/commands").json()["commands"] == []


def test_without_anything_published_there_is_nothing_to_go_back_to(state: Path, serve: Serve) -> None:
    attend(state)
    refused = serve().post("/rollback", json=BACK)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:nothing-published")
    publish(state, 1)
    refused = serve().post("/rollback", json=BACK)
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:vroom:never-published")


def test_what_is_declared_is_trained_before_it_was_ever_published(
    client: TestClient[Any], state: Path
) -> None:
    assert client.post("/forecasts/vans/train").status_code == 404
    beat("vans", Heartbeat(checked_at=time.time(), every_s=5.0), state)
    assert client.post("/forecasts/vans/train").json()["forecast"] == "vans"


def test_of_simultaneous_roll_backs_and_a_promotion_one_wins(
    client: TestClient[Any], engine: sa.Engine
) -> None:
    start = threading.Barrier(6)
    answers: list[Any] = []
    promoted: list[bool] = []

    def roll_back() -> None:
        start.wait()
        answers.append(client.post("/rollback", json=BACK))

    def promote() -> None:
        start.wait()
        promoted.append(ask(engine, FORECAST, Kind.PROMOTE, "eva", {"version": 3})[1])

    threads = [threading.Thread(target=one) for one in (*[roll_back] * 5, promote)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        (winner,) = open_commands(connection)
    won = [answer for answer in answers if answer.status_code == 202]
    lost = [answer for answer in answers if answer.status_code != 202]
    assert len(won) + sum(promoted) == 1
    assert {answer.status_code for answer in lost} == {409}
    for answer in lost:
        current = answer.json()["current"]
        assert (current["version"], current["generation"]) == (2, 2)
        assert current["command"]["id"] == winner.id


def test_commands_are_listed_newest_first_a_page_at_a_time(
    client: TestClient[Any], engine: sa.Engine
) -> None:
    made = []
    for _ in range(3):
        made.append(client.post("/train").json()["id"])
        finish(engine, State.FAILED)
    made.append(client.post("/materialize").json()["id"])
    first = client.get("/commands", params={"limit": 3}).json()
    rest = client.get("/commands", params={"limit": 3, "before": first["next_before"]}).json()
    assert [one["id"] for one in first["commands"] + rest["commands"]] == made[::-1]
    assert rest["next_before"] is None
    assert [one["id"] for one in client.get("/commands?state=waiting").json()["commands"]] == made[3:]
    assert len(client.get(f"/commands?forecast={FORECAST}&state=failed").json()["commands"]) == 3
    assert client.get("/commands?forecast=nowhere").status_code == 404
    assert client.get("/commands/0190c0de-0000-7000-8000-000000000000").status_code == 404


def test_only_operators_ask_and_the_ledger_names_them(
    state: Path, serve: Serve, url: str, engine: sa.Engine
) -> None:
    publish(state, 1)
    attend(state)
    keys = {role: create_key(engine, role.name.lower(), role) for role in (Role.VIEWER, Role.OPERATOR)}
    client = serve(auth=True, database_url=url)
    assert client.post("/train", headers=bearer(keys[Role.VIEWER])).status_code == 403
    assert client.post("/rollback", json=BACK, headers=bearer(keys[Role.VIEWER])).status_code == 403
    assert client.post("/train", headers=bearer(keys[Role.OPERATOR])).json()["caller"] == "operator"
    assert client.get("/commands", headers=bearer(keys[Role.VIEWER])).status_code == 200
    with engine.connect() as connection:
        assert list(connection.scalars(sa.select(ledger.c.actor).where(ledger.c.event == "command"))) == [
            "operator"
        ]


def test_a_damaged_pointer_is_no_reason_to_guess(client: TestClient[Any], state: Path) -> None:
    (state / FORECAST / "champion.json").write_text("{")
    refused = client.post("/rollback", json=BACK)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:unreadable-pointer")
    assert str(state) not in refused.text
    point(state, 2)


def test_a_version_that_lost_its_publication_is_nothing_to_go_back_to(state: Path, serve: Serve) -> None:
    store = LocalStore(state)
    attend(state)
    for version in (1, 2, 3):
        content = msgspec.json.encode(manifest(version))
        store.put(FORECAST, version, {MANIFEST: content})
        if version < 3:
            store.point(FORECAST, version, sha256_of(content), generation=version - 1)
    store.point(FORECAST, 1, sha256_of(msgspec.json.encode(manifest(1))), generation=2)
    refused = serve().post("/rollback", json=BACK | {"version": 3})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:vroom:never-published")
    assert "choose one of 1, 2," in refused.json()["detail"]
