"""What live rows are compared with, of every kind of target and of odd training data."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.support.monitored import (
    changed_field,
    draw,
    features_of,
    fields_of,
    manifest_with_reference,
    trained,
)
from vroom_api.contract import Kind, Manifest, MonitoringReference
from vroom_api.contract.decoding import decode
from vroom_assets.monitoring.reference import left_out_units
from vroom_assets.monitoring.streams import is_unseen


def made(kind: Kind, rows: int = 300, seed: int = 0, **options) -> Manifest:
    """A manifest with a reference of rows whose target depends on one feature."""
    rng = np.random.default_rng(seed)
    features = pd.DataFrame({"x": rng.normal(size=rows), "level": rng.integers(0, 3, rows).astype(float)})
    mean = np.exp(0.5 * features["x"].to_numpy())
    if kind is Kind.BINARY:
        prediction = mean / (1 + mean)
        target = (rng.random(rows) < prediction).astype(float)
    elif kind is Kind.COUNT:
        prediction, target = mean, rng.poisson(mean).astype(float)
    else:
        prediction, target = mean, mean + rng.normal(size=rows)
    return manifest_with_reference(features, target, prediction, np.arange(rows) % 5, kind, **options)


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_has_what_can_be_watched_of_it(kind):
    manifest = made(kind)
    reference = manifest.monitoring
    assert reference is not None
    assert (reference.units, reference.scored) == (300, 300)
    assert sum(reference.loss) == pytest.approx(300)
    assert sum(reference.residual) == pytest.approx(300)
    assert sum(reference.prediction.units) == pytest.approx(300)
    assert all(sum(one.units[:-1]) == pytest.approx(300) for one in reference.features)
    if kind is Kind.BINARY:
        assert reference.metric == "brier"
        assert reference.bound == 1.0
        assert (reference.misses, reference.pit) == ([], [])
        assert sum(map(sum, reference.reliability)) == pytest.approx(300)
    else:
        assert reference.metric == "mae"
        assert sum(reference.misses) == sum(reference.pit) == 300
        assert reference.misses[1] / 300 == pytest.approx(0.9, abs=0.06)
        assert min(reference.pit) > 10
        assert reference.reliability == []


@pytest.mark.parametrize("kind", list(Kind))
def test_it_goes_to_json_and_back_and_is_small(kind):
    manifest = made(kind)
    written = msgspec.json.encode(manifest)
    assert decode(written, Manifest) == manifest
    assert len(msgspec.json.encode(manifest.monitoring)) < 6_000


def test_a_manifest_of_before_has_none():
    older = msgspec.json.decode(msgspec.json.encode(made(Kind.COUNT)))
    del older["monitoring"]
    assert decode(msgspec.json.encode(older), Manifest).monitoring is None


def test_what_is_counted_is_what_was_predicted_out_of_fold():
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"x": rng.normal(size=100)})
    target = rng.normal(size=100)
    numbers = np.arange(40, 100)
    manifest = manifest_with_reference(
        features, target, np.zeros(60), np.arange(60) % 3, Kind.REGRESSION, rows=numbers
    )
    reference = manifest.monitoring
    assert (reference.units, reference.scored) == (100, 60)
    assert reference.error == pytest.approx(np.abs(target[numbers]).mean())


def test_rows_of_a_group_count_as_one():
    groups = np.repeat(np.arange(30), 10)
    reference = made(Kind.COUNT, groups=groups, group="circuit").monitoring
    assert (reference.units, reference.scored) == pytest.approx((30, 30))
    assert reference.group == "circuit"
    assert sum(reference.loss) == pytest.approx(30, abs=0.01)


def test_segments_are_the_most_frequent_values_of_each_tag():
    tags = pd.DataFrame({"city": [f"c{number % 8 if number % 3 else 0}" for number in range(300)]})
    segments = made(Kind.COUNT, tags=tags).monitoring.segments
    assert len(segments) == 5
    assert segments[0].value == "c0"
    mine = (tags["city"] == "c0").sum()
    assert sum(segments[0].loss) == pytest.approx(mine)


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        (np.arange(30.0), 2),  # the smallest and the largest
        (np.array([0.0, 0.0, *np.arange(1.0, 30.0)]), 1),
        (np.full(30, 5.0), 0),
        (np.array([np.nan] * 5 + list(np.arange(20.0))), 2),
        (np.full(4, np.nan), 0),
    ],
    ids=["range", "an end that two rows hold", "constant", "with missing ones", "all missing"],
)
def test_units_that_the_others_had_not_seen(values, left_out):
    field = fields_of(pd.DataFrame({"x": [0.0, 1.0]}))[0]
    found = left_out_units(field, values, None, np.ones(len(values)), np.array([]))
    assert found == left_out


def test_levels_of_one_row_are_what_others_had_not_seen():
    field = fields_of(pd.DataFrame({"x": [0.0, 1.0]}))[0]
    values = np.array([0.0, 0.0, 1.0, 1.0, 2.0])
    assert left_out_units(field, values, None, np.ones(5), np.array([0.0, 1.0, 2.0])) == 1
    same_group = np.array([0, 0, 1, 2, 3])  # 0 is seen in one group alone
    units = np.array([0.5, 0.5, 1, 1, 1])
    assert left_out_units(field, values, same_group, units, np.array([0.0, 1.0, 2.0])) == 2


def test_a_range_is_left_by_more_than_the_last_digit():
    field = changed_field(fields_of(pd.DataFrame({"x": [0.0, 1.0]}))[0], seen_minimum=0.1, seen_maximum=0.3)
    values = np.array([0.1, 0.1 + 0.2, 0.3000001, np.nan, 0.0999])
    assert is_unseen(field, [], values).tolist() == [False, False, True, False, True]
    assert is_unseen(field, [0.1, 0.3], np.array([0.2, 0.1])).tolist() == [True, False]


def test_targets_that_were_predicted_exactly_make_a_reference():
    rows = pd.DataFrame({"x": np.ones(40)})
    manifest = manifest_with_reference(
        rows, np.full(40, 3.0), np.full(40, 3.0), np.arange(40) % 4, Kind.COUNT
    )
    assert isinstance(manifest.monitoring, MonitoringReference)
    assert manifest.monitoring.error == 0.0
    assert manifest.monitoring.bound > 0


def test_the_flagship_has_features_with_and_without_levels():
    rng = np.random.default_rng(2)
    champion = trained(400, rng)
    levels = {one.name: one.levels for one in champion.manifest.monitoring.features}
    assert levels["num_images"] == [1, 2, 3, 4, 5]
    assert levels["log_price_ratio"] == []
    assert list(levels) == list(features_of(draw(5, rng)).columns)
