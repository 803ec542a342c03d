"""Recorded requests are answered by another version as the service would answer them."""

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, input_field, inputs, publish
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract.tables import serving_database
from vroom_assets.champion.versions import version_of
from vroom_assets.scoring.recorded import answers_of, latest_requests

ASKED = [EXAMPLE | {"num_images": images} for images in (1, 5, 8, 12, 20)]


@pytest.fixture
def asked(home):
    """Requests that version 1 has answered, the last of them at another level."""
    publish(home, 1)
    with TestClient(create_app(settings_of(home, record=True))) as client:
        answers = [client.post("/predict", json=one).json() for one in ASKED[:-1]]
        answers.append(client.post("/predict", json=ASKED[-1] | {"level": 0.5}).json())
    return answers


def recorded(count: int = 100):
    with serving_database() as engine:
        return latest_requests(engine, FORECAST, count)


def test_the_version_that_answered_answers_the_same_again(asked):
    requests = recorded()
    assert list(requests.ids) == [one["prediction_id"] for one in asked]
    assert [one["num_images"] for one in requests.inputs] == [1, 5, 8, 12, 20]
    found = answers_of(version_of(FORECAST, 1).bundle, requests.inputs, requests.level)
    assert found.refused == {}
    for name in ("value", "low", "high"):
        assert np.array_equal(getattr(found, name), getattr(requests, name))


def test_the_newest_are_taken_and_stand_in_their_order(asked):
    assert list(recorded(2).ids) == [one["prediction_id"] for one in asked[-2:]]
    assert list(recorded(2).versions) == [1, 1]
    with serving_database() as engine:
        assert len(latest_requests(engine, "lap_times", 9).ids) == 0


def test_what_a_version_would_refuse_has_no_answer_and_a_reason(home, asked):
    narrow = [field if field.name != "num_images" else narrowed() for field in inputs()]
    publish(home, 2, inputs=narrow)
    found = answers_of(version_of(FORECAST, 2).bundle, recorded().inputs)
    assert list(found.refused) == [3, 4]
    assert "num_images" in found.refused[3]
    assert np.isnan(found.value).tolist() == [False, False, False, True, True]
    assert np.isnan(found.low).tolist() == np.isnan(found.value).tolist()


def narrowed():
    return input_field("num_images", 1, 10, type="integer", minimum=0, maximum=10, unit="photos")
