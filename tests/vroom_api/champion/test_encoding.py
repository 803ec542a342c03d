"""A request's values as a row: texts and missing values."""

import math

import pytest

from tests.support.tiny import input_field
from vroom_api.champion.encoding import RowEncoder

FIELDS = [
    input_field("price", 1, 9),
    input_field("city", 0, 2, type="text", values=["Bern", "Geneva", "Zug"]),
    input_field("photos", 0, 9, type="integer", nullable=True),
    input_field("colour", 0, 1, type="text", values=["red", "blue"], nullable=True),
]


def test_a_text_is_its_index_and_a_missing_value_is_nan() -> None:
    row = RowEncoder(FIELDS).encode([4.5, "Zug", None, None])
    assert row[:2] == [4.5, 2.0]
    assert all(map(math.isnan, row[2:]))


@pytest.mark.parametrize("values", [[1.0, "Bern", 3, "blue"], [9.0, "Geneva", None, None]])
def test_what_is_encoded_is_decoded_by_the_fields(values: list[float | str | None]) -> None:
    row = RowEncoder(FIELDS).encode(list(values))
    assert [field.decoded(code) for field, code in zip(FIELDS, row, strict=True)] == values


def test_numbers_alone_stay_as_they_are() -> None:
    assert RowEncoder(FIELDS[:1]).encode([4]) == [4]
