"""What a run is forked from."""

import json
import os
import subprocess
import sys

from tests.support.project import ROOT
from vroom_assets import code_server
from vroom_assets.supervisor import prepare_home, services

# Executed in a process of its own: what is warm stays with the process that warmed it.
FORK = """
import json, os, sys, time
from vroom_assets.code_server import forking

def seen(queue):
    queue.put((os.getppid(), [name for name in ("mlflow", "sklearn", "duckdb", "onnxruntime") if name in sys.modules]))

if __name__ == "__main__":
    context, found = forking(), []
    for _ in range(2):
        queue = context.Queue()
        process = context.Process(target=seen, args=(queue,))
        process.start()
        found.append(queue.get(timeout=120))
        process.join(60)
    print(json.dumps([os.getpid(), process.exitcode, *found]))
"""


def test_a_run_is_forked_from_a_process_that_has_imported_what_it_needs(tmp_path):
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    own, exit_code, (first, imported), (second, _) = json.loads(done.stdout)
    assert exit_code == 0
    assert imported == ["mlflow", "sklearn", "duckdb"]  # not what opens a file
    assert first == second != own


def test_all_that_is_imported_beforehand_is_there():
    names = "; ".join(f"import {name}" for name in code_server.IMPORTED)
    script = f"{names}; import sys; print('vroom_assets.definitions' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"  # no declaration is read before a run asks for it


def test_runs_start_cold_where_somebody_would_rather_have_the_memory(home, monkeypatch):
    prepare_home()
    commands = {}
    for setting in ("on", "off"):
        monkeypatch.setenv("VROOM_WARM_RUNS", setting)
        commands[setting] = next(one.command for one in services() if one.name == "code")[2]
    assert commands == {"on": "vroom_assets.code_server", "off": "dagster"}
