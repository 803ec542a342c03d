"""The error without outcomes: where it is right, where it is blind, and what a feature has to do with it."""

import numpy as np
import pytest

from tests.support.monitored import draw, features_of, trained
from vroom_assets.monitoring.estimate import damage, estimate, mean_loss
from vroom_assets.monitoring.streams import is_covered, losses
from vroom_assets.monitoring.summary import predicted_counts


@pytest.fixture(scope="module")
def champion():
    return trained(1000, np.random.default_rng(0))


def priced(factor):
    return lambda rows, rng: rows | {"actual_price": rows["actual_price"] * factor}


def frame_of(champion, change=None, demand=1.0, rows=3000, seed=1):
    live = draw(rows, np.random.default_rng(seed), change, demand)
    return champion.served(features_of(live), np.asarray(live["reservations"], float))


def of(champion, frame):
    reference = champion.manifest.monitoring
    counts = predicted_counts(champion.manifest, reference, frame)
    return estimate(reference, counts["covered"]), counts


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.15])
def test_it_follows_the_error_where_inputs_move(champion, factor):
    frame = frame_of(champion, priced(factor))
    found, _ = of(champion, frame)
    covered = is_covered(champion.manifest, champion.manifest.monitoring, frame)
    bound = champion.manifest.monitoring.bound
    realised = np.minimum(losses(champion.manifest, frame), bound)[covered].mean()
    assert found.error == pytest.approx(realised, abs=0.3)
    assert found.holds(realised, 3.29)


def test_it_is_blind_for_another_law_of_outcomes(champion):
    usual, _ = of(champion, frame_of(champion))
    other, _ = of(champion, frame_of(champion, demand=1.3))
    assert other.error == pytest.approx(usual.error)


def test_it_says_which_share_of_rows_it_knows_nothing_of(champion):
    found, _ = of(champion, frame_of(champion, priced(1.6)))
    assert found.blind > 0.3
    assert found.is_blind
    assert not of(champion, frame_of(champion))[0].is_blind


def test_more_rows_make_a_narrower_band_down_to_the_error_of_the_reference(champion):
    widths = [of(champion, frame_of(champion, rows=rows))[0].deviation for rows in (50, 500, 50_000)]
    assert widths[0] > widths[1] > widths[2] > 0.02


def test_without_rows_there_is_none(champion):
    assert estimate(champion.manifest.monitoring, np.zeros(16)) is None


def parked(rows, rng):
    return rows | {"street_parked": (rng.random(len(rows["street_parked"])) < 0.9).astype(int)}


def test_a_feature_that_nothing_depends_on_does_no_damage_and_a_price_does(champion):
    reference = champion.manifest.monitoring
    features = {one.name: one for one in reference.features}
    found = {}
    for name, change in {"street_parked": parked, "log_price_ratio": priced(0.8)}.items():
        _, counts = of(champion, frame_of(champion, change))
        found[name] = damage(reference, features[name], counts[f"feature:{name}"], counts[f"expected:{name}"])
    assert abs(found["street_parked"].share) < 0.03
    assert found["street_parked"].low <= 0
    assert found["log_price_ratio"].share > 0.1
    assert found["log_price_ratio"].low > 0


def test_rows_as_in_training_do_no_damage(champion):
    reference = champion.manifest.monitoring
    _, counts = of(champion, frame_of(champion, rows=20_000))
    for one in reference.features:
        found = damage(reference, one, counts[f"feature:{one.name}"], counts[f"expected:{one.name}"])
        assert abs(found.share) < 0.05
    nothing = damage(reference, reference.features[0], np.zeros(4), np.zeros(4))
    assert (nothing.share, nothing.low) == (0.0, 0.0)


def test_the_reference_error_is_that_of_clipped_losses(champion):
    reference = champion.manifest.monitoring
    assert mean_loss(reference) == pytest.approx(reference.error, rel=0.02)
