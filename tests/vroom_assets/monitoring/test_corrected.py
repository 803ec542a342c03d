"""A corrected champion is judged as it is now."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.support.bundles import FORECAST, publish
from tests.support.calibrations import correct
from tests.support.monitored import DAY0, Champion, draw, features_of, trained, window
from tests.support.tiny import changed, input_field, manifest_of
from vroom_api.contract import (
    MANIFEST,
    Calibration,
    Kind,
    Reliability,
    bundle_folder,
    forecast_folder,
    read_manifest,
)
from vroom_api.contract.calibrations import IN_FORCE, CalibrationRevision, Correction
from vroom_assets.monitoring.corrected import as_in_force, judged_as_corrected, judged_since, since_made
from vroom_assets.monitoring.evaluation import Verdict, evaluate
from vroom_assets.monitoring.recalibration import InUse, feedback_of, propose
from vroom_assets.monitoring.summary import Summary
from vroom_assets.spec import Monitoring

RULES = Monitoring()


def revision(correction: Correction, number: int = 1) -> CalibrationRevision:
    return CalibrationRevision(
        number=number,
        version=3,
        model_sha256="",
        made_at="",
        reason="",
        outcomes=800,
        since="",
        until="",
        **msgspec.structs.asdict(correction),
    )


@pytest.fixture(scope="module")
def narrow() -> Champion:
    """A champion whose intervals are half as wide as they should be."""
    champion = trained(1000, np.random.default_rng(0))
    given = champion.manifest.calibration
    quantiles = [one / 2 for one in given.quantiles]
    return replace(
        champion,
        manifest=changed(champion.manifest, calibration=msgspec.structs.replace(given, quantiles=quantiles)),
    )


def days(champion: Champion, first: int, count: int) -> list[pd.DataFrame]:
    found = []
    for day in range(first, first + count):
        live = draw(100, np.random.default_rng([5, day]))
        served = champion.served(features_of(live), np.asarray(live["reservations"], float))
        found.append(served.assign(calibration=None, outcome_at=DAY0 + timedelta(days=day)))
    return found


def test_after_a_correction_the_alarm_is_over(narrow: Champion) -> None:
    manifest, before = narrow.manifest, days(narrow, 0, 8)
    found = [window(manifest, RULES, day, rows, rows) for day, rows in enumerate(before)]
    assert evaluate(manifest, RULES, found).verdict is Verdict.MISCALIBRATED
    proposal = propose(manifest, RULES, feedback_of(manifest, pd.concat(before)), InUse())
    assert proposal.correction is not None
    made = revision(proposal.correction)
    made_at = (DAY0 + timedelta(days=8)).isoformat()
    # Outcomes that arrive later are of predictions that were answered before.
    for day, rows in enumerate(days(narrow, 8, 8), 8):
        corrected, judged = as_in_force(manifest, rows, made, {1: made})
        found.append(window(corrected, RULES, day, rows, judged))
    assert evaluate(manifest, RULES, found).verdict is Verdict.MISCALIBRATED
    assert evaluate(manifest, RULES, since_made(manifest, found, made_at)).verdict is Verdict.HEALTHY


def test_without_a_correction_nothing_changes(narrow: Champion) -> None:
    (rows,) = days(narrow, 0, 1)
    assert as_in_force(narrow.manifest, rows, None, {})[1] is rows
    summary = window(narrow.manifest, RULES, 0, rows, rows)
    assert since_made(narrow.manifest, [summary], None) == [summary]


def test_what_a_correction_does_not_change_is_kept(narrow: Champion) -> None:
    (rows,) = days(narrow, 0, 1)
    summary = window(narrow.manifest, RULES, 0, rows, rows)
    (left,) = since_made(narrow.manifest, [summary], (DAY0 + timedelta(days=1)).isoformat())
    assert isinstance(left, Summary)
    assert set(summary.counts) - set(left.counts) == {"misses", "pit"}
    assert left.observed == summary.observed
    assert since_made(narrow.manifest, [summary], DAY0.isoformat()) == [summary]


def test_what_was_answered_by_a_revision_that_was_taken_back_is_judged_by_the_bundle(
    narrow: Champion,
) -> None:
    (rows,) = days(narrow, 0, 1)
    wider = rows.assign(low=rows["low"] - 9, high=rows["high"] + 9, calibration=1)
    _, judged = as_in_force(narrow.manifest, wider, None, {})
    pd.testing.assert_series_equal(judged["low"], rows["low"])
    pd.testing.assert_series_equal(judged["high"], rows["high"])


def test_probabilities_are_those_of_what_is_in_force() -> None:
    reliability = Reliability(edges=[0.5], rows=[50, 50], yes=[12.0, 38.0], predicted=[0.25, 0.75])
    calibration = Calibration(
        power=0.0,
        probabilities=[],
        quantiles=[],
        integer=False,
        minimum=0.0,
        coverage={},
        reliability=reliability,
    )
    manifest = manifest_of([input_field("price", 0, 1)], calibration=calibration, kind=Kind.BINARY)
    first, second = revision(Correction(intercept=1.0)), revision(Correction(slope=0.5), 2)
    model = np.array([0.2, 0.6, 0.7])
    answered = np.concatenate([model[:1], first.probabilities(model[1:2]), second.probabilities(model[2:])])
    rows = pd.DataFrame(
        {
            "prediction": answered,
            "low": 0.0,
            "high": 1.0,
            "level": [0.9, 0.9, np.nan],
            "calibration": [None, 1, 2],
        }
    )
    corrected, judged = as_in_force(manifest, rows, second, {1: first, 2: second})
    np.testing.assert_allclose(judged["prediction"], second.probabilities(model))
    assert corrected.calibration == second.calibration(calibration)
    assert judged["low"][0] > 0
    assert judged["low"][2] == 0.0
    assert judged["calibration"].isna().all()


def test_the_files_of_a_forecast_say_what_is_in_force(home: Path, narrow: Champion) -> None:
    publish(home, 1, kind=Kind.COUNT, calibration=narrow.manifest.calibration)
    path = bundle_folder(FORECAST, 1) / MANIFEST
    manifest = changed(narrow.manifest, files=read_manifest(path.read_bytes(), str(path)).files)
    (rows,) = days(narrow, 0, 1)
    summary = window(manifest, RULES, 0, rows, rows)
    assert judged_as_corrected(FORECAST, manifest, rows)[1] is rows
    assert judged_since(FORECAST, manifest, [summary]) == [summary]
    correct(home, FORECAST, lower=2.0, upper=2.0)
    corrected, judged = judged_as_corrected(FORECAST, manifest, rows)
    assert (judged["high"] > rows["high"]).all()
    assert corrected.calibration != manifest.calibration
    # The day of the window is before today, when it was made.
    assert "pit" not in judged_since(FORECAST, manifest, [summary])[0].counts
    other = changed(manifest, files={"model.onnx": "of another"})
    assert judged_since(FORECAST, other, [summary]) == [summary]
    assert judged_as_corrected(FORECAST, other, rows)[0] is other
    (forecast_folder(FORECAST) / IN_FORCE).write_bytes(b"{")
    assert judged_since(FORECAST, manifest, [summary]) == [summary]
    assert judged_as_corrected(FORECAST, manifest, rows)[1] is rows
