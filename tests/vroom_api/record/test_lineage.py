"""Lineage verifies on an untouched store and names what was touched."""

import hashlib
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tests.support.record import CSVS, FORECAST, flip, predicted, publish, store
from vroom_api.contract import (
    bundle_folder,
    forecast_folder,
)
from vroom_api.contract.tables import predictions
from vroom_api.record import lineage
from vroom_api.record.history import Filter, UnknownPrediction
from vroom_api.record.prediction import new_id


def test_the_whole_chain_verifies_on_an_untouched_store(engine: sa.Engine) -> None:
    origin = publish(1, -3.0)
    one = predicted(origin, -3.0)
    store(engine, one)
    found = lineage.verify(engine, one.id)
    assert found.verified
    assert found.failed == []
    assert [(step.step, step.verified) for step in found.chain] == [
        ("prediction", True),
        ("champion", True),
        ("mlflow_run", None),
        ("dagster_run", None),
        ("data_version", None),
        ("snapshot", True),
        ("snapshot", True),
    ]
    named = {step.name for step in found.chain}
    assert {one.id, "run-of-mlflow", "run-of-dagster", "d" * 64} <= named
    assert {hashlib.sha256(content).hexdigest() for content in CSVS.values()} <= named
    assert found.prediction.value == one.value


def test_it_still_verifies_after_another_champion_took_over(engine: sa.Engine) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    two = predicted(publish(2, -2.0), -2.0)
    store(engine, one, two)
    assert lineage.verify(engine, one.id).verified
    assert lineage.verify(engine, two.id).verified


@pytest.mark.parametrize("source", CSVS)
@pytest.mark.parametrize("position", [0, 12, -1])
def test_one_changed_byte_of_a_snapshot_is_found(engine: sa.Engine, source: str, position: int) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    digest = hashlib.sha256(CSVS[source]).hexdigest()
    flip(forecast_folder(FORECAST) / "snapshots" / f"{digest}.csv", position)
    found = lineage.verify(engine, one.id)
    assert not found.verified
    assert found.failed == [
        f"snapshot of {source}, reservations/snapshots/{digest}.csv: its bytes are not those that were trained on"
    ]


def test_a_missing_snapshot_is_found(engine: sa.Engine) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    digest = hashlib.sha256(CSVS["vehicles"]).hexdigest()
    (forecast_folder(FORECAST) / "snapshots" / f"{digest}.csv").unlink()
    (failed,) = lineage.verify(engine, one.id).failed
    assert "snapshot of vehicles" in failed
    assert "No such file" in failed


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "manifest.json"])
def test_one_changed_byte_of_the_bundle_is_found(engine: sa.Engine, name: str) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    flip(bundle_folder(FORECAST, 1) / name, 40)
    found = lineage.verify(engine, one.id)
    assert not found.verified
    assert any(f"reservations/champions/1/{name}: its SHA-256 is not" in failed for failed in found.failed)


def test_a_bundle_made_anew_under_the_same_version_is_found(engine: sa.Engine) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    folder = bundle_folder(FORECAST, 1)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    (forecast_folder(FORECAST) / "made-1").rename(forecast_folder(FORECAST) / "old")
    publish(1, -2.5)
    failed = " ".join(lineage.verify(engine, one.id).failed)
    assert "manifest.json: its SHA-256 is not the one that was recorded" in failed
    assert "the pointer names another manifest of version 1" in failed


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("value", 4.1, "its value was recorded as 4.1, the model gives"),
        ("inputs", {"actual": 66.5, "recommended": 50.0}, "its features are not those of its inputs"),
        ("inputs", {"actual": 66.0}, "its inputs are not its champion's"),
        ("features", {"actual": 66.0, "log_ratio": None}, "its features are not those of its inputs"),
        ("low", 3.0, "its low was recorded as 3.0"),
        ("high", 100.0, "its high was recorded as 100.0"),
        ("data_version", "e" * 64, "its data version is not its champion's"),
    ],
)
def test_a_changed_record_is_found(engine: sa.Engine, column: str, value: object, complaint: str) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    assert lineage.verify(engine, one.id).verified
    with engine.begin() as connection:
        connection.execute(predictions.update().values({column: value}))
    (failed,) = lineage.verify(engine, one.id).failed
    assert complaint in failed


def test_an_unknown_prediction_is_told(engine: sa.Engine) -> None:
    with pytest.raises(UnknownPrediction):
        lineage.verify(engine, new_id())


def test_no_message_tells_where_the_home_is(engine: sa.Engine, tmp_path: Path) -> None:
    one = predicted(publish(1, -3.0), -3.0)
    store(engine, one)
    for path in [*bundle_folder(FORECAST, 1).iterdir(), *(forecast_folder(FORECAST) / "snapshots").iterdir()]:
        path.unlink()
    found = lineage.verify(engine, one.id)
    assert not found.verified
    assert str(tmp_path) not in msgspec.json.encode(found).decode()


def test_all_predictions_are_verified_and_the_wrong_ones_named(engine: sa.Engine) -> None:
    first, second = publish(1, -3.0), publish(2, -2.0)
    good = [predicted(first, -3.0, actual=40.0 + n) for n in range(20)]
    good += [predicted(second, -2.0, actual=40.0 + n) for n in range(20)]
    wrong = predicted(second, -3.0)
    store(engine, *good, wrong)
    audit = lineage.verify_all(engine)
    assert (audit.verified, audit.not_verified, audit.complete) == (40, 1, True)
    assert [failure.prediction_id for failure in audit.failures] == [wrong.id]
    only_first = lineage.verify_all(engine, Filter(version=1))
    assert (only_first.verified, only_first.not_verified) == (20, 0)


def test_a_bounded_check_says_that_it_is_not_complete(engine: sa.Engine) -> None:
    origin = publish(1, -3.0)
    store(engine, *(predicted(origin, -3.0) for _ in range(10)))
    assert lineage.verify_all(engine, limit=10).complete
    assert not lineage.verify_all(engine, limit=9).complete
