"""What the code location offers, by name."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.support.forecasts import shipped
from tests.support.project import ROOT
from vroom_assets.definitions import defs
from vroom_assets.forecast import attributes

# The owner of each forecast, and what each of its sources refers to.
TEAMS = {
    "reservations": "team:marketplace",
    "upcoming_reservations": "team:marketplace",
    "lap_times": "team:racing",
    "market_resolution": "team:markets",
}
SOURCES: dict[str, dict[str, set[str]]] = {
    "reservations": {"vehicles": set(), "reservations": {"vehicles"}},
    "upcoming_reservations": {"vehicles": set(), "reservations": {"vehicles"}},
    "lap_times": {"laps": set()},
    "market_resolution": {"markets": set(), "prices": {"markets"}},
}
# Assets that write a forecast's CSVs when they are asked to, and the CSVs; nothing of the forecast waits for them.
WRITTEN = {("lap_times", "laps_csv"): "sessions"}
INGESTIONS = {dg.AssetKey([forecast, writer]) for (forecast, _), writer in WRITTEN.items()}
FORECASTS = list(TEAMS)
LATER: dict[str, set[str]] = {
    "online_features": {"features"},
    "cv_metrics": {"features"},
    "challenger": {"cv_metrics"},
    "contest": {"challenger", "features"},
    "champion": {"contest"},
    "predictions": {"champion"},
    "feedback": {"predictions", "outcomes"},
    "performance": {"feedback"},
    "drift": {"feedback"},
    "health": {"performance", "drift"},
}


def parents_of(forecast: str) -> dict[str, set[str]]:
    """What each asset of a forecast is made from."""
    sources = SOURCES[forecast]
    return (
        {
            f"{name}_csv": {WRITTEN[key]} if (key := (forecast, f"{name}_csv")) in WRITTEN else set()
            for name in sources
        }
        | {name: {f"{name}_csv"} | others for name, others in sources.items()}
        | {"features": set(sources), "outcomes": {"predictions", *sources}}
        | LATER
    )


@pytest.fixture(scope="module")
def loaded() -> dg.Definitions:
    found = defs()
    assert isinstance(found, dg.Definitions)
    return found


@pytest.fixture(scope="module")
def specs(loaded: dg.Definitions) -> list[dg.AssetSpec]:
    return list(loaded.resolve_all_asset_specs())


def test_the_asset_keys_are_these(specs):
    expected = {dg.AssetKey([forecast, name]) for forecast in FORECASTS for name in parents_of(forecast)}
    assert {spec.key for spec in specs} == expected | INGESTIONS


def test_every_asset_has_owner_group_kinds_and_description(specs):
    for spec in specs:
        assert spec.owners == [TEAMS[spec.key.path[0]]], spec.key
        assert spec.group_name == ("ingestion" if spec.key in INGESTIONS else spec.key.path[0]), spec.key
        assert spec.kinds, spec.key
        assert spec.description, spec.key


@pytest.mark.parametrize("forecast", FORECASTS)
def test_the_lineage_runs_from_the_csvs_to_the_champion(specs, forecast):
    mine = [spec for spec in specs if spec.key.path[0] == forecast and spec.key not in INGESTIONS]
    assert {dep.asset_key.path[0] for spec in mine for dep in spec.deps} == {forecast}
    parents = {spec.key.path[-1]: {dep.asset_key.path[-1] for dep in spec.deps} for spec in mine}
    assert parents == parents_of(forecast)


# What each asset's page opens in an editor, before the declaration as a whole.
CODE = {
    "laps_csv": ["laps.csv", "  sources:\n    laps:"],
    "laps": ["  sources:\n    laps:"],
    "features": ["features.sql", "target.sql", "driven_laps.sql"],
    "online_features": ["  entity:", "driven_laps.sql"],
    "cv_metrics": ["  candidates:", "  validation:"],
    "challenger": ["  candidates:", "  gates:"],
    "contest": ["  gates:"],
    "champion": [],
    "outcomes": ["  target:"],
    "health": [],
}


@pytest.mark.parametrize("name", CODE)
def test_every_asset_links_to_what_defines_it(specs, name):
    spec = next(spec for spec in specs if spec.key.path == ["lap_times", name])
    *own, whole = spec.metadata["dagster/code_references"].code_references
    assert Path(whole.file_path).name == "defs.yaml"
    text = Path(whole.file_path).read_text()
    assert [Path(one.file_path).name for one in own if not one.line_number] == [
        file for file in CODE[name] if file[0] != " "
    ]
    lines = [
        text[: text.index(field) + len(field)].count("\n") + 1 for field in CODE[name] if field[0] == " "
    ]
    assert [one.line_number for one in own if one.line_number] == lines
    assert all(one.label and Path(one.file_path).is_file() for one in own)


def test_what_a_column_holds_is_said_with_its_range_and_unit(specs):
    schema = next(s for s in specs if s.key.path == ["lap_times", "laps"]).metadata["dagster/column_schema"]
    descriptions = {column.name: column.description for column in schema.columns}
    assert descriptions["pit_in"] == "1 if it ended in the pits (≥ 0 and ≤ 1, flag)"
    assert descriptions["driver"] == "who drove it"


def test_the_checks_are_these_and_source_checks_block(loaded):
    graph = loaded.resolve_asset_graph()
    checks = {key.to_user_string() for key in graph.asset_check_keys}
    sources = {f"{forecast}/{name}:accepted" for forecast in FORECASTS for name in SOURCES[forecast]}
    others = ("challenger:gates", "feedback:outcomes_arrive", "drift:inputs", "health:verdict")
    others += ("performance:error", "performance:calibration")
    assert checks == sources | {f"{forecast}/{other}" for forecast in FORECASTS for other in others}
    blocking = {key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == sources


def test_a_training_is_due_by_the_declared_age_of_the_model_and_nothing_else_has_a_policy(specs):
    """The policies of Dagster measure the time since a run, which is an age of nothing else."""
    policies = {spec.key.to_user_string(): spec.freshness_policy for spec in specs if spec.freshness_policy}
    declared = dg.FreshnessPolicy.time_window(timedelta(days=180), timedelta(days=30))
    assert policies == {f"{name}/challenger": declared for name in ("reservations", "upcoming_reservations")}


@pytest.mark.parametrize(
    ("stale", "expired", "policy"),
    [
        (1, 2, dg.FreshnessPolicy.time_window(timedelta(days=2), timedelta(days=1))),
        (1, 1, dg.FreshnessPolicy.time_window(timedelta(days=1))),
        (1e-6, 1e-5, dg.FreshnessPolicy.time_window(timedelta(minutes=1))),  # Dagster's shortest
    ],
)
def test_limits_of_any_length_make_a_policy(stale, expired, policy):
    limits = {"model_age": {"stale_after_days": stale, "expired_after_days": expired}}
    assert attributes.freshness_policy(shipped("reservations", freshness=limits), "challenger") == policy


def test_the_jobs_sensors_and_schedules_are_these_and_run_by_themselves(loaded):
    repository = loaded.get_repository_def()
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    stages = ("materialize", "train", "promote", "retrain", "rollback", "recalibrate", "monitor")
    stages += ("promote_version",)
    assert jobs == {f"{forecast}_{stage}" for forecast in FORECASTS for stage in stages}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == {"report_failures", "report_terminated_runs"} | {
        f"{forecast}_{what}" for forecast in FORECASTS for what in ("sources", "monitoring")
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {f"{name}_daily" for name in FORECASTS}
    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        # What a window of a day has is known a minute after it has closed.
        assert sensor.minimum_interval_seconds <= (30 if sensor.name.endswith("_monitoring") else 15)
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_ingestions_are_in_no_job_and_run_only_when_asked_for(loaded, specs):
    repository = loaded.get_repository_def()
    for name in repository.job_names:
        if not name.startswith("__"):
            assert not INGESTIONS & repository.get_job(name).asset_layer.executable_asset_keys, name
    assert all(spec.automation_condition is None for spec in specs if spec.key in INGESTIONS)
    graph = loaded.resolve_asset_graph()
    for key in WRITTEN:
        node = graph.get(dg.AssetKey(key))
        assert node.is_observable
        assert not node.is_materializable


def test_the_workspace_validates(tmp_path):
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_loading_the_code_location_imports_nothing_heavy():
    # DuckDB is not part of this: it takes 0.15 s, and says what is wrong with a declaration's SQL.
    heavy = ["mlflow", "sklearn", "interpret", "pandas", "matplotlib", "onnxruntime", "onnx", "fastf1"]
    script = (
        "import sys; from vroom_assets.definitions import defs; defs(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
