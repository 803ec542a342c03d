"""Predictions and outcomes in the record, as the service writes them, made at any time."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tests.support.record import store
from vroom_api.contract import Manifest
from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import serving_database
from vroom_api.record.outcomes import Outcome, receive
from vroom_api.record.prediction import Origin, Prediction

_numbers = itertools.count()


def made(
    moment: datetime,
    manifest: Manifest,
    *,
    value: float = 6.0,
    low: float = 0.0,
    high: float = 15.0,
    entity_id: str | None = None,
    inputs: list[float] | None = None,
    features: list[float] | None = None,
    tags: dict[str, str] | None = None,
) -> Prediction:
    """A prediction of a champion at a moment (UTC), as it is recorded."""
    identifier = first_id(moment.replace(tzinfo=UTC))[:24] + f"{next(_numbers):012x}"
    return Prediction(
        id=identifier,
        origin=Origin.of(manifest, "m" * 64, 1),
        caller="shop",
        entity_id=entity_id,
        inputs=inputs or [field.example for field in manifest.inputs],
        features=features or [0.0 for _ in manifest.features],
        value=value,
        low=low,
        high=high,
        level=0.9,
        latency_us=100,
        tags=tags,
    )


@contextmanager
def database() -> Iterator[sa.Engine]:
    with serving_database() as engine:
        yield engine


def predict(*predictions: Prediction) -> None:
    """Record them, as the service does before it answers."""
    with serving_database() as engine:
        store(engine, *predictions)


def report(value: float, **subject: Any) -> None:
    """Report an outcome, as `POST /outcomes` does."""
    with serving_database() as engine:
        receive(engine, [Outcome(value=value, **subject)], "shop")


def days(number: float) -> timedelta:
    return timedelta(days=number)
