"""Texts that a cell may hold and that a cast or a rule might take for something else, and formats of files."""

from collections.abc import Iterable
from itertools import product

SIGNS = "015.,e+-_ \t\xa0xinfP%:'"  # of all that a cast or a rule takes for a part of a number
MOMENTS = (
    "2023-07-27", "2023-07-27 14:58:26", "2023-07-27T14:58", "2023-07-27 14:58:26.123456", "0999-12-31 00:00:00",
    "1000-01-01 00:00:00", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00", "10000-01-01", "0044-03-15 (BC)",
    "0044-03-15 (BC) 00:00:00", "infinity", "-infinity", "epoch", "today", "now", "2023-07-27 24:00:00", "2023-02-29",
    "2023-07-27 14:58:26Z", "2023-07-27 14:58:26+02:00", "2023-03-26 02:30:00", "2023-10-29 02:30:00",
    "2023-07-27 14:58:60", "2023/07/27", "2023-7-27", "27.07.2023", "2023-07-27 14:58:26 UTC", "2023-07-27 14:58:26.1",
)  # fmt: skip
AWKWARD = (
    "1_000", "1e3", " 5", "5 ", "0x10", "0b1", "inf", "-Infinity", "nan", "NaN", "5.0", "٣", "５", "+5", "--5", "1,5",
    "", "1e400", "1e-400", "-0", "00005", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "1'234", "1 234", "1.234,5", "1,234.5", "90%", "90 %", "$1", "1:24.500", "PT1H2M", "2 days 03:04:05", "true", "T",
    "yes", " 1", "1 ", "NA", "NA ", " NA", "NA\xa0", "\xa0NA", "\xa0", "é", " é ", "999", " 999", "999 ", "999.0", "-1",
    "0.1", "0.30000000000000004", "1e22", "123456789012345678901234567890", "1\x1d", "\x1d", "5\v", "\f5", "1d", "1f",
)  # fmt: skip
FORMATS = {
    "as it stands": {},
    "decimal comma": {"decimal": ","},
    "both marks": {"decimal": ",", "thousands": "."},
    "thousands by commas": {"thousands": ","},
    "thousands by apostrophes": {"thousands": "'"},
    "thousands by blanks": {"thousands": " "},
    "words for empty cells": {"nulls": ["NA", "999", "-1", "2023-07-27 14:58:26", "2023-07-27", "1"]},
    "a number for empty cells in decimal commas": {"nulls": ["1"], "decimal": ","},
    "trimmed": {"trim": True},
    "trimmed, with words for empty cells": {"trim": True, "nulls": ["NA", "-"]},
    "a zone": {"zone": "Europe/Vienna"},
    "own dates": {"dates": ["%d.%m.%Y", "%Y/%m/%d"]},
}


def edited(texts: Iterable[str]) -> set[str]:
    """The texts, and all with one character left out, put in or replaced."""
    found = set(texts)
    for text in texts:
        for at in range(len(text) + 1):
            found.add(text[:at] + text[at + 1 :])
            found.update(text[:at] + sign + text[at + skip :] for sign in SIGNS + "9TZ" for skip in (0, 1))
    return found


def texts() -> list[str]:
    """All texts of up to three signs, and others with all that is one edit away."""
    short = {"".join(one) for length in range(4) for one in product(SIGNS, repeat=length)}
    return sorted(short | edited([*MOMENTS, *AWKWARD]))
