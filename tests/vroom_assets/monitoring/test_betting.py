"""Evidence that may be looked up as often as one likes: games that nobody wins on average, and bounds that hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_assets.monitoring.betting import (
    BETS,
    averaged,
    log_evidence,
    mean_bound,
    means_evidence,
    share_bound,
    shares_evidence,
)
from vroom_assets.monitoring.cells import divided, points


def expected_after(null: float, windows: int, rows: int) -> float:
    """The mean of the e-process over all sequences of hits at the null, exactly."""
    total = 0.0
    for number in range(2 ** (windows * rows)):
        hits = np.array([number >> bit & 1 for bit in range(windows * rows)], float)
        probability = np.prod(np.where(hits > 0, null, 1.0 - null))
        evidence = log_evidence(list(hits.reshape(windows, rows)), null)
        total += float(probability) * float(np.exp(evidence[-1]))
    return total


@pytest.mark.parametrize("null", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(("windows", "rows"), [(1, 1), (3, 2), (8, 1)])
def test_nobody_wins_on_average_at_the_null(null, windows, rows):
    assert expected_after(null, windows, rows) == pytest.approx(1.0)


def test_a_factor_of_a_single_bet_is_1_on_average():
    for null in (0.01, 0.3, 0.99):
        bets = BETS / null
        assert null * (1 + bets * (1 - null)) + (1 - null) * (1 - bets * null) == pytest.approx(1.0)
        assert (1 - bets * null > 0).all()


def test_a_healthy_mean_hardly_ever_reaches_the_threshold_however_often_it_is_looked_up():
    rng = np.random.default_rng(0)
    games, days, rows, null = 2_000, 120, 20, 0.2
    hits = rng.binomial(rows, null, (days, games, 1))
    evidence = shares_evidence(hits, np.full((days, games), rows), np.full((games, 1), null))[..., 0]
    assert np.exp(evidence[-1]).mean() <= 1.2  # the mean is 1 or less, and seldom games win much
    for error in (0.1, 0.05, 0.01):
        assert (evidence.max(axis=0) >= np.log(1 / error)).mean() <= error


def test_values_that_are_no_hits_are_held_by_their_mean_too():
    rng = np.random.default_rng(1)
    reached = [log_evidence(list(rng.beta(0.4, 1.6, (60, 25))), 0.2).max() >= np.log(20) for _ in range(300)]
    assert np.mean(reached) <= 0.05


@pytest.mark.parametrize("begin", [0, 40])
def test_a_change_is_found_soon_whenever_it_begins(begin):
    rng = np.random.default_rng(2)
    windows = [rng.random(50) * (1.0 if day < begin else 1.3) % 1.0 for day in range(begin)]
    windows += [np.minimum(rng.random(50) * 1.5, 1.0) for _ in range(20)]
    evidence = log_evidence(windows, 0.5)
    found = int(np.flatnonzero(evidence >= np.log(20))[0])
    assert begin <= found <= begin + 10


def test_empty_windows_neither_win_nor_lose_what_was_won():
    rng = np.random.default_rng(3)
    full = [rng.random(30) ** 0.5 for _ in range(5)]
    with_gaps = [*full, np.array([]), np.array([])]
    evidence = log_evidence(with_gaps, 0.5)
    assert evidence[-1] == pytest.approx(evidence[4], abs=0.2)


def test_counts_on_a_grid_never_claim_more_than_the_values():
    rng = np.random.default_rng(4)
    windows = [rng.beta(2, 5, 40) for _ in range(10)]
    for null in (0.2, 0.3):
        exact = log_evidence(windows, null)
        grid = np.array([divided(values, 0.0, 1.0).counts(np.ones(40)) for values in windows])
        found = means_evidence(grid, points(), np.array(null))
        assert (found <= exact + 1e-9).all()
        assert found == pytest.approx(exact, rel=0.05, abs=0.1)


def test_shares_are_the_same_game_as_means_of_zeros_and_ones():
    rng = np.random.default_rng(5)
    windows = [(rng.random(30) < 0.4).astype(float) for _ in range(12)]
    hits = np.array([[values.sum()] for values in windows])
    found = shares_evidence(hits, np.full(12, 30.0), np.array([0.25]))
    assert found[:, 0] == pytest.approx(log_evidence(windows, 0.25))


def test_certainty_does_not_end_in_a_number_that_is_none():
    evidence = log_evidence([np.ones(100_000)] * 20, 0.1)
    assert np.isfinite(evidence).all()
    assert (np.diff(evidence) >= -0.7).all()


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6))
def test_an_average_of_games_is_between_them(logs):
    found = averaged(np.array(logs))
    assert min(logs) - 1e-9 <= found <= max(logs) + 1e-9


@pytest.mark.parametrize("null", [0.0, 1.0, -1.0])
def test_a_bound_that_is_none_is_refused(null):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        log_evidence([np.array([0.5])], null)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_values_outside_the_range_are_refused_with_what_to_do(value):
    with pytest.raises(ValueError, match=r"window 1 has values outside .* clip and scale"):
        log_evidence([np.array([0.5]), np.array([value])], 0.5)


def test_bounds_of_a_share_and_of_a_mean_hold():
    rng = np.random.default_rng(6)
    hits = rng.binomial(300, 0.1, 2_000)
    assert (share_bound(hits.astype(float), 300, 0.05) >= 0.1).mean() >= 0.95
    values = [divided(rng.beta(0.5, 2.0, 200), 0.0, 1.0).counts(np.ones(200)) for _ in range(400)]
    bound = mean_bound(np.array(values), points(), 0.05)
    assert (bound >= 0.2).mean() >= 0.95
    assert bound.mean() < 0.3


def test_without_rows_everything_is_possible():
    assert mean_bound(np.zeros(33), points(), 0.05) == 1.0
    assert share_bound(np.array([0.0, 5.0]), np.array([0.0, 5.0]), 0.05) == pytest.approx([1.0, 1.0])
