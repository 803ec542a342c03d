"""Real data in the shape of the shipped CSVs, for development; none of them is part of the project.

They are looked for in the folder that VROOM_REAL_DATA names, `../shared/data` beside the repository if it names none.
What the declared tables ask for and the real ones do not have is filled with one value for all rows, which can
tell a model nothing, and are named in the notes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vroom_assets.spec import ForecastSpec

ROOT = Path(__file__).parents[2]
VARIABLE, DEFAULT = "VROOM_REAL_DATA", "../shared/data"


Change = Callable[[ForecastSpec], ForecastSpec]


class Adapter(NamedTuple):
    """How one forecast's CSVs are written from real files, and what is to be known about them."""

    files: tuple[str, ...]
    write: Callable[[list[Path], Path], None]
    notes: tuple[str, ...]
    change: Change = lambda spec: spec


def position() -> Path:
    """The folder of the real data, whether or not it is there."""
    return (ROOT / os.environ.get(VARIABLE, DEFAULT)).resolve()


def write(forecast: str, out: Path, files: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], Change]:
    """Write the CSVs of one forecast to a folder; return what is to be known, and what the declaration leaves out.

    Args:
        files: other real files than usual.

    Raises:
        FileNotFoundError: the real files are not there; the message names them and says where they are looked for.
    """
    adapter = ADAPTERS[forecast]
    paths = [position() / file for file in files or adapter.files]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise FileNotFoundError(
            f"{', '.join(missing)} not there; {VARIABLE} names the folder of the real data"
        )
    adapter.write(paths, out)
    return adapter.notes, adapter.change


def reservations(paths: list[Path], out: Path) -> None:
    for path in paths:
        (out / path.name).write_bytes(path.read_bytes())


def upcoming_reservations(paths: list[Path], out: Path) -> None:
    vehicles, made = (pd.read_csv(path) for path in paths)
    year = pd.to_datetime(made["created_at"]).dt.year.min()
    vehicles.assign(listed_at=f"{year}-01-01 00:00:00").to_csv(out / "vehicles.csv", index=False)
    made.assign(loaded_at=made["created_at"]).to_csv(out / "reservations.csv", index=False)


def lap_times(paths: list[Path], out: Path) -> None:
    """A CSV of all laps, or for several seasons one each."""
    following = 1
    for path in paths:
        season = int(path.stem.rpartition("_")[2])
        laps = _laps(path, season, following)
        following += len(laps)
        laps.to_csv(out / (path.name if len(paths) > 1 else "laps.csv"), index=False)


def _laps(path: Path, season: int, first_id: int) -> pd.DataFrame:
    raw = pd.read_csv(path, low_memory=False)
    raw = raw[raw["LapTime"].notna()].reset_index(drop=True)
    week = pd.to_timedelta(7 * raw["RoundNumber"], unit="D")
    # 2 is a yellow flag, behind which laps are driven through; 4 safety car, 5 red flag, 6 and 7 virtual safety car.
    status = raw["TrackStatus"].astype(str)
    finished = (pd.Timestamp(season, 1, 1) + week + pd.to_timedelta(raw["Time"])).dt.strftime(
        "%Y-%m-%d %H:%M:%S.%f"
    )
    compound = raw["Compound"].str.lower()
    return pd.DataFrame(
        {
            "lap_id": raw.index + first_id,
            "season": season,
            "circuit": raw["EventName"].replace(SAME_CIRCUIT),
            "session": "race " + raw["RoundNumber"].astype(str),
            "driver": raw["Driver"],
            "lap": raw["LapNumber"].astype(int),
            "stint": raw["Stint"].astype(int),
            "compound": compound,
            "tyre_age": raw["TyreLife"].astype(int),
            "lap_time": raw["LapTime"],
            "pit_in": raw["PitInTime"].notna().astype(int),
            "pit_out": raw["PitOutTime"].notna().astype(int),
            "safety_car": status.str.contains("[4567]").astype(int),
            "weather": compound.isin(["intermediate", "wet"]).map({True: "rain", False: "dry"}),
            "track_temperature": 35.0,
            "finished_at": finished,
            "loaded_at": finished,
        }
    )


SAME_CIRCUIT = {"Styrian Grand Prix": "Austrian Grand Prix"}


def market_resolution(paths: list[Path], out: Path) -> None:
    asked = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True).sort_values("freeze_date")
    asked["market_id"] = asked.groupby(["source", "id"]).ngroup() + 1
    first = asked.drop_duplicates("market_id")
    pd.DataFrame(
        {
            "market_id": first["market_id"],
            "category": "politics",
            "opened_at": _midnight(first["open_date"].fillna(first["freeze_date"])),
            "closes_at": _midnight(first["close_date"]),
            "resolved_at": _midnight(first["resolution_date"]),
            "resolved_yes": first["outcome"].astype(int),
        }
    ).to_csv(out / "markets.csv", index=False)
    quoted = _midnight(asked["freeze_date"])
    pd.DataFrame(
        {
            "market_id": asked["market_id"],
            "quoted_at": quoted,
            "price": asked["freeze_price"],
            "volume": 0,
            "spread": 0,
            "loaded_at": quoted,
        }
    ).to_csv(out / "prices.csv", index=False)


def quoted_this_week(spec: ForecastSpec) -> ForecastSpec:
    """Without the weeks that have no price of their own."""
    [(name, statement)] = spec.examples_sql.items()
    kept = f"select * from ({statement.strip().rstrip(';')}) where price_mean_7 is not null"
    return spec.model_copy(update={"examples_sql": {name: kept}})


def _midnight(days: pd.Series) -> pd.Series:
    return pd.to_datetime(days).dt.strftime("%Y-%m-%d %H:%M:%S")


LISTINGS = ("reservations/vehicles.csv", "reservations/reservations.csv")
ADAPTERS = {
    "reservations": Adapter(LISTINGS, reservations, ("the files as they are",)),
    "upcoming_reservations": Adapter(
        LISTINGS,
        upcoming_reservations,
        (
            "when a vehicle was listed is not in the data: all count as listed on the first day of the year",
            "when a reservation became known is not in the data: it counts as known when it was made",
            "what a listing says is one look at an unknown time, which may be after some reservations",
        ),
    ),
    "lap_times": Adapter(
        ("lap_times/laps_2021.csv",),
        lap_times,
        (
            "laps without a time are left out; laps on unknown tyres are quarantined by the contract",
            "the flag `safety_car` stands for safety car, virtual safety car and red flag",
            "weather is not in the data: a lap on intermediate or wet tyres counts as rain",
            "track temperature is not in the data: 35 for all; no candidate reads it",
            "the calendar is not in the data: races stand a week apart; a lap is known when it ends",
            "two races on one circuit are one group",
        ),
    ),
    "market_resolution": Adapter(
        ("market_resolution/markets.csv",),
        market_resolution,
        (
            "a market has one price per question set, ten days before its forecast was due, and no history",
            "an example is the Monday after such a price; a week without one is none, the price would be stale",
            "the first question set falls into the two weeks of history that the declaration asks for",
            "volume, spread and category are not in the data: one value for all",
            "a market without an opening day counts as opened when its price was first taken",
        ),
        quoted_this_week,
    ),
}
