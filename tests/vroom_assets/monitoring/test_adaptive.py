"""Corrections follow outcomes."""

import numpy as np
import pytest

from vroom_assets.monitoring.adaptive import START, Line, factors, lines


def test_the_factor_leaves_the_share_beyond_the_bound_that_it_should() -> None:
    rng = np.random.default_rng(1)
    scores = rng.exponential(1.0, 6000)
    found = factors(scores, 0.05, 1.0)
    assert found.shape == (6001,)
    assert np.mean(scores[1000:] > found[1000:-1]) == pytest.approx(0.05, abs=0.008)
    assert found[-1] == pytest.approx(np.log(20), rel=0.1)


def test_it_stays_as_it_was_until_there_are_some_outcomes() -> None:
    found = factors(np.full(100, 3.0), 0.05, 1.25)
    assert (found[:START] == 1.25).all()
    assert found[-1] == 3.0


def test_each_factor_knows_the_outcomes_before_it_alone() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=300)
    whole, part = factors(scores, 0.05, 1.0), factors(scores[:200], 0.05, 1.0)
    assert whole[:201].tolist() == part.tolist()


def test_it_follows_what_changes_again() -> None:
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.exponential(1.0, 2000), rng.exponential(1.6, 6000)])
    found = factors(scores, 0.05, 1.0, step=0.002)
    assert np.mean(scores[-2000:] > found[-2001:-1]) == pytest.approx(0.05, abs=0.015)


def test_the_line_finds_how_probabilities_are_off() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, 8000)
    yes = (rng.random(8000) < 1 / (1 + np.exp(-(0.7 + 0.6 * logits)))).astype(float)
    found = lines(logits, yes, Line(0.0, 1.0))
    assert found.shape == (8001, 2)
    assert found[0].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(found[-1], [0.7, 0.6], atol=0.1)


def test_a_few_outcomes_hardly_move_the_line() -> None:
    found = lines(np.array([2.0, -1.0]), np.array([0.0, 1.0]), Line(0.0, 1.0))
    assert np.abs(found[-1] - [0.0, 1.0]).max() < 0.6
