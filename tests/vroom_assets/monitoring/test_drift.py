"""Drift of features: statistics, warnings, and alarms that need evidence and an effect."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from tests.support.monitored import DAY0, trained, windows
from vroom_assets.monitoring.budget import CALIBRATION, DRIFT, ERROR, allowance
from vroom_assets.monitoring.drift import compare, discoveries, watch
from vroom_assets.monitoring.e_processes import recent, unions
from vroom_assets.monitoring.statistics import STATISTICS, Feature, Sample, chi_squared, kolmogorov_smirnov
from vroom_assets.monitoring.statistics.jensen_shannon import distances
from vroom_assets.monitoring.statistics.population_stability import indices
from vroom_assets.monitoring.windows import stacked
from vroom_assets.spec import Monitoring

RULES = Monitoring()


@pytest.fixture(scope="module")
def champion():
    return trained(1000, np.random.default_rng(0))


def sample(*units: float) -> Sample:
    return Sample(np.array([*units, 0.0, 0.0]))


def test_statistics_apply_to_the_features_they_are_for():
    by_kind = {
        (ordered, levels): {one.name for one in STATISTICS if one.applies(Feature(ordered, levels))}
        for ordered in (True, False)
        for levels in (True, False)
    }
    always = {"jensen_shannon", "population_stability", "missing"}
    assert by_kind[True, False] == always | {"ks", "out_of_range"}
    assert by_kind[True, True] == always | {"chi_squared", "unseen_levels"}
    assert by_kind[False, False] == always | {"chi_squared", "out_of_range"}


def test_the_test_of_levels_is_pearsons():
    first, second = sample(120, 60, 20), sample(30, 40, 10)
    known = chi2_contingency(np.array([first.bins, second.bins]), correction=False)
    found = chi_squared.compare(first, second)
    assert (found.value, found.p_value) == pytest.approx((known.statistic, known.pvalue))


def test_tests_keep_their_level_and_see_a_shift():
    rng = np.random.default_rng(1)
    for test in (kolmogorov_smirnov.compare, chi_squared.compare):
        same = [
            test(
                sample(*rng.multinomial(1000, [0.1] * 10)), sample(*rng.multinomial(200, [0.1] * 10))
            ).p_value
            for _ in range(400)
        ]
        assert np.mean(np.array(same) < 0.05) <= 0.08
        moved = np.linspace(0.05, 0.15, 10)
        assert test(sample(*[100] * 10), sample(*rng.multinomial(500, moved / moved.sum()))).p_value < 1e-3


def test_the_distance_is_0_of_samples_alike_on_average_and_1_of_strangers():
    rng = np.random.default_rng(2)
    same = [
        distances(sample(*rng.multinomial(1000, [0.1] * 10)), sample(*rng.multinomial(200, [0.1] * 10)))
        for _ in range(300)
    ]
    assert np.mean(np.square(same)) < 0.1**2 / 4
    assert np.quantile(same, 0.95) < 0.1
    assert distances(sample(100, 0), sample(0, 100)) == pytest.approx(1.0, abs=0.02)
    assert indices(sample(50, 50), sample(50, 50)) == 0


def test_without_live_rows_nothing_is_claimed():
    for one in STATISTICS:
        found = one.compare(sample(50, 50), sample(0, 0))
        assert np.isfinite(found.value)
        assert found.p_value in (None, 1.0)


def test_false_discoveries_are_controlled_among_all_tests():
    assert discoveries(np.array([0.001, 0.02, 0.04, 0.5]), 0.05).tolist() == [True, True, False, False]
    assert discoveries(np.array([0.03, 0.2]), 0.05).tolist() == [False, False]
    assert discoveries(np.array([]), 0.05).tolist() == []


def test_sets_of_cells_are_each_alone_and_all_on_one_side():
    sets = unions(4, ordered=True, apart=2)
    assert sets.shape == (6, 6 + 2 + 2)
    assert sets[:, 6].tolist() == [1, 1, 0, 0, 0, 0]
    assert sets[:, -1].tolist() == [0, 0, 1, 1, 0, 0]
    assert unions(2, ordered=True).shape == unions(2, ordered=False).shape == (2, 2)


def test_recent_rows_are_those_of_as_many_windows_as_are_needed():
    counts = np.array([[5.0], [1.0], [2.0], [4.0]])
    assert recent(counts, counts[:, 0], 4)[:, 0].tolist() == [5, 6, 8, 4]


def test_shares_of_the_budget_add_up():
    parts = [
        *[allowance(0.05, DRIFT, 7)] * 7,
        *[allowance(0.05, ERROR, 3)] * 3,
        *[allowance(0.05, CALIBRATION, 2)] * 2,
    ]
    assert sum(one.reference + one.live for one in parts) == pytest.approx(0.05)


def test_rows_as_in_training_raise_no_alarm(champion):
    summaries = windows(champion, 20, 100, np.random.default_rng(3))
    found = watch(champion.manifest.monitoring, RULES, stacked(summaries))
    assert [one.name for one in found if one.alarm.any()] == []


def test_a_feature_that_moves_is_named_and_what_stays_is_not(champion):
    rng = np.random.default_rng(4)

    def dearer(rows, rng):
        return rows | {"actual_price": rows["actual_price"] * 1.2}

    summaries = windows(champion, 10, 100, rng) + windows(champion, 10, 100, rng, change=dearer, first=10)
    found = {one.name: one for one in watch(champion.manifest.monitoring, RULES, stacked(summaries))}
    moved = {name for name, one in found.items() if one.now}
    assert {"price_diff", "log_price_ratio"} <= moved <= {"price_diff", "log_price_ratio", "prediction"}
    assert 10 <= np.flatnonzero(found["log_price_ratio"].alarm)[0] <= 12


def test_an_alarm_is_over_when_the_rows_are_as_before(champion):
    rng = np.random.default_rng(5)

    def dearer(rows, rng):
        return rows | {"actual_price": rows["actual_price"] * 1.2}

    summaries = windows(champion, 5, 200, rng, change=dearer) + windows(champion, 10, 200, rng, first=5)
    found = {one.name: one for one in watch(champion.manifest.monitoring, RULES, stacked(summaries))}
    assert found["log_price_ratio"].alarm[4]
    assert not found["log_price_ratio"].now


def test_evidence_without_a_large_effect_is_not_an_alarm(champion):
    def slightly(rows, rng):
        return rows | {"actual_price": rows["actual_price"] * 1.2}

    summaries = windows(champion, 10, 300, np.random.default_rng(6), change=slightly)
    patient = RULES.model_copy(update={"distance": 0.9})
    found = watch(champion.manifest.monitoring, patient, stacked(summaries))
    assert any(one.watched.crossed[-1] for one in found)
    assert not any(one.now for one in found)


def test_unseen_levels_and_missing_values_are_watched_apart(champion):
    def other(rows, rng):
        return rows | {
            "num_images": np.where(rng.random(len(rows["num_images"])) < 0.1, 9, rows["num_images"])
        }

    summaries = windows(champion, 6, 200, np.random.default_rng(7), change=other)
    found = {one.name: one for one in compare(champion.manifest.monitoring, RULES, stacked(summaries))}
    assert found["num_images"].statistics["unseen_levels"].value == pytest.approx(0.1, abs=0.06)
    assert found["price_diff"].statistics["out_of_range"].value < 0.03
    assert any(
        one.now and one.name == "num_images"
        for one in watch(champion.manifest.monitoring, RULES, stacked(summaries))
    )


def test_skew_is_a_distance_that_was_there_from_the_first_rows_on(champion):
    rng = np.random.default_rng(8)

    def dearer(rows, rng):
        return rows | {"actual_price": rows["actual_price"] * 1.2}

    later = windows(champion, 5, 200, rng) + windows(champion, 5, 200, rng, change=dearer, first=5)
    always = windows(champion, 10, 200, rng, change=dearer)
    skews = []
    for summaries in (later, always):
        found = compare(champion.manifest.monitoring, RULES, stacked(summaries))
        skews.append({one.name: one.skew for one in found}["log_price_ratio"])
    assert skews[0] < RULES.distance <= skews[1]
    assert stacked(later).start == DAY0
