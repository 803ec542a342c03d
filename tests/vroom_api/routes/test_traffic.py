"""A trial over HTTP: begun, changed, judged, stopped and promoted; what it cannot be is refused with the state."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, inputs, publish
from tests.support.service import bearer, metric_set, one, running, settings_of, wait_for
from tests.support.trials import TRIAL, listing, per_photo, put_beside, tried_champion
from vroom_api.alerting.conditions import NOT_LOADED, conditions
from vroom_api.app import create_app
from vroom_api.contract import MODEL, TrialRole, bundle_folder, read_pointer
from vroom_api.contract.benchmark import BENCHMARK_TAG
from vroom_api.contract.checks import Check, Status, enter_checks
from vroom_api.contract.event_log import events_after
from vroom_api.contract.heartbeat import Heartbeat, beat_of_consumer
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import commands

SPLIT = {"version": 2, "role": "split", "share": 0.3}


@pytest.fixture
def two(state: Path) -> Path:
    """A home in which version 1 serves and version 2 is kept."""
    publish(state, 1)
    put_beside(state, 2)
    return state


@pytest.fixture(params=databases.KINDS)
def client(request: pytest.FixtureRequest, two: Path) -> Iterator[TestClient[Any]]:
    with databases.empty(request.param, two) as url:
        settings = settings_of(two, record=True, database_url=url)
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            yield client


def database(client: TestClient[Any]) -> sa.Engine:
    found: sa.Engine = client.app.dependencies["database"].dependency()()
    return found


def versions(client: Any, entities: range, headers: dict[str, str] | None = None) -> dict[int, int]:
    return {
        entity: client.post("/predict", json=listing(entity), headers=headers).json()["model_version"]
        for entity in entities
    }


def test_a_split_answers_its_share_from_the_next_request_on_and_is_visible_everywhere(client):
    begun = client.post(TRIAL, json=SPLIT)
    assert begun.status_code == 200, begun.text
    found = begun.json()
    assert (found["champion"], found["generation"], found["loaded"], found["judgement"]) == (1, 4, True, None)
    assert (found["trial"]["version"], found["trial"]["share"], found["trial"]["by"]) == (2, 0.3, "anonymous")
    assert client.get(TRIAL).json() == found
    answered = versions(client, range(200))
    assert 0.2 < sum(version == 2 for version in answered.values()) / 200 < 0.4
    batch = client.post("/predict/batch", json=[listing(entity) for entity in range(200)]).json()
    assert [one["model_version"] for one in batch] == list(answered.values())
    by_name = client.post(f"/forecasts/{FORECAST}/predict", json=listing(3)).json()
    assert by_name["model_version"] == answered[3]
    for path in ("/model", "/health", f"/forecasts/{FORECAST}/health"):
        assert client.get(path).json()["trial"] == found["trial"]
    assert client.get(f"/forecasts/{FORECAST}").json()["champion"]["trial"] == found["trial"]
    assert "version 2 answers 30 % of the requests since" in client.get("/").text
    metrics = metric_set(client)
    assert one(metrics, "vroom_trial_share", forecast=FORECAST, version="2", role="split") == 0.3
    second = sum(version == 2 for version in answered.values())
    assert one(metrics, "vroom_predictions_total", forecast=FORECAST, version="2") >= 2 * second


def test_every_answer_is_recorded_with_its_version_and_verified(client):
    client.post(TRIAL, json=SPLIT)
    for entity in range(12):
        answer = client.post("/predict", json=listing(entity)).json()
        kept = client.get(f"/predictions/{answer['prediction_id']}")
        assert kept.status_code == 200, kept.text
        assert answer["predicted_reservations"] == pytest.approx(
            answer["model_version"] * 2.2023, rel=0.2
        )  # a bundle answers its number times what version 1 does


def test_the_champion_answers_what_the_second_version_has_no_number_for(state, serve):
    publish(state, 1)
    put_beside(state, 2, **per_photo())
    client = serve(record=True)
    client.post(TRIAL, json=SPLIT | {"share": 0.999})
    without = listing(1, num_images=0)
    answers = [
        client.post("/predict", json=without),
        client.post("/predict", json=without | {"explain": True}),
        client.post("/predict", json=without | {"tags": {BENCHMARK_TAG: "1"}}),
        client.post("/predict/batch", json=[without, listing(1)]),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    one_by_one = [answer.json() for answer in answers[:3]] + answers[3].json()
    assert [one["model_version"] for one in one_by_one] == [1, 1, 1, 1, 2]
    for answer in one_by_one:
        kept = client.get(f"/predictions/{answer['prediction_id']}")
        assert (kept.status_code, kept.json()["prediction"]["version"]) == (
            200,
            answer["model_version"],
        )
    assert one(metric_set(client), "vroom_trial_handed_back_total", forecast=FORECAST) == 4


def test_another_share_leaves_entities_where_they_are_and_stopping_brings_all_back(client):
    client.post(TRIAL, json=SPLIT)
    before = versions(client, range(60))
    changed = client.post(TRIAL, json=SPLIT | {"share": 0.6}).json()
    after = versions(client, range(60))
    assert {entity for entity, version in before.items() if version == 2} < {
        entity for entity, version in after.items() if version == 2
    }
    stopped = client.post(f"{TRIAL}/stop", json={"reason": "seen enough"})
    assert stopped.status_code == 200
    assert (stopped.json()["trial"], stopped.json()["generation"]) == (None, changed["generation"] + 1)
    assert set(versions(client, range(60)).values()) == {1}
    entries = client.get("/ledger?event=trial").json()["entries"]
    assert [entry["decision"] for entry in entries] == ["stopped", "changed", "started"]
    assert entries[0]["reason"] == "version 2 is not tried any more: seen enough"
    with database(client).connect() as connection:
        logged = [(one.topic.value, one.name) for one in events_after(connection, 0, 10)]
    assert [one for one in logged if one[1] == "traffic-changed"] == [("model", "traffic-changed")] * 3


def test_a_shadow_changes_no_answer_and_its_own_are_counted(client):
    before = client.post("/predict", json=EXAMPLE).json()
    begun = client.post(TRIAL, json={"version": 2, "role": "shadow"}).json()
    assert begun["trial"]["share"] == 1.0
    after = client.post("/predict", json=EXAMPLE).json()
    for name in ("predicted_reservations", "interval", "model_version"):
        assert after[name] == before[name]
    wait_for(
        lambda: one(metric_set(client), "vroom_shadow_rows_total", forecast=FORECAST, state="scored") == 1
    )


def test_a_promotion_is_a_command_of_which_one_is_open_at_a_time(client, two):
    client.post(TRIAL, json=SPLIT)
    nobody = client.post(f"{TRIAL}/promote", json={"reason": "better", "generation": 4})
    assert (nobody.status_code, nobody.json()["type"]) == (503, "urn:vroom:no-consumer")
    beat_of_consumer(Heartbeat(checked_at=time.time(), every_s=5.0), two)
    ordered = client.post(f"{TRIAL}/promote", json={"reason": "better", "generation": 4})
    assert ordered.status_code == 202
    with database(client).connect() as connection:
        (row,) = connection.execute(commands.select()).fetchall()
    assert (row.id, row.kind, row.lane, row.state) == (ordered.json()["id"], "promote", "pointer", "waiting")
    assert row.arguments == {"version": 2, "reason": "better", "generation": 4}
    again = client.post(f"{TRIAL}/promote", json={"reason": "better"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:vroom:pointer-is-moving")
    assert again.json()["current"]["command"]["id"] == row.id


def test_the_verdict_so_far_is_that_of_this_trial(client):
    begun = client.post(TRIAL, json=SPLIT).json()
    since = datetime.fromisoformat(begun["trial"]["since"])

    def enter(end: datetime, status: Status, message: str) -> None:
        check = Check(
            forecast=FORECAST, version=2, name="trial", window_start=since, window_end=end, rows=40,
            status=status, values={"worse_evidence": 4.0}, message=message,
        )  # fmt: skip
        with database(client).begin() as connection:
            enter_checks(connection, [check])

    enter(since - timedelta(days=1), Status.ALARM, "of an earlier trial")
    assert client.get(TRIAL).json()["judgement"] is None
    enter(since + timedelta(days=1), Status.OK, "it is better")
    found = client.get(TRIAL).json()["judgement"]
    assert (found["verdict"], found["sentence"], found["rows"]) == ("better", "it is better", 40)


@pytest.mark.parametrize(
    ("asked", "status", "cause", "detail"),
    [
        ({"version": 1, "role": "shadow"}, 409, "serves-already", "now version 1 serves, generation 3"),
        ({"version": 9, "role": "shadow"}, 404, "no-such-version", "those that are: 1, 2"),
        (SPLIT | {"generation": 1}, 409, "pointer-moved", "now version 1 serves, generation 3"),
        (
            {"version": 2, "role": "split"},
            422,
            "invalid-input",
            "share: of a split it is above 0 and below 1",
        ),
        (SPLIT | {"share": 1}, 422, "invalid-input", "promote it"),
        (SPLIT | {"share": "0.1"}, 422, "invalid-input", "share"),
        (SPLIT | {"role": "canary"}, 422, "invalid-input", "role"),
        (SPLIT | {"shar": 0.1}, 422, "invalid-input", "shar: unknown field"),
        ({"role": "split"}, 422, "invalid-input", "version: missing"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_state(two, serve, asked, status, cause, detail):
    refused = serve(record=True).post(TRIAL, json=asked)
    assert (refused.status_code, refused.json()["type"]) == (status, f"urn:vroom:{cause}")
    assert detail in refused.json()["detail"]
    assert read_pointer(FORECAST, two).trial is None


def test_a_body_that_is_not_json_is_refused(two, serve):
    refused = serve(record=True).post(
        f"{TRIAL}/stop", content=b"{", headers={"content-type": "application/json"}
    )
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:vroom:malformed")


def test_a_version_that_takes_something_else_is_refused_with_what_differs(state, serve):
    publish(state, 1)
    wider = [msgspec.structs.replace(inputs()[0], maximum=2), *inputs()[1:]]
    put_beside(state, 2, inputs=wider, horizon="a day")
    refused = serve(record=True).post(TRIAL, json=SPLIT)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:other-contract")
    assert "horizon is 'a day' and not 'one calendar year'" in refused.json()["detail"]
    assert "input technology: maximum is 2.0 and not 1.0" in refused.json()["detail"]
    assert read_pointer(FORECAST, state).trial is None


def test_a_damaged_version_is_refused_and_one_damaged_later_leaves_the_champion(two, serve):
    model = bundle_folder(FORECAST, 2, two) / MODEL
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"x")
    client = serve(record=True)
    refused = client.post(TRIAL, json=SPLIT)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:damaged-version")
    assert str(two) not in refused.text
    model.write_bytes(whole)
    assert client.post(TRIAL, json=SPLIT).json()["loaded"] is True
    model.write_bytes(whole[:-1] + b"x")
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    health = client.get("/health").json()
    assert "version 2 is not tried" in health["last_error"]
    assert "the one that was loaded before stays" in health["last_error"]
    watch = client.app.state["predictor"].forecasts.flagship
    (found,) = [one for one in conditions(watch, datetime.now(UTC)) if one.kind == NOT_LOADED]
    assert found.message.startswith(
        "The version that is tried beside the champion cannot be loaded: version 2"
    )
    assert (found.severity, found.evidence) == ("warning", {"serving": 1})
    assert set(versions(client, range(20)).values()) == {1, 2}
    fresh = serve(record=True)
    assert set(versions(fresh, range(20)).values()) == {1}
    assert "the champion answers alone" in fresh.get("/health").json()["last_error"]
    assert fresh.get(TRIAL).json()["loaded"] is False
    model.write_bytes(whole)
    wait_for(lambda: fresh.get("/health").json()["status"] == "ok")
    assert set(versions(fresh, range(20)).values()) == {1, 2}


def test_without_a_record_nothing_is_tried_in_shadow_and_a_split_still_answers(two, serve):
    client = serve(record=False)
    refused = client.post(TRIAL, json={"version": 2, "role": "shadow"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:no-record")
    assert client.post(TRIAL, json=SPLIT).status_code == 200
    assert set(versions(client, range(20)).values()) == {1, 2}


def test_nothing_is_ended_that_does_not_run_and_nothing_is_tried_of_what_does_not_serve(two, serve):
    client = serve(record=True)
    for way in ("stop", "promote"):
        refused = client.post(f"{TRIAL}/{way}", json={"reason": "x"})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:no-trial")
    LocalStore(two).retire(FORECAST, "over")
    assert client.post(TRIAL, json=SPLIT).status_code == 410
    assert client.get("/forecasts/nothing/trial").status_code == 404


def test_before_a_first_champion_there_is_nothing_to_try_beside(serve):
    refused = serve(record=True).get(TRIAL)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:vroom:no-champion")


def test_a_second_trial_waits_for_the_end_of_the_first(two, serve):
    put_beside(two, 3)
    client = serve(record=True)
    client.post(TRIAL, json=SPLIT)
    refused = client.post(TRIAL, json=SPLIT | {"version": 3})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vroom:trial-runs")
    assert "version 2 is tried beside it (split, 30 %)" in refused.json()["detail"]


def test_only_an_operator_changes_traffic(two, serve):
    client = serve(record=True, auth=True)
    admin = bearer((two / "admin.key").read_text().strip())
    assert client.get(TRIAL, headers=admin).status_code == 200
    for path, body in (
        (TRIAL, SPLIT),
        (f"{TRIAL}/stop", {"reason": "x"}),
        (f"{TRIAL}/promote", {"reason": "x"}),
    ):
        assert client.post(path, json=body).status_code == 401
    assert client.post(TRIAL, json=SPLIT, headers=admin).json()["trial"]["by"] == "first admin"


def test_of_two_changes_at_once_against_one_generation_one_wins(two, serve):
    clients = [serve(record=True) for _ in range(2)]
    start, found = threading.Barrier(2), []

    def change(client: TestClient[Any], share: float) -> None:
        start.wait()
        found.append(client.post(TRIAL, json=SPLIT | {"share": share, "generation": 3}))

    threads = [
        threading.Thread(target=change, args=(client, share))
        for client, share in zip(clients, (0.2, 0.4), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in found) == [200, 409]
    refused = next(answer for answer in found if answer.status_code == 409)
    assert "generation 4" in refused.json()["detail"]


def test_entities_keep_their_version_in_another_process(tmp_path: Path):
    home = tmp_path / "var"
    champion = tried_champion(home, TrialRole.SPLIT, 0.4)
    assert champion.tried is not None
    found = []
    for _ in range(2):
        with running(home) as (address, _), httpx.Client(base_url=address) as client:
            found.append(versions(client, range(40)))
    assert found[0] == found[1]
    assert set(found[0].values()) == {1, 2}


def test_while_traffic_changes_under_load_every_answer_is_that_of_its_version(two, serve):
    """Swaps of the champion and changes of the trial, beside callers who check each number."""
    client = serve(record=True)
    base = client.post("/predict", json=EXAMPLE).json()["predicted_reservations"]
    over, wrong, seen = threading.Event(), [], set()

    def ask(number: int) -> None:
        entity = number
        while not over.is_set():
            entity += 1
            answer = client.post("/predict", json=listing(entity % 97))
            if answer.status_code != 200:
                wrong.append(answer.text)
                continue
            found = answer.json()
            seen.add(found["model_version"])
            width = found["interval"]["high"] - found["interval"]["low"]
            expected = base * found["model_version"]
            if abs(found["predicted_reservations"] / expected - 1) > 1e-9 or width <= 0:
                wrong.append(found)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for caller in callers:
        caller.start()
    try:
        for round_ in range(3):
            for body in (SPLIT, {"version": 2, "role": "shadow"}, SPLIT | {"share": 0.7}):
                assert client.post(TRIAL, json=body).status_code == 200
            assert client.post(f"{TRIAL}/stop", json={"reason": f"round {round_}"}).status_code == 200
            publish(two, 3)
            client.post("/reload")
            publish(two, 1)
            client.post("/reload")
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert wrong == []
    assert seen == {1, 2, 3}


def test_a_path_names_all_its_methods(two, serve):
    client = serve(record=True)
    assert client.options(TRIAL).headers["allow"] == "GET, OPTIONS, POST"
    refused = client.put(TRIAL)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
