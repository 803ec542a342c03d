"""Shapley values: their axioms, their definition, and the sentences about them."""

from itertools import permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny import Step, changed, input_field, manifest_of, quadratic, score_of, van
from vroom_api.contract import FeatureField, Manifest
from vroom_api.explanation.reasons import (
    EXACT,
    MAX_ROWS,
    MIN_OWN_PAIRS,
    MIN_TYPICAL,
    Explanation,
    NotExplainable,
    Score,
    explain,
    players_of,
    thinned,
)

numbers = st.floats(-5, 5, allow_nan=False)


def table(rows: int, columns: int) -> st.SearchStrategy[np.ndarray]:
    cells = st.lists(numbers, min_size=rows * columns, max_size=rows * columns)
    return cells.map(lambda values: np.array(values).reshape(rows, columns))


def over(background: np.ndarray) -> Manifest:
    fields = [input_field(f"x{position}", -5, 5) for position in range(background.shape[1])]
    return manifest_of(fields, background=background.tolist())


def amounts(explanation: Explanation) -> dict[str, float]:
    return {reason.input: reason.amount for reason in explanation.reasons}


@given(table(1, 4), table(4, 4), table(5, 4), table(1, 4))
@settings(max_examples=60)
def test_amounts_add_up_to_the_prediction_minus_the_baseline(linear, pairs, background, row):
    score = quadratic(linear[0], pairs)
    found = explain(score, over(background), row[0])
    alone, _ = score(row)
    assert found.prediction == pytest.approx(alone[0], abs=1e-9)
    assert found.baseline == pytest.approx(score(background)[0].mean(), abs=1e-9)
    assert sum(amounts(found).values()) == pytest.approx(alone[0] - found.baseline, abs=1e-6)


@given(table(1, 3), table(3, 3), table(4, 3), table(1, 3))
@settings(max_examples=40)
def test_amounts_are_the_mean_over_all_orders_in_which_inputs_can_join(linear, pairs, background, row):
    score = quadratic(linear[0], pairs)
    expected = np.zeros(3)
    orders = list(permutations(range(3)))
    for order in orders:
        mixed = background.copy()
        before = score(mixed)[0].mean()
        for position in order:
            mixed[:, position] = row[0, position]
            after = score(mixed)[0].mean()
            expected[position] += (after - before) / len(orders)
            before = after
    found = amounts(explain(score, over(background), row[0]))
    assert [found[f"x{position}"] for position in range(3)] == pytest.approx(expected.tolist(), abs=1e-9)


@given(table(1, 3), table(3, 3), table(4, 3), table(1, 3))
@settings(max_examples=40)
def test_two_inputs_that_do_the_same_get_the_same(linear, pairs, background, row):
    twin = [1, 0, 2]  # inputs 0 and 1 change places
    linear[0, 1] = linear[0, 0]
    pairs = pairs + pairs[twin][:, twin]
    background[:, 1] = background[:, 0]
    row[0, 1] = row[0, 0]
    found = amounts(explain(quadratic(linear[0], pairs), over(background), row[0]))
    assert found["x0"] == pytest.approx(found["x1"], abs=1e-9)


@given(table(1, 3), table(3, 3), table(4, 3), table(1, 3))
@settings(max_examples=40)
def test_an_input_that_changes_nothing_gets_nothing(linear, pairs, background, row):
    linear[0, 2], pairs[2], pairs[:, 2] = 0.0, 0.0, 0.0
    found = amounts(explain(quadratic(linear[0], pairs), over(background), row[0]))
    assert found["x2"] == pytest.approx(0.0, abs=1e-9)


def test_in_a_linear_champion_an_amount_is_the_weighted_distance_from_the_background():
    background = np.array([[0.0, 2.0], [2.0, 6.0]])
    found = amounts(
        explain(quadratic(np.array([3.0, -0.5]), np.zeros((2, 2))), over(background), np.array([2.0, 10.0]))
    )
    assert found == pytest.approx({"x0": 3.0 * (2 - 1), "x1": -0.5 * (10 - 4)})


def test_all_coalitions_are_scored_in_one_call():
    score, manifest = van()
    calls = []

    def counted(rows):
        calls.append(len(rows))
        return score(rows)

    explain(counted, manifest, np.array([80.0, 50.0, 2.0]))
    assert calls == [2**3 * len(manifest.background)]


def test_inputs_that_the_champion_does_not_read_take_no_part():
    _, manifest = van()
    blind = changed(
        manifest,
        features=[field for field in manifest.features if field.name == "photos"],
        recipe=changed(manifest.recipe, features=["photos"]),
    )
    sizes = []

    def by_photos(rows):
        sizes.append(len(rows))
        return rows[:, 2], rows[:, 2:]

    found = explain(by_photos, blind, np.array([80.0, 50.0, 2.0]))
    assert sizes == [2 * len(manifest.background)]
    assert amounts(found) == {"price": 0.0, "usual_price": 0.0, "photos": pytest.approx(2 - 3)}


def test_reasons_come_largest_first_in_plain_words():
    score, manifest = van()
    found = explain(score, manifest, np.array([120.0, 60.0, 4.0]))
    sizes = [abs(reason.amount) for reason in found.reasons]
    assert sizes == sorted(sizes, reverse=True)
    assert found.reasons[0].sentence == (
        "price 120 USD/day (price per day): -5.6 bookings compared with a typical van"
    )
    assert {r.input: r.sentence for r in found.reasons}["photos"] == (
        "photos 4 photos: +0.5 bookings compared with a typical van"
    )


def test_no_difference_is_called_so():
    score, manifest = van()
    same = changed(manifest, background=[[120.0, 60.0, 4.0]])
    assert all(
        reason.sentence.endswith(": no difference compared with a typical van")
        for reason in explain(score, same, np.array([120.0, 60.0, 4.0])).reasons
    )


def plain(inputs: int, background: np.ndarray) -> Explanation:
    score = quadratic(np.ones(inputs), np.zeros((inputs, inputs)))
    return explain(score, over(background), np.full(inputs, 2.0))


@pytest.mark.parametrize("inputs", [EXACT, EXACT + 1, 40, 65, 66, 200, 300])
def test_where_inputs_do_not_interact_amounts_are_exact_for_any_number_of_them(inputs):
    found = plain(inputs, np.vstack([np.zeros(inputs), np.ones(inputs)]))
    assert amounts(found) == pytest.approx({f"x{position}": 1.5 for position in range(inputs)})
    assert all(reason.error == pytest.approx(0.0, abs=1e-9) for reason in found.reasons)


def product_of_three(inputs: int) -> Score:
    """x0 · x1 · x2 + x3 + …"""
    names = [f"x{position}" for position in range(inputs)]
    steps: list[Step] = [("two", "Mul", "x0", "x1"), ("three", "Mul", "two", "x2")]
    return score_of(names, [*steps, ("sum", "Sum", "three", *names[3:])], names)


def test_beyond_ten_inputs_amounts_are_sampled_with_an_error_that_holds():
    row = np.ones(12)
    found = explain(product_of_three(12), over(np.zeros((4, 12))), row)
    by_name = {reason.input: reason for reason in found.reasons}
    assert sum(amounts(found).values()) == pytest.approx(found.prediction - found.baseline, abs=1e-6)
    for name in ("x0", "x1", "x2"):  # the product is worth 1 once all three have joined
        assert 0 < by_name[name].error < 0.02
        assert abs(by_name[name].amount - 1 / 3) <= 4 * by_name[name].error
    assert by_name["x7"].amount == pytest.approx(1.0)


def test_ten_inputs_are_exact():
    found = explain(product_of_three(EXACT), over(np.zeros((4, EXACT))), np.ones(EXACT))
    assert {name: amounts(found)[name] for name in ("x0", "x1", "x2")} == pytest.approx(
        dict.fromkeys(("x0", "x1", "x2"), 1 / 3), abs=1e-12
    )
    assert all(reason.error == 0.0 for reason in found.reasons)


def test_sampled_amounts_are_the_same_every_time():
    score, manifest = product_of_three(12), over(np.zeros((4, 12)))
    assert explain(score, manifest, np.ones(12)) == explain(score, manifest, np.ones(12))


def test_exact_amounts_are_not_called_approximate_and_others_say_how_precise_they_are():
    exact = explain(product_of_three(EXACT), over(np.zeros((4, EXACT))), np.ones(EXACT))
    assert "approximation" not in msgspec.to_builtins(exact)
    found = explain(product_of_three(12), over(np.zeros((4, 12))), np.ones(12))
    assert found.approximation.orders == 2 * (MAX_ROWS // (2 * 11 * 4))
    assert found.approximation.error == max(reason.error for reason in found.reasons) > 0


MANY = [66, 100, 200, 300, 513]  # from 258 on some background rows stand for all


def threes(inputs: int) -> Score:
    """x0 · x1 · x2 + x3 · x4 · x5 + … + the rest"""
    names = [f"x{position}" for position in range(inputs)]
    steps: list[Step] = []
    for first in range(0, inputs - 2, 3):
        one, two, three = names[first : first + 3]
        steps += [(f"two{first}", "Mul", one, two), (f"three{first}", "Mul", f"two{first}", three)]
    terms = [output for output, _, _, _ in steps if output.startswith("three")]
    steps.append(("sum", "Sum", *terms, *names[len(terms) * 3 :]))
    return score_of(names, steps, names)


@pytest.mark.parametrize("inputs", MANY)
def test_many_inputs_are_sampled_with_an_error_that_holds(inputs):
    rng = np.random.default_rng(inputs)
    background, row = np.sort(rng.uniform(size=(64, inputs)), axis=0), rng.uniform(1, 2, size=inputs)
    score = threes(inputs)
    found = explain(score, over(background), row)
    typical = thinned(background, MAX_ROWS // (2 * (inputs - 1)) // MIN_OWN_PAIRS)
    assert len(typical) >= (64 if inputs < 258 else MIN_TYPICAL)
    assert found.baseline == pytest.approx(score(typical)[0].mean())
    assert sum(amounts(found).values()) == pytest.approx(found.prediction - found.baseline, abs=1e-6)
    by_name, scaled = amounts(found), []
    errors = {reason.input: reason.error for reason in found.reasons}
    for first in range(0, inputs // 3 * 3, 3):
        alone = explain(
            product_of_three(4),
            over(with_zero(typical[:, first : first + 3])),
            np.append(row[first : first + 3], 0),
        )
        exact = amounts(alone)
        for offset in range(3):
            name = f"x{first + offset}"
            scaled.append((by_name[name] - exact[f"x{offset}"]) / errors[name])
    # As far from the exact amounts as their standard errors say.
    assert 0.85 < np.sqrt(np.mean(np.square(scaled))) < 1.2
    assert found.approximation.error < 0.2
    assert found == explain(score, over(background), row)


def with_zero(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows, np.zeros(len(rows))])


@pytest.mark.parametrize("inputs", MANY)
def test_however_many_inputs_there_are_what_is_scored_has_a_bound(inputs):
    score, scored = threes(inputs), []

    def counted(rows):
        scored.append(len(rows))
        return score(rows)

    found = explain(counted, over(np.random.default_rng(0).uniform(size=(64, inputs))), np.ones(inputs))
    assert len(found.reasons) == inputs
    assert sum(scored) <= MAX_ROWS + 2 * 64
    assert max(scored) * inputs <= 2**25  # numbers that are held at once


def test_more_inputs_than_can_be_sampled_well_are_refused():
    with pytest.raises(NotExplainable, match="reads 514 inputs, too many for reasons"):
        plain(514, np.zeros((64, 514)))


def test_a_bundle_without_background_says_that_it_cannot_explain():
    score, manifest = van()
    with pytest.raises(NotExplainable, match=r"version 3 of bookings has no background.*train it again"):
        explain(score, changed(manifest, background=[]), np.array([80.0, 50.0, 2.0]))


def test_mixtures_without_a_finite_prediction_are_refused():
    score = score_of(["a", "b"], [("gap", "Sub", "a", "b"), ("log", "Log", "gap")], ["a", "b"])
    fields = [input_field("a", 0, 9), input_field("b", 0, 9)]
    near, far = (manifest_of(fields, background=background) for background in ([[4.0, 1.5]], [[9.0, 8.0]]))
    row = np.array([3.0, 1.0])
    assert explain(score, near, row).prediction == pytest.approx(np.log(2.0))
    with pytest.raises(NotExplainable, match="no finite prediction"):
        explain(score, far, row)


# Times


def of_times(names: list[str], compared: list[set[str]], background: np.ndarray) -> Manifest:
    """A manifest of times, and of features that read some of them together."""
    fields = [
        msgspec.structs.replace(input_field(name, -5, 5), type="time" if name.startswith("t") else "number")
        for name in names
    ]
    features = [FeatureField(f"f{n}", "", [], [], sorted(read)) for n, read in enumerate(compared)]
    manifest = manifest_of(fields, background=background.tolist())
    recipe = msgspec.structs.replace(manifest.recipe, features=[one.name for one in features])
    return msgspec.structs.replace(manifest, features=features, recipe=recipe)


@pytest.mark.parametrize(
    ("names", "compared", "players"),
    [
        (["t1", "x", "t2"], [{"t1", "t2"}, {"x"}], [[0, 2], [1]]),
        (["t1", "x", "t2"], [{"t1"}, {"t2"}, {"x"}], [[0], [1], [2]]),
        (["t1", "x", "t2"], [{"t1", "x"}, {"t2"}], [[0], [1], [2]]),
        (["t1", "t2", "t3"], [{"t1", "t3"}, {"t2", "t3"}], [[0, 1, 2]]),
        (["t1", "t2", "t3", "t4"], [{"t1", "t2"}, {"t3", "t4"}], [[0, 1], [2, 3]]),
        (["t1", "t2", "t3"], [{"t1", "t3"}], [[0, 2]]),
    ],
)
def test_times_that_are_compared_join_together(names, compared, players):
    manifest = of_times(names, compared, np.zeros((2, len(names))))
    assert players_of(manifest) == players


@given(table(1, 3), table(3, 3), table(5, 3), table(1, 3))
@settings(max_examples=30)
def test_two_times_are_one_player_and_amounts_add_up(linear, pairs, background, row):
    manifest = of_times(["t1", "x", "t2"], [{"t1", "t2"}, {"x"}], background)
    score = quadratic(linear[0], pairs)
    found = explain(score, manifest, row[0])
    by_input = amounts(found)
    assert set(by_input) == {"t1, t2", "x"}
    assert sum(by_input.values()) == pytest.approx(found.prediction - found.baseline, abs=1e-6)
    only = background.copy()
    only[:, [0, 2]] = row[0][[0, 2]]
    rest = background.copy()
    rest[:, 1] = row[0][1]
    empty, full = score(background)[0].mean(), score(row)[0][0]
    wanted = (score(only)[0].mean() - empty + full - score(rest)[0].mean()) / 2
    assert by_input["t1, t2"] == pytest.approx(wanted, abs=1e-6)
