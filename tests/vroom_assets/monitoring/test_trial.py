"""A version that is tried is judged against the champion on the same requests, whichever of the two has answered them."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.support.bundles import FORECAST
from tests.support.succession import predictions, promote, try_beside, with_error
from vroom_api.contract import BundleError, TrialRole, read_pointer
from vroom_api.contract.checks import Status
from vroom_api.contract.tables import open_database, shadow_predictions
from vroom_api.contract.trials import TrialVerdict
from vroom_assets.monitoring.trial import TrialFinding, check_of, judge, pair_of, shadow_values


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "home"))


def tried(scale: float, champion: float = 1.0, **given):
    """Version 1, whose model says `champion` times what is true, with version 2 beside it."""
    promote(1, champion, **given)
    return pair_of(FORECAST, try_beside(2, scale))


def answers(rows: int, champion: float, second: float, **given) -> pd.DataFrame:
    """Half of the requests were answered by each."""
    found = predictions(rows, 1, champion, days=3.0, **given)
    mine = np.arange(rows) % 2 == 1
    found.loc[mine, "version"] = 2
    found.loc[mine, "prediction"] *= second / champion
    return found


def test_a_version_that_is_worse_is_called_so_by_the_requests_of_both(spec):
    found = judge(spec, tried(1.5), answers(800, 1.0, 1.5))
    assert (found.verdict, found.rows) == (TrialVerdict.WORSE, 800)
    assert found.numbers["loss"] > found.numbers["champion_loss"]
    assert found.numbers["worse_evidence"] >= found.numbers["evidence_needed"] == pytest.approx(math.log(40))
    assert "version 2 beside version 1: worse; mean loss" in found.sentence
    assert "on the same 800 requests" in found.sentence


def test_a_version_that_is_better_is_called_so(spec):
    found = judge(spec, tried(1.0, champion=1.5), answers(800, 1.5, 1.0))
    assert found.verdict is TrialVerdict.BETTER
    assert found.numbers["relative_loss"] < 0


def test_equals_stay_undecided(spec):
    found = judge(spec, tried(1.0), answers(800, 1.0, 1.0))
    assert found.verdict is TrialVerdict.OPEN
    assert found.numbers["relative_loss"] == pytest.approx(0.0, abs=1e-12)


def test_a_loss_within_the_margin_is_tolerated(spec):
    found = judge(spec, tried(1.2, **with_error(100.0)), answers(800, 1.0, 1.2))
    assert found.verdict is TrialVerdict.OPEN
    assert 0 < found.numbers["loss"] - found.numbers["champion_loss"] < found.numbers["tolerated"]


def test_it_does_not_matter_who_has_answered(spec):
    pair = tried(1.5)
    rows = answers(400, 1.0, 1.5)
    by_champion = predictions(400, 1, 1.0, days=3.0)
    one, other = judge(spec, pair, rows), judge(spec, pair, by_champion)
    assert one.numbers == pytest.approx(other.numbers, rel=1e-9)


def test_what_was_answered_in_shadow_is_taken_as_it_was(spec):
    promote(1)
    pair = pair_of(FORECAST, try_beside(2, 1.0, TrialRole.SHADOW, 1.0))
    rows = predictions(400, 1, 1.0, days=3.0)
    far = {identifier: 2.0 * value for identifier, value in zip(rows["id"], rows["prediction"], strict=True)}
    assert judge(spec, pair, rows, far).verdict is TrialVerdict.WORSE
    assert judge(spec, pair, rows).verdict is TrialVerdict.OPEN


def test_requests_of_before_the_trial_and_of_other_versions_do_not_count(spec):
    pair = tried(1.5)
    rows = answers(40, 1.0, 1.5)
    rows.loc[:9, "time"] -= pd.Timedelta(days=10)
    rows.loc[10:19, "version"] = 7
    rows.loc[20:24, "exposure"] = 0.5
    assert judge(spec, pair, rows).rows == 15


def test_without_outcomes_nothing_is_known(spec):
    found = judge(spec, tried(1.5), answers(20, 1.0, 1.5)[:0])
    assert (found.verdict, found.rows) == (TrialVerdict.OPEN, 0)
    assert "no outcome is known yet" in found.sentence


def test_a_finding_is_a_check_of_the_version_that_is_tried(spec):
    pair = tried(1.5)
    until = pair.since + pd.Timedelta(days=1)
    check = check_of(FORECAST, pair, TrialFinding(TrialVerdict.WORSE, "worse", 4, {"rows": 4.0}), until)
    assert (check.version, check.name, check.status, check.rows) == (2, "trial", Status.ALARM, 4)
    assert (check.window_start, check.window_end) == (pair.since, until)


def test_a_damaged_version_is_not_judged(spec, tmp_path):
    pair = tried(1.5)
    (tmp_path / "home" / FORECAST / "champions" / "2" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError):
        pair_of(FORECAST, pair.pointer)
    promote(3)
    with pytest.raises(ValueError, match="no version is tried"):
        pair_of(FORECAST, read_pointer(FORECAST))


def test_what_is_in_shadow_is_read_by_the_ids_of_predictions(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    ids = [f"{number:036d}" for number in range(1500)]
    with engine.begin() as connection:
        connection.execute(
            shadow_predictions.insert(),
            [
                {"id": one, "version": version, "forecast": FORECAST, "value": version, "low": 0, "high": 9}
                for one in ids
                for version in (2, 3)
            ],
        )
    found = shadow_values(engine, 3, [*ids, "unknown"])
    assert found == dict.fromkeys(ids, 3.0)
    engine.dispose()
