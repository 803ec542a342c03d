"""The whole system as `make run` starts it, driven from outside: HTTP, GraphQL, files and signals."""

import contextlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
import yaml

from tests.support.project import ROOT, copy
from tests.support.system import NAME, VEHICLE, System, listening, wait
from vroom_assets.watchdog import sensors_are_stopped

pytestmark = pytest.mark.slow

GENERATE = runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))["generate"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """From nothing to ready, once for the module."""
    folder = tmp_path_factory.mktemp("system")
    GENERATE(folder / "data" / NAME)
    one = System(folder)
    copy(one.project, "vroom_assets", "vroom_api", "pyproject.toml", "workspace.yaml")
    for other in (one.project / "vroom_assets" / "defs").iterdir():
        if other.is_dir() and other.name != NAME:  # it would train by itself, beside what is looked at here
            shutil.rmtree(other)
    with socket.socket() as another:  # as on every Mac, where its own receiver holds the port
        with contextlib.suppress(OSError):  # held already: the same to us
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # somebody may just have left it
            another.bind(("127.0.0.1", 5000))
            another.listen()
        seconds = one.start()
    print(f"\nfrom nothing to ready: {seconds:.0f} s")
    yield one
    if one.process and one.process.poll() is None:
        one.stop()


def test_from_nothing_to_a_first_prediction(system):
    assert "Vroom is ready" in system.log, system.log[-3000:]
    assert system.served() == 1
    assert [entry["decision"] for entry in system.ledger()][:3] == ["registered", "promote", "published"]
    command = next(line.strip() for line in system.log.splitlines() if line.strip().startswith("curl "))
    answer = json.loads(
        subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    )
    assert answer["predicted_reservations"] > 0
    query = (
        "{ runsOrError { ... on Runs { results { jobName repositoryOrigin { repositoryLocationName } } } } }"
    )
    (first,) = system.graphql(query)["runsOrError"]["results"]
    page = httpx.get(system.url("api"), timeout=10).text
    assert f'href="{system.url("dagster")}/runs/{system.ledger()[0]["run_id"]}"' in page
    assert f'href="{system.url("mlflow")}/#/models/{NAME}/versions/1?workflowType=machine_learning"' in page
    assert first == {
        "jobName": f"{NAME}_retrain",
        "repositoryOrigin": {"repositoryLocationName": "vroom"},
    }


def test_sensors_that_somebody_stopped_are_known_to_be_stopped(system):
    query = """{
        sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "vroom"}) {
            ... on Sensors { results { name sensorState { id status } } }
        }
    }"""
    # The page is there a moment before it has heard of the definitions.
    wait("definitions", lambda: "results" in system.graphql(query)["sensorsOrError"], 60)
    found = system.graphql(query)["sensorsOrError"]["results"]
    sensors = [one for one in found if one["name"].endswith("_sources")]
    assert sensors
    assert not sensors_are_stopped(system.url("dagster"))
    for one in sensors:
        stop = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
        stopped = system.graphql(stop, id=one["sensorState"]["id"])["stopSensor"]
        assert stopped["__typename"] == "StopSensorMutationResult", stopped
    assert sensors_are_stopped(system.url("dagster"))
    for one in sensors:
        start = (
            "mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename } }"
        )
        selector = {
            "repositoryLocationName": "vroom",
            "repositoryName": "__repository__",
            "sensorName": one["name"],
        }
        assert system.graphql(start, selector=selector)["startSensor"]["__typename"] == "Sensor"
    assert not sensors_are_stopped(system.url("dagster"))


def test_a_page_whose_port_is_taken_opens_on_the_next_and_the_printed_addresses_are_true(system):
    assert "Port 5000 is taken" in system.log
    assert system.ports["mlflow"] > 5000
    for name, path in (("dagster", "/server_info"), ("api", "/schema"), ("mlflow", "/health")):
        assert system.url(name) in system.log
        assert httpx.get(system.url(name) + path, timeout=10).status_code == 200


def test_what_the_system_keeps_is_its_owners_alone(system):
    home = system.folder / "home"
    found = [
        path for path in (home, *home.rglob("*")) if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]
    assert found == []


def test_a_second_start_in_the_same_home_is_refused_and_the_first_goes_on(system):
    workspace = system.folder / "home" / "dagster" / "workspace.yaml"
    before = workspace.read_text()
    for arguments in ([], ["materialize"]):
        done = subprocess.run(
            [sys.executable, "-m", "vroom_assets", *arguments],
            cwd=system.project,
            env=system.environment | {"VROOM_API_PORT": "", "VROOM_DAGSTER_PORT": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert f"in use by process {system.process.pid}" in done.stderr
        assert system.url("dagster") in done.stderr
    assert workspace.read_text() == before
    assert "FAILURE" not in {run["status"] for run in system.runs()}


def test_the_service_knows_that_the_sensor_looks_after_the_champion(system):
    def attended() -> bool:
        return httpx.get(system.url("api") + "/health").json()["attended_at"] is not None

    wait("a tick", attended, 60)


def test_a_changed_declaration_is_trained_when_it_was_reloaded(system):
    """From here on without the two candidates that take nearly all the time, so that the rest is quick."""
    settled = lambda: [e for e in system.ledger("retrain") if e["decision"] == "current"]  # noqa: E731
    wait("the sensor knows what is trained", settled, 60)
    declared = yaml.safe_load(system.declaration.read_text())
    candidates = declared["attributes"]["candidates"]
    declared["attributes"]["candidates"] = {
        name: candidate for name, candidate in candidates.items() if name not in ("deep_forest", "ebm")
    }
    declared["attributes"]["validation"] = {"repeats": 1, "inner_folds": 2}
    system.declaration.write_text(yaml.safe_dump(declared, sort_keys=False))
    reloaded = system.graphql(
        'mutation { reloadRepositoryLocation(repositoryLocationName: "vroom") { __typename } }'
    )
    assert reloaded["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry"
    wait("it is contested", lambda: len(system.ledger("contest")) == 2, 120)
    (entry,) = [e for e in system.ledger("retrain") if e["decision"] == "requested"]
    assert "declaration" in entry["reason"]


def test_other_csvs_are_one_retraining_and_no_failed_request(system):
    requested = lambda: [e for e in system.ledger("retrain") if e["decision"] == "requested"]  # noqa: E731
    asked_for, trained, before = len(requested()), len(system.mlflow_runs()), system.served()
    answers: list[tuple[int, int]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=system.url("api"), timeout=10) as client:
            while not stop.is_set():
                answer = client.post("/predict", json=VEHICLE)
                answers.append((answer.status_code, answer.json().get("model_version", 0)))
                time.sleep(0.01)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    GENERATE(system.folder / "data" / NAME, seed=4, demand=1.1)
    seconds = wait("the new champion serves", lambda: system.served() != before, 120)
    for _ in range(2):  # it would have asked again
        last = system.last_tick()
        wait("the sensor looks again", lambda last=last: system.last_tick() > last, 60)
    stop.set()
    for thread in asking:
        thread.join()
    print(f"\ncopied to served: {seconds:.0f} s, {len(answers)} requests meanwhile")
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {before, system.served()}
    assert len(requested()) == asked_for + 1
    assert len(system.mlflow_runs()) == trained + 1


def test_what_is_asked_for_over_http_is_done_once_and_heard_of(system):
    api = system.url("api")
    heard: list[dict] = []
    trainings = len(system.mlflow_runs())

    def listen() -> None:
        address = f"{api}/events?topic=pipelines&topic=model&wait=150"
        with contextlib.suppress(httpx.HTTPError), httpx.stream("GET", address, timeout=60) as answer:
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    heard.append({"name": name} | json.loads(line.removeprefix("data: ")))

    def done(path: str, **body: object) -> dict:
        asked = httpx.post(f"{api}{path}", json=body or None, timeout=30)
        assert asked.status_code == 202, asked.text
        again = httpx.post(f"{api}{path}", json=body or None, timeout=30)
        assert again.status_code == (409 if body else 200), again.text
        follow = lambda: httpx.get(api + asked.headers["location"], timeout=30).json()  # noqa: E731
        wait(f"{path} comes to its end", lambda: follow()["finished_at"], 150)
        command = follow()
        assert command["state"] == "succeeded", command
        assert command["run_url"] == f"{system.url('dagster')}/runs/{command['run_id']}"
        return command

    threading.Thread(target=listen, daemon=True).start()
    wait("somebody listens", lambda: heard, 30)
    trained = done("/train")
    assert len(system.mlflow_runs()) == trainings + 1
    ends = lambda: [one for one in heard if one.get("run_id") == trained["run_id"]]  # noqa: E731
    wait("the end of the run is heard of", ends, 10)
    (ended,) = ends()
    assert (ended["name"], ended["state"], ended["job"]) == (
        "pipeline-completed",
        "succeeded",
        f"{NAME}_retrain",
    )
    assert ended["link"] == trained["run_url"]
    before = system.served()
    back = done("/rollback", reason="only to see how it is done")
    wait("the version before serves", lambda: system.served() < before, 30)
    assert "serves again instead of" in back["message"]
    done("/rollback", version=before, reason="and back again")
    wait("the latest version serves again", lambda: system.served() == before, 30)
    moves = lambda: [one["version"] for one in heard if one["name"] == "model-promoted"]  # noqa: E731
    wait("both moves of the pointer are heard of", lambda: len(moves()) >= 2, 10)
    assert moves()[-1] == before
    assert [one["actor"] for one in system.ledger("rollback")] == ["anonymous", "anonymous"]


def test_a_bad_file_fails_the_run_says_why_and_the_champion_serves_on(system):
    path = system.folder / "data" / NAME / "vehicles.csv"
    good = path.read_bytes()
    before = system.served()
    path.write_bytes(good.replace(b"num_images", b"photos", 1))
    wait("the failure is in the ledger", lambda: system.ledger("run"), 90)
    entry = system.ledger("run")[-1]
    assert f"version {before} keeps serving" in entry["reason"]
    assert system.served() == before

    def alerts() -> list[dict]:
        return httpx.get(system.url("api") + "/alerts", params={"kind": "run_failed"}).json()["alerts"]

    wait("the alert is open", alerts, 30)
    (alert,) = alerts()
    assert (alert["subject"], alert["severity"]) == (f"{NAME}_retrain", "warning")
    assert system.url("dagster") in alert["message"]
    path.write_bytes(good)
    wait(
        "nothing is under way",
        lambda: all(r["status"] not in ("STARTED", "QUEUED") for r in system.runs()),
        90,
    )
    wait("the alert is over, because nothing is left to do", lambda: not alerts(), 180)


def test_materialize_all_and_single_assets_by_hand_leave_the_same_traces(system):
    trainings = len(system.mlflow_runs())
    contests = len(system.ledger("contest"))
    names = ["vehicles", "reservations", "features", "cv_metrics", "challenger", "contest", "champion"]
    everything = system.launch(names)
    assert system.finish(everything) == "SUCCESS"
    assert (everything, "FINISHED") in system.mlflow_runs()
    assert len(system.mlflow_runs()) == trainings + 1
    assert system.finish(system.launch(["features"])) == "SUCCESS"
    assert system.finish(system.launch(["contest", "champion"])) == "SUCCESS"
    assert len(system.ledger("contest")) == contests + 2
    assert len(system.mlflow_runs()) == trainings + 1


def test_a_killed_run_is_noticed_reported_and_tried_again(system):
    serving = system.served()
    code = next(
        child
        for child in psutil.Process(system.process.pid).children(recursive=True)
        if {"vroom_assets.code_server", "code-server"} <= set(child.cmdline())
    )
    before = {child.pid for child in code.children(recursive=True)}
    run_id = system.launch([], job=f"{NAME}_retrain")
    wait("the training is in MLflow", lambda: (run_id, "RUNNING") in system.mlflow_runs(), 90)
    for child in code.children(recursive=True):
        if child.pid not in before:
            child.kill()
    assert system.finish(run_id, 90) == "FAILURE"
    wait("MLflow agrees", lambda: (run_id, "FAILED") in system.mlflow_runs(), 60)
    wait("the ledger has it", lambda: [one for one in system.ledger("run") if one["run_id"] == run_id], 30)
    assert f"version {serving} keeps serving" in system.ledger("run")[-1]["reason"]
    again = lambda: [  # noqa: E731
        run["runId"]
        for run in system.runs()
        if {"key": "dagster/parent_run_id", "value": run_id} in run["tags"]
    ]
    wait("Dagster tries again", again, 60)
    assert system.finish(again()[0]) == "SUCCESS"
    assert (again()[0], "FINISHED") in system.mlflow_runs()


def test_a_code_server_that_is_killed_is_started_again(system):
    """Its child, that is, whose end its parent does not notice."""

    def child() -> psutil.Process | None:
        found = psutil.Process(system.process.pid).children(recursive=True)
        return next((one for one in found if {"api", "grpc"} <= set(one.cmdline())), None)

    def attended() -> str:
        return httpx.get(system.url("api") + "/health").json()["attended_at"]

    wait("a tick", lambda: child() and attended(), 60)
    before = child()
    before.kill()
    wait("it is started again", lambda: system.ledger("automation"), 240)
    last = attended()
    wait("sensors tick again", lambda: attended() > last, 60)
    assert child().pid != before.pid
    assert system.ledger("automation")[-1]["decision"] == "restarted"
    assert "no sensor ticked for a minute: the code server was loaded again" in system.log


def test_a_second_start_is_ready_within_a_minute_and_changes_nothing(system):
    before = system.served()
    trainings = len(system.mlflow_runs())
    system.stop(signal.SIGINT)
    assert not listening(system.ports["api"])
    seconds = system.start()
    print(f"\nsecond start: {seconds:.0f} s")
    assert seconds < 60
    assert system.served() == before
    assert len(system.mlflow_runs()) == trainings


def test_stopping_ends_every_process(system):
    ports = dict(system.ports)
    system.stop(signal.SIGTERM)
    assert not any(listening(port) for port in ports.values())
    left = subprocess.run(["ps", "axww", "-o", "command"], capture_output=True, text=True, check=True).stdout
    assert str(system.folder) not in left


def test_a_taken_port_is_named_with_its_setting(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = os.environ | {"VROOM_HOME": str(tmp_path), "VROOM_DAGSTER_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "vroom_assets"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr
    assert "VROOM_DAGSTER_PORT" in done.stderr
