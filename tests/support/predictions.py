"""Predictions and outcomes in the record, as the service writes them, made at any time."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from tests.support.record import store
from vroom_api.contract import Bundle, Manifest
from vroom_api.contract.ids import first_id
from vroom_api.contract.model import open_model
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.contract.tables import outcomes, serving_database
from vroom_api.record.outcomes import Outcome, receive

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


def report_at(moment: datetime, value: float, prediction_id: str, forecast: str) -> None:
    """Report an outcome of a prediction at a moment (UTC) of the past."""
    outcomes_at([(moment, value, prediction_id)], forecast)


def outcomes_at(reported: list[tuple[datetime, float, str]], forecast: str) -> None:
    """Report outcomes of predictions, each at its moment (UTC), which may be past."""
    rows = [
        {
            "id": first_id(moment.replace(tzinfo=UTC))[:24] + f"{next(_numbers):012x}",
            "forecast": forecast,
            "subject": f"prediction {identifier}",
            "revision": 1,
            "prediction_id": identifier,
            "value": value,
            "observed_at": moment.replace(tzinfo=UTC),
            "received_at": moment.replace(tzinfo=UTC),
            "caller": "shop",
        }
        for moment, value, identifier in reported
    ]
    with serving_database() as engine, engine.begin() as connection:
        connection.execute(outcomes.insert(), rows)


def answered(
    bundle: Bundle, rows: list[list[float]], moment: datetime, spacing: float = 1.0
) -> list[Prediction]:
    """What a champion answers to rows of inputs, from a moment on, so many seconds after each other."""
    session = open_model(bundle.model)
    values, features = session.run(["prediction", "features"], {"inputs": np.asarray(rows, float)})
    low, high = bundle.manifest.calibration.bounds(values, 0.9)
    return [
        made(
            moment + timedelta(seconds=number * spacing),
            bundle.manifest,
            value=float(values[number]),
            low=float(low[number]),
            high=float(high[number]),
            inputs=rows[number],
            features=features[number].tolist(),
        )
        for number in range(len(rows))
    ]
