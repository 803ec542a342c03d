"""A correction is proposed where outcomes ask for one, and only there."""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import input_field, manifest_of
from vroom_api.contract import Calibration, Fallback, Kind, Manifest, Recipe, Reliability
from vroom_api.contract.calibrations import CalibrationRevision, Correction
from vroom_assets.monitoring.recalibration import (
    LEVEL,
    Feedback,
    InUse,
    Proposal,
    feedback_of,
    propose,
)
from vroom_assets.spec.monitoring import Monitoring

RULES = Monitoring()
GRID = np.linspace(0.005, 0.995, 199)


def normal(**given: Any) -> Manifest:
    """Predictions whose errors are normal, with a standard deviation of 2."""
    quantiles = np.quantile(np.random.default_rng(0).normal(0, 2.0, 200_000), GRID)
    calibration = Calibration(
        power=0.0,
        probabilities=GRID.tolist(),
        quantiles=quantiles.tolist(),
        integer=False,
        minimum=None,
        coverage={"overall": 0.9},
    )
    return manifest_of([input_field("price", 0, 1)], calibration=calibration, kind=Kind.REGRESSION, **given)


def shares() -> Manifest:
    calibration = Calibration(
        power=0.0,
        probabilities=[],
        quantiles=[],
        integer=False,
        minimum=0.0,
        coverage={},
        reliability=Reliability(edges=[0.5], rows=[500, 500], yes=[125.0, 375.0], predicted=[0.25, 0.75]),
    )
    return manifest_of([input_field("price", 0, 1)], calibration=calibration, kind=Kind.BINARY)


def rows_of(prediction: np.ndarray, outcome: np.ndarray, **columns: Any) -> pd.DataFrame:
    arrived = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(len(outcome)), unit="min")
    return pd.DataFrame({"prediction": prediction, "outcome": outcome, "outcome_at": arrived, **columns})


def numbers(rows: int, *, sd: float = 2.0, shift: float = 0.0, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    prediction = rng.uniform(10, 50, rows)
    return rows_of(prediction, prediction + rng.normal(shift, sd, rows))


def answers(rows: int, *, intercept: float = 0.0, slope: float = 1.0, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.2, rows)
    yes = rng.random(rows) < 1 / (1 + np.exp(-(intercept + slope * logit)))
    return rows_of(1 / (1 + np.exp(-logit)), yes.astype(float))


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    whole = pd.concat(parts, ignore_index=True)
    return rows_of(whole["prediction"].to_numpy(), whole["outcome"].to_numpy())


def proposed(manifest: Manifest, rows: pd.DataFrame, in_use: InUse | None = None) -> Proposal:
    return propose(manifest, RULES, feedback_of(manifest, rows), in_use or InUse())


def in_use_of(proposal: Proposal) -> InUse:
    assert proposal.correction is not None
    return InUse(proposal.correction, proposal.outcomes, proposal.since, proposal.until, refined=True)


@pytest.mark.parametrize("seed", range(5))
def test_what_agrees_with_its_outcomes_is_left_alone(seed: int) -> None:
    found = proposed(normal(), numbers(4000, seed=seed))
    assert found.correction is None
    assert found.sentence == "outcomes agree with the calibration in force"
    assert proposed(shares(), answers(4000, seed=seed)).correction is None


@pytest.mark.parametrize(("sd", "factor"), [(3.0, 1.5), (4 / 3, 2 / 3)])
def test_intervals_of_a_wrong_width_get_the_right_one(sd: float, factor: float) -> None:
    manifest = normal()
    found = proposed(manifest, joined(numbers(1000), numbers(2500, sd=sd, seed=2)))
    assert found.correction is not None
    assert found.correction.lower == pytest.approx(factor, rel=0.12)
    assert found.correction.upper == pytest.approx(factor, rel=0.12)
    fresh = numbers(20_000, sd=sd, seed=3)
    low, high = found.correction.calibration(manifest.calibration).bounds(
        fresh["prediction"].to_numpy(), LEVEL
    )
    assert ((low <= fresh["outcome"]) & (fresh["outcome"] <= high)).mean() == pytest.approx(0.9, abs=0.025)
    assert found.outcomes == pytest.approx(2500, abs=150)
    assert f"of {found.outcomes} outcomes since 2026-01-01T1" in found.sentence


def test_a_shift_is_followed_on_the_side_where_it_misses() -> None:
    found = proposed(normal(), numbers(2500, shift=2.0))
    assert found.correction is not None
    assert found.correction.upper > 1.4
    assert found.correction.lower < 0.6


def test_probabilities_that_are_off_are_put_right() -> None:
    found = proposed(shares(), joined(answers(1000), answers(3000, intercept=0.8, slope=0.7, seed=2)))
    assert found.correction is not None
    assert found.correction.intercept == pytest.approx(0.8, abs=0.2)
    assert found.correction.slope == pytest.approx(0.7, abs=0.2)
    assert "were a yes where" in found.sentence


def test_few_outcomes_are_waited_for() -> None:
    found = proposed(normal(), numbers(80, sd=8.0))
    assert found.correction is None
    assert "100 outcomes are waited for, 80 are there" in found.sentence


def test_it_is_made_again_when_outcomes_have_doubled_and_not_before() -> None:
    manifest, rows = normal(), numbers(4000, sd=3.0)
    first = proposed(manifest, rows[:150])
    in_use = in_use_of(first)
    assert first.outcomes == 150
    # Of a first correction by few outcomes, made worse on purpose, the next one is better.
    off = InUse(Correction(lower=1.9, upper=1.9), 150, in_use.since, in_use.until, refined=True)
    assert proposed(manifest, rows[:250], off).correction is None
    again = proposed(manifest, rows[:600], off)
    assert again.correction is not None
    assert again.correction.upper == pytest.approx(1.5, rel=0.15)


def test_what_would_hardly_be_noticed_is_not_proposed() -> None:
    manifest, rows = normal(), numbers(4000, sd=3.0)
    in_use = in_use_of(proposed(manifest, rows[:2000]))
    found = proposed(manifest, rows, in_use)
    assert found.correction is None


def test_a_change_back_is_a_change() -> None:
    manifest = normal()
    rows = joined(numbers(1500, sd=3.0), numbers(3000, seed=2))
    in_use = in_use_of(proposed(manifest, rows[:1500]))
    found = proposed(manifest, rows, in_use)
    assert found.correction is not None
    assert found.correction.upper == pytest.approx(1.0, rel=0.1)


def test_after_somebody_went_back_only_later_outcomes_count() -> None:
    manifest, rows = normal(), numbers(2000, sd=3.0)
    assert proposed(manifest, rows).correction is not None
    at = str(rows["outcome_at"].iloc[-50].tz_localize("UTC").isoformat())
    assert proposed(manifest, rows, InUse.of(None, at)).correction is None
    at = str(rows["outcome_at"].iloc[500].tz_localize("UTC").isoformat())
    later = proposed(manifest, rows, InUse.of(None, at))
    assert later.correction is not None
    assert later.outcomes < 1500


def test_the_probability_of_the_model_counts_and_not_what_was_answered() -> None:
    manifest, rows = shares(), answers(2000, intercept=0.8)
    revision = CalibrationRevision(
        number=3,
        version=1,
        model_sha256="",
        made_at="",
        reason="",
        outcomes=0,
        since="",
        until="",
        intercept=0.8,
    )
    model = rows["prediction"].to_numpy()
    half = np.arange(2000) >= 1000
    answered = np.where(half, revision.probabilities(model), model)
    given = rows.assign(prediction=answered, calibration=np.where(half, 3.0, np.nan))
    found = feedback_of(manifest, given, {3: revision})
    np.testing.assert_allclose(found.prediction, model, rtol=1e-9)


def test_only_whole_outcomes_count_in_the_order_in_which_they_arrived() -> None:
    rows = numbers(4).assign(exposure=[1.0, 0.5, 1.0, np.nan])
    rows.loc[0, "outcome_at"] = pd.Timestamp("2026-02-01")
    found = feedback_of(normal(), rows)
    assert found.outcome.tolist() == [rows["outcome"][2], rows["outcome"][0]]
    assert len(feedback_of(normal(), rows.iloc[:0])) == 0
    assert propose(normal(), RULES, feedback_of(normal(), rows.iloc[:0]), InUse()).correction is None


def test_rows_of_the_fallback_are_measured_by_its_own_intervals() -> None:
    plain = normal()
    wide = Correction(lower=3.0, upper=3.0).calibration(plain.calibration)
    recipe = Recipe(name="simple", family="tiny", features=[], definition={})
    fallback = Fallback(without=["price"], description="", recipe=recipe, calibration=wide, error=1.0)
    manifest = msgspec.structs.replace(plain, fallback=fallback)
    rows = numbers(4).assign(input_price=[1.0, np.nan, 1.0, np.nan])
    widths = feedback_of(manifest, rows).half_widths
    np.testing.assert_allclose(widths[[1, 3]], 3 * widths[[0, 2]])
    assert isinstance(feedback_of(manifest, rows), Feedback)
