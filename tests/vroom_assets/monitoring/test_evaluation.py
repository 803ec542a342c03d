"""The verdict, with its sentence and its checks: of each kind of target, of each thing that can be wrong, and of next to nothing."""

from collections import Counter

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.support.monitored import (
    Champion,
    draw,
    features_of,
    manifest_with_reference,
    trained,
    window,
    windows,
)
from tests.support.tiny import changed
from vroom_api.contract import Kind
from vroom_api.contract.checks import Status
from vroom_assets.monitoring.evaluation import Evaluation, Verdict, evaluate
from vroom_assets.spec import Monitoring

RULES = Monitoring()


@pytest.fixture(scope="module")
def champion():
    return trained(1000, np.random.default_rng(0))


def priced(factor):
    return lambda rows, rng: rows | {"actual_price": rows["actual_price"] * factor}


def parked(rows, rng):
    return rows | {"street_parked": (rng.random(len(rows["street_parked"])) < 0.9).astype(int)}


def judged(champion, summaries, rules=RULES) -> Evaluation:
    return evaluate(champion.manifest, rules, summaries)


def by_status(found: Evaluation) -> Counter:
    return Counter(check.status for check in found.checks)


def test_a_healthy_champion_is_healthy_with_all_its_checks(champion):
    found = judged(champion, windows(champion, 15, 100, np.random.default_rng(1)))
    assert found.verdict is Verdict.HEALTHY
    assert not found.harmful
    assert found.damage == 0.0
    assert found.sentence.startswith("Nothing is wrong in 1,500 predictions and 1,500 outcomes.")
    names = {check.name for check in found.checks}
    assert names == {"drift", "error", "bias", "coverage", "calibration", "estimate"}
    assert by_status(found)[Status.ALARM] == 0
    assert {check.subject for check in found.checks if check.name == "drift"} == {
        *(field.name for field in champion.manifest.features),
        "prediction",
    }


def test_dearer_cars_are_data_drift_and_cost_nothing(champion):
    found = judged(champion, windows(champion, 10, 200, np.random.default_rng(2), change=priced(1.1)))
    assert found.verdict is Verdict.DATA_DRIFT
    assert not found.harmful
    assert "log_price_ratio" in found.sentence
    assert found.sentence.endswith("That costs too little for a training.")


def test_cheaper_cars_are_data_drift_that_does_damage(champion):
    found = judged(
        champion,
        windows(champion, 10, 200, np.random.default_rng(3), change=priced(0.85), with_outcomes=False),
    )
    assert found.verdict is Verdict.DATA_DRIFT
    assert found.harmful
    assert found.damage is not None
    assert found.damage > RULES.damage
    assert found.sentence.endswith("A training on newer data is called for.")


def test_realised_errors_that_inputs_explain_stay_data_drift(champion):
    found = judged(champion, windows(champion, 30, 200, np.random.default_rng(4), change=priced(0.85)))
    assert found.verdict is Verdict.DATA_DRIFT


def test_harmless_drift_calls_for_no_training(champion):
    found = judged(champion, windows(champion, 20, 200, np.random.default_rng(5), change=parked))
    assert found.verdict is Verdict.DATA_DRIFT
    assert not found.harmful
    assert found.damage is not None
    assert abs(found.damage) < RULES.damage


@pytest.mark.parametrize("demand", [0.7, 1.3])
def test_another_demand_of_the_same_cars_is_concept_drift(champion, demand):
    found = judged(champion, windows(champion, 10, 200, np.random.default_rng(6), demand=demand))
    assert found.verdict is Verdict.CONCEPT_DRIFT
    assert found.harmful
    assert "Inputs are as in training, outcomes are not." in found.sentence
    assert ("above" if demand > 1 else "below") + " predictions by" in found.sentence


def test_another_demand_of_other_cars_is_concept_drift_too(champion):
    found = judged(
        champion, windows(champion, 10, 200, np.random.default_rng(7), change=priced(1.1), demand=1.4)
    )
    assert found.verdict is Verdict.CONCEPT_DRIFT
    assert "Other than in training: " in found.sentence


def narrower(champion: Champion, days: int, seed: int, rows: int = 200) -> list:
    found = []
    for day in range(days):
        live = draw(rows, np.random.default_rng([seed, day]))
        served = champion.served(features_of(live), np.asarray(live["reservations"], float))
        served["low"] = served["prediction"] - (served["prediction"] - served["low"]) / 2
        served["high"] = served["prediction"] + (served["high"] - served["prediction"]) / 2
        found.append(window(champion.manifest, RULES, day, served, served))
    return found


def test_intervals_that_are_too_narrow_are_miscalibrated_and_need_no_training(champion):
    found = judged(champion, narrower(champion, 5, 8))
    assert found.verdict is Verdict.MISCALIBRATED
    assert not found.harmful
    assert "coverage by" in found.sentence


def test_a_segment_that_went_wrong_is_named():
    rng = np.random.default_rng(9)
    tags = pd.DataFrame({"city": rng.choice(["here", "there"], 2000, p=[0.3, 0.7])})
    champion = trained(2000, rng, tags=tags)
    rules = RULES.model_copy(update={"segments": ["city"]})
    summaries = []
    for day in range(15):
        live = draw(400, rng)
        city = rng.choice(["here", "there"], 400, p=[0.3, 0.7])
        outcome = np.asarray(live["reservations"], float)
        outcome = np.where(city == "here", rng.permutation(outcome) * 1.5, outcome)
        served = champion.served(features_of(live), outcome, tag_city=city)
        summaries.append(window(champion.manifest, rules, day, served, served))
    found = judged(champion, summaries, rules)
    assert found.verdict is Verdict.CONCEPT_DRIFT
    alarms = {
        check.subject for check in found.checks if check.status is Status.ALARM and check.name == "error"
    }
    assert "city=here" in alarms
    assert "city=there" not in alarms
    assert "city=here" in found.sentence


@pytest.mark.parametrize(("day_rows", "verdict"), [(10, Verdict.NOT_ENOUGH_DATA), (40, Verdict.HEALTHY)])
def test_few_rows_are_not_enough_for_a_verdict(champion, day_rows, verdict):
    found = judged(champion, windows(champion, 6, day_rows, np.random.default_rng(10)))
    assert found.verdict is verdict
    if verdict is Verdict.NOT_ENOUGH_DATA:
        assert "60 predictions and 60 outcomes" in found.sentence
        assert by_status(found)[Status.ALARM] == by_status(found)[Status.WARNING] == 0


def test_without_a_reference_a_retraining_is_named_as_the_remedy(champion):
    summaries = windows(champion, 2, 200, np.random.default_rng(11))
    found = evaluate(changed(champion.manifest, monitoring=None), RULES, summaries)
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert found.sentence == (
        "Version 3 was trained before its reference for monitoring was kept: a retraining adds it."
    )


def test_without_a_window_there_is_no_verdict(champion):
    assert judged(champion, []).verdict is Verdict.NOT_ENOUGH_DATA


def test_windows_in_which_nothing_happened_change_nothing(champion):
    rng = np.random.default_rng(12)
    full = windows(champion, 5, 100, rng)
    none = windows(champion, 5, 0, rng, first=5)
    found = judged(champion, full + none)
    assert found.verdict is Verdict.HEALTHY
    assert judged(champion, none).verdict is Verdict.NOT_ENOUGH_DATA


def test_drift_is_judged_before_any_outcome(champion):
    found = judged(
        champion,
        windows(champion, 5, 100, np.random.default_rng(13), change=priced(1.2), with_outcomes=False),
    )
    assert found.verdict is Verdict.DATA_DRIFT
    assert {check.status for check in found.checks if check.name == "error"} == {Status.UNKNOWN}


def test_rows_outside_the_range_of_training_leave_the_damage_unknown(champion):
    found = judged(champion, windows(champion, 5, 100, np.random.default_rng(14), change=priced(1.7)))
    assert found.damage is None
    assert "outside the range of training" in found.sentence


def test_partial_horizons_warn_and_never_alarm(champion):
    rng = np.random.default_rng(15)
    live = draw(300, rng, demand=2.0)
    outcome = np.floor(np.asarray(live["reservations"], float) / 2)
    served = champion.served(features_of(live), outcome, exposure=0.5)
    found = judged(champion, [window(champion.manifest, RULES, 0, served, served)])
    early = next(check for check in found.checks if check.subject == "partial horizons")
    assert early.status is Status.WARNING
    assert "above predictions × share of the horizon" in early.message
    assert found.verdict is Verdict.HEALTHY


def test_a_changed_threshold_holds_for_windows_of_the_past(champion):
    summaries = windows(champion, 10, 200, np.random.default_rng(16), demand=1.3)
    tolerant = RULES.model_copy(update={"growth": 1.0, "bias": 0.9, "coverage": 0.45})
    assert judged(champion, summaries).verdict is Verdict.CONCEPT_DRIFT
    assert judged(champion, summaries, tolerant).verdict is Verdict.HEALTHY


def test_an_evaluation_does_not_depend_on_the_order_of_summaries(champion):
    summaries = windows(champion, 6, 60, np.random.default_rng(17))
    assert judged(champion, summaries) == judged(champion, summaries[::-1])


def test_checks_and_numbers_go_to_json(champion):
    found = judged(champion, windows(champion, 3, 100, np.random.default_rng(18)))
    assert msgspec.json.encode(list(found.checks))
    written = msgspec.json.decode(msgspec.json.encode(found.numbers))
    assert all(isinstance(value, float) for value in written.values())
    assert {"error", "estimate", "estimate_low", "estimate_high", "largest_distance"} <= set(written)


def synthetic(kind: Kind, rows: int, rng: np.random.Generator, shift: float = 0.0):
    """A frame of one feature, the prediction of its mean, and outcomes whose law is shifted."""
    features = pd.DataFrame({"x": rng.normal(size=rows)})
    mean = np.exp(0.5 * features["x"].to_numpy())
    if kind is Kind.BINARY:
        prediction = mean**3 / (1 + mean**3)
        yes = 1 / (1 + np.exp(-(np.log(prediction / (1 - prediction)) + shift)))
        return features, (rng.random(rows) < yes).astype(float), prediction
    noise = rng.normal(scale=0.5, size=rows)
    return features, mean + noise + shift, mean


@pytest.mark.parametrize("kind", [Kind.REGRESSION, Kind.BINARY])
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_regressions_and_probabilities_are_watched_alike(kind, shift):
    rng = np.random.default_rng(19)
    features, target, prediction = synthetic(kind, 1500, rng)
    manifest = manifest_with_reference(features, target, prediction, np.arange(1500) % 5, kind)
    summaries = []
    for day in range(15):
        live, outcome, predicted = synthetic(kind, 200, rng, shift)
        low, high = manifest.calibration.bounds(predicted, 0.9)
        frame = live.assign(
            prediction=predicted, outcome=outcome, exposure=1.0, low=low, high=high, level=0.9
        )
        summaries.append(window(manifest, RULES, day, frame, frame))
    found = evaluate(manifest, RULES, summaries)
    assert found.verdict is (Verdict.CONCEPT_DRIFT if shift else Verdict.HEALTHY)
    checks = {check.name for check in found.checks}
    assert ("coverage" in checks) is (kind is Kind.REGRESSION)
    assert "calibration" in checks


def test_probabilities_that_are_too_sure_are_miscalibrated():
    rng = np.random.default_rng(20)
    features, target, prediction = synthetic(Kind.BINARY, 3000, rng)
    manifest = manifest_with_reference(features, target, prediction, np.arange(3000) % 5, Kind.BINARY)
    summaries = []
    for day in range(20):
        live, _, predicted = synthetic(Kind.BINARY, 400, rng)
        odds = np.log(predicted / (1 - predicted))
        outcome = (rng.random(400) < 1 / (1 + np.exp(-odds * 0.5))).astype(float)
        frame = live.assign(
            prediction=predicted, outcome=outcome, exposure=1.0, low=np.nan, high=np.nan, level=np.nan
        )
        summaries.append(window(manifest, RULES, day, frame, frame))
    found = evaluate(manifest, RULES.model_copy(update={"growth": 0.5}), summaries)
    assert {check.name for check in found.checks if check.status is Status.ALARM} == {"calibration"}


def test_constant_features_and_targets_are_nothing_to_worry_about():
    features = pd.DataFrame({"x": np.ones(300), "y": np.zeros(300)})
    manifest = manifest_with_reference(
        features, np.full(300, 4.0), np.full(300, 4.0), np.arange(300) % 5, Kind.COUNT
    )
    frame = features.assign(prediction=4.0, outcome=4.0, exposure=1.0, low=4.0, high=4.0, level=0.9)
    found = evaluate(manifest, RULES, [window(manifest, RULES, day, frame, frame) for day in range(5)])
    assert found.verdict is Verdict.HEALTHY
    assert all(np.isfinite(list(check.values.values())).all() for check in found.checks)


def test_a_feature_that_is_missing_everywhere_is_drift(champion):
    summaries = []
    for day in range(4):
        live = draw(200, np.random.default_rng([21, day]))
        frame = champion.served(features_of(live), np.asarray(live["reservations"], float))
        frame["description"] = np.nan
        summaries.append(window(champion.manifest, RULES, day, frame, frame))
    found = judged(champion, summaries)
    assert found.verdict is Verdict.DATA_DRIFT
    assert not found.harmful
    drifted = {check.subject: check for check in found.checks if check.status is Status.ALARM}
    assert drifted["description"].values["missing"] == 1.0


def test_rows_of_few_groups_are_judged_with_the_doubt_that_few_groups_leave():
    """Laps of twelve circuits: each circuit is other than the mean of all, and nothing is wrong."""
    rng = np.random.default_rng(22)
    level = rng.normal(size=60)

    def laps(circuit: int, rows: int) -> tuple[pd.DataFrame, np.ndarray]:
        features = pd.DataFrame({"x": level[circuit] + 0.2 * rng.normal(size=rows)})
        return features, features["x"].to_numpy() + rng.normal(size=rows) * (0.5 + 0.3 * (circuit % 3))

    parts = [laps(circuit, 50) for circuit in range(12)]
    features = pd.concat([one for one, _ in parts], ignore_index=True)
    target, groups = np.concatenate([one for _, one in parts]), np.repeat(np.arange(12), 50)
    tags = pd.DataFrame({"circuit": groups.astype(str)})
    manifest = manifest_with_reference(
        features, target, features["x"].to_numpy(), groups % 4, Kind.REGRESSION,
        groups=groups, tags=tags, group="circuit",
    )  # fmt: skip
    summaries = []
    for day in range(25):
        live, outcome = laps(12 + day, 80)
        predicted = live["x"].to_numpy()
        low, high = manifest.calibration.bounds(predicted, 0.9)
        frame = live.assign(
            prediction=predicted, outcome=outcome, exposure=1.0, low=low, high=high, level=0.9,
            tag_circuit=f"new {day}",
        )  # fmt: skip
        summaries.append(window(manifest, RULES, day, frame, frame))
    found = evaluate(manifest, RULES, summaries)
    assert found.verdict is Verdict.HEALTHY
    assert all(check.rows >= RULES.least_rows for check in found.checks if check.name in ("drift", "error"))
