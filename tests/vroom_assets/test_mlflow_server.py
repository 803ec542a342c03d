"""MLflow's server as the supervisor starts it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.project import ROOT
from tests.support.service import wait_until_answered
from vroom_assets.supervisor import free_port


@pytest.mark.slow
def test_it_is_one_process_that_serves_and_keeps_what_clients_send(home: Path):
    (home / "mlflow").mkdir()
    port = free_port()
    settings = {"VROOM_MLFLOW_PORT": str(port), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vroom_assets.mlflow_server"], cwd=ROOT, env=os.environ | settings
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            wait_until_answered(client, "/health", process)
            assert psutil.Process(process.pid).children(recursive=True) == []
            made = client.post("/api/2.0/mlflow/experiments/create", json={"name": "one"}).json()
            found = client.get("/api/2.0/mlflow/experiments/get", params=made).json()["experiment"]
            assert found["artifact_location"].startswith("mlflow-artifacts:/")
            sent = f"/api/2.0/mlflow-artifacts/artifacts/{made['experiment_id']}/file"
            client.put(sent, content=b"kept").raise_for_status()
            assert [path.read_bytes() for path in (home / "mlflow" / "artifacts").rglob("file")] == [b"kept"]
            # What `mlflow server` prepares: by it a server knows itself and runs no scorer's code.
            environment = psutil.Process(process.pid).environ()
            assert environment["_MLFLOW_SERVER_BOOT_ID"]
            # Its assistant would run commands for whoever reaches the port.
            for method, path in (
                ("GET", "config"),
                ("PUT", "config"),
                ("POST", "message"),
                ("POST", "skills/install"),
            ):
                answer = client.request(method, f"/ajax-api/3.0/mlflow/assistant/{path}", json={})
                assert answer.status_code == 404, path
            foreign = client.post(
                "/api/2.0/mlflow/experiments/create",
                json={"name": "two"},
                headers={"origin": "http://elsewhere.example"},
            )
            assert foreign.status_code == 403
            for host in ("elsewhere.example", "10.elsewhere.example", f"192.168.elsewhere.example:{port}"):
                assert client.get("/", headers={"host": host}).status_code == 403
    finally:
        process.terminate()
        process.wait(20)
