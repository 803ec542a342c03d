"""Generate `laps.csv` of motor races, any number of seasons, from a seed.

A lap takes what the circuit asks, and what driver, fuel, tyres, weather and traffic add; the driver's pace
wanders within a stint, and traffic holds for a lap or some. So the last laps of a stint tell most of the next
one, and the circuit alone tells little. `data/README.md` tells the law in words; circuits and drivers are invented.

Only NumPy is needed. Sessions are drawn one by one, each from its own child of the seed: memory does not grow
with the number of seasons, and the file depends on the arguments alone.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what is imported now is beside this folder
from generating import (
    Flags,
    Floats,
    Integers,
    Rows,
    command,
    lines,
    normal,
    replacing,
    require,
    stream,
    times,
)

COLUMNS = (
    "lap_id",
    "season",
    "circuit",
    "session",
    "driver",
    "lap",
    "stint",
    "compound",
    "tyre_age",
    "lap_time",
    "pit_in",
    "pit_out",
    "safety_car",
    "weather",
    "track_temperature",
    "started_at",
    "finished_at",
    "loaded_at",
)
TABLES = {"laps.csv": COLUMNS}


@dataclass(frozen=True)
class Circuit:
    """Its name, seconds of a fast lap, laps of a race, and seconds that a stop costs on the lap out."""

    name: str
    fast_lap: float
    laps: int
    stop: float


CIRCUITS = (
    Circuit("Aldermoor", 88.4, 57, 19.5),
    Circuit("Bay Street", 99.1, 50, 21.0),
    Circuit("Corvara", 74.6, 60, 18.0),
    Circuit("Dunholm", 86.9, 54, 20.5),
    Circuit("Estrella", 79.3, 60, 17.5),
    Circuit("Falkenring", 105.2, 50, 20.0),
    Circuit("Grand Cay", 92.7, 53, 23.0),
    Circuit("Harrow Hill", 68.5, 60, 18.5),
    Circuit("Isola", 82.1, 58, 19.0),
    Circuit("Juniper Valley", 96.3, 52, 22.5),
    Circuit("Kestrel Park", 76.8, 60, 16.5),
    Circuit("Lindqvist", 101.8, 50, 21.5),
)
DRIVERS = tuple(f"D{number:02}" for number in range(1, 13))
COMPOUNDS = ("soft", "medium", "hard", "intermediate")
INTERMEDIATE = 3

SEED = 12
SPRINT_EVERY = 4  # every fourth circuit also has a sprint of a third of the laps, without planned stops

MIN_DRIVERS, ABSENT = 10, 0.08
DRIVER_STEP = 0.13  # seconds from each driver to the next of the season
FORM = 0.25  # of a driver at a session

FUEL = 0.05  # seconds a lap, that the car gets faster as it burns off
COMPOUND_LOSS = (0.0, 0.45, 0.85, 5.0)  # seconds against a new soft set in the dry
WEAR = (0.070, 0.045, 0.030, 0.020)  # seconds a lap of age, at 35 °C on the track
WEAR_BY_TEMPERATURE = 0.02  # share of the wear, per °C

NOISE = 0.20  # seconds, lap to lap
WANDER = 0.13  # seconds, step of the pace within a stint
EVOLUTION = 0.04  # seconds, step of the pace of all drivers
TRAFFIC, TRAFFIC_LOSS, TRAFFIC_STAYS = 0.13, 0.95, 0.35  # new on a lap, mean seconds, goes on for another lap

TWO_STOPS = 0.4
USED_SET = 0.3  # of sets are 2 to 4 laps old as they are put on
PIT_IN_LOSS = 5.0
START_LOSS, GRID_LOSS = 4.0, 0.35  # of the first lap; per place on the grid

SAFETY_CAR, SAFETY_CAR_PACE = 0.5, 1.42  # of sessions; of the fast lap
RAIN, RAIN_LOSS, SLICKS_IN_RAIN = 0.25, 0.17, 7.0  # of sessions; share of the fast lap; seconds
RETIRED = 0.08  # of drivers in a session

# A lap is known a moment after its end, but for those that the timing lost and a later correction brought.
USUAL_DELAY = 0.4  # seconds, mean, beyond the first tenth
LATE_SHARE, LATE_FROM, LATE_TO = 0.02, 300, 259_200  # seconds


def generate(
    folder: str | os.PathLike[str],
    *,
    seasons: int = 1,
    seed: int = SEED,
    year: int = 2024,
    noise: float = 1.0,
    wear: float = 1.0,
) -> tuple[Path, ...]:
    """Write `laps.csv` to `folder`, and return its path.

    The file appears when it is complete. Peak memory does not depend on `seasons`.

    Parameters
    ----------
    seasons : of 12 circuits each, one a calendar year.
    seed : same arguments, same bytes.
    year : of the first season.
    noise : multiplies what differs from lap to lap by chance: noise, wandering pace, traffic.
    wear : multiplies what tyres lose with age.

    Raises
    ------
    ArgumentOutOfRange : names the argument, its value and the values allowed.
    """
    require("seasons", seasons, 1, 5_000)
    require("seed", seed, 0, 2**63)
    require("year", year, 1970, 9_999 - seasons)
    require("noise", noise, 0, 10)
    require("wear", wear, 0, 10)
    first = 1
    with replacing(folder, TABLES) as (laps,):
        for season in range(seasons):
            pace = _season_pace(stream(seed, season))
            for number in range(len(CIRCUITS)):
                for session in ("sprint", "race")[number % SPRINT_EVERY != 0 :]:
                    rng = stream(seed, season, number, int(session == "race"))
                    rows = draw(number, session, pace, rng, noise=noise, wear=wear)
                    laps.write(lines(_lap_text(rows, first, year + season, number, session)))
                    first += len(rows["lap"])
    return tuple(Path(folder) / name for name in TABLES)


def draw(
    circuit: int,
    session: str,
    pace: Floats,
    rng: np.random.Generator,
    *,
    noise: float = 1.0,
    wear: float = 1.0,
) -> Rows:
    """Draw the laps of one session, without files.

    `circuit` is an index of `CIRCUITS`, `session` is `race` or `sprint`, `pace` is in seconds by driver.

    Returns
    -------
    The columns of `laps.csv` that differ within a session, of shape (laps of all drivers,), ordered by
    `finished_at`. `driver` and `compound` are indices of their tables, `weather` is 1 for rain; `lap_time` and
    the three times are whole milliseconds, the times since the start.
    """
    there = CIRCUITS[circuit]
    laps = there.laps if session == "race" else there.laps // 3
    absent = rng.random(len(DRIVERS)) < ABSENT
    absent &= np.cumsum(absent) <= len(DRIVERS) - MIN_DRIVERS
    drivers = np.flatnonzero(~absent)
    shape = (len(drivers), laps)

    rain = _spell(laps, RAIN, (8, 25), rng)
    safety_car = _spell(laps, SAFETY_CAR, (3, 6), rng)
    stops = _stops(shape, session, rain, safety_car, rng)
    pit_out = np.hstack([np.zeros((len(drivers), 1), dtype=bool), stops[:, :-1]])
    stint = 1 + np.cumsum(pit_out, axis=1)
    compound, tyre_age = _tyres(stint, pit_out, rain, rng)
    temperature = 25 + 20 * rng.random() - 6 * rain + np.cumsum(0.1 * normal((laps,), rng))

    form = pace[drivers] + FORM * normal((len(drivers),), rng)
    hot = 1 + WEAR_BY_TEMPERATURE * (temperature - 35)
    right_in_rain = rain & (compound == INTERMEDIATE)
    slower: Floats = wear * hot * np.array(WEAR)[compound] * tyre_age
    slower += np.where(right_in_rain, 0, np.array(COMPOUND_LOSS)[compound])
    slower += rain * RAIN_LOSS * there.fast_lap + SLICKS_IN_RAIN * (rain & ~right_in_rain)
    slower += form[:, None] + FUEL * np.arange(laps, 0, -1)
    slower += noise * (_wandering(shape, rng) + _traffic(shape, rng) + NOISE * normal(shape, rng))
    calm = SAFETY_CAR_PACE - 1 + 0.04 * normal(shape, rng)
    seconds = there.fast_lap + np.where(safety_car, there.fast_lap * calm, slower)
    seconds += PIT_IN_LOSS * stops + there.stop * pit_out * (0.9 + 0.3 * rng.random(shape))
    seconds[:, 0] += START_LOSS + GRID_LOSS * np.argsort(np.argsort(form))
    lap_time = np.rint(1_000 * seconds).astype(np.int64)

    retires = np.where(rng.random(len(drivers)) < RETIRED, 2 + rng.random(len(drivers)) * (laps - 2), laps)
    driven = np.arange(1, laps + 1) <= retires.astype(np.int64)[:, None]
    finished_at = np.cumsum(lap_time, axis=1)
    columns = {
        "driver": np.broadcast_to(drivers[:, None], shape),
        "lap": np.broadcast_to(np.arange(1, laps + 1), shape),
        "stint": stint,
        "compound": compound,
        "tyre_age": tyre_age,
        "lap_time": lap_time,
        "pit_in": stops.astype(np.int64),
        "pit_out": pit_out.astype(np.int64),
        "safety_car": np.broadcast_to(safety_car.astype(np.int64), shape),
        "weather": np.broadcast_to(rain.astype(np.int64), shape),
        "track_temperature": np.broadcast_to(np.round(temperature, 1), shape),
        "started_at": finished_at - lap_time,
        "finished_at": finished_at,
        "loaded_at": finished_at + _delays(shape, rng),
    }
    order = np.argsort(finished_at[driven], kind="stable")
    return {name: values[driven][order] for name, values in columns.items()}


def _season_pace(rng: np.random.Generator) -> Floats:
    """Seconds that each driver is slower than the fastest of the season."""
    order = np.argsort(rng.random(len(DRIVERS)))
    return DRIVER_STEP * (order + rng.random(len(DRIVERS)))


def _spell(laps: int, share: float, length: tuple[int, int], rng: np.random.Generator) -> Flags:
    """Laps of a spell of rain or behind the safety car, if there is one: shape (laps,)."""
    happens, at, lasting = rng.random(3)
    first = 2 + int(at * (laps - 4))
    last = first + length[0] + int(lasting * (length[1] - length[0] + 1)) - 1
    lap = np.arange(laps)
    return (happens < share) & (lap >= first) & (lap <= last)


def _stops(
    shape: tuple[int, int], session: str, rain: Flags, safety_car: Flags, rng: np.random.Generator
) -> Flags:
    """Laps that end in the pit lane: planned ones, for the other tyres as rain comes or goes, cheap ones.

    A stop is planned for a half of the race, or two for its thirds, some laps early or late; it is made as soon
    as the safety car is out, if it is due within eight laps. None is nearer than four laps to another.
    """
    drivers, laps = shape
    stops = np.zeros(shape, dtype=bool)
    changes = np.flatnonzero(rain[1:] != rain[:-1]) + 1
    out = np.flatnonzero(safety_car)
    for driver in range(drivers):
        planned = 0 if session != "race" else 1 + int(rng.random() < TWO_STOPS)
        shift = rng.random(3)
        wanted = [int(laps * (n + 1) / (planned + 1) + 10 * shift[n] - 5) for n in range(planned)]
        if len(out):
            wanted = [int(out[0]) if 0 < lap - out[0] <= 8 else lap for lap in wanted]
        wanted = [lap for lap in wanted if not rain[max(0, lap - 4) : lap + 5].any()]
        switches = [int(lap + 3 * rng.random()) for lap in changes]
        for lap in [*switches, *wanted]:
            if 3 <= lap < laps - 2 and not stops[driver, max(0, lap - 4) : lap + 5].any():
                stops[driver, lap] = True
    return stops


def _tyres(
    stint: Integers, pit_out: Flags, rain: Flags, rng: np.random.Generator
) -> tuple[Integers, Integers]:
    """Compound and age in laps, this one included, by driver and lap."""
    drivers, laps = stint.shape
    limit = int(stint.max())
    start = (rng.random((drivers, 1)) * 3).astype(np.int64)
    dry = (start + np.cumsum(1 + (rng.random((drivers, limit)) < 0.5), axis=1)) % 3  # never the same twice
    used = np.where(rng.random((drivers, limit)) < USED_SET, 1 + (rng.random((drivers, limit)) * 3), 0)
    lap = np.arange(laps)
    fitted = np.maximum.accumulate(np.where(pit_out, lap, 0), axis=1)  # the lap that began the stint
    wet = rain[fitted]
    compound = np.where(wet, INTERMEDIATE, np.take_along_axis(dry, stint - 1, axis=1))
    age = 1 + lap - fitted + np.take_along_axis(used.astype(np.int64), stint - 1, axis=1)
    return compound, age


def _wandering(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Pace that moves in small steps, of each driver alone and of all together, in seconds."""
    alone = np.cumsum(WANDER * normal(shape, rng), axis=1)
    together = np.cumsum(EVOLUTION * normal((1, shape[1]), rng), axis=1)
    return alone + together


def _traffic(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Seconds lost behind others, which may hold for several laps."""
    met, stays = rng.random(shape) < TRAFFIC, rng.random(shape) < TRAFFIC_STAYS
    loss = -TRAFFIC_LOSS * np.log1p(-rng.random(shape))
    lost = np.zeros(shape)
    for lap in range(1, shape[1]):
        lost[:, lap] = np.where(met[:, lap], loss[:, lap], np.where(stays[:, lap], lost[:, lap - 1], 0))
    return lost


def _delays(shape: tuple[int, int], rng: np.random.Generator) -> Integers:
    """Milliseconds from the end of a lap until it is known."""
    late = rng.random(shape) < LATE_SHARE
    uniform = rng.random(shape)
    seconds = np.where(
        late, LATE_FROM + uniform * (LATE_TO - LATE_FROM), 0.1 - USUAL_DELAY * np.log1p(-uniform)
    )
    return (1_000 * seconds).astype(np.int64)


def _start(year: int, circuit: int, session: str) -> np.datetime64:
    """Races are on every second Sunday from March at 14:00, sprints at 11:00 the day before; UTC."""
    march = np.datetime64(f"{year}-03-01")
    days = (6 - (march.astype(np.int64) + 3) % 7) % 7 + 14 * circuit  # day 0 was a Thursday
    sunday = march + np.timedelta64(days, "D")
    hours = 14 if session == "race" else 11 - 24
    return sunday.astype("datetime64[ms]") + np.timedelta64(hours, "h")


def _lap_text(rows: Rows, first: int, year: int, circuit: int, session: str) -> list[list[str]]:
    size = len(rows["lap"])
    text = {name: [str(value) for value in values.tolist()] for name, values in rows.items()}
    text["lap_id"] = [str(number) for number in range(first, first + size)]
    text |= {"season": [str(year)] * size, "session": [session] * size}
    text["circuit"] = [CIRCUITS[circuit].name] * size
    text["driver"] = [DRIVERS[index] for index in rows["driver"].tolist()]
    text["compound"] = [COMPOUNDS[index] for index in rows["compound"].tolist()]
    text["weather"] = [("dry", "rain")[index] for index in rows["weather"].tolist()]
    text["lap_time"] = [f"{value // 1_000}.{value % 1_000:03}" for value in rows["lap_time"].tolist()]
    start = _start(year, circuit, session)
    for name in ("started_at", "finished_at", "loaded_at"):
        text[name] = times(start, rows[name])
    return [text[name] for name in COLUMNS]


if __name__ == "__main__":
    command(
        generate,
        "Generate laps.csv from a seed.",
        seasons="of 12 circuits each",
        seed="same seed, same bytes",
        year="of the first season",
        noise="multiplies chance",
        wear="multiplies wear of tyres",
    )
