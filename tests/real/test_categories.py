"""Texts that nobody listed and numbers that are missing, from the CSV to the answer over HTTP."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.forecasts import entries, train
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets.forecast import Forecast

NAME = "flats"
DISTRICTS = [f"district {number}" for number in range(40)]
FLATS = Forecast(
    name=NAME,
    title="Rents",
    description="What a flat costs.",
    owner="team:flats",
    sources={
        "flats": {
            "path": "flats.csv",
            "description": "Flats.",
            "columns": {
                "flat_id": {"type": "integer", "unique": True},
                "listed_at": {"type": "timestamp"},
                "district": {"type": "category", "least_rows": 5},
                "heating": {"type": "category", "nullable": True},
                "area": {"type": "number", "above": 0, "nullable": True},
                "rooms": {"type": "integer", "minimum": 1},
                "rent": {"type": "number"},
            },
        }
    },
    entity={"name": "flat", "source": "flats", "key": "flat_id", "tags": ["district"]},
    inputs=["area", "district", "heating", "rooms"],
    target={
        "name": "rent",
        "kind": "regression",
        "unit": "EUR",
        "horizon": "a month",
        "as_of": "flats.listed_at",
    },
    candidates={
        "boosting": {
            "family": "boosting",
            "features": ["area", "area_per_room", "district", "heating", "rooms"],
            "parameters": {"max_iter": 60},
        },
        "linear": {"family": "linear", "features": ["area", "district", "heating", "rooms"]},
        "forest": {
            "family": "forest",
            "features": ["area", "district", "heating"],
            "parameters": {"n_estimators": 20, "min_samples_leaf": 5},
        },
    },
    validation={"folds": 3, "repeats": 1, "inner_folds": 2},
    features_sql="""
        select area, area / rooms as area_per_room, district, heating, rooms,
            case when district = 'district 3' then 1 else 0 end as in_the_old_town
        from inputs
    """,
    target_sql="select flat_id, rent from flats",
)


def write(path: Path, rows: int = 900, seed: int = 0, districts: list[str] = DISTRICTS) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["flat_id", "listed_at", "district", "heating", "area", "rooms", "rent"])
        for number in range(rows):
            # Every third is in one of the first districts; a few are in districts that only they are in.
            place = districts[rng.integers(0, len(districts))] if number % 100 else f"hamlet {number}"
            worth = 8 + (districts.index(place) % 9 if place in districts else 0)
            heating = ["gas", "oil", ""][rng.integers(0, 3)]
            area, rooms = rng.uniform(20, 120), int(rng.integers(1, 6))
            rent = area * worth + (80 if heating == "" else 0) + rng.normal(0, 30)
            given = "" if rng.uniform() < 0.1 else f"{area:.1f}"
            lines.writerow(
                [number, f"2024-0{1 + number % 9}-01", place, heating, given, rooms, f"{rent:.2f}"]
            )


@pytest.fixture(scope="module")
def flats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a champion, and its data beside it; tests take copies."""
    folder = tmp_path_factory.mktemp("flats")
    (folder / "data").mkdir()
    write(folder / "data" / "flats.csv")
    train(FLATS, folder / "home", folder / "data")
    return folder


@pytest.fixture
def client(flats: Path) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(settings_of(flats / "home", forecast=NAME))) as one:
        yield one


def ask(client: TestClient[Any], **inputs: object) -> dict[str, Any]:
    given = {"area": 60.0, "district": "district 8", "heating": "gas", "rooms": 2} | inputs
    found = client.post(
        f"/forecasts/{NAME}/predict", json={name: v for name, v in given.items() if v is not None}
    )
    assert found.status_code == 200, found.text
    return found.json()


def test_levels_are_learnt_and_tell_rows_apart(client):
    dear, cheap = ask(client), ask(client, district="district 9")
    assert dear["in_support"]
    assert dear["predicted_rent"] == pytest.approx(60 * 16, rel=0.2)
    assert cheap["predicted_rent"] == pytest.approx(60 * 8, rel=0.25)


def test_a_value_that_training_did_not_see_is_answered_and_flagged(client):
    found = ask(client, district="Atlantis")
    assert not found["in_support"]
    (outside,) = [one for one in found["outside"] if one["kind"] == "input"]
    assert outside["sentence"] == "this district was not in any row of the training; it counts as other"
    assert found["predicted_rent"] == pytest.approx(ask(client, district="hamlet 0")["predicted_rent"])


def test_what_is_missing_is_answered_as_training_had_it(client):
    nothing = ask(client, area=None)
    assert nothing["in_support"]
    assert np.isfinite(nothing["predicted_rent"])
    assert ask(client, heating=None)["predicted_rent"] > ask(client, heating="gas")["predicted_rent"] + 30
    rows = [
        {"district": "district 8", "rooms": 2},
        {"district": "x" * 500, "rooms": 2, "area": 50, "heating": "oil"},
    ]
    batch = client.post(f"/forecasts/{NAME}/predict/batch", json=rows)
    assert batch.status_code == 200
    assert [row["in_support"] for row in batch.json()] == [True, False]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"district": ""},
            "any text of 1 to 500 characters; seen in training: district 0, district 1, district 10",
        ),
        ({"district": "x" * 501}, "and 28 more"),
        ({"district": 7}, "any text of 1 to 500 characters"),
        ({"rooms": None}, "rooms"),
    ],
)
def test_what_is_no_text_is_refused_with_what_is(client, inputs, message):
    given = {"area": 60.0, "district": "district 8", "heating": "gas", "rooms": 2} | inputs
    found = client.post(
        f"/forecasts/{NAME}/predict", json={name: v for name, v in given.items() if v is not None}
    )
    assert found.status_code == 422
    assert message in found.text


def test_a_stored_entity_may_have_a_tag_that_is_an_input(client):
    found = client.post(f"/forecasts/{NAME}/predict", json={"entity_id": "5"})
    assert found.status_code == 200, found.text
    assert found.json()["stored"]["inputs"]


def test_reasons_name_the_text_and_what_was_left_out(client):
    reasons = {one["input"]: one for one in ask(client, explain=True, heating=None)["reasons"]["reasons"]}
    assert reasons["district"]["value"] == "district 8"
    assert reasons["district"]["amount"] > 50
    assert reasons["heating"]["value"] is None


def test_new_levels_in_newer_data_are_learnt_and_the_champion_is_measured_on_its_own(flats, tmp_path):
    for part in ("home", "data"):
        shutil.copytree(flats / part, tmp_path / part)
    moved = [*DISTRICTS[5:], *(f"suburb {number}" for number in range(5))]
    write(tmp_path / "data" / "flats.csv", seed=1, districts=moved)
    train(FLATS, tmp_path / "home", tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VROOM_HOME", str(tmp_path / "home"))
        contest = entries("contest")[-1]
        pointer = read_pointer(NAME)
        assert pointer is not None
        manifest = read_bundle(bundle_folder(NAME, pointer.version), pointer.manifest_sha256).manifest
    assert contest.evidence["serving"]["mae"] > contest.evidence["comparison"]["challenger_error"]
    district = next(field for field in manifest.inputs if field.name == "district")
    assert district.is_open
    assert district.values[-1] == "other"
    assert {"suburb 4", "district 39"} <= set(district.values)
    assert "district 4" not in district.values
