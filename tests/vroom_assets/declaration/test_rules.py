"""Fields that contradict each other."""

import pytest

from tests.support.forecasts import contradictions_of
from tests.support.vans import bookings
from vroom_assets.spec import Format, Purpose


@pytest.mark.parametrize(
    ("format", "field", "message"),
    [
        (
            {"encoding": "utf-9"},
            "encoding",
            "is not a text encoding that Python knows; write e.g. windows-1252",
        ),
        ({"encoding": "base64"}, "encoding", "is not a text encoding"),
        ({"zone": "Vienna"}, "zone", "is not a time zone; write an IANA name, e.g. Europe/Vienna"),
        ({"decimal": ",", "thousands": ","}, "thousands", "is before the fraction already"),
        ({"delimiter": '"'}, "delimiter", "cannot stand between cells"),
        ({"delimiter": "\n"}, "delimiter", "cannot stand between cells"),
        ({"quote": "x"}, "quote", "cannot stand around cells"),
        ({"header": ["a", "a"]}, "header", "a name is there twice"),
        ({"dates": "day first"}, "dates", "is not a way to write a date; write e.g. '%d.%m.%Y %H:%M:%S'"),
        ({"dates": ["%d.%m.%Y", "%H:%M"]}, "dates", "'%H:%M' is not a way to write a date"),
    ],
)
def test_a_format_that_no_file_can_have_is_refused(format, field, message):
    spec = bookings({"seats": {"type": "number"}})
    vans = spec.sources["vans"].model_copy(update={"format": Format(**format)})
    found = contradictions_of(spec.model_copy(update={"sources": {"vans": vans}}))
    assert f"sources.vans.format.{field}: " in found
    assert message in found


def test_formats_that_files_have_are_none():
    spec = bookings({"seats": {"type": "number"}})
    given = Format(
        delimiter="\t", quote="'", encoding="cp1252", decimal=",", thousands=".", zone="America/St_Johns",
        dates=["%d.%m.%Y", "%b %d, %Y %I:%M %p"], header=["van_id", "seats", "listed_at"],
    )  # fmt: skip
    vans = spec.sources["vans"].model_copy(update={"format": given})
    changed = spec.model_copy(update={"sources": {"vans": vans}})
    assert contradictions_of(changed) == contradictions_of(spec)


def test_a_format_left_at_its_defaults_changes_no_fingerprint():
    spec = bookings({"seats": {"type": "number"}})
    vans = spec.sources["vans"].model_copy(update={"format": Format(delimiter=";")})
    changed = spec.model_copy(update={"sources": {"vans": vans}})
    same = spec.model_copy(
        update={"sources": {"vans": spec.sources["vans"].model_copy(update={"format": Format()})}}
    )
    assert (
        same.fingerprint(Purpose.DATA) == spec.fingerprint(Purpose.DATA) != changed.fingerprint(Purpose.DATA)
    )
