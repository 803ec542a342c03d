"""Checks of the monitoring: entered once for a window."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support import databases
from vroom_api.contract.checks import Check, Status, enter_checks
from vroom_api.contract.tables import checks, open_database

START = datetime(2026, 3, 1, tzinfo=UTC)


def check(**changed: object) -> Check:
    values = {
        "forecast": "f",
        "version": 3,
        "name": "error",
        "window_start": START,
        "window_end": START + timedelta(days=1),
        "rows": 240,
        "status": Status.ALARM,
        "values": {"error": 3.5},
        "message": "The error is 3.5.",
    }
    return Check(**(values | changed))


@pytest.mark.parametrize("kind", databases.KINDS)
def test_a_check_of_a_window_is_entered_once(kind: str, tmp_path: Path) -> None:
    with databases.empty(kind, tmp_path) as url:
        engine = open_database(url)
        with engine.begin() as connection:
            assert enter_checks(connection, [check(), check(subject="eu")]) == 2
        with engine.begin() as connection:
            again = enter_checks(connection, [check(status=Status.OK), check(version=4)])
        with engine.connect() as connection:
            found = connection.execute(sa.select(checks).order_by(checks.c.id)).all()
        engine.dispose()
    assert again == 1
    assert [(row.version, row.subject, row.status) for row in found] == [
        (3, "", "alarm"),
        (3, "eu", "alarm"),
        (4, "", "alarm"),
    ]
    assert found[0].values == {"error": 3.5}
