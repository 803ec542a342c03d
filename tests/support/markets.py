"""A second forecast: a probability, from texts and from what may be left out."""

import math
from pathlib import Path
from typing import Any

from tests.support.bundles import write
from tests.support.tiny import Step, feature_field, input_field, manifest_of, model_of
from vroom_api.contract import Calibration, Golden, Kind, Lever, Manifest, Pointer, Reliability

MARKETS = "market_resolution"
CATEGORIES = ["politics", "economy", "sports"]
MARKET: dict[str, Any] = {"category": "economy", "price": 0.25, "volume": 400.0, "mood": "calm"}

STEPS: list[Step] = [
    ("no_volume", "IsNaN", "volume"),
    ("traded", "Where", "no_volume", 0.0, "volume"),
    ("no_mood", "IsNaN", "mood"),
    ("wild", "Where", "no_mood", 0.0, "mood"),
    ("liquid", "Mul", "traded", 0.0001),
    ("tilt", "Mul", "category", 0.1),
    ("base", "Mul", "price", 0.5),
    ("tilted", "Add", "base", "tilt"),
    ("likely", "Add", "tilted", "liquid"),
    ("excited", "Mul", "wild", 0.01),
    ("probability", "Add", "likely", "excited"),
]
RELIABILITY = Reliability(edges=[0.5], rows=[200, 100], yes=[50.0, 70.0], predicted=[0.25, 0.7])


def probability(category: float, price: float, volume: float, mood: float) -> tuple[list[float], float]:
    """Features and prediction of the graph, computed without it."""
    traded, wild = (0.0 if math.isnan(value) else value for value in (volume, mood))
    return [price, traded], price * 0.5 + category * 0.1 + traded * 0.0001 + wild * 0.01


def market_manifest(version: int, **given: Any) -> Manifest:
    share: dict[str, Any] = {"minimum": 0, "maximum": 1, "unit": "USD"}
    inputs = [
        input_field(
            "category",
            0,
            2,
            type="text",
            values=CATEGORIES,
            levels=[0, 1, 2],
            example=1,
            description="what it is about",
        ),
        input_field("price", 0.05, 0.95, example=0.25, description="latest price", **share),
        input_field(
            "volume",
            0,
            900,
            minimum=0,
            maximum=1_000_000,
            example=400,
            nullable=True,
            seen_missing=True,
            description="traded in a week",
            unit="USD",
        ),
        input_field(
            "mood",
            0,
            1,
            type="text",
            values=["calm", "wild"],
            levels=[0, 1],
            nullable=True,
            seen_missing=True,
            description="of the traders",
        ),
    ]
    features = [
        feature_field("price", "price", ["price"], 0.05, 0.95),
        feature_field("traded", "coalesce(volume, 0)", ["volume"], 0, 900),
    ]
    calibration = Calibration(
        power=0.0,
        probabilities=[],
        quantiles=[],
        integer=False,
        minimum=0.0,
        coverage={},
        reliability=RELIABILITY,
    )
    plain: dict[str, Any] = {
        "forecast": MARKETS,
        "title": "Resolution of a market",
        "version": version,
        "entity": "market",
        "target": "resolved_yes",
        "kind": Kind.BINARY,
        "unit": "probability of yes",
        "horizon": "its resolution",
        "calibration": calibration,
        "background": [[0.0, 0.5, 100.0, 0.0], [2.0, 0.3, None, None]],
        "advice": {"bet": Lever(input="price", worth="stake", unit="USD", description="price × probability")},
    }
    return manifest_of(given.pop("inputs", inputs), features, **plain | given)


def publish_markets(home: Path, version: int = 1, **given: Any) -> Pointer:
    """Publish the second forecast; `given` are parts of its manifest, and `model` in place of its own."""
    rows = [[1.0, 0.25, 400.0, 0.0], [0.0, 0.9, math.nan, 1.0], [2.0, 0.1, 0.0, math.nan]]
    features, predictions = zip(*(probability(*row) for row in rows), strict=True)
    golden = Golden(
        inputs=[[None if math.isnan(value) else value for value in row] for row in rows],
        features=list(features),
        predictions=list(predictions),
        tolerance=1e-9,
    )
    model = given.pop("model", None) or model_of(list(MARKET), STEPS, ["price", "traded"])
    return write(home, MARKETS, market_manifest(version, **given), model, golden)
