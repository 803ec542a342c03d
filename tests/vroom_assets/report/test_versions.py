"""What changed with a version, on the pages about it."""

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, inputs
from tests.support.service import settings_of
from tests.support.succession import promote, with_error
from tests.support.tiny import feature_field, input_field
from vroom_api.app import create_app
from vroom_api.contract import Recipe, bundle_folder, read_pointer
from vroom_assets.champion import publication
from vroom_assets.report.facts import facts_of
from vroom_assets.report.page import page_of
from vroom_assets.report.rendering import markdown
from vroom_assets.report.versions import beside_former, former_of
from vroom_assets.spec import Gates

FOREST = {"family": "forest", "features": ["num_images"], "parameters": {"n_estimators": 60}}


def recipe(trees: int) -> Recipe:
    return Recipe("forest", "forest", ["num_images"], {"forest": FOREST}, {"forest": {"n_estimators": trees}})


@pytest.fixture
def twice(home):
    """Version 1, which answered two requests, and version 2 with another recipe and one more input."""
    promote(1, recipe=recipe(60), metrics={"nested_mae": 4.0}, **with_error(4.0))
    with TestClient(create_app(settings_of(home, record=True))) as client:
        for _ in range(2):
            client.post("/predict", json=EXAMPLE)
    return promote(
        2, 1.5, recipe=recipe(90), metrics={"nested_mae": 3.0}, data_version="e", **with_error(3.0)
    )


def written(pointer, gates: Gates | None = None) -> str:
    page = beside_former(FORECAST, pointer, gates)
    assert page is not None
    return markdown(page)


def test_what_changed_is_said_with_figures_gates_and_a_replay(twice):
    text = written(twice, Gates())
    assert "# Version 2 beside version 1" in text
    assert "Another recipe on other data." in text
    assert "| parameters.n_estimators | 60 | 90 |" in text
    assert "| nested_mae | 4 | 3 | \\-25.0% |" in text or "| nested_mae | 4 | 3 | -25.0% |" in text
    assert "## Gates as declared now" in text
    assert "The latest 2 recorded requests, answered by version 2: 100.0% change" in text
    assert "0 would be refused" in text


def test_inputs_and_features_that_are_new_gone_or_other_are_listed(home):
    promote(1)
    promote(
        2,
        inputs=[*inputs()[:-1], input_field("seats", 1, 9)],
        features=[
            feature_field("num_images", "2 * num_images", []),
            feature_field("log_price_ratio", "x", []),
        ],
    )
    text = written(read_pointer(FORECAST))
    for line in (
        "- new input: seats",
        "- input that is gone: description",
        "feature num_images: 2 \\* num_images, before num_images",
    ):
        assert line in text
    assert "Replay" not in text  # nothing is recorded


def test_the_first_version_and_other_words_of_it_have_none_before(home):
    promote(1, training="first")
    assert beside_former(FORECAST, read_pointer(FORECAST), None) is None
    promote(2, training="first", title="Bookings")
    assert former_of(FORECAST, read_pointer(FORECAST)) is None
    promote(3)
    former = former_of(FORECAST, read_pointer(FORECAST))
    assert former is not None
    assert former[0].version == 2
    _, restored = publication.restore(FORECAST, 1, {}.__getitem__)
    assert former_of(FORECAST, restored)[0].version == 3


def test_a_version_that_would_refuse_all_says_so(twice):
    pointer = promote(3, inputs=[*inputs()[1:], input_field("seats", 1, 9)])
    text = written(pointer)
    assert "it would refuse all 2" in text
    assert "It takes technology no more; requests that send one are refused." in text


def test_the_page_about_a_forecast_has_what_changed_since(twice):
    text = markdown(page_of(facts_of(FORECAST)))
    assert "## What changed since version 1" in text
    assert "## Metrics since version 1" in text
    assert (bundle_folder(FORECAST, 1) / "manifest.json").exists()
