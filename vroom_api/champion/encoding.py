"""A request's values as a row of numbers: the only code that encodes texts and missing values.

An `InputField` knows how to encode, decode and format one value. Here its codes are listed once per champion,
so that a request costs one lookup for each text and no search.
"""

from collections.abc import Sequence
from typing import Any

from vroom_api.champion.schemas import Bounds, bounds_of
from vroom_api.contract import InputField


class RowEncoder:
    """Encodes rows of the inputs of one champion."""

    def __init__(self, inputs: Sequence[InputField]) -> None:
        self._codes: list[tuple[int, dict[Any, float], float | None]] = []
        self._times: list[tuple[int, InputField, Bounds]] = []
        for index, field in enumerate(inputs):
            if field.type == "time":
                self._times.append((index, field, bounds_of(field)))
                continue
            codes: dict[Any, float] = {value: field.encoded(value) for value in field.values}
            codes |= {None: field.encoded(None)} if field.nullable else {}
            if codes:
                self._codes.append((index, codes, float(len(field.values)) if field.is_open else None))

    def encode(self, values: list[Any]) -> list[float]:
        """The row of a request's values, which were checked; the list itself is changed.

        A text becomes its index among the allowed values, a time its seconds, a missing value NaN.

        Raises:
            ValueError: a time that is none or out of bounds; a type cannot say all of that.
        """
        for index, field, bounds in self._times:
            seconds = field.encoded(values[index])
            if values[index] is not None and not bounds.allow(seconds):
                raise ValueError(f"{field.name}: {values[index]} is out of bounds")
            values[index] = seconds
        for index, codes, unseen in self._codes:
            value = values[index]
            values[index] = codes.get(value, value if unseen is None else unseen)
        return values
