"""A prediction as it is recorded: its parts, its id, and what texts the tables take."""

import math
import os
import re
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from vroom_api.contract.ids import id_of
from vroom_api.contract.intervals import Interval
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.texts import NO_CONTROL_CHARACTERS, TAG_NAME

MAX_TEXT_LENGTH = 128  # of caller and entity id, as the table declares
MAX_TAGS = 8
TagName = Annotated[str, msgspec.Meta(pattern=TAG_NAME)]
EntityId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_LENGTH, pattern=NO_CONTROL_CHARACTERS)
]
Tags = Annotated[dict[TagName, EntityId], msgspec.Meta(max_length=MAX_TAGS)]
_BITS_AT_A_TIME = 512  # ids
_unfit = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").search


class PredictionLog:
    """The predictions of one request, collected until they are recorded."""

    def __init__(self, caller: str, started_ns: int) -> None:
        self.predictions: list[Prediction] = []
        self._caller = caller
        self._started_ns = started_ns  # of time.perf_counter_ns

    def add(
        self,
        identifier: str,
        origin: Origin,
        inputs: Sequence[float],
        features: Sequence[float],
        value: float,
        interval: Interval,
        entity_id: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Add one prediction under an id that was made for it."""
        self.predictions.append(
            Prediction(
                identifier,
                origin,
                self._caller,
                entity_id,
                inputs,
                features,
                value,
                float(interval.low),  # of a count they are integers, which may be more than a column holds
                float(interval.high),
                interval.level,
                (time.perf_counter_ns() - self._started_ns) // 1000,
                tags,
            )
        )

    def extend(
        self,
        origin: Origin,
        identifiers: Sequence[str],
        inputs: Sequence[Sequence[float]],
        features: Sequence[Sequence[float]],
        answers: Sequence[tuple[float, Interval]],
        others: Sequence[tuple[str | None, dict[str, str] | None]],
    ) -> None:
        """Add several predictions that were made at once.

        Args:
            answers: value and interval of each.
            others: entity and tags of each.
        """
        latency_us = (time.perf_counter_ns() - self._started_ns) // 1000
        caller = self._caller
        self.predictions += [
            Prediction(
                identifier, origin, caller, entity, row, derived, value, float(interval.low), float(interval.high),
                interval.level, latency_us, tags,
            )
            for identifier, row, derived, (value, interval), (entity, tags) in zip(
                identifiers, inputs, features, answers, others, strict=True
            )
        ]  # fmt: skip


class _Ids:
    """UUIDv7 (RFC 9562, section 6.2, method 3): milliseconds, 12 bits of their fraction, 62 random bits.

    Ascending within a process, also when the clock is set back or stands still.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._random = memoryview(b"").cast(
            "Q"
        )  # bits for the ids to come: to ask for them one by one is slow
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child draws bits of its own."""
        self._lock = threading.Lock()
        self._used = len(self._random)

    def next(self) -> str:
        (identifier,) = self.several(1)
        return identifier

    def several(self, count: int) -> list[str]:
        """Ids that ascend."""
        milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
        now = milliseconds << 12 | (nanoseconds << 12) // 1_000_000
        with self._lock:
            first = max(now, self._last + 1)
            self._last = first + count - 1
            if self._used + count > len(self._random):
                self._random = memoryview(os.urandom(8 * max(count, _BITS_AT_A_TIME))).cast("Q")
                self._used = 0
            tails = self._random[self._used : self._used + count]
            self._used += count
        return [
            id_of(first + index, tail & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
            for index, tail in enumerate(tails)
        ]


_ids = _Ids()
new_id, new_ids = _ids.next, _ids.several


def caller_of(scope: Any) -> str:
    """Who asks, as the record names it."""
    return str(getattr(scope.get("auth"), "name", None) or "anonymous")


def fits(text: str) -> bool:
    """Whether the tables can hold a text."""
    return 1 <= len(text) <= MAX_TEXT_LENGTH and not _unfit(text)


def check(prediction: Prediction) -> None:
    """Refuse what a table cannot hold, before it spoils the commit of others."""
    for field, text in (("caller", prediction.caller), ("entity_id", prediction.entity_id)):
        if text is not None and not fits(text):
            raise ValueError(f"{field}: 1 to {MAX_TEXT_LENGTH} characters, none of them a control character")
    value, low, high = prediction.value, prediction.low, prediction.high
    if not math.isfinite(value + low + high):
        raise ValueError(f"value: {value}, {low}-{high}; only finite numbers are recorded")
