"""What fits took tells how long the next ones will take."""

from vroom_assets.spec import Candidate, Family
from vroom_assets.training import pace


def line(*features: str) -> Candidate:
    return Candidate(family=Family.LINEAR, features=list(features))


def test_a_fit_of_more_rows_is_expected_to_take_longer_by_as_much():
    key = pace.key_of(line("a fit", "of its own"))
    assert pace.expected(key, 1_000) == 0
    pace.note(key, 1_000, 0.5)
    assert pace.expected(key, 3_000) == 1.5


def test_the_quickest_fit_counts():
    key = pace.key_of(line("quick", "and slow"))
    for seconds in (3.0, 0.1, 0.2):
        pace.note(key, 100, seconds)
    assert pace.expected(key, 100) == 0.1


def test_candidates_of_other_features_or_parameters_have_a_pace_of_their_own():
    one = line("x")
    others = [line("x", "y"), one.model_copy(update={"parameters": {"alpha": 2.0}})]
    assert len({pace.key_of(candidate) for candidate in (one, *others)}) == 3
    assert pace.key_of(line("x")) == pace.key_of(one)
