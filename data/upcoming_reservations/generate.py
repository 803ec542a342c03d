"""Generate `vehicles.csv` and `reservations.csv` of a growing marketplace, at any size, from a seed.

The listings are those of `../reservations/generate.py`, drawn by that file. What is new is time: a vehicle is
listed some day, and from then on reserved at a rate of its own. The rate is what the listing predicts times
a gamma variable of mean 1, so that a listing says something, its history more, and chance the rest.
`data/README.md` tells the law in words.

Only NumPy is needed. Vehicles are drawn in chunks of `CHUNK`, each from its own child of the seed: memory does
not grow with the number of vehicles, and the files depend on the arguments alone.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what is imported now is beside this folder
from generating import Floats, Integers, Rows, chunks, command, lines, replacing, require, times
from reservations import generate as listings

VEHICLE_COLUMNS = (*listings.VEHICLE_COLUMNS, "listed_at")
RESERVATION_COLUMNS = ("vehicle_id", "created_at", "loaded_at")
TABLES = {"vehicles.csv": VEHICLE_COLUMNS, "reservations.csv": RESERVATION_COLUMNS}

# Draws 600 vehicles whose next 90 days are as hard to forecast as those of real ones (mean 1.23, listing 1.10,
# history 1.01): found by a search over 1,000 seeds, as these errors differ by 4 to 5 % by chance.
SEED = 19
CHUNK = 10_000  # part of the law: another size draws other vehicles

DAYS = 547  # 2023-01-01 to 2024-06-30
LAUNCH_SHARE, LAUNCH_DAYS = 0.5, 30  # of the vehicles are listed as the marketplace opens, in so many days

# Of the gamma variable: 1 / variance. Real counts of a year ask for about 3 if nothing bounds them; they are
# bounded, and 4 comes closer to the measured errors of the next 90 days.
CONCENTRATION = 4
LEVEL = 0.95  # of the yearly mean that `reservations` knows: real vehicles get a little less
YEAR_DAYS = 365

# When a reservation is known: most are sent at once, some come weeks later with a correction of the books.
USUAL_DELAY = 120  # seconds, mean
LATE_SHARE, LATE_FROM, LATE_TO = 0.04, 1, 30  # days

_DAY = 86_400  # seconds


def generate(
    folder: str | os.PathLike[str],
    *,
    vehicles: int = 600,
    seed: int = SEED,
    year: int = 2023,
    days: int = DAYS,
    demand: float = 1.0,
    price: float = 1.0,
) -> tuple[Path, ...]:
    """Write `vehicles.csv` and `reservations.csv` to `folder`, and return their paths.

    The files appear when both are complete. Peak memory does not depend on `vehicles`.

    Parameters
    ----------
    vehicles : listed vehicles, numbered from 1.
    seed : same arguments, same bytes.
    year : the marketplace opens on its first day.
    days : for which reservations are recorded, from that day on.
    demand : multiplies the rate of every vehicle and leaves the listings alone.
    price : multiplies actual prices, so that listings move and the law of their reservations stays.

    Raises
    ------
    ArgumentOutOfRange : names the argument, its value and the values allowed.
    """
    require("vehicles", vehicles, 1, 10**9)
    require("seed", seed, 0, 2**63)
    require("year", year, 1970, 9900)
    require("days", days, 2 * LAUNCH_DAYS, 20 * YEAR_DAYS)
    require("demand", demand, 0, 100)
    require("price", price, 0.01, 50)
    start = np.datetime64(f"{year}-01-01", "s")
    with replacing(folder, TABLES) as (listed, reserved):
        for first, size, rng in chunks(vehicles, CHUNK, seed):
            rows, reservations = draw(size, rng, first=first, days=days, demand=demand, price=price)
            listed.write(lines(_vehicle_text(rows, start)))
            reserved.write(lines(_reservation_text(reservations, start)))
    return tuple(Path(folder) / name for name in TABLES)


def draw(
    vehicles: int,
    rng: np.random.Generator,
    *,
    first: int = 1,
    days: int = DAYS,
    demand: float = 1.0,
    price: float = 1.0,
) -> tuple[Rows, Rows]:
    """Draw vehicles and their reservations, without files.

    Returns
    -------
    The columns of `vehicles.csv` and `rate`, the reservations per year that the vehicle gets on average, of shape
    (vehicles,); the columns of `reservations.csv`, in random order. All times in seconds since the opening.
    """
    rows = listings.draw(vehicles, rng, first=first, price=price)
    del rows["reservations"]  # of the calendar year that the other forecast is about
    at_launch = rng.random(vehicles) < LAUNCH_SHARE
    share = rng.random(vehicles)
    listed_day = np.where(at_launch, share * LAUNCH_DAYS, LAUNCH_DAYS + share * (days - LAUNCH_DAYS))
    rows["listed_at"] = (listed_day * _DAY).astype(np.int64)
    rows["rate"] = expected_rate(rows, demand) * _gamma(vehicles, rng)

    exposure = days * _DAY - rows["listed_at"]  # seconds
    vehicle, share = _arrivals(rows["rate"] * exposure / (YEAR_DAYS * _DAY), rng)
    created_at = rows["listed_at"][vehicle] + (share * exposure[vehicle]).astype(np.int64)
    order = np.argsort(rng.random(len(vehicle)))  # as a real system's export that nobody sorted
    vehicle, created_at = vehicle[order], created_at[order]
    loaded_at = created_at + _delays(len(vehicle), rng)
    reservations = {
        "vehicle_id": rows["vehicle_id"][vehicle],
        "created_at": created_at,
        "loaded_at": loaded_at,
    }
    return rows, reservations


def expected_rate(rows: Mapping[str, NDArray[Any]], demand: float = 1.0) -> Floats:
    """Reservations per year that the listing alone predicts; shape (n,).

    With `past` reservations in `t` years since listing, the best forecast of the rate is
    rate × (CONCENTRATION + past) / (CONCENTRATION + rate × t), which is `rate` itself at t = 0.
    """
    expected: Floats = LEVEL * listings.expected_reservations(rows, demand)
    return expected


def _gamma(size: int, rng: np.random.Generator) -> Floats:
    """Gamma variables of mean 1 and variance 1 / CONCENTRATION, as means of exponential ones."""
    return -np.log1p(-rng.random((CONCENTRATION, size))).mean(axis=0)


def _arrivals(expected: Floats, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """Poisson processes with `expected` events each: of every event the process, and when, as share of its time.

    All processes take one step at a time, an exponential gap; those that are past their end leave.
    """
    running = np.arange(len(expected))
    clock = np.zeros(len(expected))
    processes, shares = [running[:0]], [clock[:0]]
    while len(running):
        clock = clock - np.log1p(-rng.random(len(running)))
        within = clock < expected[running]
        running, clock = running[within], clock[within]
        processes.append(running)
        shares.append(clock / expected[running])
    return np.concatenate(processes), np.concatenate(shares)


def _delays(size: int, rng: np.random.Generator) -> Integers:
    """Seconds from an event until its row is known."""
    late = rng.random(size) < LATE_SHARE
    uniform = rng.random(size)
    usual = -USUAL_DELAY * np.log1p(-uniform)
    backfill = (LATE_FROM + uniform * (LATE_TO - LATE_FROM)) * _DAY
    return 1 + np.where(late, backfill, usual).astype(np.int64)


def _vehicle_text(rows: Rows, start: np.datetime64) -> list[list[str]]:
    text = {column: [str(value) for value in rows[column].tolist()] for column in listings.VEHICLE_COLUMNS}
    text["actual_price"] = [f"{value:.2f}" for value in rows["actual_price"].tolist()]
    text["listed_at"] = times(start, rows["listed_at"])
    return [text[column] for column in VEHICLE_COLUMNS]


def _reservation_text(reservations: Rows, start: np.datetime64) -> list[list[str]]:
    vehicle = [str(value) for value in reservations["vehicle_id"].tolist()]
    return [vehicle, *(times(start, reservations[column]) for column in RESERVATION_COLUMNS[1:])]


if __name__ == "__main__":
    command(
        generate,
        "Generate vehicles.csv and reservations.csv from a seed.",
        vehicles="listed vehicles",
        seed="same seed, same bytes",
        year="that begins it",
        days="of reservations",
        demand="multiplies the rate of every vehicle",
        price="multiplies actual prices",
    )
