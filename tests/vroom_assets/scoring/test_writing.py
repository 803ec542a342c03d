"""Bulk scoring: what it writes is what the service answers, and what cannot be answered is named."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, NAMES, publish
from tests.support.calibrations import correct
from tests.support.entities import AS_OF, keep
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import Golden, read_pointer
from vroom_api.contract.model import open_model
from vroom_api.contract.model import score as model_score
from vroom_api.contract.store import LocalStore
from vroom_assets.__main__ import main
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import parse
from vroom_assets.scoring.ensembles import cells_of
from vroom_assets.scoring.writing import ROWS
from vroom_assets.spec import Candidate, Family
from vroom_assets.training.fitting import fit_all

HEADER = ",".join(NAMES)
TARGET = "predicted_reservations"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with version 1."""
    home = tmp_path / "a höme"
    monkeypatch.setenv("VROOM_HOME", str(home))
    publish(home, 1)
    return home


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path) -> Any:
    """The command, its exit code."""

    def run(*arguments: str | Path) -> int:
        given = ["vroom_assets", "score", FORECAST, "--output", tmp_path / "out.parquet", *arguments]
        monkeypatch.setattr(sys, "argv", [str(one) for one in given])
        return main()

    return run


def answered(home: Path, bodies: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    """What the service answers to all: prediction, low and high.

    To each alone it answers the same but for the last digit: a product of matrices of one row adds in another order.
    """
    with TestClient(create_app(settings_of(home))) as client:
        together = client.post("/predict/batch", json=bodies).json()
        alone = [client.post("/predict", json=body).json() for body in bodies]
    assert numbers(together) == [pytest.approx(one, rel=1e-15) for one in numbers(alone)]
    return numbers(together)


def numbers(answers: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    return [(one[TARGET], one["interval"]["low"], one["interval"]["high"]) for one in answers]


def written(path: Path) -> list[tuple[float, float, float]]:
    table = pq.read_table(path)
    return list(zip(*(table[name].to_pylist() for name in (TARGET, "low", "high")), strict=True))


def vehicles(count: int) -> list[list[Any]]:
    return [[i % 2, 20 + i * 0.37, 25 + i * 0.11, i % 21, (i // 2) % 2, i * 7] for i in range(count)]


def file_of(folder: Path, rows: list[list[Any]], header: str = HEADER) -> Path:
    path = folder / "rows [new].csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def publish_forest(home: Path) -> None:
    """Version 2, whose hundred trees have few cells."""
    features = parse(
        "select num_images, ln(actual_price / recommended_price) as log_price_ratio from inputs", NAMES
    )
    rows = np.array(vehicles(2000))
    frame = pd.DataFrame({"num_images": rows[:, 3], "log_price_ratio": np.log(rows[:, 1] / rows[:, 2])})
    forest = Candidate(
        family=Family.FOREST,
        features=list(frame.columns),
        parameters={"n_estimators": 100, "max_leaf_nodes": 20},
    )
    [fitted] = fit_all(
        {"forest": forest}, frame, rows[:, 3] + 40 * frame["log_price_ratio"].to_numpy(), 0
    ).values()
    model = build(NAMES, features, fitted).SerializeToString()
    assert 0 < cells_of(model) < ROWS  # so that the second piece is scored by a table
    predictions, found = model_score(open_model(model), rows[:20])
    golden = Golden(
        inputs=rows[:20].tolist(),
        features=found.tolist(),
        predictions=predictions.tolist(),
        tolerance=1e-6,
    )
    publish(home, 2, model=model, golden=golden)


def test_what_a_table_answers_is_what_the_trees_answer(state: Path, score: Any, tmp_path: Path) -> None:
    publish_forest(state)
    rows = vehicles(2000)
    path = tmp_path / "many.parquet"
    columns = zip(NAMES, zip(*rows, strict=True), strict=True)
    whole = pa.table({name: pa.array([*values] * (2 * ROWS // 2000 + 1)) for name, values in columns})
    pq.write_table(whole, path)
    assert score("--input", path) == 0
    found = written(tmp_path / "out.parquet")
    assert len(found) == len(whole) > 2 * ROWS
    with TestClient(create_app(settings_of(state))) as client:
        bodies = [dict(zip(NAMES, row, strict=True)) for row in rows[:1000]]
        expected = numbers(client.post("/predict/batch", json=bodies).json())
    assert len(set(expected)) > 50
    assert [found[at : at + 1000] for at in range(0, 2 * ROWS, 2000)] == [expected] * (2 * ROWS // 2000 + 1)


def test_all_entities_have_what_the_service_answers_for_each(state: Path, score: Any, tmp_path: Path) -> None:
    keep(state, {str(number): row for number, row in enumerate(vehicles(60))})
    assert score() == 0
    table = pq.read_table(tmp_path / "out.parquet")
    ids = table["entity_id"].to_pylist()
    assert len(ids) == 60
    assert set(table["as_of"].to_pylist()) == {AS_OF}
    assert written(tmp_path / "out.parquet") == answered(state, [{"entity_id": one} for one in ids])


def test_the_file_says_which_version_answered_and_from_which_data(
    score: Any, state: Path, tmp_path: Path
) -> None:
    keep(state, {"7": list(EXAMPLE.values())})
    store, first = LocalStore(state), read_pointer(FORECAST, state)
    assert first is not None
    publish(state, 2)
    second = store.pointer(FORECAST)
    assert second is not None
    store.point(FORECAST, 1, first.manifest_sha256, second.generation)
    for arguments, version in (((), b"1"), (("--version", "2"), b"2")):
        assert score(*arguments) == 0
        metadata = pq.read_schema(tmp_path / "out.parquet").metadata
        assert (metadata[b"vroom.model_version"], metadata[b"vroom.level"]) == (version, b"0.9")
        assert metadata[b"vroom.data_version"]


def test_an_entity_without_an_answer_is_written_with_the_reason(
    score: Any, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(state, {"7": list(EXAMPLE.values()), "8": [0, -1.0, 60.0, 3, 1, 20], "9": [0, None, 60.0, 3, 1, 20]})
    assert score() == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert [value is None for value in table[TARGET].to_pylist()] == [False, True, True]
    good, wrong, missing = table["refused"].to_pylist()
    assert good is None
    assert "actual_price: -1.0 is not within" in wrong
    assert "actual_price: missing" in missing
    assert "2 of them have no answer" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_rows_of_a_file_have_what_the_service_answers(
    kind: str, score: Any, state: Path, tmp_path: Path
) -> None:
    rows = vehicles(60)
    path = file_of(tmp_path, rows)
    if kind == "parquet":
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))), path)
    assert score("--input", path) == 0
    bodies = [dict(zip(NAMES, row, strict=True)) for row in rows]
    assert written(tmp_path / "out.parquet") == answered(state, bodies)
    assert pq.read_table(tmp_path / "out.parquet")["row"].to_pylist() == list(range(1, 61))


def test_the_ids_of_a_file_are_handed_through(score: Any, tmp_path: Path) -> None:
    path = file_of(tmp_path, [["007", *EXAMPLE.values()]], f"entity_id,{HEADER}")
    assert score("--input", path) == 0
    assert pq.read_table(tmp_path / "out.parquet")["entity_id"].to_pylist() == ["007"]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("num_images", "101", "row 2: num_images: 101.0 is not within 0..100 photos"),
        ("num_images", "1.5", "row 2: num_images: 1.5 is not an integer within 0..100 photos"),
        ("actual_price", "cheap", "row 2: actual_price: 'cheap' is not a number"),
        ("actual_price", "inf", "row 2: actual_price: 'inf' is not a number"),
        ("actual_price", "", "row 2: actual_price: missing; it is above 0 and at most 10000 USD/day"),
    ],
)
def test_a_wrong_cell_is_named_and_what_was_there_before_stays(
    column: str, value: str, rule: str, score: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [dict(EXAMPLE), EXAMPLE | {column: value}]
    path = file_of(tmp_path, [list(row.values()) for row in rows])
    (tmp_path / "out.parquet").write_text("as it was")
    assert score("--input", path) == 2
    said = capsys.readouterr().err
    assert rule in said
    assert str(path) in said
    assert (tmp_path / "out.parquet").read_text() == "as it was"
    assert sorted(one.name for one in tmp_path.glob(".out*")) == []


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        (HEADER.replace("num_images", "num_image"), "there is no column num_images"),
        (f"{HEADER},colour", "unknown column colour; the columns are entity_id, technology"),
        (f"{HEADER},technology", "its first line has to name each column once; technology"),
    ],
)
def test_columns_are_those_of_a_request(
    header: str, rule: str, score: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = [*EXAMPLE.values(), 1][: header.count(",") + 1]
    assert score("--input", file_of(tmp_path, [row], header)) == 2
    assert rule in capsys.readouterr().err


def test_what_is_not_there_is_refused(score: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text(json.dumps(EXAMPLE))
    for arguments, rule in (
        ((), "there are no rows"),
        (("--input", tmp_path / "none.csv"), "No such file"),
        (("--input", broken), "broken.parquet"),
        (("--input", file_of(tmp_path, [])), "there are no rows"),
        (("--version", "9"), "version 9 never served; those that did: 1"),
    ):
        assert score(*arguments) == 2
        assert rule in capsys.readouterr().err
        assert not (tmp_path / "out.parquet").exists()


def test_a_column_without_any_value_is_refused_where_one_is_needed(
    score: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(
        pa.table({name: [value] for name, value in (EXAMPLE | {"num_images": None}).items()}), path
    )
    assert score("--input", path) == 2
    assert "row 1: num_images: missing" in capsys.readouterr().err


def test_the_calibration_revision_in_force_corrects_bulk_scoring_too(
    state: Path, score: Any, tmp_path: Path
) -> None:
    correct(state, FORECAST, lower=0.5, upper=2.0)
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\n{','.join(map(str, EXAMPLE.values()))}\n")
    assert score("--input", path) == 0
    table = pq.read_table(tmp_path / "out.parquet")
    written = [tuple(table[name][0].as_py() for name in (TARGET, "low", "high"))]
    assert written == answered(state, [EXAMPLE])
    assert table.schema.metadata[b"vroom.calibration"] == b"1"
    assert score("--input", path, "--version", "1") == 0
    earlier = pq.read_table(tmp_path / "out.parquet")
    assert earlier["high"][0].as_py() < table["high"][0].as_py()
    assert earlier.schema.metadata[b"vroom.calibration"] == b""
