"""A prediction as it is recorded: its parts, its id, and what texts the tables take."""

import math
import os
import re
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from vroom_api.contract import InputField, Manifest
from vroom_api.contract.ids import id_of
from vroom_api.contract.intervals import Interval
from vroom_api.texts import NO_CONTROL_CHARACTERS, TAG_NAME

MAX_TEXT_LENGTH = 128  # of caller and entity id, as the table declares
MAX_TAGS = 8
TagName = Annotated[str, msgspec.Meta(pattern=TAG_NAME)]
EntityId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_LENGTH, pattern=NO_CONTROL_CHARACTERS)
]
Tags = Annotated[dict[TagName, EntityId], msgspec.Meta(max_length=MAX_TAGS)]
_unfit = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").search


class Origin(msgspec.Struct, frozen=True):
    """What all predictions of one champion share; made once per champion."""

    forecast: str
    version: int
    generation: int
    manifest_sha256: str
    data_version: str
    inputs: tuple[str, ...]  # names, in the manifest's order
    features: tuple[str, ...]
    texts: tuple[tuple[int, InputField], ...] = ()  # index and field of the inputs that callers send as texts
    calibration: int | None = None  # the revision that corrected them

    @classmethod
    def of(
        cls, manifest: Manifest, manifest_sha256: str, generation: int, calibration: int | None = None
    ) -> "Origin":
        return cls(
            forecast=manifest.forecast,
            version=manifest.version,
            generation=generation,
            manifest_sha256=manifest_sha256,
            data_version=manifest.data_version,
            inputs=tuple(field.name for field in manifest.inputs),
            features=tuple(field.name for field in manifest.features),
            texts=tuple(
                (index, field)
                for index, field in enumerate(manifest.inputs)
                if field.values or field.type == "time"
            ),
            calibration=calibration,
        )


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One prediction as it is recorded. Its time is in its id (`new_id`)."""

    id: str
    origin: Origin
    caller: str
    entity_id: str | None
    inputs: Sequence[float]  # in the origin's order
    features: Sequence[float]
    value: float
    low: float
    high: float
    level: float
    latency_us: int
    tags: dict[str, str] | None = None


class PredictionLog:
    """The predictions of one request, collected until they are recorded."""

    def __init__(self, caller: str, started_ns: int) -> None:
        self.predictions: list[Prediction] = []
        self._caller = caller
        self._started_ns = started_ns  # of time.perf_counter_ns

    def add(
        self,
        origin: Origin,
        inputs: Sequence[float],
        features: Sequence[float],
        value: float,
        interval: Interval,
        entity_id: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Add one prediction; returns its id."""
        identifier = new_id()
        latency_us = (time.perf_counter_ns() - self._started_ns) // 1000
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
                latency_us,
                tags,
            )
        )
        return identifier


class _Ids:
    """UUIDv7 (RFC 9562, section 6.2, method 3): milliseconds, 12 bits of their fraction, 62 random bits.

    Ascending within a process, also when the clock is set back or stands still.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
        now = milliseconds << 12 | (nanoseconds << 12) // 1_000_000
        with self._lock:
            self._last = now = max(now, self._last + 1)
        tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return id_of(now, tail)


new_id = _Ids().next


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
