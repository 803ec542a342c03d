"""Bins and ranks that are learnt in training: what is served is what scikit-learn's own steps make of the same rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from litestar.testing import TestClient
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from tests.support.commands import trained_and_served

ROWS, BINS = 320, 8
DEFS = f"""
type: vroom_assets.forecast.Forecast
attributes:
  name: dinners
  title: Dinners
  description: What a table spends.
  owner: team:example
  sources:
    dinners:
      path: dinners/dinners.csv
      description: Dinners.
      columns:
        dinner: {{type: integer, unique: true}}
        price: {{type: number}}
        waited: {{type: number, nullable: true}}
        guests: {{type: integer}}
        bill: {{type: number}}
  entity: {{name: dinner, source: dinners, key: dinner}}
  inputs: [price, waited, guests]
  target: {{name: bill, kind: regression, unit: EUR, horizon: the evening}}
  validation: {{folds: 3, repeats: 1, inner_folds: 2}}
  candidates:
    steps:
      family: linear
      features: [price, waited, guests]
      bins: {{price: {BINS}, waited: 4}}
      ranks: [guests]
      terms: [guests, guests ^ 2]
"""


def dinners() -> pd.DataFrame:
    """A bill that jumps at a price, falls where somebody waited, and is another where nobody knows."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "dinner": np.arange(ROWS),
            "price": rng.permutation(ROWS) / 4,
            "waited": np.where(np.arange(ROWS) % 5 == 0, np.nan, rng.permutation(ROWS) / 8),
            "guests": rng.integers(1, 9, ROWS) ** 2,
        }
    )
    frame["bill"] = (
        20
        + 30 * (frame["price"] >= 40)
        - frame["waited"].fillna(-20) / 4
        + 2 * np.sqrt(frame["guests"])
        + rng.normal(0, 2, ROWS)
    ).round(2)
    return frame


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    folder = tmp_path_factory.mktemp("dinners")
    write(folder)
    with trained_and_served(folder, "dinners") as client:
        yield client


def write(folder: Path) -> None:
    for part in ("data", "defs"):
        (folder / part / "dinners").mkdir(parents=True)
    dinners().to_csv(folder / "data" / "dinners" / "dinners.csv", index=False)
    declared = folder / "defs" / "dinners"
    (declared / "defs.yaml").write_text(DEFS)
    (declared / "features.sql").write_text("select price, waited, guests from inputs")
    (declared / "target.sql").write_text("select dinner, bill from dinners")


def expected(rows: pd.DataFrame) -> np.ndarray:
    """The forecast of the same recipe, put together by hand: the bin of the median is the one that has no column."""
    learnt = dinners()
    values, counts = np.unique(learnt["guests"], return_counts=True)
    share = (np.cumsum(counts) - counts / 2) / ROWS

    def bins(frame: pd.DataFrame, column: str, number: int) -> np.ndarray:
        there = learnt[[column]].dropna().to_numpy()
        steps = KBinsDiscretizer(number, encode="onehot-dense", strategy="quantile").fit(there)
        found = steps.transform(frame[[column]].fillna(0).to_numpy())
        found = np.delete(found, steps.transform([np.median(there, axis=0)])[0].argmax(), axis=1)
        return np.where(frame[[column]].isna(), 0, found)

    def columns(frame: pd.DataFrame) -> np.ndarray:
        rank = np.interp(frame["guests"], values, share)
        price, waited = bins(frame, "price", BINS), bins(frame, "waited", 4)
        return np.column_stack([price, waited, frame["waited"].isna(), rank, rank**2])

    model = make_pipeline(StandardScaler(), Ridge()).fit(columns(learnt), learnt["bill"])
    return model.predict(columns(rows))


def test_what_is_served_is_what_scikit_learn_predicts(client):
    rows = pd.concat(
        [
            dinners().drop(columns=["dinner", "bill"]),
            pd.DataFrame(
                {"price": [-1.0, 9.875, 500.0], "waited": [np.nan, -3.0, 99.0], "guests": [0, 30, 900]}
            ),
        ]
    )
    sent = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in rows.astype({"guests": object}).to_dict("records")
    ]
    answer = client.post("/predict/batch", json=sent)
    assert answer.status_code == 200, answer.text
    served = [one["predicted_bill"] for one in answer.json()]
    assert served == pytest.approx(expected(rows), rel=1e-9)


def test_a_step_is_where_it_was_in_the_data(client):
    bills = [
        client.post("/predict", json={"price": price, "waited": 10, "guests": 4}).json()["predicted_bill"]
        for price in (10, 35, 45, 70)
    ]
    low, below, above, high = bills
    assert abs(below - low) < 4 > abs(high - above)
    assert above - below > 25


def test_reasons_are_those_of_inputs(client):
    asked = {"price": 70, "waited": None, "guests": 4, "explain": True}
    answer = client.post("/predict", json=asked).json()
    reasons = answer["reasons"]
    amounts = {one["input"]: one["amount"] for one in reasons["reasons"]}
    assert set(amounts) == {"price", "waited", "guests"}
    assert amounts["price"] > 10
    assert reasons["baseline"] + sum(amounts.values()) == pytest.approx(answer["predicted_bill"])
