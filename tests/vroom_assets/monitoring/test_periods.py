"""Periods as callers write them."""

from datetime import datetime

import pytest

from vroom_assets.monitoring.periods import Period, read_period


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-Q1", "2026-01-01", "2026-04-01"),
        ("2026Q4", "2026-10-01", "2027-01-01"),
        ("2026-03", "2026-03-01", "2026-04-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-W01", "2025-12-29", "2026-01-05"),
        ("2026-03-05", "2026-03-05", "2026-03-06"),
        ("2026-03-05/2026-06-03", "2026-03-05", "2026-06-04"),
        ("2026-01/2026-02", "2026-01-01", "2026-03-01"),
        ("2026-03-05T12:00:00Z/2026-03-05T14:00:00+01:00", "2026-03-05T12:00:00", "2026-03-05T13:00:00"),
    ],
)
def test_a_period_is_a_span_of_time(text, start, end):
    assert read_period(text) == Period(datetime.fromisoformat(start), datetime.fromisoformat(end))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spring",
        "2026-13",
        "2026-Q5",
        "2026-02-30",
        "2026/2025",
        "0000",
        "9999",
        "2026-03-05T12:00:00",
        "/",
        "Q1",
    ],
)
def test_what_is_no_span_is_none(text):
    assert read_period(text) is None
