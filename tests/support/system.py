"""The whole system as `make run` starts it: its processes, a home and data of its own."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.service import free_port

NAME = "reservations"
VEHICLE = {
    "technology": 1,
    "actual_price": 67.85,
    "recommended_price": 59,
    "num_images": 5,
    "street_parked": 0,
    "description": 7,
}


def wait(what: str, until: Callable[[], object], seconds: float) -> float:
    """Wait until something holds and return how long it took."""
    began = time.monotonic()
    while not until():
        if time.monotonic() - began > seconds:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - began


@dataclass
class System:
    """A copy of the project with a home and data of its own, and the processes of a start in it."""

    folder: Path
    forecast: str = NAME
    process: subprocess.Popen | None = None
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def declaration(self) -> Path:
        return self.project / "vroom_assets" / "defs" / NAME / "defs.yaml"

    @property
    def environment(self) -> dict[str, str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("VROOM_", "MLFLOW_"))
        }
        own = {
            "PYTHONPATH": str(self.project),
            "VROOM_HOME": str(self.folder / "home"),
            "VROOM_DATA": str(self.folder / "data"),
            "VROOM_FORECAST": self.forecast,
            **{f"VROOM_{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
        }
        return clean | own

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> float:
        """Start, wait for the announcement, and return the seconds it took."""
        self.ports = {name: free_port() for name in ("dagster", "api")}  # MLflow takes its own
        with open(self.folder / "log", "w") as log:
            process = self.process = subprocess.Popen(
                [sys.executable, "-m", "vroom_assets"],
                cwd=self.project,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        seconds = wait("ready", lambda: "Vroom is ready" in self.log or process.poll() is not None, 240)
        if printed := re.search(r"MLflow +http://127\.0\.0\.1:(\d+)", self.log):
            self.ports["mlflow"] = int(printed[1])
        return seconds

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def graphql(self, query: str, **variables: object) -> dict:
        answer = httpx.post(
            self.url("dagster") + "/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def ledger(self, event: str | None = None) -> list[dict]:
        """Oldest first."""
        with sqlite3.connect(self.folder / "home" / "serving.db") as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("select * from ledger order by id").fetchall()
        return [dict(row) for row in rows if event in (None, row["event"])]

    def served(self) -> int:
        return httpx.post(self.url("api") + "/predict", json=VEHICLE, timeout=10).json()["model_version"]

    def runs(self) -> list[dict]:
        query = """{ runsOrError { ... on Runs {
            results { runId jobName status startTime endTime tags { key value } } } } }"""
        return self.graphql(query)["runsOrError"]["results"]

    def last_tick(self, sensor: str = f"{NAME}_sources") -> float:
        """When a sensor began to look last, in seconds of the epoch."""
        query = """
            query ($selector: SensorSelector!) {
              sensorOrError(sensorSelector: $selector) {
                ... on Sensor { sensorState { ticks(limit: 1) { timestamp } } }
              } }"""
        selector = {
            "repositoryLocationName": "vroom",
            "repositoryName": "__repository__",
            "sensorName": sensor,
        }
        ticks = self.graphql(query, selector=selector)["sensorOrError"]["sensorState"]["ticks"]
        return ticks[0]["timestamp"] if ticks else 0.0

    def launch(self, assets: list[str], job: str = "__ASSET_JOB") -> str:
        """What the page's "Materialize" button sends; the id of the run."""
        mutation = """
            mutation ($params: ExecutionParams!) {
              launchPipelineExecution(executionParams: $params) {
                __typename
                ... on LaunchRunSuccess { run { runId } }
                ... on PythonError { message }
                ... on InvalidSubsetError { message }
              }
            }"""
        selector = {
            "repositoryLocationName": "vroom",
            "repositoryName": "__repository__",
            "pipelineName": job,
            "assetSelection": [{"path": [NAME, asset]} for asset in assets] or None,
        }
        answer = self.graphql(mutation, params={"selector": selector, "runConfigData": {}, "mode": "default"})
        launched = answer["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def finish(self, run_id: str, seconds: float = 150) -> str:
        ends = ("SUCCESS", "FAILURE", "CANCELED")
        status = {}

        def ended() -> bool:
            status.update({run["runId"]: run["status"] for run in self.runs()})
            return status[run_id] in ends

        wait(f"run {run_id}", ended, seconds)
        return status[run_id]

    def mlflow_runs(self) -> list[tuple[str, str]]:
        """(Dagster run, status) of every training."""
        with sqlite3.connect(self.folder / "home" / "mlflow" / "mlflow.db") as connection:
            return connection.execute(
                """select tags.value, runs.status from runs join tags using (run_uuid) where tags.key = 'dagster_run_id'
                and run_uuid not in (select run_uuid from tags where key = 'mlflow.parentRunId')"""
            ).fetchall()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
