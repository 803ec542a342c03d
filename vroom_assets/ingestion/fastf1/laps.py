"""Laps as the FastF1 client gives them, and the rows that they are in `laps.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

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

COMPOUNDS = ("soft", "medium", "hard", "intermediate", "wet")
SAFETY_CAR = "[467]"  # of the codes of a track's status: safety car, virtual safety car, and the end of that
KINDS = {"Race": "race", "Sprint": "sprint"}
POSITIONS = 5  # sessions of a weekend
OVER_AFTER = timedelta(hours=6)  # from the planned start: until then laps may still come or be corrected
REMEDY = "read it again later, or give the `rounds` without it"


class SessionIncomplete(Exception):
    """The client gave less of a session than its laps need; later it may give all."""


@dataclass(frozen=True)
class Session:
    """A race or a sprint of the calendar.

    A season may visit a circuit twice: the second race there is `race 2`, and its laps are others.
    """

    season: int
    number: int  # of the round
    kind: str  # as the client names it: Race or Sprint
    name: str  # as the file does: race, sprint, race 2
    starts: datetime  # planned, UTC

    def __str__(self) -> str:
        return f"round {self.number} of {self.season}, {self.name}"


@dataclass(frozen=True)
class Recording:
    """What the client gave of a session. Times in the frames are since the beginning of its recording."""

    session: Session
    circuit: str
    started: timedelta  # when it really began, in the time of the frames
    laps: pd.DataFrame
    weather: pd.DataFrame


@dataclass(frozen=True)
class Rows:
    """Rows of the file but for their ids, as text, in the order in which laps ended, and what was left out."""

    table: pd.DataFrame
    left_out: dict[str, int]  # reason -> laps


def sessions_of(calendar: pd.DataFrame, season: int) -> list[Session]:
    """The races and sprints of a season, in the order of its rounds."""
    found: list[Session] = []
    visits: dict[tuple[str, str], int] = {}
    for event in calendar.sort_values("RoundNumber").to_dict("records"):
        for position in range(1, POSITIONS + 1):
            kind = event[f"Session{position}"]
            if kind not in KINDS:
                continue
            visit = visits[event["Location"], kind] = visits.get((event["Location"], kind), 0) + 1
            name = KINDS[kind] if visit == 1 else f"{KINDS[kind]} {visit}"
            starts = event[f"Session{position}DateUtc"].to_pydatetime()
            found.append(Session(season, int(event["RoundNumber"]), kind, name, starts))
    return found


def over(sessions: Sequence[Session], now: datetime) -> list[Session]:
    """Those whose laps are complete. `now` is in UTC, without a zone like the calendar."""
    return [session for session in sessions if session.starts + OVER_AFTER <= now]


def rows_of(recording: Recording, known_after: timedelta) -> Rows:
    """The rows of a session: every lap that has what the file's columns need, and no other is left out.

    Laps into and out of the pits, behind a safety car, inaccurate or deleted by the stewards were driven:
    they stay, with the flags that the columns have. A lap ends when the timing says so. The day's clock is
    that of the planned start, because the client gives no other without gigabytes of telemetry: all times of
    a session may be off together, by as much as it began late.

    Raises:
        SessionIncomplete: a driver has no name, or no lap is left.
    """
    session, laps = recording.session, recording.laps
    if _unknown(laps["Driver"]).any():
        raise SessionIncomplete(f"{session}: the list of drivers is not there; {REMEDY}")
    laps = laps.assign(compound=laps["Compound"].str.lower(), **_weather(laps, recording.weather))
    left_out: dict[str, int] = {}
    for reason, missing in (
        ("made up by the client", laps["FastF1Generated"]),
        ("without a time", laps["LapTime"].isna() | laps["Time"].isna()),
        (
            "without known tyres",
            ~laps["compound"].isin(COMPOUNDS) | laps[["Stint", "TyreLife"]].isna().any(axis=1),
        ),
        ("without a track status", _unknown(laps["TrackStatus"])),
        ("without weather", laps["weather"].isna()),
    ):
        gone = missing.reindex(laps.index).astype(bool)
        if gone.any():
            left_out[reason] = int(gone.sum())
        laps = laps[~gone]
    if laps.empty:
        raise SessionIncomplete(f"{session}: no lap has all that is needed ({left_out}); {REMEDY}")

    zero = pd.Timestamp(session.starts) - recording.started
    lap_time = laps["LapTime"].dt.round("ms")
    finished_at = (zero + laps["Time"]).dt.round("ms")
    columns = {
        "season": str(session.season),
        "circuit": recording.circuit,
        "session": session.name,
        "driver": laps["Driver"],
        "lap": _whole(laps["LapNumber"]),
        "stint": _whole(laps["Stint"]),
        "compound": laps["compound"],
        "tyre_age": _whole(laps["TyreLife"]),
        "lap_time": lap_time.dt.total_seconds().map("{:.3f}".format),
        "pit_in": _whole(laps["PitInTime"].notna()),
        "pit_out": _whole(laps["PitOutTime"].notna()),
        "safety_car": _whole(laps["TrackStatus"].str.contains(SAFETY_CAR)),
        "weather": laps["weather"],
        "track_temperature": laps["track_temperature"].map("{:.1f}".format),
        "started_at": _text(finished_at - lap_time),
        "finished_at": _text(finished_at),
        "loaded_at": _text(finished_at + known_after),
    }
    table = pd.DataFrame(columns, index=laps.index).astype(str)
    return Rows(table.sort_values(["finished_at", "driver"], ignore_index=True), left_out)


def _weather(laps: pd.DataFrame, weather: pd.DataFrame) -> dict[str, pd.Series]:
    """The last reading before each lap's end: a forecast made then knows it. None before the first reading."""
    readings = weather.sort_values("Time")
    last = readings["Time"].searchsorted(laps["Time"], side="right") - 1
    known = (
        readings.iloc[last.clip(0)].set_index(laps.index) if len(readings) else readings.reindex(laps.index)
    )
    before = pd.Series(last >= 0, laps.index) & laps["Time"].notna()
    rain = known["Rainfall"].astype(object).map({True: "rain", False: "dry"})
    return {"weather": rain.where(before), "track_temperature": known["TrackTemp"].where(before)}


def _unknown(texts: pd.Series) -> pd.Series:
    return texts.isna() | texts.isin(["", "nan", "None"])


def _whole(numbers: pd.Series) -> pd.Series:
    return numbers.astype("int64")


def _text(times: pd.Series) -> pd.Series:
    return times.dt.strftime("%Y-%m-%d %H:%M:%S.%f").str[:-3]
