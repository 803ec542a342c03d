"""Ids carry the time at which they were made."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vroom_api.contract.ids import first_id, time_of


@given(st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_the_first_id_of_a_moment_has_that_moment(moment: datetime) -> None:
    assert time_of(first_id(moment)) == moment
    assert first_id(moment - timedelta(microseconds=1)) < first_id(moment)
