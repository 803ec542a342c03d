"""A number that a version ever had is not given again."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.bundles import FORECAST, publish
from vroom_api.contract.events import Decision, Registered
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets.challenger.numbering import highest_given, skip_given
from vroom_assets.tracking import connect


@pytest.fixture
def client(home: Path) -> MlflowClient:
    return connect()


def register(version: int) -> None:
    """Enter a training in the ledger, of a version that may never have served."""
    evidence = Registered(
        version=version, candidate="glm", data_version="d", mlflow_run="m", failed_gates=[], not_exportable={}
    )
    with serving_database() as engine:
        enter_ledger(
            engine, forecast=FORECAST, actor="job", decision=Decision.REGISTERED, reason="", evidence=evidence
        )


def next_of(client: MlflowClient) -> int:
    skip_given(client, FORECAST)
    if not client.search_registered_models():
        client.create_registered_model(FORECAST)
    return int(client.create_model_version(FORECAST, source="s3://bucket/model").version)


def test_numbers_go_on_from_the_highest_that_was_kept_or_trained(home, client):
    assert highest_given(FORECAST) == 0
    assert next_of(client) == 1
    publish(home, 2)
    assert next_of(client) == 3
    register(5)
    assert highest_given(FORECAST) == 5
    assert next_of(client) == 6
    assert next_of(client) == 7
    client.delete_registered_model(FORECAST)
    assert next_of(client) == 6
    versions = client.search_model_versions(f"name = '{FORECAST}'")
    assert [int(version.version) for version in versions] == [6]
