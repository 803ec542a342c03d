"""Ages and their verdicts under a clock that the tests hold."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.tiny import changed, van
from vroom_api.champion.freshness import Expired, admit, ages
from vroom_api.contract import AgeLimits, FreshnessPolicy

HOUR = 3600.0
TRAINED = datetime(2025, 3, 2, tzinfo=UTC)
DAY_OLD = AgeLimits(stale_after_s=24 * HOUR, expired_after_s=48 * HOUR)


def under(policy: FreshnessPolicy, **parts):
    return changed(van()[1], freshness=policy, **parts)


@pytest.mark.parametrize(
    ("hours", "verdict"),
    [(0, "fresh"), (23.9, "fresh"), (24, "stale"), (25, "stale"), (48, "expired"), (49, "expired")],
)
def test_a_model_goes_stale_and_expires_at_its_limits(hours, verdict):
    manifest = under(FreshnessPolicy(model=DAY_OLD))
    found = ages(manifest, TRAINED + timedelta(hours=hours))
    assert found.freshness == verdict
    assert found.model_age_s == pytest.approx(hours * HOUR)


def test_age_of_the_data_counts_from_their_latest_event_in_utc():
    found = ages(under(FreshnessPolicy(data=DAY_OLD)), TRAINED + timedelta(hours=25))
    assert found.data_as_of == "2025-03-01T12:00:00"
    assert found.data_age_s == 37 * HOUR
    assert found.freshness == "stale"


def test_a_time_with_a_zone_keeps_it():
    manifest = under(FreshnessPolicy(), data_as_of="2025-03-01T12:00:00+02:00")
    assert ages(manifest, TRAINED).data_age_s == 14 * HOUR


def test_the_worse_of_two_verdicts_counts():
    young_model = TRAINED + timedelta(hours=1)
    old_data = AgeLimits(stale_after_s=HOUR, expired_after_s=2 * HOUR)
    assert ages(under(FreshnessPolicy(model=DAY_OLD, data=old_data)), young_model).freshness == "expired"
    assert ages(under(FreshnessPolicy(model=DAY_OLD)), young_model).freshness == "fresh"


def test_what_has_no_limits_is_reported_and_not_judged():
    found = ages(under(FreshnessPolicy()), TRAINED + timedelta(days=1000))
    assert found.freshness == "unlimited"
    assert found.model_age_s == 1000 * 24 * HOUR


def test_data_of_unknown_age_have_expired_only_where_their_age_matters():
    undated = under(FreshnessPolicy(model=DAY_OLD), data_as_of="")
    assert ages(undated, TRAINED).freshness == "fresh"
    assert ages(undated, TRAINED).data_age_s is None
    refusing = under(FreshnessPolicy(data=DAY_OLD, expired="refuse"), data_as_of="")
    with pytest.raises(Expired, match="data is of unknown age"):
        admit(refusing, TRAINED)


def test_an_expired_answer_is_flagged_where_the_forecast_says_so():
    manifest = under(FreshnessPolicy(model=DAY_OLD, expired="flag"))
    assert admit(manifest, TRAINED + timedelta(hours=49)).freshness == "expired"


def test_an_expired_answer_is_refused_where_the_forecast_says_so_and_a_stale_one_is_not():
    manifest = under(FreshnessPolicy(model=DAY_OLD, expired="refuse"))
    assert admit(manifest, TRAINED + timedelta(hours=25)).freshness == "stale"
    with pytest.raises(
        Expired,
        match=r"version 3 of bookings has expired: its model is 2\.0 days old, the limit is 2\.0 days",
    ):
        admit(manifest, TRAINED + timedelta(hours=49))


def test_a_clock_that_is_behind_makes_nothing_negative():
    found = ages(under(FreshnessPolicy(model=DAY_OLD)), TRAINED - timedelta(hours=1))
    assert (found.model_age_s, found.freshness) == (0, "fresh")
