"""A declaration that leaves out what another part of it says means the same as one in full."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support.project import ROOT, copy
from vroom_assets import declaration
from vroom_assets.declaration.completion import completed
from vroom_assets.spec import ForecastSpec

SCHEMA = ROOT / "docs" / "forecast.schema.json"
FOLDERS = [
    path for path in sorted((ROOT / "vroom_assets" / "defs").iterdir()) if (path / "defs.yaml").is_file()
]


@pytest.fixture
def upcoming(tmp_path: Path) -> Path:
    """The folder of a copy of the forecast whose declaration is shortened most."""
    copy(tmp_path, "vroom_assets/defs")
    return tmp_path / "vroom_assets" / "defs" / "upcoming_reservations"


def rewritten(folder: Path, change) -> ForecastSpec:
    file = folder / "defs.yaml"
    document = yaml.safe_load(file.read_text())
    change(document["attributes"])
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    assert (
        list(jsonschema_rs.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(document)) == []
    )
    return declaration.read(folder)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_declaration_in_full_is_the_same(folder, tmp_path):
    copy(tmp_path, "vroom_assets/defs")
    short = declaration.read(folder)

    def in_full(attributes):
        attributes.update(completed(attributes)[0])
        assert attributes["inputs"]
        assert all(
            "like" not in column
            for one in attributes.get("examples", {}).values()
            for column in one["columns"].values()
        )

    long = rewritten(tmp_path / "vroom_assets" / "defs" / folder.name, in_full)
    assert long.whole_fingerprint() == short.whole_fingerprint()


def test_a_column_is_like_another_but_for_what_it_says_itself(upcoming):
    def change(attributes):
        attributes["sources"]["vehicles"]["columns"]["actual_price"] |= {
            "unique": True,
            "header": "price asked",
        }
        columns = attributes["examples"]["histories"]["columns"]
        columns["actual_price"] = {
            "like": "vehicles.actual_price",
            "description": "latest price",
            "maximum": 500,
        }

    spec = rewritten(upcoming, change)
    price, there = spec.entity_columns["actual_price"], spec.sources["vehicles"].columns["actual_price"]
    assert (price.type, price.above, price.unit) == (there.type, there.above, there.unit)
    assert (price.maximum, price.description) == (500, "latest price")
    assert (price.unique, price.header, price.like) == (False, None, None)


def test_inputs_of_examples_are_the_columns_that_are_for_nothing_else(upcoming):
    assert declaration.read(upcoming).inputs == [
        *("technology", "actual_price", "recommended_price", "num_images"),
        *("days_listed", "reservations_so_far", "reservations_last_90"),
    ]


def test_inputs_that_are_declared_stay(upcoming):
    spec = rewritten(
        upcoming,
        lambda attributes: attributes.update(
            inputs=[
                "days_listed",
                *declaration.read(upcoming).inputs[:4],
                "reservations_so_far",
                "reservations_last_90",
            ]
        ),
    )
    assert spec.inputs[0] == "days_listed"


def test_features_of_terms_come_in_the_order_of_the_terms(upcoming):
    def change(attributes):
        attributes["candidates"]["listing_only"] = {
            "family": "poisson_glm",
            "terms": ["log_price_ratio ^ 2", "num_images * log_price_ratio", "technology"],
        }

    candidate = rewritten(upcoming, change).candidates["listing_only"]
    assert candidate.features == ["log_price_ratio", "num_images", "technology"]


def test_features_of_bins_and_ranks_come_after_them(upcoming):
    def change(attributes):
        attributes["candidates"]["listing_only"] = {
            "family": "poisson_glm",
            "terms": ["technology", "num_images"],
            "bins": {"log_price_ratio": 8},
            "ranks": ["num_images"],
        }

    candidate = rewritten(upcoming, change).candidates["listing_only"]
    assert candidate.features == ["technology", "num_images", "log_price_ratio"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "a.b", "b ^ 2"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "sources",
                    "examples",
                    "columns",
                    "like",
                    "candidates",
                    "terms",
                    "bins",
                    "ranks",
                    "entity",
                    "source",
                    "tags",
                    "a",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.sampled_from(["sources", "examples", "candidates", "entity", "validation", "inputs"]), json_values
    )
)
def test_what_has_another_form_is_left_to_the_messages_of_the_fields(attributes):
    full, _ = completed(attributes)
    assert full.keys() - attributes.keys() <= {"inputs"}
