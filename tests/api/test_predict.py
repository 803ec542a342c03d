"""POST /predict and POST /predict/batch."""

from typing import Any

import pytest
from litestar.testing import TestClient

from tests.api.conftest import EXAMPLE, predicted


def test_a_prediction_is_the_models_and_names_its_version(client: TestClient[Any]) -> None:
    answer = client.post("/predict", json=EXAMPLE)
    assert answer.status_code == 200
    found = answer.json()
    expected = predicted([float(value) for value in EXAMPLE.values()], scale=1.0)[1]
    assert found.pop("predicted_reservations") == pytest.approx(expected, rel=1e-9)
    assert found.pop("interval")["level"] == 0.9
    assert found == {
        "model_version": 1,
        "horizon": "one calendar year",
        "data_as_of": "2023-12-31T23:59:00",
    }


def test_a_batch_is_answered_in_its_order(client: TestClient[Any]) -> None:
    rows = [EXAMPLE | {"num_images": images} for images in (3, 1, 2)]
    alone = [client.post("/predict", json=row).json() for row in rows]
    assert client.post("/predict/batch", json=rows).json() == alone
