"""What the monitoring found, over HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jsonschema_rs import Draft202012Validator
from litestar.testing import TestClient

from tests.support import databases
from tests.support.bundles import FORECAST, publish
from tests.support.service import Serve, metric_set, one, wait_for
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.checks import Check, Status, enter_checks
from vroom_api.contract.events import Decision, Evaluated
from vroom_api.contract.tables import enter_ledger

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PATH = f"/forecasts/{FORECAST}/monitoring"


url, engine = databases.url, databases.engine


@pytest.fixture
def client(state: Path, url: str, serve: Serve) -> Iterator[TestClient[Any]]:
    publish(state, 2)
    client = serve(database_url=url)
    yield client
    client.__exit__()  # before the database is gone


def entered(engine: sa.Engine, *days: int, **given: Any) -> None:
    for day in days:
        plain: dict[str, Any] = {
            "forecast": FORECAST,
            "version": 2,
            "name": "feature",
            "window_start": START + day * DAY,
            "window_end": START + (day + 1) * DAY,
            "rows": 300,
            "status": Status.OK,
            "values": {"distance": day / 10},
            "message": f"of day {day}",
        }
        with engine.begin() as connection:
            assert enter_checks(connection, [Check(**plain | given)]) == 1


def evaluated(engine: sa.Engine, verdict: str, decision: Decision, sentence: str) -> None:
    evidence = Evaluated(
        version=2, verdict=verdict, harmful=True, damage=0.1, window_end=(START + DAY).isoformat()
    )
    enter_ledger(
        engine, forecast=FORECAST, actor="job", decision=decision, reason=sentence, evidence=evidence
    )


def test_before_the_first_window_there_is_nothing(client: TestClient[Any]) -> None:
    assert client.get(PATH).json() == {
        "forecast": FORECAST,
        "version": 2,
        "verdict": None,
        "checks": [],
        "alerts": [],
    }
    assert client.get(f"{PATH}/checks").json() == {"checks": [], "next_before": None}


def test_a_window_is_entered_once(engine: sa.Engine) -> None:
    entered(engine, 0)
    with pytest.raises(AssertionError):
        entered(engine, 0)


def test_the_latest_of_each_check_of_what_serves_counts(engine: sa.Engine, client: TestClient[Any]) -> None:
    entered(engine, 0, 1, subject="price")
    entered(engine, 0, subject="photos", values={"distance": 0.3, "p": None})
    entered(engine, 1, name="error", status=Status.ALARM)
    entered(engine, 5, subject="price", version=1)
    found = client.get(PATH).json()["checks"]
    assert [(one["name"], one["subject"], one["message"]) for one in found] == [
        ("error", "", "of day 1"),
        ("feature", "photos", "of day 0"),
        ("feature", "price", "of day 1"),
    ]
    assert found[0]["status"] == "alarm"
    assert found[1]["values"] == {"distance": 0.3, "p": None}
    assert found[2]["window_end"] == "2026-03-03T00:00:00Z"


def test_the_newest_verdict_comes_from_the_ledger(engine: sa.Engine, client: TestClient[Any]) -> None:
    evaluated(engine, "healthy", Decision.HEALTHY, "all is well")
    evaluated(engine, "data drift", Decision.DRIFTED, "data drift: prices rose by 15 %")
    raise_alert(engine, forecast=FORECAST, kind="drift", severity=Severity.WARNING, message="m")
    found = client.get(PATH).json()
    assert found["verdict"]["verdict"] == "data drift"
    assert found["verdict"]["sentence"] == "prices rose by 15 %"
    assert (found["verdict"]["harmful"], found["verdict"]["damage"]) == (True, 0.1)
    assert [alert["kind"] for alert in found["alerts"]] == ["drift"]
    assert "data drift: prices rose by 15 %" in client.get("/").text


def test_the_history_is_found_by_check_subject_time_and_page(
    engine: sa.Engine, client: TestClient[Any]
) -> None:
    entered(engine, 0, 1, 2, subject="price")
    entered(engine, 1, subject="photos", status=Status.WARNING)
    entered(engine, 1, name="error", version=1)

    def days(**wanted: Any) -> list[str]:
        answer = client.get(f"{PATH}/checks", params=wanted)
        assert answer.status_code == 200, answer.text
        return [one["message"][-1] for one in answer.json()["checks"]]

    assert days(check="feature", subject="price") == ["2", "1", "0"]
    assert days(since="2026-03-03T00:00:00Z", subject="price") == ["2", "1"]
    assert days(until="2026-03-03T00:00:00Z", subject="price") == ["0"]
    assert days(version=1) == ["1"]
    assert days(status="warning") == ["1"]
    first = client.get(f"{PATH}/checks", params={"limit": 3}).json()
    second = client.get(f"{PATH}/checks", params={"limit": 3, "before": first["next_before"]}).json()
    assert len({one["id"] for one in first["checks"] + second["checks"]}) == 5
    assert second["next_before"] is None


@pytest.mark.parametrize(
    ("path", "status", "cause"),
    [
        (f"{PATH}/checks?status=bad", 400, "bad-request"),
        (f"{PATH}/checks?since=yesterday", 400, "bad-request"),
        (f"{PATH}/checks?name=error", 400, "unknown-parameter"),
        (f"{PATH}/checks?limit=0", 400, "bad-request"),
        ("/forecasts/nothing/monitoring", 404, "no-such-forecast"),
        ("/forecasts/nothing/monitoring/checks", 404, "no-such-forecast"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    client: TestClient[Any], path: str, status: int, cause: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:vroom:{cause}")


def test_metrics_have_what_the_latest_checks_found(engine: sa.Engine, client: TestClient[Any]) -> None:
    entered(engine, 1, subject="price", status=Status.ALARM)
    evaluated(engine, "decay", Decision.DECAYED, "the error grew")
    about = {"forecast": FORECAST, "check": "feature", "subject": "price"}
    wait_for(
        lambda: (
            "vroom_check_status" in client.get("/metrics").text
            and 'verdict="decay"' in client.get("/metrics").text
        )
    )
    found = metric_set(client)
    assert one(found, "vroom_check", **about, number="distance") == 0.1
    assert one(found, "vroom_check_status", **about, status="alarm") == 1
    assert one(found, "vroom_verdict", forecast=FORECAST, verdict="decay") == 1
    assert one(found, "vroom_retraining_called_for", forecast=FORECAST) == 1
    entered(engine, 2, subject="price")
    wait_for(lambda: one(metric_set(client), "vroom_check", **about, number="distance") == 0.2)


def test_answers_and_their_examples_are_as_described(engine: sa.Engine, client: TestClient[Any]) -> None:
    entered(engine, 0, subject="price", values={"p": None, "distance": 0.1})
    evaluated(engine, "decay", Decision.DECAYED, "the error grew")
    document = client.get("/schema/openapi.json").json()
    for path, name in ((PATH, "MonitoringState"), (f"{PATH}/checks", "Checks")):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        described = Draft202012Validator(schema)
        assert list(described.iter_errors(client.get(path).json())) == []
        (example,) = document["components"]["schemas"][name]["examples"]
        assert list(described.iter_errors(example)) == []
