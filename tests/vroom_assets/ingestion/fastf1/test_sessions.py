"""Ingestion: laps of real sessions, through the FastF1 client into the CSV of the forecast, on recordings."""

import errno
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from tests.data.recordings.record import FEED, FRAMES, Server, feed, frames, serving
from tests.support.project import ROOT
from vroom_assets import sources
from vroom_assets.ingestion.fastf1 import merge as merging
from vroom_assets.ingestion.fastf1.laps import (
    COLUMNS,
    Recording,
    Rows,
    SessionIncomplete,
    over,
    rows_of,
    sessions_of,
)
from vroom_assets.ingestion.fastf1.merge import FileChanged, FileRefused, merge
from vroom_assets.ingestion.fastf1.sessions import Sessions, SessionsToRead, sessions_asset
from vroom_assets.spec import Source

DEFS = ROOT / "vroom_assets" / "defs"
INGESTIONS = DEFS.with_name("ingestion")
KNOWN_AFTER = timedelta(seconds=5)

with_client = pytest.mark.skipif(
    importlib.util.find_spec("fastf1") is None, reason="needs the extra fastf1: uv pip install -e '.[fastf1]'"
)


@pytest.fixture(scope="module")
def calendar() -> pd.DataFrame:
    table = pd.read_csv(FRAMES / "calendar.csv")
    return table.assign(
        **{f"Session{n}DateUtc": pd.to_datetime(table[f"Session{n}DateUtc"]) for n in range(1, 6)}
    )


@pytest.fixture(scope="module")
def recording(calendar) -> Recording:
    """The first race, with the types that the client gives its frames."""
    texts = {"Driver": str, "Compound": str, "TrackStatus": str}
    laps = pd.read_csv(FRAMES / "laps.csv", dtype=texts, keep_default_na=False, na_values=[""])
    times = [name for name in laps if name.endswith("Time")]
    laps = laps.assign(**{name: pd.to_timedelta(laps[name]) for name in times})
    weather = pd.read_csv(FRAMES / "weather.csv")
    weather = weather.assign(Time=pd.to_timedelta(weather["Time"]))
    return Recording(sessions_of(calendar, 2024)[0], "Marram", timedelta(hours=1), laps, weather)


@pytest.fixture(scope="module")
def rows(recording) -> Rows:
    return rows_of(recording, KNOWN_AFTER)


@pytest.fixture
def path(home: Path) -> Path:
    """The shipped CSV, free to be changed."""
    return home.parent / "data" / "lap_times" / "laps.csv"


def laps_of(table: pd.DataFrame, **equal: str) -> list[str]:
    """`driver lap` of the rows that have these values."""
    chosen = table[(table[list(equal)] == pd.Series(equal)).all(axis=1)]
    return sorted(chosen["driver"] + " " + chosen["lap"])


# sessions


def test_races_and_sprints_are_found_and_a_second_visit_has_a_name_of_its_own(calendar):
    found = [(s.number, s.kind, s.name, str(s.starts)) for s in sessions_of(calendar, 2024)]
    assert found == [
        (1, "Race", "race", "2024-03-03 14:00:00"),
        (2, "Sprint", "sprint", "2024-03-09 11:00:00"),
        (2, "Race", "race 2", "2024-03-10 14:00:00"),
        (3, "Race", "race", "2099-06-07 14:00:00"),
    ]


def test_a_session_is_over_some_hours_after_its_start(calendar):
    sessions = sessions_of(calendar, 2024)
    assert over(sessions, datetime(2024, 3, 3, 19, 59)) == []
    assert over(sessions, datetime(2024, 3, 3, 20, 0)) == sessions[:1]


# rows


def test_the_columns_are_those_of_the_shipped_file(rows):
    assert list(COLUMNS) == list(pd.read_csv(ROOT / "data" / "lap_times" / "laps.csv", nrows=0))
    assert ["lap_id", *rows.table] == list(COLUMNS)


def test_what_has_no_time_or_no_known_tyres_is_left_out_and_counted(recording, rows):
    assert rows.left_out == {"made up by the client": 1, "without a time": 5, "without known tyres": 10}
    assert len(rows.table) == len(recording.laps) - 16
    assert laps_of(rows.table, lap="1") == []
    assert laps_of(rows.table, driver="CLE") == [f"CLE {lap}" for lap in range(2, 9)]


def test_laps_in_the_pits_and_behind_a_safety_car_stay_and_are_marked(rows):
    assert laps_of(rows.table, pit_in="1") == ["ADA 5"]
    assert laps_of(rows.table, pit_out="1") == ["ADA 6"]
    behind = [int(lap.split()[1]) for lap in laps_of(rows.table, safety_car="1", driver="BEN")]
    assert behind == [3, 6, 7]  # the third is behind a virtual one


def test_inaccurate_and_deleted_laps_were_driven_and_stay(recording, rows):
    doubtful = replace(recording, laps=recording.laps.assign(IsAccurate=False, Deleted=True))
    assert rows_of(doubtful, KNOWN_AFTER).table.equals(rows.table)


def test_tyres_are_those_of_the_lap(rows):
    ada = rows.table[rows.table["driver"] == "ADA"].set_index("lap")
    assert ada.loc["5", ["compound", "tyre_age", "stint"]].tolist() == ["medium", "5", "1"]
    assert ada.loc["6", ["compound", "tyre_age", "stint"]].tolist() == ["hard", "4", "2"]  # a set used for 3


def test_a_lap_ends_by_the_timing_starts_its_time_before_and_is_known_a_little_later(rows):
    table = rows.table.assign(
        **{n: pd.to_datetime(rows.table[n]) for n in ("started_at", "finished_at", "loaded_at")}
    )
    took = (table["finished_at"] - table["started_at"]).dt.total_seconds()
    assert took.round(3).tolist() == table["lap_time"].astype(float).tolist()
    assert (table["loaded_at"] - table["finished_at"] == KNOWN_AFTER).all()
    ben = table[table["driver"] == "BEN"]
    assert (ben["started_at"].iloc[1:].to_numpy() == ben["finished_at"].iloc[:-1].to_numpy()).all()
    assert rows.table["finished_at"].is_monotonic_increasing
    first = rows.table.iloc[0]
    assert first[["driver", "lap", "lap_time", "started_at", "finished_at"]].tolist() == [
        "ADA",
        "2",
        "90.474",
        "2024-03-03 14:01:30.437",
        "2024-03-03 14:03:00.911",
    ]


def test_the_weather_is_the_last_that_was_read_before_the_lap_ended(recording, rows):
    assert laps_of(rows.table, weather="rain", driver="BEN") == ["BEN 10", "BEN 11", "BEN 12"]
    first = rows.table.iloc[0]  # ended at 01:03:00.911 of the recording; the reading of minute 63 says 36.3
    assert (first["weather"], first["track_temperature"]) == ("dry", "36.3")
    late = recording.weather[recording.weather["Time"] >= timedelta(hours=1, minutes=4)]
    cut = rows_of(replace(recording, weather=late), KNOWN_AFTER)
    assert cut.left_out["without weather"] == 3  # second laps that ended before the first reading
    with pytest.raises(SessionIncomplete, match="without weather"):
        rows_of(replace(recording, weather=recording.weather.iloc[:0]), KNOWN_AFTER)


def test_a_lap_whose_track_status_is_not_known_is_not_taken_for_a_clear_one(recording):
    laps = recording.laps.assign(
        TrackStatus=recording.laps["TrackStatus"].where(recording.laps["LapNumber"] != 6)
    )
    cut = rows_of(replace(recording, laps=laps), KNOWN_AFTER)
    assert cut.left_out["without a track status"] == 3
    assert laps_of(cut.table, lap="6") == []


def test_a_session_without_its_drivers_names_is_refused(recording):
    laps = recording.laps.assign(Driver=recording.laps["Driver"].where(recording.laps["Driver"] != "BEN"))
    with pytest.raises(SessionIncomplete, match="round 1 of 2024, race: the list of drivers is not there"):
        rows_of(replace(recording, laps=laps), KNOWN_AFTER)


def test_the_declared_source_takes_every_row(rows, tmp_path):
    declared = yaml.safe_load((DEFS / "lap_times" / "defs.yaml").read_text())["attributes"]["sources"]["laps"]
    merge(tmp_path / "laps.csv", [rows.table])
    with duckdb.connect() as connection:
        report = sources.load(
            connection, "laps", Source(**declared), [sources.NamedFile(tmp_path / "laps.csv", "laps.csv")]
        )
    assert (report.accepted, report.quarantined) == (len(rows.table), 0)


# merge


def test_other_sessions_stay_as_they_are_and_new_laps_get_the_next_ids(path, rows):
    before = path.read_text().splitlines()
    merged = merge(path, [rows.table])
    after = path.read_text().splitlines()
    assert [line for line in after if line in set(before)] == before
    assert (merged.added, merged.changed, merged.removed, merged.written) == (29, 0, 0, True)
    ids = merged.table.loc[merged.table["driver"].isin(["ADA", "BEN", "CLE"]), "lap_id"]
    assert ids.tolist() == [str(number) for number in range(7_871, 7_900)]
    assert merged.table["finished_at"].is_monotonic_increasing


def test_the_same_rows_again_leave_the_file_alone(path, rows):
    merge(path, [rows.table])
    before = path.stat()
    merged = merge(path, [rows.table])
    assert (merged.added, merged.changed, merged.removed, merged.written) == (0, 0, 0, False)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_session_read_again_replaces_its_laps_and_keeps_their_ids(path, rows):
    first = merge(path, [rows.table]).table
    again = rows.table.iloc[1:].copy()  # one lap is gone, one corrected, one new
    again.loc[again.index[0], "lap_time"] = "91.000"
    again = pd.concat([again, again.tail(1).assign(driver="EVE")])
    merged = merge(path, [again])
    assert (merged.added, merged.changed, merged.removed) == (1, 1, 1)
    ids = [table.set_index(merging.KEY)["lap_id"] for table in (first, merged.table)]
    both = ids[0].index.intersection(ids[1].index)
    assert len(both) == len(first) - 1
    assert ids[0][both].equals(ids[1][both])
    assert merged.table["lap_id"].is_unique
    assert laps_of(merged.table, lap_time="91.000", session="race", driver=again.iloc[0]["driver"])


def test_alone_takes_the_other_sessions_out(path, rows):
    merged = merge(path, [rows.table], alone=True)
    assert (merged.added, merged.removed) == (29, 7_870)
    assert merged.table["circuit"].unique().tolist() == ["Marram"]


def test_without_a_file_one_is_made(tmp_path, rows):
    merge(tmp_path / "lap_times" / "laps.csv", [rows.table])
    table = pd.read_csv(tmp_path / "lap_times" / "laps.csv")
    assert list(table) == list(COLUMNS)
    assert table["lap_id"].tolist() == list(range(1, 30))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lap_id,season\n1,2024\n", "missing: circuit, .*; unknown: none"),
        ("", "is not a CSV of laps"),
        (",".join((*COLUMNS, "tyre")) + "\n", "missing: none; unknown: tyre"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(tmp_path, rows, content, words):
    file = tmp_path / "laps.csv"
    file.write_text(content)
    with pytest.raises(FileRefused, match=words):
        merge(file, [rows.table])
    assert file.read_text() == content


def test_a_file_written_meanwhile_is_not_written_over(path, rows, monkeypatch):
    honest = merging._read

    def slow(one: Path) -> pd.DataFrame:
        table = honest(one)
        one.write_text("somebody else's\n")
        return table

    monkeypatch.setattr(merging, "_read", slow)
    with pytest.raises(FileChanged, match="was written while laps were added"):
        merge(path, [rows.table])
    assert path.read_text() == "somebody else's\n"


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(path, rows, monkeypatch):
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        merge(path, [rows.table])
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["generate.py", "laps.csv"]


# the asset


@pytest.fixture(scope="module")
def declared() -> Sessions:
    """As it is shipped, but for the pause before a retry."""
    attributes = yaml.safe_load((INGESTIONS / "lap_times" / "defs.yaml").read_text())["attributes"]
    return Sessions(**attributes, retry_seconds=0)


def materialize(
    declared: Sessions, instance: dg.DagsterInstance, **config: object
) -> tuple[bool, dict[str, object], str]:
    """Whether it succeeded, the metadata, and what the failure said."""
    done = dg.materialize(
        [sessions_asset(declared)],
        instance=instance,
        run_config={"ops": {"lap_times__sessions": {"config": config}}},
        raise_on_error=False,
    )
    if not done.success:
        error = done.failure_data_for_node("lap_times__sessions")
        assert error is not None
        assert error.error is not None
        return False, {}, error.error.to_string()
    (event,) = done.asset_materializations_for_node("lap_times__sessions")
    return True, {name: entry.value for name, entry in event.metadata.items()}, ""


def retries(instance: dg.DagsterInstance) -> int:
    (record,) = instance.get_run_records(limit=1)
    events = instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    return len(events)


def test_without_the_client_it_fails_at_once_and_says_what_to_install(declared, instance, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastf1", None)
    success, _, words = materialize(declared, instance, season=2024)
    assert not success
    assert "needs the extra `fastf1`, which is not installed: uv pip install -e '.[fastf1]'" in words
    assert retries(instance) == 0


def test_materialize_all_which_names_no_season_reads_nothing(declared, instance, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastf1", None)
    before = path.read_bytes()
    assert materialize(declared, instance) == (True, {"sessions_read": 0}, "")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "wrong", [{"season": 2018}, {"season": 2024, "rounds": [0]}, {"season": 2024, "rounds": [41]}]
)
def test_a_season_or_a_round_out_of_bounds_is_refused(wrong):
    with pytest.raises(ValidationError, match=r"(greater|less) than or equal"):
        SessionsToRead(**wrong)


@pytest.fixture
def spacing_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The client asks it as it asks the real ones: a few times a second."""
    monkeypatch.delenv("FASTF1_CACHE", raising=False)
    with serving() as one:
        yield one


@pytest.fixture
def server(spacing_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The client asks it at once, or a test of 30 requests takes 8 seconds."""
    if importlib.util.find_spec("fastf1") is not None:
        from fastf1 import req

        monkeypatch.setattr(req._SessionWithRateLimiting, "_RATE_LIMITS", {})
    return spacing_server


def test_the_feed_is_what_its_generator_writes():
    assert {str(f.relative_to(FEED)): f.read_bytes() for f in FEED.rglob("*") if f.is_file()} == feed()


@with_client
def test_the_client_makes_the_recorded_frames_of_the_feed():
    assert {name: text.decode() for name, text in frames().items()} == {
        one.name: one.read_text() for one in FRAMES.iterdir()
    }


@with_client
def test_sessions_are_read_once_and_written_once(declared, instance, server, path, home):
    success, given, words = materialize(declared, instance, season=2024)
    assert success, words
    assert {name: given[name] for name in ("sessions_read", "laps_read", "laps_left_out", "laps_added")} == {
        "sessions_read": 3,  # the round of 2099 is not over
        "laps_read": 87,
        "laps_left_out": 48,
        "laps_added": 87,
    }
    assert given["dagster/row_count"] == 7_870 + 87
    assert "| 2 | Marram | race 2 | 29 |" in str(given["sessions"])
    table = pd.read_csv(path)
    assert table.groupby("session").size()["race 2"] == 29
    assert not table.duplicated(merging.KEY).any()
    assert (home / "fastf1").is_dir()

    asked, content = len(server.asked), path.read_bytes()
    pages = [path for _, path in server.asked if "ergast" not in path]
    assert len(pages) == len(set(pages)) == 1 + 3 * 8
    success, given, words = materialize(declared, instance, season=2024)
    assert success, words
    assert given["file_written"] is False
    assert path.read_bytes() == content
    assert {p for _, p in server.asked[asked:] if "ergast" not in p} == set()


@with_client
def test_requests_are_spaced(declared, instance, spacing_server, path):
    materialize(declared, instance, season=2024, rounds=[1])
    times = [when for when, _ in spacing_server.asked]
    assert len(times) > 8
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.2


@with_client
def test_a_part_that_is_not_answered_is_asked_for_again_and_no_other(declared, instance, server, path):
    server.away = {"TrackStatus": 2}  # the service and its mirror, once
    success, given, words = materialize(declared, instance, season=2024, rounds=[1])
    assert success, words
    assert given["laps_added"] == 29
    assert retries(instance) == 1
    assert (server.times_asked("TrackStatus"), server.times_asked("TimingData")) == (3, 1)


@with_client
@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("TrackStatus", "round 1 of 2024, race: a part of it could not be read"),
        ("WeatherData", "a part of it could not be read"),
        ("DriverList", "the list of drivers is not there"),
        ("schedule", "the calendar of 2024 could not be read"),
    ],
)
def test_services_that_stay_away_fail_the_run_and_leave_the_file(
    declared, instance, server, path, page, words
):
    before = path.read_bytes()
    server.away = {page: 1_000}
    once = declared.model_copy(update={"retries": 1})
    success, _, message = materialize(once, instance, season=2024, rounds=[1])
    assert not success
    assert words in message
    assert retries(instance) == 1
    assert path.read_bytes() == before


@with_client
def test_the_clients_limit_ends_the_run_and_the_next_one_goes_on_from_there(
    declared, instance, server, path, monkeypatch
):
    from fastf1 import req

    before = path.read_bytes()
    limit = {re.compile(".*"): [req._CallsPerIntervalLimitRaise(6, 3_600, "any API: 6 calls/h")]}
    with monkeypatch.context() as patch:
        patch.setattr(req._SessionWithRateLimiting, "_RATE_LIMITS", limit)
        success, _, words = materialize(declared, instance, season=2024, rounds=[1])
    assert not success
    assert "any API: 6 calls/h" in words
    assert "run it again in an hour" in words
    assert retries(instance) == 0
    assert path.read_bytes() == before
    success, _, words = materialize(declared, instance, season=2024, rounds=[1])
    assert success, words
    assert server.times_asked("DriverList") == server.times_asked("schedule") == 1


@with_client
def test_renew_asks_for_everything_again_and_a_retry_does_not(declared, instance, server, path):
    materialize(declared, instance, season=2024, rounds=[1])
    server.away = {"TrackStatus": 2}
    success, given, words = materialize(declared, instance, season=2024, rounds=[1], renew=True)
    assert success, words
    assert retries(instance) == 1
    assert server.times_asked("TimingData") == 2
    assert given["file_written"] is False


@with_client
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rounds": [3]}, "round 3 of 2024, race is not over yet"),
        ({"rounds": [1, 9]}, "season 2024 has nothing of what is asked for in round 9"),
        ({"rounds": [1], "races": False}, "nothing of what is asked for in round 1"),
        ({"races": False, "sprints": False}, "nothing of what is asked for that is over"),
    ],
)
def test_what_cannot_be_read_yet_or_ever_is_said_and_not_tried_again(
    declared, instance, server, config, words
):
    success, _, message = materialize(declared, instance, season=2024, **config)
    assert not success
    assert words in message
    assert retries(instance) == 0


@with_client
def test_the_forecasts_own_sensor_takes_up_the_file(declared, instance, server, path):
    from vroom_assets.definitions import defs

    location = defs()
    sensor = location.resolve_sensor_def("lap_times_sources")
    cursor: str | None = None

    def ticks() -> list[str]:
        nonlocal cursor
        reasons = []
        for _ in range(3):
            with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=location) as context:
                result = sensor.evaluate_tick(context)
            cursor = result.cursor
            reasons += [request.tags["vroom/reason"] for request in result.run_requests or []]
        return reasons

    assert len(ticks()) == 1
    materialize(declared, instance, season=2024, rounds=[1])
    assert [reason.partition(":")[0] for reason in ticks()] == ["laps changed"]
    materialize(declared, instance, season=2024, rounds=[1])
    assert ticks() == []
    assert json.loads(cursor or "{}")["contents"]["laps"] == sources.observe(path, None).sha256
