"""The generated data of the lap times forecast: the shipped file and the law behind it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lap_times import generate as law

SHIPPED = Path(__file__).parents[2] / "data" / "lap_times"
SESSION = ["season", "circuit", "session"]
DRIVEN = [*SESSION, "driver"]
STINT = [*DRIVEN, "stint"]
SECOND = pd.Timedelta(seconds=1)


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "laps.csv", parse_dates=["started_at", "finished_at", "loaded_at"])


def clean(laps: pd.DataFrame) -> pd.DataFrame:
    """Laps that say something of the pace, with the one before of the same stint and the mean of three before."""
    usual = laps["lap_time"] < 1.07 * laps.groupby(SESSION)["lap_time"].transform("median")
    marked = laps[["pit_in", "pit_out", "safety_car"]].any(axis=1)
    dry = (laps["weather"] == "dry") & (laps["compound"] != "intermediate")
    kept = laps[usual & ~marked & dry & (laps["lap"] > 1)].sort_values([*DRIVEN, "lap"])
    before = kept.groupby(STINT)["lap_time"]
    kept["previous"] = before.shift(1)
    kept["mean_of_three"] = (before.shift(1) + before.shift(2) + before.shift(3)) / 3
    return kept


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return read(SHIPPED)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Eight seasons."""
    folder = tmp_path_factory.mktemp("large")
    law.generate(folder, seasons=8, seed=3)
    return read(folder)


def test_the_shipped_file_has_the_published_shape(shipped: pd.DataFrame) -> None:
    assert list(shipped.columns) == list(law.COLUMNS)
    assert shipped["lap_id"].tolist() == list(range(1, 7_871))
    assert not shipped.duplicated([*DRIVEN, "lap"]).any()
    assert not shipped.isna().any(axis=None)
    assert (SHIPPED / "laps.csv").stat().st_size < 3_000_000
    races = shipped[shipped["session"] == "race"].groupby("circuit")
    assert len(races) == 12
    assert races["driver"].nunique().between(10, 12).all()
    assert races["lap"].max().between(50, 60).all()
    assert shipped.loc[shipped["session"] == "sprint", "circuit"].nunique() == 3


def test_the_shipped_file_is_as_hard_to_forecast_as_published(shipped: pd.DataFrame) -> None:
    laps = clean(shipped)
    error = (laps["lap_time"] - laps["previous"]).dropna().abs()
    assert len(error) == 6_116
    assert error.mean() == pytest.approx(0.427, abs=0.0005)
    assert error.median() == pytest.approx(0.264, abs=0.0005)


def test_the_next_lap_is_like_the_last_ones_but_for_noise(large: pd.DataFrame) -> None:
    laps = clean(large)
    step = (laps["lap_time"] - laps["previous"]).dropna()
    assert step.abs().mean() == pytest.approx(0.425, abs=0.015)
    assert (laps["lap_time"] - laps["mean_of_three"]).abs().mean() == pytest.approx(0.43, abs=0.02)
    # A lap far slower than the mean of the last is made up for by the next: a linear look back gains.
    known = laps.dropna(subset="mean_of_three")
    above = known["previous"] - known["mean_of_three"]
    back = known["lap_time"] - known["mean_of_three"]
    slope = (above * back).sum() / (above**2).sum()
    assert 0.3 < slope < 0.7
    assert (back - slope * above).abs().mean() < 0.97 * step.abs().mean()


def test_the_circuit_alone_tells_little_of_a_lap(large: pd.DataFrame) -> None:
    laps = clean(large)
    typical = laps.groupby(SESSION)["lap_time"].transform("median")
    assert (laps["lap_time"] - typical).abs().mean() == pytest.approx(1.1, abs=0.25)
    assert (laps["lap_time"] - laps["lap_time"].median()).abs().mean() > 7


def test_noise_is_a_fifth_of_a_second_beside_what_wanders_and_traffic() -> None:
    pace = np.zeros(len(law.DRIVERS))
    rng = (np.random.default_rng(5) for _ in range(2))
    usual, calm = (law.draw(1, "race", pace, next(rng), noise=factor) for factor in (1.0, 0.0))
    usual, calm = (pd.DataFrame(rows).sort_values(["driver", "lap"]) for rows in (usual, calm))
    chance = usual["lap_time"].to_numpy() - calm["lap_time"].to_numpy()
    by_driver = pd.Series(chance).groupby(usual["driver"].to_numpy())
    bent = by_driver.diff().groupby(usual["driver"].to_numpy()).diff().abs() / 1_000
    # Second differences of white noise have √6 times its spread; wandering and traffic add to it.
    assert 0.20 < 1.4826 * bent.median() / np.sqrt(6) < 0.33


def test_laps_follow_each_other_without_a_gap(large: pd.DataFrame) -> None:
    laps = large.sort_values([*DRIVEN, "lap"])
    assert (
        (laps["lap_time"] * 1_000)
        .round()
        .eq((laps["finished_at"] - laps["started_at"]) // pd.Timedelta(milliseconds=1))
        .all()
    )
    by_driver = laps.groupby(DRIVEN)
    assert (by_driver["lap"].diff().dropna() == 1).all()
    assert (by_driver["lap"].min() == 1).all()
    before = by_driver["finished_at"].shift(1)
    assert (before.isna() | (before == laps["started_at"])).all()


def test_rows_are_in_the_order_in_which_laps_ended(large: pd.DataFrame) -> None:
    for _, laps in large.groupby(SESSION):
        assert laps["finished_at"].is_monotonic_increasing


def test_a_lap_is_known_a_moment_after_its_end_and_some_much_later(large: pd.DataFrame) -> None:
    delay = (large["loaded_at"] - large["finished_at"]) / SECOND
    late = delay >= law.LATE_FROM
    assert (delay >= 0.1).all()
    assert delay[~late].mean() == pytest.approx(0.1 + law.USUAL_DELAY, abs=0.02)
    assert (delay[~late] > 5).mean() < 0.001
    assert late.mean() == pytest.approx(law.LATE_SHARE, abs=0.003)
    assert law.LATE_TO * 0.9 < delay.max() < law.LATE_TO


def test_a_stop_is_marked_on_both_its_laps_and_begins_a_stint(large: pd.DataFrame) -> None:
    laps = large.sort_values([*DRIVEN, "lap"])
    by_driver = laps.groupby(DRIVEN)
    stopped = by_driver["pit_in"].shift(1).fillna(0)
    assert (laps["pit_out"] == stopped).all()
    assert (laps["stint"] == 1 + by_driver["pit_out"].cumsum()).all()
    age = laps.groupby(STINT)["tyre_age"]
    assert (age.diff().dropna() == 1).all()
    assert set(age.min()) == {1, 2, 3, 4}
    assert len(laps[[*STINT, "compound"]].drop_duplicates()) == len(age)
    assert 0.02 < laps["pit_in"].mean() < 0.04
    assert (laps.loc[laps["session"] == "race"].groupby(DRIVEN)["stint"].max() > 1).mean() > 0.9


def test_marked_laps_are_slow(large: pd.DataFrame) -> None:
    over = large["lap_time"] - large.groupby(SESSION)["lap_time"].transform("median")
    dry = (large["weather"] == "dry") & (large["lap"] > 1)
    calm = dry & (large["safety_car"] == 0)
    assert over[calm & (large["pit_in"] == 1)].median() == pytest.approx(law.PIT_IN_LOSS, abs=1)
    assert over[calm & (large["pit_out"] == 1)].median() == pytest.approx(20, abs=1.5)
    behind = large[dry & (large["safety_car"] == 1) & (large[["pit_in", "pit_out"]].sum(axis=1) == 0)]
    fast = behind["circuit"].map({circuit.name: circuit.fast_lap for circuit in law.CIRCUITS})
    assert (behind["lap_time"] / fast).mean() == pytest.approx(law.SAFETY_CAR_PACE, abs=0.01)
    sessions = large.groupby(SESSION)["safety_car"].max()
    assert sessions.mean() == pytest.approx(law.SAFETY_CAR, abs=0.15)


def test_rain_is_driven_on_intermediates_and_slows_everybody(large: pd.DataFrame) -> None:
    rain = large[large["weather"] == "rain"]
    assert 0.02 < len(rain) / len(large) < 0.12
    assert (rain["compound"] == "intermediate").mean() > 0.7
    assert (large.loc[large["weather"] == "dry", "compound"] == "intermediate").mean() < 0.05
    fast = large["circuit"].map({circuit.name: circuit.fast_lap for circuit in law.CIRCUITS})
    slow = (large["lap_time"] / fast).groupby(large["weather"]).median()
    assert slow["rain"] - slow["dry"] == pytest.approx(law.RAIN_LOSS, abs=0.04)


def test_tyres_lose_with_age_and_softer_ones_more() -> None:
    pace = np.zeros(len(law.DRIVERS))
    worn, new = (law.draw(2, "race", pace, np.random.default_rng(1), wear=factor) for factor in (1.0, 0.0))
    laps = pd.DataFrame(worn).sort_values(["driver", "lap"])
    fresh = pd.DataFrame(new).sort_values(["driver", "lap"])
    lost = (laps["lap_time"].to_numpy() - fresh["lap_time"].to_numpy()) / 1_000
    racing = (laps["safety_car"] == 0).to_numpy()
    rate = pd.Series(lost[racing] / laps["tyre_age"].to_numpy()[racing])
    rate = rate.groupby(laps["compound"].to_numpy()[racing]).mean()
    assert rate[0] > rate[1] > rate[2] > 0.02
    assert (lost[~racing] == 0).all()


def test_circuits_and_drivers_keep_their_pace(large: pd.DataFrame) -> None:
    laps = clean(large)
    by_circuit = laps.pivot_table("lap_time", "circuit", "season", "median")
    fast = pd.Series({circuit.name: circuit.fast_lap for circuit in law.CIRCUITS})
    assert by_circuit.std(axis=1).max() < 2.5
    assert by_circuit.mean(axis=1).corr(fast) > 0.99
    laps["gap"] = laps["lap_time"] - laps.groupby(SESSION)["lap_time"].transform("median")
    by_driver = laps.pivot_table("gap", "season", "driver", "mean")
    assert (by_driver.max(axis=1) - by_driver.min(axis=1)).between(1, 2.5).all()


def test_sessions_are_on_weekends(large: pd.DataFrame) -> None:
    start = large.groupby(SESSION)["started_at"].min().reset_index()
    weekday = start["started_at"].dt.weekday
    assert (weekday[start["session"] == "race"] == 6).all()
    assert (weekday[start["session"] == "sprint"] == 5).all()
    assert (start["started_at"].dt.year == start["season"]).all()


def test_a_season_is_a_calendar_year_about_as_long_as_the_others(large: pd.DataFrame) -> None:
    laps = large.groupby("season").size()
    assert laps.index.tolist() == list(range(2024, 2032))
    assert (laps / laps.iloc[0]).between(0.8, 1.2).all()
