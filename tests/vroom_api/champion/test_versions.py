"""GET /forecasts/{name}/versions/{before}/compare/{after}"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import FORECAST, inputs
from tests.support.succession import promote
from tests.support.tiny import feature_field, input_field
from vroom_api.contract import MANIFEST, Recipe, bundle_folder

FOREST = {"family": "forest", "features": ["num_images"], "parameters": {"n_estimators": 60}}


@pytest.fixture
def asked(state: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> TestClient[Any]:
    """The service over two versions."""
    monkeypatch.setenv("VROOM_HOME", str(state))
    small = Recipe("forest", "forest", ["num_images"], {"forest": FOREST})
    large = Recipe("forest", "forest", ["num_images"], {"forest": FOREST | {"features": ["num_images", "x"]}})
    promote(1, recipe=small, snapshots={"vehicles": "a"}, metrics={"nested_mae": 4.0, "cv_mae_fold_0": 1.0})
    promote(
        2,
        recipe=msg(large, {"forest": {"n_estimators": 90}}),
        snapshots={"vehicles": "b"},
        metrics={"nested_mae": 3.0, "r2": 0.5},
        data_version="e",
        inputs=[*inputs()[:-1], input_field("seats", 1, 9, unit="seats")],
        features=[
            feature_field("num_images", "2 * num_images", ["num_images"]),
            feature_field("log_price_ratio", "x", []),
        ],
    )
    return serve()


def msg(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    import msgspec

    return msgspec.structs.replace(recipe, values=values)


def path(before: object, after: object, name: str = FORECAST) -> str:
    return f"/forecasts/{name}/versions/{before}/compare/{after}"


def test_what_differs_between_two_versions_is_named(asked: TestClient[Any]) -> None:
    found = asked.get(path(1, 2)).json()
    assert (found["forecast"], found["before"]["version"], found["after"]["version"]) == (FORECAST, 1, 2)
    assert (found["same_training"], found["same_recipe"], found["same_data"]) == (False, False, False)
    assert {one["name"]: (one["before"], one["after"]) for one in found["recipe"]} == {
        "features": ('["num_images"]', '["num_images", "x"]'),
        "parameters.n_estimators": ("60", "90"),
    }
    assert found["data"] == [{"name": "vehicles", "before": "a", "after": "b"}]
    assert found["metrics"] == {
        "nested_mae": {"before": 4.0, "after": 3.0, "difference": -1.0, "relative": -0.25},
        "r2": {"before": None, "after": 0.5, "difference": None, "relative": None},
    }
    assert found["inputs"] | {"changed": []} == {
        "added": ["seats"],
        "removed": ["description"],
        "changed": [],
    }
    assert found["features"]["changed"][0] == {
        "name": "num_images",
        "before": "num_images",
        "after": "2 * num_images",
    }


def test_a_version_beside_itself_differs_in_nothing(asked: TestClient[Any]) -> None:
    found = asked.get(path(2, 2)).json()
    assert (found["same_training"], found["same_recipe"], found["same_data"]) == (True, True, True)
    assert (found["recipe"], found["data"]) == ([], [])
    assert found["features"] == {"added": [], "removed": [], "changed": []}
    assert found["metrics"]["r2"] == {"before": 0.5, "after": 0.5, "difference": 0.0, "relative": 0.0}


@pytest.mark.parametrize(
    ("before", "after", "name", "cause", "detail"),
    [
        (
            1,
            7,
            FORECAST,
            "no-such-version",
            "version 7 of reservations was never published; those that were: 1, 2",
        ),
        (9, 1, FORECAST, "no-such-version", "version 9 of reservations was never published"),
        (1, 2, "nothing", "no-such-forecast", "there is no forecast 'nothing'"),
    ],
)
def test_what_there_is_not_is_a_problem(
    asked: TestClient[Any], before: int, after: int, name: str, cause: str, detail: str
) -> None:
    answer = asked.get(path(before, after, name))
    assert (answer.status_code, answer.json()["type"]) == (404, f"urn:vroom:{cause}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**31)])
def test_what_is_not_a_number_of_a_version_is_refused(asked: TestClient[Any], number: str) -> None:
    answer = asked.get(path(1, number))
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_manifest_that_is_not_the_published_one_is_a_problem(asked: TestClient[Any], state: Path) -> None:
    written = bundle_folder(FORECAST, 1, state) / MANIFEST
    written.write_bytes(written.read_bytes() + b" ")
    answer = asked.get(path(1, 2))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:vroom:damaged-version")
    assert "its SHA-256 is not the published one" in answer.json()["detail"]
    shutil.rmtree(written.parent)
    answer = asked.get(path(1, 2))
    assert answer.status_code == 409
    assert str(state) not in answer.text
