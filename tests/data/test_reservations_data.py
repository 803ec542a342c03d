"""The generated data of the reservations forecast: the shipped files and the law behind them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reservations import generate as law

SHIPPED = Path(__file__).parents[2] / "data" / "reservations"


def written(folder: Path, **arguments: Any) -> tuple[bytes, bytes]:
    vehicles, reservations = law.generate(folder, **arguments)
    return vehicles.read_bytes(), reservations.read_bytes()


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Vehicles with their counts, and reservations."""
    vehicles, reservations = (pd.read_csv(folder / name) for name in law.TABLES)
    counts = reservations.groupby("vehicle_id").size()
    vehicles["reservations"] = vehicles["vehicle_id"].map(counts).fillna(0).astype(int)
    return vehicles, reservations


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two full chunks and a part of a third."""
    folder = tmp_path_factory.mktemp("large")
    law.generate(folder, vehicles=2 * law.CHUNK + 7_000, seed=3)
    return read(folder)


def test_the_shipped_files_have_the_published_shape() -> None:
    vehicles, _ = read(SHIPPED)
    counts = vehicles["reservations"]
    assert list(vehicles.columns) == [*law.VEHICLE_COLUMNS, "reservations"]
    assert vehicles["vehicle_id"].tolist() == list(range(1, 1001))
    assert counts.mean() == pytest.approx(6.4, abs=0.05)
    assert counts.median() == 5
    assert counts.std() == pytest.approx(4.9, abs=0.05)
    assert (counts == 0).mean() == pytest.approx(0.09, abs=0.005)
    assert counts.max() == 25


def test_the_shipped_files_correlate_as_published() -> None:
    vehicles, _ = read(SHIPPED)
    ratio = vehicles["actual_price"] / vehicles["recommended_price"]
    published = {"num_images": 0.220, "technology": 0.136, "description": 0.016, "street_parked": -0.017}
    measured = vehicles[list(published)].corrwith(vehicles["reservations"])
    assert measured.to_dict() == pytest.approx(published, abs=0.035)
    assert ratio.corr(vehicles["reservations"]) == pytest.approx(-0.398, abs=0.02)


def test_files_and_arrays_are_the_same_draw(tmp_path: Path) -> None:
    law.generate(tmp_path, vehicles=300, seed=5)
    vehicles, _ = read(tmp_path)
    child = np.random.SeedSequence(5, spawn_key=(0,))
    rows = law.draw(300, np.random.default_rng(child))
    pd.testing.assert_frame_equal(vehicles, pd.DataFrame(rows))


def test_chunks_are_different_draws_of_one_law(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    first, second = (vehicles.iloc[part * law.CHUNK :][: law.CHUNK] for part in (0, 1))
    assert vehicles["vehicle_id"].tolist() == list(range(1, len(vehicles) + 1))
    assert (first["actual_price"].to_numpy() == second["actual_price"].to_numpy()).mean() < 0.01
    for column in vehicles.columns.drop("vehicle_id"):
        one, other = first[column].to_numpy(), second[column].to_numpy()
        error = np.sqrt((one.var() + other.var()) / law.CHUNK)
        assert abs(one.mean() - other.mean()) < 4.5 * error, column


def test_every_cell_reaches_its_cap_and_never_passes_it(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    ratio = (vehicles["actual_price"] / vehicles["recommended_price"]).round(6)
    cell = pd.cut(ratio, [0, 1, *law.CAP_RATIOS, 9], labels=False).rename("ratio")
    highest = vehicles.pivot_table("reservations", cell, "num_images", "max").to_numpy()
    caps = np.array([law.CAPS[0], *law.CAPS])
    caps[1] += law.EXTRA_CAP
    np.testing.assert_array_equal(highest, caps)


def test_counts_are_uniform_up_to_the_cap(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    counts = vehicles.loc[vehicles["actual_price"] <= vehicles["recommended_price"], "reservations"]
    observed = np.bincount(counts, minlength=21)
    expected = len(counts) / 21
    assert np.abs(observed - expected).max() < 5 * np.sqrt(expected)


def test_expected_reservations_is_the_mean_of_the_law(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    expected = law.expected_reservations({name: vehicles[name].to_numpy() for name in vehicles})
    for value in set(expected):
        counts = vehicles.loc[expected == value, "reservations"].to_numpy()
        assert abs(counts.mean() - value) < 4.5 * counts.std() / np.sqrt(len(counts)), value
    assert sorted(set(expected)) == [2.5, 3.5, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 10, 10.5]


def test_listings_have_the_measured_proportions(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, _ = large
    assert vehicles["technology"].mean() == pytest.approx(0.17, abs=0.01)
    assert vehicles["street_parked"].mean() == pytest.approx(0.511, abs=0.01)
    images = vehicles["num_images"].value_counts(normalize=True).sort_index()
    assert images.to_dict() == pytest.approx({1: 0.171, 2: 0.223, 3: 0.202, 4: 0.235, 5: 0.169}, abs=0.01)
    assert (vehicles["description"] <= 50).mean() == pytest.approx(0.474, abs=0.01)
    assert (vehicles["description"].min(), vehicles["description"].max()) == (1, 250)
    assert (vehicles["recommended_price"].min(), vehicles["recommended_price"].max()) == (35, 89)
    ratio = vehicles["actual_price"] / vehicles["recommended_price"]
    assert (ratio.min(), ratio.max()) == pytest.approx((0.8, 2.0))
    assert vehicles.loc[vehicles["technology"] == 1, "actual_price"].max() == 73.5
    assert vehicles.loc[vehicles["technology"] == 0, "actual_price"].max() > 150


def test_every_reservation_is_of_a_listed_vehicle_and_in_no_order(
    large: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    vehicles, reservations = large
    assert reservations["vehicle_id"].isin(vehicles["vehicle_id"]).all()
    some = reservations.head(10_000)
    assert abs(some["vehicle_id"].corr(pd.Series(some.index, index=some.index))) < 0.05
    assert not some["created_at"].is_monotonic_increasing


def test_reservations_are_spread_evenly_over_the_year(large: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, reservations = large
    created_at = pd.to_datetime(reservations["created_at"])
    assert created_at.dt.year.unique().tolist() == [2023]
    assert created_at.dt.normalize().nunique() == 365
    by_hour = created_at.dt.hour.value_counts(normalize=True)
    assert by_hour.to_numpy() == pytest.approx(np.full(24, 1 / 24), rel=0.04)
    by_month = created_at.dt.month.value_counts(normalize=True).sort_index()
    assert by_month.to_numpy() == pytest.approx(
        pd.date_range("2023", periods=12, freq="MS").days_in_month / 365, rel=0.03
    )


def test_seasonality_moves_times_from_january_to_july_and_nothing_else(tmp_path: Path) -> None:
    flat = written(tmp_path / "flat", vehicles=4_000)
    seasonal = written(tmp_path / "seasonal", vehicles=4_000, seasonality=0.5)
    assert flat[0] == seasonal[0]
    assert len(flat[1]) == len(seasonal[1])
    _, reservations = read(tmp_path / "seasonal")
    days = pd.to_datetime(reservations["created_at"]).dt.month.value_counts(normalize=True) / 31 * 365
    assert days[7] == pytest.approx(1.5, abs=0.1)
    assert days[1] == pytest.approx(0.5, abs=0.1)


def test_a_leap_year_has_its_last_day(tmp_path: Path) -> None:
    law.generate(tmp_path, vehicles=2_000, year=2024)
    days = pd.read_csv(tmp_path / "reservations.csv")["created_at"].str[:10]
    assert days.nunique() == 366
    assert (days.min(), days.max()) == ("2024-01-01", "2024-12-31")


@pytest.mark.parametrize("demand", [0.0, 0.85, 1.15, 2.0])
def test_demand_multiplies_reservations_and_leaves_the_listings(demand: float) -> None:
    usual, moved = (law.draw(50_000, np.random.default_rng(4), demand=factor) for factor in (1.0, demand))
    for column in law.VEHICLE_COLUMNS:
        np.testing.assert_array_equal(usual[column], moved[column])
    assert moved["reservations"].mean() == pytest.approx(demand * usual["reservations"].mean(), rel=0.005)
    np.testing.assert_allclose(
        law.expected_reservations(moved, demand), demand * law.expected_reservations(usual)
    )


def test_price_moves_the_listings_and_keeps_the_law() -> None:
    usual, moved = (law.draw(50_000, np.random.default_rng(4), price=factor) for factor in (1.0, 1.2))
    np.testing.assert_allclose(moved["actual_price"], 1.2 * usual["actual_price"], atol=0.0051)
    assert moved["reservations"].mean() < usual["reservations"].mean() - 0.8
    expected = law.expected_reservations(moved)
    assert moved["reservations"].mean() == pytest.approx(expected.mean(), abs=0.1)
