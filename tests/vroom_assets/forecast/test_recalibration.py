"""The job that goes back, on a Dagster instance."""

from pathlib import Path
from typing import Any

import dagster as dg

from tests.support.bundles import FORECAST, publish
from tests.support.calibrations import correct
from tests.support.forecasts import entries
from vroom_api.contract.calibrations import read_in_force
from vroom_api.contract.events import Decision, Event


def config(**given: Any) -> dict[str, Any]:
    return {"ops": {f"recalibrate_{FORECAST}": {"config": given}}}


def in_force() -> int | None:
    pointer = read_in_force(FORECAST)
    assert pointer is not None
    return pointer.number


def test_the_job_goes_back_to_none_and_to_a_number(home: Path, run: Any) -> None:
    publish(home, 1)
    correct(home, FORECAST, upper=1.5)
    correct(home, FORECAST, upper=1.6)
    assert run("recalibrate").success
    assert in_force() is None
    assert run("recalibrate", run_config=config(revision=1, reason="it was better")).success
    assert in_force() == 1
    none, first = entries(Event.CALIBRATION)
    assert none.decision == first.decision == Decision.REVERTED
    assert none.evidence["before"] == 2
    assert first.reason == "calibration revision 1 is in force again: it was better"
    assert first.actor == "job recalibrate"
    assert first.run_id


def test_what_does_not_exist_is_refused_and_entered(home: Path, run: Any) -> None:
    publish(home, 1)
    result: dg.ExecuteInProcessResult = run("recalibrate", run_config=config(revision=4))
    assert not result.success
    (entry,) = entries(Event.CALIBRATION)
    assert entry.decision == Decision.REFUSED
    assert "there is no calibration revision 4" in entry.reason
    assert entry.evidence == {"asked": 4}
