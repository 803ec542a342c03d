"""What the code location offers, by name."""

import subprocess
import sys

import dagster as dg
import pytest

from tests.conftest import ROOT
from vroom_assets.definitions import defs

ASSETS = {
    "vehicles_csv",
    "reservations_csv",
    "vehicles",
    "reservations",
    "features",
    "cv_metrics",
    "challenger",
    "contest",
    "champion",
}


@pytest.fixture(scope="module")
def loaded() -> dg.Definitions:
    found = defs()
    assert isinstance(found, dg.Definitions)
    return found


@pytest.fixture(scope="module")
def specs(loaded: dg.Definitions) -> list[dg.AssetSpec]:
    return list(loaded.resolve_all_asset_specs())


def test_the_asset_keys_are_these(specs):
    assert {spec.key for spec in specs} == {dg.AssetKey(["reservations", name]) for name in ASSETS}


def test_every_asset_has_owner_group_kinds_and_description(specs):
    for spec in specs:
        assert spec.owners == ["team:marketplace"], spec.key
        assert spec.group_name == "reservations", spec.key
        assert spec.kinds, spec.key
        assert spec.description, spec.key


def test_the_lineage_runs_from_the_csvs_to_the_champion(specs):
    parents = {spec.key.path[-1]: {dep.asset_key.path[-1] for dep in spec.deps} for spec in specs}
    assert parents == {
        "vehicles_csv": set(),
        "reservations_csv": set(),
        "vehicles": {"vehicles_csv"},
        "reservations": {"reservations_csv", "vehicles"},
        "features": {"vehicles", "reservations"},
        "cv_metrics": {"features"},
        "challenger": {"cv_metrics"},
        "contest": {"challenger", "features"},
        "champion": {"contest"},
    }


def test_the_checks_are_these_and_source_checks_block(loaded):
    graph = loaded.resolve_asset_graph()
    checks = {key.to_user_string() for key in graph.asset_check_keys}
    assert checks == {
        "reservations/vehicles:accepted",
        "reservations/reservations:accepted",
        "reservations/challenger:gates",
    }
    blocking = {key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == {"reservations/vehicles:accepted", "reservations/reservations:accepted"}


def test_the_jobs_sensors_and_schedules_are_these_and_run_by_themselves(loaded):
    repository = loaded.get_repository_def()
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert jobs == {
        f"reservations_{stage}" for stage in ("materialize", "train", "promote", "retrain", "rollback")
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {"reservations_sources", "report_failures"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"reservations_daily"}
    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.minimum_interval_seconds <= 15
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_the_workspace_validates(tmp_path):
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_loading_the_code_location_imports_nothing_heavy():
    heavy = ["mlflow", "sklearn", "interpret", "pandas", "matplotlib", "onnxruntime", "onnx", "duckdb"]
    script = (
        "import sys; from vroom_assets.definitions import defs; defs(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
