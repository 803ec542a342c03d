"""A prediction as it is recorded, and how rows of it go into the table `predictions` of SQLite and Postgres.

Rows go in by statements of many rows: each call into the driver gives up the interpreter's lock, and taking it back
from a busy event loop costs more than the row.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from vroom_api.contract.ids import time_of
from vroom_api.contract.manifest import InputField, Manifest

COLUMNS = (
    "id", "time", "forecast", "caller", "entity_id", "inputs", "features", "value", "low", "high", "level",
    "version", "generation", "manifest_sha256", "data_version", "latency_us", "calibration", "tags",
)  # fmt: skip
_LARGEST_STATEMENT = 128  # rows
_encode = msgspec.json.Encoder().encode


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
    """One prediction as it is recorded. Its time is in its id."""

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


def insert(cursor: Any, dialect: str, made: Sequence[Prediction]) -> None:
    """Insert rows in the transaction that is open; those whose ids are there already are passed over.

    Args:
        cursor: of the driver.
        dialect: `sqlite` or `postgresql`.
    """
    if dialect == "sqlite":
        for piece in _powers_of_two(made):
            cursor.execute(_values(len(piece)), [cell for prediction in piece for cell in _row(prediction)])
        return
    # All rows travel as one JSON document: a fifth of the client's work of thousands of parameters.
    rows = [dict(zip(COLUMNS, _cells(prediction), strict=True)) for prediction in made]
    cursor.execute(_FROM_JSON, (_encode(rows).decode(),))


def _cells(made: Prediction) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    origin = made.origin
    return (
        made.id,
        time_of(made.id),
        origin.forecast,
        made.caller,
        made.entity_id,
        _inputs(made),
        dict(zip(origin.features, made.features, strict=True)),
        made.value,
        made.low,
        made.high,
        made.level,
        origin.version,
        origin.generation,
        origin.manifest_sha256,
        origin.data_version,
        made.latency_us,
        origin.calibration,
        made.tags,
    )


def _inputs(made: Prediction) -> dict[str, Any]:
    """The inputs as they were sent: texts and times decoded. JSON has no NaN, so a missing number becomes null there."""
    inputs: dict[str, Any] = dict(zip(made.origin.inputs, made.inputs, strict=True))
    for index, field in made.origin.texts:
        inputs[field.name] = field.decoded(made.inputs[index])
    return inputs


def _row(made: Prediction) -> tuple[Any, ...]:
    """The values of `COLUMNS` as SQLAlchemy keeps them in SQLite."""
    identifier, moment, forecast, caller, entity, inputs, features, *rest, tags = _cells(made)
    return (
        identifier,
        moment.isoformat(" ", "microseconds")[:26],
        forecast,
        caller,
        entity,
        _encode(inputs).decode(),
        _encode(features).decode(),
        *rest,
        None if tags is None else _encode(tags).decode(),
    )


def _powers_of_two(rows: Sequence[Prediction]) -> Iterator[Sequence[Prediction]]:
    """Cut rows into pieces of few different sizes, so that the driver's prepared statements are reused."""
    start = 0
    while start < len(rows):
        size = min(_LARGEST_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size


@lru_cache(None)
def _values(rows: int) -> str:
    row = f"({', '.join('?' * len(COLUMNS))})"
    return (
        f"INSERT INTO predictions ({', '.join(COLUMNS)}) VALUES {', '.join([row] * rows)} "
        "ON CONFLICT (id) DO NOTHING"
    )


_FROM_JSON = (
    f"INSERT INTO predictions ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} "
    "FROM json_populate_recordset(NULL::predictions, %s::json) ON CONFLICT (id) DO NOTHING"
)
