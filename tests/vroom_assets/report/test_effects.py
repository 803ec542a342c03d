"""What a feature does to the forecast, as text."""

import msgspec
import numpy as np
import pytest

from tests.support.tiny import Step, changed, feature_field, input_field, manifest_of, model_of
from vroom_api.contract import Bundle, Golden, Manifest
from vroom_assets.report.effects import effects, shape

NAMES = ["x", "y", "mood"]
NOTHING = Golden(inputs=[], features=[], predictions=[], tolerance=1e-6)


def bundle(steps: list[Step], features: list[str], manifest: Manifest) -> Bundle:
    return Bundle(manifest, model_of(NAMES, steps, features), NOTHING)


def typical(rows: int = 60) -> list[list[float]]:
    rng = np.random.default_rng(1)
    made = np.column_stack([np.linspace(0, 10, rows), rng.uniform(0, 1, rows), rng.integers(0, 3, rows)])
    return made.tolist()


def manifest(background: list[list[float]]) -> Manifest:
    levels = {"type": "text", "values": ["calm", "wild", "other"], "levels": [0, 1, 2]}
    fields = [input_field("x", 0, 10), input_field("y", 0, 1), input_field("mood", 0, 2, **levels)]
    features = [
        feature_field("x", "x", ["x"]),
        feature_field("product", "x * y", ["x", "y"]),
        feature_field("mood", "mood", ["mood"]),
    ]
    return manifest_of(fields, features, background=background)


def test_direction_and_shape_of_numbers_and_the_ends_of_a_category():
    steps: list[Step] = [
        ("product", "Mul", "x", "y"),
        ("distance", "Sub", "mood", 1.0),
        ("ends", "Mul", "distance", "distance"),
        ("loud", "Mul", "ends", 3.0),
        ("double", "Mul", "x", -2.0),
        ("all", "Add", "double", "loud"),
    ]
    found = effects(bundle(steps, ["x", "product", "mood"], manifest(typical())), ["x", "product", "mood"])
    assert found["x"].startswith("falls steadily: ")
    assert "near 0.9" in found["x"]
    assert found["product"].startswith("falls")  # through x, which it reads
    assert found["mood"].startswith(("highest for calm (", "highest for other ("))
    assert ", lowest for wild (" in found["mood"]


def test_a_feature_that_changes_nothing_is_called_so_and_gaps_are_named():
    steps: list[Step] = [
        ("gone", "IsNaN", "x"),
        ("whole", "Where", "gone", 20.0, "x"),
        ("product", "Mul", "x", "y"),
        ("nothing", "Mul", "mood", 0.0),
        ("sum", "Add", "whole", "nothing"),
    ]
    rows = typical()
    rows[3][0] = float("nan")
    found = effects(bundle(steps, ["x", "product", "mood"], manifest(rows)), ["x", "mood"])
    assert found["x"].startswith("rises steadily: ")
    assert found["x"].endswith("; 20 where it is missing")
    assert found["mood"] == "hardly any difference"


def test_what_cannot_be_told_is_left_out():
    steps: list[Step] = [("product", "Mul", "x", "y"), ("same", "Add", "x", 0.0)]
    declared = manifest(typical())
    unknown = [msgspec.structs.replace(field, inputs=[]) for field in declared.features]
    assert effects(bundle(steps, ["x", "product", "mood"], changed(declared, features=unknown)), ["x"]) == {}
    assert effects(bundle(steps, ["x", "product", "mood"], changed(declared, background=[])), ["x"]) == {}


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([1, 2, 3, 4, 5], "rises steadily"),
        ([5, 4, 3, 2, 1], "falls steadily"),
        ([1, 4, 5, 5.1, 5.2], "rises, mostly among low values"),
        ([5, 4.9, 4.8, 3, 1], "falls, mostly among high values"),
        ([1, 3, 5, 4, 2], "rises up to about 2, then falls"),
        ([5, 3, 1, 2, 4], "falls down to about 2, then rises"),
        ([1, 5, 1, 5, 1], "goes up and down"),
        ([1, 2], "rises with it"),
        ([1, 1.02, 1.01, 2, 3], "rises, mostly among high values"),  # so small a turn is none
    ],
)
def test_shapes(means, words):
    assert shape(np.arange(len(means), dtype=float), np.array(means, dtype=float)) == words
