"""Write the recordings of this folder: an invented season in the format that the FastF1 client reads.

`feed/` is what the services would answer, and `frames/` what the real client makes of the first race when a local
server answers so. What happens in the races is written down below: four cars, twelve laps, one of each thing
that can happen to a lap.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

HERE = Path(__file__).parent
FEED, FRAMES = HERE / "feed", HERE / "frames"

Line = tuple[timedelta, dict[str, Any]]

LAPS = 12
BEGINS = timedelta(hours=1)  # the start, in the time of the recording

# number: (abbreviation, first name, last name, team)
DRIVERS = {
    "1": ("ADA", "Ada", "Alder", "Northwind"),
    "2": ("BEN", "Ben", "Birch", "Northwind"),
    "3": ("CLE", "Cleo", "Cedar", "Southgate"),
    "4": ("DOV", "Dov", "Dogwood", "Southgate"),
}


@dataclass(frozen=True)
class Event:
    number: int
    name: str
    location: str
    circuit: str
    sunday: date
    sprint: bool = False


SEASON = (
    Event(1, "Harbour Grand Prix", "Port Marram", "Marram", date(2024, 3, 3)),
    Event(2, "Marram Grand Prix", "Port Marram", "Marram", date(2024, 3, 10), sprint=True),
    Event(3, "Far Future Grand Prix", "Corvara", "Corvara", date(2099, 6, 7)),
)


def lap_time(number: str, lap: int) -> timedelta:
    """Thousandths differ from lap to lap, so that no two laps of a driver are equal."""
    thousandths = 90_000 + 400 * int(number) + 37 * lap * int(number) % 211
    if lap in (6, 7):
        thousandths += 30_000  # behind the safety car
    if number == "1" and lap == 5:
        thousandths += 4_000  # into the pits
    if number == "1" and lap == 6:
        thousandths += 18_000  # out of them
    if lap >= 10:
        thousandths += 12_000  # rain
    return timedelta(milliseconds=thousandths)


def last_lap(number: str) -> int:
    """Car 3 stops on the track in its ninth lap."""
    return 8 if number == "3" else LAPS


def timing(number: str) -> list[Line]:
    """Sectors, lap times and pit lane of one car."""
    lines: list[Line] = [(timedelta(minutes=20), {"InPit": False})]
    now = BEGINS
    for lap in range(1, last_lap(number) + 1):
        whole = lap_time(number, lap)
        if number == "1" and lap == 6:
            lines.append((now + timedelta(seconds=19), {"InPit": False, "PitOut": True}))
        first, second = (timedelta(milliseconds=whole // timedelta(milliseconds=1) * n // 10) for n in (3, 4))
        for position, sector, at in (("0", first, first), ("1", second, first + second)):
            lines.append((now + at, {"Sectors": {position: {"Value": seconds(sector)}}}))
        now += whole
        if number == "1" and lap == 5:
            lines.append((now - timedelta(seconds=2), {"InPit": True}))
        lines.append((now, {"NumberOfLaps": lap}))
        late: dict[str, Any] = {"Sectors": {"2": {"Value": seconds(whole - first - second)}}}
        # No time is sent for the first lap, and car 4's third is lost.
        if lap > 1 and (number, lap) != ("4", 3):
            late["LastLapTime"] = {"Value": minutes(whole)}
        elif lap > 1:
            late = {}
        if late:
            lines.append((now + timedelta(milliseconds=200), late))
    return lines


def tyres(number: str) -> list[Line]:
    start = timedelta(minutes=5)
    stints = {
        "1": [("MEDIUM", "true", 0), ("HARD", "false", 3)],
        "2": [("MEDIUM", "true", 0)],
        "3": [("SOFT", "true", 0)],
        "4": [("UNKNOWN", "true", 0)],
    }[number]
    lines = []
    for position, (compound, new, age) in enumerate(stints):
        at = (
            start
            if position == 0
            else BEGINS + sum((lap_time(number, n) for n in range(1, 6)), timedelta(seconds=9))
        )
        stint = {"Compound": compound, "New": new, "TotalLaps": age, "StartLaps": age, "TyresNotChanged": "0"}
        lines.append((at, {"Stints": {str(position): stint}}))
    return lines


def seconds(value: timedelta) -> str:
    return f"{value.total_seconds():.3f}"


def minutes(value: timedelta) -> str:
    whole, rest = divmod(value.total_seconds(), 60)
    return f"{int(whole)}:{rest:06.3f}"


def stamp(value: timedelta) -> str:
    thousandths = value // timedelta(milliseconds=1)
    return (
        f"{thousandths // 3_600_000:02}:{thousandths // 60_000 % 60:02}:"
        f"{thousandths // 1_000 % 60:02}.{thousandths % 1_000:03}"
    )


def stream(lines: list[Line]) -> bytes:
    """The feed's text: a time and a JSON object a line, CRLF, with a mark of UTF-8 in front."""
    ordered = sorted(lines, key=lambda line: line[0])
    text = "".join(f"{stamp(at)}{json.dumps(content)}\r\n" for at, content in ordered)
    return b"\xef\xbb\xbf" + text.encode()


def session_files(event: Event, name: str, start: datetime) -> dict[str, bytes]:
    """What the live timing keeps of one session."""
    over = BEGINS + timedelta(minutes=40)
    sixth = BEGINS + sum((lap_time("2", lap) for lap in range(1, 6)), timedelta(seconds=10))
    eighth = BEGINS + sum((lap_time("2", lap) for lap in range(1, 8)), timedelta(seconds=-10))
    rain = BEGINS + sum((lap_time("2", lap) for lap in range(1, 10)), timedelta(seconds=-10))
    third = BEGINS + sum((lap_time("2", lap) for lap in range(1, 3)), timedelta(seconds=20))
    zero = timedelta(0)
    info = {
        "Meeting": {
            "Key": event.number,
            "Name": event.name,
            "Location": event.location,
            "Country": {"Key": 1, "Code": "NOW", "Name": "Nowhere"},
            "Circuit": {"Key": 1, "ShortName": event.circuit},
        },
        "Key": event.number,
        "Type": "Race",
        "Name": name,
        "StartDate": start.isoformat(),
        "EndDate": (start + timedelta(hours=2)).isoformat(),
        "GmtOffset": "00:00:00",
    }
    drivers = {
        number: {
            "RacingNumber": number,
            "Tla": tla,
            "FirstName": first,
            "LastName": last,
            "FullName": f"{first} {last.upper()}",
            "BroadcastName": f"{first[0]} {last.upper()}",
            "TeamName": team,
            "TeamColour": "808080",
            "Line": int(number),
        }
        for number, (tla, first, last, team) in DRIVERS.items()
    }
    weather = [
        (
            timedelta(minutes=minute),
            {
                "AirTemp": "21.4",
                "Humidity": "55.0",
                "Pressure": "1012.3",
                "Rainfall": "1" if timedelta(minutes=minute) >= rain else "0",
                "TrackTemp": f"{30 + minute / 10:.1f}",
                "WindDirection": "90",
                "WindSpeed": "1.2",
            },
        )
        for minute in range(100)
    ]
    return {
        "SessionInfo.jsonStream": stream([(zero, info)]),
        "DriverList.jsonStream": stream([(zero, drivers)]),
        "SessionStatus.jsonStream": stream(
            [(zero, {"Status": "Inactive"}), (BEGINS, {"Status": "Started"}), (over, {"Status": "Finished"})]
        ),
        "LapCount.jsonStream": stream([(zero, {"CurrentLap": 1, "TotalLaps": LAPS})]),
        "TrackStatus.jsonStream": stream(
            [
                (zero, {"Status": "1", "Message": "AllClear"}),
                (third, {"Status": "6", "Message": "VSCDeployed"}),
                (third + timedelta(seconds=20), {"Status": "7", "Message": "VSCEnding"}),
                (third + timedelta(seconds=30), {"Status": "1", "Message": "AllClear"}),
                (sixth, {"Status": "4", "Message": "SCDeployed"}),
                (eighth, {"Status": "1", "Message": "AllClear"}),
                (over, {"Status": "1", "Message": "AllClear"}),
            ]
        ),
        "TimingData.jsonStream": stream(
            [(at, {"Lines": {number: line}}) for number in DRIVERS for at, line in timing(number)]
        ),
        "TimingAppData.jsonStream": stream(
            [(at, {"Lines": {number: line}}) for number in DRIVERS for at, line in tyres(number)]
        ),
        "WeatherData.jsonStream": stream(weather),
    }


def schedule() -> bytes:
    """The calendar, column by column."""
    columns: dict[str, list[Any]] = {
        "round_number": [event.number for event in SEASON],
        "country": ["Nowhere" for _ in SEASON],
        "location": [event.location for event in SEASON],
        "official_event_name": [event.name.upper() for event in SEASON],
        "event_date": [f"{event.sunday}T00:00:00" for event in SEASON],
        "event_name": [event.name for event in SEASON],
        "event_format": ["sprint_qualifying" if event.sprint else "conventional" for event in SEASON],
    }
    usual = ("Practice 1", "Practice 2", "Practice 3", "Qualifying", "Race")
    with_sprint = ("Practice 1", "Sprint Qualifying", "Sprint", "Qualifying", "Race")
    days_before, hours = (2, 2, 1, 1, 0), (11, 15, 11, 15, 14)
    for position in range(5):
        columns[f"session{position + 1}"] = [(with_sprint if e.sprint else usual)[position] for e in SEASON]
        columns[f"session{position + 1}_date"] = [
            f"{event.sunday - timedelta(days=days_before[position])}T{hours[position]}:00:00"
            for event in SEASON
        ]
    columns["gmt_offset"] = ["00:00" for _ in SEASON]
    columns["f1_api_support"] = [True for _ in SEASON]
    table = {name: {str(row): value for row, value in enumerate(values)} for name, values in columns.items()}
    return json.dumps(table, indent=1).encode()


def feed() -> dict[str, bytes]:
    """Every file, by its path on the server."""
    files = {"schedule_2024.json": schedule()}
    for event in SEASON[:2]:
        sessions = [("Race", event.sunday, 14)]
        if event.sprint:
            sessions.append(("Sprint", event.sunday - timedelta(days=1), 11))
        for name, day, hour in sessions:
            folder = f"static/2024/{event.sunday}_{event.name}/{day}_{name}".replace(" ", "_")
            start = datetime(day.year, day.month, day.day, hour)
            for page, content in session_files(event, name, start).items():
                files[f"{folder}/{page}"] = content
    return files


class Handler(SimpleHTTPRequestHandler):
    """Answers with the feed, or with 503 where the server is asked to."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((time.monotonic(), self.path))
        for page, times in self.server.away.items():
            if page in self.path and times:
                self.server.away[page] -= 1
                return self.send_error(503)
        return super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The services, on this machine."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[tuple[float, str]] = []  # when, and which path
        self.away: dict[str, int] = {}  # part of a path -> how often it is answered with 503

    def times_asked(self, page: str) -> int:
        return sum(page in path for _, path in self.asked)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(folder: Path = FEED) -> Iterator[Server]:
    """The real client's addresses lead to a local server; its own cache, limits and parsing are as they are."""
    from fastf1 import _api, events
    from fastf1.ergast import interface, legacy

    paths = [
        (_api, "base_url"),
        (_api, "base_url_mirror"),
        (events, "_SCHEDULE_BASE_URL"),
        (interface, "BASE_URL"),
        (legacy, "base_url"),
    ]
    before = [getattr(module, name) for module, name in paths]
    with Server(folder) as server:
        for (module, name), suffix in zip(paths, ("", "", "/", "/ergast", "/ergast"), strict=True):
            setattr(module, name, server.url + suffix)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
            for (module, name), value in zip(paths, before, strict=True):
                setattr(module, name, value)


def frames() -> dict[str, bytes]:
    """The calendar, and laps and weather of the first race, as the client gives them, as CSV."""
    from vroom_assets.ingestion.fastf1.client import Client
    from vroom_assets.ingestion.fastf1.laps import sessions_of

    with serving(), tempfile.TemporaryDirectory() as cache:
        client = Client(Path(cache))
        calendar = client.calendar(2024)
        race = client.record(sessions_of(calendar, 2024)[0])
    tables = {"calendar": calendar, "laps": race.laps, "weather": race.weather}
    return {f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()}


def main() -> None:
    write(FEED, feed())
    write(FRAMES, frames())


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


if __name__ == "__main__":
    main()
