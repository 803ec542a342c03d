"""Numbers of versions that are never given twice.

MLflow counts one on from the highest that it has, and from 1 where its registered model was deleted or its
database lost. But a number is the name of a bundle, of predictions and of decisions that are kept here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vroom_api.contract.events import Event, Registered, evidence_of
from vroom_api.contract.store import BundleStore, LocalStore
from vroom_api.contract.tables import ledger, serving_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("vroom")


def highest_given(forecast: str, store: BundleStore | None = None) -> int:
    """The highest number that a version of the forecast ever had in this home, 0 where there was none."""
    trainings = sa.select(ledger.c.evidence).where(
        ledger.c.forecast == forecast, ledger.c.event == Event.TRAINING
    )
    with serving_database() as engine, engine.connect() as connection:
        registered = [evidence_of(Registered, evidence).version for evidence in connection.scalars(trainings)]
    return max([0, *registered, *(store or LocalStore()).versions(forecast)])


def skip_given(client: MlflowClient, forecast: str) -> None:
    """Let the next number that MLflow gives be a new one, by versions that are made and deleted: it counts them."""
    from mlflow.exceptions import MlflowException

    given = highest_given(forecast)
    found = client.search_model_versions(f"name = '{forecast}'")
    counted = max((int(version.version) for version in found), default=0)
    if counted >= given:
        return
    try:
        client.create_registered_model(forecast)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    while counted < given:
        counted = int(client.create_model_version(forecast, source="skipped:///").version)
        client.delete_model_version(forecast, str(counted))
    log.warning(
        "%s: MLflow no longer has version %d; it goes on from %d, so that no number names two",
        forecast,
        given,
        counted,
    )
