"""Generate `markets.csv` and `prices.csv` of prediction markets, at any size, from a seed.

A market asks a question that resolves YES or NO. What is known about it wanders until something hidden passes
or misses zero; the fair probability follows exactly, and the price is the fair probability seen through a slight
favourite-longshot bias and a little noise. So nothing but the price tells the outcome, and the price corrected
for its bias is about the best forecast there is. `data/README.md` tells the law in words.

Only NumPy is needed. Markets are drawn in chunks of `CHUNK`, each from its own child of the seed: memory does
not grow with the number of markets, and the files depend on the arguments alone.
"""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what is imported now is beside this folder
from generating import (
    Flags,
    Floats,
    Integers,
    Rows,
    chunks,
    command,
    lines,
    normal,
    replacing,
    require,
    times,
)

MARKET_COLUMNS = ("market_id", "category", "opened_at", "closes_at", "resolved_at", "resolved_yes")
PRICE_COLUMNS = ("market_id", "quoted_at", "price", "volume", "spread", "loaded_at")
TABLES = {"markets.csv": MARKET_COLUMNS, "prices.csv": PRICE_COLUMNS}

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
SPREAD_LEAST, MAX_SPREAD = 0.002, 0.15

USUAL_DELAY = 240  # seconds, mean, until a price is known to us
LATE_SHARE, LATE_FROM, LATE_TO = 0.03, 1, 14  # days

_DAY = 86_400  # seconds


def generate(
    folder: str | os.PathLike[str],
    *,
    markets: int = 1_500,
    seed: int = SEED,
    year: int = 2024,
    bias: float = BIAS,
    days: int = OPENING_DAYS,
) -> tuple[Path, ...]:
    """Write `markets.csv` and `prices.csv` to `folder`, and return their paths.

    The files appear when both are complete. Peak memory does not depend on `markets`.

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
    require("markets", markets, 1, 10**9)
    require("seed", seed, 0, 2**63)
    require("year", year, 1970, 9900)
    require("bias", bias, 0.1, 2)
    require("days", days, 30, 10_000)
    start, end = np.datetime64(f"{year}-01-01", "s"), days * _DAY
    with replacing(folder, TABLES) as (resolved, quoted):
        for first, size, rng in chunks(markets, CHUNK, seed):
            rows, prices = draw(size, rng, first=first, bias=bias)
            known = _until(prices, prices["loaded_at"] < end)
            resolved.write(lines(_market_text(_until(rows, rows["opened_at"] < end), start, end)))
            quoted.write(lines(_price_text(known, start)))
    return tuple(Path(folder) / name for name in TABLES)


def draw(markets: int, rng: np.random.Generator, *, first: int = 1, bias: float = BIAS) -> tuple[Rows, Rows]:
    """Draw markets and their prices, without files.

    Returns
    -------
    The columns of `markets.csv` with `category` as index of `CATEGORIES`, of shape (markets,); the columns of
    `prices.csv` and `fair`, the probability of YES given all that is known then, ordered by `quoted_at`.
    All times in seconds since the first market could open.
    """
    category = _bins(rng.random(markets), [share for _, share, _ in CATEGORIES])
    opened_at = (rng.random(markets) * OPENING_DAYS * _DAY).astype(np.int64)
    life = np.clip(LIFE_MEDIAN * np.exp(LIFE_SPREAD * normal((markets,), rng)), LIFE_SHORTEST, LIFE_LONGEST)
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
        np.sqrt(steps) * normal((markets, quotes), rng), axis=1
    )
    rest = 1 - steps.sum(axis=1)
    resolved_yes = hidden[:, -1] + np.sqrt(rest) * normal((markets,), rng) > 0

    rows: Rows = {
        "market_id": np.arange(first, first + markets),
        "category": category,
        "opened_at": opened_at,
        "closes_at": closes_at,
        "resolved_at": resolved_at,
        "resolved_yes": resolved_yes.astype(np.int64),
    }
    fair = _probability(hidden[quoted] / np.sqrt(1 - learned[quoted]))
    size = VOLUME_MEDIAN * np.exp(VOLUME_BETWEEN * normal((markets, 1), rng)) * np.ones(quotes)
    market = np.repeat(rows["market_id"], quoted.sum(axis=1))
    return rows, _quotes(market, quoted_at[quoted], fair, size[quoted], bias, rng)


def _opening(category: Integers, rng: np.random.Generator) -> Floats:
    """Where the hidden variable starts: above zero at the end as often as the category resolves YES."""
    yes = np.array([_quantile(share) for _, _, share in CATEGORIES])
    return yes[category] * math.sqrt(1 + KNOWN) + math.sqrt(KNOWN) * normal(category.shape, rng)


def _quotes(
    market: Integers,
    quoted_at: Integers,
    fair: Floats,
    size: Floats,
    bias: float,
    rng: np.random.Generator,
) -> Rows:
    """Prices of fair probabilities, with what a market site shows beside them."""
    shape = fair.shape
    certain = np.clip(fair, 1e-9, 1 - 1e-9)
    odds = bias * np.log(certain / (1 - certain)) + PRICE_NOISE * normal(shape, rng)
    price = np.clip(np.round(1 / (1 + np.exp(-odds)), 3), LOWEST_PRICE, 1 - LOWEST_PRICE)
    volume = np.floor(size * np.exp(VOLUME_WITHIN * normal(shape, rng))).astype(np.int64)
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
        "spread": np.round(np.clip(thin, SPREAD_LEAST, MAX_SPREAD), 3),
        "loaded_at": quoted_at + 1 + delay.astype(np.int64),
        "fair": fair,
    }
    order = np.argsort(quoted_at, kind="stable")
    return {column: values[order] for column, values in prices.items()}


def _bins(uniform: Floats, shares: Sequence[float]) -> Integers:
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, uniform, side="right")


def _probability(values: Floats) -> Floats:
    """The standard normal distribution function; NumPy has none."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values.tolist()])


def _quantile(share: float) -> float:
    """Inverse of the standard normal distribution function, by bisection."""
    low, high = -8.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / math.sqrt(2)) < share else (low, middle)
    return low


def _until(rows: Rows, kept: Flags) -> Rows:
    return {column: values[kept] for column, values in rows.items()}


def _market_text(rows: Rows, start: np.datetime64, end: int) -> list[list[str]]:
    """Text of the columns; how a market resolves after the end is not known yet."""
    text = {
        column: [str(value) for value in rows[column].tolist()] for column in ("market_id", "resolved_yes")
    }
    text["category"] = [CATEGORIES[index][0] for index in rows["category"].tolist()]
    for column in ("opened_at", "closes_at", "resolved_at"):
        text[column] = times(start, rows[column])
    for position in np.flatnonzero(rows["resolved_at"] >= end).tolist():
        text["resolved_at"][position] = text["resolved_yes"][position] = ""
    return [text[column] for column in MARKET_COLUMNS]


def _price_text(prices: Rows, start: np.datetime64) -> list[list[str]]:
    text = {column: [str(value) for value in prices[column].tolist()] for column in ("market_id", "volume")}
    for column in ("price", "spread"):
        text[column] = [f"{value:.3f}" for value in prices[column].tolist()]
    for column in ("quoted_at", "loaded_at"):
        text[column] = times(start, prices[column])
    return [text[column] for column in PRICE_COLUMNS]


if __name__ == "__main__":
    command(
        generate,
        "Generate markets.csv and prices.csv from a seed.",
        markets="how many",
        seed="same seed, same bytes",
        year="first of two",
        bias="1 for fair prices",
        days="until the end",
    )
