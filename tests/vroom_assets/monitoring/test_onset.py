"""Evidence does not grow where nothing is wrong, and dates what is."""

import numpy as np
import pytest

from vroom_assets.monitoring.onset import BETS, BLOCK, evidence, together


def test_no_bet_wins_on_average_at_the_bound() -> None:
    for bound in (0.05, 0.5, 0.93):
        gains = np.array([[1 + bet / bound * (value - bound) for value in (0, 1)] for bet in BETS])
        np.testing.assert_allclose(gains @ [1 - bound, bound], 1.0)
        assert (gains > 0).all()


def test_on_healthy_values_it_ever_exceeds_a_bound_as_seldom_as_it_promises() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        values = (rng.random(2000) < 0.065).astype(float)
        alarms += any(evidence(values[:count], 0.065).log >= np.log(20) for count in range(50, 2001, 50))
    assert alarms <= 0.05 * 200


@pytest.mark.parametrize("begins", [0, 700, 3000])
def test_a_change_is_found_and_dated(begins: int) -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.random(begins) < 0.05, rng.random(400) < 0.2]).astype(float)
    found = evidence(values, 0.065)
    assert found.log > np.log(20)
    assert abs(found.onset - begins) <= 4 * BLOCK


def test_without_values_there_is_no_evidence() -> None:
    assert evidence(np.empty(0), 0.5).log == 0.0


def test_several_are_averaged_and_the_strongest_dates() -> None:
    rng = np.random.default_rng(3)
    calm = evidence((rng.random(600) < 0.05).astype(float), 0.065)
    loud = evidence(np.concatenate([rng.random(300) < 0.05, rng.random(300) < 0.3]).astype(float), 0.065)
    both = together([calm, loud])
    assert loud.log - np.log(2) <= both.log <= loud.log
    assert both.onset == loud.onset
