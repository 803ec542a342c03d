"""What counts as seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny import changed, feature_field, input_field, manifest_of, van
from vroom_api.contract import Manifest
from vroom_api.explanation.support import OutOfRange, limits_of, out_of_range, supported, within


def found_in(price: float, usual_price: float, photos: float) -> list[OutOfRange]:
    score, manifest = van()
    row = np.array([[price, usual_price, photos]], dtype=float)
    return out_of_range(manifest, row[0].tolist(), score(row)[1][0].tolist())


def test_a_usual_van_is_in_support():
    assert found_in(60, 60, 5) == []


def test_thirty_photos_are_not_answered_as_if_they_were_usual():
    [found] = found_in(60, 60, 30)
    assert (found.field, found.kind, found.value, found.levels) == ("photos", "input", 30, [1, 2, 3, 4, 5])
    assert found.sentence == "photos 30: seen in training only 1, 2, 3, 4, 5"


def test_a_price_above_all_prices_is_named_with_what_was_seen():
    found = {one.field: one for one in found_in(171, 90, 3)}
    assert set(found) == {"price"}
    assert (found["price"].seen_minimum, found["price"].seen_maximum) == (30, 170)
    assert found["price"].sentence == "price 171: seen in training 30 to 170"


def test_a_ratio_never_seen_is_found_though_both_prices_are_usual():
    assert found_in(100, 50, 3) == []
    [found] = found_in(101, 50, 3)
    assert (found.field, found.kind, found.value) == ("ratio", "feature", pytest.approx(2.02))
    assert found.sentence == "ratio = price / usual_price, 2.02: seen in training 0.8 to 2"


def test_a_level_between_seen_levels_is_unseen():
    manifest = manifest_of([input_field("seats", 2, 7, type="integer", levels=[2, 5, 7])])
    assert out_of_range(manifest, [5.0], [5.0]) == []
    [found] = out_of_range(manifest, [4.0], [4.0])
    assert found.sentence == "seats 4: seen in training only 2, 5, 7"


def test_the_ends_of_the_range_are_seen_and_no_number_is_not():
    manifest = manifest_of([input_field("x", 0.1, 0.3)])
    assert out_of_range(manifest, [0.1], [0.1]) == out_of_range(manifest, [0.3], [0.3]) == []
    assert out_of_range(manifest, [0.1 + 0.2], [0.3]) == []  # 0.30000000000000004
    assert len(out_of_range(manifest, [0.301], [0.3])) == 1
    assert len(out_of_range(manifest, [float("nan")], [0.3])) == 1


def test_features_of_an_older_bundle_have_no_range_and_are_not_judged():
    manifest = manifest_of([input_field("x", 0, 1)], [feature_field("double", "2 * x", ["x"])])
    assert out_of_range(manifest, [0.5], [1e9]) == []
    assert supported(manifest, np.array([[0.5]]), np.array([[1e9]])).tolist() == [True]


@given(
    st.lists(
        st.tuples(st.floats(20, 180), st.floats(30, 100), st.integers(0, 7)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=50)
def test_many_rows_at_once_are_judged_as_each_alone(rows):
    score, manifest = van()
    matrix = np.array(rows, dtype=float)
    _, features = score(matrix)
    alone = [
        not out_of_range(manifest, row, own)
        for row, own in zip(matrix.tolist(), features.tolist(), strict=True)
    ]
    assert supported(manifest, matrix, features).tolist() == alone
    limits = limits_of(manifest)
    assert [within(limits, one) for one in np.hstack([matrix, features]).tolist()] == alone


def seen_in(manifest: Manifest, rows: np.ndarray, features: np.ndarray) -> Manifest:
    """The manifest with the ranges of these rows."""
    return changed(
        manifest,
        inputs=[
            changed(field, seen_minimum=float(column.min()), seen_maximum=float(column.max()))
            for field, column in zip(manifest.inputs, rows.T, strict=True)
        ],
        features=[
            changed(field, seen_minimum=float(column.min()), seen_maximum=float(column.max()))
            for field, column in zip(manifest.features, features.T, strict=True)
        ],
    )


def draw(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    usual = rng.uniform(35, 90, rows)
    return np.column_stack([usual * rng.lognormal(0.1, 0.2, rows), usual, rng.integers(1, 6, rows)])


def test_of_rows_from_the_same_source_at_most_two_in_a_hundred_are_flagged():
    score, manifest = van()
    train, held_out, dearer = draw(800, 1), draw(5_000, 2), draw(5_000, 3) * [2.0, 1.0, 1.0]
    seen = seen_in(manifest, train, score(train)[1])
    assert supported(seen, train, score(train)[1]).all()
    assert 1 - supported(seen, held_out, score(held_out)[1]).mean() <= 0.02
    assert 1 - supported(seen, dearer, score(dearer)[1]).mean() >= 0.2
