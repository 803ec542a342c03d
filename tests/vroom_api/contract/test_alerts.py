"""Alerts in the serving database: one row from the first time until it is over, whoever sees it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support import databases
from vroom_api.contract.alerts import QUEUED, Severity, raise_alert, resolve_alert
from vroom_api.contract.tables import alerts, notifications

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STALE: dict[str, Any] = {"forecast": "vans", "kind": "stale", "subject": "model"}


url, engine = databases.url, databases.engine


def seen(engine: sa.Engine, severity: Severity = Severity.WARNING, **given: Any) -> bool:
    return raise_alert(engine, **{"severity": severity, "message": "old", "now": NOW} | STALE | given)


def rows(engine: sa.Engine, table: sa.Table) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]


def changes(engine: sa.Engine) -> list[tuple[int, str]]:
    queued = rows(engine, notifications)
    assert {row["receiver"] for row in queued} <= {QUEUED}
    return [(row["alert_id"], row["change"]) for row in queued]


def test_what_is_seen_again_is_one_alert_with_its_newest_words(engine: sa.Engine) -> None:
    assert seen(engine) is True
    later = NOW + timedelta(hours=1)
    assert seen(engine, message="older", evidence={"age_s": 7}, now=later) is False
    (row,) = rows(engine, alerts)
    assert (row["message"], row["evidence"], row["times_seen"]) == ("older", {"age_s": 7}, 2)
    assert [row[name].replace(tzinfo=UTC) for name in ("first_seen", "last_seen")] == [NOW, later]
    assert changes(engine) == [(row["id"], "opened")]


@pytest.mark.parametrize("other", [{"forecast": "cars"}, {"kind": "expired"}, {"subject": "data"}])
def test_another_forecast_kind_or_subject_is_another_alert(engine: sa.Engine, other: dict[str, str]) -> None:
    assert seen(engine) is True
    assert seen(engine, **other) is True
    assert len(rows(engine, alerts)) == 2


def test_an_alert_becomes_worse_once_and_never_better(engine: sa.Engine) -> None:
    for severity in (Severity.WARNING, Severity.CRITICAL, Severity.CRITICAL, Severity.WARNING):
        seen(engine, severity)
    (row,) = rows(engine, alerts)
    assert (row["severity"], row["times_seen"]) == ("critical", 4)
    assert changes(engine) == [(row["id"], "opened"), (row["id"], "worse")]


def test_what_is_over_is_resolved_once_and_comes_again_as_another(engine: sa.Engine) -> None:
    assert resolve_alert(engine, **STALE) is False
    seen(engine)
    assert resolve_alert(engine, **STALE, now=NOW) is True
    assert resolve_alert(engine, **STALE) is False
    assert seen(engine) is True
    first, second = rows(engine, alerts)
    assert first["resolved_at"].replace(tzinfo=UTC) == NOW
    assert second["resolved_at"] is None
    assert changes(engine) == [(first["id"], "opened"), (first["id"], "resolved"), (second["id"], "opened")]


def test_a_long_subject_is_cut_and_found_again(engine: sa.Engine) -> None:
    assert seen(engine, subject="x" * 300) is True
    assert seen(engine, subject="x" * 300) is False
    assert resolve_alert(engine, **STALE | {"subject": "x" * 300}) is True


RAISING = """
import sys
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.tables import open_database

engine = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
new = over = 0
for number in range(20):
    severity = Severity.CRITICAL if number % 3 == 1 else Severity.WARNING
    new += raise_alert(engine, forecast="vans", kind="stale", severity=severity, message="m")
    if number % 5 == 4:
        over += resolve_alert(engine, forecast="vans", kind="stale")
print(new, over)
"""


def test_two_processes_that_see_the_same_make_one_alert_at_a_time(engine: sa.Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", RAISING, url]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120)[0] for process in processes]
    counts = [tuple(map(int, end.split())) for end in ends]
    opened, resolved = (sum(numbers) for numbers in zip(*counts, strict=True))
    found = rows(engine, alerts)
    assert len(found) == opened  # each raised for new is one row, and each row was raised for new once
    assert sum(row["resolved_at"] is not None for row in found) == resolved
    assert sum(row["times_seen"] for row in found) == 40
    queued = changes(engine)
    assert len(queued) == len(set(queued))
    assert [queued.count((row["id"], "opened")) for row in found] == [1] * opened
    assert sum(change == "resolved" for _, change in queued) == resolved
