"""What a feature does to the forecast, as text."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import changed, feature_field, input_field, manifest_of
from vroom_api.contract import Bundle, Golden
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import parse
from vroom_assets.report.effects import effects, shape
from vroom_assets.spec import Candidate, Family
from vroom_assets.training.fitting import fit_all

NOTHING = Golden(inputs=[], features=[], predictions=[], tolerance=1e-6)
FEATURES = ["x", "product", "age", "mood", "noise"]


@cache
def trained() -> Bundle:
    """A boosting of x, which falls, of x · y, which rises, of an age that may be missing, and of a mood."""
    rng = np.random.default_rng(1)
    rows = 3_000
    inputs = pd.DataFrame(
        {
            "x": rng.uniform(0, 10, rows),
            "y": rng.uniform(0, 1, rows),
            "age": np.where(rng.uniform(size=rows) < 0.1, np.nan, rng.uniform(0, 1, rows)),
            "mood": rng.integers(0, 3, rows).astype(float),
            "noise": rng.uniform(0, 1, rows),
        }
    )
    frame = inputs.assign(product=inputs["x"] * inputs["y"])[FEATURES]
    bent = (inputs["age"] - 0.5).abs().fillna(2.0)
    target = -2 * inputs["x"] + 5 * frame["product"] - 20 * bent + 8 * (inputs["mood"] != 1)
    features = parse("select x, x * y as product, age, mood, noise from inputs", list(inputs.columns))
    candidate = Candidate(family=Family.BOOSTING, features=FEATURES, parameters={"max_iter": 200})
    fitted = fit_all({"boosting": candidate}, frame, target.to_numpy(), 7)["boosting"]
    fields = [
        input_field(name, 0, 10)
        if name != "mood"
        else input_field("mood", 0, 2, type="text", values=["calm", "wild", "glad"], levels=[0, 1, 2])
        for name in inputs.columns
    ]
    manifest = manifest_of(
        fields,
        [feature_field(one.name, one.expression, sorted(one.inputs)) for one in features],
        background=inputs.head(64).to_numpy().tolist(),
    )
    return Bundle(manifest, build(list(inputs.columns), features, fitted).SerializeToString(), NOTHING)


def test_direction_and_shape_of_each_feature_while_the_others_stay():
    found = effects(trained(), FEATURES)
    assert found["x"].startswith("falls steadily: ")  # though the forecast rises where y is large
    assert found["product"].startswith("rises")
    assert found["age"].startswith("rises up to about 0.")
    assert ", then falls: " in found["age"]
    assert found["age"].endswith(" where it is missing")
    assert found["noise"] == "hardly any difference"


def test_a_category_has_the_levels_at_its_ends():
    mood = effects(trained(), ["mood"])["mood"]
    assert mood.startswith(("highest for calm (", "highest for glad ("))
    assert ", lowest for wild (" in mood


def test_what_cannot_be_known_is_left_out():
    bundle = trained()
    without = Bundle(changed(bundle.manifest, background=[]), bundle.model, NOTHING)
    assert effects(without, ["x"]) == {}


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
