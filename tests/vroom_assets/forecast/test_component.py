"""From CSVs to a champion, through Dagster, MLflow and DuckDB as they are."""

import re
import shutil
from pathlib import Path

import dagster as dg
import duckdb
import msgspec
import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tests.support.forecasts import definitions, entries, train
from tests.support.hostile import USELESS
from tests.support.project import ROOT, copy
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import Bundle, bundle_folder, read_bundle, read_pointer
from vroom_api.contract.events import ContestResult, Decision
from vroom_api.contract.store import LocalStore
from vroom_assets import settings, tracking
from vroom_assets.champion import contest
from vroom_assets.champion.publication import prove
from vroom_assets.forecast import Forecast
from vroom_assets.forecast.champion_assets import keep_to_try
from vroom_assets.forecast.names import REASON_TAG, REQUESTED_TAG, TRAINED_TAG
from vroom_assets.report import rendering
from vroom_assets.report.facts import facts_of
from vroom_assets.report.page import page_of
from vroom_assets.spec import Gates

NAME = "reservations"


def mlflow_runs() -> list:
    client = MlflowClient(settings.tracking_uri())
    experiment = client.get_experiment_by_name(NAME)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return [run for run in found if MLFLOW_PARENT_RUN_ID not in run.data.tags]


def served() -> int | None:
    pointer = read_pointer(NAME)
    return pointer.version if pointer else None


def bundle(version: int | None = None) -> Bundle:
    """A published bundle, by default the one that serves."""
    digest = tracking.Registry().manifest_sha256(NAME, version or served() or 0)
    return read_bundle(bundle_folder(NAME, version or served() or 0), digest)


def champion_page(instance: dg.DagsterInstance) -> dict[str, object]:
    """What Dagster's page of the champion shows, from its newest event."""
    event = instance.get_latest_materialization_event(dg.AssetKey([NAME, "champion"]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: one.value for name, one in event.asset_materialization.metadata.items()}


def change(data, column: str = "actual_price", factor: float = 1.1) -> None:
    """Change the content of vehicles.csv."""
    import pandas as pd

    path = data / "vehicles.csv"
    frame = pd.read_csv(path)
    frame[column] = (frame[column] * factor).round(2)
    frame.to_csv(path, index=False)


@pytest.fixture(scope="module")
def second_champion(tmp_path_factory: pytest.TempPathFactory, fast: Forecast, first_champion: Path) -> Path:
    """A home that was trained a second time, on newer data; tests take copies of it."""
    folder = tmp_path_factory.mktemp("twice")
    shutil.copytree(first_champion, folder / "home")
    copy(folder, f"data/{NAME}")
    change(folder / "data" / NAME)
    train(fast, folder / "home", folder / "data")
    return folder / "home"


@pytest.fixture
def refreshed(home: Path, data: Path, second_champion: Path) -> Path:
    """A home whose champion is version 2, on newer data than version 1, and these data."""
    shutil.copytree(second_champion, home, dirs_exist_ok=True)
    change(data)
    return home


def test_the_first_run_publishes_a_champion_that_reproduces_its_model(trained):
    pointer = read_pointer(NAME)
    assert pointer is not None
    assert (pointer.version, pointer.generation) == (1, 1)
    bundle = read_bundle(bundle_folder(NAME, 1), pointer.manifest_sha256)
    prove(bundle)
    assert bundle.manifest.rows == 1000
    assert bundle.manifest.data_as_of.startswith("2023-12-3")
    assert bundle.manifest.metrics["skill_mae_over_median"] > 0.05
    reference = bundle.manifest.monitoring
    assert reference is not None
    assert (reference.units, reference.scored) == (1000, 1000)
    assert [one.name for one in reference.features] == [one.name for one in bundle.manifest.features]
    assert reference.error == pytest.approx(bundle.manifest.metrics["nested_mae"], rel=0.05)
    assert [(e.event, e.decision) for e in entries()] == [
        ("training", "registered"),
        ("contest", "promote"),
        ("champion", "published"),
    ]


def test_one_training_is_one_finished_mlflow_run_with_everything_about_it(trained):
    (logged,) = mlflow_runs()
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["dagster_run_id"] == entries("training")[-1].run_id
    assert {"nested_mae", "cv_mae_mean", "cv_mae_std", "cv_mae", "train_mae", "train_r2"} <= set(
        logged.data.metrics
    )
    assert "importance_log_price_ratio" in logged.data.metrics
    assert "skill_mae_over_median" in logged.data.metrics
    assert logged.inputs.dataset_inputs[0].dataset.digest
    client = MlflowClient(settings.tracking_uri())
    assert {item.path for item in client.list_artifacts(logged.info.run_id)} >= {"bundle", "plots"}
    plots = {item.path for item in client.list_artifacts(logged.info.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in ("candidates", "importances", "predicted_and_observed")}
    folds = [one.value for one in client.get_metric_history(logged.info.run_id, "cv_mae")]
    assert sum(folds) / len(folds) == pytest.approx(logged.data.metrics["cv_mae_mean"])
    aliases = client.get_registered_model(NAME).aliases
    assert {name: int(version) for name, version in aliases.items()} == {"challenger": 1, "champion": 1}


def test_mlflows_pages_say_what_was_trained_and_what_became_of_it(trained, fast):
    """Its first view are the runs, a training above its candidates; a version says what it is and how it fared."""
    client = MlflowClient(settings.tracking_uri())
    experiment = client.get_experiment_by_name(NAME)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    (training,) = mlflow_runs()
    assert training.info.run_name == f"{NAME} 1, data as of 2023-12-31"
    assert training.data.tags["mlflow.source.name"] == f"Dagster {NAME}_retrain"
    assert training.data.tags["mlflow.user"]
    children = client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.parentRunId = '{training.info.run_id}'"
    )
    assert {run.info.run_name for run in children} == {*fast.candidates, "mean", "median"}
    assert {run.info.status for run in children} == {"FINISHED"}
    assert all(run.data.metrics["cv_mae_mean"] > 0 for run in children)
    version = client.get_model_version(NAME, "1")
    assert version.tags["vroom.verdict"] == "promote"
    assert "1,000 rows as of 2023-12-31" in version.description
    assert "\n\nLatest contest: promote: " in version.description


def test_the_registered_model_is_the_graph_that_serves(run, trained):
    import mlflow
    import numpy as np

    mlflow.set_tracking_uri(settings.tracking_uri())
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    pointer = read_pointer(NAME)
    golden = read_bundle(bundle_folder(NAME, 1), pointer.manifest_sha256).golden
    answer = model.predict({"inputs": np.array(golden.inputs)})
    assert answer["prediction"] == pytest.approx(golden.predictions, rel=1e-6)


def test_running_again_on_the_same_data_holds(run, fast, trained, instance):
    version = entries("training")[-1].evidence["trained_version"][:12]
    done = run(tags={REASON_TAG: "vehicles changed: version of-before", REQUESTED_TAG: "of-before"})
    tags = instance.get_run_by_id(done.run_id).tags
    assert tags[TRAINED_TAG] == version
    assert tags[REASON_TAG] == (
        "version of-before was requested (vehicles changed: version of-before); the sources or the declaration "
        f"changed again before the training began: version {version}"
    )
    assert served() == 1
    assert entries("contest")[-1].decision == "hold"
    assert "nothing new" in entries("contest")[-1].reason
    assert entries("champion")[-1].decision == "kept"
    assert len(mlflow_runs()) == 2


def test_a_challenger_that_was_held_after_a_comparison_is_kept_to_be_tried(home, fast, trained):
    shutil.rmtree(bundle_folder(NAME, 1))
    held = ContestResult(
        forecast=NAME,
        challenger=1,
        champion=None,
        generation=1,
        verdict=Decision.HOLD,
        reason="not proved better",
        failed_gates=[],
        comparison={"rows": 1000.0},
        unseen={},
        data_version="",
    )
    context, registry = dg.build_op_context(), tracking.Registry()
    for other in ({"failed_gates": ["coverage"]}, {"comparison": {}}, {"verdict": Decision.PROMOTE}):
        assert keep_to_try(context, fast, registry, msgspec.structs.replace(held, **other)) == {}
    assert LocalStore().versions(NAME) == []
    assert "version 1: POST" in keep_to_try(context, fast, registry, held)["may_be_tried"]
    assert LocalStore().versions(NAME) == [1]
    gone = msgspec.structs.replace(held, challenger=99)
    assert keep_to_try(context, fast, registry, gone) == {}


def test_newer_data_refresh_the_champion(refreshed):
    assert served() == 2
    assert entries("contest")[-1].decision == "refresh"  # the best recipe is the same: nobody can be better
    assert entries("contest")[-1].evidence["comparison"]["rows"] == 1000


def assets(*names: str) -> list[dg.AssetKey]:
    return [dg.AssetKey([NAME, name]) for name in names]


def with_gates(spec: Forecast, **gates: object) -> Forecast:
    return spec.model_copy(update={"gates": Gates(**spec.gates.model_dump() | gates)})


@pytest.mark.slow
def test_a_first_champion_that_beats_the_baselines_serves_as_provisional_until_it_passes(
    run, fast, home, instance
):
    strict = with_gates(fast, coverage=(0.99, 1.0))
    assert run(spec=strict).success
    provisional = read_pointer(NAME)
    assert provisional is not None
    (gate,) = provisional.provisional
    assert gate.startswith("coverage of the 90 % interval is 0.")
    assert "what usually helps: more rows, or features that" in gate
    contest_entry, entry = entries("contest")[-1], entries("champion")[-1]
    assert (contest_entry.decision, contest_entry.evidence["provisional"]) == ("promote", True)
    assert (entry.decision, entry.evidence["provisional"]) == ("published", [gate])
    assert gate in entry.reason
    assert champion_page(instance)["provisional"] == gate
    app = create_app(settings_of(home))
    with TestClient(app) as client:
        answer = client.post("/predict", json=bundle().manifest.example).json()
        assert answer["provisional"] == gate
        assert client.get("/model").json()["provisional"] == [gate]
        page = client.get("/").text
        assert "the first champion serves without having passed every gate" in page
        assert gate in page

    assert run(spec=strict, asset_selection=assets("champion")).success
    assert read_pointer(NAME) == provisional
    assert run(asset_selection=assets("contest", "champion")).success  # under the gates as they are shipped
    confirmed = read_pointer(NAME)
    assert confirmed is not None
    assert (confirmed.version, confirmed.generation, confirmed.provisional) == (1, 2, ())
    assert entries("champion")[-1].decision == "confirmed"
    assert len(mlflow_runs()) == 1
    with TestClient(app) as client:
        assert "provisional" not in client.post("/predict", json=bundle().manifest.example).json()
        assert "without having passed" not in client.get("/").text


@pytest.mark.slow
def test_what_was_provisional_is_so_again_after_a_roll_back(run, fast, data):
    run(spec=with_gates(fast, coverage=(0.99, 1.0)))
    first = read_pointer(NAME)
    change(data)
    assert run().success
    assert served() == 2
    assert run("rollback").success
    again = read_pointer(NAME)
    assert first is not None
    assert again is not None
    assert (again.version, again.provisional) == (1, first.provisional)


@pytest.mark.slow
def test_a_changed_gate_is_judged_by_again_without_a_fit(run, fast):
    run(spec=with_gates(fast, coverage=(0.99, 1.0), require="all"))
    assert served() is None
    assert run(asset_selection=assets("contest", "champion")).success
    assert served() == 1
    assert entries("contest")[-1].decision == "promote"
    assert len(mlflow_runs()) == 1
    assert [entry.event for entry in entries()].count("training") == 1


def test_changed_words_are_published_as_a_new_version_of_the_same_model(run, fast, trained):
    before = bundle()
    named = fast.model_copy(update={"title": "Bookings", "advice": {}})
    assert run(spec=named, asset_selection=assets("champion")).success
    after = bundle()
    assert (served(), after.manifest.version, after.manifest.title, after.manifest.advice) == (
        2,
        2,
        "Bookings",
        {},
    )
    assert after.manifest.files == before.manifest.files
    assert after.manifest.trained_at == before.manifest.trained_at
    assert bundle(1) == before
    assert entries("champion")[-1].decision == "restated"
    assert "the model of version 1" in entries("champion")[-1].reason
    assert len(mlflow_runs()) == 1
    aliases = MlflowClient(settings.tracking_uri()).get_registered_model(NAME).aliases
    assert {name: int(version) for name, version in aliases.items()} == {"challenger": 2, "champion": 2}


@pytest.mark.slow
def test_the_same_words_are_not_published_again(run, fast, trained):
    before = read_pointer(NAME)
    owned = fast.model_copy(update={"owner": "team:other"})
    assert run("promote", spec=owned).success
    assert run(spec=owned, asset_selection=assets("champion")).success
    assert read_pointer(NAME) == before
    assert entries("champion")[-1].decision == "kept"


def test_a_model_of_other_data_keeps_its_words(run, fast, trained):
    target = fast.target.model_copy(update={"unit": "dozens"})
    other = fast.model_copy(
        update={"target": target, "target_sql": fast.target_sql.replace("count(", "1 + count(")}
    )
    assert other.target_sql != fast.target_sql
    assert run(spec=other, asset_selection=assets("champion")).success
    assert served() == 1
    assert entries("champion")[-1].decision == "kept"
    assert "keeps its texts" in entries("champion")[-1].reason


def test_roll_back_passes_over_other_words_of_the_same_training(run, fast, refreshed):
    named = fast.model_copy(update={"title": "Bookings"})
    run(spec=named, asset_selection=assets("champion"))
    assert served() == 3
    assert run("rollback").success
    assert served() == 1
    run(spec=named, asset_selection=assets("champion"))
    assert served() == 4
    assert bundle().manifest.title == "Bookings"
    assert not run("rollback").success
    assert "no version before 4" in entries("rollback")[-1].reason


@pytest.mark.slow
def test_stages_run_one_by_one_and_leave_the_same_traces(run):
    for stage in ("materialize", "train", "promote"):
        assert run(stage).success
    assert served() == 1
    assert [run.info.status for run in mlflow_runs()] == ["FINISHED"]
    assert len(entries("contest")) == 1


@pytest.mark.slow
def test_materialize_all_by_hand_leaves_the_same_traces(instance, fast):
    whole = definitions(fast).resolve_implicit_global_asset_job_def()
    assert whole.execute_in_process(instance=instance).success
    assert served() == 1
    assert [run.info.status for run in mlflow_runs()] == ["FINISHED"]


def test_promoting_without_a_challenger_says_what_to_do(run):
    result = run("promote")
    assert not result.success
    message = result.failure_data_for_node(f"{NAME}__contest").error.cause.message
    assert "materialize `challenger` first" in message
    assert served() is None


def test_a_failed_training_ends_its_mlflow_run_as_failed_and_keeps_the_champion(run, fast, trained):
    beyond = fast.validation.model_copy(update={"folds": 5_000})
    result = run("train", spec=fast.model_copy(update={"validation": beyond}))
    assert not result.success
    assert [run.info.status for run in mlflow_runs()].count("FAILED") >= 1
    assert "RUNNING" not in [run.info.status for run in mlflow_runs()]
    assert served() == 1


@pytest.mark.slow
def test_values_that_were_chosen_for_parameters_are_recorded_with_what_was_tried(run, fast, home):
    glm = fast.candidates["glm"].model_copy(update={"parameters": {"alpha": [100.0, 0.001]}})
    assert run(spec=fast.model_copy(update={"candidates": {"glm": glm}})).success
    recipe = bundle().manifest.recipe
    assert recipe.values == {"glm": {"alpha": 0.001}}
    assert recipe.definition["glm"]["parameters"] == {"alpha": [100.0, 0.001]}
    (logged,) = mlflow_runs()
    assert logged.data.params["glm.alpha"] == "0.001"
    client = MlflowClient(settings.tracking_uri())
    table = Path(client.download_artifacts(logged.info.run_id, "tried.csv")).read_text()
    assert re.search(r"^glm,alpha 100.0,[\d.]+,False\nglm,alpha 0.001,[\d.]+,True$", table, re.MULTILINE)
    page = rendering.markdown(page_of(facts_of(NAME)))
    assert "Chosen for glm on inner folds of all rows: alpha 0.001 (of 100.0, 0.001)." in page


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": [0.1, -1.0]}, "'alpha' parameter"),
        ({"alpha": -1.0}, "'alpha' parameter"),
        ({"n_jobs": -1}, "parameter 'n_jobs' does not exist"),
    ],
)
def test_parameters_are_checked_before_anything_is_fitted_and_once(run, fast, trained, parameters, message):
    broken = fast.candidates["glm"].model_copy(update={"parameters": parameters})
    result = run("train", spec=fast.model_copy(update={"candidates": {"glm": broken}}))
    assert message in result.failure_data_for_node(f"{NAME}_training").user_failure_data.description
    assert result.retry_attempts_for_node(f"{NAME}_training") == 0
    assert len(mlflow_runs()) == 1


@pytest.mark.slow
def test_a_useless_file_stops_everything_behind_it_and_changes_nothing(run, data, trained):
    champion = read_pointer(NAME)
    sources = {name: (data / f"{name}.csv").read_bytes() for name in ("vehicles", "reservations")}
    assert run("materialize").success
    tables = stored_tables(trained)
    for case in USELESS[::4]:  # what each of them says is a table of its own
        path = data / f"{case.source}.csv"
        path.write_bytes(case.content)
        result = run()
        failed = {e.node_name for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE}
        assert failed == {f"{NAME}__{case.source}"}, case.name
        message = result.failure_data_for_node(f"{NAME}__{case.source}").error.message
        assert case.message in message, case.name
        checks = [check for check in result.get_asset_check_evaluations() if not check.passed]
        assert all("quarantined" in check.metadata for check in checks if "findings" in check.metadata)
        assert stored_tables(trained) == tables, case.name
        path.write_bytes(sources[case.source])
    assert read_pointer(NAME) == champion
    assert len(mlflow_runs()) == 1


def stored_tables(home) -> dict[str, list]:
    with duckdb.connect(home / NAME / "warehouse.duckdb", read_only=True) as connection:
        return {
            name: connection.execute(f"select * from {name} order by all").fetchall()
            for name in ("vehicles", "reservations", "features")
        }


@pytest.mark.slow
def test_roll_back_serves_the_version_before_and_suspends_what_it_replaced(
    run, instance, refreshed, monkeypatch
):
    monkeypatch.setenv("VROOM_MLFLOW_URL", "http://127.0.0.1:5000/")
    monkeypatch.setenv("VROOM_SERVICE_URL", "https://vroom.example")
    assert served() == 2
    assert run("rollback").success
    assert served() == 1
    alias = MlflowClient(settings.tracking_uri()).get_model_version_by_alias(NAME, "champion")
    assert int(alias.version) == 1
    shown = champion_page(instance)
    assert (shown["version"], shown["generation"], shown["decision"]) == (1, 3, "restored")
    assert (
        shown["mlflow"] == f"http://127.0.0.1:5000/#/models/{NAME}/versions/1?workflowType=machine_learning"
    )
    assert shown["service"] == f"https://vroom.example/?forecast={NAME}"
    run()  # the same data and recipe as what was rolled back
    assert served() == 1
    assert "rolled back" in entries("contest")[-1].reason


def test_roll_back_to_what_never_was_is_refused_with_the_choices(run, trained):
    config = {"ops": {f"roll_back_{NAME}": {"config": {"version": 7}}}}
    result = run("rollback", run_config=config)
    assert not result.success
    assert served() == 1
    assert "choose one of 1" in entries("rollback")[-1].reason


def test_roll_back_refuses_a_damaged_bundle(run, refreshed):
    model = bundle_folder(NAME, 1) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert not run("rollback").success
    assert served() == 2
    assert "SHA-256" in entries("rollback")[-1].reason


def append_a_year(data) -> None:
    """The same reservations once more, 365 days later, as a history of two years has them."""
    import pandas as pd

    path = data / "reservations.csv"
    frame = pd.read_csv(path, parse_dates=["created_at"])
    later = frame.assign(created_at=frame["created_at"] - pd.Timedelta(days=365))
    pd.concat([later, frame]).to_csv(path, index=False, date_format="%Y-%m-%d %H:%M:%S")


@pytest.mark.slow
def test_a_second_year_of_history_leaves_the_forecast_one_of_a_year(run, data, trained):
    append_a_year(data)
    assert run().success
    assert served() == 2
    assert bundle(2).manifest.target_mean == pytest.approx(bundle(1).manifest.target_mean, rel=0.01)


@pytest.mark.slow
def test_a_target_that_doubles_is_held_unfitted_with_what_to_look_at(run, fast, data, trained, monkeypatch):
    counts_all = fast.target_sql.replace("reservations.created_at > target_window.opens", "true")
    assert counts_all != fast.target_sql
    append_a_year(data)
    monkeypatch.setattr(contest, "compare", lambda *_: pytest.fail("fitted although it is held"))
    assert run(spec=fast.model_copy(update={"target_sql": counts_all})).success
    assert served() == 1
    entry = entries("contest")[-1]
    assert "the mean target is 12" in entry.reason
    assert "raise gates.target_shift" in entry.reason
    serving = entry.evidence["serving"]
    assert serving["rows"] == 1000
    assert serving["mean_target"] == pytest.approx(2 * serving["mean_prediction"], rel=0.1)


@pytest.mark.slow
def test_a_damaged_warehouse_is_set_aside_and_made_again(run, trained):
    warehouse = trained / NAME / "warehouse.duckdb"
    damaged = warehouse.read_bytes()[: warehouse.stat().st_size // 2]
    warehouse.write_bytes(damaged)
    result = run("promote")  # reads what only the sources can make again
    assert not result.success
    message = result.failure_data_for_node(f"{NAME}__contest").error.message
    assert f"{warehouse} is damaged; the job {NAME}_retrain makes it anew" in message
    assert run("materialize").success
    (entry,) = entries("warehouse")
    assert entry.decision == "rebuilt"
    assert (trained / NAME / entry.evidence["aside"]).read_bytes() == damaged
    assert entry.evidence["aside"] in entry.reason
    assert run("promote").success
    assert served() == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["model", "database"])
def test_where_mlflow_lost_its_versions_no_number_is_given_twice(run, fast, data, trained, lost):
    before = read_bundle(bundle_folder(NAME, 1), read_pointer(NAME).manifest_sha256)
    if lost == "model":
        tracking.Registry().client().delete_registered_model(NAME)
    else:
        (trained / "mlflow" / "mlflow.db").unlink()
    named = fast.model_copy(update={"title": "Bookings"})
    assert run(spec=named, asset_selection=assets("champion")).success
    assert (served(), entries("champion")[-1].decision) == (1, "kept")
    assert "MLflow no longer has it" in entries("champion")[-1].reason
    change(data)
    assert run().success
    assert served() == 2
    assert bundle(2).manifest.mlflow_run_id != before.manifest.mlflow_run_id
    versions = tracking.Registry().client().search_model_versions(f"name = '{NAME}'")
    assert [int(version.version) for version in versions] == [2]
    assert tracking.Registry().version_of(NAME, "champion") == 2


@pytest.mark.slow
def test_a_home_that_was_moved_trains_and_goes_back_where_it_is_now(
    run, home, trained, monkeypatch, tmp_path
):
    moved, former = tmp_path / "moved here" / "home", (home / NAME, home / "mlflow", home / "serving.db")
    moved.mkdir(parents=True)
    for path in former:
        shutil.move(path, moved)
    monkeypatch.setenv("VROOM_HOME", str(moved))
    assert run("promote").success  # reads the bundle of the challenger
    assert run().success
    client = MlflowClient(settings.tracking_uri())
    assert not any(path.exists() for path in former)
    for logged in mlflow_runs():
        assert logged.info.artifact_uri.startswith(tracking.artifacts_uri())
        assert {item.path for item in client.list_artifacts(logged.info.run_id)} >= {"bundle", "plots"}
    assert tracking.Registry().challenger(NAME)[0].version == 2


def test_the_operators_table_names_all_that_stands_in_a_home(trained):
    text = (ROOT / "docs" / "operations.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = re.findall(r"`([^`]+)`", " ".join(cells).replace("<forecast>", NAME))
    whole = {name.replace("<version>", "1") for name in named} | {
        f"{NAME}/features/",
        f"{NAME}/.publish.lock",
    }
    found = [str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()]
    assert [path for path in found if not any(path.startswith(name) for name in whole)] == []


@pytest.mark.slow
def test_what_the_jobs_make_again_is_there_again(run, trained):
    lost = ["entities.db", "warehouse.duckdb", "contest.json", "champion.json"]
    for name in lost:
        (trained / NAME / name).unlink()
    shutil.rmtree(trained / NAME / "features")
    assert run().success
    assert [name for name in (*lost, "features") if not (trained / NAME / name).exists()] == []
    assert served() == 2
