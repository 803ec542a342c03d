"""The generated data of the upcoming reservations forecast: the shipped files and the law behind them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from upcoming_reservations import generate as law

SHIPPED = Path(__file__).parents[2] / "data" / "upcoming_reservations"
TIMES = ["created_at", "loaded_at"]
DAY = pd.Timedelta(days=1)
TEST_DAY = pd.Timestamp("2024-04-02")  # its 90 days are the last that close within the shipped files
HORIZON = 90 * DAY


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    vehicles = pd.read_csv(folder / "vehicles.csv", parse_dates=["listed_at"])
    return vehicles, pd.read_csv(folder / "reservations.csv", parse_dates=TIMES)


def examples(vehicles: pd.DataFrame, reservations: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Of the vehicles listed by `day`: forecasts of the next 90 days from listing and history, and the truth."""
    listed = vehicles[vehicles["listed_at"] < day].set_index("vehicle_id")
    created_at = reservations["created_at"]
    before = reservations[(created_at < day) & (reservations["loaded_at"] <= day)]
    after = reservations[(created_at >= day) & (created_at < day + HORIZON)]
    past, truth = (
        part.groupby("vehicle_id").size().reindex(listed.index, fill_value=0) for part in (before, after)
    )
    years = (day - listed["listed_at"]) / (law.YEAR_DAYS * DAY)
    rate = law.expected_rate({name: listed[name].to_numpy() for name in listed})
    updated = rate * (law.CONCENTRATION + past) / (law.CONCENTRATION + rate * years)
    share = HORIZON / (law.YEAR_DAYS * DAY)
    return pd.DataFrame({"years": years, "listing": share * rate, "history": share * updated, "truth": truth})


def errors(table: pd.DataFrame) -> dict[str, float]:
    """Mean absolute errors of forecasting the mean, from the listing, and from the history as well."""
    forecasts = {"mean": table["truth"].mean(), "listing": table["listing"], "history": table["history"]}
    return {name: float((table["truth"] - forecast).abs().mean()) for name, forecast in forecasts.items()}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four full chunks and a part of a fifth."""
    folder = tmp_path_factory.mktemp("large")
    law.generate(folder, vehicles=4 * law.CHUNK + 2_000, seed=3)
    return read(folder)


def test_the_shipped_files_have_the_published_shape() -> None:
    vehicles, reservations = read(SHIPPED)
    assert list(vehicles.columns) == list(law.VEHICLE_COLUMNS)
    assert list(reservations.columns) == list(law.RESERVATION_COLUMNS)
    assert vehicles["vehicle_id"].tolist() == list(range(1, 601))
    assert len(reservations) == 3_995
    assert str(reservations["created_at"].min().date()) == "2023-01-03"
    assert str(reservations["created_at"].max().date()) == "2024-06-30"
    assert sum((SHIPPED / name).stat().st_size for name in law.TABLES) < 3_000_000


def test_the_shipped_files_are_as_hard_to_forecast_as_published() -> None:
    table = examples(*read(SHIPPED), TEST_DAY)
    assert errors(table[table["years"] * law.YEAR_DAYS >= 240]) == pytest.approx(
        {"mean": 1.23, "listing": 1.10, "history": 1.01}, abs=0.015
    )


def test_history_says_more_than_the_listing_and_the_listing_more_than_nothing(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    table = examples(*large, TEST_DAY)
    of_old = errors(table[table["years"] * law.YEAR_DAYS >= 240])
    assert of_old == pytest.approx({"mean": 1.22, "listing": 1.12, "history": 1.00}, abs=0.025)
    new = table[table["years"] * law.YEAR_DAYS < 10]
    assert len(new) > 300
    assert errors(new)["history"] == pytest.approx(errors(new)["listing"], rel=0.02)


def test_forecasts_of_the_law_have_no_bias(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table = examples(*large, TEST_DAY)
    for forecast in ("listing", "history"):
        error = table["truth"] - table[forecast]
        # What was made before the day and loaded after it is missing from the history.
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error)) + 0.01, forecast


def test_rates_are_gamma_around_what_the_listing_predicts() -> None:
    rows, reservations = law.draw(60_000, np.random.default_rng(1))
    ratio = rows["rate"] / law.expected_rate(rows)
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.var() == pytest.approx(1 / law.CONCENTRATION, rel=0.04)
    assert abs(np.corrcoef(ratio, law.expected_rate(rows))[0, 1]) < 0.02
    years = (law.DAYS - rows["listed_at"] / 86_400) / law.YEAR_DAYS
    counts = np.bincount(reservations["vehicle_id"], minlength=60_001)[1:]
    standard = (counts - rows["rate"] * years) / np.sqrt(rows["rate"] * years)
    assert standard.mean() == pytest.approx(0, abs=0.02)
    assert standard.var() == pytest.approx(1, abs=0.04)  # a Poisson process, given its rate


def test_half_of_the_vehicles_are_there_from_the_start_and_others_come_all_the_time(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    vehicles, _ = large
    day = (vehicles["listed_at"] - pd.Timestamp("2023-01-01")) / DAY
    assert (day.min() >= 0) & (day.max() < law.DAYS)
    assert (day < law.LAUNCH_DAYS).mean() == pytest.approx(law.LAUNCH_SHARE, abs=0.01)
    by_month = day[day >= law.LAUNCH_DAYS].floordiv(law.YEAR_DAYS / 12).value_counts(normalize=True)
    assert by_month[range(2, 17)].to_numpy() == pytest.approx(np.full(15, 30.4 / 517), rel=0.15)


def test_every_reservation_is_of_a_listed_vehicle_and_not_before_its_listing(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    vehicles, reservations = large
    listed_at = reservations["vehicle_id"].map(vehicles.set_index("vehicle_id")["listed_at"])
    assert listed_at.notna().all()
    assert (reservations["created_at"] >= listed_at).all()
    assert (reservations["created_at"] < pd.Timestamp("2023-01-01") + law.DAYS * DAY).all()


def test_reservations_are_in_no_order(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, reservations = large
    some = reservations.head(10_000)
    for column in ("vehicle_id", "created_at"):
        assert abs(some[column].rank().corr(pd.Series(some.index, index=some.index))) < 0.05, column


def test_a_reservation_is_known_after_it_is_made_and_some_much_later(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    _, reservations = large
    delay = reservations["loaded_at"] - reservations["created_at"]
    late = delay >= DAY
    assert (delay > pd.Timedelta(0)).all()
    assert late.mean() == pytest.approx(law.LATE_SHARE, abs=0.003)
    assert delay[~late].mean().total_seconds() == pytest.approx(law.USUAL_DELAY, rel=0.05)
    assert delay[~late].max() < pd.Timedelta(hours=1)
    assert delay.max() == pytest.approx(law.LATE_TO * DAY, abs=DAY)


def test_reservations_are_spread_evenly_over_time_once_a_vehicle_is_listed(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    vehicles, reservations = large
    old = vehicles.loc[vehicles["listed_at"] < pd.Timestamp("2023-01-31"), "vehicle_id"]
    created_at = reservations.loc[reservations["vehicle_id"].isin(old), "created_at"]
    by_month = created_at[created_at >= "2023-02-01"].dt.to_period("M").value_counts().sort_index()
    per_day = by_month / by_month.index.days_in_month
    assert per_day.to_numpy() == pytest.approx(np.full(17, per_day.mean()), rel=0.06)
    assert created_at.dt.hour.value_counts(normalize=True).to_numpy() == pytest.approx(
        np.full(24, 1 / 24), rel=0.06
    )


def test_the_listings_are_those_of_the_other_forecast(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    child = np.random.SeedSequence(3, spawn_key=(0,))
    rows = law.listings.draw(law.CHUNK, np.random.default_rng(child))
    for column in law.listings.VEHICLE_COLUMNS:
        np.testing.assert_array_equal(vehicles[column].head(law.CHUNK), rows[column])
    assert vehicles["technology"].mean() == pytest.approx(0.17, abs=0.01)
    assert vehicles["num_images"].mean() == pytest.approx(3.008, abs=0.03)
    assert (vehicles["recommended_price"].min(), vehicles["recommended_price"].max()) == (35, 89)


@pytest.mark.parametrize("demand", [0.0, 0.85, 2.0])
def test_demand_multiplies_reservations_and_leaves_the_listings(demand: float) -> None:
    usual, moved = (law.draw(30_000, np.random.default_rng(4), demand=factor) for factor in (1.0, demand))
    for column in law.VEHICLE_COLUMNS:
        np.testing.assert_array_equal(usual[0][column], moved[0][column])
    assert len(moved[1]["created_at"]) == pytest.approx(demand * len(usual[1]["created_at"]), rel=0.02)


def test_price_moves_the_listings_and_keeps_the_law() -> None:
    usual, moved = (law.draw(30_000, np.random.default_rng(4), price=factor) for factor in (1.0, 1.2))
    np.testing.assert_allclose(moved[0]["actual_price"], 1.2 * usual[0]["actual_price"], atol=0.0051)
    assert len(moved[1]["created_at"]) < 0.9 * len(usual[1]["created_at"])
    assert moved[0]["rate"].mean() == pytest.approx(law.expected_rate(moved[0]).mean(), rel=0.01)
