"""Times as texts and as seconds: what a source reads a request may send, and both mean the same."""

import re
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_api.contract.times import TIME, seconds_of, seconds_since, text_of
from vroom_assets.sources.cells import value
from vroom_assets.spec import Column, Format

CONNECTION = duckdb.connect()
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
zones = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


def as_a_source_reads_it(text: str) -> datetime | None:
    sql = value("text", Column(type="timestamp"), Format())
    [(found,)] = CONNECTION.execute(f"select {sql} from (select ?::varchar as text)", [text]).fetchall()
    return found


@given(times)
def test_seconds_are_the_text_again_to_the_microsecond(time):
    seconds = seconds_since(time)
    assert abs(datetime.fromisoformat(text_of(seconds)) - time) <= timedelta(microseconds=30)
    assert seconds_of(text_of(seconds)) == seconds
    if 1900 < time.year < 2100:
        assert text_of(seconds) == time.isoformat()


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), zones | st.just(None), st.sampled_from("T "))
def test_an_offset_counts_and_a_source_reads_the_same(time, zone, between):
    text = time.replace(tzinfo=zone).isoformat(between, "seconds")
    wanted = (time if zone is None else time.replace(tzinfo=zone).astimezone(UTC)).replace(
        microsecond=0, tzinfo=None
    )
    assert seconds_of(text) == seconds_since(wanted)
    assert as_a_source_reads_it(text) == wanted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0.0),
        ("1969-12-31T23:59:59", -1.0),
        ("2024-02-29", 1709164800.0),
        ("2024-02-29 00:00", 1709164800.0),
        ("2024-02-29T01:00+01:00", 1709164800.0),
        ("2024-02-28T19:00-0500", 1709164800.0),
        ("2024-02-29T00:00:00.5Z", 1709164800.5),
    ],
)
def test_iso_8601_is_read(text, seconds):
    assert seconds_of(text) == seconds
    assert re.search(TIME, text)
    assert seconds_since(as_a_source_reads_it(text)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1709164800", "24-02-29", "2024-2-9", "2024-13-01", "2024-04-31", "2024-02-30"),
        *("2024-02-29T24:00", "2024-02-29T7:00", "2024-02-29T07", "2024-02-29x07:00", "2024-02-29T07:60"),
        *("2024-02-29\n", " 2024-02-29", "٢٠٢٤-02-29", "2024-02-29T07:00+25:00", "2024W05", "20240229"),
        *("2023-02-29", "0000-01-01", "0001-01-01T00:00+10:00"),
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a time|out of range|before the year 1"):
        seconds_of(text)
