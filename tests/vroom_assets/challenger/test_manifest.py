"""What training puts into the bundle for reasons, support, advice and freshness."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.forecasts import contradictions_of
from tests.support.vans import bookings
from vroom_api.contract import AgeLimits, FreshnessPolicy, Lever
from vroom_assets.challenger.manifest import (
    BACKGROUND_ROWS,
    background_rows,
    feature_fields,
    freshness_policy,
    input_fields,
    levers,
)
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, Column, ForecastSpec
from vroom_assets.training.folds import RowStructure
from vroom_assets.training.models import Constant


def declared(**parts: Any) -> ForecastSpec:
    columns = {"seats": {"type": "integer"}, "text": {"type": "integer"}, "price": {"type": "number"}}
    statement = "select seats, price / seats as price_per_seat, 1.5 as constant from inputs"
    return bookings(columns, **{"features_sql": statement} | parts)


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "seats": rng.choice([2.0, 5.0, 7.0], count),
            "text": rng.permutation(count).astype(float),
            "price": rng.uniform(20, 90, count),
        }
    )


def test_discrete_inputs_carry_their_levels_and_others_none():
    fields = {field.name: field for field in input_fields(declared(), rows(200))}
    assert fields["seats"].levels == [2, 5, 7]
    assert fields["text"].levels == []  # an integer that takes any value
    assert fields["price"].levels == []
    assert (fields["seats"].seen_minimum, fields["seats"].seen_maximum) == (2, 7)


def test_a_flag_is_within_0_and_1_without_a_declared_range():
    spec, inputs = declared(), rows(100)
    table = spec.sources[spec.entity.source]
    columns = table.columns | {"seats": Column(type="flag")}
    spec = spec.model_copy(
        update={"sources": {spec.entity.source: table.model_copy(update={"columns": columns})}}
    )
    seats = input_fields(spec, inputs.assign(seats=inputs["seats"] % 2))[0]
    assert (seats.minimum, seats.maximum, seats.type) == (0, 1, "integer")
    assert Column(type="flag").range == "≥ 0 and ≤ 1"


def test_levels_that_were_hardly_seen_are_no_levels():
    assert input_fields(declared(), rows(20))[0].levels == []


def test_features_carry_their_range_and_the_inputs_they_read():
    spec, inputs = declared(), rows(100)
    features = pd.DataFrame(
        {
            "seats": inputs["seats"],
            "price_per_seat": inputs["price"] / inputs["seats"],
            "constant": 1.5,
        }
    )
    seats, per_seat, constant = feature_fields(spec, features)
    assert (seats.inputs, per_seat.inputs, constant.inputs) == (["seats"], ["seats", "price"], [])
    assert per_seat.seen_minimum == features["price_per_seat"].min()
    assert per_seat.seen_maximum == features["price_per_seat"].max()
    assert sum(per_seat.shares) == pytest.approx(1.0)


def test_a_trend_is_in_support_as_far_as_its_line_is_used():
    spec, inputs = declared(), rows(100)
    trend = Candidate(family="linear", features=["constant"], trend="seats")
    spec = spec.model_copy(update={"candidates": {"linear": trend}})
    features = pd.DataFrame({"seats": inputs["seats"], "price_per_seat": 1.0, "constant": 1.5})
    seats = feature_fields(spec, features)[0]
    low, high = features["seats"].min(), features["seats"].max()
    assert (seats.seen_minimum, seats.seen_maximum) == (low, high + (high - low) / 4)


class ByPrice(Constant):
    """Predicts the price."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return frame["price"].to_numpy()


def data_of(inputs: pd.DataFrame) -> Dataset:
    return Dataset(
        row_structure=RowStructure(len(inputs)),
        forecast="bookings",
        keys=np.arange(len(inputs)),
        inputs=inputs,
        features=inputs,
        target=inputs["price"].to_numpy(),
        data_version="",
        data_as_of="",
        snapshots={},
    )


@given(st.integers(1, 500), st.integers(0, 50))
@settings(max_examples=40)
def test_the_background_is_different_training_rows_whose_prediction_is_the_usual_one(count, seed):
    inputs = rows(count, seed)
    found = background_rows(data_of(inputs), ByPrice(0.0, ["price"]), seed)
    assert len(found) == min(count, BACKGROUND_ROWS)
    known = {tuple(row) for row in inputs.to_numpy().tolist()}
    assert {tuple(row) for row in found} <= known
    assert len({tuple(row) for row in found}) == len(found)
    # A systematic sample of n rows is off by at most one step of the sorted predictions.
    prices = inputs["price"]
    off = abs(np.mean([row[2] for row in found]) - prices.mean())
    assert off <= (prices.max() - prices.min()) / len(found) + 1e-9


def test_the_same_seed_gives_the_same_background():
    data, fitted = data_of(rows(300)), ByPrice(0.0, ["price"])
    assert background_rows(data, fitted, 1) == background_rows(data, fitted, 1)
    assert background_rows(data, fitted, 1) != background_rows(data, fitted, 2)


def test_declared_advice_becomes_a_lever():
    advice = {"lever": "price", "worth": "revenue", "unit": "USD", "description": "price × bookings"}
    assert levers(declared(advice={"price": advice})) == {
        "price": Lever(input="price", worth="revenue", unit="USD", description="price × bookings")
    }
    wrong = declared(advice={"price": advice | {"lever": "van_id"}})
    assert "advice.price.lever: 'van_id' is not declared; use one of seats" in contradictions_of(wrong)


def test_declared_ages_become_seconds_and_what_is_not_declared_is_not_judged():
    spec = declared(
        freshness={"model_age": {"stale_after_days": 1, "expired_after_days": 2}, "expired": "refuse"}
    )
    assert freshness_policy(spec) == FreshnessPolicy(
        model=AgeLimits(stale_after_s=86_400, expired_after_s=172_800), data=None, expired="refuse"
    )
    assert freshness_policy(declared()) == FreshnessPolicy()


def test_what_expires_before_it_is_stale_is_refused():
    with pytest.raises(ValidationError, match="expired_after_days: 1 comes before stale_after_days, 2"):
        declared(freshness={"data_age": {"stale_after_days": 2, "expired_after_days": 1}})
