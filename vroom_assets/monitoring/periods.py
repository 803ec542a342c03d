"""Periods as callers write them: 2026, 2026-Q1, 2026-03, 2026-W09, 2026-03-05, 2026-03-05/2026-06-03."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_YEAR = re.compile(r"(\d{4})", re.ASCII)
_QUARTER = re.compile(r"(\d{4})-?Q([1-4])", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.ASCII)


@dataclass(frozen=True)
class Period:
    """A span of time, from its start to before its end, in UTC without a zone."""

    start: datetime
    end: datetime


def read_period(text: str) -> Period | None:
    """The span that a text means; None where it means none.

    The last day of `<day>/<day>` belongs to it, as does all of a day that is given without a time.
    """
    first, _, last = text.strip().partition("/")
    try:
        begin = _span(first.strip())
        end = _span(last.strip()) if last else begin
    except (ValueError, OverflowError):
        return None
    if begin is None or end is None or end.end <= begin.start:
        return None
    return Period(begin.start, end.end)


def _span(text: str) -> Period | None:
    """Raises:
    ValueError, OverflowError: it looks like a date and is none.
    """
    if found := _YEAR.fullmatch(text):
        year = int(found[1])
        return Period(datetime(year, 1, 1), datetime(year + 1, 1, 1))
    if found := _QUARTER.fullmatch(text):
        return _months(int(found[1]), 3 * int(found[2]) - 2, 3)
    if found := _MONTH.fullmatch(text):
        return _months(int(found[1]), int(found[2]), 1)
    if found := _WEEK.fullmatch(text):
        monday = datetime.fromisocalendar(int(found[1]), int(found[2]), 1)
        return Period(monday, monday + timedelta(days=7))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    is_day = len(text) <= len("2026-03-05")
    return Period(moment, moment + timedelta(days=1) if is_day else moment)


def _months(year: int, month: int, count: int) -> Period:
    after = year * 12 + month - 1 + count
    return Period(datetime(year, month, 1), datetime(after // 12, after % 12 + 1, 1))
