"""Alerts over HTTP, on the page and as metrics."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jsonschema_rs import Draft202012Validator
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import FORECAST, publish
from tests.support.service import Serve, bearer, metric_set, one, wait_for
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.security.keys import Role, create_key

url, engine = databases.url, databases.engine


@pytest.fixture
def client(state: Path, url: str, serve: Serve) -> Iterator[TestClient[Any]]:
    publish(state, 1)
    client = serve(database_url=url)
    yield client
    client.__exit__()  # before the database is gone


def raised(engine: sa.Engine, kind: str, severity: Severity = Severity.WARNING, **given: Any) -> None:
    raise_alert(
        engine, **{"forecast": FORECAST, "kind": kind, "severity": severity, "message": f"of {kind}"} | given
    )


def kinds(client: TestClient[Any], **wanted: Any) -> list[str]:
    answer = client.get("/alerts", params=wanted)
    assert answer.status_code == 200, answer.text
    return [alert["kind"] for alert in answer.json()["alerts"]]


def test_alerts_are_found_by_what_they_are(engine: sa.Engine, client: TestClient[Any]) -> None:
    raised(engine, "decay", Severity.CRITICAL)
    raised(engine, "drift", subject="price", evidence={"distance": 0.2})
    raised(engine, "disk", forecast="")
    resolve_alert(engine, forecast=FORECAST, kind="decay")
    assert kinds(client) == ["disk", "drift"]
    assert kinds(client, which="all") == ["disk", "drift", "decay"]
    assert kinds(client, which="all", severity="critical") == ["decay"]
    assert kinds(client, forecast=FORECAST) == ["drift"]
    assert kinds(client, kind="disk") == ["disk"]
    found = client.get("/alerts", params={"kind": "drift"}).json()["alerts"][0]
    assert (found["subject"], found["evidence"]) == ("price", {"distance": 0.2})
    assert found["first_seen"].endswith("Z")
    assert (found["resolved_at"], found["acknowledged_at"]) == (None, None)


def test_pages_follow_one_another(engine: sa.Engine, client: TestClient[Any]) -> None:
    for number in range(5):
        raised(engine, f"k{number}")
    first = client.get("/alerts", params={"limit": 3}).json()
    second = client.get("/alerts", params={"limit": 3, "before": first["next_before"]}).json()
    assert [one["kind"] for one in first["alerts"] + second["alerts"]] == ["k4", "k3", "k2", "k1", "k0"]
    assert second["next_before"] is None


@pytest.mark.parametrize(
    ("path", "status", "cause"),
    [
        ("/alerts?severity=bad", 400, "bad-request"),
        ("/alerts?which=closed", 400, "bad-request"),
        ("/alerts?limit=501", 400, "bad-request"),
        ("/alerts?before=0", 400, "bad-request"),
        ("/alerts?state=open", 400, "unknown-parameter"),
        ("/alerts?forecast=nothing", 404, "no-such-forecast"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    client: TestClient[Any], path: str, status: int, cause: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:vroom:{cause}")


def test_the_first_who_sees_to_an_alert_is_kept(
    state: Path, url: str, engine: sa.Engine, serve: Serve
) -> None:
    publish(state, 1)
    raised(engine, "decay")
    keys = {
        name: bearer(create_key(engine, name, role))
        for name, role in (("eve", Role.VIEWER), ("ann", Role.OPERATOR), ("bob", Role.OPERATOR))
    }
    client = serve(auth=True, database_url=url)
    assert client.get("/alerts").status_code == 401
    (alert,) = client.get("/alerts", headers=keys["eve"]).json()["alerts"]
    path = f"/alerts/{alert['id']}/acknowledge"
    assert client.post(path, headers=keys["eve"]).status_code == 403
    first = client.post(path, headers=keys["ann"])
    assert (first.status_code, first.json()["acknowledged_by"]) == (200, "ann")
    assert client.post(path, headers=keys["bob"]).json() == first.json()
    assert client.get("/alerts", headers=keys["eve"]).json()["alerts"] == [first.json()]  # it stays open


@pytest.mark.parametrize(
    ("identifier", "status"), [(7, 404), (2**31 - 1, 404), (2**31, 400), (0, 400), ("x", 404)]
)
def test_an_unknown_alert_is_refused(client: TestClient[Any], identifier: object, status: int) -> None:
    assert client.post(f"/alerts/{identifier}/acknowledge").status_code == status


def test_the_largest_id_is_one_of_the_database(client: TestClient[Any]) -> None:
    for path in ("/alerts", "/ledger", f"/forecasts/{FORECAST}/monitoring/checks"):
        assert client.get(path, params={"before": 2**31 - 1}).status_code == 200
        assert client.get(path, params={"before": 2**31}).status_code == 400


def test_a_database_that_does_not_answer_is_503(state: Path, serve: Serve) -> None:
    publish(state, 1)
    client = serve()
    assert client.get("/alerts").status_code == 200
    with closing(sqlite3.connect(state / "serving.db")) as other:
        other.execute("ALTER TABLE alerts RENAME TO elsewhere")
    for answer in (
        client.get("/alerts"),
        client.post("/alerts/1/acknowledge"),
        client.get(f"/forecasts/{FORECAST}/monitoring"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:vroom:record-unavailable")
    assert "does not answer" in client.get("/").text


def test_the_page_lists_what_is_open(engine: sa.Engine, client: TestClient[Any]) -> None:
    assert "Open alerts" not in client.get("/").text
    raised(engine, "decay", message="the error <b>grew</b>")
    page = client.get("/").text
    assert "Open alerts" in page
    assert "the error &lt;b&gt;grew&lt;/b&gt;" in page
    resolve_alert(engine, forecast=FORECAST, kind="decay")
    assert "Open alerts" not in client.get("/").text


def test_metrics_count_what_is_open(engine: sa.Engine, client: TestClient[Any]) -> None:
    raised(engine, "disk", forecast="")  # the last one is waited for, and those before it are counted then
    raised(engine, "decay", Severity.CRITICAL)
    raised(engine, "drift", Severity.CRITICAL)

    def counted(forecast: str, severity: str) -> float:
        return one(metric_set(client), "vroom_alerts", forecast=forecast, severity=severity)

    wait_for(lambda: counted(FORECAST, "critical") == 2)
    assert counted(FORECAST, "warning") == 0
    assert counted("", "warning") == 1
    assert one(metric_set(client), "vroom_notifications_undelivered") == 0


def test_answers_and_their_examples_are_as_described(engine: sa.Engine, client: TestClient[Any]) -> None:
    raised(engine, "drift", evidence={"distance": 0.2})
    document = client.get("/schema/openapi.json").json()
    for path, name in (("/alerts", "Alerts"), (f"/forecasts/{FORECAST}/monitoring", "MonitoringState")):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        described = Draft202012Validator(schema)
        assert list(described.iter_errors(client.get(path).json())) == []
        (example,) = document["components"]["schemas"][name]["examples"]
        assert list(described.iter_errors(example)) == []
