"""Generate `markets.csv` and `prices.csv` of prediction markets, at any size, from a seed.

A market asks a question that resolves YES or NO. What is known about it wanders until something hidden passes
or misses zero; the fair probability follows exactly, and the price is the fair probability seen through a slight
favourite-longshot bias and a little noise. So nothing but the price tells the outcome, and the price corrected
for its bias is about the best forecast there is. `data/README.md` tells the law in words.

Only NumPy is needed. Markets are drawn in chunks of `CHUNK`, each from its own child of the seed: memory does
not grow with the number of markets, and the files depend on the arguments alone.
"""

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Rows = dict[str, NDArray[Any]]
"""Columns of equal length by name. Times are seconds since the first market could open."""

MARKET_COLUMNS = ("market_id", "category", "opened_at", "closes_at", "resolved_at", "resolved_yes")
PRICE_COLUMNS = ("market_id", "quoted_at", "price", "volume", "spread", "loaded_at")

SEED = 1_500
CHUNK = 1_500  # part of the law: another size draws other markets

# Category, its share, and the share of its questions that resolve YES.
CATEGORIES = (
    ("politics", 0.32, 0.22),
    ("economy", 0.20, 0.33),
    ("sports", 0.18, 0.38),
    ("science", 0.14, 0.20),
    ("culture", 0.10, 0.32),
    ("weather", 0.06, 0.36),
)

OPENING_DAYS = 730  # over which markets open
LIFE_MEDIAN, LIFE_SPREAD = 45, 0.6  # days; of the logarithm
LIFE_SHORTEST, LIFE_LONGEST = 14, 180  # days
EARLY_SHARE, EARLY_FROM = 0.3, 0.5  # resolve before they close, at this share of their life or later
SETTLEMENT = 18  # hours, mean, from closing until the outcome is written down
QUOTE_DAYS = 2

# Variance of what decides the question: known as the market opens, learned until it closes. All of it is 1 +
# KNOWN; what is left comes with the outcome. They set the error of the price: Brier .136 falling to .105.
KNOWN, LEARNED = 1.1, 0.4

BIAS = 0.9  # slope of the price's log odds on the fair ones: long shots cost too much, favourites too little
PRICE_NOISE = 0.08  # of the log odds
LOWEST_PRICE = 0.001

VOLUME_MEDIAN, VOLUME_BETWEEN, VOLUME_WITHIN = 900, 1.4, 0.8  # USD; of the logarithm
SPREAD_LEAST, SPREAD_MOST = 0.002, 0.15

USUAL_DELAY = 240  # seconds, mean, until a price is known to us
LATE_SHARE, LATE_FROM, LATE_TO = 0.03, 1, 14  # days

_DAY = 86_400  # seconds


class ArgumentOutOfRange(ValueError):
    """An argument that the law has no meaning for."""


def generate(
    folder: str | os.PathLike[str],
    *,
    markets: int = 1_500,
    seed: int = SEED,
    year: int = 2024,
    bias: float = BIAS,
    days: int = OPENING_DAYS,
) -> tuple[Path, Path]:
    """Write `markets.csv` and `prices.csv` to `folder`, and return their paths.

    The files are written beside their places and renamed when both are complete, so that a reader never
    meets half of one. Peak memory does not depend on `markets`.

    Parameters
    ----------
    markets : numbered from 1.
    seed : same arguments, same bytes.
    year : the first in which markets open; they do for two.
    bias : slope of the price's log odds on the fair ones; 1 for prices that are fair but for noise.
    days : after which the files end; markets that are open then have no resolution yet.

    Raises
    ------
    ArgumentOutOfRange : names the argument, its value and the values allowed.
    """
    _require("markets", markets, 1, 10**9)
    _require("seed", seed, 0, 2**63)
    _require("year", year, 1970, 9900)
    _require("bias", bias, 0.1, 2)
    _require("days", days, 30, 10_000)
    places = (Path(folder) / "markets.csv", Path(folder) / "prices.csv")
    with _replacing(places) as (resolved, quoted):
        resolved.write(_lines([[column] for column in MARKET_COLUMNS]))
        quoted.write(_lines([[column] for column in PRICE_COLUMNS]))
        for first, size, rng in _chunks(markets, seed):
            rows, prices = draw(size, rng, first=first, bias=bias)
            known = _until(prices, prices["loaded_at"] < days * _DAY)
            resolved.write(
                _lines(_market_text(_until(rows, rows["opened_at"] < days * _DAY), year, days * _DAY))
            )
            quoted.write(_lines(_price_text(known, year)))
    return places


def draw(markets: int, rng: np.random.Generator, *, first: int = 1, bias: float = BIAS) -> tuple[Rows, Rows]:
    """Draw markets and their prices, without files.

    Returns
    -------
    The columns of `markets.csv` with `category` as index of `CATEGORIES`, of shape (markets,); the columns of
    `prices.csv` and `fair`, the probability of YES given all that is known then, ordered by `quoted_at`.
    """
    category = _bins(rng.random(markets), [share for _, share, _ in CATEGORIES])
    opened_at = (rng.random(markets) * OPENING_DAYS * _DAY).astype(np.int64)
    life = np.clip(LIFE_MEDIAN * np.exp(LIFE_SPREAD * _normal((markets,), rng)), LIFE_SHORTEST, LIFE_LONGEST)
    closes_at = ((opened_at + life * _DAY) // _DAY).astype(np.int64) * _DAY + _DAY - 60  # 23:59 of a day
    early = rng.random(markets) < EARLY_SHARE
    share = EARLY_FROM + (1 - EARLY_FROM) * rng.random(markets)
    before = opened_at + (share * (closes_at - opened_at)).astype(np.int64)
    after = closes_at + 60 - (SETTLEMENT * 3_600 * np.log1p(-rng.random(markets))).astype(np.int64)
    resolved_at = np.where(early, before, after)

    quotes = math.ceil((LIFE_LONGEST + 1) / QUOTE_DAYS)
    elapsed = ((np.arange(quotes) + rng.random((markets, quotes))) * QUOTE_DAYS * _DAY).astype(np.int64)
    quoted_at = opened_at[:, None] + elapsed
    quoted = quoted_at < np.minimum(closes_at, resolved_at)[:, None]
    learned = np.where(quoted, LEARNED * elapsed / (closes_at - opened_at)[:, None], 0)
    steps = np.diff(learned, axis=1, prepend=0).clip(min=0)  # nothing is learned after the last quote
    hidden = _opening(category, rng)[:, None] + np.cumsum(
        np.sqrt(steps) * _normal((markets, quotes), rng), axis=1
    )
    rest = 1 - steps.sum(axis=1)
    resolved_yes = hidden[:, -1] + np.sqrt(rest) * _normal((markets,), rng) > 0

    rows: Rows = {
        "market_id": np.arange(first, first + markets),
        "category": category,
        "opened_at": opened_at,
        "closes_at": closes_at,
        "resolved_at": resolved_at,
        "resolved_yes": resolved_yes.astype(np.int64),
    }
    fair = _probability(hidden[quoted] / np.sqrt(1 - learned[quoted]))
    size = VOLUME_MEDIAN * np.exp(VOLUME_BETWEEN * _normal((markets, 1), rng)) * np.ones(quotes)
    market = np.repeat(rows["market_id"], quoted.sum(axis=1))
    return rows, _quotes(market, quoted_at[quoted], fair, size[quoted], bias, rng)


def _opening(category: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the hidden variable starts: above zero at the end as often as the category resolves YES."""
    yes = np.array([_quantile(share) for _, _, share in CATEGORIES])
    return yes[category] * math.sqrt(1 + KNOWN) + math.sqrt(KNOWN) * _normal(category.shape, rng)


def _quotes(
    market: NDArray[np.int64],
    quoted_at: NDArray[np.int64],
    fair: NDArray[np.float64],
    size: NDArray[np.float64],
    bias: float,
    rng: np.random.Generator,
) -> Rows:
    """Prices of fair probabilities, with what a market site shows beside them."""
    shape = fair.shape
    certain = np.clip(fair, 1e-9, 1 - 1e-9)
    odds = bias * np.log(certain / (1 - certain)) + PRICE_NOISE * _normal(shape, rng)
    price = np.clip(np.round(1 / (1 + np.exp(-odds)), 3), LOWEST_PRICE, 1 - LOWEST_PRICE)
    volume = np.floor(size * np.exp(VOLUME_WITHIN * _normal(shape, rng))).astype(np.int64)
    thin = 0.25 / np.sqrt(1 + volume / 10) * (0.5 + rng.random(shape))
    late = rng.random(shape) < LATE_SHARE
    uniform = rng.random(shape)
    backfill = (LATE_FROM + uniform * (LATE_TO - LATE_FROM)) * _DAY
    delay = np.where(late, backfill, -USUAL_DELAY * np.log1p(-uniform))
    prices: Rows = {
        "market_id": market,
        "quoted_at": quoted_at,
        "price": price,
        "volume": volume,
        "spread": np.round(np.clip(thin, SPREAD_LEAST, SPREAD_MOST), 3),
        "loaded_at": quoted_at + 1 + delay.astype(np.int64),
        "fair": fair,
    }
    order = np.argsort(quoted_at, kind="stable")
    return {column: values[order] for column, values in prices.items()}


def _bins(uniform: NDArray[np.float64], shares: Sequence[float]) -> NDArray[np.int64]:
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, uniform, side="right")


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal variables (Box and Muller): `random()` is the stream least likely to change with NumPy."""
    radius = np.sqrt(-2 * np.log1p(-rng.random(shape)))
    return radius * np.cos(2 * np.pi * rng.random(shape))


def _probability(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard normal distribution function; NumPy has none."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values.tolist()])


def _quantile(share: float) -> float:
    """Inverse of the standard normal distribution function, by bisection."""
    low, high = -8.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / math.sqrt(2)) < share else (low, middle)
    return low


def _chunks(markets: int, seed: int) -> Iterator[tuple[int, int, np.random.Generator]]:
    """First market, number of markets and randomness of each chunk."""
    for chunk, start in enumerate(range(0, markets, CHUNK)):
        child = np.random.SeedSequence(seed, spawn_key=(chunk,))
        yield start + 1, min(CHUNK, markets - start), np.random.Generator(np.random.PCG64(child))


def _until(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    return {column: values[kept] for column, values in rows.items()}


def _market_text(rows: Rows, year: int, end: int) -> list[list[str]]:
    """Text of the columns; how a market resolves after the end is not known yet."""
    text = {
        column: [str(value) for value in rows[column].tolist()] for column in ("market_id", "resolved_yes")
    }
    text["category"] = [CATEGORIES[index][0] for index in rows["category"].tolist()]
    for column in ("opened_at", "closes_at", "resolved_at"):
        text[column] = _times(rows[column], year)
    for place in np.flatnonzero(rows["resolved_at"] >= end).tolist():
        text["resolved_at"][place] = text["resolved_yes"][place] = ""
    return [text[column] for column in MARKET_COLUMNS]


def _price_text(prices: Rows, year: int) -> list[list[str]]:
    text = {column: [str(value) for value in prices[column].tolist()] for column in ("market_id", "volume")}
    for column in ("price", "spread"):
        text[column] = [f"{value:.3f}" for value in prices[column].tolist()]
    for column in ("quoted_at", "loaded_at"):
        text[column] = _times(prices[column], year)
    return [text[column] for column in PRICE_COLUMNS]


def _times(seconds: NDArray[np.int64], year: int) -> list[str]:
    times = np.datetime64(f"{year}-01-01", "s") + seconds.astype("timedelta64[s]")
    return [text.replace("T", " ") for text in np.datetime_as_string(times).tolist()]


def _lines(columns: Sequence[Sequence[str]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode("ascii")


@contextmanager
def _replacing(places: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Files to write to, which take their places together and only if nothing is raised."""
    partials = [place.with_name(f".{place.name}.{os.getpid()}.partial") for place in places]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(partial.open("wb")) for partial in partials]
        for partial, place in zip(partials, places, strict=True):
            partial.replace(place)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def _require(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ArgumentOutOfRange(f"{name} is {value}; give a value from {lowest} to {highest}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Generate markets.csv and prices.csv from a seed.")
    parser.add_argument("--markets", type=int, default=1_500, help="markets (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="same seed, same bytes (default %(default)s)")
    parser.add_argument("--year", type=int, default=2024, help="first of two (default %(default)s)")
    parser.add_argument("--bias", type=float, default=BIAS, help="1 for fair prices (default %(default)s)")
    parser.add_argument("--days", type=int, default=OPENING_DAYS, help="until the end (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to, made if missing")
    given = vars(parser.parse_args(arguments))
    try:
        places = generate(given.pop("out"), **given)
    except ArgumentOutOfRange as error:
        parser.error(str(error))
    for place in places:
        print(f"{place}: {place.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
