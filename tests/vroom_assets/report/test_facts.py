"""What is read of a home, and what is said where it cannot be read."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.bundles import FORECAST, point, publish
from vroom_api.contract import bundle_folder, forecast_folder
from vroom_assets.report.facts import UnknownForecast, facts_of


def test_everything_of_a_training_is_found(trained: Path) -> None:
    found = facts_of(FORECAST)
    assert found.unread == []
    assert found.spec is not None
    assert found.bundle is not None
    manifest = found.bundle.manifest
    assert found.target is not None
    assert len(found.target) == manifest.rows
    assert found.target.mean() == pytest.approx(manifest.target_mean)
    assert found.folds is not None
    assert set(found.folds["candidate"]) == {"lean_forest", "glm", "mean", "median"}
    assert found.contest is not None
    assert found.contest.challenger == manifest.version
    assert found.pointer is not None
    assert found.served_since == found.pointer.published_at
    assert (found.former, found.errors_by) == ([], {})


def test_errors_by_tag_are_read_as_they_were_logged(trained: Path) -> None:
    [folder] = (trained / "mlflow" / "artifacts" / FORECAST).glob("*/artifacts")
    parts = pd.DataFrame({"value": ["007", "NA"], "rows": [40, 50], "mae": [5.0, 3.0]})
    parts.to_csv(folder / "error_by_track.csv", index=False)
    found = facts_of(FORECAST).errors_by["track"]
    assert found["value"].tolist() == ["007", "NA"]


def test_what_is_lost_is_named_and_the_rest_is_read(trained: Path) -> None:
    shutil.rmtree(trained / "mlflow" / "artifacts")
    shutil.rmtree(forecast_folder(FORECAST) / "features")
    (forecast_folder(FORECAST) / "contest.json").write_text("{")
    found = facts_of(FORECAST)
    assert found.bundle is not None
    assert (found.target, found.folds, found.contest) == (None, None, None)
    lost = " ".join(found.unread)
    for what in ("the latest contest: ", "the training rows: ", "the search in MLflow: "):
        assert what in lost


def test_a_damaged_champion_is_not_described(home: Path) -> None:
    publish(home, 1)
    (bundle_folder(FORECAST, 1) / "model.onnx").write_bytes(b"")
    found = facts_of(FORECAST)
    assert found.bundle is None
    assert found.pointer is not None
    [why] = found.unread
    assert "its SHA-256 is not the published one" in why


def test_earlier_trainings_count_once_and_what_is_said_in_other_words_is_the_same(home: Path) -> None:
    publish(home, 1, mlflow_run_id="first", target_mean=3.0)
    keep_pointer(home, 1)
    publish(home, 2, mlflow_run_id="second")
    keep_pointer(home, 2)
    publish(home, 3, mlflow_run_id="second", title="in other words")
    found = facts_of(FORECAST)
    assert [one.version for one in found.former] == [1]
    assert found.served_since == "2025-03-02T00:00:00+00:00"
    point(home, 3)
    assert [one.version for one in facts_of(FORECAST).former] == [1]


def keep_pointer(home: Path, generation: int) -> None:
    """As a publication keeps the pointer that it replaces."""
    folder = forecast_folder(FORECAST, home)
    (folder / "pointers").mkdir(exist_ok=True)
    shutil.copy(folder / "champion.json", folder / "pointers" / f"{generation}-{generation}.json")


def test_a_forecast_that_there_is_not_is_unknown(home: Path) -> None:
    with pytest.raises(UnknownForecast, match=r"there is no forecast 'nope'; .* reservations"):
        facts_of("nope")
