"""The generated data of the market resolution forecast: the shipped files and the law behind them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from market_resolution import generate as law
from sklearn.linear_model import LogisticRegression

SHIPPED = Path(__file__).parents[2] / "data" / "market_resolution"
DAY = pd.Timedelta(days=1)
UNPENALIZED = 1e6


def written(folder: Path, **arguments: Any) -> tuple[bytes, bytes]:
    markets, prices = law.generate(folder, **arguments)
    return markets.read_bytes(), prices.read_bytes()


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Markets, and prices with the columns of their market."""
    markets = pd.read_csv(folder / "markets.csv", parse_dates=["opened_at", "closes_at", "resolved_at"])
    prices = pd.read_csv(folder / "prices.csv", parse_dates=["quoted_at", "loaded_at"])
    return markets, prices.merge(markets, on="market_id", how="left", validate="many_to_one")


def at_half_life(prices: pd.DataFrame) -> pd.DataFrame:
    """A row per market: the last price known at the middle of its time, and the one before."""
    middle = prices["opened_at"] + (prices["closes_at"] - prices["opened_at"]) / 2
    known = prices[(prices["quoted_at"] <= middle) & (prices["loaded_at"] <= middle)]
    known = known.sort_values(["market_id", "quoted_at"])
    known["before"] = known.groupby("market_id")["price"].shift(1).fillna(known["price"])
    return known.groupby("market_id").tail(1)


def log_odds(price: pd.Series) -> pd.Series:
    return np.log(price / (1 - price))


def brier(forecast: Any, truth: pd.Series) -> float:
    return float(((truth - forecast) ** 2).mean())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ten full chunks and a part of an eleventh."""
    folder = tmp_path_factory.mktemp("large")
    law.generate(folder, markets=10 * law.CHUNK + 400, seed=3, days=2_000)
    return read(folder)


@pytest.fixture(scope="module")
def fair() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Markets and prices as arrays, with the fair probabilities that no file tells."""
    markets, prices = (pd.DataFrame(rows) for rows in law.draw(12_000, np.random.default_rng(8)))
    return markets, prices.merge(markets, on="market_id")


def test_the_shipped_files_have_the_published_shape() -> None:
    markets, prices = read(SHIPPED)
    assert list(markets.columns) == list(law.MARKET_COLUMNS)
    assert list(prices.columns[: len(law.PRICE_COLUMNS)]) == list(law.PRICE_COLUMNS)
    assert markets["market_id"].tolist() == list(range(1, 1_501))
    assert len(prices) == 35_523
    assert markets["resolved_yes"].mean() == pytest.approx(0.285, abs=0.0005)
    open_still = markets["resolved_at"].isna()
    assert open_still.sum() == 102
    assert markets["resolved_yes"].isna().equals(open_still)
    assert max(markets["opened_at"].max(), prices["loaded_at"].max()) < pd.Timestamp("2025-12-31")
    assert markets["resolved_at"].max() < pd.Timestamp("2025-12-31")
    assert all((SHIPPED / name).stat().st_size < 3_000_000 for name in law.TABLES)


def test_the_shipped_files_are_as_hard_to_forecast_as_published(tmp_path: Path) -> None:
    law.generate(tmp_path, days=2_000)  # once all of them have resolved
    markets, prices = read(tmp_path)
    known = at_half_life(prices)
    assert len(known) == len(markets)
    assert brier(known["price"], known["resolved_yes"]) == pytest.approx(0.119, abs=0.0005)
    assert brier(markets["resolved_yes"].mean(), markets["resolved_yes"]) == pytest.approx(0.205, abs=0.0005)


def test_fair_probabilities_are_calibrated_whatever_the_market(
    fair: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    _, prices = fair
    first = prices.groupby("market_id").head(1)
    last = prices.groupby("market_id").tail(1)
    for quotes in (first, last):
        excess = quotes["resolved_yes"] - quotes["fair"]
        certain = pd.cut(quotes["fair"], [0, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 1], labels=False)
        life = quotes["closes_at"] - quotes["opened_at"]
        early = quotes["resolved_at"] < quotes["closes_at"]
        for by in (certain, quotes["category"], pd.qcut(life, 4, labels=False), early):
            groups = excess.groupby(by.to_numpy())
            standard = groups.mean() / (groups.std() / np.sqrt(groups.size()))
            assert standard.abs().max() < 4.5


def test_prices_are_fair_but_for_bias_and_noise(fair: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, prices = fair
    inner = prices[prices["fair"].between(0.05, 0.95)]
    slope, intercept = np.polyfit(log_odds(inner["fair"]), log_odds(inner["price"]), 1)
    assert (slope, intercept) == pytest.approx((law.BIAS, 0), abs=0.005)
    noise = log_odds(inner["price"]) - law.BIAS * log_odds(inner["fair"])
    assert noise.std() == pytest.approx(law.PRICE_NOISE, abs=0.005)


def test_long_shots_cost_too_much_and_favourites_too_little(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    _, prices = large
    known = at_half_life(prices)
    too_much = known["price"] - known["resolved_yes"]
    assert 0.002 < too_much[known["price"].between(0.02, 0.2)].mean() < 0.04
    assert -0.05 < too_much[known["price"].between(0.8, 0.98)].mean() < 0


def test_the_price_after_platt_is_about_the_best_forecast(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    known = at_half_life(large[1])
    train, test = known.iloc[::2], known.iloc[1::2]

    def score(columns: list[str]) -> float:
        table = pd.DataFrame(
            {
                "price": log_odds(known["price"]),
                "before": log_odds(known["before"]),
                "volume": np.log1p(known["volume"]),
                "spread": known["spread"],
                "life": (known["closes_at"] - known["opened_at"]) / DAY / 50,
                **pd.get_dummies(known["category"]).astype(float),
            }
        )[columns]
        model = LogisticRegression(C=UNPENALIZED, max_iter=1_000)
        model.fit(table.loc[train.index], train["resolved_yes"])
        return brier(model.predict_proba(table.loc[test.index])[:, 1], test["resolved_yes"])

    market = brier(test["price"], test["resolved_yes"])
    platt = score(["price"])
    everything = score(["price", "before", "volume", "spread", "life", "politics", "sports", "economy"])
    assert market == pytest.approx(0.12, abs=0.006)
    assert platt < market
    assert everything == pytest.approx(platt, rel=0.005)
    assert score(["volume", "spread", "life", "politics", "sports", "economy"]) > 0.19


def test_the_slope_of_platt_is_the_inverse_of_the_bias(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    known = at_half_life(large[1])
    model = LogisticRegression(C=UNPENALIZED).fit(log_odds(known["price"]).to_frame(), known["resolved_yes"])
    assert model.coef_[0, 0] == pytest.approx(1 / law.BIAS, abs=0.06)


def test_a_market_is_better_known_as_it_closes(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, prices = large
    share = (prices["quoted_at"] - prices["opened_at"]) / (prices["closes_at"] - prices["opened_at"])
    error = (prices["resolved_yes"] - prices["price"]) ** 2
    first, last = error[share < 0.1].mean(), error[share > 0.9].mean()
    assert first == pytest.approx(0.135, abs=0.008)
    assert last == pytest.approx(0.105, abs=0.008)


def test_categories_have_their_shares(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    markets, _ = large
    by_category = markets.groupby("category")["resolved_yes"].agg(["size", "mean"])
    for name, share, yes in law.CATEGORIES:
        size = by_category.loc[name, "size"]
        assert size / len(markets) == pytest.approx(share, abs=0.015), name
        assert by_category.loc[name, "mean"] == pytest.approx(yes, abs=4.5 * 0.5 / np.sqrt(size)), name
    assert sum(share for _, share, _ in law.CATEGORIES) == pytest.approx(1)


def test_markets_live_weeks_and_some_resolve_early(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    markets, _ = large
    life = (markets["closes_at"] - markets["opened_at"]) / DAY
    assert life.median() == pytest.approx(law.LIFE_MEDIAN + 0.5, abs=1)
    assert life.between(law.LIFE_SHORTEST - 1, law.LIFE_LONGEST + 1).all()
    early = markets["resolved_at"] < markets["closes_at"]
    assert early.mean() == pytest.approx(law.EARLY_SHARE, abs=0.015)
    lived = (markets["resolved_at"] - markets["opened_at"]) / (markets["closes_at"] - markets["opened_at"])
    assert lived.min() >= law.EARLY_FROM - 1e-6
    assert (markets["closes_at"].dt.strftime("%H:%M:%S") == "23:59:00").all()
    assert markets["opened_at"].dt.year.isin([2024, 2025]).all()


def test_every_price_is_of_a_market_while_it_is_open(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    markets, prices = large
    assert prices["market_id"].isin(markets["market_id"]).all()
    assert markets["market_id"].isin(prices["market_id"]).all()
    assert (prices["quoted_at"] >= prices["opened_at"]).all()
    assert (prices["quoted_at"] < prices["closes_at"]).all()
    assert (prices["quoted_at"] < prices["resolved_at"]).all()
    assert not prices.duplicated(["market_id", "quoted_at"]).any()
    gap = prices.sort_values(["market_id", "quoted_at"]).groupby("market_id")["quoted_at"].diff()
    assert gap.mean() == pytest.approx(law.QUOTE_DAYS * DAY, rel=0.02)
    assert gap.max() < 2 * law.QUOTE_DAYS * DAY


def test_what_a_market_site_shows_is_in_range(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, prices = large
    assert prices["price"].between(law.LOWEST_PRICE, 1 - law.LOWEST_PRICE).all()
    assert prices["spread"].between(law.SPREAD_LEAST, law.MAX_SPREAD).all()
    assert (prices["volume"] >= 0).all()
    assert prices["volume"].median() == pytest.approx(law.VOLUME_MEDIAN, rel=0.1)
    assert prices["volume"].rank().corr(prices["spread"].rank()) < -0.8


def test_a_price_is_known_after_its_quote_and_some_much_later(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    _, prices = large
    delay = prices["loaded_at"] - prices["quoted_at"]
    late = delay >= DAY
    assert (delay > pd.Timedelta(0)).all()
    assert late.mean() == pytest.approx(law.LATE_SHARE, abs=0.002)
    assert delay[~late].mean().total_seconds() == pytest.approx(law.USUAL_DELAY, rel=0.05)
    assert delay[~late].max() < pd.Timedelta(hours=2)
    assert (law.LATE_TO - 1) * DAY < delay.max() <= law.LATE_TO * DAY + pd.Timedelta(seconds=1)


def test_bias_moves_prices_and_nothing_else(tmp_path: Path) -> None:
    usual = written(tmp_path / "usual", markets=300)
    level = written(tmp_path / "level", markets=300, bias=1.0)
    assert usual[0] == level[0]
    (_, biased), (_, unbiased) = read(tmp_path / "usual"), read(tmp_path / "level")
    pd.testing.assert_frame_equal(biased.drop(columns="price"), unbiased.drop(columns="price"))
    assert (biased["price"] - 0.5).abs().mean() < (unbiased["price"] - 0.5).abs().mean() - 0.005
