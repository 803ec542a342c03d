"""Fields that contradict each other."""

import pytest

from tests.support.forecasts import contradictions_of, shipped
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


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"due_input": "seats", "due_days": 3}, "due_days says already when a target is known"),
        ({"due_input": "seats", "window_days": 3}, "window_days says already when a target is known"),
        ({"due_input": "doors"}, "'doors' is not declared; use one of seats"),
    ],
)
def test_two_ways_to_say_when_a_target_is_known_are_refused(target, message):
    spec = bookings({"seats": {"type": "number"}})
    changed = spec.model_copy(update={"target": spec.target.model_copy(update=target)})
    assert f"target.due_input: {message}" in contradictions_of(changed)


def test_only_a_number_says_how_many_days_are_left():
    spec = bookings({"make": {"type": "text", "values": ["a", "b"]}})
    changed = spec.model_copy(update={"target": spec.target.model_copy(update={"due_input": "make"})})
    assert "target.due_input: make is of type text; name an input that is a number" in contradictions_of(
        changed
    )


@pytest.mark.parametrize(
    ("forecast", "days", "due_input"),
    [
        ("reservations", 365, None),
        ("upcoming_reservations", 90, None),
        ("lap_times", 0.002, None),
        ("market_resolution", None, "days_left"),
    ],
)
def test_each_shipped_forecast_says_when_its_target_is_known(forecast, days, due_input):
    target = shipped(forecast).target
    assert (target.due_after_days, target.due_input) == (days, due_input)
    assert contradictions_of(shipped(forecast)) == ""


def test_when_a_target_is_known_is_published_again_and_trains_nothing():
    spec = shipped("reservations")
    later = spec.model_copy(update={"target": spec.target.model_copy(update={"due_days": 400})})
    for purpose in (Purpose.DATA, Purpose.MODEL, Purpose.JUDGING):
        assert later.fingerprint(purpose) == spec.fingerprint(purpose)
    assert later.fingerprint(Purpose.SERVING) != spec.fingerprint(Purpose.SERVING)


@pytest.mark.parametrize("name", ["predictions", "outcomes", "feedback", "performance", "drift", "health"])
def test_a_source_does_not_have_the_name_of_an_asset_of_the_monitoring(name):
    spec = bookings({"price": {"type": "number"}})
    changed = spec.model_copy(update={"sources": spec.sources | {name: spec.sources["vans"]}})
    assert f"sources.{name}: Vroom has a table or an asset of that name" in contradictions_of(changed)
