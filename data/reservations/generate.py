"""Generate `vehicles.csv` and `reservations.csv`, at any size, from a seed.

The law was measured on 1,000 real listings of a car-sharing marketplace; `data/README.md` tells it in
words. Only NumPy is needed. Vehicles are drawn in chunks of `CHUNK`, each from its own child of the seed:
memory does not grow with the number of vehicles, and the files depend on the arguments alone.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what is imported now is beside this folder
from generating import Flags, Floats, Integers, Rows, chunks, command, replacing, require

Text = NDArray[np.uint8]
"""ASCII text of a column, a row per line: shape (n, width)."""

VEHICLE_COLUMNS = (
    "vehicle_id",
    "technology",
    "actual_price",
    "recommended_price",
    "num_images",
    "street_parked",
    "description",
)
RESERVATION_COLUMNS = ("vehicle_id", "created_at")
TABLES = {"vehicles.csv": VEHICLE_COLUMNS, "reservations.csv": RESERVATION_COLUMNS}

# Draws 1,000 vehicles with the published statistics (mean 6.4, median 5, sd 4.9, 9 % zeros, maximum 25): found
# by a search over 40,000 seeds, as the median of such a set is 5 or 6 by chance.
SEED = 39_254
CHUNK = 50_000  # part of the law: another size draws other vehicles

TECHNOLOGY_SHARE = 0.17
STREET_PARKED_SHARE = 0.511
IMAGES_WEIGHTS = (171, 223, 202, 235, 169)  # of 1 to 5 images
SHORT_DESCRIPTION_SHARE = 0.474  # 1 to 50 characters; the others have 51 to 250

# Rows: without technology, with it.
RECOMMENDED_LOWEST, RECOMMENDED_STEP = 35, 5
RECOMMENDED_WEIGHTS = (
    (43, 62, 50, 77, 80, 77, 83, 86, 84, 87, 101),
    (50, 37, 20, 20, 18, 11, 8, 1, 4, 0, 1),
)
RATIO_LOWEST, RATIO_HIGHEST, RATIO_STEP = 0.8, 2.0, 0.1
RATIO_WEIGHTS = (
    (13, 14, 88, 84, 90, 89, 101, 75, 68, 58, 73, 77),
    (14, 9, 32, 24, 30, 18, 12, 14, 5, 4, 6, 2),
)
TECHNOLOGY_PRICE_LIMIT = 73.5  # USD/day; where the ratio would exceed it, a price 0 to 25 % below is asked

# Most reservations that a vehicle can get in a year. Rows: price ratio up to 1.1, 1.2, 1.4, 1.5, 1.6 and
# above; columns: 1 to 5 images. Images matter only where the price is high.
CAP_RATIOS = (1.1, 1.2, 1.4, 1.5, 1.6)
CAPS = (
    (20, 20, 20, 20, 20),
    (15, 15, 15, 15, 15),
    (10, 11, 12, 13, 13),
    (5, 9, 11, 13, 14),
    (5, 7, 11, 13, 14),
    (5, 5, 10, 11, 14),
)
# Some vehicles priced a little above the recommendation can get more.
EXTRA_ABOVE, EXTRA_UP_TO, EXTRA_CAP, EXTRA_SHARE = 1.0, 1.1, 5, 0.2

BUSIEST = 0.54  # of the year: mid July, half a year from a quiet mid January

_DAY = 86_400  # seconds


def generate(
    folder: str | os.PathLike[str],
    *,
    vehicles: int = 1_000,
    seed: int = SEED,
    year: int = 2023,
    seasonality: float = 0.0,
    demand: float = 1.0,
    price: float = 1.0,
) -> tuple[Path, ...]:
    """Write `vehicles.csv` and `reservations.csv` to `folder`, and return their paths.

    The files appear when both are complete. Peak memory does not depend on `vehicles`.

    Parameters
    ----------
    vehicles : listed vehicles, numbered from 1.
    seed : same arguments, same bytes.
    year : calendar year of the reservations.
    seasonality : 0 for none (as measured) to 1 for no reservations in mid January and twice as many in mid July.
    demand : multiplies the expected reservations of every vehicle and leaves the listings alone.
    price : multiplies actual prices, so that listings move and the law of their reservations stays.

    Raises
    ------
    ArgumentOutOfRange : names the argument, its value and the values allowed.
    """
    require("vehicles", vehicles, 1, 10**9)
    require("seed", seed, 0, 2**63)
    require("year", year, 1970, 9999)
    require("seasonality", seasonality, 0, 1)
    require("demand", demand, 0, 100)
    require("price", price, 0.01, 50)
    with replacing(folder, TABLES) as (listed, reserved):
        for first, size, rng in chunks(vehicles, CHUNK, seed):
            rows = draw(size, rng, first=first, demand=demand, price=price)
            listed.write(_vehicle_lines(rows))
            reserved.write(_reservation_lines(rows, rng, year, seasonality))
    return tuple(Path(folder) / name for name in TABLES)


def draw(
    vehicles: int,
    rng: np.random.Generator,
    *,
    first: int = 1,
    demand: float = 1.0,
    price: float = 1.0,
) -> Rows:
    """Draw vehicles and their reservations of one year, without times and without files.

    Returns
    -------
    The columns of `vehicles.csv` and `reservations`, arrays of shape (vehicles,); `vehicle_id` counts up
    from `first`. Prices in USD/day, `description` in characters.
    """
    technology = (rng.random(vehicles) < TECHNOLOGY_SHARE).astype(np.int64)
    street_parked = (rng.random(vehicles) < STREET_PARKED_SHARE).astype(np.int64)
    num_images = 1 + _bins(rng.random(vehicles), IMAGES_WEIGHTS)
    short = rng.random(vehicles) < SHORT_DESCRIPTION_SHARE
    length = rng.random(vehicles)
    description = np.where(short, 1 + _up_to(length, 49), 51 + _up_to(length, 199))

    recommended_bin = _bins_by(technology, rng.random(vehicles), RECOMMENDED_WEIGHTS)
    within = _up_to(rng.random(vehicles), RECOMMENDED_STEP - 1)
    recommended_price = RECOMMENDED_LOWEST + RECOMMENDED_STEP * recommended_bin + within

    ratio_bin = _bins_by(technology, rng.random(vehicles), RATIO_WEIGHTS)
    ratio = RATIO_LOWEST + RATIO_STEP * (ratio_bin + rng.random(vehicles))
    limit = TECHNOLOGY_PRICE_LIMIT / recommended_price
    below = np.clip(limit * (0.75 + 0.25 * rng.random(vehicles)), RATIO_LOWEST, RATIO_HIGHEST)
    ratio = np.where((technology == 1) & (ratio > limit), below, ratio)
    highest = np.where(technology == 1, TECHNOLOGY_PRICE_LIMIT, np.inf)
    actual_price = np.round(np.minimum(recommended_price * np.round(ratio, 2), highest) * price, 2)

    rows: Rows = {
        "vehicle_id": np.arange(first, first + vehicles),
        "technology": technology,
        "actual_price": actual_price,
        "recommended_price": recommended_price,
        "num_images": num_images,
        "street_parked": street_parked,
        "description": description,
    }
    extra = _may_get_extra(rows) & (rng.random(vehicles) < EXTRA_SHARE)
    counts = demand * _up_to(rng.random(vehicles), reservation_caps(rows) + EXTRA_CAP * extra)
    # Rounded up or down at random: the mean follows `demand` exactly, and demand 1 changes nothing.
    rows["reservations"] = np.floor(counts + rng.random(vehicles)).astype(np.int64)
    return rows


def reservation_caps(rows: Mapping[str, NDArray[Any]]) -> Integers:
    """The most reservations each vehicle can get at demand 1, without the extra; shape (n,)."""
    ratio_bin = np.searchsorted(CAP_RATIOS, _price_ratio(rows), side="left")
    images = np.clip(np.asarray(rows["num_images"], dtype=np.int64), 1, len(CAPS[0]))
    return np.array(CAPS)[ratio_bin, images - 1]


def expected_reservations(rows: Mapping[str, NDArray[Any]], demand: float = 1.0) -> Floats:
    """The mean of the law for each row, which no forecast can beat in expectation; shape (n,).

    `rows` needs `actual_price`, `recommended_price` and `num_images`. The mean minimizes squared error and
    Poisson deviance; the mean absolute error of the median is a little lower.
    """
    mean_cap = reservation_caps(rows) + EXTRA_SHARE * EXTRA_CAP * _may_get_extra(rows)
    return demand * mean_cap / 2


def _price_ratio(rows: Mapping[str, NDArray[Any]]) -> Floats:
    actual = np.asarray(rows["actual_price"], dtype=np.float64)
    recommended = np.asarray(rows["recommended_price"], dtype=np.float64)
    return np.round(actual / recommended, 9)  # 1.1 must be 1.1 to be on the right side of an edge


def _may_get_extra(rows: Mapping[str, NDArray[Any]]) -> Flags:
    ratio = _price_ratio(rows)
    return (ratio > EXTRA_ABOVE) & (ratio <= EXTRA_UP_TO)


def _up_to(uniform: Floats, highest: int | Integers) -> Integers:
    """Integers 0 to `highest`, each as likely."""
    return (uniform * (highest + 1)).astype(np.int64)


def _bins(uniform: Floats, weights: Sequence[int]) -> Integers:
    """Index of the weight that each number falls on."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges, uniform * edges[-1], side="right")


def _bins_by(technology: Integers, uniform: Floats, weights: Sequence[Sequence[int]]) -> Integers:
    return np.where(technology == 1, _bins(uniform, weights[1]), _bins(uniform, weights[0]))


def _seconds_of_year(uniform: Floats, year_length: int, seasonality: float) -> Integers:
    """Times as seconds since the year began, with density 1 + seasonality × cos(2π (t − BUSIEST))."""
    if seasonality > 0:
        share = np.linspace(0, 1, 10_001)
        wave = np.sin(2 * np.pi * (share - BUSIEST)) + np.sin(2 * np.pi * BUSIEST)
        uniform = np.interp(uniform, share + seasonality * wave / (2 * np.pi), share)
    return np.minimum((uniform * year_length).astype(np.int64), year_length - 1)


# Text is made as a matrix of bytes, a line per row; NUL stands for "nothing here" and falls out at the end.
# That is far faster than formatting row by row, and needs no library.


def _vehicle_lines(rows: Rows) -> bytes:
    cents = np.rint(rows["actual_price"] * 100).astype(np.int64)
    fields = {column: _integers(rows[column]) for column in VEHICLE_COLUMNS if column != "actual_price"}
    fields["actual_price"] = _joined([_integers(cents // 100), _digits(cents % 100, 2)], b".")
    return _lines([fields[column] for column in VEHICLE_COLUMNS])


def _reservation_lines(rows: Rows, rng: np.random.Generator, year: int, seasonality: float) -> bytes:
    """Lines in random order, as a real system's export that nobody sorted by vehicle."""
    vehicle = np.repeat(np.arange(len(rows["vehicle_id"])), rows["reservations"])
    vehicle = vehicle[np.argsort(rng.random(len(vehicle)))]
    days = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    seconds = _seconds_of_year(rng.random(len(vehicle)), len(days) * _DAY, seasonality)
    dates = np.datetime_as_string(days).astype("S10").view(np.uint8).reshape(-1, 10)
    created_at = _joined([dates[seconds // _DAY], _times_of_day()[seconds % _DAY]], b" ")
    return _lines([_integers(rows["vehicle_id"])[vehicle], created_at])


@cache
def _times_of_day() -> Text:
    second = np.arange(_DAY)
    return _joined([_digits(part, 2) for part in (second // 3600, second // 60 % 60, second % 60)], b":")


def _integers(values: Integers) -> Text:
    """Decimal text of integers ≥ 0, without leading zeros."""
    width = len(str(values.max(initial=0)))
    text = _digits(values, width)
    for column in range(width - 1):
        text[values < 10 ** (width - 1 - column), column] = 0
    return text


def _digits(values: Integers, width: int) -> Text:
    """Decimal text of integers, with leading zeros."""
    text = np.empty((len(values), width), dtype=np.uint8)
    for column in reversed(range(width)):
        values, text[:, column] = np.divmod(values, 10)
    return text + np.uint8(ord("0"))


def _joined(fields: Sequence[Text], separator: bytes) -> Text:
    between = np.full((len(fields[0]), 1), ord(separator), dtype=np.uint8)
    return np.hstack([part for field in fields for part in (field, between)][:-1])


def _lines(fields: Sequence[Text]) -> bytes:
    text = _joined([_joined(fields, b","), np.empty((len(fields[0]), 0), dtype=np.uint8)], b"\n")
    return text[text != 0].tobytes()


if __name__ == "__main__":
    command(
        generate,
        "Generate vehicles.csv and reservations.csv from a seed.",
        vehicles="listed vehicles",
        seed="same seed, same bytes",
        year="of the reservations",
        seasonality="0, none, to 1",
        demand="multiplies expected reservations",
        price="multiplies actual prices",
    )
