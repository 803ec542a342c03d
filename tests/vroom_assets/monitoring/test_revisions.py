"""From outcomes to a revision that is published, and back."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.calibrations import correct
from tests.support.forecasts import entries
from tests.support.service import settings_of, wait_for
from vroom_api.app import create_app
from vroom_api.contract import Calibration, Kind, forecast_folder
from vroom_api.contract.calibrations import IN_FORCE, numbered, read_in_force
from vroom_api.contract.events import Decision, Event, Recalibrated, evidence_of
from vroom_api.contract.tables import serving_database
from vroom_assets.forecast import Forecast
from vroom_assets.monitoring import feedback, record
from vroom_assets.monitoring.revisions import (
    NotReverted,
    Recalibration,
    follow_outcomes,
    go_back,
    recalibrate,
)
from vroom_assets.monitoring.warehouse import prepare
from vroom_assets.spec.monitoring import Monitoring

GRID = np.linspace(0.005, 0.995, 199)
NORMAL = Calibration(
    power=0.0,
    probabilities=GRID.tolist(),
    quantiles=np.quantile(np.random.default_rng(0).normal(0, 2.0, 100_000), GRID).tolist(),
    integer=False,
    minimum=None,
    coverage={"overall": 0.9},
)


@pytest.fixture
def served(home: Path) -> Path:
    """A home in which version 1 serves, with errors of a standard deviation of 2."""
    publish(home, 1, kind=Kind.REGRESSION, calibration=NORMAL)
    return home


def rows(sd: float, count: int = 600, begins: str = "2026-01-01", **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    prediction = rng.uniform(10, 50, count)
    arrived = pd.Timestamp(begins) + pd.to_timedelta(np.arange(count), unit="min")
    outcome = prediction + rng.normal(0, sd, count)
    return pd.DataFrame(
        {"prediction": prediction, "outcome": outcome, "outcome_at": arrived, "version": 1, **columns}
    )


def run(fast: Forecast, given: pd.DataFrame) -> Recalibration:
    return recalibrate(fast, given, actor="test")


def test_a_revision_is_published_and_the_ledger_says_why(served: Path, fast: Forecast) -> None:
    found = run(fast, rows(sd=3.0))
    assert found.revision is not None
    assert found.revision == numbered(FORECAST, 1)
    assert found.revision.upper == pytest.approx(1.5, rel=0.2)
    (entry,) = entries(Event.CALIBRATION)
    assert entry.decision == Decision.RECALIBRATED
    assert entry.reason.startswith("calibration revision 1 of version 1: of the later half of ")
    evidence = evidence_of(Recalibrated, entry.evidence)
    assert (evidence.before, evidence.after) == (None, 1)
    assert evidence.upper == found.revision.upper
    assert evidence.numbers["coverage_after"] > evidence.numbers["coverage_before"]


def test_the_same_outcomes_are_not_counted_twice(served: Path, fast: Forecast) -> None:
    given = rows(sd=3.0)
    assert run(fast, given).revision is not None
    assert run(fast, given).revision is None
    assert len(entries(Event.CALIBRATION)) == 1


def test_healthy_outcomes_publish_nothing(served: Path, fast: Forecast) -> None:
    assert run(fast, rows(sd=2.0)).revision is None
    assert entries(Event.CALIBRATION) == []
    assert read_in_force(FORECAST) is None


def test_without_leave_it_is_proposed_and_not_published(served: Path, fast: Forecast) -> None:
    spec = fast.model_copy(update={"monitoring": Monitoring(recalibrate=False)})
    found = run(spec, rows(sd=3.0))
    assert found.proposal.correction is not None
    assert found.revision is None
    assert read_in_force(FORECAST) is None


def test_rows_of_another_version_do_not_count(served: Path, fast: Forecast) -> None:
    assert run(fast, rows(sd=3.0, version=2)).revision is None


def test_a_new_champion_begins_without_the_revision_of_the_one_before(served: Path, fast: Forecast) -> None:
    assert run(fast, rows(sd=3.0)).revision is not None
    publish(served, 2, kind=Kind.REGRESSION, calibration=NORMAL)
    found = run(fast, rows(sd=3.0, version=2))
    assert found.revision is not None
    assert (found.revision.version, found.revision.number) == (2, 2)
    assert found.revision.upper == pytest.approx(1.5, rel=0.2)


def test_where_nothing_serves_nothing_is_corrected(home: Path, fast: Forecast) -> None:
    assert "has no champion" in run(fast, rows(sd=3.0)).proposal.sentence


def test_one_goes_back_to_none_and_later_outcomes_count_anew(served: Path, fast: Forecast) -> None:
    given = rows(sd=3.0)
    assert run(fast, given).revision is not None
    pointer = go_back(FORECAST, None, "too wide for us", actor="test")
    assert pointer.number is None
    assert entries(Event.CALIBRATION)[-1].decision == Decision.REVERTED
    assert (
        entries(Event.CALIBRATION)[-1].reason
        == "no calibration revision is in force any more: too wide for us"
    )
    assert run(fast, given).revision is None
    later = pd.concat([given, rows(sd=3.0, begins="2199-01-01")])
    again = run(fast, later).revision
    assert again is not None
    assert again.number == 2
    assert go_back(FORECAST, 1, "the first was better", actor="test").number == 1


def test_one_does_not_go_back_to_what_is_of_another_model(served: Path, fast: Forecast) -> None:
    correct(served, FORECAST, upper=1.5)
    publish(served, 2, kind=Kind.REGRESSION, calibration=NORMAL)
    with pytest.raises(NotReverted, match="revision 1 is of another model than version 2; its own are none"):
        go_back(FORECAST, 1, "", actor="test")
    with pytest.raises(NotReverted, match="there is no calibration revision 7"):
        go_back(FORECAST, 7, "", actor="test")


def test_what_is_damaged_says_how_to_go_on_and_is_replaced(served: Path, fast: Forecast) -> None:
    assert run(fast, rows(sd=3.0)).revision is not None
    path = forecast_folder(FORECAST) / IN_FORCE
    path.write_bytes(path.read_bytes()[:20])
    found = run(fast, rows(sd=3.0))
    assert found.revision is None
    assert "go back to a revision or to none by the job reservations_recalibrate" in found.proposal.sentence
    assert go_back(FORECAST, 1, "the pointer was damaged", actor="test").number == 1


@pytest.fixture
def warehouse(served: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(served / "warehouse.duckdb") as connection:
        prepare(connection)
        yield connection


def follow(spec: Forecast, warehouse: duckdb.DuckDBPyConnection) -> Recalibration:
    """What the monitoring does when a window has closed."""
    now = datetime.now(UTC)
    with serving_database() as engine:
        record.copy_predictions(warehouse, engine, spec.name, now)
        record.copy_outcomes(warehouse, engine, spec.name, now)
    feedback.join(warehouse, spec, now)
    return follow_outcomes(spec, warehouse, actor="test")


def test_outcomes_over_http_correct_the_answers_of_a_running_service(
    served: Path, fast: Forecast, warehouse: duckdb.DuckDBPyConnection
) -> None:
    rng = np.random.default_rng(3)
    with TestClient(create_app(settings_of(served, record=True))) as client:
        listings = [EXAMPLE | {"actual_price": float(price)} for price in rng.uniform(30, 90, 300)]
        answers = client.post("/predict/batch", json=listings).json()
        reports = [
            {
                "prediction_id": answer["prediction_id"],
                "value": answer["predicted_reservations"] + error,
                "observed_at": "2026-01-01T00:00:00Z",
            }
            for answer, error in zip(answers, rng.normal(0, 3.0, 300), strict=True)
        ]
        for start in range(0, 300, 100):
            assert client.post("/outcomes", json=reports[start : start + 100]).is_success
        found = follow(fast, warehouse)
        assert found.revision is not None
        wait_for(lambda: client.post("/predict", json=EXAMPLE).json()["calibration"] == 1)
        plain, corrected = answers[0]["interval"], client.post("/predict", json=listings[0]).json()
        wider = corrected["interval"]["high"] - corrected["interval"]["low"]
        assert wider / (plain["high"] - plain["low"]) == pytest.approx(1.5, rel=0.2)
        lineage = client.get(f"/predictions/{corrected['prediction_id']}").json()
        assert lineage["verified"], lineage["failed"]
        assert client.get("/ledger").text.count("calibration revision 1 of version 1") >= 1


def test_what_was_predicted_of_one_entity_twice_has_one_outcome(
    served: Path, fast: Forecast, warehouse: duckdb.DuckDBPyConnection
) -> None:
    with TestClient(create_app(settings_of(served, record=True))) as client:
        for price in (40.0, 45.0):
            body = EXAMPLE | {"entity_id": "7", "actual_price": price}
            identifier = client.post("/predict", json=body).json()["prediction_id"]
            report = {"prediction_id": identifier, "value": 3.0, "observed_at": "2026-01-01T00:00:00Z"}
            assert client.post("/outcomes", json=[report]).is_success
    found = follow(fast, warehouse)
    assert found.proposal.numbers["outcomes"] == 1
    publish(served, 2, scale=1.0, kind=Kind.REGRESSION, calibration=NORMAL, title="In other words")
    assert follow(fast, warehouse).proposal.numbers["outcomes"] == 1
    publish(served, 3, scale=2.0, kind=Kind.REGRESSION, calibration=NORMAL)
    assert follow(fast, warehouse).proposal.numbers["outcomes"] == 0
